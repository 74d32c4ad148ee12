from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import ProviderRejected, ProviderUnavailable, ResumeRefused, SetupTimeout
from providers.retry import Backoff, RetryBudget, RetryPolicy

AWAY = ProviderUnavailable("away")


def test_waits_grow_up_to_the_ceiling_and_use_the_whole_range() -> None:
    policy = RetryPolicy(base_s=1.0, longest_s=4.0, give_up_after_s=3600)
    series = []
    for seed in range(200):
        backoff = Backoff(policy, random.Random(seed))
        series.append([backoff.delay_s(AWAY, now=0.0) or 0.0 for _ in range(5)])
    for attempt, ceiling_s in enumerate((1.0, 2.0, 4.0, 4.0, 4.0)):
        waits = [one[attempt] for one in series]
        assert 0.9 * ceiling_s < max(waits) <= ceiling_s
        assert min(waits) < 0.1 * ceiling_s


def test_the_ceiling_holds_however_often_it_failed() -> None:
    backoff = Backoff(RetryPolicy(base_s=0.01, longest_s=1.0, give_up_after_s=3600), random.Random(3))
    waits = [backoff.delay_s(AWAY, now=0.0) for _ in range(3000)]
    assert all(wait is not None and 0 <= wait <= 1.0 for wait in waits)


def test_same_seed_gives_the_same_waits() -> None:
    def waits() -> list[float | None]:
        backoff = Backoff(RetryPolicy(), random.Random(7))
        return [backoff.delay_s(AWAY, now=0.0) for _ in range(6)]

    assert waits() == waits()


@pytest.mark.parametrize("error", [ProviderRejected("key"), ResumeRefused("handle"), ValueError("bug")])
def test_what_fails_the_same_way_again_is_not_tried_again(error: Exception) -> None:
    assert Backoff(RetryPolicy(), random.Random(1)).delay_s(error, now=0.0) is None


def test_setup_timeout_is_tried_again() -> None:
    assert Backoff(RetryPolicy(), random.Random(1)).delay_s(SetupTimeout("slow"), now=0.0) is not None


def test_provider_wish_is_the_least_wait() -> None:
    backoff = Backoff(RetryPolicy(base_s=0.5), random.Random(3))
    wait = backoff.delay_s(ProviderUnavailable("busy", retry_after_s=7.0), now=100.0)
    assert wait is not None and 7.0 <= wait <= 7.5


def test_provider_wish_beyond_our_patience_gives_up() -> None:
    backoff = Backoff(RetryPolicy(give_up_after_s=30), random.Random(3))
    assert backoff.delay_s(ProviderUnavailable("busy", retry_after_s=31.0), now=0.0) is None


def test_patience_counts_from_the_first_failure_and_anew_after_a_success() -> None:
    backoff = Backoff(RetryPolicy(base_s=0.1, longest_s=0.1, give_up_after_s=10), random.Random(3))
    assert backoff.delay_s(AWAY, now=0.0) is not None
    assert backoff.delay_s(AWAY, now=9.8) is not None
    assert backoff.delay_s(AWAY, now=10.1) is None
    backoff.succeeded()
    assert backoff.failures == 0
    assert backoff.delay_s(AWAY, now=10.2) is not None


def test_patience_counts_from_the_loss_where_one_was_told_of() -> None:
    backoff = Backoff(RetryPolicy(base_s=0.1, longest_s=0.1, give_up_after_s=10), random.Random(3))
    assert backoff.until == math.inf
    assert (backoff.begin(0.0), backoff.begin(4.0)) == (0.0, 0.0)
    assert backoff.until == 10.0
    assert backoff.delay_s(AWAY, now=9.8) is not None
    assert backoff.delay_s(AWAY, now=10.1) is None
    backoff.succeeded()
    assert backoff.until == math.inf


def test_no_patience_means_no_second_attempt() -> None:
    assert Backoff(RetryPolicy(give_up_after_s=0), random.Random(3)).delay_s(AWAY, now=5.0) is None


def test_moments_are_booked_in_order_so_that_who_fails_together_does_not_try_together() -> None:
    budget = RetryBudget(3)
    assert budget.reserve(50.0) == 50.0
    assert budget.reserve(10.0) == 50.0, "after the one that is booked already"
    assert budget.reserve(55.0) == 55.0
    assert budget.reserve(56.0) == 110.0, "a minute after the first"


@given(
    st.integers(1, 20),
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 3)), min_size=8, max_size=60),
    st.integers(),
)
def test_no_minute_holds_more_attempts_than_the_budget(
    per_minute: int, failures: list[tuple[float, int]], seed: int
) -> None:
    budget = RetryBudget(per_minute)
    callers = [Backoff(RetryPolicy(give_up_after_s=3600), random.Random(seed + n), budget) for n in range(4)]
    now, attempts = 0.0, []
    for pause, caller in failures:
        now += pause
        delay = callers[caller].delay_s(AWAY, now)
        if delay is not None:
            assert delay >= 0
            attempts.append(now + delay)
    attempts.sort()
    for earlier, later in zip(attempts, attempts[per_minute:], strict=False):
        assert later - earlier >= RetryBudget.WINDOW_S - 1e-6


@given(
    st.floats(0.01, 60),
    st.floats(0.01, 600),
    st.floats(0, 3600),
    st.lists(st.tuples(st.floats(0, 30), st.none() | st.floats(0, 30)), max_size=30),
    st.integers(),
)
def test_each_wait_is_within_its_bounds_and_no_attempt_begins_after_the_patience(
    base_s: float, longest_s: float, give_up_after_s: float, failures: list[tuple[float, float | None]], seed: int
) -> None:
    policy = RetryPolicy(base_s=base_s, longest_s=longest_s, give_up_after_s=give_up_after_s)
    backoff = Backoff(policy, random.Random(seed))
    first = now = 100.0
    for number, (pause, wish_s) in enumerate(failures):
        now += pause if number else 0.0
        wait = backoff.delay_s(ProviderUnavailable("away", retry_after_s=wish_s), now)
        if wait is None:
            return
        least = wish_s or 0.0
        assert least - 1e-9 <= wait <= least + min(longest_s, base_s * 2.0**number) + 1e-9
        assert now + wait <= first + give_up_after_s + 1e-9
        now += wait


def test_a_crowd_that_gives_up_books_nothing() -> None:
    budget = RetryBudget(10)
    crowd = [Backoff(RetryPolicy(give_up_after_s=30), random.Random(n), budget) for n in range(500)]
    assert sum(caller.delay_s(AWAY, now=0.0) is not None for caller in crowd) == 10
    late = Backoff(RetryPolicy(give_up_after_s=30), random.Random(3), budget).delay_s(AWAY, now=61.0)
    assert late is not None and late < 1.0


def test_budget_needs_room_for_one() -> None:
    with pytest.raises(ValueError, match="per_minute = 0"):
        RetryBudget(0)
