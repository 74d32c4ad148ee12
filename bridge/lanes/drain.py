"""The end of a call waits until the room has heard all that the model has said, and no more is coming."""

from __future__ import annotations

import asyncio
from typing import Protocol

from bridge.lanes.fast_ports import FastStats

__all__ = ["Drain", "Work"]

_STALLED_S = 3.0
"""At the end of a call: a reply that was begun and of which nothing has come for so long is not waited for."""


class Work(Protocol):
    """What the conversation knows of the model's work."""

    @property
    def at_work(self) -> bool: ...
    @property
    def awaits_tools(self) -> bool: ...


class Drain:
    """Whoever waits for the last word of one call."""

    def __init__(self, work: Work, stats: FastStats) -> None:
        self.news_at = float("-inf")
        """When the leading session had something to tell, or was first waited for."""
        self._work = work
        self._stats = stats
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def is_awaited(self) -> bool:
        return bool(self._waiting)

    async def wait(self, now: float) -> None:
        """Until `room_is_quiet` finds nothing more to come."""
        waiter = asyncio.get_running_loop().create_future()
        self.news_at = now
        self._waiting.append(waiter)
        await waiter

    def room_is_quiet(self, now: float) -> None:
        """All that has come has been heard: whoever waits goes on, unless there is more."""
        # A reply that has run dry in its midst is not over: its next words are on their way, or it is given up soon.
        if self._more_to_come(now):
            return
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()

    def _more_to_come(self, now: float) -> bool:
        """The model is at work, and still tells."""
        if self._work.awaits_tools or not self._work.at_work:
            return self._work.at_work
        if now - self.news_at < _STALLED_S:
            return True
        self._stats.stalled_goodbyes += 1
        return False
