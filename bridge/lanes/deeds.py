"""What a decision means outside the fast lane: the room is shown something, the model told, the control lane asked."""

from __future__ import annotations

from typing import assert_never

from bridge.core.commands import (
    CancelTools,
    EndCall,
    InterruptModel,
    Respond,
    RunTool,
    SendImage,
    SendText,
    ShowActivity,
    ShowCaption,
    ShowState,
    TruncateReply,
)
from bridge.lanes.fast_ports import ControlPort
from bridge.lanes.model_orders import ModelOrder, ModelOrders
from bridge.transports.contract import Transport
from providers.contract import ModelSession

__all__ = ["Deed", "Deeds"]

Deed = ModelOrder | ShowCaption | ShowState | ShowActivity | RunTool | CancelTools | EndCall
"""A command that nothing comes back of. Silence is none: the room's answer to it is news for the conversation."""


class Deeds:
    """Does what it is told at once, and waits for nothing. What the room cannot show is left out."""

    def __init__(self, room: Transport, orders: ModelOrders, control: ControlPort) -> None:
        self._room = room
        self._orders = orders
        self._control = control

    def do(self, deed: Deed, leading: ModelSession | None, now: float) -> None:
        """Args: leading is the session that is told, if it is for the model."""
        match deed:
            case ShowCaption(caption=caption):
                if self._room.capabilities.captions:
                    self._room.show_caption(caption)
            case ShowState(state=state):
                if self._room.capabilities.states:
                    self._room.show_state(state)
            case ShowActivity(activity=activity):
                if self._room.capabilities.activities:
                    self._room.show_activity(activity)
            case TruncateReply() | InterruptModel() | Respond() | SendText() | SendImage():
                self._orders.give(deed, leading, now)
            case RunTool(call=call):
                self._control.run_tool(call)
            case CancelTools(call_ids=call_ids):
                if leading is not None:
                    self._control.cancel_tools(leading.number, call_ids)
            case EndCall(reason=reason, detail=detail):
                self._control.end_call(reason, detail)
            case _:
                assert_never(deed)
