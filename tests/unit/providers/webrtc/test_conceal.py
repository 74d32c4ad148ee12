from __future__ import annotations

import numpy as np
import pytest

from providers.signal.resample import Int16Array
from providers.webrtc.conceal import Concealer, lengthened, loudness, pitch_samples, shortened

RATE_HZ = 24_000


def voice(hertz: float, ms: int, start_ms: int = 0) -> Int16Array:
    """A tone with overtones, as vowels have."""
    at = (np.arange(RATE_HZ * ms // 1000) + RATE_HZ * start_ms // 1000) / RATE_HZ
    parts = np.stack([np.sin(2 * np.pi * hertz * k * at) * 5_000 / k for k in (1, 2, 3)])
    whole: Int16Array = parts.sum(axis=0).astype(np.int16)
    return whole


def alike(one: Int16Array, other: Int16Array) -> float:
    return float(np.corrcoef(one.astype(float), other.astype(float))[0, 1])


@pytest.mark.parametrize("hertz", [75, 110, 180, 260, 390])
def test_the_pitch_of_a_voice_is_found(hertz: float) -> None:
    period, likeness = pitch_samples(voice(hertz, 60).astype(np.float32), RATE_HZ)
    assert likeness > 0.97
    assert min(abs(period / times - RATE_HZ / hertz) for times in range(1, 8)) < 2


@pytest.mark.parametrize("hertz", [90, 150, 230])
def test_a_lost_frame_of_a_voice_is_nearly_what_was_lost(hertz: float) -> None:
    concealer = Concealer(RATE_HZ)
    concealer.heard(voice(hertz, 60))
    filled = concealer.conceal(480)
    assert alike(filled, voice(hertz, 20, 60)) > 0.9
    joined = concealer.join(voice(hertz, 20, 80))
    assert alike(joined, voice(hertz, 20, 80)) > 0.95 and concealer.made == 0


def test_nothing_clicks_at_the_edges_of_a_hole() -> None:
    concealer = Concealer(RATE_HZ)
    before = voice(150, 60)
    concealer.heard(before)
    filled = concealer.conceal(480)
    whole = np.concatenate([before, filled, concealer.join(voice(150, 20, 83))]).astype(float)
    natural = np.abs(np.diff(before.astype(float))).max()
    assert np.abs(np.diff(whole)).max() < 1.5 * natural


def test_a_long_hole_fades_into_silence() -> None:
    concealer = Concealer(RATE_HZ)
    concealer.heard(voice(150, 60))
    levels = [loudness(concealer.conceal(480)) for _ in range(8)]
    assert levels[0] > 3_000 and levels == sorted(levels, reverse=True)
    assert levels[5:] == [0.0, 0.0, 0.0]


def test_a_hole_at_the_very_beginning_is_silence() -> None:
    assert not Concealer(RATE_HZ).conceal(480).any()


def test_noise_is_filled_with_noise_of_its_loudness() -> None:
    noise = np.random.default_rng(1).normal(0, 1_000, 1_440).astype(np.int16)
    concealer = Concealer(RATE_HZ)
    concealer.heard(noise)
    assert 700 < loudness(concealer.conceal(480)) < 1_300


@pytest.mark.parametrize("hertz", [90, 150, 230])
def test_time_steps_keep_the_pitch(hertz: float) -> None:
    source = voice(hertz, 60)
    for changed in (shortened(source, RATE_HZ, 480), lengthened(source, RATE_HZ, 480)):
        step = abs(len(changed) - len(source))
        assert 60 <= step <= 384
        steps = np.abs(np.diff(changed.astype(float))).max()
        assert steps < 1.3 * np.abs(np.diff(source.astype(float))).max()
        # A whole number of periods went or came: the wave goes on where it was.
        assert alike(changed[-480:], source[-480:]) > 0.99
        assert abs(step / (RATE_HZ / hertz) - round(step / (RATE_HZ / hertz))) < 0.05


def test_time_steps_keep_within_their_limit() -> None:
    source = voice(150, 60)
    assert len(shortened(source, RATE_HZ, 30)) == len(source)
    assert len(source) - len(shortened(source, RATE_HZ, 170)) <= 170


def test_noise_is_left_alone_unless_forced() -> None:
    noise = np.random.default_rng(1).normal(0, 1_000, 1_440).astype(np.int16)
    assert shortened(noise, RATE_HZ, 480) is noise and lengthened(noise, RATE_HZ, 480) is noise
    assert len(shortened(noise, RATE_HZ, 480, force=True)) < 1_440
