"""Levels in dBFS."""

from __future__ import annotations

import numpy as np
import pytest

from providers.signal.level import SILENCE_DBFS, amplitude, level_dbfs, peak_dbfs, power


def test_a_full_scale_sine_has_minus_three_dbfs() -> None:
    wave = np.rint(32767 * np.sin(np.arange(48_000) * 2 * np.pi * 1000 / 48_000)).astype(np.int16)
    assert level_dbfs(wave) == pytest.approx(-3.01, abs=0.01)
    assert peak_dbfs(wave) == pytest.approx(0, abs=0.001)


def test_half_the_amplitude_is_six_decibels_less() -> None:
    loud, soft = np.full(480, 16_000, dtype=np.int16), np.full(480, -8_000, dtype=np.int16)
    assert level_dbfs(loud) - level_dbfs(soft) == pytest.approx(6.02, abs=0.01)
    assert peak_dbfs(loud) - peak_dbfs(soft) == pytest.approx(6.02, abs=0.01)


@pytest.mark.parametrize("size", [0, 480])
def test_silence_and_nothing_have_a_finite_level(size: int) -> None:
    silence = np.zeros(size, dtype=np.int16)
    assert level_dbfs(silence) == peak_dbfs(silence) == SILENCE_DBFS and power(silence) == 0.0


def test_the_loudest_negative_sample_is_full_scale() -> None:
    assert peak_dbfs(np.array([-32768], dtype=np.int16)) == 0.0
    assert power(np.array([-32768], dtype=np.int16)) == 1.0


def test_a_level_is_an_amplitude() -> None:
    assert amplitude(-20.0) == pytest.approx(0.1) and amplitude(0.0) == 1.0
