"""The tape keeps what somebody still needs, lets the rest go, and counts what it could not keep."""

from __future__ import annotations

from time import perf_counter

import pytest

from bridge.sessions.tape import Tape
from providers.signal.formats import PCM16_24K
from providers.signal.vad import VadSettings

VAD = VadSettings(threshold_dbfs=-42.0, onset_ms=60)
QUIET, LOUD = b"\1\0" * 480, b"\0\x10" * 480


def a_tape(keep_ms: float = 30_000) -> Tape:
    return Tape(keep_ms, PCM16_24K, vad=VAD)


def write(tape: Tape, count: int, frame: bytes = QUIET, *, heard: bool = False) -> None:
    for _ in range(count):
        tape.write(frame)
        if heard:
            tape.cursor = tape.end


def test_a_frame_is_found_by_its_number_until_it_is_gone() -> None:
    tape = a_tape(60)
    numbers = [tape.write(bytes([value]) * 960) for value in range(40)]
    assert numbers == list(range(40))
    assert tape.read(39)[0] == 39
    assert tape.read(tape.start)[0] == tape.start
    for gone in (tape.start - 1, 40):
        with pytest.raises(IndexError, match=f"frame {gone} is not on the tape"):
            tape.read(gone)


def test_what_waits_for_a_leader_is_bounded_to_the_frame_and_counted() -> None:
    tape = a_tape(60)
    write(tape, 5)
    assert (tape.cursor, tape.end) == (2, 5)
    assert tape.stats.first_words_dropped_frames == 2


def test_with_no_room_for_first_words_each_is_counted_as_dropped() -> None:
    tape = a_tape(0)
    write(tape, 3)
    assert tape.cursor == tape.end
    assert tape.stats.first_words_dropped_frames == 3


def test_what_is_on_its_way_to_a_leader_is_bounded_by_a_minute() -> None:
    tape = a_tape(0)
    tape.awaited(True)
    write(tape, 3010)
    assert (tape.end - tape.cursor, tape.stats.first_words_dropped_frames) == (3000, 10)
    tape.awaited(False)
    assert tape.cursor == tape.end, "and once nobody takes it, by what may be kept for nobody"


def test_a_call_in_which_all_is_answered_keeps_a_second_at_most() -> None:
    tape = a_tape()
    tape.awaited(True)
    for _ in range(20):
        write(tape, 100, LOUD, heard=True)
        tape.settle(tape.end)
        assert len(tape) <= 50
    assert tape.end - tape.start >= 25, "half a second stays, for filters and onsets"
    assert tape.stats.unsettled_dropped_frames == 0


def test_speech_that_was_not_answered_stays_within_the_bound() -> None:
    tape = a_tape()
    tape.awaited(True)
    write(tape, 1500, LOUD, heard=True)
    assert (tape.settled, tape.stats.unsettled_dropped_frames) == (0, 0)
    write(tape, 500, LOUD, heard=True)
    assert 0 <= tape.stats.unsettled_dropped_frames - 500 + 25 <= 25
    assert tape.settled == tape.stats.unsettled_dropped_frames
    assert len(tape) <= 1500 + 25 + 25


def test_what_nobody_has_heard_cannot_be_settled() -> None:
    tape = a_tape()
    write(tape, 10, LOUD, heard=True)
    write(tape, 10, LOUD)
    tape.settle(20)
    assert tape.settled == 10


def test_silence_needs_no_answer_and_speech_does() -> None:
    tape = a_tape()
    tape.awaited(True)
    for _ in range(20):
        write(tape, 50, heard=True)
        tape.settle_silence()
    assert len(tape) <= 90
    write(tape, 2, LOUD, heard=True)
    for _ in range(5):
        write(tape, 50, heard=True)
        tape.settle_silence()
    assert tape.settled >= tape.end - 40, "a click is no speech"
    write(tape, 10, LOUD, heard=True)
    spoken = tape.end - 10
    for _ in range(5):
        write(tape, 50, heard=True)
        tape.settle_silence()
    assert tape.settled == spoken - 15
    tape.settle(tape.end - 1)
    write(tape, 50, heard=True)
    tape.settle_silence()
    assert tape.settled > spoken + 250, "once it was answered, silence is silence again"


def test_the_first_speech_is_found_with_what_led_up_to_it() -> None:
    tape = a_tape()
    write(tape, 100)
    assert tape.first_loud(0) is None
    write(tape, 10, LOUD)
    write(tape, 100)
    assert tape.first_loud(0) == 85
    assert tape.first_loud(105) == 90
    assert tape.first_loud(110) is None


def test_speech_that_has_just_begun_is_found_too_and_a_click_is_not() -> None:
    tape = a_tape()
    write(tape, 100)
    write(tape, 2, LOUD)
    assert tape.first_loud(0) == 85
    write(tape, 1)
    assert tape.first_loud(0) is None


def test_looking_for_speech_in_thirty_seconds_takes_two_milliseconds_at_most() -> None:
    tape = a_tape()
    write(tape, 1500)
    best = 1.0
    for _ in range(20):
        began = perf_counter()
        assert tape.first_loud(0) is None
        best = min(best, perf_counter() - began)
    assert best < 0.002


def test_going_back_ends_at_the_oldest_frame_and_never_leads_forward() -> None:
    tape = a_tape()
    write(tape, 100, LOUD, heard=True)
    tape.settle(60)
    tape.rewind(200)
    assert tape.cursor == 100
    tape.rewind(70)
    assert (tape.cursor, tape.stats.replayed_frames) == (70, 30)
    tape.rewind(0)
    assert tape.cursor == tape.start == 35


def test_in_a_wanted_pause_silence_is_left_out_and_not_counted_as_lost() -> None:
    tape = a_tape(5000)
    for _ in range(20):
        write(tape, 50)
        assert not tape.skip_silence()
    write(tape, 10, LOUD)
    assert tape.skip_silence()
    write(tape, 10, LOUD)
    assert tape.skip_silence()
    assert tape.cursor == tape.end - 35
    assert tape.stats.first_words_dropped_frames == 0


def test_a_reader_beside_the_leader_may_fall_a_minute_behind_and_what_it_misses_is_counted() -> None:
    tape = a_tape(60)
    tape.held = tape.end
    write(tape, 3000, heard=True)
    assert (tape.held, tape.stats.beside_dropped_frames) == (0, 0)
    write(tape, 100, heard=True)
    assert tape.held == tape.stats.beside_dropped_frames > 0


def test_a_rewind_goes_back_only() -> None:
    tape = a_tape()
    write(tape, 40, heard=True)
    tape.cursor = 20
    tape.rewind(30)
    assert (tape.cursor, tape.stats.replayed_frames) == (20, 0)
    tape.rewind(15)
    assert (tape.cursor, tape.stats.replayed_frames) == (15, 5)


# ------------------------------------------------------------------------------------------------------------- turns


def holds(tape: Tape, since: int = 0, until: int = 10_000) -> bool:
    return tape.holds_turn(since, until, speech_ms=500, pause_ms=1000)


def test_a_turn_is_speech_and_a_pause_after_it() -> None:
    tape = a_tape()
    write(tape, 50)
    write(tape, 25, LOUD)
    assert not holds(tape)
    write(tape, 49)
    assert not holds(tape), "the pause is too short"
    write(tape, 2)
    assert holds(tape)
    write(tape, 100, LOUD)
    assert holds(tape), "whatever he says then"
    assert not holds(tape, since=80) and not holds(tape, until=120)


def test_speech_without_a_pause_and_a_cough_with_one_are_no_turn() -> None:
    tape = a_tape()
    write(tape, 24, LOUD)
    write(tape, 100)
    assert not holds(tape)
    for _ in range(10):
        write(tape, 20, LOUD)
        write(tape, 40)
    assert not holds(tape)
    assert not holds(a_tape()), "and nothing is none"
