"""Short sounds that are told apart after Opus and a jitter buffer, and found again to the sample by correlation."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from providers.scripted.voice import marker
from providers.signal.resample import Int16Array, resample_whole

__all__ = ["LEVEL_DBFS", "MARKER_MS", "Capture", "Find", "find", "sound"]

MARKER_MS = 100
LEVEL_DBFS = -10.0
_SURE = 0.6
"""Normalised correlation of a marker that was found; another marker reaches about 0.2."""
_SOURCE_HZ = 24_000


class Capture(msgspec.Struct, frozen=True):
    """A stream as one process received it."""

    rate_hz: int
    samples: Int16Array
    positions: npt.NDArray[np.int64]
    """Sample at which each piece begins."""
    times: npt.NDArray[np.float64]
    """When each piece came, CLOCK_MONOTONIC s."""

    def arrival(self, sample: int) -> float:
        """When the piece with this sample came."""
        return float(self.times[int(np.searchsorted(self.positions, sample, side="right")) - 1])

    def moment(self, sample: int) -> float:
        """When this sample is heard: as long after its piece came as it lies behind the piece's first."""
        piece = int(np.searchsorted(self.positions, sample, side="right")) - 1
        return float(self.times[piece]) + (sample - int(self.positions[piece])) / self.rate_hz

    def sample_at(self, at: float) -> int:
        """The first sample of the first piece that came at `at` or later; the end if none did."""
        piece = int(np.searchsorted(self.times, at))
        return int(self.positions[piece]) if piece < len(self.positions) else len(self.samples)

    @classmethod
    def load(cls, path: str) -> Capture:
        with np.load(path) as kept:
            return cls(int(kept["rate_hz"]), kept["samples"], kept["positions"], kept["times"])

    def save(self, path: str) -> None:
        np.savez(path, rate_hz=np.int64(self.rate_hz), samples=self.samples, positions=self.positions, times=self.times)


class Find(msgspec.Struct, frozen=True):
    at: float
    """When its first sample came, CLOCK_MONOTONIC s."""
    sample: int
    likeness: float


def sound(seed: int, rate_hz: int, duration_ms: float = MARKER_MS) -> Int16Array:
    """The marker of this seed: noise of 300 to 3400 Hz, the same that an emulator makes of it."""
    return resample_whole(marker(duration_ms, seed, LEVEL_DBFS), _SOURCE_HZ, rate_hz)


def find(capture: Capture, seed: int, after: float, until: float) -> Find | None:
    """Where this marker begins, among what came between two times. None: it is not there."""
    wanted = sound(seed, capture.rate_hz).astype(np.float64)
    pieces = np.flatnonzero((capture.times >= after) & (capture.times <= until))
    if not len(pieces):
        return None
    first = int(capture.positions[pieces[0]])
    last = int(capture.positions[pieces[-1] + 1]) if pieces[-1] + 1 < len(capture.positions) else len(capture.samples)
    part = capture.samples[first:last].astype(np.float64)
    if len(part) < len(wanted):
        return None
    size = 1 << (len(part) + len(wanted)).bit_length()
    likeness = np.fft.irfft(np.fft.rfft(part, size) * np.conj(np.fft.rfft(wanted, size)), size)
    likeness = likeness[: len(part) - len(wanted) + 1]
    energy = np.concatenate(([0.0], np.cumsum(part * part)))
    local = np.sqrt(np.maximum(energy[len(wanted) :] - energy[: -len(wanted)], 1e4))
    score = np.abs(likeness) / local / float(np.sqrt(np.dot(wanted, wanted)))
    best = int(np.argmax(score))
    if score[best] < _SURE:
        return None
    return Find(capture.arrival(first + best), first + best, float(score[best]))
