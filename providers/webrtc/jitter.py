"""Packets in any order in, one 20 ms frame out each 20 ms. No I/O, no clock of its own."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from providers.signal.resample import Int16Array
from providers.webrtc.settings import JitterSettings

__all__ = ["JitterBuffer", "JitterSettings", "JitterStats"]

_MAX_PACKETS = 100
_REST_FRAMES = 5


class JitterStats(msgspec.Struct):
    """Counters of one stream since it began."""

    received: int = 0
    played: int = 0
    lost: int = 0
    late: int = 0
    duplicate: int = 0
    reordered: int = 0
    dropped: int = 0
    concealed_ms: int = 0
    accelerated_ms: int = 0
    expanded_ms: int = 0
    restarts: int = 0
    delay_ms_now: float = 0.0
    target_ms_now: float = 0.0


class JitterBuffer:
    """At most 100 packets wait. Full: the oldest go, counted."""

    def __init__(
        self, decode: Callable[[bytes], Int16Array], rate_hz: int, settings: JitterSettings | None = None
    ) -> None:
        self._decode = decode
        self._settings = settings or JitterSettings()
        self._frame = rate_hz // 50
        self._silence: Int16Array = np.zeros(self._frame, dtype=np.int16)
        self._packets: dict[int, bytes] = {}
        self._highest: int | None = None
        self._next = 0
        self._start_at = 0.0
        self._pcm: Int16Array = np.zeros(0, dtype=np.int16)
        self._missed = 0
        self.stats = JitterStats(target_ms_now=self._settings.start_delay_ms)

    def push(self, sequence: int, timestamp: int, payload: bytes, now: float) -> None:
        """A packet came. Args: `timestamp` of the 48 kHz clock; `now` in seconds."""
        stats = self.stats
        stats.received += 1
        if self._highest is None:
            self._highest = self._next = sequence
            self._start_at = now + self._settings.start_delay_ms / 1000
            self._missed = 0
        index = self._highest + (((sequence - self._highest) & 0xFFFF) ^ 0x8000) - 0x8000
        if index < self._next:
            stats.late += 1
        elif index in self._packets:
            stats.duplicate += 1
        else:
            if index < self._highest:
                stats.reordered += 1
            self._highest = max(self._highest, index)
            self._packets[index] = payload
            while len(self._packets) > _MAX_PACKETS:
                self._next = min(self._packets)
                del self._packets[self._next]
                self._next += 1
                stats.dropped += 1

    def pull(self, now: float) -> Int16Array | None:
        """The next 20 ms, shape (rate / 50,). None: the stream rests."""
        if self._highest is None or now < self._start_at:
            return None
        while len(self._pcm) < self._frame:
            payload = self._packets.pop(self._next, None)
            if payload is None:
                if not self._packets:
                    self._missed += 1
                    if self._missed > _REST_FRAMES:
                        self._highest = None
                        self._pcm = self._pcm[:0]
                        return None
                else:
                    self._next += 1
                    self.stats.lost += 1
                self.stats.concealed_ms += 20
                return self._silence
            self._next += 1
            self._missed = 0
            try:
                pcm = self._decode(payload)
            except ValueError:
                self.stats.dropped += 1
                continue
            self.stats.played += 1
            self._pcm = pcm if not len(self._pcm) else np.concatenate([self._pcm, pcm])
        frame, self._pcm = self._pcm[: self._frame], self._pcm[self._frame :]
        return frame
