"""Constant talk for load measurements: syllables of noise and tone, without pauses that an encoder could skip."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from providers.signal import wav
from providers.signal.resample import Int16Array

__all__ = ["BABBLE_HZ", "write_babble"]

BABBLE_HZ = 24_000
_SYLLABLE_MS = 180


def write_babble(path: Path, seconds: float) -> Path:
    """A WAV of that length, always the same."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        wav.write(path, _babble(seconds).tobytes(), BABBLE_HZ)
    return path


def _babble(seconds: float) -> Int16Array:
    random = np.random.default_rng(2)
    size = BABBLE_HZ * _SYLLABLE_MS // 1000
    time_s = np.arange(size) / BABBLE_HZ
    shape = 0.35 + 0.65 * np.sin(np.pi * np.arange(size) / size)
    parts = []
    for _ in range(int(seconds * 1000 / _SYLLABLE_MS) + 1):
        pitch_hz = random.uniform(110, 220)
        voice = sum(np.sin(2 * np.pi * pitch_hz * k * time_s + random.uniform(0, 6)) / k for k in range(1, 18))
        breath = np.convolve(random.standard_normal(size), np.hanning(9), "same") * random.uniform(0.02, 0.2)
        part = shape * (voice + breath)
        parts.append(part / np.abs(part).max() * 9000)
    return np.concatenate(parts)[: int(seconds * BABBLE_HZ)].astype(np.int16)
