"""The other sides of the control lane, moved by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bridge.core.words import ToolAnswered
from bridge.lanes.fast_ports import Told
from bridge.sessions.feed import SessionFeed
from bridge.sessions.thread import Loose
from providers.contract import (
    Capabilities,
    Closed,
    GoAway,
    HistoryItem,
    ReplyStarted,
    ResumptionUpdate,
    SessionEvent,
    ToolCall,
)

__all__ = ["SAID", "ControlPart", "OrderedLane", "Remembers"]

SAID = (HistoryItem(role="user", text="two tickets, please"),)


class ControlPart(Protocol):
    """What is told of the sessions' events."""

    def session_closed(self, closed: Closed) -> None: ...
    def session_told(self, event: Told) -> object: ...
    def run_tool(self, call: ToolCall) -> None: ...


class OrderedLane:
    """The fast lane as the control lane sees it: hands events on and writes down the orders."""

    def __init__(self) -> None:
        self.control: ControlPart
        self.leader: int | None = None
        self.answered: list[ToolAnswered] = []
        self.floor_is_free = True
        self.feeds: dict[int, SessionFeed] = {}
        self.led: list[int] = []
        self.quiet = True
        self.silent_at = 0.0
        self.loose = Loose()
        self.rewound: list[int] = []
        self.asked: list[str] = []
        self.watches = self.dozes = False

    def add_session(self, feed: SessionFeed) -> None:
        self.feeds[feed.number] = feed

    def remove_session(self, number: int) -> None:
        self.feeds.pop(number, None)
        if number == self.leader:
            self.leader = None

    def listen(self, number: int) -> None:
        self.feeds[number].session.listen(self._on_event)

    def lead(self, number: int, hearing: Sequence[int]) -> None:
        assert number in hearing
        self.leader = number
        self.led.append(number)

    def hear(self, numbers: Sequence[int]) -> None: ...

    def rewind(self, frame: int) -> None:
        self.rewound.append(frame)

    def watch_speech(self, on: bool) -> None:
        self.watches = on

    def doze(self, on: bool) -> None:
        self.dozes = on

    def is_quiet(self) -> bool:
        return self.quiet

    def silent_since(self) -> float:
        return self.silent_at

    def loose_ends(self) -> Loose:
        return self.loose

    def go_on(self, instructions: str) -> None:
        self.asked.append(instructions)

    def tool_answered(self, event: ToolAnswered) -> None:
        self.answered.append(event)

    def _on_event(self, event: SessionEvent) -> None:
        match event:
            case Closed():
                self.control.session_closed(event)
            case ReplyStarted() | ResumptionUpdate() | GoAway():
                self.control.session_told(event)
            case ToolCall():
                self.control.run_tool(event)
            case _:
                pass


class Remembers:
    """What the call knows."""

    def __init__(self) -> None:
        self.version = 0
        self.is_wrong = False

    def seed(self, capabilities: Capabilities, *, without_last_turn: bool) -> tuple[HistoryItem, ...]:
        return SAID[:-1] if without_last_turn else SAID

    def going_on(self) -> str:
        return "go on"

    def last_exchange(self) -> str:
        return "you said this"
