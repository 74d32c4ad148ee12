"""What waits for a sender that goes at the speed of sound: one order, old audio dropped, long silence skipped."""

from __future__ import annotations

from collections import deque

import numpy as np

from providers.contract import OutboxStats
from providers.signal.formats import PCM16_24K, AudioFormat

__all__ = ["RealTimeOutbox"]

_PIECE_MS = 20.0
_QUIET_PEAK = 200
"""int16, -44 dBFS: a room's noise."""
_ONSET_PIECES = 3
"""Quiet in front of speech is kept: words begin softly."""
_CATCH_UP_MS = 80.0
_CAUGHT_UP_MS = 40.0


class RealTimeOutbox:
    """Speech waiting to be sent. Full: the oldest goes and `OutboxStats` counts it.

    Speech that was given faster than it can be sent stays late until somebody pauses. So once more than 80 ms wait,
    here and in the sender, silence is left out until 40 ms wait; only what is beyond `kept_silence_ms` of a pause, so
    that every turn still ends where it ended, and counted.
    """

    def __init__(
        self, limit_ms: float, stats: OutboxStats, *, kept_silence_ms: float, format: AudioFormat = PCM16_24K
    ) -> None:
        self.stats = stats
        self._limit_ms = limit_ms
        self._kept_silence_ms = kept_silence_ms
        self._format = format
        self._size = format.size(_PIECE_MS)
        self._waiting: deque[tuple[bytes, float, bool]] = deque()  # audio, its ms, is it quiet?
        self._quiet_ms = kept_silence_ms  # since the last speech that was taken; at first nobody has spoken
        self._catching_up = False

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, audio: bytes) -> None:
        """Queue speech of any length; the oldest makes room for it."""
        for first in range(0, len(audio), self._size):
            piece = audio[first : first + self._size]
            samples = np.frombuffer(piece[: len(piece) & ~1], dtype="<i2")
            quiet = not len(samples) or (int(samples.max()) <= _QUIET_PEAK and int(samples.min()) >= -_QUIET_PEAK)
            duration_ms = self._format.duration_ms(len(piece))
            self._waiting.append((piece, duration_ms, quiet))
            self.stats.waiting_audio_ms += duration_ms
        while self.stats.waiting_audio_ms > self._limit_ms and len(self._waiting) > 1:
            self._drop()

    def take(self, ahead_ms: float = 0.0) -> tuple[bytes, float] | None:
        """The next piece and its duration, ms; None when nothing waits. Counts it as sent. Args: ahead_ms waits in the
        sender."""
        self._skip_silence(ahead_ms)
        if not self._waiting:
            return None
        piece, duration_ms, quiet = self._pop()
        self._quiet_ms = self._quiet_ms + duration_ms if quiet else 0.0
        self.stats.sent_audio_ms += duration_ms
        return piece, duration_ms

    def drop_all(self) -> None:
        """What waits is not wanted any more, or cannot be sent: counted."""
        while self._waiting:
            self._drop()

    def _skip_silence(self, ahead_ms: float) -> None:
        waiting_ms = self.stats.waiting_audio_ms + ahead_ms
        self._catching_up = waiting_ms > (_CAUGHT_UP_MS if self._catching_up else _CATCH_UP_MS)
        if not self._catching_up or self._quiet_ms < self._kept_silence_ms:
            return
        while self._waiting and self.stats.waiting_audio_ms + ahead_ms > _CAUGHT_UP_MS and self._leads_with_silence():
            _, duration_ms, _ = self._pop()
            self.stats.skipped_silence_ms += duration_ms

    def _leads_with_silence(self) -> bool:
        ahead = min(len(self._waiting), _ONSET_PIECES + 1)
        return all(self._waiting[place][2] for place in range(ahead))

    def _pop(self) -> tuple[bytes, float, bool]:
        piece = self._waiting.popleft()
        # An empty queue is exactly 0 ms: rounding must not add up over a long call.
        self.stats.waiting_audio_ms = self.stats.waiting_audio_ms - piece[1] if self._waiting else 0.0
        return piece

    def _drop(self) -> None:
        _, duration_ms, _ = self._pop()
        self.stats.dropped_audio_messages += 1
        self.stats.dropped_audio_ms += duration_ms
