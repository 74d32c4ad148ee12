"""How much of the world is let in at once. Decisions only: time is an argument."""

from __future__ import annotations

from bridge.core.budget import Budget
from bridge.http_api.refusal import Refused

__all__ = ["OfferGate"]


class OfferGate:
    """Bounds offers per second and in flight. Full: the offer is refused (429), `refused` counts it; nothing waits."""

    def __init__(self, per_s: float, in_flight: int) -> None:
        self.refused = 0
        self._budget = Budget(per_s)
        self._limit = in_flight
        self._in_flight = 0

    def enter(self, now: float) -> None:
        """One offer more; `leave` when it is answered. Raises: `Refused`."""
        if self._in_flight >= self._limit or not self._budget.take(now):
            self.refused += 1
            wait_s = max(1.0, self._budget.wait_s)
            raise Refused(
                429, "too_many_offers", "too many calls are being begun", "wait a moment", retry_after_s=wait_s
            )
        self._in_flight += 1

    def leave(self) -> None:
        self._in_flight -= 1
