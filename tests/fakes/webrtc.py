"""The other ends of WebRTC connections: a user that remembers, and a plain aiortc client that shares none of our code.

Everything stays on loopback: `on_loopback` keeps aiortc from the machine's other addresses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np

from providers.signal.resample import Int16Array
from providers.webrtc.peer import Peer, PeerSettings
from tests.fakes.plain_track import sound_of

__all__ = ["LOOPBACK", "PlainClient", "Remembering", "on_loopback", "tone", "until"]

LOOPBACK = PeerSettings(addresses=("127.0.0.1",))


@contextmanager
def on_loopback() -> Iterator[None]:
    """Within it, plain aiortc offers 127.0.0.1 and nothing else."""
    import aioice.ice

    before = aioice.ice.get_host_addresses
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    try:
        yield
    finally:
        aioice.ice.get_host_addresses = before


def tone(hertz: float, ms: int, rate_hz: int = 24_000, peak: int = 8_000) -> bytes:
    """A sine, int16 mono."""
    at = np.arange(ms * rate_hz // 1000) / rate_hz
    return (peak * np.sin(2 * np.pi * hertz * at)).astype(np.int16).tobytes()


async def until(true: Any, timeout_s: float = 5.0) -> None:
    """Wait for a condition that something else brings about."""
    async with asyncio.timeout(timeout_s):
        while not true():  # noqa: ASYNC110  what is waited for has no event of its own
            await asyncio.sleep(0.01)


class Remembering:
    """The user of a `Peer`; keeps all that it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.audio = bytearray()
        self.audio_at: list[float] = []
        self.messages: list[str | bytes] = []
        self.tracks: list[Any] = []
        self.reasons: list[str] = []

    def peer_connected(self) -> None:
        self.told.append("connected")

    def channel_open(self) -> None:
        self.told.append("open")

    def audio_received(self, pcm: bytes, now: float) -> None:
        self.audio += pcm
        self.audio_at.append(now)

    def message_received(self, message: str | bytes) -> None:
        self.messages.append(message)

    def video_track(self, track: Any) -> None:
        self.tracks.append(track)

    def peer_closed(self, reason: str) -> None:
        self.reasons.append(reason)

    @property
    def pcm(self) -> Int16Array:
        return np.frombuffer(bytes(self.audio), dtype=np.int16)


class PlainClient:
    """An `RTCPeerConnection` as any application would use it: sends a tone, keeps what it hears and reads."""

    def __init__(self, hertz: float = 440.0) -> None:
        from aiortc import AudioStreamTrack, RTCConfiguration, RTCPeerConnection
        from av import AudioFrame

        class Tone(AudioStreamTrack):
            sample = 0

            async def recv(self) -> Any:
                await asyncio.sleep(0.019)
                at = np.arange(self.sample, self.sample + 960) / 48_000
                pcm = (8_000 * np.sin(2 * np.pi * hertz * at)).astype(np.int16)
                frame = AudioFrame.from_ndarray(pcm[None, :], format="s16", layout="mono")
                frame.sample_rate = 48_000
                frame.pts = self.sample
                frame.time_base = Fraction(1, 48_000)
                self.sample += 960
                return frame

        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.connection.addTrack(Tone())
        self.channel: Any = None
        self.messages: list[str | bytes] = []
        self.heard: list[Int16Array] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.connection.on("track", self._track)
        self.connection.on("datachannel", self._take)

    def _take(self, channel: Any) -> None:
        self.channel = channel
        channel.on("message", self.messages.append)

    def _track(self, track: Any) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(self._hear(track), name="plain:hear"))

    async def _hear(self, track: Any) -> None:
        async for frame in sound_of(track):
            self.heard.append(frame)

    async def offer(self, label: str) -> str:
        """Its offer, with a data channel."""
        self._take(self.connection.createDataChannel(label))
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return str(self.connection.localDescription.sdp)

    async def accept(self, answer: str) -> None:
        from aiortc import RTCSessionDescription

        await self.connection.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))

    async def answer(self, offer: str) -> str:
        from aiortc import RTCSessionDescription

        await self.connection.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
        await self.connection.setLocalDescription(await self.connection.createAnswer())
        return str(self.connection.localDescription.sdp)

    async def close(self) -> None:
        sctp: Any = self.connection.sctp
        await self.connection.close()
        # aioice begins its consent checks even if it was closed in the moment in which it connects.
        await asyncio.sleep(0.05)
        left = sctp.transport.transport._connection._query_consent_task
        if left is not None:
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def two_peers(
    settings: PeerSettings = LOOPBACK, other: PeerSettings | None = None
) -> tuple[Peer, Remembering, Peer, Remembering]:
    """Two connected peers of ours and their users, the offering one first."""
    here, there = Remembering(), Remembering()
    a = Peer(here, settings, name="a")
    b = Peer(there, other or settings, name="b")
    await a.accept(await b.answer(await a.offer("words")))
    async with asyncio.timeout(10):
        await asyncio.gather(a.connected(), b.connected())
    return a, here, b, there
