"""A turn without an answer is noticed, and asked about, and then let go."""

from __future__ import annotations

import pytest

from bridge.conversation.answers import AnswerSettings, AnswerWatch
from bridge.conversation.stats import ConversationStats


def watch(**settings: float) -> tuple[AnswerWatch, ConversationStats]:
    stats = ConversationStats()
    return AnswerWatch(AnswerSettings(**settings), stats), stats  # type: ignore[arg-type]


def test_nudges_are_bounded_for_each_turn() -> None:
    made, stats = watch(empty_turn_wait_s=1.0, max_nudges=2, silence_wait_s=5.0)
    made.user_speaks()
    made.user_finished(0.0)
    made.turn_was_empty(0.0)
    asked = [second for second in range(60) if made.due(float(second))]
    assert asked == [1, 6]
    assert made.deadline() is None
    assert stats.nudges == 2


def test_a_new_turn_may_be_asked_about_again() -> None:
    made, stats = watch(empty_turn_wait_s=1.0, silence_wait_s=5.0)
    for start in (0.0, 100.0):
        made.user_speaks()
        made.user_finished(start)
        made.turn_was_empty(start)
        assert made.due(start + 1)
        made.answered()
    assert stats.empty_turns == 2


def test_an_empty_turn_that_nobody_asked_for_is_nothing() -> None:
    made, stats = watch()
    made.turn_was_empty(0.0)
    assert made.deadline() is None
    assert stats.empty_turns == 0


def test_nothing_is_owed_while_the_user_goes_on() -> None:
    made, _ = watch()
    made.user_finished(0.0)
    made.user_speaks()
    assert made.deadline() is None


def test_with_no_nudges_it_is_only_counted() -> None:
    made, stats = watch(max_nudges=0, empty_turn_wait_s=1.0)
    made.user_finished(0.0)
    made.turn_was_empty(0.0)
    assert made.deadline() == pytest.approx(1.0)
    assert not made.due(1.0)
    assert stats.unanswered_turns == 1
    assert stats.nudges == 0
