"""When to join a lost room again: exponential backoff with full jitter until a deadline. No clock, no sleep."""

from __future__ import annotations

import random

__all__ = ["WayBack"]

_BASE_S = 0.25
_LONGEST_S = 3.0


class WayBack:
    """The waits between the attempts of one absence. The first attempt needs none."""

    def __init__(self, deadline: float, rng: random.Random) -> None:
        """Args: deadline is when the last attempt may begin, in the caller's time, s."""
        self.deadline = deadline
        self.failures = 0
        self._rng = rng

    def delay_s(self, now: float) -> float | None:
        """Seconds to wait after an attempt that failed; None: it was the last.

        A server that comes back is found by every call of the process at once: the jitter spreads them.
        """
        ceiling_s = min(_LONGEST_S, _BASE_S * 2.0 ** min(self.failures, 16))
        self.failures += 1
        delay_s = self._rng.uniform(0.0, ceiling_s)
        return delay_s if now + delay_s < self.deadline else None
