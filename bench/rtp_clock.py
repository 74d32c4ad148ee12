"""Does a sender's RTP clock keep to the monotonic clock, and do its packets come without holes?"""

from __future__ import annotations

import time
from array import array
from typing import Any

import msgspec
import numpy as np

from providers.webrtc.peer import Peer

__all__ = ["ClockReport", "RtpClock", "WatchedPeer"]

_CLOCK_HZ = 48_000
_WINDOW_S = 10.0


class ClockReport(msgspec.Struct, frozen=True):
    drift_ms: float
    """How much later packets came at the end than at the beginning, against their RTP time; medians over 10 s."""
    widest_ms: float
    """The same of the 10 s that are farthest from the first."""
    packets: int
    missing: int
    longest_gap_ms: float
    """Between two packets."""


class RtpClock:
    """Of one stream. Notes each packet for as long as it is looked at: 16 bytes each."""

    def __init__(self) -> None:
        self._times = array("d")
        self._stamps = array("L")
        self._numbers = array("L")

    def saw(self, packet: bytes, now: float) -> None:
        """A decrypted RTP packet came."""
        self._times.append(now)
        self._numbers.append(int.from_bytes(packet[2:4], "big"))
        self._stamps.append(int.from_bytes(packet[4:8], "big"))

    def report(self, from_at: float, until_at: float) -> ClockReport:
        """Between two moments. Zeros for a stream of less than two windows."""
        times = np.array(self._times)
        inside = (times >= from_at) & (times < until_at)
        times = times[inside]
        if not len(times) or times[-1] - times[0] < 2 * _WINDOW_S:
            return ClockReport(0.0, 0.0, len(times), 0, 0.0)
        stamps = np.unwrap(np.array(self._stamps, dtype=np.float64)[inside], period=2.0**32) / _CLOCK_HZ
        numbers = np.unwrap(np.array(self._numbers, dtype=np.float64)[inside], period=2.0**16)
        lag_ms = (times - stamps - (times[0] - stamps[0])) * 1000
        windows = ((times - times[0]) // _WINDOW_S).astype(int)
        # The last window may be a short one.
        medians = [float(np.median(lag_ms[windows == number])) for number in range(max(1, int(windows[-1])))]
        return ClockReport(
            drift_ms=medians[-1] - medians[0],
            widest_ms=max((median - medians[0] for median in medians), key=abs),
            packets=len(times),
            missing=int(numbers.max() - numbers.min()) + 1 - len(np.unique(numbers)),
            longest_gap_ms=float(np.diff(times).max()) * 1000,
        )


class WatchedPeer(Peer):
    """A connection of ours that notes the clock of what it receives."""

    def __init__(self, *args: Any, **kinds: Any) -> None:
        super().__init__(*args, **kinds)
        self.clock = RtpClock()

    @property
    def closed(self) -> bool:
        return self._reason is not None

    def rtp_received(self, data: bytes) -> None:
        self.clock.saw(data, time.monotonic())  # finer than the loop's own
        super().rtp_received(data)
