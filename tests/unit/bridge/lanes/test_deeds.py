"""What decisions mean outside: each for the one whom it concerns, and nothing for a room that has no place for it."""

from __future__ import annotations

from typing import cast

import msgspec
import pytest

from bridge.core.commands import (
    CancelTools,
    EndCall,
    InterruptModel,
    Respond,
    RunTool,
    SendText,
    ShowActivity,
    ShowCaption,
    ShowState,
    TruncateReply,
)
from bridge.core.words import AgentState, Caption, EndReason, ToolActivity, ToolState
from bridge.lanes.deeds import Deed, Deeds
from bridge.lanes.fast_ports import ControlPort
from bridge.lanes.model_orders import ModelOrders
from bridge.transports.loopback import LoopbackRoom
from providers.contract import SessionStart, ToolCall
from tests.fakes.hand_model import CAPABILITIES, HandSession

CAPTION = Caption("s1", None, "hello", final=True)
ACTIVITY = ToolActivity("c1", "lookup", ToolState.STARTED)
CALL = ToolCall(1, "c1", "lookup", {})


class Control:
    """Writes down what it is asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def run_tool(self, call: ToolCall) -> None:
        self.asked.append(call)

    def cancel_tools(self, session: int, call_ids: tuple[str, ...]) -> None:
        self.asked.append((session, call_ids))

    def end_call(self, reason: EndReason, detail: str) -> None:
        self.asked.append((reason, detail))


class Stage:
    """A room, a model and a control lane, each of which remembers what it was given."""

    def __init__(self, **shows: bool) -> None:
        self.room = LoopbackRoom(clock=lambda: 0.0)
        self.room.capabilities = msgspec.structs.replace(self.room.capabilities, **shows)
        self.control = Control()
        self.orders = ModelOrders(lambda: None)
        self.session = HandSession(SessionStart(number=4), CAPABILITIES)
        self.deeds = Deeds(self.room, self.orders, cast(ControlPort, self.control))

    def do(self, *deeds: Deed, led: bool = True) -> None:
        for deed in deeds:
            self.deeds.do(deed, self.session if led else None, 0.0)


def test_the_room_is_shown_what_it_has_a_place_for() -> None:
    stage = Stage()
    stage.do(ShowCaption(CAPTION), ShowState(AgentState.THINKING), ShowActivity(ACTIVITY))
    room = stage.room
    assert (room.captions, room.states, room.activities) == ([CAPTION], [AgentState.THINKING], [ACTIVITY])


@pytest.mark.parametrize("lacking", ["captions", "states", "activities"])
def test_what_the_room_has_no_place_for_is_left_out_and_nothing_else(lacking: str) -> None:
    stage = Stage(**{lacking: False})
    stage.do(ShowCaption(CAPTION), ShowState(AgentState.THINKING), ShowActivity(ACTIVITY))
    room = stage.room
    shown = {"captions": room.captions, "states": room.states, "activities": room.activities}
    assert {name for name, given in shown.items() if not given} == {lacking}


def test_the_leading_session_is_told_in_order() -> None:
    stage = Stage()
    stage.do(TruncateReply("r1", 120), InterruptModel(), SendText("hello"), Respond("say hello"))
    assert stage.session.told == [
        ("truncate", "r1", 120),
        ("interrupt",),
        ("send_text", "hello"),
        ("respond", "say hello"),
    ]


def test_without_a_leading_session_its_orders_wait_for_the_next() -> None:
    stage = Stage()
    stage.do(SendText("hello"), TruncateReply("r1", 120), led=False)
    assert stage.orders.take_waiting() == [SendText("hello")], "a reply of nobody need not be truncated"


def test_the_control_lane_is_asked_for_all_that_may_wait() -> None:
    stage = Stage()
    stage.do(RunTool(CALL), CancelTools(("c1",)), EndCall(EndReason.ROOM_DELETED, "by hand"))
    assert stage.control.asked == [CALL, (4, ("c1",)), (EndReason.ROOM_DELETED, "by hand")]


def test_nobody_takes_tools_back_when_nobody_leads() -> None:
    stage = Stage()
    stage.do(CancelTools(("c1",)), led=False)
    assert stage.control.asked == []
