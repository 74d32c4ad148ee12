"""Whole calls for tests: an emulated provider, the bridge in a real room, and what went in and out at each seam."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

from bridge.core.words import ParticipantId, RoomEvent
from bridge.demo.server import LocalServer
from bridge.facade import CallConfig, RoomBridge
from bridge.transports.contract import TransportListener
from bridge.transports.livekit_room import LiveKitRoom, LiveKitSettings
from providers.catalog import PROVIDERS
from providers.contract import SpeechModel
from providers.emulators.heard import HeardInput, HeardPiece
from providers.emulators.server import EmulatorServer
from providers.scripted.scenario import Scenario
from providers.settings import ConnectionSettings, SpeechSettings
from tests.e2e.audio import Samples, from_pcm

__all__ = ["EmulatedCall", "TappedRoom", "emulated_call", "model_for", "until"]

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


class TappedRoom(LiveKitRoom):
    """Keeps what it gives to the bridge and what the bridge gives to it.

    Between the two lies the bridge and nothing of the SDK, whose jitter buffers stretch speech by 10 ms here and there.
    """

    def __init__(self, settings: LiveKitSettings, *, api_key: str, api_secret: str) -> None:
        super().__init__(settings, api_key=api_key, api_secret=api_secret)
        self.raw: dict[ParticipantId, bytearray] = {}
        """Frames as they came, by speaker."""
        self.raw_times: dict[ParticipantId, list[float]] = {}
        self.played = bytearray()
        """Speech as it was handed on, flushed or not."""

    async def open(self, listener: TransportListener) -> None:
        await super().open(_Tap(listener, self.raw, self.raw_times))

    def play(self, audio: bytes) -> None:
        self.played += audio
        super().play(audio)


class _Tap:
    def __init__(
        self,
        listener: TransportListener,
        raw: dict[ParticipantId, bytearray],
        times: dict[ParticipantId, list[float]],
    ) -> None:
        self._listener = listener
        self._raw = raw
        self._times = times

    def on_audio(self, participant: ParticipantId, pcm: bytes, now: float) -> None:
        self._raw.setdefault(participant, bytearray()).extend(pcm)
        self._times.setdefault(participant, []).append(now)
        self._listener.on_audio(participant, pcm, now)

    def on_event(self, event: RoomEvent) -> None:
        self._listener.on_event(event)


class EmulatedCall:
    """One call under test."""

    def __init__(self, bridge: RoomBridge, room: TappedRoom, emulator: EmulatorServer) -> None:
        self.bridge = bridge
        self.room = room
        self.emulator = emulator

    def model_heard(self, connection: int = -1) -> tuple[Samples, int]:
        """Everything that reached the provider, and its rate."""
        recording = self.emulator.connections[connection].brain.hearing.recording
        return from_pcm(recording.heard), recording.rate_hz

    def raw(self, who: str) -> tuple[Samples, int]:
        """What the SDK gave us of this speaker, and its rate."""
        return from_pcm(bytes(self.room.raw[ParticipantId(who)])), self.room.settings.input_rate_hz

    def raw_input(self, who: str) -> HeardInput:
        """The same, frame by frame with the time at which each came: what a service could have heard at best."""
        participant = ParticipantId(who)
        raw, times = bytes(self.room.raw[participant]), self.room.raw_times[participant]
        size = len(raw) // max(1, len(times))
        pieces = [HeardPiece(0, at, raw[place * size : (place + 1) * size]) for place, at in enumerate(times)]
        return HeardInput(self.room.settings.input_rate_hz, pieces)

    def longest_wait_ms(self, who: str) -> float:
        """For a frame of this speaker, after the first. Beyond `mixer.hold_ms` the model is given silence instead."""
        times = self.room.raw_times[ParticipantId(who)]
        return max((after - before for before, after in pairwise(times)), default=0.0) * 1000

    def played(self) -> tuple[Samples, int]:
        """What we gave to the SDK, and its rate."""
        return from_pcm(bytes(self.room.played)), self.room.settings.output_rate_hz

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
    identities: tuple[str, ...] = (),
    prepare: Callable[[RoomBridge], None] = lambda _: None,
    **own: Any,
) -> AsyncIterator[EmulatedCall]:
    """The bridge in the room, its model emulated in this process; ready when entered. It hears `identities`, or all."""
    async with emulator_of(provider, scenario) as emulator:
        settings = LiveKitSettings(url=server.url, room=room_name, identities=identities)
        room = TappedRoom(settings, api_key=server.api_key, api_secret=server.api_secret)
        bridge = RoomBridge(room, model_for(provider, emulator, speech, **own), config, name=room_name)
        prepare(bridge)
        async with bridge:
            await until(lambda: bridge.leader is not None)
            yield EmulatedCall(bridge, room, emulator)
