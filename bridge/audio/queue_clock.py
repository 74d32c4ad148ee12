"""How much of what was queued for playing has not sounded yet, by the clock."""

from __future__ import annotations

__all__ = ["QueueClock"]


class QueueClock:
    """A queue that plays in real time, seen from outside: it is empty at `ends_at`.

    Exact to the millisecond where the far side starts playing at once and never stalls, which is what
    `AudioSource`'s native queue does.
    """

    def __init__(self) -> None:
        self.ends_at = 0.0

    def push(self, duration_ms: float, now: float) -> None:
        """Queue `duration_ms` more at `now` (s). An empty queue starts to play at once."""
        self.ends_at = max(self.ends_at, now) + duration_ms / 1000

    def queued_ms(self, now: float) -> float:
        """Milliseconds not yet played at `now`."""
        return max(0.0, (self.ends_at - now) * 1000)

    def clear(self, now: float) -> float:
        """Drop what is queued; returns the milliseconds dropped."""
        dropped = self.queued_ms(now)
        self.ends_at = now
        return dropped
