"""A session that is spoken to and tells nothing at all is noticed, whether its caller waits or keeps asking."""

from __future__ import annotations

import pytest

from bridge.lanes.mute_watch import MuteWatch
from bridge.sessions.feed import SessionFeed
from bridge.sessions.hearing import Hearing
from bridge.sessions.tape import Tape
from providers.contract import SessionStart
from providers.signal.formats import PCM16_24K
from tests.fakes.hand_model import CAPABILITIES, HandSession

QUIET, LOUD = b"\1\0" * 480, b"\0\x10" * 480


class Room:
    """Somebody speaks to a session, frame by frame; the session says what a test lets it say."""

    def __init__(self) -> None:
        self.hearing = Hearing(Tape(30_000, PCM16_24K))
        feed = SessionFeed(HandSession(SessionStart(), CAPABILITIES), bus=PCM16_24K, room=PCM16_24K)
        self.hearing.turn_to([feed], 1)
        self.watch = MuteWatch(self.hearing, 10.0)
        self.now = self.news_at = 100.0
        self.noticed_at: float | None = None
        self.speaks = False

    def hears(self, seconds: float, frame: bytes) -> None:
        for _ in range(round(seconds * 50)):
            self.now += 0.02
            self.hearing.hear(frame)
            if self.watch.due(self.news_at, self.now, speaks=self.speaks) and self.noticed_at is None:
                self.noticed_at = self.now - 100.0


def test_who_waits_for_an_answer_is_seen_to_wait() -> None:
    room = Room()
    room.hears(2.0, LOUD)
    room.hears(15.0, QUIET)
    assert room.noticed_at == pytest.approx(12.0, abs=0.6)


def test_who_keeps_asking_is_seen_to_wait_from_his_first_question_on() -> None:
    room = Room()
    for _ in range(10):
        room.hears(0.7, LOUD)
        room.hears(1.3, QUIET)
    assert room.noticed_at == pytest.approx(10.7, abs=0.6)


def test_a_service_that_has_told_that_he_speaks_is_given_the_time_to_find_out_that_he_has_finished() -> None:
    room = Room()
    room.speaks = True
    for _ in range(10):
        room.hears(0.7, LOUD)
        room.hears(4.0, QUIET)
    assert room.noticed_at is None
    room.hears(0.7, LOUD)
    asked_s = room.now - 100.0
    room.hears(11.0, QUIET)
    assert room.noticed_at == pytest.approx(asked_s + 10.0, abs=0.6)


def test_one_word_from_the_session_and_it_is_not_mute() -> None:
    room = Room()
    room.hears(2.0, LOUD)
    room.hears(9.0, QUIET)
    room.news_at = room.now
    room.hears(9.5, QUIET)
    assert room.noticed_at is None


def test_nobody_waits_for_an_answer_to_silence_to_a_cough_or_in_the_midst_of_a_long_speech() -> None:
    for sound, seconds in ((QUIET, 20.0), (LOUD, 20.0), (LOUD, 0.4)):
        room = Room()
        room.hears(seconds, sound)
        if seconds < 1:
            room.hears(20.0, QUIET)
        assert room.noticed_at is None
