from __future__ import annotations

import numpy as np
import pytest

from bench.markers import Capture, find, sound

RATE_HZ = 24_000
FRAME = RATE_HZ // 100


def heard(*marks: tuple[int, int], size: int = 2 * RATE_HZ, began: float = 100.0) -> Capture:
    """10 ms frames that came on time, with the marker of each seed at its sample, under noise."""
    stream = np.random.default_rng(5).normal(0, 300, size)
    for seed, sample in marks:
        marker = sound(seed, RATE_HZ)
        stream[sample : sample + len(marker)] += 0.5 * marker
    positions = np.arange(0, size, FRAME, dtype=np.int64)
    return Capture(RATE_HZ, stream.astype(np.int16), positions, began + (positions + FRAME) / RATE_HZ)


def test_a_marker_is_found_to_the_sample_and_timed_by_the_frame_that_holds_its_first() -> None:
    found = find(heard((7, 12_345)), 7, 100.0, 103.0)
    assert found is not None
    assert found.sample == 12_345
    assert found.at == pytest.approx(100.0 + (12_345 // FRAME + 1) * 0.01)


def test_another_marker_is_not_mistaken_for_it() -> None:
    assert find(heard((8, 12_345)), 7, 100.0, 103.0) is None


def test_only_what_came_in_time_counts() -> None:
    capture = heard((7, 30_000))
    assert find(capture, 7, 100.0, 101.0) is None
    assert find(capture, 7, 101.0, 102.0) is not None


def test_a_capture_comes_back_from_its_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(tmp_path_factory.mktemp("captures") / "a.npz")
    heard((7, 12_345)).save(path)
    found = find(Capture.load(path), 7, 100.0, 103.0)
    assert found is not None and found.sample == 12_345
