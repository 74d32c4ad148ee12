"""Real servers on loopback for whoever dials a WebSocket: one that follows a script, one that knows only TCP."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

__all__ = ["Peer", "reset", "tcp_server", "until", "websocket_server"]


class Peer:
    """The server's end of one connection: every message it got, decoded, in order."""

    def __init__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.connection = connection
        self.path = connection.request.path
        self.headers = connection.request.headers
        self.got: list[dict[str, Any]] = []
        self.raw: list[str | bytes] = []

    async def take(self) -> dict[str, Any]:
        message = await self.connection.recv()
        self.raw.append(message)
        value = msgspec.json.decode(message, type=dict[str, Any])
        self.got.append(value)
        return value

    async def say(self, *, binary: bool = False, **message: Any) -> None:
        data = msgspec.json.encode(message)
        await self.connection.send(data if binary else data.decode())

    async def greet(self) -> None:
        """Wait for the setup and accept it."""
        setup = await self.take()
        await self.say(ready=f"s{setup['setup']}")

    async def take_all(self) -> None:
        """Take whatever comes until the other side ends."""
        try:
            while True:
                await self.take()
        except ConnectionClosed:
            pass


@asynccontextmanager
async def websocket_server(
    script: Callable[[Peer], Awaitable[None]],
    *,
    refuse: Callable[[Request], Response | None] | None = None,
    **options: Any,
) -> AsyncIterator[str]:
    """Serve `script` to everyone who connects; yields the ws:// address. `refuse` may answer the upgrade instead."""

    async def handle(connection: ServerConnection) -> None:
        try:
            await script(Peer(connection))
        except ConnectionClosed:
            pass

    async def process_request(connection: ServerConnection, request: Request) -> Response | None:
        return refuse(request) if refuse else None

    options = {"close_timeout": 0.2, "ping_interval": None, "compression": None, "max_size": None} | options
    async with serve(handle, "127.0.0.1", 0, process_request=process_request, **options) as server:
        host, port = next(iter(server.sockets)).getsockname()[:2]
        scheme = "wss" if "ssl" in options else "ws"
        yield f"{scheme}://{host}:{port}"


@asynccontextmanager
async def tcp_server(
    script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[tuple[str, int]]:
    """Serve `script` over plain TCP; yields host and port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield host, port
    finally:
        server.close()
        await server.wait_closed()


def reset(peer: Peer) -> None:
    """Kill the connection with a TCP reset: no close frame, no FIN."""
    transport = peer.connection.transport
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def until(condition: Callable[[], Any], timeout_s: float = 5.0) -> None:
    """Return when `condition` holds; fail after `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the condition is anything at all, nobody could set an event
            await asyncio.sleep(0.002)
