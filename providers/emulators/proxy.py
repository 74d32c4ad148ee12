"""A proxy between a client and the real service that writes what passes as captures.

    async with RecordingProxy("wss://api.openai.com", Recorder("calls", "openai", ..., print)) as proxy:
        ...     # OPENAI_BASE_URL=proxy.base_url + "/v1"; the client's own key passes through and is kept nowhere

Messages pass as they are and in order, each direction as fast as its receiver reads. Refused upgrades and close codes
pass, too. HTTP requests that are no upgrade do not.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Literal, Self
from urllib.parse import parse_qsl, urlsplit
from weakref import WeakKeyDictionary

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from providers.emulators.capture import Side
from providers.emulators.recorder import Recorder
from providers.emulators.wire import UpgradeRequest

__all__ = ["RecordingProxy", "upstream_problem"]

_DIAL_TIMEOUT_S = 20.0
_CLOSE_TIMEOUT_S = 2.0
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_OF_THE_HOP = frozenset(
    {
        "host",
        "connection",
        "upgrade",
        "content-length",
        "transfer-encoding",
        "accept-encoding",
        "user-agent",
        "origin",
    }
)
"""Headers that our own connection writes, besides `Sec-WebSocket-*`."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def upstream_problem(url: str) -> str:
    """What is wrong with the address of an upstream; empty if nothing is."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("ws", "wss") or not host:
        return "give wss:// and a host"
    if parts.scheme == "ws" and host not in _LOOPBACK:
        return "a key would travel in the clear: give wss://"
    if parts.query or parts.fragment or parts.username or parts.path.strip("/"):
        return "give scheme, host and port alone: path and key are the client's"
    return ""


class RecordingProxy:
    """Listens on a local port and dials one upstream for each connection."""

    def __init__(
        self,
        upstream: str,
        recorder: Recorder,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """Args: upstream such as `wss://api.openai.com`; tls for our own port; trust for the upstream's, None: as the
        system does. Raises ValueError for an upstream that would not do."""
        problem = upstream_problem(upstream)
        if problem:
            raise ValueError(f"upstream = {upstream}: {problem}")
        self.upstream = upstream.rstrip("/")
        self.connections = 0
        self._recorder = recorder
        self._host = host
        self._port = port
        self._tls = tls
        self._trust = trust
        self._server: Server | None = None
        self._dialled: WeakKeyDictionary[ServerConnection, tuple[int, ClientConnection]] = WeakKeyDictionary()

    # -------------------------------------------------------------------------------------------------------- life

    @property
    def base_url(self) -> str:
        """`ws://` or `wss://`, host and port: the value of a base-URL setting."""
        assert self._server is not None, "the port is known once the proxy runs"
        host = f"[{self._host}]" if ":" in self._host else self._host
        port = next(iter(self._server.sockets)).getsockname()[1]
        return f"{'wss' if self._tls else 'ws'}://{host}:{port}"

    @property
    def url(self) -> str:
        return self.base_url

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._talk,
            self._host,
            self._port,
            ssl=self._tls,
            process_request=self._upgrade,
            select_subprotocol=self._chosen,
            compression=None,
            ping_interval=None,
            open_timeout=_DIAL_TIMEOUT_S + 5,
            close_timeout=_CLOSE_TIMEOUT_S,
            max_size=_MAX_MESSAGE_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None, "left without having been entered"
        self._server.close()
        await self._server.wait_closed()
        self._recorder.close()

    # ----------------------------------------------------------------------------------------------------- upgrade

    async def _upgrade(self, socket: ServerConnection, request: Request) -> Response | None:
        """Dial first, so that the client is refused as the service refuses."""
        self.connections += 1
        number = self.connections
        parts = urlsplit(request.path)
        headers = [(name, value) for name, value in request.headers.raw_items()]
        asked = UpgradeRequest(
            parts.path,
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            {name.lower(): value for name, value in headers},
            self._tls is not None,
        )
        begun = time.monotonic()
        self._recorder.begin(number, asked, begun)
        try:
            dialled = await self._dial(request.path, headers)
        except InvalidStatus as refused:
            response = refused.response
            body = (response.body or b"").decode(errors="replace")
            return self._refuse(socket, number, response.status_code, body, dict(response.headers.raw_items()), begun)
        except (OSError, TimeoutError, InvalidHandshake, EOFError) as error:
            said = f"the upstream {self.upstream} cannot be reached: {type(error).__name__}: {error}"
            return self._refuse(socket, number, 502, said, {}, begun)
        self._dialled[socket] = number, dialled
        return None

    async def _dial(self, target: str, headers: list[tuple[str, str]]) -> ClientConnection:
        passed = [
            (name, value)
            for name, value in headers
            if name.lower() not in _OF_THE_HOP and not name.lower().startswith("sec-websocket-")
        ]
        offered = [
            Subprotocol(word.strip())
            for name, value in headers
            if name.lower() == "sec-websocket-protocol"
            for word in value.split(",")
        ]
        return await connect(
            self.upstream + target,
            ssl=self._trust if self.upstream.startswith("wss:") else None,
            additional_headers=passed,
            user_agent_header=next((value for name, value in headers if name.lower() == "user-agent"), None),
            subprotocols=offered or None,
            compression=None,
            ping_timeout=None,
            open_timeout=_DIAL_TIMEOUT_S,
            close_timeout=_CLOSE_TIMEOUT_S,
            max_size=_MAX_MESSAGE_BYTES,
        )

    def _chosen(self, socket: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        return self._dialled[socket][1].subprotocol if socket in self._dialled else None

    def _refuse(
        self, socket: ServerConnection, number: int, status: int, body: str, headers: dict[str, str], begun: float
    ) -> Response:
        self._recorder.turned_away(number, status, body, headers, time.monotonic())
        response = socket.respond(HTTPStatus.BAD_GATEWAY, body)
        response.status_code, response.reason_phrase = status, "Refused upstream"
        if "Retry-After" in headers:
            response.headers["Retry-After"] = headers["Retry-After"]
        return response

    # -------------------------------------------------------------------------------------------------- connection

    async def _talk(self, client: ServerConnection) -> None:
        number, server = self._dialled.pop(client)
        name = f"proxy:{number}"
        ended: list[tuple[Side, Connection]] = []

        async def pump(side: Side, source: Connection, target: Connection) -> None:
            try:
                async for data in source:
                    frame: Literal["text", "binary"] = "text" if isinstance(data, str) else "binary"
                    self._recorder.message(number, side, frame, data, time.monotonic())
                    await target.send(data)
            except ConnectionClosed:
                if source.close_code is None:
                    return  # the target's end: the other pump passes it on
            ended.append((side, source))
            await _pass_close(source, target)

        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(pump("client", client, server), name=f"{name}:up")
            pumps.create_task(pump("server", server, client), name=f"{name}:down")
        side, source = ended[0]
        code = 1006 if source.close_code is None else source.close_code
        self._recorder.end(number, side, code, source.close_reason or "", time.monotonic())


async def _pass_close(source: Connection, target: Connection) -> None:
    """End `target` as `source` ended."""
    code = source.close_code
    if code is None or code == 1006:
        target.transport.abort()
    elif code in (1005, 1015):
        await target.close()
    else:
        await target.close(code, source.close_reason or "")
