"""What a protocol core has to say on its own, beside what the server says: warnings, now or with the next events."""

from __future__ import annotations

from providers.contract import SessionEvent, WarningReported

__all__ = ["Notices"]

_REMEMBERED_ODDITIES = 64
_WAITING = 64


class Notices:
    """The warnings of one session. Full (64 that wait): of further ones only their number is told. Full (64 kinds of
    oddities): further ones are not told."""

    def __init__(self, session: int) -> None:
        self.waiting: list[SessionEvent] = []
        """A command cannot return events: what it has to say goes out with the next ones."""
        self._session = session
        self._not_told = 0
        self._oddities: set[str] = set()

    def now(self, code: str, said: str) -> WarningReported:
        """To be told now."""
        return WarningReported(self._session, code, said)

    def later(self, code: str, said: str) -> None:
        """To be told with the next events."""
        if len(self.waiting) < _WAITING:
            self.waiting.append(self.now(code, said))
        else:
            self._not_told += 1

    def once(self, key: str, said: str) -> list[SessionEvent]:
        """To be told now, once: a server that sends such a thing sends it all the time. Args: key is the code, and what
        tells this oddity from others after a colon."""
        if key in self._oddities or len(self._oddities) >= _REMEMBERED_ODDITIES:
            return []
        self._oddities.add(key)
        return [self.now(key.split(":")[0], said)]

    def take(self) -> list[SessionEvent]:
        """What was to be told with the next events."""
        taken, self.waiting = self.waiting, []
        if self._not_told:
            taken.append(self.now("warnings_dropped", f"{self._not_told} more warnings were waiting"))
            self._not_told = 0
        return taken
