"""POST requests beside WebSocket upgrades on one port."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from providers.emulators.http_post import Answer, answering_posts
from providers.emulators.openai import OpenAIEmulator
from providers.emulators.wire import Refusal, UpgradeRequest


def echo(request: UpgradeRequest, body: bytes, answer: Answer) -> None:
    """Takes its time."""
    found = Refusal(201, f"{request.path} {request.query} {request.headers['x-a']} {body.decode()}")
    asyncio.get_running_loop().call_later(0.02, answer, found)


async def exchange(port: int, *pieces: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.01)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def idle(socket: ServerConnection) -> None:
    await socket.send("hello")


async def test_a_post_in_pieces_is_answered_whole_and_upgrades_still_work() -> None:
    async with serve(idle, "127.0.0.1", 0, create_connection=answering_posts(echo, lambda _: None)) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        head = b"ST /p?a=1 HTTP/1.1\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhe"
        answer = await exchange(port, b"PO", head, b"llo")
        assert answer.startswith(b"HTTP/1.1 201 Created\r\n")
        assert answer.endswith(b"/p {'a': '1'} b hello")
        async with connect(f"ws://127.0.0.1:{port}") as client:
            assert await client.recv() == "hello"


@pytest.mark.parametrize(("length", "status"), [(b"many", b"400"), (b"\xb2", b"400"), (b"9" * 5_000, b"413")])
async def test_a_length_that_is_no_number_or_too_large_is_refused(length: bytes, status: bytes) -> None:
    async with OpenAIEmulator() as emulator:
        answer = await exchange(emulator.port, b"POST / HTTP/1.1\r\nContent-Length: " + length + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status)


async def test_an_endless_request_is_cut_off() -> None:
    async with OpenAIEmulator() as emulator:
        answer = await exchange(emulator.port, b"POST / HTTP/1.1\r\n" + b"a" * ((1 << 20) + 1))
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_request_may_get_no_answer_at_all() -> None:
    def drop(request: UpgradeRequest, body: bytes, answer: Answer) -> None:
        answer(None)

    async with serve(idle, "127.0.0.1", 0, create_connection=answering_posts(drop, lambda _: None)) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        assert await exchange(port, b"POST / HTTP/1.1\r\n\r\n") == b""


async def test_a_body_of_unknown_length_is_refused() -> None:
    async with OpenAIEmulator() as emulator:
        answer = await exchange(emulator.port, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 411 ")
