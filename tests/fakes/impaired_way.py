"""Carries packets through an `Impairment` in real time: one way, and what the lines that have two share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.fakes.netem import Impairment
from tests.fakes.rtp_tap import RtpTap

__all__ = ["ImpairedLine", "ImpairedWay"]


class ImpairedWay:
    """One direction of a line, on the running loop's clock, for as many flows as have an exit."""

    def __init__(self, impairment: Impairment) -> None:
        self.impairment = impairment
        self.tap = RtpTap()
        """Sees each packet before the impairment does."""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._exits: list[Callable[[bytes], None]] = []

    def exit_to(self, send: Callable[[bytes], None]) -> int:
        """The number of a new exit; `send` gets what comes out there, when it does."""
        self._exits.append(send)
        return len(self._exits) - 1

    def take(self, packet: bytes, exit_number: int, datagram_at: int = 0) -> None:
        """Args: datagram_at is where in the packet the UDP payload begins."""
        now = self._loop.time()
        self.tap.saw(packet[datagram_at:], now)
        # The number travels with the packet: one impairment, and one luck, for all flows of a direction.
        self.impairment.take(exit_number.to_bytes(2, "big") + packet, now)
        self._run(now)

    def stop(self) -> None:
        """What is under way is lost."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._run(self._loop.time())

    def _run(self, now: float) -> None:
        for packet in self.impairment.arrived(now):
            self._exits[int.from_bytes(packet[:2], "big")](packet[2:])
        due = self.impairment.deadline()
        if self._timer is not None and (due is None or self._timer.when() > due):
            self.stop()
        if due is not None and self._timer is None:
            self._timer = self._loop.call_at(due, self._due)


class ImpairedLine:
    """Two ways, `up` and `down`; who carries them says what passes."""

    def __init__(self, up: Impairment, down: Impairment) -> None:
        self.up = up
        self.down = down
        self._ways: list[ImpairedWay] = []

    def cut(self, seconds: float) -> None:
        """Nothing of what is impaired passes for so long, either way, from now on."""
        now = asyncio.get_running_loop().time()
        self.up.cut(now, seconds)
        self.down.cut(now, seconds)

    @property
    def taps(self) -> tuple[RtpTap, RtpTap]:
        """Up and down."""
        up, down = self._ways
        return up.tap, down.tap
