"""The open sessions of one call: each with its place on the board, its model, and its feed in the fast lane."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from bridge.lanes.outboxes import Outboxes
from bridge.sessions.board import SessionBoard
from bridge.sessions.feed import SessionFeed
from bridge.sessions.handle import HandleKeeper
from bridge.sessions.overrides import Overrides
from providers.contract import ModelSession, SessionStart, SpeechModel, Standby
from providers.errors import SessionEnded

__all__ = ["Feeds", "OpenSession", "OpenSessions"]

log = logging.getLogger(__name__)


class Feeds(Protocol):
    """What is asked of the fast lane for each session."""

    def add_session(self, feed: SessionFeed) -> None: ...
    def listen(self, number: int) -> None: ...
    def lead(self, number: int, hearing: Sequence[int]) -> None: ...
    def hear(self, numbers: Sequence[int]) -> None: ...
    def remove_session(self, number: int) -> None: ...


class OpenSession(msgspec.Struct, eq=False):
    """What is known of one session while it is open."""

    session: ModelSession
    model: SpeechModel
    knows: Overrides
    """What had been changed in the call when it was opened, and what it was told of since."""
    opened_at: float
    """When it was ready."""
    ends_at: float = math.inf
    """As its provider has announced."""
    handle: HandleKeeper = msgspec.field(default_factory=HandleKeeper)
    """Its newest; one that goes on by the handle of another session goes on with it."""


class OpenSessions:
    """Opens, finds and closes sessions; which of them leads is decided elsewhere."""

    def __init__(
        self,
        name: str,
        *,
        make_feed: Callable[[ModelSession], SessionFeed],
        opened: Callable[[int], None],
        gone: Callable[[int], None],
    ) -> None:
        """Args: opened is told of each session that is ready; gone, of each that is forgotten."""
        self.board = SessionBoard()
        self.closing = False
        """The call is ending: nothing is opened any more."""
        self._name = name
        self._make_feed = make_feed
        self._opened = opened
        self._gone = gone
        self._lane: Feeds | None = None
        self._sessions: dict[int, OpenSession] = {}
        self._listened: set[int] = set()
        self._outboxes = Outboxes()

    def start(self, lane: Feeds) -> None:
        self._lane = lane

    def get(self, number: int | None) -> ModelSession | None:
        known = None if number is None else self.find(number)
        return None if known is None else known.session

    def must_get(self, number: int) -> ModelSession:
        """Raises ValueError if it is not open."""
        return self.known(number).session

    def find(self, number: int) -> OpenSession | None:
        """None if it is not open."""
        return self._sessions.get(number)

    def known(self, number: int) -> OpenSession:
        """Raises ValueError if it is not open."""
        self.must_be_open(number)
        return self._sessions[number]

    async def open(
        self,
        model: SpeechModel,
        start: SessionStart,
        standby: Standby | None = None,
        *,
        knows: Overrides = Overrides(),  # noqa: B008 - frozen
    ) -> int:
        """Open a session that nobody listens to yet, on a connection that waits where there is one; returns its number.

        Args: knows is what of `start` was changed since the call began.
        Raises: the provider's own errors; SessionEnded when the call ends meanwhile.
        """
        number = self.board.open()
        try:
            numbered = msgspec.structs.replace(start, number=number)
            session = await (model.connect(numbered) if standby is None else standby.connect(numbered))
        except BaseException:
            self.board.close(number)
            raise
        if self.closing:  # nobody else would ever close it
            self.board.close(number)
            await session.close()
            raise SessionEnded("the call ended while a session was being opened")
        self._sessions[number] = OpenSession(session, model, knows, asyncio.get_running_loop().time())
        feed = self._make_feed(session)
        feed.resumed = bool(start.resume)
        self._feeds.add_session(feed)
        self._opened(number)
        return number

    def lead(self, number: int) -> None:
        """Give the lead to an open session; the one that had it drains."""
        self.board.lead(number)
        # First the lead: a model that speaks up by itself may have said its first words already, and what it said comes
        # with the first listener.
        self._feeds.lead(number, self.board.hearing())
        self.listen(number)

    def listen(self, number: int) -> None:
        """Take this session's events from now on; twice is as once."""
        if number not in self._listened:
            self._listened.add(number)
            self._feeds.listen(number)

    def hear(self, number: int, hears: bool) -> None:
        """Send microphone audio to this session too, or no longer. Raises ValueError if it is not open."""
        self.must_be_open(number)
        self.board.hear(number, hears)
        self._feeds.hear(self.board.hearing())

    def forget(self, number: int) -> ModelSession | None:
        """It can neither lead nor hear any more; the caller closes it. None: it was forgotten before."""
        self.board.close(number)
        self._feeds.remove_session(number)
        self._listened.discard(number)
        known = self._sessions.pop(number, None)
        if known is None:
            return None
        self._outboxes.leave(known.session)
        self._gone(number)
        return known.session

    async def close(self, number: int) -> None:
        """Close a session that does not lead. Raises ValueError for the leader."""
        if number == self.board.leader:
            raise ValueError(f"session {number} leads: give the lead to another one first")
        session = self.forget(number)
        if session is not None:
            await session.close()

    async def close_all(self) -> None:
        """Bounded by each session's own goodbye."""
        self.closing = True
        goodbyes = await asyncio.gather(
            *(known.session.close() for known in self._sessions.values()), return_exceptions=True
        )
        for known in self._sessions.values():
            self._outboxes.leave(known.session)
        self._sessions.clear()
        for failed in goodbyes:
            if isinstance(failed, Exception):
                log.error("session not closed call=%s", self._name, exc_info=failed)

    def counters(self) -> Iterator[tuple[str, float]]:
        """What all sessions of the call have sent and dropped, those that are gone included."""
        serving = [known.session for known in self._sessions.values()]
        told = self._outboxes.counters(serving, self.get(self.board.leader))
        return ((f"outbox.{name}", value) for name, value in told)

    def must_be_open(self, number: int) -> None:
        if number not in self._sessions:
            raise ValueError(f"session {number} is not open (open: {list(self._sessions) or 'none'})")

    @property
    def _feeds(self) -> Feeds:
        assert self._lane is not None, "sessions are opened during a call"
        return self._lane
