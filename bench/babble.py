"""Constant talk for load measurements: syllables of noise and tone, without pauses that an encoder could skip."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from providers.signal import wav
from providers.signal.resample import Int16Array

__all__ = ["BABBLE_HZ", "write_babble", "write_turns"]

BABBLE_HZ = 24_000
_SYLLABLE_MS = 180


def write_babble(path: Path, seconds: float) -> Path:
    """A WAV of that length, always the same."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        wav.write(path, _babble(seconds).tobytes(), BABBLE_HZ)
    return path


def write_turns(path: Path, *, turns: int = 10, speech_s: float = 2.5, pause_s: float = 4.5) -> Path:
    """The same talk in turns, with room for an answer after each."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        speech = _babble(turns * speech_s).reshape(turns, -1)
        pauses = np.zeros((turns, int(pause_s * BABBLE_HZ)), np.int16)
        wav.write(path, np.concatenate((speech, pauses), axis=1).tobytes(), BABBLE_HZ)
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
