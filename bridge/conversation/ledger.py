"""The record of a call: what was said and heard, by whom and when, and what the tools did. Bounded.

It outlives every session of every provider: what a new one is told comes from here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Protocol

from bridge.conversation.entries import Entry, Line, ToolUse, TranscriptLine
from bridge.conversation.memory_settings import MemorySettings
from bridge.conversation.names import Names
from bridge.conversation.stats import ConversationStats
from bridge.conversation.summary import RollingSummary
from bridge.core.words import ParticipantId

__all__ = ["Ledger", "Line", "ToolUse"]

_RESULT_KEPT = 4000
_MOST_CHARS = 2_000_000
"""However few the entries are: a day's talk is a tenth of it."""


class OpenLines(Protocol):
    """Lines that are being said at a time."""

    def __call__(self, now: float, *, ahead: bool = False) -> Iterable[Line]:
        """As far as they were heard. With `ahead`, a reply that was lost is there as far as it will be heard if nobody
        interrupts."""
        ...


class Ledger:
    """Entries of one call, oldest first. Full (of entries, or of 2 million characters): the oldest goes,
    `forgotten_entries` counts it, and the summary keeps its gist."""

    def __init__(self, capacity: int, stats: ConversationStats, settings: MemorySettings | None = None) -> None:
        self.settings = settings or MemorySettings()
        self.names = Names(self.settings.words.assistant)
        self.still_open: OpenLines = _nothing_open
        """The scribe's, who closes them."""
        self.grown: Callable[[], None] = lambda: None
        """Called when an entry was folded into the summary."""
        self.version = 0
        """Grows with every entry and every tool's answer."""
        self.several_speakers = False
        """More than one person was on record so far."""
        self.summary = RollingSummary(self.settings.summary_chars, self.settings.words, self.names, stats)
        """Of what is older than the last turns."""
        self._stats = stats
        self._capacity = capacity
        self._entries: deque[Entry] = deque()
        self._sizes: deque[int] = deque()
        self._again: list[Line] = []  # the next session will transcribe these once more
        self._chars = 0
        self._told_in_full = 0  # the newest of these, which the summary does not hold
        self._first_speaker: ParticipantId | None = None

    # ------------------------------------------------------------------------------------------------ what there is

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries)

    @property
    def lines(self) -> tuple[Line, ...]:
        """What was said and heard, without the tools."""
        return tuple(entry for entry in self._entries if isinstance(entry, Line))

    def open_lines(self, now: float) -> tuple[Line, ...]:
        """What is being said, as far as it was heard by now; a user's turn as far as it was understood."""
        return tuple(self.still_open(now))

    def recent(self, now: float, *, ahead: bool = False) -> list[Entry]:
        """All that the summary does not hold, and what is being said, in the order in which it began.

        A transcript may come long after its turn, when the answer to it was heard already: the order of the record is
        that of its coming, this one is that of the conversation. `ahead`: see `OpenLines`.
        """
        start = len(self._entries) - self._told_in_full
        return sorted((*islice(self._entries, start, None), *self.still_open(now, ahead=ahead)), key=_began)

    def transcript(self, since: float = 0.0, now: float | None = None) -> list[TranscriptLine]:
        """The whole record in the order of the conversation, with names; times count from `since`, s. With `now`, what
        is being said is in it too."""
        entries = sorted((*self._entries, *(self.still_open(now) if now is not None else ())), key=_began)
        return [self._transcribed(entry, since) for entry in entries]

    # -------------------------------------------------------------------------------------------------- what happens

    def said(self, line: Line) -> None:
        if line.speaker is not None:
            self._first_speaker = self._first_speaker or line.speaker
            self.several_speakers = self.several_speakers or line.speaker != self._first_speaker
        self._add(line)

    def will_be_heard_again(self) -> None:
        """The next session hears, and transcribes, what the user said since the model's last words."""
        entries = sorted(self._entries, key=_began)
        lines = [entry for entry in entries if isinstance(entry, Line)]
        answered = [line.ended_at or line.at for line in lines if line.speaker is None]
        self._again = [
            line
            for line in lines
            if line.speaker is not None and not line.typed and (line.ended_at or line.at) > max(answered, default=0.0)
        ]

    def heard_again(self) -> Line | None:
        """The words of a new turn have come: take out those that they repeat. Returns the first of these lines."""
        again, self._again = self._again, []
        first = again[0] if again else None
        in_summary = len(self._entries) - self._told_in_full
        for place in range(len(self._entries) - 1, in_summary - 1, -1):
            if any(self._entries[place] is line for line in again):
                del self._entries[place]
                self._chars -= self._sizes[place]
                del self._sizes[place]
                self._told_in_full -= 1
                self.version += 1
        return first

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
        for age, entry in enumerate(reversed(self._entries)):
            if isinstance(entry, ToolUse) and entry.ended_at is None and entry.call_id == call_id:
                if not call_id and entry.name != name:
                    continue
                entry.result = None if result is None else result[:_RESULT_KEPT]
                entry.error, entry.cancelled, entry.ended_at = error, cancelled, now
                self.version += 1
                if age >= self._told_in_full:
                    self._fold(entry)  # a second time, now with what came of it
                return

    # ------------------------------------------------------------------------------------------------------ workings

    def _add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._sizes.append(_size(entry))
        self._chars += self._sizes[-1]
        self._told_in_full += 1
        self.version += 1
        if self._told_in_full > self.settings.turns:
            self._fold_oldest()
        while len(self._entries) > self._capacity or (self._chars > _MOST_CHARS and len(self._entries) > 1):
            if self._told_in_full == len(self._entries):
                self._fold_oldest()
            self._entries.popleft()
            self._chars -= self._sizes.popleft()
            self._stats.forgotten_entries += 1

    def _fold_oldest(self) -> None:
        self._fold(self._entries[-self._told_in_full])
        self._told_in_full -= 1

    def _fold(self, entry: Entry) -> None:
        self.summary.fold(entry)
        self.grown()

    def _transcribed(self, entry: Entry, since: float) -> TranscriptLine:
        ended_s = None if entry.ended_at is None else entry.ended_at - since
        if isinstance(entry, Line):
            return TranscriptLine(
                role="assistant" if entry.speaker is None else "user",
                speaker=entry.speaker or "",
                name=self.names.of(entry.speaker),
                text=entry.text.strip(),
                began_s=entry.at - since,
                ended_s=ended_s,
                typed=entry.typed,
                interrupted=entry.interrupted or entry.lost,
            )
        return TranscriptLine(
            role="tool",
            speaker=entry.name,
            name=entry.name,
            text=entry.result or "",
            began_s=entry.at - since,
            ended_s=ended_s,
            arguments=entry.arguments,
            failed=entry.error or entry.cancelled,
        )


def _size(entry: Entry) -> int:
    return len(entry.text) if isinstance(entry, Line) else len(str(entry.arguments)) + _RESULT_KEPT


def _nothing_open(now: float, *, ahead: bool = False) -> Iterable[Line]:
    return ()


def _began(entry: Entry) -> float:
    return entry.at
