"""A line into a namespace carries everything, and loses only UDP."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from bench.workers.serve import until
from tests.fakes.netem import Conditions, Impairment
from tests.fakes.tun_line import TunLine, why_no_tun

pytestmark = pytest.mark.skipif(bool(why_no_tun()), reason=why_no_tun())

_ECHO = """
import socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((sys.argv[1], 7000))
with socket.create_server((sys.argv[1], 7000)) as tcp:
    line, _ = tcp.accept()
    with line:
        line.sendall(b"come")
        while True:
            packet, sender = udp.recvfrom(2048)
            udp.sendto(packet, sender)
"""


async def test_tcp_passes_whole_and_udp_as_the_weather_is() -> None:
    up, down = Impairment(1), Impairment(2)
    async with TunLine(up, down) as line:
        inside = await asyncio.create_subprocess_exec(
            *line.inside_command(sys.executable, "-c", _ECHO, line.inside), stderr=subprocess.DEVNULL
        )
        try:
            reader, writer = await _connected(line.inside)
            down.conditions = up.conditions = Conditions(loss=0.5)
            assert await reader.read(4) == b"come"
            heard: list[bytes] = []
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Keeps(heard), local_addr=(line.outside, 0)
            )
            for number in range(100):
                transport.sendto(number.to_bytes(2, "big"), (line.inside, 7000))
            await until(
                lambda: (
                    down.stats.taken == 100 and up.stats.taken == down.stats.passed and len(heard) == up.stats.passed
                ),
                5.0,
            )
            assert down.stats.lost > 30 and up.stats.lost > 10
            transport.close()
            writer.close()
        finally:
            inside.kill()
            await inside.wait()


def test_nothing_of_it_is_left() -> None:
    async def there() -> tuple[str, str]:
        async with TunLine(Impairment(1), Impairment(2)) as line:
            assert line.namespace in _ip("netns", "list")
            return line.namespace, line.outside

    namespace, outside = asyncio.run(there())
    assert namespace not in _ip("netns", "list")
    assert outside not in _ip("-o", "addr")


def _ip(*words: str) -> str:
    return subprocess.run(("ip", *words), capture_output=True, text=True, check=True).stdout


async def _connected(host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(10):
        while True:
            try:
                return await asyncio.open_connection(host, 7000)
            except ConnectionRefusedError:  # it has not begun to listen
                await asyncio.sleep(0.05)


class _Keeps(asyncio.DatagramProtocol):
    def __init__(self, heard: list[bytes]) -> None:
        self._heard = heard

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._heard.append(data)
