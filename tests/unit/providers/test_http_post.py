"""The POST before a connection: bounded, without redirects, and no text of it shows a key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from providers.errors import ProviderUnavailable, SettingRefused
from providers.http_post import HttpAnswer, check_proxy, post
from providers.settings import ConnectionSettings

KEY = "Bearer sk-very-secret"
QUICK = ConnectionSettings(connect_timeout_s=0.5)


@asynccontextmanager
async def server(*pieces: bytes, pause_s: float = 0.0) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answers whatever it is asked with these bytes, and keeps what it was asked."""
    asked: list[bytes] = []
    handlers: list[asyncio.Task[None]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.append(task)
        try:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1/realtime/calls?key=hidden-key", asked
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


async def ask(url: str, connection: ConnectionSettings = QUICK) -> HttpAnswer:
    return await asyncio.to_thread(post, url, {"Authorization": KEY}, b"body", connection)


async def test_the_answer_comes_back_whatever_its_status() -> None:
    for status in (b"201 Created", b"503 Busy"):
        head = b"HTTP/1.1 " + status + b"\r\nLocation: /v1/realtime/calls/rtc_1\r\nContent-Length: 4\r\n\r\nv=0\n"
        async with server(head) as (url, asked):
            answer = await ask(url)
        assert answer.status == int(status[:3])
        assert (answer.headers["location"], answer.body) == ("/v1/realtime/calls/rtc_1", b"v=0\n")
        assert KEY.encode() in asked[0] and b"roombridge" in asked[0]


async def test_a_redirect_is_not_followed() -> None:
    async with server(b"HTTP/1.1 307 Away\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n") as (
        url,
        asked,
    ):
        answer = await ask(url)
    assert answer.status == 307
    assert len(asked) == 1


@pytest.mark.parametrize("listens", [True, False])
async def test_a_server_that_never_answers_or_is_not_there_is_given_up(listens: bool) -> None:
    async with server(b"", pause_s=30.0) as (url, _):
        if listens:
            with pytest.raises(ProviderUnavailable, match=r"did not answer within 0\.5 s") as caught:
                await ask(url)
    if not listens:
        with pytest.raises(ProviderUnavailable, match="cannot connect") as caught:
            await ask(url)
    assert "sk-very-secret" not in str(caught.value) and "hidden-key" not in str(caught.value)


async def test_a_refusal_that_is_never_told_to_its_end_is_a_refusal_all_the_same() -> None:
    async with server(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 1000\r\n\r\n", pause_s=30.0) as (url, _):
        answer = await ask(url)
    assert (answer.status, answer.headers["retry-after"], answer.body) == (503, "7", b"")


async def test_a_server_that_drips_holds_us_no_longer_than_the_timeout() -> None:
    head = b"HTTP/1.1 201 Created\r\nContent-Length: 1000\r\n\r\n"
    began = asyncio.get_running_loop().time()
    async with server(head, *[b"x"] * 30, pause_s=0.1) as (url, _):
        answer = await ask(url)
        assert asyncio.get_running_loop().time() - began < 1.5
    assert len(answer.body) < 30


def test_a_socks_proxy_is_refused_by_name() -> None:
    check_proxy(ConnectionSettings(proxy="http://user:word@proxy:3128"))
    with pytest.raises(SettingRefused, match=r"connection\.proxy") as caught:
        check_proxy(ConnectionSettings(proxy="socks5://user:word@proxy:1080"))
    assert "word@" not in str(caught.value)
