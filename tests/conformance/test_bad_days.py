"""Whole calls with either provider where the service refuses or babbles: a clear error, or the call just goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge.core.errors import ModelFailed
from bridge.facade import RoomBridge
from bridge.transports.loopback import LoopbackRoom
from providers.catalog import PROVIDERS
from providers.contract import SpeechModel
from providers.emulators.gemini import GeminiVendor
from providers.emulators.openai import OpenAIVendor
from providers.emulators.server import EmulatorServer
from providers.emulators.wire import Vendor
from providers.scripted.scenario import Empty, Malformed, Marker, Pace, Scenario, Unknown
from providers.settings import ConnectionSettings, SpeechSettings
from providers.signal.formats import PCM16_24K

KEYS = {"GEMINI_API_KEY": "a-wrong-key", "OPENAI_API_KEY": "a-wrong-key"}
BOTH = pytest.mark.parametrize("provider", ["gemini", "openai"])


def model_for(provider: str, emulator: EmulatorServer, **own: Any) -> SpeechModel:
    entry = PROVIDERS[provider]
    base_url = emulator.base_url if provider == "gemini" else f"{emulator.base_url}/v1"
    settings = entry.settings_type()(base_url=base_url, **own)
    return entry.connector(SpeechSettings(), settings, ConnectionSettings(), KEYS)


async def failure(vendor: Vendor, provider: str, **own: Any) -> str:
    """What a call says that cannot begin."""
    async with EmulatorServer(vendor) as emulator:
        async with RoomBridge(LoopbackRoom(), model_for(provider, emulator, **own)) as bridge:
            with pytest.raises(ModelFailed) as failed:
                await asyncio.wait_for(bridge.run(), 5)
    assert len(emulator.connections) <= 1, "nobody tries a refused setting again"
    return str(failed.value)


@BOTH
async def test_a_refused_key_ends_the_call_and_names_its_variable(provider: str) -> None:
    vendor = GeminiVendor(keys={"another"}) if provider == "gemini" else OpenAIVendor(keys={"another"})
    said = await failure(vendor, provider)
    assert f"{provider.upper()}_API_KEY" in said
    assert "a-wrong-key" not in said


@BOTH
async def test_an_unknown_model_ends_the_call_and_names_the_setting(provider: str) -> None:
    said = await failure(PROVIDERS[provider].emulated(), provider, model=f"{provider}-from-nowhere")
    assert f"{provider}-from-nowhere" in said
    assert "model" in said.replace(f"{provider}-from-nowhere", "")


@BOTH
async def test_malformed_frames_in_mid_call_cost_nothing_but_a_warning(provider: str) -> None:
    length_ms = 600
    scenario = Scenario(
        answer=Marker(duration_ms=length_ms, seed=9),
        prompted=Marker(duration_ms=length_ms, seed=9),
        pace=Pace(speed=4, latency_ms=0),
        faults=(
            Malformed(at_s=0.05),
            Malformed(reply=1, speech_ms=100),
            Malformed(reply=1, speech_ms=200, text="[]"),
            Empty(reply=1, speech_ms=300),
            Empty(reply=1, speech_ms=350, text=""),
            Unknown(reply=1, speech_ms=400),
            Malformed(reply=1, speech_ms=500, text="\u0000 not even text"),
        ),
    )
    room = LoopbackRoom()
    async with EmulatorServer(PROVIDERS[provider].emulated(), scenario) as emulator:
        async with RoomBridge(room, model_for(provider, emulator)) as bridge, asyncio.timeout(12):
            while bridge.leader is None:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
            room.join("ada")
            for number in (1, 2):
                room.type("ada", "Hello")
                while PCM16_24K.duration_ms(len(room.heard())) < number * length_ms:  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.02)
            counters = bridge.snapshot().counters
        assert emulator.stats.faults == 7
        assert len(emulator.connections) == 1, "the session went on"
    heard = PCM16_24K.duration_ms(len(room.heard()))
    assert heard == pytest.approx(2 * length_ms, abs=30)
    assert counters["playout.underruns"] == 0
