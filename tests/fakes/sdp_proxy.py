"""A bad network in front of a service that is called by HTTP: the offer in a request and its answer are rewritten."""

from __future__ import annotations

from types import TracebackType

import aiohttp
from aiohttp import web

from tests.fakes.udp_relay import UdpRelay

__all__ = ["SdpProxy"]

_PASSED_ON = ("authorization", "content-type", "accept")


class SdpProxy:
    """Use as an async context manager. Passes every POST on; the relay gets the descriptions to see.

    One call at a time: a relay carries one pair of peers.
    """

    def __init__(self, relay: UdpRelay, to_url: str) -> None:
        """Args: to_url is the service, `ws://` or `http://`, without a path."""
        self.base_url = ""
        """Where clients of the service ask instead, in the same scheme."""
        self.asked: list[str] = []
        """Path of each request, and how it was answered."""
        self._relay = relay
        self._scheme, _, rest = to_url.partition("://")
        self._to_url = f"{'https' if self._scheme in ('wss', 'https') else 'http'}://{rest}"
        self._runner: web.AppRunner
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> SdpProxy:
        application = web.Application()
        application.router.add_post("/{path:.*}", self._post)
        self._http = aiohttp.ClientSession()
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"{self._scheme}://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._http.close()

    async def _post(self, request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() in _PASSED_ON}
        body = await request.read()
        is_call = b"a=candidate" in body
        if is_call:  # a form's other parts have no such lines, and its boundaries end in CR and LF too
            body = self._relay.offer(body.decode()).encode()
        async with self._http.post(self._to_url + request.path_qs, data=body, headers=headers) as told:
            answer = await told.text()
            if is_call and told.status in (200, 201):
                answer = self._relay.answer(answer)
            self.asked.append(f"{request.path} {told.status}")
            kept = {name: told.headers[name] for name in ("Location", "Content-Type") if name in told.headers}
            return web.Response(status=told.status, body=answer.encode(), headers=kept)
