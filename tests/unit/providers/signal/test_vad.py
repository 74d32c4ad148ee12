"""The energy detector: when speech is noticed, when it ends, what is not speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from providers.signal import wav
from providers.signal.resample import Int16Array
from providers.signal.vad import EnergyVad, SpeechEdge, VadSettings

RATE_HZ = 16_000


def quiet(ms: int, level: float = 0.0, seed: int = 1) -> Int16Array:
    wave = np.random.default_rng(seed).standard_normal(RATE_HZ * ms // 1000) * level
    return wave.astype(np.int16)


def loud(ms: int) -> Int16Array:
    return quiet(ms, 3000.0, seed=2)


def run(vad: EnergyVad, *parts: Int16Array, chunk: int = 320) -> list[SpeechEdge]:
    pcm = np.concatenate(parts)
    edges: list[SpeechEdge] = []
    for first in range(0, len(pcm), chunk):
        edges += vad.push(pcm[first : first + chunk])
    return edges


def test_speech_is_noticed_after_20_ms_and_dated_to_its_first_frame() -> None:
    edges = run(EnergyVad(RATE_HZ), quiet(500), loud(300))
    assert edges == [SpeechEdge(True, 500, 520)]


def test_speech_ends_when_the_pause_is_long_enough() -> None:
    vad = EnergyVad(RATE_HZ, VadSettings(silence_ms=300))
    edges = run(vad, loud(400), quiet(290), loud(100), quiet(400))
    assert edges == [SpeechEdge(True, 0, 20), SpeechEdge(False, 790, 1090)]


@pytest.mark.parametrize("chunk", [1, 77, 160, 320, 100_000])
def test_the_chunk_size_makes_no_difference(chunk: int) -> None:
    pcm = (quiet(200), loud(300), quiet(700), loud(100))
    assert run(EnergyVad(RATE_HZ), *pcm, chunk=chunk) == run(EnergyVad(RATE_HZ), *pcm)


def test_a_click_is_not_speech() -> None:
    assert run(EnergyVad(RATE_HZ), quiet(100), loud(10), quiet(600)) == []


def test_what_is_below_the_threshold_is_not_speech() -> None:
    hiss = quiet(1000, 100.0)  # -50 dBFS
    assert run(EnergyVad(RATE_HZ), hiss) == []
    assert len(run(EnergyVad(RATE_HZ, VadSettings(threshold_dbfs=-60)), hiss)) == 1


def test_a_steady_noise_becomes_the_floor_and_speech_stands_out_of_it() -> None:
    vad = EnergyVad(RATE_HZ, VadSettings(margin_db=9.0, threshold_dbfs=-60, silence_ms=300))
    hum = quiet(12_000, 300.0)
    edges = run(vad, hum)
    assert not vad.speaking and len(edges) == 2, "taken for speech at first, then known as noise"
    assert [edge.speaking for edge in run(vad, loud(400), quiet(600, 300.0, seed=5))] == [True, False]


def test_the_floor_falls_at_once_when_a_noise_stops() -> None:
    vad = EnergyVad(RATE_HZ, VadSettings(margin_db=12.0, threshold_dbfs=-60))
    run(vad, quiet(12_000, 1000.0), quiet(100, 10.0))
    assert vad.noise_floor < (40 / 32768) ** 2


def test_a_second_opinion_may_refuse_a_loud_frame() -> None:
    asked: list[tuple[int, int]] = []

    def confirm(frame: bytes, rate_hz: int) -> bool:
        asked.append((len(frame), rate_hz))
        return False

    assert run(EnergyVad(RATE_HZ, confirm=confirm), quiet(100), loud(100)) == []
    assert asked == [(320, RATE_HZ)] * 10, "10 ms each, and only the loud ones"


def test_reset_forgets_the_speech_but_not_the_clock() -> None:
    vad = EnergyVad(RATE_HZ)
    run(vad, loud(200))
    vad.reset()
    assert not vad.speaking and vad.heard_ms == 200
    assert run(vad, quiet(100), loud(100)) == [SpeechEdge(True, 300, 320)]


@pytest.mark.parametrize("name", ["hello", "question", "answer"])
def test_each_spoken_sentence_is_one_turn(name: str) -> None:
    pcm = wav.read(Path(__file__).parents[3] / "data" / f"{name}.wav", RATE_HZ)
    edges = run(EnergyVad(RATE_HZ, VadSettings(silence_ms=250)), quiet(300), pcm, quiet(500))
    assert [edge.speaking for edge in edges] == [True, False]


def test_a_rate_that_has_no_whole_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="rate_hz = 11025"):
        EnergyVad(11_025)


def test_a_noise_that_was_there_before_the_detector_is_not_speech() -> None:
    settings = VadSettings(margin_db=9.0)
    vad = EnergyVad(RATE_HZ, settings)
    assert vad.learn(quiet(1000, 300.0)) == []
    assert run(vad, quiet(1000, 300.0, seed=3)) == []
    assert run(vad, loud(300))[0].speaking
    assert run(EnergyVad(RATE_HZ, settings), quiet(1000, 300.0)) != [], "or this shows nothing"


def test_speech_that_began_before_the_detector_is_found() -> None:
    vad = EnergyVad(RATE_HZ, VadSettings(margin_db=9.0))
    assert vad.learn(np.concatenate([quiet(500), loud(200)])) == [SpeechEdge(True, 500, 520)]
    assert vad.speaking and vad.heard_ms == 700


def test_a_detector_that_begins_with_nothing_begins_as_ever() -> None:
    vad = EnergyVad(RATE_HZ)
    assert vad.learn(quiet(0)) == []
    assert vad.heard_ms == 0
