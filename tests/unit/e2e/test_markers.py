"""The instrument that counts markers: it finds each, and every fault that it is there to find."""

from __future__ import annotations

import numpy as np
import pytest

from tests.e2e.audio import Samples, from_pcm, level_dbfs, to_pcm
from tests.e2e.markers import (
    EVERY_MS,
    QUIET_DBFS,
    delays_ms,
    doubled_between,
    find_markers,
    judge,
    lateness_ms,
    lost_between,
    moved_between,
    sound,
    track,
)

HZ = 16_000
NUMBERS = range(100, 160)
STEP = HZ * EVERY_MS // 1000


def heard(samples: Samples, level_dbfs: float = -62.0) -> Samples:
    """As it comes through 16 bits with some hiss."""
    hiss = np.random.default_rng(1).standard_normal(len(samples)) * 10 ** (level_dbfs / 20)
    return from_pcm(to_pcm(samples + hiss))


def speaks(number: int) -> bool:
    return number % 10 < 4


@pytest.mark.parametrize("rate_hz", [16_000, 24_000, 48_000])
def test_every_marker_is_found_loud_or_quiet_at_any_rate(rate_hz: int) -> None:
    report = judge(find_markers(heard(track(NUMBERS, rate_hz, speaks)), rate_hz, NUMBERS), NUMBERS)
    assert report.complete, report
    assert all(abs(step - EVERY_MS) < 1 for step in report.steps_ms)


def test_quiet_ones_are_too_quiet_for_a_detector() -> None:
    assert level_dbfs(sound(7, HZ, QUIET_DBFS)) == pytest.approx(QUIET_DBFS, abs=0.1)


def test_a_marker_that_is_cut_out_is_missing_and_the_step_tells() -> None:
    said = track(NUMBERS, HZ, speaks)
    report = judge(find_markers(heard(np.delete(said, slice(20 * STEP, 23 * STEP))), HZ, NUMBERS), NUMBERS)
    assert report.missing == [120, 121, 122]
    assert min(report.steps_ms) < 30


def test_markers_that_come_again_are_told() -> None:
    said = track(NUMBERS, HZ, speaks)
    again = np.concatenate((said[: 30 * STEP], said[25 * STEP :]))
    report = judge(find_markers(heard(again), HZ, NUMBERS), NUMBERS)
    assert report.twice == [125, 126, 127, 128, 129] and report.missing == []


def test_markers_that_change_places_are_told() -> None:
    said = track(NUMBERS, HZ, speaks)
    swapped = np.concatenate(
        (said[: 10 * STEP], said[15 * STEP : 20 * STEP], said[10 * STEP : 15 * STEP], said[20 * STEP :])
    )
    report = judge(find_markers(heard(swapped), HZ, NUMBERS), NUMBERS)
    assert report.out_of_order and not report.missing and not report.twice


def test_silence_in_between_shows_in_the_steps() -> None:
    said = track(NUMBERS, HZ, speaks)
    stretched = np.concatenate((said[: 30 * STEP], np.zeros(HZ // 5), said[30 * STEP :]))
    report = judge(find_markers(heard(stretched), HZ, NUMBERS), NUMBERS)
    assert report.complete and max(report.steps_ms) == pytest.approx(300, abs=1)


def test_a_marker_that_a_silence_tears_in_two_did_not_come_twice() -> None:
    said = track(NUMBERS, HZ, speaks)
    middle = 30 * STEP + HZ * 30 // 1000
    torn = np.concatenate((said[:middle], np.zeros(HZ // 5), said[middle:]))
    marks = find_markers(heard(torn), HZ, NUMBERS)
    assert [mark.number for mark in marks].count(130) == 2
    assert judge(marks, NUMBERS).twice == []


def test_between_two_places_a_marker_is_lost_only_if_it_was_clearly_there_before() -> None:
    said = track(NUMBERS, HZ, speaks)
    less = said.copy()
    less[20 * STEP : 21 * STEP] = 0
    faint = said.copy()
    noise = np.random.default_rng(2).standard_normal(STEP) * 0.25
    faint[20 * STEP : 21 * STEP] += noise
    whole, without, worse = (judge(find_markers(heard(each), HZ, NUMBERS), NUMBERS) for each in (said, less, faint))
    assert lost_between(whole, without) == [120]
    assert lost_between(worse, without) == [] and lost_between(without, whole) == []


def test_between_two_places_a_marker_is_doubled_only_if_it_was_there_once_before() -> None:
    said = track(NUMBERS, HZ, speaks)
    twice = np.concatenate((said[: 30 * STEP], said[29 * STEP :]))
    once, again = (judge(find_markers(heard(each), HZ, NUMBERS), NUMBERS) for each in (said, twice))
    assert doubled_between(once, again) == [129] and doubled_between(again, again) == []


def test_silence_that_is_put_in_between_two_places_is_told() -> None:
    said = track(NUMBERS, HZ, speaks)
    stretched = np.concatenate((said[: 30 * STEP], np.zeros(HZ // 50), said[30 * STEP :]))
    before, after = (judge(find_markers(heard(each), HZ, NUMBERS), NUMBERS) for each in (said, stretched))
    assert moved_between(before, after, by_ms=5) == [130] and moved_between(after, after, by_ms=5) == []


def test_delays_are_told_from_place_to_place() -> None:
    came = {number: 5.0 + number * 0.1 for number in NUMBERS}
    after = {number: at + 0.02 + (0.3 if number == 130 else 0.0) for number, at in came.items() if number != 140}
    took = delays_ms(came, after)
    assert took[130] == pytest.approx(300) and took[131] == pytest.approx(0, abs=1e-6) and 140 not in took


def test_lateness_is_measured_against_the_usual_way() -> None:
    came = {number: 5.0 + number * 0.1 + (0.3 if 120 <= number < 123 else 0.0) for number in NUMBERS}
    late = lateness_ms(came)
    assert late[121] == pytest.approx(300) and late[150] == pytest.approx(0, abs=1e-6)
