"""A line between two namespaces carries everything, and loses only UDP."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from tests.fakes.netem import Conditions, Impairment
from tests.fakes.tun_line import TunLine, why_no_tun

pytestmark = pytest.mark.skipif(bool(why_no_tun()), reason=why_no_tun())

_FAR = """
import socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((sys.argv[1], 7000))
with socket.create_server((sys.argv[1], 7000)) as tcp:
    line, _ = tcp.accept()
    with line:
        line.sendall(b"come" * 5000)
        while True:
            packet, sender = udp.recvfrom(2048)
            udp.sendto(packet, sender)
"""
_NEAR = """
import socket, sys, time
until = time.monotonic() + 10
while True:
    try:
        line = socket.create_connection((sys.argv[1], 7000), timeout=5)
        break
    except ConnectionRefusedError:  # it has not begun to listen
        assert time.monotonic() < until
        time.sleep(0.05)
told = b""
while len(told) < 20000:
    told += line.recv(65536)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(0.5)
for number in range(100):
    udp.sendto(bytes([number]), (sys.argv[1], 7000))
heard = 0
try:
    while udp.recv(2048):
        heard += 1
except TimeoutError:
    print(heard)
"""


async def test_tcp_passes_whole_and_udp_as_the_weather_is() -> None:
    bad = Conditions(loss=0.5)
    up, down = Impairment(1, bad), Impairment(2, bad)
    async with TunLine(up, down) as line:
        far = await asyncio.create_subprocess_exec(
            *line.far.through, sys.executable, "-c", _FAR, line.far.address, stderr=subprocess.DEVNULL
        )
        try:
            near = await asyncio.create_subprocess_exec(
                *line.near.through, sys.executable, "-c", _NEAR, line.far.address, stdout=subprocess.PIPE
            )
            heard, _ = await near.communicate()
        finally:
            far.kill()
            await far.wait()
    assert down.stats.taken == 100
    assert up.stats.taken == down.stats.passed == 100 - down.stats.lost
    assert int(heard) == up.stats.passed == up.stats.taken - up.stats.lost
    assert down.stats.lost > 30 and up.stats.lost > 10


def test_nothing_of_it_is_here_and_nothing_is_left() -> None:
    async def there() -> TunLine:
        async with TunLine(Impairment(1), Impairment(2)) as line:
            assert line.far.namespace in _ip("netns", "list") and line.near.namespace in _ip("netns", "list")
            assert line.near.device not in _ip("link")
            return line

    line = asyncio.run(there())
    assert line.far.namespace not in _ip("netns", "list") and line.near.namespace not in _ip("netns", "list")


def _ip(*words: str) -> str:
    return subprocess.run(("ip", *words), capture_output=True, text=True, check=True).stdout
