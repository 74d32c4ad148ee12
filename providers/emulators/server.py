"""The WebSocket server that every emulator runs in: upgrade, timers, pacing, faults, and a record for tests.

    async with EmulatorServer(GeminiVendor(), scenario) as server:
        model = connect_to(server.url)
        ...
        server.connections[0].brain.hearing.recording.save("heard.wav")

or `await EmulatorServer(...).run()` until cancelled. It listens on 127.0.0.1 and a free port unless told otherwise.
What a vendor must provide stands in `providers.emulators.wire`.
"""

from __future__ import annotations

import asyncio
import select
import ssl
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Literal, Self
from urllib.parse import parse_qsl, urlsplit
from weakref import WeakKeyDictionary

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from providers.emulators.http_post import PostHandler, answering_posts
from providers.emulators.wire import Hangup, Outgoing, Output, Refusal, Strike, UpgradeRequest, Vendor, VendorWire
from providers.scripted.brain import Brain
from providers.scripted.scenario import (
    Abort,
    Close,
    Duplicate,
    Empty,
    Malformed,
    Refuse,
    Scenario,
    Stall,
    TimedFault,
    Unknown,
)

__all__ = ["Connection", "EmulatorServer", "EmulatorStats", "Message"]

_OPEN_TIMEOUT_S = 90.0
"""Longer than the longest `connect_delay_ms`."""
_CLOSE_TIMEOUT_S = 1.0
_LOOK_S = 0.1
"""How often a stalled connection looks whether its client is still there."""
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class Message(msgspec.Struct, frozen=True):
    """One message on the wire, for tests."""

    connection: int
    sent: bool
    """True: from the emulator to the client."""
    data: str | bytes
    at: float
    """`time.monotonic()` just after it was handed to the socket, or as it was received."""
    wall_s: float
    """Unix time of the same moment, to compare with other machines."""
    label: str = ""


class EmulatorStats(msgspec.Struct):
    """Plain counters of one server."""

    upgrades: int = 0
    refused: int = 0
    accepted: int = 0
    closed: int = 0
    messages_in: int = 0
    messages_out: int = 0
    bytes_out: int = 0
    faults: int = 0
    overflowed: int = 0
    """Connections aborted because the client did not read for too long."""


class Connection:
    """One accepted connection. Stays in `EmulatorServer.connections` after its end."""

    def __init__(self, number: int, wire: VendorWire, log_limit: int) -> None:
        self.number = number
        self.wire = wire
        self.log: deque[Message] = deque(maxlen=log_limit)
        """Newest messages of both directions, in order. Full: the oldest goes."""
        self.opened_at = time.monotonic()
        self.closed_at: float | None = None
        self.ended = asyncio.Event()
        """Set when the connection is over and its wire knows."""
        self.close_code: int | None = None
        self.close_reason = ""
        self.queue: deque[Output] = deque()
        self.wake = asyncio.Event()

    @property
    def brain(self) -> Brain:
        """The mind behind it. Raises LookupError before the client has set the session up."""
        if self.wire.brain is None:
            raise LookupError(f"connection {self.number} is not set up yet")
        return self.wire.brain

    def messages(self, *, sent: bool) -> list[Message]:
        """Of one direction, oldest first."""
        return [message for message in self.log if message.sent is sent]


class EmulatorServer:
    """One emulated service on a loopback port. A bug in a vendor's wire ends its connection and raises at exit."""

    def __init__(
        self,
        vendor: Vendor,
        scenario: Scenario | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        log_limit: int = 1000,
        queue_limit: int = 20_000,
    ) -> None:
        """Args: tls as `providers.emulators.tls` makes it; log_limit messages are kept for each connection;
        queue_limit messages may wait for a client that does not read, then its connection is aborted and counted."""
        self.vendor = vendor
        self.scenario = scenario or Scenario()
        """May be replaced; later connections follow the new one."""
        self.connections: list[Connection] = []
        self.stats = EmulatorStats()
        self.on_write: Callable[[Message], None] | None = None
        """Called after every message that was handed to a socket. Must return fast and must not raise."""
        self.on_read: Callable[[Message], None] | None = None
        self.failures: list[Exception] = []
        self._host = host
        self._port = port
        self._tls = tls
        self._log_limit = log_limit
        self._queue_limit = queue_limit
        self._server: Server | None = None
        self._accepted = asyncio.Event()
        self._leaving = asyncio.Event()
        self._upgraded: WeakKeyDictionary[ServerConnection, Connection] = WeakKeyDictionary()
        self._open: WeakKeyDictionary[ServerConnection, Connection] = WeakKeyDictionary()

    # ------------------------------------------------------------------------------------------------------ life

    @property
    def port(self) -> int:
        assert self._server is not None, "the port is known once the server runs"
        return int(next(iter(self._server.sockets)).getsockname()[1])

    @property
    def base_url(self) -> str:
        """`ws://` or `wss://`, host and port: the value of a base-URL setting."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'wss' if self._tls else 'ws'}://{host}:{self.port}"

    @property
    def url(self) -> str:
        """Where a client connects to."""
        return self.base_url + self.vendor.path

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._talk,
            self._host,
            self._port,
            ssl=self._tls,
            process_request=self._upgrade,
            create_connection=answering_posts(self._post, self._goodbye),
            compression=None,
            ping_interval=None,
            open_timeout=_OPEN_TIMEOUT_S,
            close_timeout=_CLOSE_TIMEOUT_S,
            max_size=_MAX_MESSAGE_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None, "left without having been entered"
        self._server.close()
        self._leaving.set()
        await self._server.wait_closed()
        if self.failures and error is None:
            raise ExceptionGroup(f"the {self.vendor.name} emulator failed", self.failures)

    async def run(self, ready: Callable[[EmulatorServer], None] | None = None) -> None:
        """Serve until cancelled; `ready` is called once the port is open."""
        async with self:
            if ready is not None:
                ready(self)
            await asyncio.get_running_loop().create_future()

    async def connected(self, number: int = 1) -> Connection:
        """Wait for the n-th accepted connection."""
        while len(self.connections) < number:
            self._accepted.clear()
            await self._accepted.wait()
        return self.connections[number - 1]

    # --------------------------------------------------------------------------------------------------- upgrade

    async def _upgrade(self, socket: ServerConnection, request: Request) -> Response | None:
        self.stats.upgrades += 1
        number = self.stats.upgrades
        scenario = self.scenario
        if scenario.session.connect_delay_ms:
            await asyncio.sleep(scenario.session.connect_delay_ms / 1000)
        refusal = _planned_refusal(scenario, number)
        asked = self._request(request)
        refusal = refusal or self.vendor.check(asked)
        if refusal is not None:
            self.stats.refused += 1
            return _response(socket, refusal)
        wire = self.vendor.connect(scenario, asked, number)
        self._upgraded[socket] = Connection(number, wire, self._log_limit)
        return None

    def _goodbye(self, socket: ServerConnection) -> None:
        connection = self._open.get(socket)
        if connection is not None:
            connection.wire.on_goodbye()

    def _post(self, request: UpgradeRequest, body: bytes) -> Refusal:
        post: PostHandler | None = getattr(self.vendor, "post", None)
        return Refusal(405, headers={"Allow": "GET"}) if post is None else post(request, body)

    def _request(self, request: Request) -> UpgradeRequest:
        parts = urlsplit(request.path)
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return UpgradeRequest(parts.path, query, headers, self._tls is not None)

    # ------------------------------------------------------------------------------------------------ connection

    async def _talk(self, socket: ServerConnection) -> None:
        connection = self._open[socket] = self._upgraded.pop(socket)
        connection.opened_at = time.monotonic()
        self.stats.accepted += 1
        self.connections.append(connection)
        self._accepted.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._enqueue(socket, connection, connection.wire.opened(time.monotonic()))
                name = f"{self.vendor.name}:{connection.number}"
                writer = tasks.create_task(self._write(socket, connection), name=f"{name}:write")
                await self._read(socket, connection)
                writer.cancel()
        except* ConnectionClosed:
            pass  # the code and reason are noted below
        except* Exception as errors:
            # A bug in a wire must not end the server, whose other connections are sound, nor pass unseen.
            self.failures.extend(error for error in errors.exceptions if isinstance(error, Exception))
            await socket.close(1011, "emulator failed")
        finally:
            connection.closed_at = time.monotonic()
            connection.close_code = socket.close_code
            connection.close_reason = socket.close_reason or ""
            self.stats.closed += 1
            code = 1006 if socket.close_code is None else socket.close_code
            connection.wire.closed(code, connection.close_reason, connection.closed_at)
            connection.ended.set()

    async def _read(self, socket: ServerConnection, connection: Connection) -> None:
        try:
            async for data in socket:
                now = time.monotonic()
                self.stats.messages_in += 1
                message = Message(connection.number, False, data, now, _wall_s())
                connection.log.append(message)
                if self.on_read is not None:
                    self.on_read(message)
                self._enqueue(socket, connection, connection.wire.received(data, now))
        except ConnectionClosed:
            return  # any code: the client's end is its own affair

    def _enqueue(self, socket: ServerConnection, connection: Connection, output: list[Output]) -> None:
        connection.queue.extend(output)
        if len(connection.queue) > self._queue_limit:
            self.stats.overflowed += 1
            connection.queue.clear()
            socket.transport.abort()
        # Also without output: the deadline may have moved.
        connection.wake.set()

    async def _write(self, socket: ServerConnection, connection: Connection) -> None:
        """All that goes out, in order: what is queued, then what falls due."""
        wire = connection.wire
        last: Outgoing | None = None
        while True:
            while connection.queue:
                output = connection.queue.popleft()
                match output:
                    case Outgoing():
                        last = output
                        await self._send(socket, connection, output)
                    case Hangup():
                        await socket.close(output.code, output.reason)
                        return
                    case Strike():
                        self.stats.faults += 1
                        if await self._strike(socket, connection, output.fault, last):
                            return
            connection.wake.clear()
            deadline = wire.deadline()
            now = time.monotonic()
            if deadline is None or deadline > now:
                await _wait(connection.wake, None if deadline is None else deadline - now)
                now = time.monotonic()
            deadline = wire.deadline()
            if deadline is not None and deadline <= now:
                self._enqueue(socket, connection, wire.handle_timeout(now))

    async def _send(self, socket: ServerConnection, connection: Connection, message: Outgoing) -> None:
        frame: Literal["vendor", "text", "binary"] = message.frame or connection.wire.scenario.frames
        kind = self.vendor.frames if frame == "vendor" else frame
        await socket.send(message.data, text=kind == "text")
        self.stats.messages_out += 1
        self.stats.bytes_out += len(message.data)
        written = Message(connection.number, True, message.data, time.monotonic(), _wall_s(), message.label)
        connection.log.append(written)
        if self.on_write is not None:
            self.on_write(written)

    async def _strike(
        self, socket: ServerConnection, connection: Connection, fault: TimedFault, last: Outgoing | None
    ) -> bool:
        """Let one fault happen. Returns True when the connection is over."""
        match fault:
            case Close():
                connection.wire.hung_up = True
                await socket.close(fault.code, fault.reason)
                return True
            case Abort():
                connection.wire.hung_up = True
                socket.transport.abort()
                return True
            case Stall():
                # Reading stops too, so that pings stay unanswered: the peer's machine is there, the service is not.
                socket.transport.pause_reading()
                left = await self._stall(socket, fault.duration_s)
                socket.transport.resume_reading()
                return left
            case Malformed():
                await self._send(socket, connection, Outgoing(fault.text.encode(), "fault:malformed"))
            case Empty():
                await self._send(socket, connection, Outgoing(fault.text.encode(), "fault:empty"))
            case Unknown():
                await self._send(socket, connection, Outgoing(msgspec.json.encode(fault.message), "fault:unknown"))
            case Duplicate():
                if last is not None:
                    await self._send(socket, connection, last)
        return False

    async def _stall(self, socket: ServerConnection, duration_s: float | None) -> bool:
        """Wait, for ever without a duration. Returns True when the client has left meanwhile."""
        ends_at = None if duration_s is None else time.monotonic() + duration_s
        while not self._leaving.is_set():
            left_s = _LOOK_S if ends_at is None else min(_LOOK_S, ends_at - time.monotonic())
            if left_s <= 0:
                return False
            if _peer_left(socket):
                return True
            await _wait(self._leaving, left_s)
        return False


def _peer_left(socket: ServerConnection) -> bool:
    """Has the other side closed? Asked of the kernel, because a paused transport hears of it only after the data that
    nobody reads. Where there is no POLLRDHUP (not Linux), only a reset is noticed; without poll() nothing."""
    if not hasattr(select, "poll"):
        return False
    descriptor = socket.transport.get_extra_info("socket").fileno()
    if descriptor < 0:
        return True
    look = select.poll()
    look.register(descriptor, getattr(select, "POLLRDHUP", 0))
    return bool(look.poll(0))


def _planned_refusal(scenario: Scenario, number: int) -> Refusal | None:
    for fault in scenario.faults:
        if isinstance(fault, Refuse) and fault.connection in (None, number):
            headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
            return Refusal(fault.status, fault.body, headers)
    return None


def _response(socket: ServerConnection, refusal: Refusal) -> Response:
    response = socket.respond(HTTPStatus(refusal.status), refusal.body)
    headers = Headers(response.headers)
    for name, value in refusal.headers.items():
        if name in headers:
            del headers[name]
        headers[name] = value
    response.headers = headers
    return response


async def _wait(event: asyncio.Event, timeout_s: float | None) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return


def _wall_s() -> float:
    return time.time_ns() / 1e9
