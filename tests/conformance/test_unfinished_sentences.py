"""A sentence is being said when its session must end: with enough notice it is heard to its end, and only then the
change is made; with less, the successor goes on from what was heard.

The services take 500 ms to accept a connection and 300 ms more for the setup; the emulated Gemini refuses to resume
beside the earlier connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from bridge.core.commands import Respond
from bridge.facade import CallConfig
from bridge.lanes.settings import CallSettings
from bridge.sessions.rollover import RolloverSettings
from providers.scripted.scenario import Marker, Pace, Scenario, Session
from providers.scripted.voice import marker
from providers.signal.formats import PCM16_24K
from tests.conformance.longcall import LongCall, long_call

SENTENCE_MS, SEED, DBFS = 9000, 5, -12.0
LEFT_S = 7.0
WORD_MS = 390
"""Six letters at the pace of a voice that is not known yet."""
WORDS = " ".join(f"w{number:04}" for number in range(SENTENCE_MS // WORD_MS))
GOES_ON_MS = 600
CASES = [(provider, speed) for provider in ("gemini", "openai") for speed in (8.0, 1.1)]
"""All of the sentence is there soon; or it is being made while it is heard."""
pytestmark = pytest.mark.timeout(40)


def scenario(number: int, speed: float, notice_s: float) -> Scenario:
    """The first connection says the sentence and is announced to end when `LEFT_S` of it are left."""
    answer = Marker(duration_ms=SENTENCE_MS, seed=SEED, level_dbfs=DBFS, transcript=WORDS)
    then = Marker(duration_ms=GOES_ON_MS, seed=77, level_dbfs=DBFS, transcript="and so on")
    own = answer if number == 1 else then
    return Scenario(
        answer=own,
        prompted=own,
        pace=Pace(speed=speed, latency_ms=50),
        session=Session(
            connect_delay_ms=500,
            setup_delay_ms=300,
            go_away_s=SENTENCE_MS / 1000 - LEFT_S + 0.1 if number == 1 else None,
            time_left_s=notice_s,
            limit_s=600,
        ),
    )


def config(provider: str, notice_s: float) -> CallConfig:
    """OpenAI announces nothing: there the change comes from the session's known cap."""
    if provider == "gemini":
        return CallConfig()
    after_s = SENTENCE_MS / 1000 - LEFT_S + 0.1
    rollover = RolloverSettings(max_session_s=after_s + notice_s, before_cap_s=notice_s)
    return CallConfig(call=CallSettings(rollover=rollover))


def whole_sentence() -> bytes:
    return marker(SENTENCE_MS, SEED + 1, DBFS).tobytes()  # of its first reply


def heard_of_it(call: LongCall) -> float:
    """How much of the sentence's beginning the ear has heard, exact to the sample but for the fade at its end, ms."""
    heard = np.frombuffer(call.room.heard(), np.int16)
    wanted = np.frombuffer(whole_sentence(), np.int16)[: len(heard)]
    different = np.nonzero(heard[: len(wanted)] != wanted)[0]
    return PCM16_24K.duration_ms(2 * (int(different[0]) if len(different) else len(wanted)))


async def all_at_once(check: Callable[[str, float], Awaitable[None]]) -> None:
    """They take ten seconds each, and next to no work."""

    async def one(provider: str, speed: float) -> None:
        try:
            await check(provider, speed)
        except* AssertionError as failed:
            failed.add_note(f"{provider}, speech at {speed:g} times its own pace")
            raise

    await asyncio.gather(*(one(*case) for case in CASES))


async def test_a_sentence_with_seven_seconds_left_is_heard_to_its_end_with_ten_seconds_of_notice() -> None:
    await all_at_once(is_heard_to_its_end)


async def test_with_less_notice_than_a_sentence_needs_the_successor_goes_on_from_what_was_heard() -> None:
    await all_at_once(is_gone_on_with)


async def is_heard_to_its_end(provider: str, speed: float) -> None:
    async with long_call(
        provider, lambda number: scenario(number, speed, 10.0), lambda _: False, config(provider, 10.0)
    ) as call:
        call.bridge.say("Tell something long.")
        await call.until(lambda: call.counters()["sessions.changes"], 12)
        changed_at = asyncio.get_running_loop().time()
        assert changed_at - call.room.silent_since() >= 0.19, "not before all was quiet"
        counters, lines = call.counters(), call.bridge.ledger.lines
        heard = call.room.heard()
    assert heard == whole_sentence(), "to the sample, and nothing else"
    assert (
        counters["sessions.changes_forced"] == counters["sessions.sessions_lost"] == counters["playout.underruns"] == 0
    )
    assert [(line.text, line.interrupted, line.lost) for line in lines] == [(WORDS, False, False)]


async def is_gone_on_with(provider: str, speed: float) -> None:
    broken = speed < 2
    async with long_call(
        provider, lambda number: scenario(number, speed, 4.0), lambda _: False, config(provider, 4.0)
    ) as call:
        asked: list[str | None] = []
        call.bridge.listen(lambda command: asked.append(command.instructions) if isinstance(command, Respond) else None)
        call.bridge.say("Tell something long.")
        await call.until(lambda: call.bridge.leader == 2, 8)
        forced = call.counters()["sessions.changes_forced"]
        await call.until(lambda: call.bridge.ledger.lines and call.bridge.ledger.lines[-1].ended_at, 10)
        await call.until(lambda: len(call.bridge.ledger.lines) == 1 + broken, 5)
        await call.until(lambda: call.bridge.state == "listening", 3)
        heard_ms, lines = heard_of_it(call), call.bridge.ledger.lines
        went_on = call.times_heard(GOES_ON_MS, 77 + 1, DBFS)
    assert forced == 1
    if not broken:  # all of it was in our hands: it sounds on across the change
        assert heard_ms == SENTENCE_MS and went_on == 0
        assert [(line.text, line.lost) for line in lines] == [(WORDS, False)]
        return
    assert 4000 < heard_ms < SENTENCE_MS - 1000
    assert went_on == 1
    first = lines[0]
    assert first.lost and first.heard_ms == pytest.approx(heard_ms, abs=60)
    words = first.text.split()
    assert words == WORDS.split()[: len(words)]
    assert len(words) * WORD_MS == pytest.approx(heard_ms, abs=1.5 * WORD_MS)
    assert lines[1].text.strip() == "and so on" and not lines[1].lost
    assert len(asked) == 2 and f'"{first.text}" Go on from there' in (asked[1] or ""), asked
