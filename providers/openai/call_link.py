"""A call to OpenAI: our offer over HTTP, the answer, and the WebRTC connection that comes of it, as a `Link`.

Two forms of the request, by who asks: `unified` sends offer and session in one form (API key); `sdp` sends the offer
alone, since a client secret knows its session. The session is set up over the link like any other.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import threading
from collections.abc import Mapping
from importlib import import_module
from urllib.parse import urlsplit

import msgspec

from providers.errors import ProviderError, ProviderUnavailable
from providers.handshake import refusal, secrets_in
from providers.http_post import HttpAnswer, post
from providers.link import WebSocketLink
from providers.openai.endpoint import calls_url, hangup_url, sideband_url
from providers.settings import ConnectionSettings
from providers.webrtc.link import PeerLink
from providers.webrtc.peer import Peer
from providers.webrtc.settings import PeerSettings, ResolvedIceServer

__all__ = ["CHANNEL", "CallPlan", "call_body", "call_id_of", "open_call"]

CHANNEL = "oai-events"
"""The label under which the service expects the data channel."""

_log = logging.getLogger("providers.openai.call_link")

_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
_OVER_ALREADY = frozenset({404, 410})


class CallPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the service. Holds secrets: shown to nobody."""

    base_url: str
    model: str
    headers: Mapping[str, str]
    """With the key, or the client secret, that asks for the call."""
    hang_up: Mapping[str, str] | None
    """Headers of the request that ends the call. It takes an API key, whatever asked for the call; None: there is
    none, and the service notices by itself that media has ended."""
    unified: bool
    sideband: Mapping[str, str] | None = None
    """Headers of the WebSocket for events, with an API key; None: they travel over the data channel."""
    bitrate_bps: int = 64_000
    """Of the Opus that we send."""
    ice_servers: tuple[ResolvedIceServer, ...] = ()
    kept_silence_ms: float = 700.0
    """See `RealTimeOutbox`: as much silence as ends a turn."""

    def __repr__(self) -> str:
        return f"CallPlan({self.model!r})"


def call_body(offer: str, model: str, *, unified: bool) -> tuple[str, bytes]:
    """Content-Type and body of `POST /v1/realtime/calls`.

    The session holds what must be known from the start, no more: a call may be waiting for its set-up (`Standby`).
    """
    if not unified:
        return "application/sdp", offer.encode()
    boundary = f"roombridge-{secrets.token_hex(16)}"
    session = msgspec.json.encode({"type": "realtime", "model": model})
    parts = (("sdp", "application/sdp", offer.encode()), ("session", "application/json", session))
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\nContent-Type: {kind}\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, kind, content in parts
    )
    return f"multipart/form-data; boundary={boundary}", body + f"--{boundary}--\r\n".encode()


def call_id_of(answer: HttpAnswer) -> str:
    """The last part of the Location; empty where there is none that could be one."""
    last = urlsplit(answer.headers.get("location", "")).path.rstrip("/").rpartition("/")[2]
    return last if _CALL_ID.fullmatch(last) else ""


async def open_call(plan: CallPlan, connection: ConnectionSettings, *, name: str) -> PeerLink:
    """Call, and return the link once media and messages flow. The caller bounds it; nothing stays open behind an error.

    Raises: ProviderRejected (401, 403, 404, 400, certificate), ProviderUnavailable (network, no media path, 429 with
    `retry_after_s`, 5xx, an answer that is no SDP).
    """
    link = PeerLink(
        name=name,
        outbox_ms=connection.outbox_ms,
        kept_silence_ms=plan.kept_silence_ms,
        close_timeout_s=connection.close_timeout_s,
    )
    settings = PeerSettings(bitrate_bps=plan.bitrate_bps, connect_timeout_s=connection.connect_timeout_s)
    peer = Peer(link, settings, plan.ice_servers, name=name)
    link.bind(peer)
    try:
        await asyncio.to_thread(import_module, "providers.webrtc.seam")  # a quarter of a second, the first time
        offer = await peer.offer(CHANNEL)
        answer = await _ask(plan, offer, connection)
        call_id = call_id_of(answer)
        if call_id and plan.hang_up is not None:
            link.goodbye = lambda: asyncio.to_thread(_hang_up, plan, call_id, connection)
        try:
            await peer.accept(answer.body.decode())
        except ValueError as error:
            raise ProviderUnavailable(f"the answer to our call cannot be used: {error}") from None
        try:
            await peer.connected()
        except ConnectionError as error:
            raise ProviderUnavailable(f"the call was answered, but media found no way: {error}") from None
        messages = None
        if plan.sideband is not None:
            if not call_id:
                raise ProviderUnavailable("the call has no id: its events cannot be joined over a WebSocket")
            messages = await WebSocketLink.connect(sideband_url(plan.base_url, call_id), plan.sideband, connection)
        link.opened(messages)
    except BaseException:
        link.abort("given up while it was dialled")
        await link.wait_closed()
        raise
    return link


async def _ask(plan: CallPlan, offer: str, connection: ConnectionSettings) -> HttpAnswer:
    """The request, off the loop. Raises what a refusal means."""
    url = calls_url(plan.base_url)
    kind, body = call_body(offer, plan.model, unified=plan.unified)
    headers = {**plan.headers, "Content-Type": kind, "Accept": "application/sdp"}
    unwanted = threading.Event()

    def ask() -> HttpAnswer:
        answer = post(url, headers, body, connection)
        if unwanted.is_set() and (call_id := call_id_of(answer)):
            _hang_up(plan, call_id, connection)  # nobody waited for it
        return answer

    try:
        answer = await asyncio.to_thread(ask)
    except asyncio.CancelledError:
        unwanted.set()
        raise
    if answer.status not in (200, 201):
        raise refusal(url, answer.status, answer.headers, answer.body, secrets_in(url, headers))
    return answer


def _hang_up(plan: CallPlan, call_id: str, connection: ConnectionSettings) -> None:
    """Best effort: a call whose media ends is ended by the service too, only later."""
    if plan.hang_up is None:
        return
    short = msgspec.structs.replace(connection, connect_timeout_s=connection.close_timeout_s)
    try:
        answer = post(hangup_url(plan.base_url, call_id), plan.hang_up, b"", short)
    except ProviderError as error:
        _log.info("hanging up was not heard: %s", type(error).__name__)
        return
    if answer.status >= 400 and answer.status not in _OVER_ALREADY:
        _log.warning("hanging up was refused: HTTP %d", answer.status)
