"""The clocks of RTP streams that pass a point of the network: they can be read although the packets are encrypted."""

from __future__ import annotations

from array import array

import numpy as np

__all__ = ["RtpTap"]

_MOST_STREAMS, _MOST_PACKETS = 16, 100_000
_CLOCK_HZ = 48_000


class RtpTap:
    """Of the first 16 streams, the first 100,000 packets each: what comes beyond is not noted."""

    def __init__(self) -> None:
        self._streams: dict[bytes, tuple[array[float], array[int]]] = {}

    def saw(self, datagram: bytes, now: float) -> None:
        """Anything that passes: what is no RTP is left out (RFC 5761 section 4, RFC 7983)."""
        if len(datagram) < 12 or datagram[0] >> 6 != 2 or 64 <= datagram[1] & 0x7F < 96:
            return
        name = datagram[8:12]
        stream = self._streams.get(name)
        if stream is None:
            if len(self._streams) == _MOST_STREAMS:
                return
            stream = self._streams[name] = array("d"), array("Q")
        if len(stream[0]) < _MOST_PACKETS:
            stream[0].append(now)
            stream[1].append(int.from_bytes(datagram[4:8], "big"))

    def lag_ms(self, from_at: float, until_at: float) -> float:
        """How far the busiest stream was behind the clock meanwhile, against an origin of its own. nan: nothing passed.

        The median of `passed at` minus RTP time: a sender that stood still is behind from then on, a network is not.
        """
        if not self._streams:
            return float("nan")
        times, stamps = max(self._streams.values(), key=lambda stream: len(stream[0]))
        at = np.array(times)
        clock = np.unwrap(np.array(stamps, dtype=np.float64), period=2.0**32) / _CLOCK_HZ
        lag = at - clock - (at[0] - clock[0])
        inside = (at >= from_at) & (at < until_at)
        return float(np.median(lag[inside])) * 1000 if inside.any() else float("nan")
