"""How much of the voice is still to be heard: our own clock beside the native queue. Time is an argument."""

from __future__ import annotations

__all__ = ["PlayClock"]


class PlayClock:
    """The end of what was pushed, as a time. Exact to the native source's 10 ms step."""

    __slots__ = ("_ends_at", "_limit_s")

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._ends_at = 0.0

    def push(self, duration_s: float, now: float) -> bool:
        """Account for speech pushed at `now`. False, and nothing accounted, if the queue cannot hold it."""
        start = max(self._ends_at, now)
        if start + duration_s - now > self._limit_s:
            return False
        self._ends_at = start + duration_s
        return True

    def room_s(self, now: float) -> float:
        """How much more fits, s."""
        return self._limit_s - self.queued_s(now)

    def clear(self) -> None:
        """Nothing is queued any more."""
        self._ends_at = 0.0

    def queued_s(self, now: float) -> float:
        """What was pushed and is not yet played, s."""
        return max(self._ends_at - now, 0.0)
