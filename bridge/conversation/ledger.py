"""The record of a call: what was said and heard, by whom and when, and what the tools did. Bounded."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from bridge.conversation.stats import ConversationStats
from bridge.core.words import ParticipantId

__all__ = ["Ledger", "Line", "ToolUse"]

_RESULT_KEPT = 4000


class Line(msgspec.Struct, frozen=True):
    """One person's turn, or one reply as far as the room heard it."""

    speaker: ParticipantId | None
    """None: the model."""
    text: str
    at: float
    """When its record was closed, on the call's clock, s."""
    heard_ms: float = 0.0
    """Speech of a reply that reached the room, ms."""
    interrupted: bool = False
    """The reply was cut; `text` ends where the speech did."""
    typed: bool = False
    """Written, not spoken."""


class ToolUse(msgspec.Struct):
    """One tool call and what became of it."""

    call_id: str
    name: str
    arguments: dict[str, Any]
    at: float
    result: str | None = None
    """None while it runs. The first 4000 characters."""
    error: bool = False
    cancelled: bool = False
    ended_at: float | None = None


class Ledger:
    """Entries of one call, oldest first. Full: the oldest goes, `forgotten_entries` counts it."""

    def __init__(self, capacity: int, stats: ConversationStats) -> None:
        self._stats = stats
        self._entries: deque[Line | ToolUse] = deque(maxlen=capacity)

    @property
    def entries(self) -> tuple[Line | ToolUse, ...]:
        return tuple(self._entries)

    @property
    def lines(self) -> tuple[Line, ...]:
        """What was said and heard, without the tools."""
        return tuple(entry for entry in self._entries if isinstance(entry, Line))

    def said(self, line: Line) -> None:
        self._add(line)

    def tool_called(self, call_id: str, name: str, arguments: dict[str, Any], now: float) -> None:
        self._add(ToolUse(call_id=call_id, name=name, arguments=arguments, at=now))

    def tool_ended(
        self,
        call_id: str,
        name: str,
        now: float,
        *,
        result: str | None = None,
        error: bool = False,
        cancelled: bool = False,
    ) -> None:
        """Close the newest open call of this id (or of this name, where the provider gives no ids)."""
        for entry in reversed(self._entries):
            if isinstance(entry, ToolUse) and entry.ended_at is None and entry.call_id == call_id:
                if not call_id and entry.name != name:
                    continue
                entry.result = None if result is None else result[:_RESULT_KEPT]
                entry.error, entry.cancelled, entry.ended_at = error, cancelled, now
                return

    def _add(self, entry: Line | ToolUse) -> None:
        if len(self._entries) == self._entries.maxlen:
            self._stats.forgotten_entries += 1
        self._entries.append(entry)
