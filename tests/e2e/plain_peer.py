"""aiortc as it is, nothing of ours: a voice that says what it is given in real time, an ear that keeps what comes."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Awaitable, Callable
from fractions import Fraction
from types import TracebackType
from typing import Any

import numpy as np
from aiortc import MediaStreamError, MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from av import AudioFrame, AudioResampler

from bench.markers import Capture
from tests.e2e.audio import Samples, to_pcm

__all__ = ["Ear", "PlainPeer"]

_HZ = 48_000
_FRAME = _HZ // 50


class _Voice(MediaStreamTrack):
    """Silence on a steady beat, until it is given something to say."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._began = 0.0
        self._sent = 0
        self._pcm = b""

    def say(self, samples: Samples) -> None:
        """From the next 20 ms on. Mono, 48 kHz."""
        self._pcm = to_pcm(samples)

    async def recv(self) -> AudioFrame:
        loop = asyncio.get_running_loop()
        if self.readyState != "live":
            raise MediaStreamError
        if self._sent == 0:
            self._began = loop.time()
        await asyncio.sleep(self._began + self._sent / 50 - loop.time())
        size = _FRAME * 2
        piece, self._pcm = self._pcm[:size].ljust(size, b"\0"), self._pcm[size:]
        frame = AudioFrame(format="s16", layout="mono", samples=_FRAME)
        frame.planes[0].update(piece)
        frame.sample_rate, frame.pts, frame.time_base = _HZ, self._sent * _FRAME, Fraction(1, _HZ)
        self._sent += 1
        return frame


class Ear:
    """Everything that came, with the time at which each piece did."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._pieces: list[bytes] = []
        self._sizes = array("q")
        self._times = array("d")

    def hear(self, pcm: bytes, now: float) -> None:
        """int16 mono."""
        self._pieces.append(pcm)
        self._sizes.append(len(pcm) // 2)
        self._times.append(now)

    @property
    def heard_s(self) -> float:
        return sum(self._sizes) / self.rate_hz

    def capture(self) -> Capture:
        sizes = np.array(self._sizes, dtype=np.int64)
        samples = np.frombuffer(b"".join(self._pieces), dtype="<i2")
        return Capture(self.rate_hz, samples, np.cumsum(sizes) - sizes, np.array(self._times, dtype=np.float64))


class PlainPeer:
    """One end of a connection. Use as an async context manager, then `offer` and `accept`, or `answer`."""

    def __init__(self) -> None:
        self.ear = Ear(_HZ)
        self.connection: RTCPeerConnection
        self._voice = _Voice()
        self._hearing: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()

    async def __aenter__(self) -> PlainPeer:
        self.connection = RTCPeerConnection()
        self.connection.on("track", self._on_track)
        self.connection.on("connectionstatechange", self._on_state)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.connection.close()
        if self._hearing is not None:
            self._hearing.cancel()
            await asyncio.gather(self._hearing, return_exceptions=True)

    def say(self, samples: Samples) -> None:
        """Mono, 48 kHz, in real time from now on."""
        self._voice.say(samples)

    async def offer(self, channel: str = "") -> str:
        """The description, with every candidate in it."""
        self.connection.addTrack(self._voice)
        if channel:
            self.connection.createDataChannel(channel)
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return str(self.connection.localDescription.sdp)

    async def accept(self, answer: str) -> None:
        await self.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def answer(self, offer: str) -> str:
        await self.connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        self.connection.addTrack(self._voice)
        await self.connection.setLocalDescription(await self.connection.createAnswer())
        return str(self.connection.localDescription.sdp)

    async def connect(
        self, answers: Callable[[str], Awaitable[str]], *, channel: str = "", timeout_s: float = 10.0
    ) -> None:
        """Offer to somebody who answers, and wait until media flows. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            await self.accept(await answers(await self.offer(channel)))
            await self._connected.wait()

    def _on_state(self) -> None:
        if self.connection.connectionState == "connected":
            self._connected.set()

    def _on_track(self, track: Any) -> None:
        # Its life is this object's: ended in __aexit__.
        self._hearing = asyncio.get_running_loop().create_task(self._hear(track), name="plain-ear")

    async def _hear(self, track: Any) -> None:
        resampler = AudioResampler(format="s16", layout="mono", rate=_HZ)
        loop = asyncio.get_running_loop()
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            for mono in resampler.resample(frame):
                self.ear.hear(mono.to_ndarray().tobytes(), loop.time())
