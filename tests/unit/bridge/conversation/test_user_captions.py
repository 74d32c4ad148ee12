"""Captions of the people: each turn one segment, closed once."""

from __future__ import annotations

from bridge.conversation.speakers import Spoken
from bridge.conversation.stats import ConversationStats
from bridge.conversation.user_captions import ClosedTurn, UserCaptions
from bridge.core.words import ParticipantId

SPOKEN = Spoken(ParticipantId("ann"), 10.0)


def test_empty_words_open_no_segment() -> None:
    captions = UserCaptions(ConversationStats())
    assert captions.update(1, "t", " ", final=False, spoken=SPOKEN, now=0.0) == []
    assert captions.update(1, "t", "", final=True, spoken=SPOKEN, now=0.0) == []


def test_turns_of_two_sessions_are_two_segments() -> None:
    captions = UserCaptions(ConversationStats())
    (first,) = captions.update(1, "t", "a", final=True, spoken=SPOKEN, now=0.0)
    (second,) = captions.update(2, "t", "b", final=True, spoken=SPOKEN, now=0.0)
    assert first.segment_id != second.segment_id


def test_a_turn_is_readable_before_its_words_are_final() -> None:
    captions = UserCaptions(ConversationStats())
    captions.update(1, "t", "I would", final=False, spoken=SPOKEN, now=10.5)
    assert captions.so_far() == [ClosedTurn(SPOKEN.speaker, "I would", 10.0, None)]
    captions.finished(12.0)
    captions.update(1, "t", "I would like", final=False, spoken=None, now=12.5)
    assert captions.so_far() == [ClosedTurn(SPOKEN.speaker, "I would like", 10.0, 12.0)]
    captions.update(1, "t", "", final=True, spoken=None, now=13.0)
    assert captions.so_far() == []
    assert captions.closed == [ClosedTurn(SPOKEN.speaker, "I would like", 10.0, 12.0)]


def test_the_end_of_a_turn_that_nobody_told_is_that_of_its_last_words() -> None:
    captions = UserCaptions(ConversationStats())
    captions.update(1, "t", "hello", final=False, spoken=SPOKEN, now=10.5)
    captions.due(99.0)
    assert captions.closed[0].ended_at == 10.5


def test_words_of_a_turn_that_is_heard_again_go_on_in_its_segment() -> None:
    captions = UserCaptions(ConversationStats())
    (first,) = captions.update(1, "t", "a table", final=False, spoken=SPOKEN, now=10.5)
    captions.will_be_heard_again()
    later = Spoken(ParticipantId("ben"), 20.0)
    (second,) = captions.update(2, "t9", "a table for four", final=True, spoken=later, now=20.5)
    assert (second.segment_id, second.text, second.final) == (first.segment_id, "a table for four", True)
    assert [(turn.speaker, turn.text, turn.began_at) for turn in captions.closed] == [("ann", "a table for four", 10.0)]
    assert captions.update(2, "t9", "late", final=True, spoken=later, now=21.0) == []
    (third,) = captions.update(2, "t10", "and tea", final=False, spoken=later, now=22.0)
    assert third.segment_id != first.segment_id


def test_words_of_the_same_session_are_another_turn() -> None:
    captions = UserCaptions(ConversationStats())
    captions.update(1, "t", "a table", final=False, spoken=SPOKEN, now=10.5)
    captions.will_be_heard_again()
    captions.update(1, "u", "and tea", final=False, spoken=SPOKEN, now=11.0)
    assert [turn.text for turn in captions.so_far()] == ["a table", "and tea"]
