"""HTTP POST beside WebSocket upgrades on one port: `websockets` itself understands GET only."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from providers.emulators.wire import Refusal, UpgradeRequest

__all__ = ["Answer", "PostHandler", "answering_posts"]

Answer = Callable[[Refusal | None], None]
"""To be called once, at any time: `Refusal` is any HTTP answer, 200 too. None: the TCP connection vanishes instead."""
PostHandler = Callable[[UpgradeRequest, bytes, Answer], None]
"""Gets one request."""

_MAX_REQUEST = 1 << 20


def answering_posts(handler: PostHandler, goodbye: Callable[[ServerConnection], None]) -> type[ServerConnection]:
    """A connection class that gives POST requests to `handler`, and everything else to the WebSocket server.

    `goodbye` is called as soon as a client's close frame is read; the server itself hears of it when TCP has ended too.
    """

    class PostingConnection(ServerConnection):
        _first = b""
        _posting: bool | None = None
        _asked = False

        def data_received(self, data: bytes) -> None:
            if self._posting is False:
                super().data_received(data)
                return
            self._first += data
            if self._posting is None:
                if len(self._first) < 5 and b"POST ".startswith(self._first):
                    return
                self._posting = self._first.startswith(b"POST ")
            if not self._posting:
                first, self._first = self._first, b""
                super().data_received(first)
                return
            if self._asked:
                return  # one request is all that is read
            asked = _asked(self._first)
            if asked is None:
                return
            self._asked, self._first = True, b""
            if isinstance(asked, Refusal):
                self._answer(asked)
            else:
                handler(*asked, self._answer)

        def _answer(self, answer: Refusal | None) -> None:
            if answer is None:
                self.transport.abort()
            elif not self.transport.is_closing():
                self.transport.write(_written(answer))
                self.transport.close()

        def process_event(self, event: Event) -> None:
            super().process_event(event)
            if isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                goodbye(self)

    return PostingConnection


def _asked(data: bytes) -> tuple[UpgradeRequest, bytes] | Refusal | None:
    """The whole request, or what is wrong with it; None while it is incomplete."""
    head, complete, body = data.partition(b"\r\n\r\n")
    if len(data) > _MAX_REQUEST:
        return Refusal(413)
    if not complete:
        return None
    request_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "transfer-encoding" in headers:
        return Refusal(411)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()):
        return Refusal(400)
    if len(length) > 9:  # nor would int() take thousands of digits
        return Refusal(413)
    if len(body) < int(length):
        return None
    target = request_line.split(" ")[1] if request_line.count(" ") == 2 else "/"
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return UpgradeRequest(parts.path, query, headers, False), body[: int(length)]


def _written(answer: Refusal) -> bytes:
    body = answer.body.encode()
    headers = {**answer.headers, "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
