"""The slope of a soak is that of the line, from the end of the warm-up on."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bench.soak import Sample, descriptors, heap_mb, slope_mb


def sample(at_s: float, resident_mb: float) -> Sample:
    return Sample(at_s=at_s, resident_mb=resident_mb, heap_mb=at_s, tasks=1, fds=1, threads=1, handles=0)


def test_growth_is_told_for_ten_minutes_and_without_the_warm_up() -> None:
    samples = [sample(float(at), 100 + at if at < 300 else 400 + at * 0.01) for at in range(0, 1800, 5)]
    assert slope_mb(samples, after_s=300) == pytest.approx(6.0)
    assert slope_mb(samples, after_s=300, of="heap_mb") == pytest.approx(600.0)


def test_too_few_samples_tell_nothing() -> None:
    assert slope_mb([sample(0, 1), sample(5, 100)], after_s=0) == 0


def test_open_descriptors_are_told_by_what_they_are(tmp_path: Path) -> None:
    before = descriptors()
    with (tmp_path / "a.txt").open("w"), socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert descriptors() - before == {f"tcp {port} to 0 state 0A": 1, str(tmp_path / "a.txt"): 1}
    assert not descriptors() - before


def test_memory_that_is_taken_and_given_back_shows_in_the_heap() -> None:
    before = heap_mb()
    taken = [bytes(900) for _ in range(20_000)]
    assert 15 < heap_mb() - before < 30
    del taken
    assert heap_mb() - before < 2
