"""The slope of a soak is that of the line, from the end of the warm-up on."""

from __future__ import annotations

import pytest

from bench.soak import Sample, slope_mb


def sample(at_s: float, resident_mb: float) -> Sample:
    return Sample(at_s=at_s, resident_mb=resident_mb, tasks=1, fds=1, threads=1, handles=0)


def test_growth_is_told_for_ten_minutes_and_without_the_warm_up() -> None:
    samples = [sample(float(at), 100 + at if at < 300 else 400 + at * 0.01) for at in range(0, 1800, 5)]
    assert slope_mb(samples, after_s=300) == pytest.approx(6.0)


def test_too_few_samples_tell_nothing() -> None:
    assert slope_mb([sample(0, 1), sample(5, 100)], after_s=0) == 0
