"""How far the provider's own memory of a call can be trusted, and how it is put right.

Some providers keep every word that they have sent, heard or not, and no message makes them forget (Gemini). After an
interruption such a model believes that it has said what nobody heard. A note may be added to its memory while nothing
goes on; where that is not allowed (`Capabilities.repairable_memory`), its memory stays wrong until a new session is
seeded from the ledger.
"""

from __future__ import annotations

from collections import deque

import msgspec

from bridge.conversation.memory_settings import MemorySettings
from bridge.conversation.stats import ConversationStats

__all__ = ["ProviderMemory"]

_HARDLY_MS = 250.0
"""Less speech than this is no word that anybody would miss."""
_MOST_NOTES = 4
_UNANSWERED_S = 10.0
"""Whoever interrupts has something to say, and not every provider tells that he is saying it: the answer to him comes
first. This long after the cut none is expected any more."""


class _Unheard(msgspec.Struct, frozen=True, gc=False):
    reply_id: str
    heard: str
    """The words that were heard of it."""
    from_s: float
    """Not before this may it be told, unless the user has been answered."""


class ProviderMemory:
    """What the leading session remembers too much of. More than a few notes are never due at once: the oldest goes, and
    the memory is then believed wrong until the next seed."""

    def __init__(self, settings: MemorySettings, stats: ConversationStats) -> None:
        self.settings = settings
        self.is_wrong = False
        """It holds words that nobody heard."""
        self.told_ahead = False
        """The leading session was asked to go on with a reply of which a part was still on its way to the ear."""
        self._stats = stats
        self._unheard: deque[_Unheard] = deque()
        self._beyond_repair = False
        self._answered = False
        self._connected = False
        self._idle_since: float | None = None

    def session_began(self, *, resumed: bool) -> None:
        """A session leads. A fresh one knows what it was told; a resumed one, what was remembered before."""
        self._connected = True
        self.told_ahead = False
        if not resumed:
            self.is_wrong = self._beyond_repair = False
            self._unheard.clear()

    def session_ended(self) -> None:
        """Nobody can be told anything."""
        self._connected = False
        self._idle_since = None

    def cut(self, reply_id: str, heard: str, heard_ms: float, generated_ms: float, now: float) -> None:
        """A reply was silenced, and the provider cannot be made to forget the rest."""
        if generated_ms - heard_ms < _HARDLY_MS:
            return
        self.is_wrong = True
        self._answered = False
        self._stats.unheard_replies += 1
        self._unheard.append(_Unheard(reply_id, heard.strip(), now + _UNANSWERED_S))
        if len(self._unheard) > _MOST_NOTES:
            self._unheard.popleft()
            self._beyond_repair = True

    def turn_complete(self, reply_id: str | None) -> None:
        """A reply is over; one that was not cut answered whoever cut the one before."""
        if reply_id is not None and all(unheard.reply_id != reply_id for unheard in self._unheard):
            self._answered = True

    def due(self, now: float, *, idle: bool, repairable: bool) -> str:
        """The note to add now, or nothing. `idle`: nobody speaks, nothing sounds, nothing is made, no tool runs."""
        if not (idle and repairable and self._connected and self._unheard):
            self._idle_since = None
            return ""
        if self._idle_since is None:
            self._idle_since = now
        if now < self._from(self._idle_since):
            return ""
        words = self.settings.words
        note = "\n".join(
            words.heard_in_part.format(heard=unheard.heard) if unheard.heard else words.heard_not_at_all
            for unheard in self._unheard
        )
        self._unheard.clear()
        self._idle_since = None
        self.is_wrong = self._beyond_repair
        self._stats.memory_repairs += 1
        return note

    def deadline(self) -> float | None:
        """When a note is due if nothing happens until then."""
        return self._from(self._idle_since) if self._idle_since is not None and self._unheard else None

    def _from(self, idle_since: float) -> float:
        quiet = idle_since + self.settings.repair_after_ms / 1000
        return quiet if self._answered else max(quiet, self._unheard[-1].from_s)
