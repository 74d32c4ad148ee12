"""What a bad network does to packets, seeded and without a clock: which of them come out, and when.

The carriers are elsewhere: `udp_relay` between two WebRTC peers, `tun_line` between network namespaces.
"""

from __future__ import annotations

import heapq
import math
import random

import msgspec

__all__ = ["CLEAN", "Conditions", "Impairment", "ImpairmentStats"]


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """How bad it is, one way."""

    loss: float = 0.0
    """Share of packets that never arrive, each for itself, 0 to 1."""
    delay_ms: float = 0.0
    """What each packet takes at least."""
    jitter_ms: float = 0.0
    """What each packet takes more, drawn evenly from 0 to this, for itself. Longer than the time between two packets,
    it changes their order."""
    keeps_order: bool = False
    """No packet overtakes another, as in a queue: all wait for the slowest before them."""
    reordered: float = 0.0
    """Share of packets that are held back longer than the ones behind them, 0 to 1."""
    held_back_ms: float = 30.0
    """By how much."""
    duplicated: float = 0.0
    """Share of packets that come twice, 0 to 1; the second takes a way of its own."""


CLEAN = Conditions()


class ImpairmentStats(msgspec.Struct):
    """What became of the packets."""

    taken: int = 0
    lost: int = 0
    """By chance."""
    cut: int = 0
    """Taken while the line was cut."""
    duplicated: int = 0
    overtaken: int = 0
    """Came out after a packet that was taken later."""
    passed: int = 0
    """Came out, copies too."""
    overflowed: int = 0


class Impairment:
    """One way of a line. Holds at most `limit` packets on their way. Full: the newest is dropped, `overflowed` counts.

    The same seed loses the same packets, whatever else happens to them.
    """

    def __init__(self, seed: int, conditions: Conditions = CLEAN, *, limit: int = 4096) -> None:
        self.conditions = conditions
        """May be replaced at any time; packets on their way keep what they have drawn."""
        self.stats = ImpairmentStats()
        self._random = random.Random(seed)
        self._limit = limit
        self._under_way: list[tuple[float, int, bytes]] = []
        self._count = 0
        self._newest_out = 0
        self._cut_until = -math.inf
        self._last_due = -math.inf

    def cut(self, now: float, seconds: float) -> None:
        """Nothing that is taken in this time arrives. What is under way does."""
        self._cut_until = now + seconds

    def take(self, packet: bytes, now: float) -> None:
        """A packet is sent into the line."""
        # Always as many draws, so that no condition shifts the luck of another.
        lost, wait, held, twice, wait_again = (self._random.random() for _ in range(5))
        conditions, stats = self.conditions, self.stats
        stats.taken += 1
        if now < self._cut_until:
            stats.cut += 1
        elif lost < conditions.loss:
            stats.lost += 1
        else:
            base = now + conditions.delay_ms / 1000
            due = base + wait * conditions.jitter_ms / 1000
            if conditions.keeps_order:
                due = self._last_due = max(due, self._last_due)
            if held < conditions.reordered:
                due += conditions.held_back_ms / 1000
            self._send(packet, due)
            if twice < conditions.duplicated:
                stats.duplicated += 1
                self._send(packet, base + wait_again * conditions.jitter_ms / 1000)

    def _send(self, packet: bytes, due: float) -> None:
        if len(self._under_way) >= self._limit:
            self.stats.overflowed += 1
            return
        self._count += 1
        heapq.heappush(self._under_way, (due, self._count, packet))

    def arrived(self, now: float) -> list[bytes]:
        """What has come out since the last time, in the order of its arrival."""
        out: list[bytes] = []
        while self._under_way and self._under_way[0][0] <= now:
            _, number, packet = heapq.heappop(self._under_way)
            self.stats.overtaken += number < self._newest_out
            self._newest_out = max(number, self._newest_out)
            out.append(packet)
        self.stats.passed += len(out)
        return out

    def deadline(self) -> float | None:
        """When the next packet comes out. None: nothing is under way."""
        return self._under_way[0][0] if self._under_way else None
