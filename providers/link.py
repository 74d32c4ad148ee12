"""How messages and audio travel: a `Link` to a provider, and the one over WebSocket.

Over some links audio goes a way of its own, beside the messages (`Link.carry_audio`); over others it is inside them.

Nothing here is a task. What arrives is handed on in the turn in which the socket was read, and what is sent reaches the
socket before `send` returns, as long as the socket takes it: neither way waits for another turn of the loop.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Protocol
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    InvalidHandshake,
    InvalidProxy,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State
from websockets.proxy import parse_proxy

from providers.contract import OutboxStats
from providers.errors import ProviderError, ProviderRejected, ProviderUnavailable, SettingRefused
from providers.handshake import network_error, place, proxy_refusal, refusal, secrets_in
from providers.settings import ConnectionSettings
from providers.tls import client_context, client_context_off_loop

__all__ = ["MAX_MESSAGE_BYTES", "Link", "LinkUser", "WebSocketLink", "check_connection"]

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Largest message taken from a provider. OpenAI's own limit for a client message is 15 MiB."""

# Written bytes that the socket did not take yet. Beyond the high mark the link is not writable and audio waits in the
# outbox, where old audio can still be dropped. 16 KiB is 0.4 s of 16 kHz speech in JSON.
_WRITE_BUFFER = (16 * 1024, 4 * 1024)
# The same for the kernel's share: without it Linux grows the send buffer to megabytes, a minute of stale speech.
_UNSENT_BYTES = 32 * 1024
_EARLY_MESSAGES = 64

# At DEBUG websockets logs every header and message: keys and speech. A level of its own keeps a verbose root out.
_wire_log = logging.getLogger("providers.link.websockets")
_wire_log.setLevel(logging.WARNING)


class LinkUser(Protocol):
    """Whoever speaks over a link. Called in the loop's own turn; must not raise."""

    def message_received(self, message: str | bytes) -> None:
        """One whole message: str from a text frame, bytes from a binary one (or from text that is no UTF-8)."""
        ...

    def audio_received(self, audio: bytes, now: float) -> None:
        """One 20 ms frame of the provider's voice, int16 mono, from a link that carries audio: also while it is
        silent. `now` is the loop's time."""
        ...

    def link_writable(self) -> None:
        """The link takes messages again."""
        ...

    def link_closed(self, code: int, reason: str) -> None:
        """The end, exactly once. `code` is the other side's WebSocket close code; 1006 when the connection vanished, or
        had to be ended because of what came."""
        ...


class Link(Protocol):
    """A connection to a provider that carries whole messages, and perhaps audio."""

    @property
    def writable(self) -> bool:
        """May `send` be called? False while the socket is slow, and after the end."""
        ...

    def attach(self, user: LinkUser) -> None:
        """Hand everything to `user` from now on, beginning with what came (and an end that happened) before."""
        ...

    def send(self, message: bytes) -> None:
        """Write one UTF-8 message at once. After the end it is dropped: `link_closed` is on its way."""
        ...

    def carry_audio(self, stats: OutboxStats) -> bool:
        """Does audio travel beside the messages? Then `send_audio` takes it, and what becomes of it is counted here.
        To be asked once, before anything is sent."""
        ...

    def send_audio(self, audio: bytes) -> None:
        """Speech of any length, sent at the speed of sound. Only where `carry_audio` said so; after the end it is
        dropped."""
        ...

    def drop_audio(self) -> None:
        """What was given to `send_audio` and has not gone out is not wanted any more."""
        ...

    def finish(self, code: int = 1000, reason: str = "") -> None:
        """Begin the goodbye; the link ends within the close timeout, whatever the other side does."""
        ...

    def abort(self, reason: str = "") -> None:
        """End without a goodbye, as code 1006; `reason` becomes that of `link_closed`."""
        ...

    async def wait_closed(self) -> None:
        """Return when nothing is open any more, and `link_closed` has been called."""
        ...


class _Connection(ClientConnection):
    """A websockets connection that hands frames on where they are parsed, with no queue and no task between."""

    link: WebSocketLink | None = None
    heard_at = 0.0

    def process_event(self, event: Event) -> None:
        if self.response is None or not isinstance(event, Frame):
            super().process_event(event)
        elif event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self.frame_received(event)
        # Pings are answered by the protocol; pongs count as life in data_received.

    partial: bytearray | None = None
    partial_is_text = False
    early: list[str | bytes] | None = None

    def frame_received(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CONT:
            assert self.partial is not None, "the protocol refuses a continuation of nothing"
            self.partial += frame.data
            if not frame.fin:
                return
            data, is_text = bytes(self.partial), self.partial_is_text
            self.partial = None
        else:
            is_text = frame.opcode is Opcode.TEXT
            if not frame.fin:
                self.partial = bytearray(frame.data)
                self.partial_is_text = is_text
                return
            data = bytes(frame.data)
        message: str | bytes = data
        if is_text:
            try:
                message = data.decode()
            except UnicodeDecodeError:
                pass  # the protocol core reports it as malformed; the conversation goes on
        if self.link is not None and self.link.user is not None:
            self.link.user.message_received(message)
            return
        if self.early is None:
            self.early = []
        self.early.append(message)
        if len(self.early) == _EARLY_MESSAGES:
            self.transport.pause_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.heard_at = self.loop.time()
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        super().data_received(data)
        if self.link is not None and self.protocol.state is not State.OPEN:
            self.link.closing_seen()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.link is not None:
            self.link.writable = False

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.link is not None:
            self.link.resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.link is not None:
            self.link.lost(exc)


class _Dialer(connect):
    """websockets' connect(), except that it follows no redirect: our headers carry keys, and not only Authorization."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class WebSocketLink:
    """A `Link` over one WebSocket, with its own keepalive.

    A ping goes out every `ping_interval_s`. Liveness is any received byte, pongs included, within `stall_timeout_s`:
    Gemini's pongs take up to 30 s, so that a pong timeout of the usual kind ends healthy calls.
    """

    def __init__(self, connection: _Connection, settings: ConnectionSettings) -> None:
        self.user: LinkUser | None = None
        self.writable = True
        self._connection = connection
        self._protocol = connection.protocol
        self._transport = connection.transport
        self._settings = settings
        self._loop = connection.loop
        self._end: tuple[int, str] | None = None
        self._abort_reason = ""
        self._closed: asyncio.Future[None] = self._loop.create_future()
        # Two pings at least must fit into the stall timeout, or a quiet but healthy connection would look dead.
        self._ping_interval_s = min(settings.ping_interval_s, settings.stall_timeout_s / 3)
        self._next_ping = self._loop.time() + self._ping_interval_s
        self._watch: asyncio.TimerHandle | None = None
        self._give_up: asyncio.TimerHandle | None = None
        if connection.connection_lost_waiter.done():
            # It ended between the upgrade and now; attach() tells.
            self.lost(connection.connection_exc)
            return
        connection.link = self
        _limit_unacknowledged(connection.transport, settings.unacknowledged_s)
        self._rearm_watch()
        if self._protocol.state is not State.OPEN:
            self.closing_seen()

    @classmethod
    async def connect(cls, url: str, headers: Mapping[str, str], settings: ConnectionSettings) -> WebSocketLink:
        """Open a WebSocket to `url` within `connect_timeout_s`.

        Raises: ProviderRejected (401, 403, 404, redirect, certificate), ProviderUnavailable (network, timeout, 429 with
        `retry_after_s`, 5xx), SettingRefused (ca_file, proxy). None of them shows a header value or the URL's query.
        """
        secrets = secrets_in(url, headers)
        try:
            async with asyncio.timeout(settings.connect_timeout_s):
                context = await client_context_off_loop(settings.ca_file) if url.startswith("wss:") else None
                connection = await _dial(url, headers, settings, context)
        except TimeoutError as error:
            raise ProviderUnavailable(
                f"cannot connect to {place(url)}: not connected within {settings.connect_timeout_s:g} s"
            ) from error
        except ProviderError:
            raise
        except InvalidStatus as error:
            response = error.response
            raise refusal(url, response.status_code, response.headers, bytes(response.body or b""), secrets) from None
        except InvalidURI:
            raise ProviderRejected(f"{place(url)} is no WebSocket address", mend="check the base URL") from None
        except InvalidProxy as error:
            # Its text holds the whole proxy URL, password included.
            raise SettingRefused("connection.proxy", place(error.proxy), error.msg) from None
        except ImportError as error:
            raise ProviderRejected(f"cannot use this proxy: {error}", mend="pip install python-socks") from None
        except InvalidProxyStatus as error:
            raise proxy_refusal(url, error.response.status_code) from None
        except ProxyError as error:
            raise ProviderUnavailable(f"the proxy did not let us through to {place(url)}: {error}") from None
        except (OSError, InvalidHandshake, EOFError) as error:
            raise network_error(url, error, secrets) from None
        try:
            return cls(connection, settings)
        except BaseException:
            connection.transport.abort()
            raise

    def attach(self, user: LinkUser) -> None:
        """See `Link.attach`."""
        early, self._connection.early = self._connection.early, None
        self.user = user
        if early:
            for message in early:
                user.message_received(message)
            if len(early) >= _EARLY_MESSAGES and self._end is None:
                self._transport.resume_reading()
        if self._end is not None:
            self._hand_over_end()

    def send(self, message: bytes) -> None:
        """See `Link.send`."""
        protocol = self._protocol
        if protocol.state is State.OPEN:
            protocol.send_text(message)
            self._write()

    def carry_audio(self, stats: OutboxStats) -> bool:
        """See `Link.carry_audio`: no, it is inside the messages."""
        return False

    def send_audio(self, audio: bytes) -> None:
        raise AssertionError("over a WebSocket audio is part of a message")

    def drop_audio(self) -> None:
        """What has been written is gone."""

    def finish(self, code: int = 1000, reason: str = "") -> None:
        """See `Link.finish`."""
        if self._end is not None or self._give_up is not None:
            return
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, _fit(reason))
            self._write()
        self.writable = False
        self._limit_goodbye()

    def abort(self, reason: str = "") -> None:
        """See `Link.abort`."""
        if self._end is None:
            self.writable = False
            self._abort_reason = self._abort_reason or reason
            self._transport.abort()

    async def wait_closed(self) -> None:
        """See `Link.wait_closed`."""
        await asyncio.shield(self._closed)

    # Called by the connection.

    def resumed(self) -> None:
        if self._protocol.state is State.OPEN:
            self.writable = True
            if self.user is not None:
                self.user.link_writable()

    def closing_seen(self) -> None:
        """The other side said goodbye, answered ours, or broke the protocol."""
        self.writable = False
        if self._protocol.close_rcvd is not None or self._protocol.parser_exc is not None:
            # RFC 6455 section 7.1.1 would have the client wait for the server to close TCP first. Nothing more can
            # come, and the caller needs the news now.
            self._transport.close()
            self._limit_goodbye()

    def lost(self, error: BaseException | None) -> None:
        self.writable = False
        for timer in (self._watch, self._give_up):
            if timer is not None:
                timer.cancel()
        self._watch = self._give_up = None
        received, sent = self._protocol.close_rcvd, self._protocol.close_sent
        if received is not None:
            self._end = (int(received.code), received.reason)
        elif self._protocol.parser_exc is not None and sent is not None:
            # Our own code (1002, 1007, 1009) stands for their fault; read as theirs it would mean that we were wrong.
            self._end = (1006, f"we refused what came: {int(sent.code)} {sent.reason}")
        else:
            self._end = (1006, self._abort_reason or (str(error) if error is not None else "the connection was lost"))
        self._connection.link = None
        if self.user is not None:
            self._hand_over_end()
        self._closed.set_result(None)

    def _hand_over_end(self) -> None:
        assert self._end is not None and self.user is not None
        user, self.user = self.user, None
        user.link_closed(*self._end)

    def _write(self) -> None:
        for data in self._protocol.data_to_send():
            self._transport.write(data)

    def _limit_goodbye(self) -> None:
        if self._give_up is None:
            self._give_up = self._loop.call_later(
                self._settings.close_timeout_s, self.abort, "the goodbye was not answered in time"
            )

    def _rearm_watch(self) -> None:
        due = min(self._next_ping, self._connection.heard_at + self._settings.stall_timeout_s)
        self._watch = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if now - self._connection.heard_at >= self._settings.stall_timeout_s:
            self._watch = None
            self.abort(f"nothing received for {self._settings.stall_timeout_s:g} s")
            return
        if now >= self._next_ping:
            self._next_ping = now + self._ping_interval_s
            if self.writable:
                self._protocol.send_ping(b"")
                self._write()
        self._rearm_watch()


def check_connection(settings: ConnectionSettings) -> None:
    """Refuse a CA file or proxy that cannot be used, before anything is opened. Raises SettingRefused."""
    if settings.proxy is not None:
        _check_proxy(settings.proxy)
    if settings.ca_file is not None:
        client_context(settings.ca_file)


def _check_proxy(proxy: str) -> None:
    # Neither the value nor the mend may show the password that stands in a proxy's URL.
    try:
        scheme = urlsplit(proxy).scheme
        urlsplit(proxy).port  # noqa: B018 - raises where it is none
        parse_proxy(proxy)
    except (InvalidProxy, ValueError):
        mend = "write it as http://HOST:PORT, with USER:PASSWORD@ before the host where it asks for them"
        raise SettingRefused("connection.proxy", place(proxy), mend) from None
    if scheme.startswith("socks") and find_spec("python_socks") is None:
        mend = "a SOCKS proxy needs the package python-socks[asyncio]: install it, or use an http:// proxy"
        raise SettingRefused("connection.proxy", place(proxy), mend)


async def _dial(
    url: str, headers: Mapping[str, str], settings: ConnectionSettings, context: ssl.SSLContext | None
) -> _Connection:
    tls: dict[str, Any] = {} if context is None else {"ssl": context, "ssl_shutdown_timeout": settings.close_timeout_s}
    connection = await _Dialer(
        url,
        additional_headers=dict(headers),
        user_agent_header="roombridge",
        compression=None,
        proxy=settings.proxy or True,
        open_timeout=None,  # ours covers the certificate store too
        ping_interval=None,
        ping_timeout=None,
        close_timeout=settings.close_timeout_s,
        max_size=MAX_MESSAGE_BYTES,
        max_queue=None,
        write_limit=_WRITE_BUFFER,
        logger=_wire_log,
        create_connection=_Connection,
        **tls,
    )
    assert isinstance(connection, _Connection)
    return connection


def _limit_unacknowledged(transport: asyncio.Transport, limit_s: float) -> None:
    """Linux itself would resend for a quarter of an hour. Microphone audio flows at all times, so that this notices a
    network that is gone long before `stall_timeout_s` may."""
    sock = transport.get_extra_info("socket")
    if hasattr(socket, "TCP_USER_TIMEOUT") and sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(limit_s * 1000))


def _fit(reason: str) -> str:
    """A close frame holds 123 bytes of reason (RFC 6455 section 5.5)."""
    return reason.encode()[:123].decode("utf-8", "ignore")
