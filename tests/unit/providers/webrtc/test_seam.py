"""What a hostile or a dying other side can do to a connection, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from providers.webrtc import sdp
from providers.webrtc.peer import Peer
from tests.fakes.leftovers import nothing_left
from tests.fakes.webrtc import LOOPBACK, PlainClient, Remembering, on_loopback, tone, two_peers, until


def sctp_of(client: PlainClient) -> Any:
    return client.connection.sctp


QUICK = msgspec.structs.replace(LOOPBACK, disconnected_timeout_s=1.0, connect_timeout_s=2.0, max_message_bytes=20_000)


@pytest.fixture(autouse=True)
def loopback() -> Iterator[None]:
    with on_loopback():
        yield


@asynccontextmanager
async def a_call() -> AsyncIterator[tuple[Peer, Remembering, PlainClient]]:
    """One of ours that answered plain aiortc; nothing of it may be left afterwards."""
    async with nothing_left(3.0):
        user, client = Remembering(), PlainClient()
        peer = Peer(user, QUICK, name="ours")
        await client.accept(await peer.answer(await client.offer("words")))
        await asyncio.wait_for(peer.connected(), 10)
        yield peer, user, client
        await peer.close()
        await client.close()


async def test_a_message_longer_than_allowed_is_dropped_and_counted() -> None:
    async with a_call() as (peer, user, client):
        sctp_of(client)._remote_max_message_size = 0  # so that it sends what our description forbids
        client.channel.send("x" * 30_000)
        client.channel.send("short")
        await until(lambda: user.messages)
        assert user.messages == ["short"] and peer.stats.refused_messages == 1 and not user.reasons


async def test_a_message_without_an_end_ends_the_connection_not_the_process() -> None:
    async with a_call() as (_, user, client):
        sctp_of(client)._remote_max_message_size = 0
        client.channel.send(bytes(400_000))
        await until(lambda: user.reasons, 10)
        assert "room" in user.reasons[0]


@pytest.mark.parametrize(
    ("kind", "payload"),
    [(51, b"\xff\xfe\xff"), (50, b"\x03" + bytes(11) + b"\xff"), (50, b"\x03" + bytes(7) + b"\xff\xff\x00\x00")],
    ids=["no utf-8", "open again", "cut"],
)  # fmt: skip
async def test_broken_messages_end_the_connection_cleanly(kind: int, payload: bytes) -> None:
    async with a_call() as (_, user, client):
        await sctp_of(client)._send(client.channel.id, kind, payload)
        await until(lambda: user.reasons)
        assert user.reasons[0].startswith("channel: broken SCTP")


async def test_more_channels_than_anybody_needs_end_the_connection() -> None:
    async with a_call() as (_, user, client):
        for number in range(80):
            client.connection.createDataChannel(f"number {number}")
        await until(lambda: user.reasons, 10)
        assert "room" in user.reasons[0] or "closed" in user.reasons[0]


async def test_a_second_channel_is_turned_down_and_the_first_goes_on() -> None:
    async with a_call() as (_, user, client):
        second = client.connection.createDataChannel("second")
        await until(lambda: second.readyState == "closed")
        client.channel.send("still here")
        await until(lambda: user.messages)
        assert not user.reasons


async def test_datagrams_of_strangers_change_nothing() -> None:
    async with a_call() as (peer, user, _):
        chance = random.Random(5)
        wire: Any = peer._wire
        port = wire._ice.local_candidates[0].port
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for first in range(0, 256, 3):
                stranger.sendto(bytes([first]) + chance.randbytes(chance.randrange(200)), ("127.0.0.1", port))
            for datagram in (b"", b"\x16", b"\x80", bytes(20), b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28"):
                stranger.sendto(datagram, ("127.0.0.1", port))
            before = len(user.audio)
            await until(lambda: len(user.audio) > before + 20_000)
        assert not user.reasons and peer.stats.dropped_datagrams > 50


async def test_forged_media_of_the_other_side_itself_is_counted_and_dropped() -> None:
    async with a_call() as (peer, user, client):
        ice = sctp_of(client).transport.transport._connection
        for number in range(50):
            await ice.send(bytes([0x80, peer._speech.payload_type]) + os.urandom(number))
            await ice.send(bytes([0x80, 200]) + os.urandom(number))
        before = len(user.audio)
        await until(lambda: len(user.audio) > before + 10_000)
        assert peer.stats.bad_packets >= 20 and not user.reasons


async def test_when_the_other_side_vanishes_it_is_told_in_time() -> None:
    async with a_call() as (_, user, client):
        clock = asyncio.get_running_loop().time
        for protocol in sctp_of(client).transport.transport._connection._protocols:
            protocol.transport.abort()  # the machine is gone, no goodbye
        began = clock()
        await until(lambda: user.reasons)
        assert user.reasons == ["ice: nothing received for 1 s"] and clock() - began < 2.2


async def test_a_side_that_sends_no_media_is_kept_alive_by_questions() -> None:
    async with nothing_left(3.0):
        a, here, b, there = await two_peers(QUICK)
        b.pause_audio(True)
        b._report_at = b._loop.time() + 100
        await asyncio.sleep(2.5)  # ten times what would end it if nobody asked
        assert not here.reasons and not there.reasons
        await a.close()
        await b.close()


async def test_nobody_answers_and_the_connection_gives_up() -> None:
    async with nothing_left(3.0):
        user = Remembering()
        peer = Peer(user, QUICK, name="ours")
        offer = await peer.offer("words")
        nowhere = re.sub(r"(a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1) \d+", r"\1 9", offer)
        await peer.accept(nowhere.replace("actpass", "active"))
        with pytest.raises(ConnectionError, match="within 2 s"):
            await asyncio.wait_for(peer.connected(), 5)
        assert len(user.reasons) == 1
        await peer.close()
        assert len(user.reasons) == 1


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 20])
async def test_closing_in_the_middle_leaves_nothing(turns: int) -> None:
    async with nothing_left(3.0):
        user, client = Remembering(), PlainClient()
        peer = Peer(user, LOOPBACK, name="ours")
        await client.accept(await peer.answer(await client.offer("words")))
        for _ in range(turns):
            await asyncio.sleep(0.004)
        clock = asyncio.get_running_loop().time
        began = clock()
        await peer.close()
        assert clock() - began < 2.5 and user.reasons == ["closed"]
        with pytest.raises(ConnectionError, match="closed"):
            await peer.connected()
        await client.close()


async def test_cancelling_while_addresses_are_looked_for_leaves_nothing() -> None:
    from providers.webrtc.ice import ResolvedIceServer

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        servers = (
            ResolvedIceServer(urls=(f"stun:127.0.0.1:{port}",)),
            ResolvedIceServer(urls=(f"turn:127.0.0.1:{port}",), username="ada", credential="secret"),
        )
        async with nothing_left(3.0):
            peer = Peer(Remembering(), LOOPBACK, servers, name="ours")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(peer.offer("words"), 0.2)
            await peer.close()


async def test_a_deaf_stun_server_costs_three_seconds_and_no_call() -> None:
    from providers.webrtc.ice import ResolvedIceServer

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        servers = (ResolvedIceServer(urls=(f"stun:127.0.0.1:{deaf.getsockname()[1]}",)),)
        peer = Peer(Remembering(), LOOPBACK, servers, name="ours")
        offer = await asyncio.wait_for(peer.offer("words"), 4.5)
        assert len(sdp.parse(offer, is_answer=False).candidates) == 1
        await peer.close()


def runs_under(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        a, here, b, there = await two_peers()
        a.send_audio(tone(440, 300))
        b.send_message("hello")
        await until(lambda: len(there.audio) > 20_000 and here.messages)
        await a.close()
        await b.close()
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_the_other_event_loop_carries_calls_too() -> None:
    import uvloop

    before = threading.active_count()
    runs_under(uvloop.run)
    assert threading.active_count() == before
