"""What a scripted mind remembers of a conversation: the part that a resumed session gets back."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Line", "Memory"]


class Line(msgspec.Struct, kw_only=True):
    """One line of the conversation, as the model believes it happened."""

    role: Literal["user", "assistant", "tool"]
    number: int
    """Of the turn (user), the reply (assistant) or the batch (tool)."""
    text: str = ""
    said_ms: int = 0
    """Speech in it."""
    heard_ms: int | None = None
    """How much of the reply the client said was heard; None: it never said."""


class Memory(msgspec.Struct, kw_only=True):
    """Lines and counters. `snapshot()` is what a handle stands for."""

    lines: list[Line] = msgspec.field(default_factory=list)
    turns: int = 0
    replies: int = 0
    batches: int = 0

    def snapshot(self) -> Memory:
        """A copy that goes on unchanged."""
        lines = [msgspec.structs.replace(line) for line in self.lines]
        return Memory(lines=lines, turns=self.turns, replies=self.replies, batches=self.batches)

    def add(self, line: Line) -> Line:
        self.lines.append(line)
        return line

    def line(self, role: Literal["user", "assistant", "tool"], number: int) -> Line | None:
        return next((line for line in reversed(self.lines) if line.role == role and line.number == number), None)

    def truncate(self, reply: int, heard_ms: int) -> bool:
        """Keep only what was heard of a reply: its words are cut in the same proportion. False: no such reply."""
        line = self.line("assistant", reply)
        if line is None:
            return False
        line.heard_ms = min(heard_ms, line.said_ms)
        words = line.text.split(" ")
        kept = len(words) * line.heard_ms // line.said_ms if line.said_ms else 0
        line.text = " ".join(words[:kept])
        return True

    def forget(self, reply: int) -> bool:
        """Drop a reply that nobody heard. False: no such reply."""
        line = self.line("assistant", reply)
        if line is not None:
            self.lines.remove(line)
        return line is not None
