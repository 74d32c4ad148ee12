"""Session events on their way out: listeners in the loop's own turn, bounded readers, a backlog before them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from providers.contract import Closed, Listener, SessionEvent, WarningReported

__all__ = ["BoundedReader", "EventFanout"]

_log = logging.getLogger("providers.events")


class BoundedReader:
    """Events waiting for one reader. Full: the oldest goes and `missed` counts it. Ends after `Closed`.

    One consumer at a time; a second concurrent `__anext__` raises RuntimeError.
    """

    def __init__(self, capacity: int, on_close: Callable[[BoundedReader], None]) -> None:
        if capacity < 1:
            raise ValueError(f"capacity = {capacity}: a reader holds at least one event")
        self.missed = 0
        self._capacity = capacity
        self._waiting: deque[SessionEvent] = deque()
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        self._on_close = on_close

    def put(self, event: SessionEvent) -> None:
        """Queue one event; never waits."""
        if self._ended:
            return
        if len(self._waiting) >= self._capacity:
            self._waiting.popleft()
            self.missed += 1
        self._waiting.append(event)
        self._wake()

    def end(self) -> None:
        """What waits may still be read; then the reader stops."""
        self._ended = True
        self._wake()

    def close(self) -> None:
        """Stop reading: what waits is dropped, and the session forgets this reader."""
        self._waiting.clear()
        self._on_close(self)
        self.end()

    def __aiter__(self) -> BoundedReader:
        return self

    async def __anext__(self) -> SessionEvent:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise RuntimeError("this reader is already being read: open a second one with read()")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._waiting.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Subscription:
    __slots__ = ("active", "listener")

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.active = True


class EventFanout:
    """Gives each event to every listener, then to every reader. The first to come gets what happened before.

    The backlog before that is bounded: full, the oldest event goes, and a first listener is told how many with
    `events_missed` (a first reader counts them in `missed`). A listener that raises is told of with `listener_failed`.
    After `Closed` nothing more is passed on.
    """

    def __init__(self, backlog: int = 1024) -> None:
        self._missed = 0
        self._capacity = backlog
        self._backlog: deque[SessionEvent] | None = deque()
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._readers: tuple[BoundedReader, ...] = ()
        self._deferred: deque[SessionEvent] = deque()
        self._emitting = False
        self._ended = False

    def emit(self, event: SessionEvent) -> None:
        """Pass one event on, in this very turn.

        A listener may cause further events: they wait until this one has reached everybody, so that all see one order.
        """
        if self._emitting:
            self._deferred.append(event)
            return
        self._emitting = True
        try:
            self._pass_on(event)
            while self._deferred:
                self._pass_on(self._deferred.popleft())
        finally:
            self._emitting = False

    def listen(self, listener: Listener) -> Callable[[], None]:
        """See `ModelSession.listen`. After the returned call the listener is not called again."""
        subscription = _Subscription(listener)
        backlog, self._backlog = self._backlog, None
        if backlog:
            if self._missed:
                said = f"{self._missed} events came before anybody listened, and are lost"
                backlog.appendleft(WarningReported(backlog[0].session, "events_missed", said))
            # Whatever the listener causes meanwhile comes after the backlog.
            emitting, self._emitting = self._emitting, True
            try:
                for event in backlog:
                    self._call(subscription, event)
            finally:
                self._emitting = emitting
        self._subscriptions = (*self._subscriptions, subscription)
        if not self._emitting and self._deferred:
            self.emit(self._deferred.popleft())

        def stop() -> None:
            subscription.active = False
            self._subscriptions = tuple(one for one in self._subscriptions if one is not subscription)

        return stop

    def read(self, capacity: int = 256) -> BoundedReader:
        """See `ModelSession.read`."""
        reader = BoundedReader(capacity, self._forget)
        backlog, self._backlog = self._backlog, None
        if backlog:
            reader.missed = self._missed
            for event in backlog:
                reader.put(event)
        if self._ended:
            reader.end()
        else:
            self._readers = (*self._readers, reader)
        return reader

    def _pass_on(self, event: SessionEvent) -> None:
        if self._ended:
            return
        if self._backlog is not None:
            if len(self._backlog) >= self._capacity:
                self._backlog.popleft()
                self._missed += 1
            self._backlog.append(event)
        for subscription in self._subscriptions:
            self._call(subscription, event)
        for reader in self._readers:
            reader.put(event)
        if isinstance(event, Closed):
            self._ended = True
            for reader in self._readers:
                reader.end()
            self._readers = ()
            self._subscriptions = ()

    def _call(self, subscription: _Subscription, event: SessionEvent) -> None:
        if not subscription.active:
            return
        try:
            subscription.listener(event)
        except Exception as error:
            # A listener's bug must not end the conversation, nor keep the event from the others.
            _log.exception("a listener raised on %s", type(event).__name__)
            if not isinstance(event, WarningReported):  # or one bug would beget warnings for ever
                said = f"a listener raised {type(error).__name__} on {type(event).__name__}"
                self._deferred.append(WarningReported(event.session, "listener_failed", said))

    def _forget(self, reader: BoundedReader) -> None:
        self._readers = tuple(one for one in self._readers if one is not reader)
