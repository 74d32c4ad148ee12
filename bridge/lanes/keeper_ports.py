"""What the session keeper counts, and what it asks of the fast lane and of the call's record."""

from __future__ import annotations

from typing import Protocol

import msgspec

from bridge.lanes.open_sessions import Feeds
from bridge.sessions.thread import Loose
from providers.contract import Capabilities, HistoryItem
from providers.errors import NeedsNewSession, ProviderError, ResumeRefused, SessionEnded, SettingRefused

__all__ = ["FastPort", "KeeperStats", "Memory"]

_NO_FAILURE = (ResumeRefused, SettingRefused, NeedsNewSession, SessionEnded)
"""A handle that is not taken, and what we refuse ourselves before anybody is asked."""


class KeeperStats(msgspec.Struct):
    sessions_opened: int = 0
    sessions_lost: int = 0
    """Leading sessions that ended without our asking."""
    connect_failures: int = 0
    """The provider was not reached, or refused a session."""
    resumes_refused: int = 0
    changes: int = 0
    """Leading sessions replaced on purpose, in a quiet moment."""
    changes_forced: int = 0
    """The same at the last safe moment, whatever was going on."""
    changes_put_off: int = 0
    """A successor was ready, but somebody had begun to speak: closed, and another moment looked for."""
    failovers: int = 0
    """The call went on with the next model of its list."""
    idle_closed: int = 0
    idle_woken: int = 0
    longest_leaderless_ms: float = 0.0
    """The longest time without a leading session, sleep and start apart."""

    def not_opened(self, problem: ProviderError) -> None:
        """An attempt to dial or to open a session failed."""
        if not isinstance(problem, _NO_FAILURE):
            self.connect_failures += 1


class FastPort(Feeds, Protocol):
    """What is asked of the fast lane."""

    def rewind(self, frame: int) -> None: ...
    def watch_speech(self, on: bool) -> None: ...
    def doze(self, on: bool) -> None: ...
    def is_quiet(self) -> bool: ...
    def silent_since(self) -> float: ...
    def loose_ends(self) -> Loose: ...
    def go_on(self, instructions: str) -> None: ...


class Memory(Protocol):
    """What the call knows and a new session must be told."""

    @property
    def version(self) -> int:
        """Grows with all that is said, called or answered."""
        ...

    @property
    def is_wrong(self) -> bool:
        """The provider remembers words that nobody heard."""
        ...

    def seed(self, capabilities: Capabilities, *, without_last_turn: bool) -> tuple[HistoryItem, ...]: ...
    def going_on(self) -> str: ...
    def last_exchange(self) -> str: ...
