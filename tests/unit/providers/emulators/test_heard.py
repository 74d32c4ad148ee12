"""The input of a call, joined over its connections."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.client import ClientConnection, connect

from providers.emulators.heard import HeardInput, HeardPiece
from tests.fakes.plain_vendor import ready, served


def test_pieces_are_joined_by_their_arrival_and_keep_each_connections_order() -> None:
    first = [HeardPiece(1, at, pcm) for at, pcm in ((1.0, b"aa"), (3.0, b"cc"), (3.0, b"dd"))]
    second = [HeardPiece(2, at, pcm) for at, pcm in ((2.0, b"bb"), (4.0, b"ee"))]
    heard = HeardInput(1000, first + second)
    assert heard.pcm == b"aabbccddee" and heard.total_ms == 5
    assert [heard.piece_at(ms).connection for ms in range(5)] == [1, 2, 1, 1, 2]
    assert heard.piece_at(1.0).at == 2.0
    with pytest.raises(IndexError):
        heard.piece_at(5.0)


def test_a_position_came_as_if_its_piece_had_come_sample_by_sample() -> None:
    heard = HeardInput(1000, [HeardPiece(1, 1.0, b"aabb"), HeardPiece(1, 1.5, b"ccdd")])
    assert [heard.came_at(ms) for ms in (0.0, 1.0, 2.0, 3.0)] == pytest.approx([0.998, 0.999, 1.498, 1.499])
    with pytest.raises(IndexError):
        heard.came_at(4.0)


def test_who_heard_nothing_joins_to_nothing() -> None:
    assert HeardInput(16_000, []).pcm == b"" and HeardInput(16_000, []).total_ms == 0


async def test_what_two_connections_heard_is_one_input_with_arrival_times() -> None:
    async def say(client: ClientConnection, *letters: bytes) -> None:
        for letter in letters:
            await client.send(letter * 640)
            await client.ping()
            await asyncio.sleep(0.02)

    # The limit makes each connection forget its beginning: what is left must still be told apart by piece.
    async with served("session = { heard_limit_s = 1 }") as server:
        async with connect(server.url) as one, connect(server.url) as two, connect(server.url):
            await ready(one, 1)
            await ready(two, 2)
            await say(one, *[b"0"] * 60, b"a", b"b")
            await say(two, b"c")
            await say(one, b"d")
        heard = server.heard()
        assert heard.rate_hz == 16_000
        assert heard.pcm.endswith(b"a" * 640 + b"b" * 640 + b"c" * 640 + b"d" * 640)
        assert [piece.connection for piece in heard.pieces][-4:] == [1, 1, 2, 1]
        assert all(piece.pcm for piece in heard.pieces)
        times = [piece.at for piece in heard.pieces]
        assert times == sorted(times)
        assert server.heard(server.connections[1:]).pcm == b"c" * 640
