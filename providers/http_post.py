"""One HTTP POST to a provider, before there is a connection: a client secret, a call. Blocking: run it off the loop.

It goes through the proxy and trusts the authorities of `ConnectionSettings`, follows no redirect (our headers carry
keys), and takes no longer than the connect timeout, nor more than a mebibyte.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from typing import IO
from urllib.parse import urlsplit

import msgspec

from providers.errors import ProviderUnavailable, SettingRefused
from providers.handshake import network_error, place, secrets_in
from providers.settings import ConnectionSettings
from providers.tls import client_context

__all__ = ["HttpAnswer", "check_proxy", "post"]

_MAX_ANSWER = 1 << 20
_PIECE = 1 << 16


class HttpAnswer(msgspec.Struct, frozen=True):
    """What the server answered, whatever the status."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


def check_proxy(connection: ConnectionSettings) -> None:
    """Refuse a proxy that a POST cannot go through. Raises SettingRefused."""
    if connection.proxy is not None and urlsplit(connection.proxy).scheme.startswith("socks"):
        mend = "the HTTP request before the connection cannot go through a SOCKS proxy: use an http:// one"
        raise SettingRefused("connection.proxy", place(connection.proxy), mend)


def post(url: str, headers: Mapping[str, str], body: bytes, connection: ConnectionSettings) -> HttpAnswer:
    """POST `body` and return the answer; an error status is an answer too.

    Raises: ProviderUnavailable (network, timeout), ProviderRejected (certificate), SettingRefused (ca_file). None of
    them shows a header value or the URL's query.
    """
    give_up = time.monotonic() + connection.connect_timeout_s
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if connection.proxy is not None:
        handlers.append(urllib.request.ProxyHandler({"http": connection.proxy, "https": connection.proxy}))
    if url.startswith("https:"):
        handlers.append(urllib.request.HTTPSHandler(context=client_context(connection.ca_file)))
    sent = {**headers, "User-Agent": "roombridge"}
    request = urllib.request.Request(url, data=body, headers=sent, method="POST")
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=connection.connect_timeout_s) as answer:
            return HttpAnswer(answer.status, _lower(answer.headers), _read(answer, give_up))
    except urllib.error.HTTPError as refused:
        with refused:
            return HttpAnswer(refused.code, _lower(refused.headers), _read_refusal(refused, give_up))
    except TimeoutError:
        said = f"{place(url)} did not answer within {connection.connect_timeout_s:g} s"
        raise ProviderUnavailable(said) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None)
        told = reason if isinstance(reason, Exception) else error
        raise network_error(url, told, secrets_in(url, headers)) from None


def _read(answer: IO[bytes], give_up: float) -> bytes:
    """The body, as far as it is wanted: a server that drips must not hold a thread for ever."""
    pieces: list[bytes] = []
    size = 0
    while size < _MAX_ANSWER and time.monotonic() < give_up:
        piece = answer.read1(_PIECE)  # type: ignore[attr-defined] # both kinds of answer have it
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _read_refusal(refused: IO[bytes], give_up: float) -> bytes:
    try:
        return _read(refused, give_up)
    except (OSError, http.client.HTTPException):
        return b""  # the status alone says what to do


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host: it comes back as the HTTP error that it is."""

    def redirect_request(self, *arguments: object) -> None:
        return None
