"""The judge of a bad network tells holes, delay and bad speech from good ones."""

from __future__ import annotations

import numpy as np
import pytest

from bench.markers import Capture
from tests.e2e.audio import Samples, to_pcm
from tests.e2e.programme import CUT_S, TOTAL_S, judge, said

HZ = 16_000
_FRAME = HZ // 50
_BEGAN = 100.0
_CUT_ENDS_AT = _BEGAN + 21.0 + CUT_S


@pytest.fixture(scope="module")
def programme() -> Samples:
    return said(HZ)


def ear(heard: Samples, late_s: float = 0.0) -> Capture:
    """In frames of 20 ms, in real time."""
    samples = np.frombuffer(to_pcm(heard), dtype="<i2")
    positions = np.arange(0, len(samples), _FRAME)
    return Capture(HZ, samples, positions, _BEGAN + late_s + positions / HZ)


def test_a_perfect_line_is_perfect(programme: Samples) -> None:
    heard = programme.copy()
    heard[21 * HZ : 23 * HZ] = 0
    report = judge("perfect", ear(heard, 0.03), _CUT_ENDS_AT)
    assert report.likeness > 0.99
    assert report.lost_percent == 0
    assert 0 <= report.back_s <= 0.15
    assert (report.bad_ms, report.bad_again_ms, report.clean_again_ms) == pytest.approx((0, 0, 0), abs=1)


def test_delay_that_stays_is_seen(programme: Samples) -> None:
    silence = np.zeros(HZ // 5)
    heard = np.concatenate([programme[: 21 * HZ], np.zeros(2 * HZ), silence, programme[23 * HZ :]])
    report = judge("late", ear(heard), _CUT_ENDS_AT)
    assert report.bad_ms == pytest.approx(0, abs=1)
    assert (report.bad_again_ms, report.clean_again_ms) == pytest.approx((200, 200), abs=1)
    assert 0.2 <= report.back_s <= 0.35


def test_lost_frames_are_counted_and_cost_likeness(programme: Samples) -> None:
    rng = np.random.default_rng(1)
    heard = programme.copy()
    for frame in range(6 * 50, 34 * 50):
        if rng.random() < 0.3:
            heard[frame * _FRAME : (frame + 1) * _FRAME] = 0
    report = judge("holes", ear(heard), _CUT_ENDS_AT)
    assert report.likeness < 0.9
    assert report.lost_percent > 3


def test_noise_instead_of_speech_is_not_alike(programme: Samples) -> None:
    heard = programme.copy()
    heard[10 * HZ : 21 * HZ] = np.random.default_rng(2).normal(0, 0.1, 11 * HZ)
    assert judge("noise", ear(heard), _CUT_ENDS_AT).likeness < 0.35


def test_audio_that_never_comes_back_is_seen(programme: Samples) -> None:
    heard = programme.copy()
    heard[21 * HZ :] = 0
    with pytest.raises(ValueError, match="none of the markers from 32 to 33"):
        judge("gone", ear(heard), _CUT_ENDS_AT)


def test_the_programme_is_as_long_as_it_says(programme: Samples) -> None:
    assert len(programme) == TOTAL_S * HZ
