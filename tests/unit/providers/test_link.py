"""The WebSocket link: how it dials, and what it says when it cannot. The driver's tests cover an open one."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from providers.emulators.tls import make_certificate
from providers.errors import ProviderError, ProviderRejected, ProviderUnavailable, SettingRefused
from providers.link import WebSocketLink, _dial, check_connection
from providers.settings import ConnectionSettings
from tests.fakes.leftovers import nothing_left
from tests.fakes.websocket_server import Peer, tcp_server, until, websocket_server

KEY = "sk-test-0123456789"
QUERY = "AIza-query-secret"
QUICK = ConnectionSettings(connect_timeout_s=2, close_timeout_s=0.3)


@pytest.fixture(autouse=True)
def no_proxy_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "WS_PROXY", "WSS_PROXY", "SOCKS_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class Inbox:
    """A LinkUser that remembers."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.end: tuple[int, str] | None = None
        self.writable = 0

    def message_received(self, message: str | bytes) -> None:
        self.messages.append(message)

    def audio_received(self, audio: bytes, now: float) -> None:
        raise AssertionError("a WebSocket carries no audio")

    def link_writable(self) -> None:
        self.writable += 1

    def link_closed(self, code: int, reason: str) -> None:
        assert self.end is None, "told twice"
        self.end = (code, reason)


async def dial(url: str, settings: ConnectionSettings = QUICK) -> WebSocketLink:
    return await WebSocketLink.connect(f"{url}/live?key={QUERY}", {"Authorization": f"Bearer {KEY}"}, settings)


async def quiet(peer: Peer) -> None:
    await peer.take_all()


def shows_no_secret(error: BaseException) -> bool:
    """Neither the error nor anything chained to it that a traceback would print."""
    seen: list[str] = []
    one: BaseException | None = error
    while one is not None:
        seen.append(f"{one!r} {one}")
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return not any(secret in text for text in seen for secret in (KEY, QUERY, "proxy-password"))


# ----------------------------------------------------------------------------------------------------------- dialling


async def test_headers_and_query_reach_the_server_and_nothing_is_compressed() -> None:
    peers: list[Peer] = []

    async def script(peer: Peer) -> None:
        peers.append(peer)
        await peer.take_all()

    async with websocket_server(script, compression="deflate") as url:
        link = await dial(url)
        link.abort()
        await link.wait_closed()
    assert peers[0].path == f"/live?key={QUERY}"
    assert peers[0].headers["Authorization"] == f"Bearer {KEY}"
    assert "Sec-WebSocket-Extensions" not in peers[0].headers


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, ProviderRejected),
        (400, ProviderRejected),
        (401, ProviderRejected),
        (403, ProviderRejected),
        (404, ProviderRejected),
        (429, ProviderUnavailable),
        (503, ProviderUnavailable),
    ],
)
async def test_refused_upgrade_is_typed_and_shows_no_secret(status: int, kind: type[ProviderError]) -> None:
    def refuse(request: Request) -> Response:
        headers = Headers({"Retry-After": "7", "Location": f"/elsewhere?key={QUERY}", "Content-Length": "46"})
        return Response(status, "No", headers, f"key {KEY} is bad".encode().ljust(46))

    async with nothing_left(), websocket_server(quiet, refuse=refuse) as url:
        with pytest.raises(kind, match=f"answered HTTP {status}: key \\*\\*\\* is bad") as caught:
            await dial(url)
    assert shows_no_secret(caught.value)
    if isinstance(caught.value, ProviderUnavailable):
        assert (caught.value.code, caught.value.retry_after_s) == (status, 7.0)


async def test_nobody_listening_is_unavailable() -> None:
    with pytest.raises(ProviderUnavailable, match=r"cannot connect to ws://127\.0\.0\.1:1/live: ") as caught:
        await dial("ws://127.0.0.1:1")
    assert shows_no_secret(caught.value)


async def test_unknown_host_is_unavailable() -> None:
    with pytest.raises(ProviderUnavailable, match="no-such-host"):
        await dial("ws://no-such-host.invalid")


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:80", "ws://"])
async def test_address_that_is_none_is_rejected(url: str) -> None:
    with pytest.raises(ProviderRejected, match="no WebSocket address") as caught:
        await dial(url)
    assert shows_no_secret(caught.value)


async def test_server_that_speaks_no_http_is_unavailable() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        await writer.drain()

    async with nothing_left(), tcp_server(script) as (host, port):
        with pytest.raises(ProviderUnavailable):
            await dial(f"ws://{host}:{port}")


async def test_server_that_never_answers_the_upgrade_times_out() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    settings = ConnectionSettings(connect_timeout_s=0.1)
    async with nothing_left(), tcp_server(script) as (host, port):
        with pytest.raises(ProviderUnavailable, match=r"not connected within 0.1 s") as caught:
            await dial(f"ws://{host}:{port}", settings)
    assert shows_no_secret(caught.value)


async def test_verbose_logging_shows_no_key_and_no_speech(caplog: pytest.LogCaptureFixture) -> None:
    # The fake server's own log is not ours.
    with caplog.at_level(logging.INFO, logger="websockets.server"), caplog.at_level(logging.DEBUG):
        async with websocket_server(quiet) as url:
            link = await dial(url)
            link.send(b'{"audio":"c3BlZWNo"}')
            link.finish()
            link.attach(Inbox())
            await link.wait_closed()
    assert KEY not in caplog.text and QUERY not in caplog.text and "c3BlZWNo" not in caplog.text


# --------------------------------------------------------------------------------------------------------------- TLS


async def test_own_authority_is_trusted_only_by_ca_file(tmp_path: Path) -> None:
    certificate = make_certificate()
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(certificate.certificate_pem)
    async with websocket_server(quiet, ssl=certificate.server_context()) as url:
        with pytest.raises(ProviderRejected, match=r"not trusted.*connection\.ca_file"):
            await dial(url)
        settings = ConnectionSettings(connect_timeout_s=2, close_timeout_s=0.3, ca_file=str(ca_file))
        check_connection(settings)
        link = await dial(url, settings)
        link.send(b"{}")
        link.finish()
        link.attach(Inbox())
        await link.wait_closed()


@pytest.mark.parametrize("content", [None, b"not a certificate"])
def test_ca_file_that_cannot_be_read_is_refused_before_anything_opens(tmp_path: Path, content: bytes | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_bytes(content)
    with pytest.raises(SettingRefused, match=r"connection\.ca_file = .*ca\.pem"):
        check_connection(ConnectionSettings(ca_file=str(ca_file)))


@pytest.mark.parametrize("proxy", ["proxy.example:3128", "ftp://p:1", "http://", "http://p:port", "http://u:hush@p/x"])
def test_a_proxy_that_is_none_is_refused_before_anything_opens(proxy: str) -> None:
    with pytest.raises(SettingRefused, match=r"connection\.proxy = .*http://HOST:PORT") as refused:
        check_connection(ConnectionSettings(proxy=proxy))
    assert "hush" not in str(refused.value)


def test_a_socks_proxy_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.link.find_spec", lambda name: None)
    with pytest.raises(SettingRefused, match=r"connection\.proxy = 'socks5h://p:1080': .*python-socks"):
        check_connection(ConnectionSettings(proxy="socks5h://p:1080"))


def test_an_http_proxy_with_a_password_is_accepted() -> None:
    check_connection(ConnectionSettings(proxy="http://user:hush@proxy.example:3128"))


# ------------------------------------------------------------------------------------------------------------- proxies


@asynccontextmanager
async def http_proxy(asked: list[str], *, status: int = 200) -> AsyncIterator[str]:
    """A CONNECT proxy on loopback that notes the first line and the credentials it was given."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head)
        if status != 200:
            writer.write(f"HTTP/1.1 {status} No\r\n\r\n".encode())
            return
        host, port = head.split()[1].rsplit(":", 1)
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        async with asyncio.TaskGroup() as group:
            group.create_task(pump(reader, far_writer), name="up")
            group.create_task(pump(far_reader, writer), name="down")

    async with tcp_server(script) as (host, port):
        yield f"http://user:proxy-password@{host}:{port}"


async def through(url: str, settings: ConnectionSettings) -> None:
    inbox = Inbox()
    link = await dial(url, settings)
    link.attach(inbox)
    link.finish()
    await link.wait_closed()
    assert inbox.end == (1000, "")


async def test_named_proxy_is_used() -> None:
    asked: list[str] = []
    async with websocket_server(quiet) as url, http_proxy(asked) as proxy:
        await through(url, ConnectionSettings(proxy=proxy, close_timeout_s=0.3))
    assert asked[0].startswith(f"CONNECT {url.removeprefix('ws://')} ")
    assert "Proxy-Authorization: Basic" in asked[0]
    assert KEY not in asked[0] and QUERY not in asked[0]


async def test_proxy_of_the_environment_is_used_unless_no_proxy_names_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    async with websocket_server(quiet) as url, http_proxy(asked) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("http_proxy", proxy)
        await through(url, QUICK)
        assert len(asked) == 1
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        await through(url, QUICK)
        assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "kind"), [(407, ProviderRejected), (403, ProviderRejected), (502, ProviderUnavailable)]
)
async def test_proxy_that_refuses_is_named_without_its_password(status: int, kind: type[Exception]) -> None:
    async with nothing_left(), http_proxy([], status=status) as proxy:
        with pytest.raises(kind, match="proxy") as caught:
            await dial("ws://127.0.0.1:1", ConnectionSettings(proxy=proxy))
    assert shows_no_secret(caught.value)


async def test_proxy_address_that_is_none_is_refused_without_its_password() -> None:
    settings = ConnectionSettings(proxy="ftp://user:proxy-password@proxy.example.com")
    with pytest.raises(SettingRefused, match=r"connection\.proxy = 'ftp://proxy\.example\.com'") as caught:
        await dial("ws://127.0.0.1:1", settings)
    assert shows_no_secret(caught.value)


# ------------------------------------------------------------------------------------------- a link that waits its turn


async def test_what_comes_before_attach_is_kept_in_order() -> None:
    async def script(peer: Peer) -> None:
        for number in range(200):
            await peer.say(text=str(number))
        await peer.take_all()

    inbox = Inbox()
    async with websocket_server(script) as url:
        link = await dial(url)
        await asyncio.sleep(0.05)
        link.attach(inbox)
        await until(lambda: len(inbox.messages) == 200)
        assert inbox.messages == [f'{{"text":"{number}"}}' for number in range(200)]
        link.finish()
        await link.wait_closed()


async def test_end_before_attach_is_told_on_attach() -> None:
    async def script(peer: Peer) -> None:
        await peer.connection.close(1013, "later")

    inbox = Inbox()
    async with websocket_server(script) as url:
        link = await dial(url)
        await link.wait_closed()
        assert not link.writable
        link.send(b"{}")
        link.finish()
        link.abort()
        link.attach(inbox)
    assert inbox.end == (1013, "later")


async def test_end_before_there_was_a_link_is_told_on_attach() -> None:
    async def script(peer: Peer) -> None:
        await peer.connection.close(1013, "later")

    inbox = Inbox()
    async with websocket_server(script) as url:
        connection = await _dial(url, {}, QUICK, None)
        await connection.wait_closed()
        link = WebSocketLink(connection, QUICK)
        await link.wait_closed()
        link.attach(inbox)
    assert inbox.end == (1013, "later")


async def test_reason_longer_than_a_close_frame_is_cut_to_whole_letters() -> None:
    codes: list[str | None] = []

    async def script(peer: Peer) -> None:
        await peer.take_all()
        codes.append(peer.connection.close_reason)

    async with websocket_server(script) as url:
        link = await dial(url)
        link.attach(Inbox())
        link.finish(1001, "é" * 100)
        await link.wait_closed()
    assert codes == ["é" * 61]


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
async def test_a_network_that_is_gone_is_noticed_by_what_it_does_not_acknowledge() -> None:
    async with websocket_server(quiet) as url:
        link = await dial(url, ConnectionSettings(unacknowledged_s=4.5, close_timeout_s=0.3))
        sock = link._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 4500
        link.abort()
        await link.wait_closed()
