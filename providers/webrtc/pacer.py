"""When the next packets are due: one each 20 ms of the monotonic clock. No I/O, no clock of its own."""

from __future__ import annotations

__all__ = ["MAX_CATCH_UP", "PACKET_S", "TICKS_PER_PACKET", "Pacer"]

PACKET_S = 0.020
TICKS_PER_PACKET = 960
"""Of the 48 kHz clock that RTP counts Opus in, whatever rate was encoded (RFC 7587 section 4.1)."""
MAX_CATCH_UP = 5
"""Packets sent at once after a late wake-up. A longer stall is left out: the other side would only hear it late."""


class Pacer:
    """The schedule of one stream. Slot `n` is due 20 * n ms after the start and carries the timestamp of that moment,
    so the RTP clock keeps to the monotonic clock within one packet, for ever and through every stall."""

    def __init__(self, now: float, timestamp: int) -> None:
        """Args: `now` in seconds; `timestamp` of the first packet."""
        self._started_at = now
        self._origin = timestamp
        self._slot = 0
        self.restarts = 0
        """Stalls longer than `MAX_CATCH_UP` packets, after which the schedule went on at the present."""
        self.skipped = 0
        """Packets that were never sent because of them."""
        self.resumed = True
        """The next packet follows a pause: RTP marks it as the start of a talk spurt."""

    def due(self, now: float) -> int:
        """How many packets are owed, 0 to `MAX_CATCH_UP`. Ask `next_timestamp` once for each."""
        owed = int((now - self._started_at) / PACKET_S + 1e-6) + 1 - self._slot
        if owed > MAX_CATCH_UP:
            self._slot += owed - 1
            self.skipped += owed - 1
            self.restarts += 1
            self.resumed = True
            return 1
        return max(owed, 0)

    def next_timestamp(self) -> int:
        """The RTP timestamp of the packet that is sent now; the schedule moves on."""
        timestamp = (self._origin + self._slot * TICKS_PER_PACKET) & 0xFFFFFFFF
        self._slot += 1
        self.resumed = False
        return timestamp

    def timestamp_at(self, now: float) -> int:
        """The RTP clock at that moment, for reports."""
        return (self._origin + int((now - self._started_at) / PACKET_S * TICKS_PER_PACKET)) & 0xFFFFFFFF

    def next_at(self) -> float:
        """When the next packet is due, in the clock of `now`."""
        return self._started_at + self._slot * PACKET_S
