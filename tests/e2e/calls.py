"""Whole calls for tests: an emulated provider, the bridge in a real room, and what each end heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bridge.demo.server import LocalServer
from bridge.facade import CallConfig, RoomBridge
from bridge.transports.livekit_room import LiveKitRoom, LiveKitSettings
from providers.catalog import PROVIDERS
from providers.contract import SpeechModel
from providers.emulators.server import EmulatorServer
from providers.scripted.scenario import Scenario
from providers.settings import ConnectionSettings, SpeechSettings
from tests.e2e.audio import Samples, from_pcm

__all__ = ["EmulatedCall", "emulated_call", "model_for", "until"]

_KEYS = {"GEMINI_API_KEY": "a-key", "OPENAI_API_KEY": "a-key"}


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait for something that gives no notice."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.02)


def emulator_of(provider: str, scenario: Scenario | None = None) -> EmulatorServer:
    """The provider's emulator, not yet started."""
    return EmulatorServer(PROVIDERS[provider].emulated(), scenario)


def model_for(provider: str, emulator: EmulatorServer, speech: SpeechSettings | None = None, **own: Any) -> SpeechModel:
    """The provider's model, pointed at its emulator by configuration alone."""
    entry = PROVIDERS[provider]
    base_url = emulator.base_url if provider == "gemini" else f"{emulator.base_url}/v1"
    settings = entry.settings_type()(base_url=base_url, **own)
    return entry.connector(speech or SpeechSettings(), settings, ConnectionSettings(), _KEYS)


class EmulatedCall:
    """One call under test."""

    def __init__(self, bridge: RoomBridge, room: LiveKitRoom, emulator: EmulatorServer) -> None:
        self.bridge = bridge
        self.room = room
        self.emulator = emulator

    def model_heard(self, connection: int = -1) -> tuple[Samples, int]:
        """Everything that reached the provider, and its rate."""
        recording = self.emulator.connections[connection].brain.hearing.recording
        return from_pcm(recording.heard), recording.rate_hz

    def counters(self) -> dict[str, int | float]:
        return self.bridge.snapshot().counters


@asynccontextmanager
async def emulated_call(
    server: LocalServer,
    room_name: str,
    provider: str,
    scenario: Scenario | None = None,
    *,
    speech: SpeechSettings | None = None,
    config: CallConfig | None = None,
    prepare: Callable[[RoomBridge], None] = lambda _: None,
    **own: Any,
) -> AsyncIterator[EmulatedCall]:
    """The bridge in the room, its model emulated in this process; ready when entered."""
    async with emulator_of(provider, scenario) as emulator:
        settings = LiveKitSettings(url=server.url, room=room_name)
        room = LiveKitRoom(settings, api_key=server.api_key, api_secret=server.api_secret)
        bridge = RoomBridge(room, model_for(provider, emulator, speech, **own), config, name=room_name)
        prepare(bridge)
        async with bridge:
            await until(lambda: bridge.leader is not None)
            yield EmulatedCall(bridge, room, emulator)
