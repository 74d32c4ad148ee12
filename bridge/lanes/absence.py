"""A room that was lost and is found again: from when on is what we say heard? Decisions only: no I/O, no clock."""

from __future__ import annotations

import msgspec

__all__ = ["Absence", "AbsenceStats"]

_HEARER_S = 5.0
"""For somebody present to find the renewed voice. After that we speak to whoever takes it without telling."""


class AbsenceStats(msgspec.Struct):
    absences: int = 0
    """Times that the room was lost and looked for."""
    away_ms: float = 0.0
    """Of it, until somebody could hear us again."""


class Absence:
    """Each method says whether the room can hear us again since this call; what was lost meanwhile is in `lost`."""

    def __init__(self, *, tells_hearers: bool) -> None:
        self.stats = AbsenceStats()
        self.lost = False
        """What the transport had still to play went with its old connection."""
        self._tells_hearers = tells_hearers
        self._since: float | None = None
        self._back_at: float | None = None
        self._heard = False

    @property
    def away(self) -> bool:
        """Nobody may be hearing us."""
        return self._since is not None

    def begins(self, now: float) -> None:
        """The transport is looking for its server."""
        if self._since is None:
            self._since = now
            self.stats.absences += 1
            self.lost = False
        self._back_at = None
        self._heard = False

    def back(self, renewed: bool, now: float) -> bool:
        """The transport is back, by a new connection or by the old one."""
        if self._since is None:
            return False
        self.lost = self.lost or renewed
        self._back_at = now
        if self.lost and self._tells_hearers and not self._heard:
            return False
        return self._over(now)

    def heard(self, now: float) -> bool:
        """Somebody receives our voice. This may be told before the transport tells that it is back."""
        self._heard = True
        return self._back_at is not None and self._over(now)

    def due(self, accompanied: bool, now: float) -> bool:
        """Time passes, in the company of somebody or alone."""
        return self._back_at is not None and accompanied and now - self._back_at >= _HEARER_S and self._over(now)

    def _over(self, now: float) -> bool:
        if self._since is None:
            return False
        self.stats.away_ms += (now - self._since) * 1000
        self._since = self._back_at = None
        return True
