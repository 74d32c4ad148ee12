"""How many messages a second. Decisions only: time is an argument."""

from __future__ import annotations

__all__ = ["Budget"]


class Budget:
    """A bucket that fills with `per_s` and holds twice as many; empty: no."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._deep = max(1.0, 2 * per_s)
        self._left = self._deep
        self._filled_at: float | None = None

    @property
    def wait_s(self) -> float:
        """Until there is one again."""
        return max(0.0, (1.0 - self._left) / self._per_s)

    def take(self, now: float) -> bool:
        """Is there one more?"""
        if self._filled_at is not None:
            self._left = min(self._deep, self._left + (now - self._filled_at) * self._per_s)
        self._filled_at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
