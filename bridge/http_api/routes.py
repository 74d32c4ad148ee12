"""The HTTP of the API: aiohttp's requests to the desk's questions, refusals to JSON, headers that keep browsers safe.

Loads aiohttp: imported when a server is started.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from bridge.http_api.desk import CallDesk
from bridge.http_api.doorman import Doorman
from bridge.http_api.pages import Pages
from bridge.http_api.refusal import Refused
from bridge.http_api.settings import ServeSettings

__all__ = ["ApiStats", "Routes"]

log = logging.getLogger(__name__)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Wish = TypeVar("_Wish", bound=msgspec.Struct)

_SDP = "application/sdp"
_SAFE = {
    "Server": "roombridge",  # aiohttp would tell the versions of itself and of Python
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(self), display-capture=(self), autoplay=(self), geolocation=()",
}
_LONGEST_NAME = 64


class ApiStats(msgspec.Struct):
    requests: int = 0
    refused: int = 0
    """Answered with a 4xx or 503."""
    errors: int = 0
    """Answered with a 500: a fault of ours."""


class _TokenWish(msgspec.Struct, forbid_unknown_fields=True):
    name: str = ""


class _RoomWish(msgspec.Struct, forbid_unknown_fields=True):
    provider: str | None = None


class Routes:
    """All endpoints of one server."""

    def __init__(self, desk: CallDesk, pages: Pages, settings: ServeSettings, *, livekit_urls: tuple[str, ...]) -> None:
        self.stats = ApiStats()
        self.doorman: Doorman | None = None
        """Set once the server listens."""
        self._desk = desk
        self._pages = pages
        self._settings = settings
        self._hosts = _known_hosts(settings)
        self._policy = _content_policy(livekit_urls)

    def application(self) -> web.Application:
        """What aiohttp serves."""
        app = web.Application(client_max_size=self._settings.max_body_bytes, middlewares=[self._guard()])
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/api/config", self._config)
        app.router.add_post("/api/tokens", self._token)
        app.router.add_post("/api/calls", self._begin_call)
        app.router.add_delete("/api/calls/{call}", self._end_call)
        app.router.add_post("/api/rooms", self._begin_room)
        app.router.add_route("OPTIONS", "/api/{rest:.*}", self._options)
        app.router.add_get("/{path:.*}", self._page)
        return app

    # ----------------------------------------------------------------------------------------------- every request

    def _guard(self) -> Middleware:
        @web.middleware
        async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
            self.stats.requests += 1
            if self.doorman is not None:
                self.doorman.request_came(request.transport)
            origin = None
            try:
                self._check_host(request)
                origin = self._check_origin(request)
                response = await handler(request)
            except Refused as refused:
                response = _refusal(refused)
            except web.HTTPException as error:
                response = _refusal(_from_http(error, self._settings.max_body_bytes))
            except ConnectionError:
                raise
            except Exception:
                # A fault of ours in one request must neither end the server nor show its inside.
                self.stats.errors += 1
                log.exception("a request failed method=%s", request.method)
                response = _refusal(Refused(500, "internal", "something broke here", "see the log of the server"))
            if response.status >= 400:
                self.stats.refused += response.status != 500
                if not request.content.is_eof():
                    response.force_close()  # what is left of the body is not worth reading
            response.headers.update(_SAFE)
            response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
            response.headers.setdefault("Cache-Control", "no-store")
            if origin is not None:
                response.headers["Access-Control-Allow-Origin"] = origin
                response.headers["Access-Control-Expose-Headers"] = "Location, Retry-After"
            response.headers["Vary"] = "Origin"
            return response

        return guard

    def _check_host(self, request: web.Request) -> None:
        """On loopback a name that is not ours is another site's, which has let it point here (DNS rebinding)."""
        if self._hosts is not None and _host_of(request.headers.get("Host", "")) not in self._hosts:
            mend = "use the address that was printed, or add the page's to serve.allowed_origins"
            raise Refused(403, "host_refused", "this server does not go by that name", mend)

    def _check_origin(self, request: web.Request) -> str | None:
        """The origin that may read our answer, where it is another one than our own."""
        origin = request.headers.get("Origin")
        if origin is None:
            return None
        if origin in self._settings.allowed_origins:
            return origin
        # A proxy in front may add TLS: the scheme is its affair.
        if origin == "null" or _netloc(origin) != request.headers.get("Host", "").lower():
            raise Refused(403, "origin_refused", "pages of that origin may not call", "add it to serve.allowed_origins")
        return None

    # ------------------------------------------------------------------------------------------------------ handlers

    async def _health(self, _: web.Request) -> web.StreamResponse:
        health = self._desk.health()
        return _json(health, status=200 if health["status"] == "ok" else 503)

    async def _config(self, request: web.Request) -> web.StreamResponse:
        return _json(self._desk.config(_bearer(request)))

    async def _token(self, request: web.Request) -> web.StreamResponse:
        token = _bearer(request)
        wish = _decoded(await self._body(request), _TokenWish)
        name = "".join(char for char in wish.name if char.isprintable()).strip()[:_LONGEST_NAME]
        return _json(self._desk.call_token(token, name))

    async def _begin_call(self, request: web.Request) -> web.StreamResponse:
        token = _bearer(request)
        if request.content_type != _SDP:
            raise Refused(415, "not_sdp", "the offer must be application/sdp", f"send Content-Type: {_SDP}")
        body = await self._body(request)
        try:
            offer = body.decode()
        except UnicodeDecodeError:
            raise Refused(400, "bad_offer", "the offer is not UTF-8", "send the text of the SDP") from None
        call, answer = await self._desk.begin_call(offer, request.query.get("provider"), token)
        headers = {"Location": f"/api/calls/{call}"}
        return web.Response(status=201, body=answer.encode(), content_type=_SDP, headers=headers)

    async def _end_call(self, request: web.Request) -> web.StreamResponse:
        self._desk.end_call(request.match_info["call"], _bearer(request))
        return web.Response(status=204)

    async def _begin_room(self, request: web.Request) -> web.StreamResponse:
        token = _bearer(request)
        wish = _decoded(await self._body(request), _RoomWish)
        return _json(self._desk.begin_room(wish.provider, token), status=201)

    async def _options(self, request: web.Request) -> web.StreamResponse:
        headers = {"Allow": "GET, POST, DELETE, OPTIONS", "Accept-Post": _SDP}
        if request.headers.get("Origin") in self._settings.allowed_origins:
            headers["Access-Control-Allow-Methods"] = "GET, POST, DELETE"
            headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
            headers["Access-Control-Max-Age"] = "600"
            if "Access-Control-Request-Private-Network" in request.headers:
                headers["Access-Control-Allow-Private-Network"] = "true"
        return web.Response(status=204, headers=headers)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        file = self._pages.find(request.path)
        if file is None:
            mend = "no such address here"
            if request.path.startswith("/vendor/"):
                mend = "run `npm ci` in web/ (make does) to have LiveKit's client"
            elif request.path == "/":
                mend = "the page is off (serve.page), or not installed"
            raise Refused(404, "not_found", "there is nothing here", mend)
        content = await asyncio.to_thread(file.path.read_bytes)
        tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Content-Security-Policy": self._policy}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        headers[hdrs.CONTENT_TYPE] = file.content_type
        return web.Response(body=content, headers=headers)

    async def _body(self, request: web.Request) -> bytes:
        longest = self._settings.max_body_bytes
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused(415, "encoded", "the body must not be compressed", "send it as it is")
        if (request.content_length or 0) > longest:
            raise _too_large(longest)
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                return await request.read()
        except TimeoutError:
            raise Refused(408, "too_slow", "the request did not arrive in time", "send it again") from None


def _bearer(request: web.Request) -> str:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise Refused(401, "no_token", "a token is needed", "send Authorization: Bearer TOKEN")
    return token.strip()


def _decoded(body: bytes, kind: type[_Wish]) -> _Wish:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError):
        known = ", ".join(field.name for field in msgspec.structs.fields(kind))
        raise Refused(400, "bad_json", "the body is not what is asked for", f"a JSON object with: {known}") from None


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


def _refusal(refused: Refused) -> web.Response:
    return web.Response(
        status=refused.status, body=refused.body(), content_type="application/json", headers=refused.headers()
    )


def _too_large(longest: int) -> Refused:
    return Refused(413, "too_large", f"a body has {longest} bytes at most", "send less")


def _from_http(error: web.HTTPException, longest: int) -> Refused:
    """aiohttp's own answers, in our form: their texts may hold what was asked for."""
    match error.status:
        case 404:
            return Refused(404, "not_found", "there is nothing here", "no such address")
        case 405:
            return Refused(405, "method", "not by this method", "see docs/direct-calls.md")
        case 413:
            return _too_large(longest)
    return Refused(error.status, "refused", "the request cannot be served", "")


def _known_hosts(settings: ServeSettings) -> frozenset[str] | None:
    """Names that we go by; None where everybody may come by any name."""
    if settings.host != "localhost":
        try:
            if not ipaddress.ip_address(settings.host).is_loopback:
                return None
        except ValueError:  # a name: who has given it one knows what it is for
            return None
    named = {_host_of(urlsplit(origin).netloc) for origin in settings.allowed_origins}
    return frozenset({"localhost", "127.0.0.1", "::1", settings.host.lower(), *named})


def _host_of(header: str) -> str:
    """The name of a Host header, without port and brackets."""
    host = header.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _netloc(origin: str) -> str:
    """Host and port of an origin; empty where it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _content_policy(livekit_urls: tuple[str, ...]) -> str:
    """Plain modules of our own, nothing inline, nothing from elsewhere; a LiveKit server where there is one."""
    places: list[str] = []
    for url in livekit_urls:
        parts = urlsplit(url)
        secure = parts.scheme in ("wss", "https")
        places += [f"{scheme}://{parts.netloc}" for scheme in (("wss", "https") if secure else ("ws", "http"))]
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data: blob:",
            "font-src 'self'",
            "media-src 'self' blob: data: mediastream:",
            "worker-src 'self' blob:",
            "manifest-src 'self'",
            " ".join(("connect-src 'self'", *places)),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
