"""The bus: one speaker untouched and at once, several aligned and unclipped, silence at the pace of real time."""

from __future__ import annotations

import gc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.audio.mix import Mixer, MixerSettings
from bridge.core.words import ParticipantId

ANN, BEN, CAT = ParticipantId("ann"), ParticipantId("ben"), ParticipantId("cat")
SILENCE = bytes(960)


def frame(seed: int, peak: int = 8000) -> bytes:
    return np.random.default_rng(seed).integers(-peak, peak, 480, dtype=np.int16).tobytes()


def level(value: int) -> bytes:
    return np.full(480, value, np.int16).tobytes()


def samples(audio: bytes) -> npt.NDArray[np.int16]:
    return np.frombuffer(audio, np.int16)


def mixer_of(*participants: ParticipantId, **overrides: float) -> Mixer:
    mixer = Mixer(settings=MixerSettings(**overrides))  # type: ignore[arg-type]
    for participant in participants:
        mixer.add(participant)
    return mixer


def both_speaking() -> Mixer:
    """Ann and Ben are active and nothing of theirs waits, at 0.0."""
    mixer = mixer_of(ANN, BEN)
    mixer.push(ANN, SILENCE, -0.03)
    mixer.push(BEN, SILENCE, -0.03)
    mixer.due(0.0)
    return mixer


def test_a_lone_speaker_passes_at_once_and_unchanged() -> None:
    mixer = mixer_of(ANN)
    for n in range(50):
        audio = frame(n)
        (out,) = mixer.push(ANN, audio, n * 0.02)
        assert out is audio


def test_a_lone_speaker_beside_a_silent_participant_waits_for_nobody() -> None:
    mixer = mixer_of(ANN, BEN)
    assert mixer.push(ANN, frame(1), 0.0) == [frame(1)]


def test_frames_of_odd_sizes_are_cut_anew() -> None:
    mixer = mixer_of(ANN)
    audio = b"".join(frame(n) for n in range(7))
    out: list[bytes] = []
    sizes = [1, 959, 961, 1000, 479, 1441, 1879]
    for size, start in zip(sizes, np.cumsum([0, *sizes[:-1]]), strict=True):
        out += mixer.push(ANN, audio[start : start + size], 0.0)
    assert {len(piece) for piece in out} == {960}
    assert b"".join(out) == audio[: 960 * 7]


def test_two_speakers_are_summed_slot_by_slot() -> None:
    mixer = both_speaking()
    out: list[bytes] = []
    for n in range(1, 20):
        out += mixer.push(ANN, level(1000 + n), n * 0.02)
        out += mixer.push(BEN, level(2000), n * 0.02 + 0.008)
    assert [int(samples(audio)[0]) for audio in out[-10:]] == [3000 + n for n in range(10, 20)]


def test_the_sum_never_clips_and_keeps_its_level() -> None:
    mixer = both_speaking()
    t = np.arange(480) / 24_000
    loud_a = (30_000 * np.sin(2 * np.pi * 300 * t)).astype(np.int16)
    loud_b = (30_000 * np.sin(2 * np.pi * 310 * t)).astype(np.int16)
    mixer.push(ANN, loud_a.tobytes(), 0.02)
    (out,) = mixer.push(BEN, loud_b.tobytes(), 0.02)
    mixed = samples(out).astype(int)
    total = loud_a.astype(int) + loud_b.astype(int)
    assert np.all(np.sign(mixed) * np.sign(total) >= 0)
    assert np.abs(mixed).max() <= 32_767
    order = np.argsort(np.abs(total))
    assert np.all(np.diff(np.abs(mixed)[order]) >= 0)  # bent, not folded


def test_two_people_at_normal_level_are_within_a_decibel_of_their_true_sum() -> None:
    rng = np.random.default_rng(3)
    mixer = both_speaking()
    true_power = mixed_power = 0.0
    for n in range(1, 100):
        a, b = (rng.laplace(0, 2300, 480).clip(-32_768, 32_767).astype(np.int16) for _ in "ab")  # -20 dBFS
        mixer.push(ANN, a.tobytes(), n * 0.02)
        (out,) = mixer.push(BEN, b.tobytes(), n * 0.02)
        true_power += float(np.sum((a.astype(float) + b) ** 2))
        mixed_power += float(np.sum(samples(out).astype(float) ** 2))
    assert abs(10 * np.log10(mixed_power / true_power)) < 0.2


def test_one_loud_speaker_beside_digital_silence_is_untouched() -> None:
    mixer = both_speaking()
    mixer.push(BEN, SILENCE, 0.02)
    assert mixer.push(ANN, level(32_767), 0.02) == [level(32_767)]


def test_a_missing_frame_holds_the_others_no_longer_than_the_slack() -> None:
    mixer = mixer_of(ANN, BEN, slack_ms=30)
    mixer.push(BEN, level(1), 0.0)
    assert mixer.push(ANN, level(2), 0.01) == []
    assert mixer.deadline() == pytest.approx(0.04)
    assert mixer.due(0.03) == []
    assert mixer.due(0.04) == [level(2)]
    assert mixer.stats.incomplete_slots == 1


def test_a_late_frame_is_kept_and_comes_one_slot_later() -> None:
    mixer = both_speaking()
    mixer.push(ANN, level(10), 0.02)
    assert mixer.due(0.05) == [level(10)]
    mixer.push(BEN, level(500), 0.051)
    out = mixer.push(ANN, level(20), 0.052)
    assert out == [level(520)]


def test_a_participant_who_lags_is_bounded_and_counted() -> None:
    mixer = mixer_of(ANN, BEN, late_frames=3)
    for n in range(20):
        mixer.push(ANN, level(1000), n * 0.02)
        mixer.due(n * 0.02 + 0.035) if n % 2 else None
        mixer.push(BEN, level(1000), n * 0.02)
    for _ in range(10):
        mixer.push(BEN, level(3000), 0.4)
    assert mixer.stats.late_dropped_frames >= 6


def test_after_a_stall_of_ours_nobody_loses_a_frame() -> None:
    mixer = both_speaking()
    out: list[bytes] = []
    for n in range(10):
        out += mixer.push(ANN, level(100 + n), 0.2)
    for _ in range(10):
        out += mixer.push(BEN, level(1000), 0.2)
    assert [int(samples(audio)[0]) for audio in out] == [1100 + n for n in range(10)]
    assert mixer.stats.late_dropped_frames == 0


def test_one_who_falls_silent_is_not_waited_for() -> None:
    mixer = mixer_of(ANN, BEN)
    for n in range(5):
        mixer.push(BEN, level(1), n * 0.02)
        mixer.push(ANN, level(1), n * 0.02)
    for n in range(5, 10):
        mixer.push(ANN, frame(n), n * 0.02)
        mixer.due(n * 0.02 + 0.015)
    assert mixer.push(ANN, frame(99), 0.2) == [frame(99)]


def test_one_who_is_removed_is_heard_to_the_end_and_not_waited_for() -> None:
    mixer = both_speaking()
    mixer.push(BEN, level(700), 0.02)
    mixer.push(BEN, level(800)[:480], 0.02)
    mixer.remove(BEN)
    assert mixer.participants == (ANN,)
    out = mixer.push(ANN, level(100), 0.03)
    assert out == [level(800)]
    (last,) = mixer.push(ANN, level(100), 0.05)
    assert samples(last)[0] == 900
    assert samples(last)[-1] == 100
    assert mixer.push(ANN, level(100), 0.07) == [level(100)]
    assert mixer.push(BEN, level(1), 0.07) == []
    assert mixer.stats.unknown_frames == 1


def test_the_last_words_of_the_only_one_are_not_lost_when_he_leaves() -> None:
    mixer = mixer_of(ANN)
    mixer.push(ANN, level(5) + level(6)[:480], 0.0)
    mixer.remove(ANN)
    (last,) = mixer.due(0.02)
    assert samples(last)[0] == 6
    assert samples(last)[-1] == 0
    assert mixer.participants == ()


def test_a_gap_is_filled_with_silence_after_the_hold() -> None:
    mixer = mixer_of(ANN, hold_ms=60)
    mixer.push(ANN, frame(1), 1.0)
    assert mixer.due(1.04) == []
    assert mixer.deadline() == pytest.approx(1.06)
    assert mixer.due(1.06) == [SILENCE] * 2
    assert mixer.deadline() == pytest.approx(1.08)
    assert mixer.due(1.08) == [SILENCE]


def test_silence_comes_in_real_time() -> None:
    mixer = mixer_of(ANN)
    out = []
    mixer.due(5.0)
    for _ in range(100):
        now = mixer.deadline()
        assert now is not None
        out += mixer.due(now)
    assert out == [SILENCE] * 100
    assert mixer.deadline() == pytest.approx(5.0 + 2.02)


def test_a_burst_after_a_stall_drains_at_once_and_the_surplus_is_taken_back_in_the_next_gap() -> None:
    mixer = mixer_of(ANN)
    out: list[bytes] = []
    out += mixer.push(ANN, frame(0), 0.0)
    now = 0.0
    while now < 0.5:
        now += 0.02
        out += mixer.due(now)
    burst = [frame(n) for n in range(1, 26)]
    for audio in burst:
        out += mixer.push(ANN, audio, 0.5)
    assert out[-25:] == burst
    while now < 3.0:
        now += 0.02
        out += mixer.due(now)
    assert len(out) * 0.02 == pytest.approx(3.0, abs=0.041)


def filled(mixer: Mixer, since: float, seconds: float) -> int:
    return sum(len(mixer.due(since + n * 0.02)) for n in range(1, round(seconds / 0.02) + 1))


def test_an_empty_room_is_not_filled_with_silence() -> None:
    mixer = mixer_of()
    mixer.due(0.0)
    assert filled(mixer, 0.0, 60.0) == 0
    deadline = mixer.deadline()
    assert deadline is not None and deadline > 60.0
    mixer.add(ANN)
    assert mixer.push(ANN, frame(2), 60.1) == [frame(2)]


def test_someone_who_is_there_and_silent_is_silence_without_end() -> None:
    mixer = mixer_of(ANN)
    mixer.due(0.0)
    assert filled(mixer, 0.0, 60.0) == pytest.approx(3000, abs=1)


def test_silence_goes_on_for_a_while_after_the_last_one_muted_and_comes_back_with_him() -> None:
    mixer = mixer_of(ANN, rest_after_s=2.0)
    mixer.push(ANN, frame(1), 0.0)
    mixer.remove(ANN)
    assert filled(mixer, 0.0, 60.0) == pytest.approx(100, abs=4)
    assert mixer.resting(60.0)
    mixer.add(ANN)
    assert not mixer.resting(60.0)
    assert filled(mixer, 60.0, 1.0) == pytest.approx(50, abs=1)


def test_a_long_sleep_is_skipped_not_replayed() -> None:
    mixer = mixer_of(ANN)
    mixer.push(ANN, frame(1), 0.0)
    assert len(mixer.due(60.0)) == 10
    assert mixer.stats.skipped_frames > 2900


@pytest.mark.parametrize("ppm", [-3000, 3000])
def test_drift_of_a_clock_is_absorbed_in_silence(ppm: int) -> None:
    mixer = mixer_of(ANN)
    step = 0.02 * (1 - ppm / 1e6)
    now, n_out = 0.0, 0
    speech_in = speech_out = 0
    n = 0
    while now < 180:
        talk = n % 50 < 30
        audio = level(4000) if talk else SILENCE
        speech_in += talk
        for out in mixer.push(ANN, audio, now):
            n_out += 1
            speech_out += out != SILENCE
        n += 1
        now += step
    assert abs(n_out * 0.02 - now) < 0.2
    assert speech_in == speech_out


def test_the_loudest_is_named() -> None:
    mixer = mixer_of(ANN, BEN)
    for n in range(100):
        mixer.push(ANN, frame(n, 6000 if n < 50 else 100), n * 0.02)
        mixer.push(BEN, frame(n, 100 if n < 50 else 6000), n * 0.02)
    assert mixer.loudest(0.0, 0.9) == ANN
    assert mixer.loudest(1.1, 2.0) == BEN
    assert mixer.loudest(50.0, 60.0) is None
    assert mixer.level_dbfs(ANN, 0.0, 0.9) > -25 > mixer.level_dbfs(BEN, 0.0, 0.9)


def test_a_lone_participant_is_the_loudest() -> None:
    mixer = mixer_of(ANN)
    assert mixer.loudest(0.0, 1.0) == ANN


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 50)), max_size=60))
def test_one_speaker_is_sample_exact(pieces: list[tuple[int, int]]) -> None:
    """Nothing lost, nothing twice, in order; only silence is added, and only between frames."""
    mixer = mixer_of(ANN)
    total = sum(size for size, _ in pieces)
    audio = (np.arange(total // 2 + 1) % 30_000 + 1000).astype(np.int16).tobytes()
    out: list[bytes] = []
    now, at = 0.0, 0
    for size, pause_ms in pieces:
        out += mixer.push(ANN, audio[at : at + size], now)
        at += size
        until = now + pause_ms / 1000
        while (deadline := mixer.deadline()) is not None and deadline <= until:
            out += mixer.due(deadline)
        now = until
    heard = b"".join(piece for piece in out if piece != SILENCE)
    assert heard == audio[: total - total % 960]
    assert all(len(piece) == 960 for piece in out)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([ANN, BEN, CAT]), st.integers(0, 25)), max_size=120))
def test_several_speakers_lose_nothing_uncounted(steps: list[tuple[ParticipantId, int]]) -> None:
    mixer = mixer_of(ANN, BEN, CAT)
    energy_in, energy_out, now = 0, 0, 0.0
    for participant, pause_ms in steps:
        energy_in += 1
        energy_out += sum(round(int(samples(out)[0]) / 100) for out in mixer.push(participant, level(100), now))
        until = now + pause_ms / 1000
        while (deadline := mixer.deadline()) is not None and deadline <= until:
            energy_out += sum(round(int(samples(out)[0]) / 100) for out in mixer.due(deadline))
        now = until
    for _ in range(200):
        now += 0.02
        energy_out += sum(round(int(samples(out)[0]) / 100) for out in mixer.due(now))
    assert energy_in == energy_out + mixer.stats.late_dropped_frames


def test_a_thousand_frames_leave_no_cyclic_garbage() -> None:
    mixer = mixer_of(ANN, BEN)
    audio = frame(1)
    gc.collect()
    gc.disable()
    try:
        for n in range(1000):
            mixer.push(ANN, audio, n * 0.02)
            mixer.push(BEN, audio, n * 0.02)
            mixer.due(n * 0.02 + 0.01)
        assert gc.collect() == 0
    finally:
        gc.enable()
