"""The listening side: one port, bounded connections, an eye on how late the loop is. Loads aiohttp."""

from __future__ import annotations

import asyncio
import errno
import logging
from types import TracebackType
from typing import Any, cast

from aiohttp import web

from bridge.core.errors import ConfigError
from bridge.http_api.desk import CallDesk
from bridge.http_api.doorman import Doorman
from bridge.http_api.pages import Pages
from bridge.http_api.refusal import Refused
from bridge.http_api.routes import Routes
from bridge.http_api.settings import ServeSettings

__all__ = ["ApiServer"]

_LOOK_EVERY_S = 0.25
_ANSWER_S = 60.0
"""For an answer to be read: the page's largest file by a slow telephone."""
_GOODBYE_S = 2.0
"""For requests that are being answered when the server is stopped."""


class ApiServer:
    """Listens from `start` to `stop`; usable as an async context manager."""

    def __init__(
        self, desk: CallDesk, settings: ServeSettings, pages: Pages, *, livekit_urls: tuple[str, ...] = ()
    ) -> None:
        self.port = settings.port
        """The one that is listened on, once started."""
        self._desk = desk
        self._settings = settings
        self._routes = Routes(desk, pages, settings, livekit_urls=livekit_urls)
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._doorman: Doorman | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    @property
    def address(self) -> str:
        """Where a browser on this machine finds it."""
        return self._settings.address(self.port)

    async def __aenter__(self) -> ApiServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. Raises: `ConfigError` when the port is taken or the address is not this machine's."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        self._runner = web.AppRunner(self._routes.application(), shutdown_timeout=_GOODBYE_S)
        await self._runner.setup()
        served = self._runner.server
        assert served is not None, "set up above"

        def connection() -> web.RequestHandler:
            return _Connection(
                served,
                loop=loop,
                access_log=cast(logging.Logger, None),  # one line a request is for the proxy in front
                # Of broken HTTP aiohttp would log a traceback each.
                logger=logging.Logger("bridge.http_api.http", logging.CRITICAL),
                keepalive_timeout=settings.request_timeout_s,
                lingering_time=1.0,
                auto_decompress=False,
                max_headers=64,
            )

        self._doorman = self._routes.doorman = Doorman(
            connection, most=settings.max_connections, first_request_s=settings.request_timeout_s, answer_s=_ANSWER_S
        )
        try:
            self._server = await loop.create_server(self._doorman, settings.host, settings.port, backlog=64)
        except OSError as error:
            await self._runner.cleanup()
            self._runner = None
            raise _cannot_listen(settings, error) from error
        self.port = self._server.sockets[0].getsockname()[1]
        self._due = loop.time() + _LOOK_EVERY_S
        self._timer = loop.call_at(self._due, self._look)

    async def stop(self) -> None:
        """Take no more connections and close those that are open. Bounded; safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._server is not None:
            self._server.close()
            self._server = None
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def counters(self) -> dict[str, int | float]:
        """Of the HTTP side and the desk, by name."""
        told: dict[str, int | float] = {
            "http.requests": self._routes.stats.requests,
            "http.refused": self._routes.stats.refused,
            "http.errors": self._routes.stats.errors,
        }
        if self._doorman is not None:
            told["http.connections"] = self._doorman.stats.connections
            told["http.connections_refused"] = self._doorman.stats.refused
            told["http.too_slow"] = self._doorman.stats.too_slow
        return {**told, **self._desk.counters()}

    def _look(self) -> None:
        """How late are we woken up? That is what calls feel when there are too many."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._desk.admission.note_lateness((now - self._due) * 1000)
        self._due = now + _LOOK_EVERY_S
        self._timer = loop.call_at(self._due, self._look)


class _Connection(web.RequestHandler):
    """aiohttp's, but for what it says of broken HTTP: its own words hold all that was sent."""

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        broken = Refused(400, "bad_http", "this is no HTTP request", "speak HTTP/1.1, without TLS, to this port")
        response = web.Response(status=400, body=broken.body(), content_type="application/json")
        response.force_close()
        return response


def _cannot_listen(settings: ServeSettings, error: OSError) -> ConfigError:
    codes: dict[Any, tuple[str, object, str]] = {
        errno.EADDRINUSE: ("serve.port", settings.port, "is taken: end what listens there, or choose another port"),
        errno.EACCES: (
            "serve.port",
            settings.port,
            "needs rights that this process does not have: choose one above 1023",
        ),
        errno.EADDRNOTAVAIL: ("serve.host", settings.host, "is no address of this machine"),
    }
    where = ("serve.host", settings.host, f"cannot be listened on: {error.strerror or error}")
    return ConfigError(*codes.get(error.errno, where))
