"""One long call whose sessions come and go: each frame of the caller has a number, and none may be missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import numpy as np

from bridge.audio.convert import converter
from bridge.audio.mix import MixerSettings
from bridge.facade import CallConfig, RoomBridge
from bridge.transports.loopback import LoopbackRoom
from providers.catalog import PROVIDERS, Provider
from providers.contract import SpeechModel
from providers.emulators.connection import Connection
from providers.emulators.heard import HeardInput, HeardPiece
from providers.emulators.server import EmulatorServer
from providers.emulators.wire import UpgradeRequest, Vendor, VendorWire
from providers.retry import RetryPolicy
from providers.scripted.scenario import Scenario
from providers.scripted.voice import marker
from providers.settings import ConnectionSettings, SpeechSettings
from providers.signal.formats import PCM16_24K, AudioFormat, Encoding

__all__ = [
    "FRAME_MS",
    "SHORT_SESSIONS",
    "Caller",
    "LongCall",
    "PerConnection",
    "Stretch",
    "heard_frames",
    "long_call",
    "model_for",
    "provider_of",
    "surviving",
]

FRAME_MS = 20
SHORT_SESSIONS = RetryPolicy(base_s=0.001, longest_s=0.001, give_up_after_s=3600)
"""For services that announce the end of each session after a second: a call that would wait between them as between
failed attempts is another suite's."""
_SAMPLES = 480
_QUIET, _LOUD = 60, 8000
"""Peaks of a frame: far below what any detector takes for speech, yet no silence to our mixer; and speech."""
_KEYS = {"GEMINI_API_KEY": "a-key", "OPENAI_API_KEY": "a-key"}


def provider_of(name: str) -> tuple[Provider, dict[str, Any]]:
    """The provider behind a name of the suite and what its settings must say: `openai-webrtc` is `openai`, its way of
    travelling apart."""
    vendor, _, transport = name.partition("-")
    return PROVIDERS[vendor], {"transport": transport} if transport else {}


def model_for(
    provider: str, emulator: EmulatorServer, connection: ConnectionSettings | None = None, **own: Any
) -> SpeechModel:
    """The provider's model, pointed at its emulator."""
    entry, way = provider_of(provider)
    base_url = emulator.base_url if entry.name == "gemini" else f"{emulator.base_url}/v1"
    settings = entry.settings_type()(base_url=base_url, **way, **own)
    return entry.connector(SpeechSettings(), settings, connection or ConnectionSettings(), _KEYS)


class PerConnection:
    """A vendor whose every connection follows a scenario of its own."""

    def __init__(self, vendor: Vendor, scenario: Callable[[int], Scenario]) -> None:
        self._vendor = vendor
        self._scenario = scenario

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vendor, name)

    def connect(self, scenario: Scenario, request: UpgradeRequest, number: int) -> VendorWire:
        # How long an upgrade takes was decided by the server's own scenario.
        return self._vendor.connect(self._scenario(number), request, number)


class Caller:
    """Speaks a frame each 20 ms, loud while `speaks(number)`, and remembers when. Late wake-ups are made good."""

    def __init__(
        self,
        room: LoopbackRoom,
        speaks: Callable[[int], bool],
        name: str = "ada",
        sound: Callable[[int], bytes] | None = None,
    ) -> None:
        """Args: sound makes the n-th frame; None: noise that no other frame is like."""
        self._sound = sound or self._noise
        self.frames: list[bytes] = []
        self.spoken_at: list[float] = []
        self._room = room
        self._speaks = speaks
        self._name = name

    def _noise(self, number: int) -> bytes:
        peak = _LOUD if self._speaks(number) else _QUIET
        return np.random.default_rng(number).integers(-peak, peak, _SAMPLES, np.int16, endpoint=True).tobytes()

    async def speak(self) -> None:
        """Until cancelled."""
        clock = asyncio.get_running_loop().time
        self._room.join(self._name)
        begun = clock()
        while True:
            while begun + len(self.frames) * FRAME_MS / 1000 <= clock():
                number = len(self.frames)
                frame = self._sound(number)
                self.frames.append(frame)
                self.spoken_at.append(clock())
                self._room.speak(self._name, frame)
            await asyncio.sleep(begun + len(self.frames) * FRAME_MS / 1000 - clock())


class Stretch(msgspec.Struct):
    """What one connection heard: frames without a gap."""

    connection: int
    numbers: list[int]
    arrivals: list[float]
    anew: bool
    """It begins with a converter that knows nothing of the frame before."""


def heard_frames(
    connections: list[Connection], frames: list[bytes], rate_hz: int, *, gaps: bool = False
) -> list[Stretch]:
    """Every frame that arrived, exact to the sample, connection by connection. Raises AssertionError for sound that
    the caller never made, and for frames that do not follow each other within one connection, unless `gaps` may be."""
    wanted, afresh = _as_sent(frames, rate_hz)
    found: list[Stretch] = []
    for connection in connections:
        stretch: Stretch | None = None
        strange = 0
        for piece in HeardInput.of([connection]).pieces:
            number, anew = _number_of(piece, wanted, afresh)
            if number is None:
                # Silence before his first frame, and after his last one, which a filter smears.
                strange += bool(np.frombuffer(piece.pcm, np.int16).any())
                assert gaps or strange <= 1, f"connection {connection.number} heard what nobody said"
                continue
            if stretch is None:
                stretch = Stretch(connection.number, [], [], anew)
                found.append(stretch)
            else:
                follows = number == stretch.numbers[-1] + 1 or (gaps and number > stretch.numbers[-1])
                assert follows, f"connection {connection.number} heard frame {number} after {stretch.numbers[-1]}"
                assert gaps or not anew, f"connection {connection.number}: the stream breaks at frame {number}"
            stretch.numbers.append(number)
            stretch.arrivals.append(piece.at)
    return sorted(found, key=lambda stretch: stretch.arrivals[0])


def _as_sent(frames: list[bytes], rate_hz: int) -> tuple[dict[bytes, int], Callable[[bytes], int | None]]:
    """What each frame becomes at this rate, in one stream; and how to find one that begins a stream."""
    wire = AudioFormat(Encoding.PCM16, rate_hz)
    whole = converter(PCM16_24K, wire, "fir")
    if whole is None:
        return {frame: number for number, frame in enumerate(frames)}, lambda _: None
    whole(bytes(2 * _SAMPLES))  # he was silent before
    wanted = {whole(frame): number for number, frame in enumerate(frames)}
    beginnings: dict[bytes, int] = {}

    def afresh(pcm: bytes) -> int | None:
        while pcm not in beginnings and len(beginnings) < len(frames):
            first = converter(PCM16_24K, wire, "fir")
            assert first is not None, "these rates differ"
            beginnings[first(frames[len(beginnings)])] = len(beginnings)
        return beginnings.get(pcm)

    return wanted, afresh


def _number_of(
    piece: HeardPiece, wanted: dict[bytes, int], afresh: Callable[[bytes], int | None]
) -> tuple[int | None, bool]:
    number = wanted.get(piece.pcm)
    if number is not None or not np.frombuffer(piece.pcm, np.int16).any():
        return number, False
    number = afresh(piece.pcm)
    return number, number is not None


def surviving(stretches: list[Stretch]) -> list[int]:
    """What the session that leads now, and those whose memory it has, have heard: what another one heard again counts
    once, and there."""
    numbers: list[int] = []
    for stretch in stretches:
        first = stretch.numbers[0]
        while numbers and numbers[-1] >= first:
            numbers.pop()
        numbers += stretch.numbers
    return numbers


class LongCall:
    """One call under test."""

    def __init__(
        self,
        bridge: RoomBridge,
        room: LoopbackRoom,
        emulator: EmulatorServer,
        caller: Caller,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.bridge = bridge
        self.tasks = tasks
        self.room = room
        self.emulator = emulator
        self.caller = caller

    @property
    def connections(self) -> list[Connection]:
        """Those that were set up, oldest first."""
        return [connection for connection in self.emulator.connections if connection.wire.brain is not None]

    def counters(self) -> dict[str, int | float]:
        return self.bridge.snapshot().counters

    async def until(self, condition: Callable[[], object], timeout_s: float) -> None:
        """Wait for something that gives no notice."""
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.02)

    def stretches(self, *, gaps: bool = False) -> list[Stretch]:
        """See `heard_frames`."""
        rate_hz = HeardInput.of(self.connections).rate_hz
        return heard_frames(self.connections, self.caller.frames, rate_hz, gaps=gaps)

    def lateness_ms(self, stretch: Stretch) -> Iterator[float]:
        """From the caller's mouth to the service's ear, for each frame."""
        for number, at in zip(stretch.numbers, stretch.arrivals, strict=True):
            yield (at - self.caller.spoken_at[number]) * 1000

    def times_heard(self, duration_ms: int, seed: int, level_dbfs: float) -> int:
        """How often the room has heard this marker whole, exact to the sample."""
        return self.room.heard().count(marker(duration_ms, seed, level_dbfs).tobytes())


@asynccontextmanager
async def long_call(
    provider: str,
    scenario: Callable[[int], Scenario],
    speaks: Callable[[int], bool],
    config: CallConfig | None = None,
    connection: ConnectionSettings | None = None,
    *,
    sound: Callable[[int], bytes] | None = None,
    **own: Any,
) -> AsyncIterator[LongCall]:
    """The caller speaks from the first session on, and until the end. Args: sound is that of `Caller`."""
    # Late frames of ours are late, not silent: the mixer must fill no gap that a busy machine makes.
    config = msgspec.structs.replace(config or CallConfig(), mixer=MixerSettings(hold_ms=1000))
    room = LoopbackRoom()
    vendor: Any = PerConnection(provider_of(provider)[0].emulated(), scenario)
    async with EmulatorServer(vendor, scenario(1)) as emulator:
        async with (
            RoomBridge(
                room, model_for(provider, emulator, connection, **own), config, name=f"long-{provider}"
            ) as bridge,
            asyncio.TaskGroup() as group,
        ):
            caller = Caller(room, speaks, sound=sound)
            call = LongCall(bridge, room, emulator, caller, group)
            await call.until(lambda: bridge.leader is not None, 15)
            speaking = group.create_task(caller.speak(), name="caller")
            try:
                yield call
            finally:
                speaking.cancel()
