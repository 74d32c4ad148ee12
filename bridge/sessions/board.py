"""Which model session leads a call, which ones are opening, and which are draining. No I/O, no clock.

A call has at most one leading session: only its speech reaches the room. Any number of others may stand beside it, and
microphone audio may go to more than one at a time, so that a successor hears the caller before it takes over.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["Role", "SessionBoard", "Standing"]


class Role(StrEnum):
    OPENING = "opening"
    """Being connected, or ready and waiting for the lead."""
    LEADING = "leading"
    DRAINING = "draining"
    """Has lost the lead; stays until closed so that late results find their way."""
    CLOSED = "closed"


_MOVES = {
    (Role.OPENING, Role.LEADING),
    (Role.OPENING, Role.CLOSED),
    (Role.LEADING, Role.DRAINING),
    (Role.LEADING, Role.CLOSED),
    (Role.DRAINING, Role.LEADING),
    (Role.DRAINING, Role.CLOSED),
}


class Standing(msgspec.Struct):
    """One session's place."""

    number: int
    role: Role = Role.OPENING
    hears: bool = False
    """Microphone audio goes to it."""


class SessionBoard:
    """The places of all sessions of one call. Numbers are minted here and never used twice."""

    def __init__(self) -> None:
        self._standings: dict[int, Standing] = {}
        self._minted = 0
        self.leader: int | None = None

    def open(self) -> int:
        """A new session begins to open; returns its number."""
        self._minted += 1
        self._standings[self._minted] = Standing(self._minted)
        return self._minted

    def lead(self, number: int) -> int | None:
        """Give the lead to `number`; returns the session that lost it and now drains, if there was one.

        Raises: ValueError when there is no such session or it is closed. A leader that leads again changes nothing.
        """
        if number == self.leader:
            return None
        self._move(number, Role.LEADING)
        before, self.leader = self.leader, number
        self._standings[number].hears = True
        if before is not None:
            self._move(before, Role.DRAINING)
            self._standings[before].hears = False
        return before

    def hear(self, number: int, hears: bool) -> None:
        """Send microphone audio to this session too, or no longer."""
        self._standing(number).hears = hears

    def close(self, number: int) -> bool:
        """This session is gone. Returns whether it was the leader. Closing twice changes nothing."""
        standing = self._standings.pop(number, None)
        if standing is None:
            return False
        if self.leader != number:
            return False
        self.leader = None
        return True

    def role(self, number: int) -> Role:
        """A session that was never opened or has gone is CLOSED."""
        standing = self._standings.get(number)
        return Role.CLOSED if standing is None else standing.role

    def hearing(self) -> list[int]:
        """Sessions that microphone audio goes to, oldest first."""
        return [standing.number for standing in self._standings.values() if standing.hears]

    def open_numbers(self) -> list[int]:
        """All sessions that are not closed, oldest first."""
        return list(self._standings)

    def _standing(self, number: int) -> Standing:
        try:
            return self._standings[number]
        except KeyError:
            raise ValueError(f"session {number} is not open (open: {self.open_numbers() or 'none'})") from None

    def _move(self, number: int, role: Role) -> None:
        standing = self._standing(number)
        if (standing.role, role) not in _MOVES:
            raise ValueError(f"session {number} is {standing.role} and cannot become {role}")
        standing.role = role
