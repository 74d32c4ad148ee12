"""The WebSocket server that every emulator runs in: upgrades, faults ahead of them, and a record for tests.

    async with EmulatorServer(GeminiVendor(), scenario) as server:
        model = connect_to(server.url)
        ...
        server.connections[-1].kill()           # one-shot faults: see `providers.emulators.connection`
        server.refuse(2, 429, retry_after_s=1)  # the next two connects
        server.heard().pcm                      # all input, over all connections, in the order of its arrival

or `await EmulatorServer(...).run()` until cancelled. It listens on 127.0.0.1 and a free port unless told otherwise.
What a vendor must provide stands in `providers.emulators.wire`.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from http import HTTPStatus
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import parse_qsl, urlsplit
from weakref import WeakKeyDictionary

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from providers.emulators.call_desk import CallDesk
from providers.emulators.carrier import Carrier, SocketCarrier
from providers.emulators.chaos import ChaosSchedule, Stroke
from providers.emulators.connection import Connection, EmulatorStats, Message
from providers.emulators.heard import HeardInput
from providers.emulators.http_post import answering_posts
from providers.emulators.wire import Refusal, UpgradeRequest, Vendor
from providers.scripted.faults import Drop, NoSetup, Refuse, TimedFault, UpgradeFault
from providers.scripted.scenario import Scenario

__all__ = ["Connection", "EmulatorServer", "EmulatorStats", "Message", "Watcher"]

_OPEN_TIMEOUT_S = 90.0
"""Longer than the longest `connect_delay_ms`."""
_CLOSE_TIMEOUT_S = 1.0
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class Watcher(Protocol):
    """Learns of all that happens on the wire, in order. Must return fast and must not raise."""

    def opened(self, connection: Connection) -> None: ...
    def passed(self, message: Message) -> None: ...
    def ended(self, connection: Connection) -> None: ...
    def refused(self, number: int, request: UpgradeRequest, refusal: Refusal) -> None: ...


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
        """WebSockets and calls, but not those who joined a call."""
        self.joined: list[Connection] = []
        """Sidebands: WebSockets that joined a call, each with the number of its call."""
        self.stats = EmulatorStats()
        self.on_write: Callable[[Message], None] | None = None
        """Called after every message that was handed to a socket. Must return fast and must not raise."""
        self.on_read: Callable[[Message], None] | None = None
        self.watchers: list[Watcher] = []
        self.failures: list[Exception] = []
        self._host = host
        self._port = port
        self._tls = tls
        self._log_limit = log_limit
        self._queue_limit = queue_limit
        self._server: Server | None = None
        self._accepted = asyncio.Event()
        self._upgraded: WeakKeyDictionary[ServerConnection, Connection] = WeakKeyDictionary()
        self._open: WeakKeyDictionary[ServerConnection, Connection] = WeakKeyDictionary()
        self._instead: deque[UpgradeFault] = deque()
        """What the next upgrades meet, one each."""
        self._planned: deque[list[TimedFault]] = deque()
        """What the next accepted connections suffer beside the scenario's faults, one list each."""
        self._desk = CallDesk(self, host)

    # ------------------------------------------------------------------------------------------------------ life

    @property
    def port(self) -> int:
        assert self._port or self._server is not None, "the port is known once the server runs"
        return self._port

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
        await self._listen()
        return self

    async def _listen(self) -> None:
        self._server = await serve(
            self._talk,
            self._host,
            self._port,
            ssl=self._tls,
            process_request=self._upgrade,
            create_connection=answering_posts(self._desk.post, self._goodbye),
            compression=None,
            ping_interval=None,
            open_timeout=_OPEN_TIMEOUT_S,
            close_timeout=_CLOSE_TIMEOUT_S,
            max_size=_MAX_MESSAGE_BYTES,
        )
        # Known from here on, also while nobody listens.
        self._port = int(next(iter(self._server.sockets)).getsockname()[1])

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None, "left without having been entered"
        # Those of a listener that went down are known to nobody else.
        async with asyncio.TaskGroup() as leaving:
            for connection in (*self.joined, *self.connections):
                leaving.create_task(connection.leave(), name=f"{self.vendor.name}:{connection.number}:leave")
        self._server.close()
        await self._server.wait_closed()
        await self._desk.leave()
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

    # --------------------------------------------------------------------------------------------------- for tests

    @property
    def live(self) -> list[Connection]:
        """Connections that are open, oldest first."""
        return [connection for connection in self.connections if connection.live]

    def heard(self, connections: Iterable[Connection] | None = None) -> HeardInput:
        """The input audio of these connections, or of all, joined in the order of its arrival."""
        return HeardInput.of(self.connections if connections is None else connections)

    def by_session(self) -> dict[str, list[Connection]]:
        """Connections by the session that they were resumed on, oldest first."""
        found: dict[str, list[Connection]] = {}
        for connection in self.connections:
            found.setdefault(connection.session_key, []).append(connection)
        return found

    def refuse(self, count: int = 1, status: int = 503, *, body: str = "", retry_after_s: int | None = None) -> None:
        """The next `count` upgrades are answered with this HTTP status. Whoever is connected stays so."""
        self._instead.extend([Refuse(status=status, body=body, retry_after_s=retry_after_s)] * count)

    def drop(self, count: int = 1) -> None:
        """On the next `count` upgrades the TCP connection vanishes instead of an answer."""
        self._instead.extend([Drop()] * count)

    def ignore_setups(self, count: int = 1) -> None:
        """The next `count` connections are accepted, and nothing that is said on them is ever answered."""
        self._instead.extend([NoSetup()] * count)

    def plan(self, *faults: TimedFault, connections: int = 1) -> None:
        """Each of the next accepted connections suffers these, too: `plan(GoAway(at_s=0.1), connections=3)` is a storm.
        Raises ValueError for a fault that does not say when."""
        for fault in faults:
            if fault.at_s is None and fault.turn is None and fault.reply is None:
                raise ValueError(f"{fault}: give at_s, turn or reply, for the connection is not there yet")
        self._planned.extend([list(faults)] * connections)

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Nobody listens inside this block: connecting is refused by TCP. Whoever is connected stays so."""
        assert self._server is not None and self._server.is_serving(), "is listening before it goes down"
        self._server.close(close_connections=False)
        try:
            yield
        finally:
            await self._listen()

    # ------------------------------------------------------------------------------------------------------- chaos

    def befall(self, stroke: Stroke) -> Connection | None:
        """Let it happen to one of the open sessions, which is returned. None: there is none, and nothing happens."""
        sessions = [connection for connection in self.live if connection.wire.brain is not None]
        if not sessions:
            return None
        hit = sessions[stroke.of(len(sessions))]
        self._instead.extend(stroke.instead)
        self._planned.extend([fault] for fault in stroke.afterwards)
        for fault in stroke.now:
            hit.strike(fault)
        return hit

    async def run_chaos(self, schedule: ChaosSchedule, tell: Callable[[str], None]) -> None:
        """Let the schedule's strokes happen at their time, until cancelled. `tell` gets a line for each."""
        schedule.start(time.monotonic())
        while True:
            deadline = schedule.deadline()
            assert deadline is not None, "the schedule was started"
            await asyncio.sleep(max(0.0, deadline - time.monotonic()))
            for stroke in schedule.due(time.monotonic()):
                hit = self.befall(stroke)
                tell(f"{stroke} (connection {hit.number})" if hit else f"{stroke} (nobody was connected)")

    # --------------------------------------------------------------------------------------------------- upgrade

    async def _upgrade(self, socket: ServerConnection, request: Request) -> Response | None:
        asked = self._request(request)
        admitted = self._desk.joined(asked) or await self.admit(asked, self._checked)
        if admitted is None:
            socket.transport.abort()
            admitted = Refusal(503)  # for websockets alone: nobody is there to read it
        if isinstance(admitted, Refusal):
            return _response(socket, admitted)
        self._upgraded[socket] = admitted
        return None

    async def _checked(self, asked: UpgradeRequest, number: int) -> UpgradeRequest | Refusal:
        return self.vendor.check(asked) or asked

    async def admit(
        self, asked: UpgradeRequest, check: Callable[[UpgradeRequest, int], Awaitable[UpgradeRequest | Refusal]]
    ) -> Connection | Refusal | None:
        """A connection for whoever asks, after the faults that are due. None: the TCP connection is to vanish."""
        self.stats.upgrades += 1
        number = self.stats.upgrades
        scenario = self.scenario
        if scenario.session.connect_delay_ms:
            await asyncio.sleep(scenario.session.connect_delay_ms / 1000)
        fault = self._instead.popleft() if self._instead else _planned_instead(scenario, number)
        if fault is not None:
            self.stats.faults += 1
        checked: UpgradeRequest | Refusal
        match fault:
            case Drop():
                checked = Refusal(503)
            case Refuse():
                headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
                checked = Refusal(fault.status, fault.body, headers)
            case _:
                checked = await check(asked, number)
        if isinstance(checked, Refusal):
            self.stats.refused += 1
            for watcher in self.watchers:
                watcher.refused(number, asked, checked)
            return None if isinstance(fault, Drop) else checked
        if self._planned:
            scenario = msgspec.structs.replace(scenario, faults=(*scenario.faults, *self._planned.popleft()))
        return Connection(
            number,
            self.vendor.connect(scenario, checked, number),
            checked,
            frames=self.vendor.frames,
            stats=self.stats,
            notify=self._passed,
            log_limit=self._log_limit,
            queue_limit=self._queue_limit,
            deaf=isinstance(fault, NoSetup),
        )

    def _goodbye(self, socket: ServerConnection) -> None:
        connection = self._open.get(socket)
        if connection is not None:
            connection.wire.on_goodbye()

    def _request(self, request: Request) -> UpgradeRequest:
        parts = urlsplit(request.path)
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return UpgradeRequest(parts.path, query, headers, self._tls is not None)

    # ------------------------------------------------------------------------------------------------ connection

    async def _talk(self, socket: ServerConnection) -> None:
        connection = self._open[socket] = self._upgraded.pop(socket)
        carrier = SocketCarrier(socket)
        if not connection.wire.joins:
            self.accept(connection)
            await self.serve(connection, carrier)
            return
        self.joined.append(connection)
        self.failures += await connection.talk(carrier, f"{self.vendor.name}:{connection.number}:joined")
        self._desk.left(connection)

    def accept(self, connection: Connection) -> None:
        """It is part of the record from here on."""
        self.stats.accepted += 1
        self.connections.append(connection)
        self._accepted.set()
        for watcher in self.watchers:
            watcher.opened(connection)

    async def serve(self, connection: Connection, carrier: Carrier) -> None:
        """Until it is over."""
        self.failures += await connection.talk(carrier, f"{self.vendor.name}:{connection.number}")
        for watcher in self.watchers:
            watcher.ended(connection)

    def _passed(self, message: Message) -> None:
        hook = self.on_write if message.sent else self.on_read
        if hook is not None:
            hook(message)
        for watcher in self.watchers:
            watcher.passed(message)


def _planned_instead(scenario: Scenario, number: int) -> UpgradeFault | None:
    faults = (fault for fault in scenario.faults if isinstance(fault, UpgradeFault))
    return next((fault for fault in faults if fault.connection in (None, number)), None)


def _response(socket: ServerConnection, refusal: Refusal) -> Response:
    known = any(refusal.status == status for status in HTTPStatus)
    response = socket.respond(HTTPStatus(refusal.status) if known else HTTPStatus.BAD_REQUEST, refusal.body)
    if not known:  # a proxy's own, such as 499
        response.status_code, response.reason_phrase = refusal.status, "Refused"
    headers = Headers(response.headers)
    for name, value in refusal.headers.items():
        if name in headers:
            del headers[name]
        headers[name] = value
    response.headers = headers
    return response
