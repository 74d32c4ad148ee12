"""What is heard where a packet is missing, and speech played a little faster or slower. Pure arithmetic on arrays.

Voiced speech repeats itself from one pitch period to the next. So a hole is filled by repeating the last periods,
fading out (the idea of ITU-T G.711 Appendix I), and time is gained or spent by leaving out or repeating one period
where two neighbours are alike (the idea of WSOLA): neither changes the pitch, and both are joined by cross-fades.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from providers.signal.resample import Int16Array

__all__ = ["Concealer", "lengthened", "loudness", "pitch_samples", "shortened"]

Float32Array = npt.NDArray[np.float32]

_SHORTEST_S, _LONGEST_S = 0.0025, 0.016
"""Pitch periods of voices: 400 Hz to 62 Hz."""
_MATCH_S = 0.012
"""How much of the past is compared."""
_HISTORY_S = 0.040
_REPEATED_S = 0.010
"""A hole is filled with at least this much of the past: one short period alone would buzz."""
_FULL_S, _GONE_S = 0.020, 0.100
"""A hole's filling is as loud as what was before for 20 ms, then fades, and is silent after 100 ms."""
_JOIN_S = 0.005
_STEP_S = 0.0015
_ALIKE = 0.6
"""Correlation of two neighbouring periods from which on one of them can be spared."""


class Concealer:
    """Fills holes in one stream. Keeps the last 40 ms or so that were heard."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._heard: deque[Int16Array] = deque()
        self._heard_samples = 0
        self._enough = int(rate_hz * _HISTORY_S)
        self._cycle: Float32Array | None = None
        self._step: Float32Array | None = None
        self.made = 0
        """Samples of the hole that is open now."""

    def heard(self, pcm: Int16Array) -> None:
        """Take note of what was played, fillings too."""
        if not len(pcm):
            return
        self._heard.append(pcm)
        self._heard_samples += len(pcm)
        while self._heard_samples - len(self._heard[0]) >= self._enough:
            self._heard_samples -= len(self._heard.popleft())

    def conceal(self, samples: int) -> Int16Array:
        """The next `samples` of the hole's filling."""
        if self._cycle is None:
            self._open()
        assert self._cycle is not None
        at = self.made + np.arange(samples)
        filled = np.take(self._cycle, at, mode="wrap")
        if self._step is not None and self.made < len(self._step):
            rest = self._step[self.made : self.made + samples]
            filled[: len(rest)] += rest
        seconds = at / self._rate_hz
        filled *= np.clip((_GONE_S - seconds) / (_GONE_S - _FULL_S), 0.0, 1.0).astype(np.float32)
        self.made += samples
        return _to_int16(filled)

    def join(self, pcm: Int16Array) -> Int16Array:
        """What comes after a hole (or after a leap over one), its beginning cross-faded with the filling. The hole is
        closed."""
        size = min(len(pcm), int(self._rate_hz * _JOIN_S))
        filled = self.conceal(size).astype(np.float32)
        self._cycle = self._step = None
        self.made = 0
        rise = (np.arange(size, dtype=np.float32) + 1) / (size + 1)
        joined = pcm.astype(np.float32)
        joined[:size] = joined[:size] * rise + filled * (1 - rise)
        return _to_int16(joined)

    def restart(self) -> None:
        """Forget the stream: what comes next has nothing to do with it."""
        self._heard.clear()
        self._heard_samples = 0
        self._cycle = self._step = None
        self.made = 0

    def _open(self) -> None:
        past = np.concatenate(self._heard).astype(np.float32) if self._heard else np.zeros(0, dtype=np.float32)
        least = int(self._rate_hz * (_LONGEST_S + _MATCH_S)) + 1
        if len(past) < least:
            past = np.concatenate([np.zeros(least - len(past), dtype=np.float32), past])
        period, _ = pitch_samples(past, self._rate_hz)
        size = min(period * -(-int(self._rate_hz * _REPEATED_S) // period), len(past) * 2 // 3)
        cycle = past[-size:].copy()
        # The end of the cycle leads into its beginning: what was before the beginning is blended into the end.
        blend = min(period // 4 or 1, len(past) - size)
        if blend:
            rise = (np.arange(blend, dtype=np.float32) + 1) / (blend + 1)
            cycle[-blend:] = cycle[-blend:] * (1 - rise) + past[-size - blend : -size] * rise
        # And the last sample heard leads into the first of the filling: their step melts away within 1.5 ms.
        before = past[-size - 1] if len(past) > size else cycle[-1]
        fall = np.linspace(1.0, 0.0, max(1, int(self._rate_hz * _STEP_S)), dtype=np.float32)
        self._step = (past[-1] - before) * fall
        self._cycle = cycle


def pitch_samples(past: Float32Array, rate_hz: int, most: int | None = None) -> tuple[int, float]:
    """The lag, at most `most` samples, at which the end of `past` is most like what was before it, and how alike they
    are, -1 to 1.

    Needs 28 ms. Noise has no pitch: its lag is then any, its likeness small.
    """
    shortest, longest, size = (int(rate_hz * seconds) for seconds in (_SHORTEST_S, _LONGEST_S, _MATCH_S))
    longest = longest if most is None else min(longest, most)
    reach = past[-size - longest :]
    recent = reach[-size:]
    products = np.correlate(reach, recent, "valid")[: longest - shortest + 1]
    squares = np.concatenate([np.zeros(1, dtype=np.float64), np.cumsum(reach.astype(np.float64) ** 2)])
    energies = (squares[size:] - squares[:-size])[: len(products)]
    own = float(np.dot(recent, recent))
    likeness = products / np.sqrt(energies * own + 1.0)
    best = int(np.argmax(likeness))
    return longest - best, float(likeness[best])


def loudness(pcm: Int16Array) -> float:
    """Root mean square, in steps of int16."""
    if not len(pcm):
        return 0.0
    samples = pcm.astype(np.float32)
    return float(np.sqrt(np.dot(samples, samples) / len(samples)))


def shortened(pcm: Int16Array, rate_hz: int, most: int, *, force: bool = False) -> Int16Array:
    """`pcm` with one pitch period less, at most `most` samples less; unchanged where no two neighbours are alike.

    Needs 44 ms to choose from. `force` takes the best place even if it will be heard.
    """
    found = _alike(pcm, rate_hz, most, force=force)
    if found is None:
        return pcm
    samples, at, period = found
    rise = (np.arange(period, dtype=np.float32) + 1) / (period + 1)
    joint = samples[at : at + period] * (1 - rise) + samples[at + period : at + 2 * period] * rise
    return np.concatenate([pcm[:at], _to_int16(joint), pcm[at + 2 * period :]])


def lengthened(pcm: Int16Array, rate_hz: int, most: int) -> Int16Array:
    """`pcm` with one pitch period more, at most `most` samples more; unchanged where no two neighbours are alike."""
    found = _alike(pcm, rate_hz, most, force=False)
    if found is None:
        return pcm
    samples, at, period = found
    rise = (np.arange(period, dtype=np.float32) + 1) / (period + 1)
    joint = samples[at + period : at + 2 * period] * (1 - rise) + samples[at : at + period] * rise
    return np.concatenate([pcm[: at + period], _to_int16(joint), pcm[at + period :]])


def _alike(pcm: Int16Array, rate_hz: int, most: int, *, force: bool) -> tuple[Float32Array, int, int] | None:
    """Samples, and where two neighbouring periods of which length are alike."""
    shortest, longest = int(rate_hz * _SHORTEST_S), min(int(rate_hz * _LONGEST_S), most)
    needed = int(rate_hz * (_LONGEST_S + _MATCH_S)) + 1
    if longest < shortest or len(pcm) < needed:
        return None
    samples = pcm.astype(np.float32)
    period, likeness = pitch_samples(samples[:needed], rate_hz, longest)
    if likeness < _ALIKE and not force:
        return None
    at = max(0, needed - 2 * period)
    return samples, at, period


def _to_int16(samples: npt.NDArray[np.floating[Any]]) -> Int16Array:
    rounded: Int16Array = np.clip(np.rint(samples), -32768, 32767).astype(np.int16)
    return rounded
