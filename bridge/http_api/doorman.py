"""Who may keep a connection open: a bound on their number, a time for the first request to arrive in, and one for an
answer to be taken in.

aiohttp bounds the size of a request and how long an idle connection is kept, and not how slowly a request may come, or
an answer be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import msgspec

__all__ = ["Doorman", "DoormanStats"]


class DoormanStats(msgspec.Struct):
    connections: int = 0
    refused: int = 0
    """Closed unread: too many were open."""
    too_slow: int = 0
    """Closed: no whole request in time, or an answer that nobody read."""


class Doorman:
    """Makes the protocols of a server. Full: a further connection is closed unread, counted."""

    def __init__(
        self, inner: Callable[[], asyncio.BaseProtocol], *, most: int, first_request_s: float, answer_s: float
    ) -> None:
        """Args: answer_s is for what waits to be sent to be taken, once the socket takes no more."""
        self.stats = DoormanStats()
        self._inner = inner
        self._most = most
        self._first_request_s = first_request_s
        self._answer_s = answer_s
        self._open: dict[asyncio.BaseTransport, _Door] = {}

    def __call__(self) -> asyncio.Protocol:
        return _Door(self, cast(asyncio.Protocol, self._inner()))

    @property
    def open(self) -> int:
        """Connections now."""
        return len(self._open)

    def request_came(self, transport: asyncio.BaseTransport | None) -> None:
        """The head of a request is here; from now on the server's own time-outs hold."""
        door = self._open.get(transport) if transport is not None else None
        if door is not None:
            door.cancel_timer()

    def _enter(self, transport: asyncio.Transport, door: _Door) -> asyncio.TimerHandle | None:
        if len(self._open) >= self._most:
            self.stats.refused += 1
            transport.abort()
            return None
        self.stats.connections += 1
        self._open[transport] = door
        return self._closes_after(self._first_request_s, transport)

    def _answer_waits(self, transport: asyncio.Transport) -> asyncio.TimerHandle:
        return self._closes_after(self._answer_s, transport)

    def _closes_after(self, wait_s: float, transport: asyncio.Transport) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(wait_s, self._is_too_slow, transport)

    def _is_too_slow(self, transport: asyncio.Transport) -> None:
        self.stats.too_slow += 1
        transport.abort()

    def _left(self, transport: asyncio.BaseTransport) -> None:
        self._open.pop(transport, None)


class _Door(asyncio.Protocol):
    """One connection; passes everything on once it is let in."""

    def __init__(self, doorman: Doorman, inner: asyncio.Protocol) -> None:
        self._doorman = doorman
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        # One of its own: a further request, sent ahead, must not win time for an answer that nobody reads.
        self._answering: asyncio.TimerHandle | None = None

    def cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _stop_answering(self) -> None:
        if self._answering is not None:
            self._answering.cancel()
            self._answering = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        self._timer = self._doorman._enter(stream, self)
        if self._timer is not None:
            self._transport = stream
            self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._transport is not None else None

    def connection_lost(self, exc: Exception | None) -> None:
        self.cancel_timer()
        self._stop_answering()
        if self._transport is not None:
            self._doorman._left(self._transport)
            self._inner.connection_lost(exc)
            self._transport = None

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._stop_answering()
            self._answering = self._doorman._answer_waits(self._transport)
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._stop_answering()
        if self._transport is not None:
            self._inner.resume_writing()
