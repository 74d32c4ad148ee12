"""Live audio that was once late would stay late, for nobody pauses for it: what stands in the sender's queue goes."""

from __future__ import annotations

import numpy as np

from providers.contract import OutboxStats
from providers.signal.resample import Int16Array
from providers.webrtc.conceal import shortened

__all__ = ["Punctual"]

_WINDOW_S = 2.0
_STANDING_MS = 15.0
"""The queue was never shorter than this for a whole window: it is no jitter, it stands."""
_QUIET_PEAK = 200
"""int16, -44 dBFS: a room's noise."""
_CONTEXT_MS, _MOST_MS = 12, 8
"""One pitch period of at most 8 ms is left out of a piece; the 12 ms before it are looked at to find it."""
_EVERY_S = 0.06
"""At most 13 % faster than it was said."""


class Punctual:
    """Shortens pieces on their way to a sender whose queue stands, by silence where there is some, else by a pitch
    period. `OutboxStats.skipped_silence_ms` and `shortened_ms` count what it takes back."""

    def __init__(self, stats: OutboxStats, rate_hz: int = 24_000) -> None:
        self._stats = stats
        self._rate_hz = rate_hz
        self._context = np.zeros(rate_hz * _CONTEXT_MS // 1000, dtype=np.int16)
        self._least_ms = float("inf")
        self._window_ends = 0.0
        self._spare_ms = 0.0
        self._next_at = 0.0

    def hand_on(self, pcm: bytes, ahead_ms: float, now: float) -> bytes:
        """What to send of `pcm` (int16 mono): all of it, less, or nothing. Args: ahead_ms waits in the sender."""
        if now >= self._window_ends:
            standing = self._least_ms if self._least_ms != float("inf") else 0.0
            self._spare_ms = standing if standing >= _STANDING_MS else 0.0
            self._least_ms, self._window_ends = ahead_ms, now + _WINDOW_S
        self._least_ms = min(self._least_ms, ahead_ms)
        samples = np.frombuffer(pcm[: len(pcm) & ~1], dtype="<i2")
        if self._spare_ms > 0 and ahead_ms > 0 and len(samples):
            samples = self._spared(samples, now)
        if len(samples) >= len(self._context):
            self._context = samples[-len(self._context) :]
        return samples.tobytes()

    def _spared(self, samples: Int16Array, now: float) -> Int16Array:
        length_ms = len(samples) * 1000 / self._rate_hz
        if length_ms <= self._spare_ms and int(np.abs(samples.astype(np.int32)).max()) <= _QUIET_PEAK:
            self._spare_ms -= length_ms
            self._stats.skipped_silence_ms += length_ms
            return samples[:0]
        if now < self._next_at:
            return samples
        whole = np.concatenate([self._context, samples])
        most = int(min(_MOST_MS, self._spare_ms) * self._rate_hz / 1000)
        shorter = shortened(whole, self._rate_hz, most)
        gone = len(whole) - len(shorter)
        if gone:
            self._next_at = now + _EVERY_S
            self._spare_ms -= gone * 1000 / self._rate_hz
            self._stats.shortened_ms += gone * 1000 / self._rate_hz
        return shorter[len(self._context) :]
