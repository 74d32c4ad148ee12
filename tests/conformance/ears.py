"""Speaking to a session and listening to it, the same for every provider."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import numpy as np

from providers.contract import (
    GenerationComplete,
    ModelSession,
    OutputTranscript,
    ReplyStarted,
    SessionEvent,
    SpeechChunk,
    TurnComplete,
)
from providers.scripted.voice import marker
from providers.signal.resample import Int16Array, resample_whole

__all__ = ["Ear", "best_correlation", "best_correlation_of_pieces", "say", "speech"]

T = TypeVar("T")


class Ear:
    """All events of a session from its first, and waiting for one of them."""

    def __init__(self, session: ModelSession) -> None:
        self.events: list[SessionEvent] = []
        self._duplex = session.capabilities.duplex
        self._news = asyncio.Event()
        session.listen(self._take)

    def _take(self, event: SessionEvent) -> None:
        self.events.append(event)
        self._news.set()

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, kind: type[T], number: int = 1, timeout_s: float = 5.0) -> T:
        """The n-th event of a kind. Fails naming what came instead."""
        try:
            async with asyncio.timeout(timeout_s):
                while len(self.of(kind)) < number:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            came = [type(event).__name__ for event in self.events if not isinstance(event, SpeechChunk)]
            raise AssertionError(f"no {kind.__name__} number {number}; came: {came}") from None
        return self.of(kind)[number - 1]

    async def answered(self, number: int = 1) -> str:
        """Return when the n-th reply is over, its id. A duplex model closes no turns: then when all of it has come."""
        kind: type[GenerationComplete | TurnComplete] = GenerationComplete if self._duplex else TurnComplete
        seen = 0
        while True:
            # A turn may be closed without a reply: its call for tools was called off, or it was answered with silence.
            seen += 1
            await self.until(kind, seen)
            ids = [over.reply_id for over in self.of(kind) if over.reply_id is not None]
            if len(ids) >= number:
                return ids[number - 1]

    async def until_spoken(self, duration_ms: float, reply_id: str | None = None) -> None:
        """Return once so much speech has come, of one reply or of all."""
        wanted = round(duration_ms * 24) * 2
        async with asyncio.timeout(5.0):
            while len(self.spoken(reply_id)) * 2 < wanted:
                self._news.clear()
                await self._news.wait()

    def spoken(self, reply_id: str | None = None) -> Int16Array:
        """The model's speech so far, 24 kHz."""
        chunks = [chunk.audio for chunk in self.of(SpeechChunk) if reply_id in (None, chunk.reply_id)]
        return np.frombuffer(b"".join(chunks), dtype="<i2")

    def words(self, reply_id: str | None = None) -> str:
        """What the model is said to have said."""
        return "".join(piece.delta for piece in self.of(OutputTranscript) if reply_id in (None, piece.reply_id))

    def position(self, kind: type[SessionEvent], *, last: bool = False) -> int:
        """Where the first (or last) event of a kind stands among all."""
        places = [place for place, event in enumerate(self.events) if isinstance(event, kind)]
        return places[-1 if last else 0]

    @property
    def replies(self) -> list[str]:
        """Ids of the replies that began, in order."""
        return [event.reply_id for event in self.of(ReplyStarted)]


def speech(duration_ms: int, seed: int) -> Int16Array:
    """Something with the band and level of speech that no other seed sounds like; 24 kHz."""
    return marker(duration_ms, seed, -8.0)


def say(session: ModelSession, sound: Int16Array, *, silence_ms: int = 1000) -> None:
    """Speak into the microphone in frames of 20 ms, then be quiet."""
    format = session.capabilities.input_formats[0]
    assert format.bytes_per_sample == 2, "the suite speaks PCM"
    pcm = resample_whole(sound, 24_000, format.rate_hz).tobytes() + bytes(format.size(silence_ms))
    size = format.size(20)
    for first in range(0, len(pcm), size):
        session.send_audio(pcm[first : first + size], format)


def best_correlation(heard: Int16Array, sound: Int16Array) -> float:
    """Pearson's correlation of `sound` with that stretch of `heard` which fits best; 0 when it is too short."""
    if len(heard) < len(sound):
        return 0.0
    size = 1 << (len(heard) + len(sound)).bit_length()
    long, short = heard.astype(np.float64), sound.astype(np.float64)
    product = np.fft.irfft(np.fft.rfft(long, size) * np.conj(np.fft.rfft(short, size)), size)
    place = int(np.argmax(product[: len(long) - len(short) + 1]))
    part = long[place : place + len(short)]
    norm = float(np.linalg.norm(part) * np.linalg.norm(short))
    return float(np.dot(part, short)) / norm if norm else 0.0


def best_correlation_of_pieces(heard: Int16Array, sound: Int16Array) -> float:
    """What most of the pieces of 100 ms of `sound` reach, each where it fits best: where a jitter buffer has stretched
    time by a frame, what follows is as much itself as before. 0 when `heard` is too short."""
    if len(heard) < len(sound):
        return 0.0
    pieces = [sound[first : first + 2400] for first in range(0, len(sound) - 2399, 2400)]
    return float(np.quantile([best_correlation(heard, piece) for piece in pieces], 0.6))
