"""A queue that plays in real time, for transports that have none: 20 ms frames against a schedule."""

from __future__ import annotations

import msgspec

from bridge.audio.playout import Sink
from providers.signal.formats import PCM16_24K, AudioFormat, Encoding

__all__ = ["PaceStats", "PacedSink"]

_MAX_CATCH_UP = 10  # frames: a longer stall restarts the schedule instead of flooding the far end


class PaceStats(msgspec.Struct):
    """What the schedule did. Plain integers; read a copy."""

    frames: int = 0
    silent_frames: int = 0
    """Frames without any speech, sent because the far end wants a continuous stream."""
    padded_frames: int = 0
    """Last frames of an utterance, filled up with silence."""
    late_frames: int = 0
    """Frames sent more than one frame length after their time."""
    refused_ms: float = 0.0
    """Speech beyond the bound."""
    restarts: int = 0
    """Stalls so long that the schedule began anew."""


class PacedSink:
    """Speech waiting for its time. Full (`limit_ms`): the newest is refused and counted.

    The playout that feeds it keeps it `lead_ms` deep and a piece more, which is far from full.

    Between `Playout` and a transport with `paces_itself = False`. `tick` hands exactly one frame on for each frame
    length that has passed. With `continuous`, silence is sent while there is no speech.
    """

    def __init__(
        self,
        below: Sink,
        format: AudioFormat = PCM16_24K,
        *,
        frame_ms: int = 20,
        continuous: bool = False,
        limit_ms: float = 5000.0,
    ) -> None:
        self.stats = PaceStats()
        self._below = below
        self._format = format
        self._frame_s = frame_ms / 1000
        self._frame = format.size(frame_ms)
        self._silence = bytes([{Encoding.PCMU: 0xFF, Encoding.PCMA: 0xD5}.get(format.encoding, 0)]) * self._frame
        self._continuous = continuous
        self._limit = format.size(limit_ms)
        self._queue = bytearray()
        self._started_at: float | None = None
        self._sent = 0

    def play(self, audio: bytes) -> None:
        """Queue speech, any length. What does not fit is refused."""
        room = self._limit - len(self._queue)
        if len(audio) > room:
            self.stats.refused_ms += self._format.duration_ms(len(audio) - room)
            audio = audio[:room]
        self._queue += audio

    def flush(self) -> None:
        """Drop what waits here, and what waits below."""
        self._queue.clear()
        self._below.flush()

    def queued_ms(self, now: float) -> float:
        """Speech here and below that the room has not yet heard, ms."""
        return self._format.duration_ms(len(self._queue)) + self._below.queued_ms(now)

    def tick(self, now: float) -> int:
        """Hand on the frames that are due. Returns how many."""
        frames = self.frames_due(now)
        for frame in frames:
            self._below.play(frame)
        return len(frames)

    def frames_due(self, now: float) -> list[bytes]:
        """The frames owed to the room. A late wake-up catches up; after a long stall the schedule restarts at `now`."""
        if not self._queue and not self._continuous:
            if self._started_at is not None and now >= self._started_at + self._sent * self._frame_s:
                self._started_at = None  # the last frame has had its time: the next speech begins a schedule of its own
            return []
        if self._started_at is None:
            self._started_at, self._sent = now, 0
        # A nanosecond of grace, for clocks that are sums of 20 ms.
        owed = int((now - self._started_at) / self._frame_s + 1e-6) + 1 - self._sent
        if owed > _MAX_CATCH_UP:
            self.stats.restarts += 1
            self._started_at, self._sent, owed = now, 0, 1
        elif owed > 1:
            self.stats.late_frames += owed - 1
        frames: list[bytes] = []
        while owed > 0:
            if not self._queue and not self._continuous:
                break
            frames.append(self._next_frame())
            owed -= 1
        self._sent += len(frames)
        return frames

    def deadline(self) -> float | None:
        """When to call `tick` next; None: after the next `play`."""
        if self._started_at is None:
            return None
        return self._started_at + self._sent * self._frame_s

    def _next_frame(self) -> bytes:
        self.stats.frames += 1
        size = len(self._queue)
        if not size:
            self.stats.silent_frames += 1
            return self._silence
        frame = bytes(self._queue[: self._frame])
        del self._queue[: self._frame]
        if size < self._frame:
            self.stats.padded_frames += 1
            frame += self._silence[size:]
        return frame
