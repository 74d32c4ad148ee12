"""HTTP POST beside WebSocket upgrades on one port: `websockets` itself understands GET only."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from providers.emulators.wire import Refusal, UpgradeRequest

__all__ = ["PostHandler", "answering_posts"]

PostHandler = Callable[[UpgradeRequest, bytes], Refusal]
"""Answers one request; `Refusal` is any HTTP answer, 200 too."""

_MAX_REQUEST = 1 << 20


def answering_posts(handler: PostHandler, goodbye: Callable[[ServerConnection], None]) -> type[ServerConnection]:
    """A connection class that gives POST requests to `handler`, and everything else to the WebSocket server.

    `goodbye` is called as soon as a client's close frame is read; the server itself hears of it when TCP has ended too.
    """

    class PostingConnection(ServerConnection):
        _first = b""
        _posting: bool | None = None

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
            answer = _answer(self._first, handler)
            if answer is not None:
                self._first = b""
                self.transport.write(answer)
                self.transport.close()

        def process_event(self, event: Event) -> None:
            super().process_event(event)
            if isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                goodbye(self)

    return PostingConnection


def _answer(data: bytes, handler: PostHandler) -> bytes | None:
    """The whole HTTP answer; None while the request is incomplete."""
    head, complete, body = data.partition(b"\r\n\r\n")
    if len(data) > _MAX_REQUEST:
        return _written(Refusal(413))
    if not complete:
        return None
    request_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = headers.get("content-length", "0")
    if not length.isdigit():
        return _written(Refusal(400))
    if len(body) < int(length):
        return None
    target = request_line.split(" ")[1] if request_line.count(" ") == 2 else "/"
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return _written(handler(UpgradeRequest(parts.path, query, headers, False), body[: int(length)]))


def _written(answer: Refusal) -> bytes:
    body = answer.body.encode()
    headers = {**answer.headers, "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
