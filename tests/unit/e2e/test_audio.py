"""The ears of the end-to-end tests hear what they claim to hear: a check that cannot fail would prove nothing."""

from __future__ import annotations

import numpy as np

from tests.e2e.audio import Samples, gaps, likeness, pitch_ratio, resampled, speechlike, stretch_ms

HZ = 16_000
SOUND = speechlike(3, HZ, 3.0)


def recorded(sound: Samples) -> Samples:
    """With some silence around it."""
    return np.concatenate([np.zeros(HZ // 4), sound, np.zeros(HZ // 4)])


def test_a_wrong_rate_is_heard_as_pitch_and_as_length() -> None:
    fast = recorded(resampled(SOUND, HZ, 15_900))
    assert abs(pitch_ratio(fast, SOUND, HZ) - 16_000 / 15_900) < 0.0005
    assert stretch_ms(fast, SOUND, HZ) < -15


def test_a_step_of_a_jitter_buffer_is_length_and_not_pitch() -> None:
    stepped = recorded(np.concatenate([SOUND[:20_000], SOUND[19_840:20_000], SOUND[20_000:]]))
    assert abs(pitch_ratio(stepped, SOUND, HZ) - 1) < 0.0005
    assert abs(stretch_ms(stepped, SOUND, HZ) - 10) < 0.5


def test_a_hole_is_found_where_the_source_has_none() -> None:
    holed = SOUND.copy()
    holed[16_000:16_480] = 0
    assert gaps(SOUND, HZ, source=SOUND) == []
    assert [round(length) for _, length in gaps(holed, HZ, source=SOUND)] == [30]


def test_another_sound_is_not_alike() -> None:
    assert likeness(SOUND, recorded(SOUND), HZ) > 0.99
    assert likeness(SOUND, recorded(speechlike(4, HZ, 3.0)), HZ) < 0.5
