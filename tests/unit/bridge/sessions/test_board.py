"""The board of sessions: one leader at most, legal moves only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sessions.board import Role, SessionBoard


def test_the_session_that_loses_the_lead_drains_and_hears_no_more() -> None:
    board = SessionBoard()
    first, second = board.open(), board.open()
    board.lead(first)
    assert board.lead(second) == first
    assert (board.role(first), board.role(second)) == (Role.DRAINING, Role.LEADING)
    assert board.hearing() == [second]


def test_two_sessions_may_hear_at_once() -> None:
    board = SessionBoard()
    first, second = board.open(), board.open()
    board.lead(first)
    board.hear(second, True)
    assert board.hearing() == [first, second]


def test_a_draining_session_may_take_the_lead_back() -> None:
    board = SessionBoard()
    first, second = board.open(), board.open()
    board.lead(first)
    board.lead(second)
    assert board.lead(first) == second
    assert board.leader == first


def test_leading_again_changes_nothing() -> None:
    board = SessionBoard()
    first = board.open()
    board.lead(first)
    assert board.lead(first) is None
    assert board.role(first) is Role.LEADING and board.hearing() == [first]


def test_closing_the_leader_leaves_nobody_in_the_lead() -> None:
    board = SessionBoard()
    first = board.open()
    board.lead(first)
    assert board.close(first)
    assert board.leader is None
    assert board.hearing() == []
    assert not board.close(first)


def test_a_session_that_is_gone_cannot_lead() -> None:
    board = SessionBoard()
    first = board.open()
    board.close(first)
    with pytest.raises(ValueError, match="session 1 is not open"):
        board.lead(first)


def test_numbers_are_never_used_twice() -> None:
    board = SessionBoard()
    first = board.open()
    board.close(first)
    assert board.open() != first


_WISHES = st.lists(
    st.tuples(st.sampled_from(["open", "lead", "hear", "deafen", "close"]), st.integers(0, 6)), min_size=10, max_size=60
)


@given(_WISHES)
def test_whatever_is_asked_there_is_one_leader_at_most_and_it_hears(wishes: list[tuple[str, int]]) -> None:
    board = SessionBoard()
    minted: list[int] = []
    for wish, choice in wishes:
        if wish == "open" or not minted:
            minted.append(board.open())
            continue
        number, before = minted[choice % len(minted)], board.leader
        is_open = number in board.open_numbers()
        if wish == "close":
            assert board.close(number) is (number == before)
            assert board.role(number) is Role.CLOSED
        elif not is_open:
            with pytest.raises(ValueError, match="not open"):
                board.lead(number) if wish == "lead" else board.hear(number, True)
        elif wish == "lead":
            assert board.lead(number) == (None if number == before else before)
            assert board.role(number) is Role.LEADING and number in board.hearing()
        else:
            board.hear(number, wish == "hear" or number == board.leader)
        leading = [one for one in board.open_numbers() if board.role(one) is Role.LEADING]
        assert leading == ([] if board.leader is None else [board.leader])
        assert set(board.hearing()) <= set(board.open_numbers()) <= set(minted)
    assert len(set(minted)) == len(minted)
