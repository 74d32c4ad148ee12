"""What one connection travels on: a WebSocket, or a call over WebRTC (`providers.emulators.call_carrier`)."""

from __future__ import annotations

import select
import time
from collections.abc import AsyncGenerator
from typing import Literal, Protocol

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

__all__ = ["Carrier", "CarrierLost", "Ending", "Heard", "SocketCarrier"]


class CarrierLost(Exception):
    """The connection is over: nothing can be sent any more. How it ended, `Carrier.ending` says."""


class Heard(msgspec.Struct, frozen=True, gc=False):
    """Sound that a call's track brought."""

    pcm: bytes
    """int16 mono at 24 kHz."""


class Ending(msgspec.Struct, frozen=True):
    """How a connection ended."""

    code: int | None
    """Of the close frame; a call has none, and gives what stands for it. None: nobody said goodbye."""
    reason: str
    by_client: bool | None
    """None: nobody said goodbye."""


class Carrier(Protocol):
    """One connection's way to its client."""

    async def opened(self) -> None:
        """Wait until messages pass. Raises CarrierLost."""
        ...

    def received(self) -> AsyncGenerator[tuple[str | bytes | Heard, float]]:
        """Everything from the client with the time of its arrival, until the connection is over; never raises."""
        ...

    async def send(self, data: bytes, frame: Literal["text", "binary"]) -> None:
        """Raises CarrierLost."""
        ...

    def play(self, pcm: bytes) -> None:
        """Queue speech, int16 mono at 24 kHz, which goes out in real time."""
        ...

    def hush(self) -> None: ...
    def played_ms(self, now: float) -> float:
        """How much of what was ever played has gone out or was hushed."""
        ...

    def hold(self, *, pongs: bool) -> None:
        """Nothing goes out from here on. pongs: what the network itself answers still is, and input is still read."""
        ...

    def go_on(self) -> None: ...
    def left(self) -> bool:
        """Has the client gone? For when nobody reads."""
        ...

    async def close(self, code: int, reason: str = "") -> None:
        """With a goodbye, after what was sent."""
        ...

    def abort(self) -> None:
        """Without a goodbye."""
        ...

    def ending(self) -> Ending: ...


class SocketCarrier:
    """A WebSocket. It plays nothing."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket

    async def opened(self) -> None:
        pass

    async def received(self) -> AsyncGenerator[tuple[str | bytes | Heard, float]]:
        try:
            async for data in self._socket:
                yield data, time.monotonic()
        except ConnectionClosed:
            return  # any code: the client's end is its own affair

    async def send(self, data: bytes, frame: Literal["text", "binary"]) -> None:
        try:
            await self._socket.send(data, text=frame == "text")
        except ConnectionClosed as closed:
            raise CarrierLost(str(closed)) from closed

    def play(self, pcm: bytes) -> None:
        raise AssertionError("speech travels in messages here")

    def hush(self) -> None:
        raise AssertionError("nothing plays here")

    def played_ms(self, now: float) -> float:
        return 0.0

    def hold(self, *, pongs: bool) -> None:
        if not pongs:
            # Reading stops too, so that pings stay unanswered: the peer's machine is there, the service is not.
            self._socket.transport.pause_reading()

    def go_on(self) -> None:
        self._socket.transport.resume_reading()

    def left(self) -> bool:
        """Asked of the kernel, because a paused transport hears of it only after the data that nobody reads. Where
        there is no POLLRDHUP (not Linux), only a reset is noticed; without poll() nothing."""
        if not hasattr(select, "poll"):
            return False
        transport = self._socket.transport.get_extra_info("socket")
        descriptor = -1 if transport is None else transport.fileno()
        if descriptor < 0:
            return True
        look = select.poll()
        look.register(descriptor, getattr(select, "POLLRDHUP", 0))
        return bool(look.poll(0))

    async def close(self, code: int, reason: str = "") -> None:
        await self._socket.close(code, reason)

    def abort(self) -> None:
        self._socket.transport.abort()

    def ending(self) -> Ending:
        protocol = self._socket.protocol
        without_frame = protocol.close_rcvd is None or protocol.close_sent is None
        by_client = None if without_frame else bool(protocol.close_rcvd_then_sent)
        return Ending(self._socket.close_code, self._socket.close_reason or "", by_client)
