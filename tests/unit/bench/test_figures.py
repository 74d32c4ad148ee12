from __future__ import annotations

import pytest

from bench.figures import Table, Verdict, lateness_ms, spread


def test_a_spread_without_samples_is_zero() -> None:
    assert spread([]).count == 0


def test_a_spread_names_the_middle_and_the_tail() -> None:
    found = spread([float(value) for value in range(101)])
    assert (found.p50, found.p95, found.worst) == (50.0, 95.0, 100.0)


def test_a_frame_is_late_against_the_beat_of_its_neighbours() -> None:
    times = [index * 0.02 for index in range(400)]
    times[200] += 0.015
    late = lateness_ms(times, 0.02)
    assert late[200] == pytest.approx(15.0, abs=0.01)
    assert max(late[:200] + late[201:]) < 0.01


def test_a_clock_that_drifts_is_not_late() -> None:
    assert max(lateness_ms([index * 0.020_01 for index in range(4000)], 0.02)) < 1.0


def test_a_verdict_says_whether_its_target_was_kept() -> None:
    assert "kept" in Verdict("a", 9.0, "ms", 10.0).line()
    assert "MISSED" in Verdict("a", 11.0, "ms", 10.0).line()


def test_columns_of_a_table_stand_below_each_other() -> None:
    lines = Table("title", ("name", "ms"), [("a", "1.0"), ("longer", "10.0")]).text().splitlines()
    assert lines[-2:] == ["  a        1.0", "  longer  10.0"]
