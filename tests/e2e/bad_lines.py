"""Calls over a bad network, one kind after the other: who speaks, who listens, and what lies between them.

Each gives a `Line`: something is said at both ends at once, the weather changes meanwhile, and both ears are judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
import numpy as np

from bench.markers import Capture
from providers.emulators.connection import Connection
from providers.webrtc.peer import Peer, PeerSettings
from tests.e2e.audio import Samples, to_pcm
from tests.e2e.plain_peer import Ear, PlainPeer
from tests.e2e.programme import Report, Weather, judge, said
from tests.fakes.netem import Conditions, Impairment
from tests.fakes.tun_line import TunLine
from tests.fakes.udp_relay import UdpRelay

__all__ = ["Line", "Opened", "OwnPeer", "impaired", "model_ear", "over", "own_to_plain", "plain_to_plain", "says"]

_SETTLE_S = 1.0
_TAIL_S = 1.0
"""What was said last is still on its way."""


class Line(msgspec.Struct, kw_only=True):
    """A call that stands, and its network."""

    say: Callable[[], Awaitable[None]]
    """Both ends begin to say the programme."""
    ears: dict[str, Callable[[], Awaitable[Capture]]]
    """What was heard, by what the table calls that way: first the way up, then the way down."""
    network: UdpRelay | TunLine
    told: Callable[[], str] = str
    """Counters worth seeing when a figure is bad."""


Opened = Callable[[], AbstractAsyncContextManager[Line]]


async def over(opened: Opened, conditions: Conditions) -> dict[str, Report]:
    """Say the programme over this line in this weather. Ways that heard too little to be judged are missing."""
    for rate_hz in (24_000, 48_000):
        said(rate_hz)
    async with opened() as line:

        def change(now: Conditions) -> None:
            line.network.up.conditions = line.network.down.conditions = now

        weather = Weather(change, line.network.cut, conditions)
        await asyncio.sleep(_SETTLE_S)
        await line.say()
        await weather.run()
        await asyncio.sleep(_TAIL_S)
        heard = [
            (name, await ear(), tap) for (name, ear), tap in zip(line.ears.items(), line.network.taps, strict=True)
        ]
        told = line.told()
    return {name: await asyncio.to_thread(judge, name, ear, weather.cut_ends_at, tap, told) for name, ear, tap in heard}


def says(wav: str) -> dict[str, Any]:
    """The scenario of a model that begins to say this WAV as soon as it is there, and lets nobody interrupt it."""
    return {
        "greeting": {"kind": "wav", "file": wav},
        "pace": {"speed": 1.1, "burst_s": 1.0, "latency_ms": 0},
        "barge_in": False,
        "vad": {"enabled": False},
        "session": {"heard_limit_s": 120.0},
    }


def model_ear(connection: Callable[[], Connection]) -> Callable[[], Awaitable[Capture]]:
    """What an emulated model has heard, with the time at which each piece came."""

    async def capture() -> Capture:
        recording = connection().brain.hearing.recording
        assert recording.dropped_ms == 0, "all of it is kept"
        positions = np.array([arrival.position_ms for arrival in recording.arrivals]) * recording.rate_hz / 1000
        times = np.array([arrival.at for arrival in recording.arrivals])
        samples = np.frombuffer(recording.heard, dtype="<i2")
        return Capture(recording.rate_hz, samples, np.rint(positions).astype(np.int64), times)

    return capture


def impaired(seed: int) -> tuple[Impairment, Impairment]:
    """Two ways, each with a luck of its own."""
    return Impairment(seed), Impairment(seed + 1000)


class OwnPeer:
    """Our own connection, with a voice on a steady beat and an ear. Use as an async context manager."""

    def __init__(self, name: str, rate_hz: int = 24_000) -> None:
        self.ear = Ear(rate_hz)
        self.closed = ""
        self._rate_hz = rate_hz
        self._speaking: asyncio.Task[None] | None = None
        settings = PeerSettings(send_rate_hz=rate_hz, receive_rate_hz=rate_hz, disconnected_timeout_s=10.0)
        self.peer = Peer(self, settings, name=name)

    async def __aenter__(self) -> OwnPeer:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._speaking is not None:
            self._speaking.cancel()
            await asyncio.gather(self._speaking, return_exceptions=True)
        await self.peer.close()

    def say(self, samples: Samples) -> None:
        """Mono, at the rate of this peer, in real time from now on."""
        # Its life is this object's: ended in __aexit__.
        self._speaking = asyncio.get_running_loop().create_task(self._say(to_pcm(samples)), name="own-voice")

    async def _say(self, pcm: bytes) -> None:
        loop = asyncio.get_running_loop()
        began, size = loop.time(), self._rate_hz // 50 * 2
        for number in range(len(pcm) // size):
            await asyncio.sleep(began + number / 50 - loop.time())
            self.peer.send_audio(pcm[number * size : (number + 1) * size])

    def peer_connected(self) -> None: ...

    def channel_open(self) -> None: ...

    def audio_received(self, pcm: bytes, now: float) -> None:
        self.ear.hear(pcm, now)

    def message_received(self, message: str | bytes) -> None: ...

    def video_track(self, track: Any) -> None: ...

    def peer_closed(self, reason: str) -> None:
        self.closed = reason


def _kept(ear: Ear) -> Callable[[], Awaitable[Capture]]:
    async def capture() -> Capture:
        return ear.capture()

    return capture


@asynccontextmanager
async def plain_to_plain() -> AsyncIterator[Line]:
    """aiortc at both ends."""
    async with UdpRelay(*impaired(1)) as relay, PlainPeer() as one, PlainPeer() as two:

        async def answers(offer: str) -> str:
            return relay.answer(await two.answer(relay.offer(offer)))

        await one.connect(answers)

        async def say() -> None:
            for end in (one, two):
                end.say(said(48_000))

        ears = {"aiortc to aiortc": _kept(two.ear), "aiortc to aiortc, back": _kept(one.ear)}
        yield Line(say=say, ears=ears, network=relay, told=lambda: f"{relay.up.stats} {relay.down.stats}")


@asynccontextmanager
async def own_to_plain() -> AsyncIterator[Line]:
    """aiortc calls our own connection."""
    async with UdpRelay(*impaired(2)) as relay, PlainPeer() as caller, OwnPeer("bad-line") as own:

        async def answers(offer: str) -> str:
            return relay.answer(await own.peer.answer(relay.offer(offer)))

        await caller.connect(answers, channel="any")
        async with asyncio.timeout(10):
            await own.peer.connected()

        async def say() -> None:
            caller.say(said(48_000))
            own.say(said(24_000))

        ears = {"aiortc to ours": _kept(own.ear), "ours to aiortc": _kept(caller.ear)}
        yield Line(say=say, ears=ears, network=relay, told=lambda: f"{own.closed} {own.peer.stats}")
