"""No storms: what one call learns of an endpoint holds for all."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import (
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
    ResumeRefused,
    ResumeTooSoon,
    SessionEnded,
    SettingRefused,
    SetupTimeout,
)
from providers.health import Circuit, EndpointHealth, HealthBook, HealthSettings
from providers.retry import Backoff, RetryPolicy

SETTINGS = HealthSettings(
    retries_per_minute=10, failures_to_open=3, open_s=5, longest_open_s=20, rejected_s=60, attempt_s=25
)
AWAY = ProviderUnavailable("away")
NO_KEY = ProviderRejected("no", endpoint_wide=True)


def broken(at: float = 0.0, settings: HealthSettings = SETTINGS) -> EndpointHealth:
    """Opened by failures at `at`."""
    health = EndpointHealth(settings)
    for _ in range(settings.failures_to_open):
        assert health.begin(at) == 0
        health.failed(AWAY, at)
    assert health.circuit(at) is Circuit.OPEN
    return health


def test_an_endpoint_that_is_well_lets_everybody_try() -> None:
    health = EndpointHealth(SETTINGS)
    for _ in range(100):
        assert health.begin(1.0) == 0
    assert health.circuit(1.0) is Circuit.CLOSED
    assert health.stats.attempts == 100


def test_failures_in_a_row_keep_everybody_away_for_a_while() -> None:
    health = broken(at=100.0)
    assert (health.allows(100.0), health.begin(101.0)) == (5.0, 4.0)
    assert health.stats.openings == 1
    assert health.circuit(104.99) is Circuit.OPEN
    assert health.circuit(105.0) is Circuit.HALF_OPEN


def test_a_success_between_failures_starts_the_count_anew() -> None:
    health = EndpointHealth(SETTINGS)
    for _ in range(10):
        health.failed(AWAY, 0.0)
        health.failed(SetupTimeout("slow"), 0.0)
        health.succeeded(0.0)
    assert health.circuit(0.0) is Circuit.CLOSED


def test_after_the_pause_one_attempt_goes_ahead_and_the_others_wait_for_it() -> None:
    health = broken()
    assert health.begin(5.0) == 0
    for _ in range(50):
        assert 0 < health.begin(5.1) < 1
    health.succeeded(5.8)
    for _ in range(50):
        assert health.begin(5.8) == 0


def test_each_attempt_that_fails_doubles_the_pause_up_to_its_limit() -> None:
    health, now, pauses = broken(), 0.0, []
    for _ in range(5):
        pauses.append(health.allows(now))
        now += pauses[-1]
        assert health.begin(now) == 0
        health.failed(AWAY, now)
    assert pauses == [5, 10, 20, 20, 20]
    health.succeeded(now)
    for _ in range(3):
        health.failed(AWAY, now)
    assert health.allows(now) == 5, "the next trouble is a new one"


def test_failures_that_began_before_the_pause_do_not_prolong_it() -> None:
    health = broken()
    for at in (0.5, 1.0, 4.9):
        health.failed(AWAY, at)
    assert health.allows(4.9) == pytest.approx(0.1)


def test_an_attempt_that_nothing_is_heard_of_makes_room_for_another() -> None:
    health = broken()
    assert health.begin(5.0) == 0
    assert health.begin(29.9) > 0
    assert health.begin(30.0) == 0
    assert health.begin(30.1) > 0


def test_an_attempt_that_was_cancelled_makes_room_at_once() -> None:
    health = broken()
    health.begin(5.0)
    health.abandoned(5.0)
    assert health.begin(5.1) == 0


def test_an_attempt_that_began_before_the_pause_leaves_the_one_that_all_wait_for_alone() -> None:
    health = EndpointHealth(SETTINGS)
    assert health.begin(-1.0) == health.begin(-2.0) == 0
    for _ in range(SETTINGS.failures_to_open):
        health.failed(AWAY, 0.0)
    assert health.begin(5.0) == 0
    health.abandoned(-1.0)
    health.failed(SessionEnded("the call ends"), 5.1, began=-2.0)
    assert health.begin(5.1) > 0
    health.failed(SessionEnded("the call ends"), 5.2, began=5.0)
    assert health.begin(5.2) == 0


def test_what_refuses_every_session_alike_keeps_everybody_away_at_once() -> None:
    health = EndpointHealth(SETTINGS)
    health.begin(0.0)
    health.failed(NO_KEY, 1.0)
    assert health.allows(1.0) == 60
    assert health.begin(61.0) == 0
    health.failed(NO_KEY, 62.0)
    assert health.allows(62.0) == 60


@pytest.mark.parametrize(
    "error",
    [
        ProviderRejected("a setting of this call", mend="mend it"),
        ResumeRefused("an old handle"),
        ResumeTooSoon("its earlier connection", code=1011, retry_after_s=0.25),
    ],
)
def test_what_is_about_one_session_keeps_nobody_away(error: ProviderError) -> None:
    health = EndpointHealth(SETTINGS)
    for _ in range(20):
        health.failed(error, 0.0)
    assert health.allows(0.0) == 0
    ill = broken()
    ill.begin(5.0)
    ill.failed(error, 5.5)
    assert ill.circuit(5.5) is Circuit.CLOSED, "it answered: it is well"


@pytest.mark.parametrize("error", [SettingRefused("speech.voice", "x", "no such voice"), SessionEnded("the call ends")])
def test_what_was_found_before_anybody_was_asked_says_nothing_of_the_endpoint(error: ProviderError) -> None:
    ill = broken()
    assert ill.begin(5.0) == 0
    ill.failed(error, 5.0)
    assert ill.circuit(5.0) is Circuit.HALF_OPEN
    assert ill.begin(5.0) == 0, "somebody else may try"
    health = EndpointHealth(SETTINGS)
    for _ in range(SETTINGS.failures_to_open):
        health.failed(AWAY, 0.0)
        health.failed(error, 0.0)
    assert health.circuit(0.0) is Circuit.OPEN, "the failures are in a row"
    assert health.stats.failures == SETTINGS.failures_to_open


def test_one_failure_after_a_wish_is_one_failure() -> None:
    health = EndpointHealth(SETTINGS)
    health.failed(ProviderUnavailable("busy", code=429, retry_after_s=1.0), 0.0)
    assert health.begin(1.0) == 0
    health.failed(AWAY, 1.5)
    assert health.circuit(1.5) is Circuit.CLOSED


@pytest.mark.parametrize(
    ("code", "wish_s", "pause_s"), [(429, 7.0, 7.0), (503, 900.0, 20.0), (429, None, 0.0), (1011, 7.0, 0.0)]
)
def test_a_wish_of_the_endpoint_holds_for_all(code: int, wish_s: float | None, pause_s: float) -> None:
    health = EndpointHealth(SETTINGS)
    health.failed(ProviderUnavailable("busy", code=code, retry_after_s=wish_s), 0.0)
    assert health.allows(0.0) == pause_s


def test_further_attempts_share_one_budget_and_first_ones_do_not() -> None:
    health = EndpointHealth(SETTINGS)
    for _ in range(1000):
        assert health.begin(0.0) == 0
    assert [health.reserve(0.0, 30.0) for _ in range(12)] == [0.0] * 10 + [None] * 2
    assert health.stats.refused_retries == 2
    assert health.reserve(0.0, 60.0) == 60.0


def test_a_further_attempt_is_booked_for_when_the_pause_is_over() -> None:
    health = broken()
    assert health.reserve(1.0, 30.0) == 5.0
    assert health.reserve(1.0, 4.0) is None


def test_backoff_takes_its_moments_from_the_endpoint() -> None:
    health = broken()
    backoff = Backoff(RetryPolicy(base_s=0.1, give_up_after_s=30), random.Random(1), health)
    delay_s = backoff.delay_s(AWAY, 1.0)
    assert delay_s == pytest.approx(4.0)


def test_endpoints_are_apart_and_each_is_one_for_all() -> None:
    book = HealthBook(SETTINGS)
    book.of("a").failed(NO_KEY, 0.0)
    assert book.of("a").allows(0.0) > 0
    assert book.of("b").allows(0.0) == 0
    assert book.of("a") is book.of("a")
    assert book.snapshot()["a"].failures == 1


def test_a_book_that_is_full_forgets_what_was_asked_for_longest_ago() -> None:
    book = HealthBook(SETTINGS)
    first = book.of("0")
    for number in range(256):
        book.of(str(number))
    book.of("1").begin(0.0)
    book.of("1").failed(AWAY, 0.0)
    assert book.of("0") is first
    for number in range(256, 511):
        book.of(str(number))
    assert book.of("0") is first, "asked for a moment ago"
    assert "1" not in book.snapshot()
    assert (book.totals().attempts, book.totals().failures) == (1, 1), "the counts are of all"


def test_what_keeps_everybody_away_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    health = HealthBook(SETTINGS).of("a.example")
    for at in range(SETTINGS.failures_to_open + 5):
        health.failed(AWAY, at / 10)
    for call in range(50):
        health.failed(NO_KEY, 2.0 + call / 100)
    assert health.stats.openings == 1
    health.succeeded(70.0)
    health.succeeded(71.0)
    assert [record.getMessage() for record in caplog.records] == [
        "endpoint is left alone endpoint=a.example for_s=5: away",
        f"endpoint is left alone endpoint=a.example for_s={SETTINGS.rejected_s:.0f}: {NO_KEY}",
        "endpoint is well again endpoint=a.example",
    ]


@given(data=st.data(), calls=st.integers(1, 20), seed=st.integers(0, 2**16))
def test_no_crowd_ever_storms_an_endpoint(data: st.DataObject, calls: int, seed: int) -> None:
    """Calls that try as fast as they are let, at an endpoint that is well or away by turns."""
    rng = random.Random(seed)
    health, now = EndpointHealth(SETTINGS), 0.0
    asks_at = {number: 0.0 for number in range(calls)}
    retries: list[float] = []
    running: list[tuple[float, bool]] = []
    away = data.draw(st.lists(st.booleans(), min_size=1, max_size=8))
    for _ in range(400):
        now, number = min((at, number) for number, at in asks_at.items())
        for ends, good in sorted(attempt for attempt in running if attempt[0] <= now):
            running.remove((ends, good))
            if good:
                health.succeeded(ends)
            else:
                health.failed(AWAY, ends)
        circuit = health.circuit(now)
        wait_s = health.begin(now)
        assert wait_s >= 0
        if wait_s > 0:
            asks_at[number] = now + wait_s
            continue
        assert circuit is not Circuit.OPEN
        if circuit is Circuit.HALF_OPEN:
            assert health.begin(now) > 0, "one at a time"
        running.append((now + rng.uniform(0.01, 1.0), not away[int(now / 30) % len(away)]))
        again = health.reserve(now + 1.0 + rng.uniform(0, 0.2), now + 600.0)
        assert again is not None and again > now
        retries.append(again)
        asks_at[number] = again
    for earlier, later in zip(retries, retries[SETTINGS.retries_per_minute :], strict=False):
        assert later - earlier >= 60 - 1e-6
