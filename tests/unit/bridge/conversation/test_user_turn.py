"""The user's turn begins and ends once, by whoever tells of it, and its words are put where they were spoken."""

from __future__ import annotations

import pytest

from bridge.audio.playout import Playout
from bridge.conversation.answers import AnswerSettings, AnswerWatch
from bridge.conversation.entries import Line
from bridge.conversation.ledger import Ledger
from bridge.conversation.replies import Replies
from bridge.conversation.scribe import Scribe
from bridge.conversation.speakers import Speakers
from bridge.conversation.stats import ConversationStats
from bridge.conversation.turns import Floor, Turns
from bridge.conversation.user_turn import UserTurn
from bridge.core.commands import Command, ShowCaption
from bridge.core.words import ParticipantId
from providers.contract import InputTranscript
from tests.fakes.sink import FakeSink

ANN, BEN = ParticipantId("ann"), ParticipantId("ben")


class Stage:
    """A turn with all that it tells, and Ann, who is the loudest."""

    def __init__(self) -> None:
        stats = ConversationStats()
        self.turns = Turns(thinking_limit_s=30, user_limit_s=60)
        self.answers = AnswerWatch(AnswerSettings(), stats)
        self.scribe = Scribe(Playout(FakeSink()), Ledger(100, stats), 600, stats)
        self.replies = Replies()
        self.user = UserTurn(self.turns, Speakers(lambda since, until: ANN), self.answers, self.scribe, self.replies)
        self.commands: list[Command] = []

    def hears(self, text: str, now: float, *, turn: str = "t1", final: bool = False) -> None:
        self.user.words(InputTranscript(1, turn, text, final), now, self.commands, answered=True)

    def floor(self) -> Floor:
        return self.turns.floor

    def line(self, now: float) -> Line:
        """The newest on record."""
        self.scribe.record(now)
        return self.scribe.ledger.lines[-1]


def test_an_answer_is_owed_when_the_user_has_finished_and_not_before() -> None:
    stage = Stage()
    stage.user.starts(10.0, told=True)
    assert stage.floor() is Floor.USER and stage.answers.deadline() is None
    stage.user.stops(12.0, answered=True, told=True)
    assert stage.floor() is Floor.NOBODY and stage.turns.thinking
    assert stage.answers.owed and stage.answers.deadline() == 12.0 + AnswerSettings().silence_wait_s


def test_one_who_goes_on_is_not_answered_yet() -> None:
    stage = Stage()
    stage.user.starts(10.0, told=True)
    stage.user.stops(12.0, answered=True, told=True)
    stage.user.starts(12.5)
    assert stage.floor() is Floor.USER and stage.answers.owed and stage.answers.deadline() is None


def test_captions_of_an_answer_wait_for_his_last_words_and_not_while_he_goes_on() -> None:
    stage = Stage()
    stage.hears("tell me", 11.0, final=True)
    stage.scribe.agent.add(1, "r", "noon", final=True, written=True)
    stage.user.starts(12.0, told=True)
    stage.user.stops(13.0, answered=True, told=True)
    assert stage.scribe.deadline(sounding=True) == pytest.approx(13.6)
    stage.user.starts(13.1)
    stage.scribe.release(13.2, stage.commands)
    assert [command.caption.text for command in stage.commands if isinstance(command, ShowCaption)] == [
        "tell me",
        "noon",
    ]


def test_whoever_asks_for_no_answers_is_owed_none() -> None:
    stage = Stage()
    stage.user.starts(10.0, told=True)
    stage.user.stops(12.0, answered=False, told=True)
    assert not stage.turns.thinking and not stage.answers.owed and stage.answers.deadline() is None


def test_words_are_put_into_the_turn_that_was_told_however_late_they_come() -> None:
    stage = Stage()
    stage.user.starts(10.0, told=True)
    stage.user.stops(12.0, answered=True, told=True)
    stage.user.reply_began(12.2, answered=True)
    stage.hears("what time is it", 14.0, final=True)
    line = stage.line(14.0)
    assert line.speaker == ANN and line.at == pytest.approx(9.7) and line.ended_at == 12.0
    assert stage.floor() is Floor.NOBODY, "and begin no other"


def test_where_the_provider_tells_no_turns_words_begin_one_and_the_reply_ends_it() -> None:
    stage = Stage()
    stage.hears("what time", 10.0)
    assert stage.floor() is Floor.USER and stage.turns.inferred and stage.answers.owed
    stage.hears("what time is it", 11.0)
    stage.user.reply_began(11.5, answered=True)
    assert stage.floor() is Floor.NOBODY and stage.answers.deadline() is not None


def test_where_the_provider_tells_no_turns_final_words_end_one_too() -> None:
    stage = Stage()
    stage.hears("what time is it", 10.0, final=True)
    assert stage.floor() is Floor.NOBODY and stage.turns.thinking and stage.answers.owed


def test_a_turn_that_was_told_is_not_ended_by_its_words_or_by_a_reply() -> None:
    stage = Stage()
    stage.user.starts(10.0, told=True)
    stage.hears("what time is it", 11.0, final=True)
    stage.user.reply_began(11.1, answered=True)
    stage.user.ends_if_inferred(11.2, answered=True)
    assert stage.floor() is Floor.USER


def test_words_of_a_turn_that_was_told_and_is_over_begin_no_other_before_the_answer() -> None:
    stage = Stage()
    stage.user.starts(10.0, told=True)
    stage.user.stops(12.0, answered=True, told=True)
    stage.hears("what time is it", 12.4)
    assert stage.floor() is Floor.NOBODY


@pytest.mark.parametrize("state", ["made", "heard"])
def test_words_that_come_behind_their_answer_begin_no_turn(state: str) -> None:
    stage = Stage()
    stage.replies.started("r")
    if state == "heard":
        stage.replies.sounds("r")
        stage.replies.generating.clear()
    stage.hears("what time is it", 10.0)
    assert stage.floor() is Floor.NOBODY


def test_words_that_trail_in_behind_the_beginning_of_a_reply_were_spoken_before_it() -> None:
    stage = Stage()
    stage.user.reply_began(10.0, answered=True)
    stage.replies.started("r")
    stage.hears("what time is it", 10.5, final=True)
    assert stage.line(10.5).at == pytest.approx(9.9)


def test_words_that_follow_a_reply_that_was_cut_were_spoken_after_its_beginning() -> None:
    stage = Stage()
    stage.user.reply_began(10.0, answered=True)
    stage.user.reply_cut()
    stage.hears("stop", 10.5, final=True)
    assert stage.line(10.5).at == 10.5


def test_the_words_of_a_replay_belong_to_whoever_said_them_first() -> None:
    stage = Stage()
    stage.scribe.ledger.said(Line(speaker=BEN, text="a table", at=3.0, ended_at=4.0))
    stage.scribe.ledger.will_be_heard_again()
    stage.hears("a table", 20.0, final=True)
    line = stage.line(20.0)
    assert (line.speaker, line.at) == (BEN, 3.0)
    assert len(stage.scribe.ledger.lines) == 1


def test_a_cough_opens_no_segment_and_takes_its_turn_all_the_same() -> None:
    stage = Stage()
    for began in (10.0, 20.0):
        stage.user.starts(began, told=True)
        stage.user.stops(began + 1, answered=True, told=True)
    stage.hears("", 22.0, turn="cough", final=True)
    stage.hears("hello", 22.5, turn="words", final=True)
    assert [command.caption.text for command in stage.commands if isinstance(command, ShowCaption)] == ["hello"]
    assert stage.line(22.5).at == pytest.approx(19.7)


def test_the_next_provider_may_tell_less_than_the_last_one() -> None:
    stage = Stage()
    stage.user.starts(10.0, told=True)
    stage.user.stops(11.0, answered=True, told=True)
    told = [stage.user.is_told]
    stage.user.session_began()
    stage.hears("hello", 30.0)
    assert [*told, stage.user.is_told] == [True, False]
    assert stage.turns.inferred and stage.floor() is Floor.USER


def test_the_turn_of_one_whose_microphone_is_gone_is_over_and_that_of_another_is_not() -> None:
    stage = Stage()
    stage.user.starts(10.0, told=True)
    stage.user.fell_silent(BEN, 11.0, answered=True)
    assert stage.floor() is Floor.USER
    stage.user.fell_silent(ANN, 11.0, answered=True)
    assert stage.floor() is Floor.NOBODY and stage.answers.owed
