"""Every kind of seeded fault, as the client of either provider knows it; none breaks the emulator."""

from __future__ import annotations

import asyncio

import pytest

from providers.catalog import PROVIDERS
from providers.contract import Closed, GoAway, SessionEvent, SessionStart
from providers.emulators.chaos import FATAL_KINDS, KINDS, LASTING_KINDS, stroke
from providers.emulators.server import EmulatorServer
from providers.errors import ProviderRejected, ProviderUnavailable
from providers.scripted.scenario import load_text
from providers.settings import ConnectionSettings, SpeechSettings
from tests.fakes.leftovers import nothing_left

TONE = load_text("answer = { kind = 'tone', duration_ms = 1000 }\npace = { speed = 5.0, latency_ms = 0 }")
KEYS = {"GEMINI_API_KEY": "any", "OPENAI_API_KEY": "any"}
ENDING = {"kill", "close", "outage", "deaf", "end", "expired", "away"}
ANNOUNCED = {"go_away", "storm"}
HARMLESS = {"pause", "malformed", "empty", "unknown", "duplicate", "stall"}


def test_every_kind_is_looked_at() -> None:
    assert ENDING | ANNOUNCED | HARMLESS == {*KINDS, *LASTING_KINDS}


@pytest.mark.parametrize("provider", ["gemini", "openai"])
@pytest.mark.parametrize("kind", [*KINDS, *FATAL_KINDS, *LASTING_KINDS])
async def test_a_seeded_fault_reaches_the_client_as_what_it_is(kind: str, provider: str) -> None:
    entry = PROVIDERS[provider]
    events: list[SessionEvent] = []
    news = asyncio.Event()

    def take(event: SessionEvent) -> None:
        events.append(event)
        news.set()

    async with nothing_left(), EmulatorServer(entry.emulated(), TONE) as emulator:
        base_url = emulator.base_url if provider == "gemini" else f"{emulator.base_url}/v1"
        settings = entry.settings_type()(base_url=base_url)
        model = entry.connector(SpeechSettings(), settings, ConnectionSettings(close_timeout_s=0.2), KEYS)
        session = await model.connect(SessionStart(number=1))
        session.listen(take)
        session.send_text("Hello")
        await news.wait()
        emulator.befall(stroke(11, kinds=[kind]))
        wanted = GoAway if kind in ANNOUNCED else Closed
        told = kind in ENDING or kind in FATAL_KINDS or (kind in ANNOUNCED and provider == "gemini")
        try:
            async with asyncio.timeout(3 if told else 0.3):
                while not any(isinstance(event, wanted) for event in events):
                    news.clear()
                    await news.wait()
        except TimeoutError:
            assert not told, f"nobody said {wanted.__name__}"
        else:
            assert told, f"{kind} is nothing that ends a session"
        closed = next((event for event in events if isinstance(event, Closed)), None)
        if kind in ENDING:
            assert closed is not None and isinstance(closed.error, ProviderUnavailable)
        if kind == "quota":
            assert closed is not None and isinstance(closed.error, ProviderRejected)
        await session.close()
    assert emulator.failures == [] and emulator.stats.faults >= 1
