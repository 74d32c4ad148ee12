"""The entries of a call's record: lines that were said and heard, and the tools that were used."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from bridge.core.words import ParticipantId

__all__ = ["Entry", "Line", "ToolUse", "TranscriptLine"]


class Line(msgspec.Struct, frozen=True):
    """One person's turn, or one reply as far as the room heard it."""

    speaker: ParticipantId | None
    """None: the model."""
    text: str
    at: float
    """When it began, on the call's clock, s."""
    ended_at: float | None = None
    """When its last sound was heard; None: it goes on."""
    heard_ms: float = 0.0
    """Speech of a reply that reached the room, ms."""
    interrupted: bool = False
    """The reply was cut; `text` ends where the speech did."""
    lost: bool = False
    """The reply's session ended before the reply did: more of it was to come."""
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


Entry = Line | ToolUse


class TranscriptLine(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the record, for people and their archives."""

    role: Literal["user", "assistant", "tool"]
    speaker: str
    """Identity of the participant; empty for the model; the name of a tool."""
    name: str
    """What he is called: his name in the room, else his identity."""
    text: str
    """What was said and heard; what a tool answered."""
    began_s: float
    """Since the call began, s."""
    ended_s: float | None
    """None: it had not ended when this was read."""
    typed: bool = False
    interrupted: bool = False
    """Cut: the text ends where the speech did."""
    arguments: dict[str, Any] | None = None
    """Of a tool call."""
    failed: bool = False
    """The tool failed or was called off."""
