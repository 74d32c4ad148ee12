"""What the fast lane counts, and what it asks of the control lane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from bridge.core.commands import Command
from bridge.core.words import EndReason
from providers.contract import (
    Closed,
    ErrorReported,
    GoAway,
    ReplyStarted,
    ResumptionUpdate,
    ToolCall,
    WarningReported,
)

__all__ = ["ControlPort", "FastStats", "Told"]

Told = ReplyStarted | ResumptionUpdate | GoAway
"""What a session tells of its own end, and of what goes on after it: known of those beside the leader too."""


class ControlPort(Protocol):
    """What the fast lane may ask of the control lane. Each call returns at once."""

    def run_tool(self, call: ToolCall) -> None: ...
    def cancel_tools(self, session: int, call_ids: Sequence[str]) -> None: ...
    def results_settled(self, session: int) -> None: ...
    def end_call(self, reason: EndReason, detail: str) -> None: ...
    def session_closed(self, closed: Closed) -> None: ...
    def session_told(self, event: Told) -> None: ...
    def reported(self, report: ErrorReported | WarningReported) -> None: ...
    def wake(self) -> None: ...
    def published(self, command: Command) -> None: ...


class FastStats(msgspec.Struct):
    frames_in: int = 0
    """Frames from the room."""
    frames_out: int = 0
    """Bus frames to the leading session."""
    side_events: int = 0
    """Events of sessions that do not lead: not acted on. Their ends and what they report are."""
    mute_sessions: int = 0
    """Somebody spoke, and for `answers.mute_after_s` the leading session told nothing: it was asked to answer."""
    stalled_goodbyes: int = 0
    """Calls that ended with a reply begun and never completed."""
