"""How a successor takes up the thread."""

from __future__ import annotations

import pytest

from bridge.sessions.thread import Loose, Thread, take_up


@pytest.mark.parametrize("by_handle", [True, False])
def test_nothing_is_repeated_where_nothing_is_open(by_handle: bool) -> None:
    assert take_up(Loose(), by_handle=by_handle, covered=True) == Thread()


@pytest.mark.parametrize("by_handle", [True, False])
def test_an_unanswered_turn_is_heard_again_and_not_told(by_handle: bool) -> None:
    thread = take_up(Loose(unanswered_from=70), by_handle=by_handle, covered=True)
    assert thread == Thread(rewind_to=70, without_last_turn=True)


def test_a_broken_reply_is_gone_on_with_and_its_question_not_heard_again() -> None:
    thread = take_up(Loose(unanswered_from=70, reply_broken_off=True), by_handle=False, covered=True)
    assert thread == Thread(go_on=True)


def test_whoever_spoke_into_the_broken_reply_is_heard_instead() -> None:
    loose = Loose(unanswered_from=70, reply_broken_off=True, speech_after_reply_from=90)
    assert take_up(loose, by_handle=False, covered=True) == Thread(rewind_to=90)


def test_whoever_wrote_into_the_broken_reply_is_answered_instead() -> None:
    assert not take_up(Loose(reply_broken_off=True, orders=("Stop.",)), by_handle=False, covered=True).go_on


def test_a_handle_that_is_too_old_is_made_up_for_by_a_note() -> None:
    assert take_up(Loose(), by_handle=True, covered=False).note
    assert not take_up(Loose(), by_handle=False, covered=False).note
