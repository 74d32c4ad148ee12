"""The end of the last speech is found on the tape, on the call's clock."""

from __future__ import annotations

import pytest

from bridge.sessions.last_speech import LastSpeech
from bridge.sessions.tape import Tape
from providers.signal.formats import PCM16_24K
from providers.signal.vad import VadSettings

QUIET, LOUD = b"\1\0" * 480, b"\0\x10" * 480


def heard(*frames: tuple[int, bytes]) -> LastSpeech:
    """So many of each frame, the last one at 100 s."""
    tape = Tape(30_000, PCM16_24K, vad=VadSettings(threshold_dbfs=-42.0, onset_ms=60))
    for count, frame in frames:
        for _ in range(count):
            tape.write(frame)
    last = LastSpeech(tape)
    last.heard_at = 100.0
    return last


@pytest.mark.parametrize("quiet", [0, 1, 25, 49, 50, 51, 120, 500])
def test_speech_ended_so_many_frames_ago(quiet: int) -> None:
    assert heard((60, QUIET), (30, LOUD), (quiet, QUIET))() == pytest.approx(100.0 - quiet * 0.02)


def test_a_click_is_no_speech() -> None:
    assert heard((60, QUIET), (30, LOUD), (20, QUIET), (2, LOUD), (30, QUIET))() == pytest.approx(100.0 - 52 * 0.02)
    assert heard((60, QUIET), (2, LOUD), (49, QUIET))() is None


def test_speech_across_two_looks_is_found_where_it_ends() -> None:
    # A look takes 50 frames: 3 loud ones lie on both sides of its border.
    for quiet in (48, 49, 50):
        assert heard((60, QUIET), (3, LOUD), (quiet, QUIET))() == pytest.approx(100.0 - quiet * 0.02)


def test_an_empty_tape_knows_nothing() -> None:
    assert heard()() is None
