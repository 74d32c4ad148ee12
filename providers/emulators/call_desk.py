"""Calls over WebRTC beside the WebSockets of one server: asked for by POST, joined by an upgrade, hung up by POST."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from providers.emulators.connection import Connection, EmulatorStats
from providers.emulators.http_post import Answer
from providers.emulators.wire import CallEnd, CallOffer, CallVendor, Refusal, UpgradeRequest

if TYPE_CHECKING:
    from providers.emulators.call_carrier import CallCarrier
    from providers.emulators.server import EmulatorServer

__all__ = ["CallDesk"]

_LEAVE_S = 3.0
_MAX_DIALLING = 64
"""Calls that are not connected: each holds sockets until its client comes, at most 20 s."""
_TOO_MANY = f"{_MAX_DIALLING} calls were asked for and are not connected yet: connect or end one first."
_NO_AIORTC = 'calls need aiortc, which is not installed: pip install "roombridge[webrtc]"'


class CallDesk:
    """Owns the tasks of a server's calls, from the request to the end. Full (64 that are not connected): a further one
    is refused (429), and counted as refused."""

    def __init__(self, server: EmulatorServer, host: str) -> None:
        self._server = server
        self._host = host
        self._tasks: set[asyncio.Task[None]] = set()
        self._carriers: set[CallCarrier] = set()

    def post(self, request: UpgradeRequest, body: bytes, answer: Answer) -> None:
        """Answers any POST, at once or later."""
        vendor = self._vendor()
        if vendor is not None and vendor.is_call(request):
            self._run(self._call(vendor, request, body, answer), f"{self._server.vendor.name}:call")
            return
        post = getattr(self._server.vendor, "post", None)
        found = Refusal(405, headers={"Allow": "GET"}) if post is None else post(request, body)
        if isinstance(found, CallEnd):
            self._find(found.call_id).hang_up()
            found = Refusal(200)
        answer(found)

    def joined(self, request: UpgradeRequest) -> Connection | Refusal | None:
        """The connection of one who joins a call. None: this upgrade wants one of its own."""
        vendor = self._vendor()
        call_id = "" if vendor is None else vendor.joined(request)
        if vendor is None or not call_id:
            return None
        refusal = self._server.vendor.check(request)
        if refusal is not None:
            return refusal
        call = self._find(call_id)
        wire = vendor.join(call.wire, request, lambda message: call.take(message, time.monotonic()))
        # Counted and watched as the call's own: its messages pass a second time here.
        connection = Connection(
            call.number,
            wire,
            request,
            frames=self._server.vendor.frames,
            stats=EmulatorStats(),
            notify=lambda _: None,
            log_limit=call.log.maxlen or 0,
            queue_limit=20_000,
        )
        call.listeners.append(connection.pass_on)
        return connection

    def left(self, joined: Connection) -> None:
        """It is over: its call goes on without it."""
        for call in self._server.connections:
            if call.number == joined.number and joined.pass_on in call.listeners:
                call.listeners.remove(joined.pass_on)

    async def leave(self) -> None:
        """End what is still asked for, and wait for the calls, which were told to end."""
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=_LEAVE_S)
            for task in stuck:
                task.cancel()
            await asyncio.gather(*stuck, return_exceptions=True)

    def _vendor(self) -> CallVendor | None:
        vendor: Any = self._server.vendor
        return vendor if getattr(vendor, "is_call", None) is not None else None

    def _find(self, call_id: str) -> Connection:
        """The vendor has just said that this call runs."""
        return next(each for each in reversed(self._server.connections) if each.wire.call_id == call_id)

    def _end_joined(self, call: Connection) -> None:
        """Whoever joined a call ends with it, and as it did."""
        for other in self._server.joined:
            if other.number != call.number:
                continue
            if call.close_code is None:
                other.kill()
            else:
                other.close(call.close_code, call.close_reason)

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self, vendor: CallVendor, request: UpgradeRequest, body: bytes, answer: Answer) -> None:
        """One call, from the request to its end."""
        server = self._server
        carrier: CallCarrier | None = None
        sdp = ""

        async def check(asked: UpgradeRequest, number: int) -> UpgradeRequest | Refusal:
            nonlocal carrier, sdp
            offer = vendor.offer(asked, body)
            if isinstance(offer, Refusal):
                return offer
            if sum(not each.is_open for each in self._carriers) >= _MAX_DIALLING:
                return vendor.refuse(429, _TOO_MANY, "rate_limit_exceeded")
            from providers.emulators.call_carrier import CallCarrier

            carrier = CallCarrier(self._host, f"{server.vendor.name}:{number}")
            self._carriers.add(carrier)
            try:
                sdp = await carrier.answer(offer.sdp)
            except ImportError:
                return vendor.refuse(501, _NO_AIORTC, "not_implemented")
            except ValueError as error:
                return vendor.refuse(400, f"The SDP offer cannot be used: {error}", "invalid_offer")
            return msgspec.structs.replace(asked, call=offer)

        try:
            connection = await server.admit(msgspec.structs.replace(request, call=CallOffer("", {})), check)
            if not isinstance(connection, Connection):
                answer(connection)
                return
            assert carrier is not None, "whoever was admitted was answered"
            server.accept(connection)
            location = f"{request.path}/{connection.wire.call_id}"
            answer(Refusal(201, sdp, {"Content-Type": "application/sdp", "Location": location}))
            await server.serve(connection, carrier)
            self._end_joined(connection)
        except Exception as error:
            # A bug must not end the server, whose other connections are sound, nor pass unseen.
            server.failures.append(error)
            answer(Refusal(500))
        finally:
            if carrier is not None:
                await carrier.release()
                self._carriers.discard(carrier)
                server.stats.dropped_in += carrier.dropped
