"""What a model was told to do outlives its session until a model has begun to answer it."""

from __future__ import annotations

import pytest

from bridge.core.commands import InterruptModel, Respond, SendText
from bridge.lanes.model_orders import ModelOrders
from providers.contract import SessionStart
from providers.errors import SettingRefused
from tests.fakes.hand_model import CAPABILITIES, HandSession


@pytest.fixture
def wanted() -> list[str]:
    return []


@pytest.fixture
def orders(wanted: list[str]) -> ModelOrders:
    return ModelOrders(lambda: wanted.append("a leader"))


@pytest.fixture
def session() -> HandSession:
    return HandSession(SessionStart(), CAPABILITIES)


def test_what_nobody_can_do_now_waits_and_asks_for_a_leader(orders: ModelOrders, wanted: list[str]) -> None:
    orders.give(SendText("hello"), None, 0.0)
    orders.give(InterruptModel(), None, 0.0)  # of a session that is gone there is nothing to interrupt
    assert wanted == ["a leader"]
    assert (orders.stats.deferred, orders.stats.dropped) == (1, 0)
    assert orders.take_waiting() == [SendText("hello")]
    assert orders.take_waiting() == []


def test_of_too_many_the_oldest_go_and_are_counted(orders: ModelOrders) -> None:
    for n in range(40):
        orders.give(SendText(f"line {n}"), None, 0.0)
    assert orders.stats.dropped == 8
    assert orders.take_waiting()[0] == SendText("line 8")


def test_of_too_many_unanswered_ones_the_oldest_are_not_repeated_and_are_counted(
    orders: ModelOrders, session: HandSession
) -> None:
    for n in range(40):
        orders.give(SendText(f"line {n}"), session, 0.0)
    orders.leader_gone()
    assert (orders.stats.repeated, orders.stats.dropped) == (32, 8)
    assert orders.open[0] == SendText("line 8")


def test_what_a_lost_session_has_not_begun_to_answer_comes_before_what_waits(
    orders: ModelOrders, session: HandSession
) -> None:
    orders.give(SendText("answered"), session, 0.0)
    orders.answered()
    orders.give(SendText("first"), session, 1.0)
    orders.give(Respond(), session, 2.0)
    since = orders.unanswered_since
    orders.leader_gone()
    orders.give(SendText("last"), None, 3.0)
    assert (since, orders.unanswered_since) == (1.0, None)
    assert orders.stats.repeated == 2
    assert orders.take_waiting() == [SendText("first"), Respond(), SendText("last")]


def test_a_note_that_wants_no_answer_is_not_repeated(orders: ModelOrders, session: HandSession) -> None:
    orders.give(SendText("a note", respond=False), session, 0.0)
    orders.leader_gone()
    assert orders.open == ()


async def test_a_session_that_has_just_ended_leaves_the_order_to_the_next(
    orders: ModelOrders, session: HandSession
) -> None:
    await session.close()
    orders.give(SendText("hello"), session, 0.0)
    assert orders.open == (SendText("hello"),)


def test_a_refused_order_is_counted_and_not_tried_again(
    orders: ModelOrders, session: HandSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "send_text", _refuses)
    orders.give(SendText("hello"), session, 0.0)
    assert orders.stats.refused == 1
    assert orders.open == ()


def _refuses(*_: object, **__: object) -> None:
    raise SettingRefused("text", "hello", "this model takes none")
