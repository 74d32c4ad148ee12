"""So many a second, twice as many at once."""

from __future__ import annotations

from bridge.core.budget import Budget


def test_a_burst_then_a_steady_stream() -> None:
    budget = Budget(per_s=8.0)
    assert sum(budget.take(5.0) for _ in range(50)) == 16
    assert budget.wait_s == 0.125
    assert [budget.take(5.0 + n / 8) for n in range(1, 4)] == [True] * 3
    assert not budget.take(5.375)
    assert sum(budget.take(99.0) for _ in range(50)) == 16, "what was not used is not saved up"


def test_less_than_one_a_second_is_one_at_first() -> None:
    budget = Budget(per_s=0.1)
    assert [budget.take(0.0), budget.take(9.0), budget.take(11.0)] == [True, False, True]
