"""The handle that is kept is the one that loses least."""

from __future__ import annotations

from bridge.sessions.handle import HandleKeeper
from providers.contract import ResumptionUpdate


def update(handle: str, *, mid_turn: bool = False, resumable: bool = True) -> ResumptionUpdate:
    return ResumptionUpdate(1, handle, resumable=resumable, mid_turn=mid_turn)


def test_the_newest_handle_between_turns_covers_all_until_the_next_turn_begins() -> None:
    keeper = HandleKeeper()
    for name in ("a", "b"):
        keeper.update(update(name))
    assert (keeper.value, keeper.covers_all) == ("b", True)
    keeper.turn_began()
    assert (keeper.value, keeper.covers_all) == ("b", False)


def test_a_handle_from_the_midst_of_a_turn_is_taken_only_where_there_is_none() -> None:
    keeper = HandleKeeper()
    keeper.update(update("half", mid_turn=True))
    assert (keeper.value, keeper.covers_all) == ("half", False)
    keeper.update(update("whole"))
    keeper.update(update("half again", mid_turn=True))
    assert (keeper.value, keeper.covers_all) == ("whole", True)


def test_what_cannot_be_resumed_leaves_the_handle_before_it() -> None:
    keeper = HandleKeeper()
    keeper.update(update("a"))
    keeper.update(update("", resumable=False))
    assert keeper.value == "a"


def test_a_handle_whose_session_did_not_live_leads_nowhere_unless_a_newer_one_came_of_it() -> None:
    keeper = HandleKeeper()
    keeper.update(update("a"))
    keeper.tried("a")
    keeper.update(update("b"))
    keeper.lost_soon()
    assert keeper.value == "b"
    keeper.tried("b")
    keeper.lost_soon()
    assert (keeper.value, keeper.covers_all) == ("", False)


def test_a_fresh_session_that_did_not_live_says_nothing_about_the_handle() -> None:
    keeper = HandleKeeper()
    keeper.tried("")
    keeper.update(update("a"))
    keeper.lost_soon()
    assert keeper.value == "a"
