"""A bad network to a network namespace: two TUN devices, and whatever lies between them is ours.

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
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from tests.fakes.impaired_way import ImpairedWay
from tests.fakes.netem import Impairment

__all__ = ["TunLine", "why_no_tun"]

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


class TunLine:
    """Use as an async context manager. Inside its namespace there is nothing but the line to the outside.

    `up` is the way from inside to outside. Only UDP is impaired: what signals over TCP is not what is tested.
    """

    def __init__(self, up: Impairment, down: Impairment) -> None:
        self.up = up
        self.down = down
        number = next(_numbers)
        own = os.getpid() * 4 + number
        # The range for tests of networks, RFC 2544: nobody's own.
        third, fourth = own // 64 % 256, own % 64 * 4
        self.outside = f"198.18.{third}.{fourth + 1}"
        """Our address, and of all others who are not in the namespace."""
        self.inside = f"198.18.{third}.{fourth + 2}"
        self.namespace = f"{_PREFIX}-{os.getpid()}-{number}"
        self._devices = f"rb{own % 100_000}o", f"rb{own % 100_000}i"
        self._ends: list[int] = []
        self._ways: list[ImpairedWay] = []

    async def __aenter__(self) -> TunLine:
        await asyncio.to_thread(self._set_up)
        loop = asyncio.get_running_loop()
        outside, inside = self._ends
        for source, target, impairment in ((inside, outside, self.up), (outside, inside, self.down)):
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

    def cut(self, seconds: float) -> None:
        """No UDP passes for so long, either way, from now on."""
        now = asyncio.get_running_loop().time()
        self.up.cut(now, seconds)
        self.down.cut(now, seconds)

    def inside_command(self, *command: str) -> Sequence[str]:
        """The same command, run inside."""
        return "ip", "netns", "exec", self.namespace, *command

    def _set_up(self) -> None:
        _remove_left_over()
        try:
            self._ends = [_tun(name) for name in self._devices]
            outer, inner = self._devices
            _ip("netns", "add", self.namespace)
            _ip("link", "set", inner, "netns", self.namespace)
            inside = ("-n", self.namespace)
            _ip(*inside, "link", "set", "lo", "up")
            for where, device, own, other in (
                ((), outer, self.outside, self.inside),
                (inside, inner, self.inside, self.outside),
            ):
                _ip(*where, "addr", "add", own, "peer", other, "dev", device)
                _ip(*where, "link", "set", device, "up")
            _ip(*inside, "route", "add", "default", "via", self.outside)
        except BaseException:
            self._take_down()
            raise

    def _take_down(self) -> None:
        for end in self._ends:  # a TUN device lives as long as its file is open
            os.close(end)
        self._ends = []
        if Path("/run/netns", self.namespace).exists():
            _ip("netns", "del", self.namespace)

    def _readable(self, source: int, send: Callable[[bytes], None], way: ImpairedWay, exit_number: int) -> None:
        while True:
            try:
                packet = os.read(source, 65536)
            except BlockingIOError:
                return
            if packet[0] >> 4 != 4:  # what a device of its own accord says over IPv6
                continue
            if packet[9] == _UDP:
                way.take(packet, exit_number)
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
    for path in Path("/run/netns").glob(f"{_PREFIX}-*-*"):
        process = path.name.split("-")[1]
        if process.isdigit() and not Path("/proc", process).exists():
            _ip("netns", "del", path.name)
