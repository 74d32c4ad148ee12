"""What two peers send each other runs through the relay, and nothing finds a way around it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from bench.workers.serve import until
from tests.fakes.netem import Conditions, Impairment
from tests.fakes.udp_relay import UdpRelay


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
    ):
        for end in (one, two):
            end.bind(("127.0.0.1", 0))
            end.setblocking(False)
        yield one, two


def description(end: socket.socket, *more: str) -> str:
    host, port = end.getsockname()
    return "\r\n".join(
        ("v=0", "m=audio 9 UDP/TLS/RTP/SAVPF 96", f"a=candidate:1 1 udp 2130706431 {host} {port} typ host", *more, "")
    )


def candidate(sdp: str) -> tuple[str, int]:
    (line,) = (line for line in sdp.split("\r\n") if line.startswith("a=candidate"))
    fields = line.split(" ")
    return fields[4], int(fields[5])


async def received(end: socket.socket) -> tuple[bytes, tuple[str, int]]:
    async with asyncio.timeout(2):
        return await asyncio.get_running_loop().sock_recvfrom(end, 2048)


async def test_packets_pass_both_ways_and_come_from_the_place_that_was_offered(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    offerer, answerer = ends
    async with UdpRelay(Impairment(1), Impairment(2)) as relay:
        offered = candidate(relay.offer(description(offerer)))
        answered = candidate(relay.answer(description(answerer)))
        assert offered not in (offerer.getsockname(), answered)
        offerer.sendto(b"up", answered)
        assert await received(answerer) == (b"up", offered)
        answerer.sendto(b"down", offered)
        assert await received(offerer) == (b"down", answered)
    assert (relay.up.stats.passed, relay.down.stats.passed, relay.strangers) == (1, 1, 0)


async def test_nothing_but_host_candidates_of_ipv4_is_left(ends: tuple[socket.socket, socket.socket]) -> None:
    others = (
        "a=candidate:2 1 udp 2130706431 fd00::2 5000 typ host",
        "a=candidate:3 1 tcp 2130706431 127.0.0.1 9 typ host tcptype active",
        "a=candidate:4 1 udp 1694498815 203.0.113.1 5000 typ srflx raddr 127.0.0.1 rport 5000",
        "a=end-of-candidates",
    )
    async with UdpRelay(Impairment(1), Impairment(2)) as relay:
        rewritten = relay.offer(description(ends[0], *others))
        assert rewritten.count("a=candidate") == 1
        assert rewritten.endswith("a=end-of-candidates\r\n")


async def test_the_same_candidate_in_two_sections_is_one_port(ends: tuple[socket.socket, socket.socket]) -> None:
    offer = description(ends[0])
    async with UdpRelay(Impairment(1), Impairment(2)) as relay:
        lines = [line for line in relay.offer(offer + offer).split("\r\n") if line.startswith("a=candidate")]
        assert len(lines) == 2 and lines[0] == lines[1]


async def test_each_way_has_its_own_weather(ends: tuple[socket.socket, socket.socket]) -> None:
    offerer, answerer = ends
    loop = asyncio.get_running_loop()
    async with UdpRelay(Impairment(1, Conditions(delay_ms=60)), Impairment(2, Conditions(loss=1.0))) as relay:
        relay.offer(description(offerer))
        answered = candidate(relay.answer(description(answerer)))
        began = loop.time()
        offerer.sendto(b"late", answered)
        packet, came_from = await received(answerer)
        assert packet == b"late" and loop.time() - began >= 0.06
        answerer.sendto(b"lost", came_from)
        relay.up.cut(loop.time(), 5.0)
        offerer.sendto(b"cut", answered)
        await until(lambda: (relay.down.stats.lost, relay.up.stats.cut) == (1, 1), 2.0)
        assert (relay.down.deadline(), relay.up.deadline()) == (None, None)


async def test_a_peer_on_another_address_than_it_said_is_found_and_one_before_its_answer_is_not(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    offerer, answerer = ends
    async with UdpRelay(Impairment(1), Impairment(2)) as relay:
        offered = candidate(relay.offer(description(offerer)))
        answerer.sendto(b"early", offered)
        await until(lambda: relay.strangers == 1, 2.0)
        relay.answer(description(answerer))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
            elsewhere.bind(("127.0.0.1", 0))
            elsewhere.setblocking(False)
            elsewhere.sendto(b"hello", offered)
            packet, came_from = await received(offerer)
            assert packet == b"hello"
            offerer.sendto(b"found", came_from)
            assert (await received(elsewhere))[0] == b"found"
