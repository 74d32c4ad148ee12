"""A bad network between two WebRTC peers of this machine: their candidates are replaced by sockets of a relay.

The offer is rewritten before the answerer reads it, the answer before the offerer does. All UDP between them then runs
through the relay's sockets, each way through an `Impairment` of its own.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import TracebackType

from tests.fakes.impaired_way import ImpairedLine, ImpairedWay
from tests.fakes.netem import Impairment

__all__ = ["UdpRelay"]

Address = tuple[str, int]
_MAX_PORTS = 64
_HOST = "127.0.0.1"


class _Port:
    """A socket that stands for one address of a peer, towards the other peer."""

    def __init__(self, stands_for: Address) -> None:
        self.stands_for = stands_for
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((_HOST, 0))
        self.address: Address = self.socket.getsockname()


class _Side:
    """The ports that stand for one peer."""

    def __init__(self, way: ImpairedWay) -> None:
        self.ports: dict[Address, _Port] = {}
        """By the peer's own address."""
        self.way = way
        """For packets to this peer."""
        self.exits: dict[tuple[Address, Address], int] = {}


class UdpRelay(ImpairedLine):
    """Use as an async context manager, on the loop of the calls. Has at most 64 ports: beyond, packets are dropped.

    `up` is the way from the offerer to the answerer, `down` the way back. Only host candidates of IPv4 are carried;
    all others are taken out of the descriptions, so that nothing finds a way around the relay.
    """

    def __init__(self, up: Impairment, down: Impairment) -> None:
        super().__init__(up, down)
        self.strangers = 0
        """Packets of senders that no description has named, before both were rewritten or when all ports are taken."""
        self._offerer: _Side | None = None
        self._answerer: _Side | None = None

    async def __aenter__(self) -> UdpRelay:
        up, down = ImpairedWay(self.up), ImpairedWay(self.down)
        self._ways = [up, down]
        self._offerer, self._answerer = _Side(down), _Side(up)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for way in self._ways:
            way.stop()
        for side in (self._offerer, self._answerer):
            assert side is not None, "entered before"
            for port in side.ports.values():
                loop.remove_reader(port.socket)
                port.socket.close()
            side.ports.clear()

    def offer(self, sdp: str) -> str:
        """The offer for the answerer."""
        assert self._offerer is not None and self._answerer is not None, "entered before"
        return self._rewritten(sdp, self._offerer, self._answerer)

    def answer(self, sdp: str) -> str:
        """The answer for the offerer."""
        assert self._offerer is not None and self._answerer is not None, "entered before"
        return self._rewritten(sdp, self._answerer, self._offerer)

    def _rewritten(self, sdp: str, of: _Side, towards: _Side) -> str:
        lines = []
        for line in sdp.replace("\r\n", "\n").split("\n"):
            if not line.startswith("a=candidate:"):
                lines.append(line)
                continue
            fields = line.split(" ")
            address, port, kind = fields[4], int(fields[5]), fields[7]
            if fields[2].lower() != "udp" or kind != "host" or ":" in address:
                continue
            stand_in = self._port(of, towards, (address, port))
            if stand_in is not None:
                fields[4], fields[5] = stand_in.address[0], str(stand_in.address[1])
                lines.append(" ".join(fields))
        return "\r\n".join(lines)

    def _port(self, of: _Side, towards: _Side, stands_for: Address) -> _Port | None:
        """The port that stands for this address of a peer; the other peer's packets to it come out at the peer."""
        port = of.ports.get(stands_for)
        if port is None:
            if len(of.ports) + len(towards.ports) >= _MAX_PORTS:
                return None
            port = of.ports[stands_for] = _Port(stands_for)
            asyncio.get_running_loop().add_reader(port.socket, self._readable, port, of, towards)
        return port

    def _readable(self, port: _Port, of: _Side, towards: _Side) -> None:
        while True:
            try:
                packet, source = port.socket.recvfrom(65536)
            except BlockingIOError:
                return
            except ConnectionError:  # an earlier packet found nobody: the peer is gone
                continue
            answering = towards.ports.get(source)
            if answering is None:
                # A peer that is on no address of its candidates is known once the other side is: it answers there.
                answering = self._port(towards, of, source) if towards.ports else None
            if answering is None:
                self.strangers += 1
                continue
            ends = (answering.address, port.stands_for)
            number = of.exits.get(ends)
            if number is None:
                number = of.exits[ends] = of.way.exit_to(_exit(answering.socket, port.stands_for))
            of.way.take(packet, number)


def _exit(sender: socket.socket, to: Address) -> Callable[[bytes], None]:
    def send(packet: bytes) -> None:
        try:
            sender.sendto(packet, to)
        except (BlockingIOError, ConnectionError):
            pass  # a full buffer or a peer that is gone: packets are lost, as on any network

    return send
