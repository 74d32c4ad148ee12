"""The newest resumption handle of a call, and what a session resumed from it would not know. No I/O, no clock."""

from __future__ import annotations

from providers.contract import ResumptionUpdate

__all__ = ["HandleKeeper"]


class HandleKeeper:
    """Of the session that leads, or of the one that was lost last. Empty: there is none."""

    def __init__(self) -> None:
        self.value = ""
        self.covers_all = False
        """No turn has begun since it was issued."""
        self._tried = ""

    def update(self, update: ResumptionUpdate) -> None:
        """A handle from the midst of a turn would lose that turn: an older one is better, none is worse."""
        if update.resumable and (not update.mid_turn or not self.value):
            self.value = update.handle
            self.covers_all = not update.mid_turn

    def turn_began(self) -> None:
        """What it holds is no longer everything."""
        self.covers_all = False

    def tried(self, value: str) -> None:
        """A session was opened by this handle; empty: by none."""
        self._tried = value

    def lost_soon(self) -> None:
        """The session did not live: if no newer handle came of it, this one leads nowhere."""
        if self.value == self._tried:
            self.forget()

    def forget(self) -> None:
        """The next session starts fresh."""
        self.value = self._tried = ""
        self.covers_all = False
