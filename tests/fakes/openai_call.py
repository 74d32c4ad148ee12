"""A caller of OpenAI over WebRTC that shares none of our code: plain aiortc, its own HTTP, its own ears."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from providers.signal.resample import Int16Array
from tests.fakes.plain_track import sound_of

__all__ = ["PlainCaller", "likeness", "voice"]

_SAMPLES = 960
"""20 ms at 48 kHz."""


def voice(duration_ms: int, seed: int = 1) -> Int16Array:
    """What no other seed sounds like, and what a speech codec keeps: harmonics of a wandering pitch; 24 kHz."""
    random = np.random.default_rng(seed)
    count = duration_ms * 24
    knots = np.linspace(0, count, max(2, duration_ms // 80))
    pitch = np.interp(np.arange(count), knots, random.uniform(250, 450, len(knots)))
    loud = np.interp(np.arange(count), knots, random.uniform(0.5, 1.0, len(knots)))
    phase = 2 * np.pi * np.cumsum(pitch) / 24_000
    sound = np.sum([np.sin(harmonic * phase) / harmonic**1.5 for harmonic in range(1, 5)], axis=0)
    fade = np.minimum(1.0, np.minimum(np.arange(count), np.arange(count)[::-1]) / 240)
    pcm: Int16Array = (9_000 * loud * fade * sound).astype(np.int16)
    return pcm


def likeness(heard: Int16Array, sound: Int16Array) -> float:
    """How much of `sound` is in what was heard: the median over its pieces of 100 ms of the correlation where each fits
    best. Where a jitter buffer had to stretch time by a packet, what follows is as much itself as before."""
    pieces = [sound[first : first + 2400] for first in range(0, max(1, len(sound) - 1200), 2400)]
    return float(np.median([_fit(heard, piece) for piece in pieces]))


def _fit(heard: Int16Array, piece: Int16Array) -> float:
    if len(heard) < len(piece):
        return 0.0
    size = 1 << (len(heard) + len(piece)).bit_length()
    long, short = heard.astype(np.float64), piece.astype(np.float64)
    product = np.fft.irfft(np.fft.rfft(long, size) * np.conj(np.fft.rfft(short, size)), size)
    place = int(np.argmax(product[: len(long) - len(short) + 1]))
    part = long[place : place + len(short)]
    norm = float(np.linalg.norm(part) * np.linalg.norm(short))
    return float(np.dot(part, short)) / norm if norm else 0.0


class PlainCaller:
    """An `RTCPeerConnection` with a microphone that is fed by `says`, and all that it hears and reads."""

    def __init__(self, *, channel: bool = True) -> None:
        from aiortc import AudioStreamTrack, RTCConfiguration, RTCPeerConnection
        from av import AudioFrame

        class Microphone(AudioStreamTrack):
            """On its own schedule: silence when nothing is to be said."""

            def __init__(self, unsaid: bytearray) -> None:
                super().__init__()
                self._unsaid = unsaid
                self._sent = 0
                self._begun = 0.0

            async def recv(self) -> Any:
                clock = asyncio.get_running_loop().time
                self._begun = self._begun or clock()
                await asyncio.sleep(max(0.0, self._begun + self._sent * 0.02 - clock()))
                piece = bytes(self._unsaid[: 2 * _SAMPLES]).ljust(2 * _SAMPLES, b"\0")
                del self._unsaid[: 2 * _SAMPLES]
                frame = AudioFrame.from_ndarray(np.frombuffer(piece, np.int16)[None, :], format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 48_000, self._sent * _SAMPLES, Fraction(1, 48_000)
                self._sent += 1
                return frame

        self.events: list[dict[str, Any]] = []
        self.closed = asyncio.Event()
        """The channel was closed by the other side."""
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._microphone = bytearray()
        self._heard: list[Int16Array] = []
        self.heard_at: list[float] = []
        self._come = asyncio.Event()
        self._read = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.connection.addTrack(Microphone(self._microphone))
        self.connection.on("track", self._track)
        self.channel: Any = None
        if channel:
            self.channel = self.connection.createDataChannel("oai-events")
            self.channel.on("message", self._message)
            self.channel.on("close", self.closed.set)

    async def offer(self) -> str:
        """Complete with addresses."""
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return str(self.connection.localDescription.sdp)

    async def accept(self, answer: str) -> None:
        from aiortc import RTCSessionDescription

        await self.connection.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))

    async def close(self) -> None:
        await self.connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ----------------------------------------------------------------------------------------------------------- voice

    def says(self, pcm: Int16Array) -> None:
        """Into the microphone, in real time: int16 mono at 24 kHz."""
        at = np.arange(2 * len(pcm)) / 2
        self._microphone += np.interp(at, np.arange(len(pcm)), pcm).astype(np.int16).tobytes()

    @property
    def heard(self) -> Int16Array:
        """All that came, int16 mono at 24 kHz."""
        whole = np.concatenate(self._heard) if self._heard else np.zeros(0, np.int16)
        return ((whole[0::2].astype(np.int32) + whole[1::2]) // 2).astype(np.int16)

    @property
    def frames(self) -> list[Int16Array]:
        """As they came, 48 kHz."""
        return self._heard

    def _track(self, track: Any) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(self._hear(track), name="plain:hear"))

    async def _hear(self, track: Any) -> None:
        async for frame in sound_of(track):
            self._heard.append(frame)
            self.heard_at.append(asyncio.get_running_loop().time())

    # ---------------------------------------------------------------------------------------------------------- events

    def _message(self, message: str | bytes) -> None:
        try:
            event = json.loads(message)
        except ValueError:
            event = None
        known = isinstance(event, dict) and "type" in event
        self.events.append(event if known else {"type": "?", "message": message})
        self._come.set()

    def send(self, event: dict[str, Any]) -> None:
        self.channel.send(json.dumps(event))

    async def until(
        self, kind: str, where: Callable[[dict[str, Any]], bool] = lambda _: True, timeout_s: float = 10.0
    ) -> dict[str, Any]:
        """The next event of this kind that was not waited for before; those ahead of it are passed over."""
        async with asyncio.timeout(timeout_s):
            while True:
                while self._read < len(self.events):
                    event = self.events[self._read]
                    self._read += 1
                    if event["type"] == kind and where(event):
                        return event
                self._come.clear()
                await self._come.wait()

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]
