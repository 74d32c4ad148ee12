"""The benchmark's ear: silence is found to the millisecond, and so is the end of what was heard."""

from __future__ import annotations

import numpy as np
import pytest

from bench.barge_in import ended_at_ms, loudest_dbfs, silence_after
from bench.markers import Capture, sound

RATE_HZ = 48_000
FRAME = 480
REPLY = sound(7, RATE_HZ, 3000)


def capture(*parts: np.ndarray[tuple[int], np.dtype[np.int16]], starts_at: float = 100.0) -> Capture:
    """These sounds in frames of 10 ms, from a time on."""
    samples = np.concatenate(parts).astype(np.int16)
    positions = np.arange(0, len(samples), FRAME)
    return Capture(RATE_HZ, samples, positions, starts_at + positions / RATE_HZ)


def silence(ms: int) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return np.zeros(ms * RATE_HZ // 1000, dtype=np.int16)


def test_silence_is_where_the_sound_ends() -> None:
    ear = capture(REPLY[: 1234 * 48], silence(1000))
    sample = silence_after(ear, 101.0)
    assert sample is not None
    assert ear.moment(sample) == pytest.approx(101.234, abs=0.0015)


def test_a_short_pause_is_no_silence() -> None:
    ear = capture(REPLY[:48_000], silence(90), REPLY[48_000:72_000], silence(500))
    sample = silence_after(ear, 100.99)
    assert sample is not None
    assert ear.moment(sample) == pytest.approx(101.59, abs=0.0015)


def test_sound_that_goes_on_is_told() -> None:
    assert silence_after(capture(REPLY), 100.5) is None


def test_the_end_in_the_reply_is_found_in_noise_and_at_another_level() -> None:
    heard = (REPLY[: 1700 * 48] * 0.5 + np.random.default_rng(1).normal(0, 200, 1700 * 48)).astype(np.int16)
    ear = capture(silence(250), heard, silence(500))
    sample = silence_after(ear, 101.5)
    assert sample is not None
    assert ended_at_ms(ear, sample, REPLY) == pytest.approx(1700, abs=1.5)


def test_another_sound_has_no_place_in_the_reply() -> None:
    ear = capture(sound(8, RATE_HZ, 1000), silence(500))
    assert ended_at_ms(ear, 48_000, REPLY) is None


def test_what_sounds_again_afterwards_is_seen() -> None:
    ear = capture(REPLY[:48_000], silence(500), REPLY[48_000:48_480], silence(500))
    assert loudest_dbfs(ear, 48_000, 96_000) > -30
    assert loudest_dbfs(ear, 48_000, 71_000) < -90
