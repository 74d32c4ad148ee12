"""The sound and the words of answers."""

from __future__ import annotations

import numpy as np
import pytest

from providers.scripted.scenario import Answer, Marker, Pace, Repeat, Silence, Text, Tone
from providers.scripted.voice import Utterance, marker, schedule, schedule_written, tone, utter, words_of
from providers.signal.level import peak_dbfs
from providers.signal.resample import Int16Array

NOTHING = np.zeros(0, dtype=np.int16)


def said(answer: Answer, *, heard: Int16Array = NOTHING, text: str = "", **results: object) -> Utterance:
    return utter(answer, heard=heard, heard_text=text, prompted=Tone(duration_ms=100), reply=1, results=results)


def test_a_repeat_is_what_was_heard() -> None:
    heard = marker(200, 1, -6.0)
    utterance = said(Repeat(), heard=heard, text="hello")
    assert np.array_equal(utterance.pcm, heard) and utterance.text == "hello"
    assert said(Repeat(transcript="echo"), heard=heard, text="hello").text == "echo"


def test_a_repeat_of_what_was_typed_has_the_prompted_sound_and_the_typed_words() -> None:
    utterance = said(Repeat(), text="typed")
    assert utterance.duration_ms == 100 and utterance.text == "typed"


def test_a_tone_has_its_length_pitch_and_level_and_no_click() -> None:
    pcm = tone(1000, 440, -12.0)
    assert len(pcm) == 24_000 and peak_dbfs(pcm) == pytest.approx(-12, abs=0.1)
    assert int(np.argmax(np.abs(np.fft.rfft(pcm.astype(float))))) == 440
    assert abs(int(pcm[0])) < 100 and abs(int(pcm[-1])) < 100


def test_markers_are_repeatable_and_unlike_each_other() -> None:
    one, again, other = (marker(60, seed, -12.0).astype(float) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert abs((one @ other) / np.sqrt((one @ one) * (other @ other))) < 0.35


def test_a_marker_differs_from_reply_to_reply() -> None:
    first = utter(Marker(), heard=NOTHING, heard_text="", prompted=Tone(), reply=1, results={})
    second = utter(Marker(), heard=NOTHING, heard_text="", prompted=Tone(), reply=2, results={})
    assert not np.array_equal(first.pcm, second.pcm)


def test_words_are_filled_in_and_unknown_names_stay() -> None:
    assert said(Text(text="{heard}: {a} {b} {"), text="x", a=1).text == "x: 1 {b} {"


def test_longer_words_take_longer() -> None:
    assert said(Text(text="one two three")).duration_ms > said(Text(text="one")).duration_ms > 100


def test_silence_is_nothing() -> None:
    assert said(Silence()).duration_ms == 0 and said(Silence()).text == ""


@pytest.mark.parametrize("text", ["one two  three", " leading", "", "x"])
def test_the_pieces_make_the_text(text: str) -> None:
    assert "".join(words_of(text)).replace(" ", "") == text.replace(" ", "")


def test_chunks_cover_the_speech_once() -> None:
    utterance = Utterance(marker(1010, 1, -6.0), "some words")
    pieces = schedule(utterance, Pace(chunk_ms=100, jitter_ms=300), reply=1, words=True, pieces=True)
    chunks = [(piece.first, piece.last) for piece in pieces if not piece.delta]
    assert chunks == [(i * 2400, min((i + 1) * 2400, 24_240)) for i in range(11)]
    assert [piece.due_s for piece in pieces] == sorted(piece.due_s for piece in pieces)


def test_written_words_keep_the_pace() -> None:
    assert [piece.due_s for piece in schedule_written("a b c", Pace(speed=0.5))] == [0.0, 0.1, 0.2]
