"""One wish at a time, and whoever made it learns how it ends, once."""

from __future__ import annotations

import asyncio

import pytest

from bridge.lanes.wishes import Wishes
from bridge.sessions.overrides import Overrides
from providers.errors import ProviderRejected, ProviderUnavailable, SessionEnded
from tests.fakes.hand_model import HandModel


def wanted(wishes: Wishes) -> object:
    """Asked anew, which a type checker would not expect of an attribute."""
    return wishes.model


class Wished:
    def __init__(self) -> None:
        self.refused = 0
        self.wishes = Wishes(self._refused)

    def _refused(self) -> None:
        self.refused += 1


async def test_a_wish_is_open_until_it_is_granted() -> None:
    case, model = Wished(), HandModel()
    granted = case.wishes.make("a swap", model=model).granted
    assert wanted(case.wishes) is model
    assert not granted.done()
    case.wishes.grant()
    assert granted.done() and granted.result() is None
    assert wanted(case.wishes) is None and case.refused == 0
    case.wishes.grant()  # a session leads that nobody wished for


async def test_a_second_wish_takes_the_place_of_the_first_which_is_told() -> None:
    case = Wished()
    first, second = case.wishes.make("a swap", model=HandModel()).granted, case.wishes.make("other settings").granted
    with pytest.raises(SessionEnded, match="another change was asked for"):
        await first
    assert case.refused == 0, "a change is still wanted"
    case.wishes.grant()
    await second


async def test_a_refusal_is_told_to_both_sides_once() -> None:
    case = Wished()
    granted = case.wishes.make("a swap", model=HandModel()).granted
    case.wishes.refuse(ProviderRejected("key"))
    case.wishes.refuse(ProviderRejected("again"))
    with pytest.raises(ProviderRejected, match="key"):
        await granted
    assert case.refused == 1 and wanted(case.wishes) is None


async def test_who_does_not_wait_any_more_wants_no_change_but_a_later_wish_stays() -> None:
    case = Wished()
    first = case.wishes.make("a swap", model=HandModel())
    case.wishes.withdraw(first)
    assert case.refused == 1 and wanted(case.wishes) is None
    second = case.wishes.make("other settings")
    case.wishes.withdraw(first)
    assert case.refused == 1 and not second.granted.done()
    case.wishes.refuse(SessionEnded("over"))
    with pytest.raises(SessionEnded):
        await second.granted


async def test_a_waiter_that_was_cancelled_is_not_told_a_second_time() -> None:
    case = Wished()
    granted = case.wishes.make("other settings").granted
    granted.cancel()
    case.wishes.grant()
    with pytest.raises(asyncio.CancelledError):
        await granted


async def test_another_model_serves_a_wish_for_one_by_being_it_and_other_settings_by_lacking_none_of_them() -> None:
    case, model = Wished(), HandModel()
    swap = case.wishes.make("a swap", model=model)
    assert swap.is_served_by(model, ["voice"]) and not swap.is_served_by(HandModel(), [])
    assert case.wishes.overrides == Overrides()
    voice = case.wishes.make("another voice", overrides=Overrides(voice="marin"))
    assert voice.is_served_by(HandModel(), ["instructions"]) and not voice.is_served_by(model, ["voice"])
    assert case.wishes.overrides == Overrides(voice="marin") and wanted(case.wishes) is None
    case.wishes.grant()
    assert case.wishes.overrides == Overrides()


async def test_a_wish_is_past_hope_after_what_will_fail_again_or_when_its_patience_is_over() -> None:
    case, gone = Wished(), ProviderUnavailable("gone")
    wish = case.wishes.make("a swap", model=HandModel())
    assert not wish.is_past_hope(gone, 100.0, 10.0, 30.0)
    assert wish.is_past_hope(ProviderRejected("key"), 110.0, 0.0, 30.0)
    assert not wish.is_past_hope(gone, 120.0, 10.0, 30.0)
    assert wish.is_past_hope(gone, 120.1, 10.0, 30.0), "since the first failure"


async def test_a_session_is_opened_for_the_wish_that_its_model_can_serve() -> None:
    case, model = Wished(), HandModel()
    assert case.wishes.of(model) is None
    swap = case.wishes.make("a swap", model=model)
    assert case.wishes.of(model) is swap and case.wishes.of(HandModel()) is None
    voice = case.wishes.make("another voice", overrides=Overrides(voice="marin"))
    assert case.wishes.of(model) is voice
