"""A steady beat in the event loop, without a task: one timer, armed again on each beat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

__all__ = ["Pulse", "PulseStats"]


class PulseStats(msgspec.Struct):
    beats: int = 0
    late_beats: int = 0
    """More than half a period after their time: the loop was busy elsewhere."""
    missed_beats: int = 0
    """Whole periods lost to a stall; the schedule goes on from now."""
    worst_late_ms: float = 0.0


class Pulse:
    """Calls `beat(now)` every `period_s`. Late beats are counted, missed ones are not made up."""

    def __init__(self, period_s: float, beat: Callable[[float], None]) -> None:
        self.stats = PulseStats()
        self._period_s = period_s
        self._beat = beat
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + self._period_s
        self._timer = self._loop.call_at(self._due, self._run)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None, "a pulse beats only after start()"
        now = loop.time()
        late_s = now - self._due
        stats = self.stats
        stats.beats += 1
        if late_s > self._period_s / 2:
            stats.late_beats += 1
        if late_s * 1000 > stats.worst_late_ms:
            stats.worst_late_ms = late_s * 1000
        missed = int(late_s / self._period_s)
        if missed > 0:
            stats.missed_beats += missed
        self._due += self._period_s * (missed + 1)
        self._timer = loop.call_at(self._due, self._run)
        self._beat(now)
