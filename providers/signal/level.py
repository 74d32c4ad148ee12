"""How loud a chunk is."""

from __future__ import annotations

from math import log10

import numpy as np

from providers.signal.resample import Int16Array

__all__ = ["SILENCE_DBFS", "amplitude", "level_dbfs", "peak_dbfs", "power"]

SILENCE_DBFS = -120.0
"""What digital silence is called, so that levels stay finite."""
_FULL_SCALE = 32768.0


def power(pcm: Int16Array) -> float:
    """Mean square, 0.0 to 1.0 where 1.0 is a full-scale square wave. The empty chunk has none."""
    if not len(pcm):
        return 0.0
    wide = pcm.astype(np.float32)
    return float(np.dot(wide, wide)) / (len(pcm) * _FULL_SCALE * _FULL_SCALE)


def level_dbfs(pcm: Int16Array) -> float:
    """RMS level in dB relative to a full-scale square wave (a full-scale sine has -3 dBFS)."""
    mean_square = power(pcm)
    return max(SILENCE_DBFS, 10 * log10(mean_square)) if mean_square > 0 else SILENCE_DBFS


def peak_dbfs(pcm: Int16Array) -> float:
    """Level of the loudest single sample."""
    if not len(pcm):
        return SILENCE_DBFS
    peak = max(int(pcm.max()), -int(pcm.min()))
    return 20 * log10(peak / _FULL_SCALE) if peak else SILENCE_DBFS


def amplitude(dbfs: float) -> float:
    """The factor, 1.0 at full scale, that a level in dBFS stands for."""
    return float(10 ** (dbfs / 20))
