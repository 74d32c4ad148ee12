"""What is older than the last turns of a call, in few words. It rolls on as the call does, and never grows."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from bridge.conversation.digest import Digest
from bridge.conversation.entries import Entry, Line
from bridge.conversation.memory_settings import MemoryWords
from bridge.conversation.names import Names
from bridge.conversation.stats import ConversationStats

__all__ = ["RollingSummary", "Summarize", "SummaryWork"]

_MOST_WAITING = 64
_BATCH = 8


class SummaryWork(msgspec.Struct, frozen=True):
    """What an application's `summarize` is given."""

    summary: str
    """Of all that came before; empty the first time."""
    lines: tuple[str, ...]
    """What is to be added, oldest first: `Ann: I would like a table for four.`"""
    chars: int
    """The new summary should not be longer. What is longer is cut."""


Summarize = Callable[[SummaryWork], Awaitable[str]]
"""Makes one summary out of the one so far and what was said since."""


class RollingSummary:
    """An extractive digest of our own, or the text that an application makes; then the digest covers only what its text
    does not hold yet. Entries that wait for the application are bounded: the oldest goes into the digest instead."""

    def __init__(
        self,
        chars: int,
        words: MemoryWords,
        names: Names,
        stats: ConversationStats,
    ) -> None:
        self.made_by_application = False
        """Set it before the call begins: entries then wait for `work`."""
        self._chars = chars
        self._words = words
        self._names = names
        self._stats = stats
        self._text = ""
        self._digest = Digest(chars, words)
        self._waiting: deque[Entry] = deque()
        self._given = 0  # of those that wait: what the application is at work on
        self._busy = False
        self._meanwhile = self._digest  # what was given up while it is at work, and that it was not given

    @property
    def is_empty(self) -> bool:
        """Nothing is older than the last turns."""
        return not (self._text or self._waiting or self._digest.text or self._digest.left_out)

    def fold(self, entry: Entry) -> None:
        """This entry has left the last turns."""
        if not self.made_by_application:
            self._digest.fold(entry, self._name(entry))
            self._stats.folded_entries += 1
            return
        self._waiting.append(entry)
        if len(self._waiting) > _MOST_WAITING:
            self._give_up_oldest()

    def work(self) -> SummaryWork | None:
        """What the application should summarize now: None while there is too little, or it is at work. `done` or
        `failed` must follow."""
        if self._busy or len(self._waiting) < _BATCH:
            return None
        self._busy = True
        self._given = len(self._waiting)
        self._meanwhile = Digest(self._chars, self._words)
        before = self._joined(self._digest.within(self._room(self._chars)).text, self._chars)
        lines = tuple(self._words.told(entry, self._name(entry)) for entry in self._waiting)
        return SummaryWork(before, lines, self._chars)

    def done(self, text: str) -> None:
        """The application's new summary."""
        self._text = text.strip()[: self._chars]
        self._digest = self._meanwhile
        for _ in range(self._given):
            self._waiting.popleft()
        self._given, self._busy = 0, False
        self._stats.summaries += 1

    def failed(self) -> None:
        """The application made none: what it was given goes into the digest."""
        while self._given:
            self._give_up_oldest()
        self._busy = False
        self._stats.summaries_failed += 1

    def text(self, chars: int, more: Iterable[Entry] = ()) -> str:
        """The summary with these entries folded in too, at most so many characters."""
        chars = min(chars, self._chars)
        if chars <= 0:
            return ""
        digest = self._digest.within(self._room(chars))
        for entry in (*self._waiting, *more):
            digest.fold(entry, self._name(entry))
        return self._joined(digest.text, chars)

    def _room(self, chars: int) -> int:
        """What the digest may fill beside the application's text, which gives way for a quarter."""
        return max(chars - len(self._text) - 1, chars // 4) if self._text else chars

    def _joined(self, digest: str, chars: int) -> str:
        if not self._text:
            return digest[:chars]
        if not digest:
            return self._text[:chars]
        kept = self._text[: max(0, chars - len(digest) - 1)].rstrip()
        return f"{kept}\n{digest}" if kept else digest[:chars]

    def _give_up_oldest(self) -> None:
        """The oldest that waits goes into the digest."""
        entry = self._waiting.popleft()
        name = self._name(entry)
        self._digest.fold(entry, name)
        if self._given:
            self._given -= 1
        elif self._busy:
            self._meanwhile.fold(entry, name)
        self._stats.folded_entries += 1

    def _name(self, entry: Entry) -> str:
        return self._names.of(entry.speaker) if isinstance(entry, Line) else entry.name
