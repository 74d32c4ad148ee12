"""A room that plays in exact real time and remembers every byte that was heard."""

from __future__ import annotations

from providers.signal.formats import PCM16_24K, AudioFormat

__all__ = ["FakeSink"]


class FakeSink:
    """The queue plays from the moment it is filled; `heard` holds what came out, silence where it was dry left out."""

    def __init__(self, format: AudioFormat = PCM16_24K) -> None:
        self.format = format
        self.now = 0.0
        self.heard = bytearray()
        self.plays: list[bytes] = []
        self.dry_ms = 0.0
        """Time without anything to play since the first sound."""
        self.flushes = 0
        self._queue = bytearray()
        self._fraction = 0.0

    def run(self, now: float) -> None:
        """Let time pass until `now`."""
        due = (now - self.now) * self.format.rate_hz + self._fraction
        self.now = now
        samples = int(due + 1e-6)
        self._fraction = due - samples
        size = samples * self.format.bytes_per_sample
        if size > len(self._queue):
            if self.heard:
                self.dry_ms += self.format.duration_ms(size - len(self._queue))
            size, self._fraction = len(self._queue), 0.0
        self.heard += self._queue[:size]
        del self._queue[:size]

    def play(self, audio: bytes) -> None:
        self.plays.append(audio)
        self._queue += audio

    def flush(self) -> None:
        self.flushes += 1
        self._queue.clear()

    def queued_ms(self, now: float) -> float:
        self.run(now)
        return self.format.duration_ms(len(self._queue))
