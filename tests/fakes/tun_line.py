"""A bad network between two network namespaces: two TUN devices, and whatever lies between them is ours.

For programs whose sockets nobody can rewrite, such as a LiveKit client. It needs root, /dev/net/tun and iproute2.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import msgspec

from tests.fakes.impaired_way import ImpairedLine, ImpairedWay
from tests.fakes.netem import Impairment

__all__ = ["End", "TunLine", "why_no_tun"]

_TUN = Path("/dev/net/tun")
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_UDP = 17
_PREFIX = "rbnet"
_numbers = itertools.count(1)


def why_no_tun() -> str:
    """What this machine lacks for a line; empty: nothing."""
    if shutil.which("ip") is None:
        return "a line with TUN devices needs `ip` (iproute2)"
    if os.geteuid() != 0:
        return "a line with TUN devices needs root"
    try:
        os.close(os.open(_TUN, os.O_RDWR))
    except OSError as error:
        return f"a line with TUN devices needs {_TUN}: {error.strerror}"
    return ""


class End(msgspec.Struct, frozen=True):
    """One end of the line."""

    address: str
    namespace: str
    device: str

    @property
    def through(self) -> tuple[str, ...]:
        """What runs the command behind it at this end."""
        return "ip", "netns", "exec", self.namespace


class TunLine(ImpairedLine):
    """Use as an async context manager. In each namespace there is nothing but its loopback and its end of the line.

    The ends are called far and near; `up` is the way from far to near. Only UDP is impaired: what signals over TCP is
    not what is tested. No end is in the namespace of this process, whose other programs would find its address there,
    use it, and lose it when the line is gone.
    """

    def __init__(self, up: Impairment, down: Impairment) -> None:
        super().__init__(up, down)
        number = next(_numbers)
        own = os.getpid() * 4 + number
        # The range for tests of networks, RFC 2544: nobody's own.
        third, fourth = own // 64 % 256, own % 64 * 4
        name = f"{_PREFIX}-{os.getpid()}-{number}"
        self.far = End(f"198.18.{third}.{fourth + 2}", f"{name}-far", f"rb{own % 100_000}f")
        self.near = End(f"198.18.{third}.{fourth + 1}", f"{name}-near", f"rb{own % 100_000}n")
        self._ends: list[int] = []

    async def __aenter__(self) -> TunLine:
        await asyncio.to_thread(self._set_up)
        loop = asyncio.get_running_loop()
        far, near = self._ends
        for source, target, impairment in ((far, near, self.up), (near, far, self.down)):
            way, send = ImpairedWay(impairment), _exit(target)
            self._ways.append(way)
            loop.add_reader(source, self._readable, source, send, way, way.exit_to(send))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for end in self._ends:
            loop.remove_reader(end)
        for way in self._ways:
            way.stop()
        await asyncio.to_thread(self._take_down)

    def _set_up(self) -> None:
        _remove_left_over()
        try:
            for end, other in ((self.far, self.near), (self.near, self.far)):
                self._ends.append(_tun(end.device))
                _ip("netns", "add", end.namespace)
                _ip("link", "set", end.device, "netns", end.namespace)
                there = ("-n", end.namespace)
                _ip(*there, "link", "set", "lo", "up")
                _ip(*there, "addr", "add", end.address, "peer", other.address, "dev", end.device)
                _ip(*there, "link", "set", end.device, "up")
                _ip(*there, "route", "add", "default", "via", other.address)
        except BaseException:
            self._take_down()
            raise

    def _take_down(self) -> None:
        for device in self._ends:  # it lives as long as its file is open
            os.close(device)
        self._ends = []
        for end in (self.far, self.near):
            if Path("/run/netns", end.namespace).exists():
                _ip("netns", "del", end.namespace)

    def _readable(self, source: int, send: Callable[[bytes], None], way: ImpairedWay, exit_number: int) -> None:
        while True:
            try:
                packet = os.read(source, 65536)
            except BlockingIOError:
                return
            if packet[0] >> 4 != 4:  # what a device of its own accord says over IPv6
                continue
            if packet[9] == _UDP:
                way.take(packet, exit_number, (packet[0] & 0xF) * 4 + 8)
            else:
                send(packet)


def _exit(target: int) -> Callable[[bytes], None]:
    def send(packet: bytes) -> None:
        try:
            os.write(target, packet)
        except OSError:
            pass  # its device is down or full: packets are lost, as on any network

    return send


def _tun(name: str) -> int:
    end = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
    except BaseException:
        os.close(end)
        raise
    return end


def _ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True, capture_output=True, timeout=10)


def _remove_left_over() -> None:
    """Namespaces of lines whose process was killed."""
    for path in Path("/run/netns").glob(f"{_PREFIX}-*-*-*"):
        process = path.name.split("-")[1]
        if process.isdigit() and not Path("/proc", process).exists():
            _ip("netns", "del", path.name)
