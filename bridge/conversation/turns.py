"""Whose turn it is, as a table of legal moves, and the state that the room is shown.

The floor is a view: it never gates audio. It has BOTH, because people and full-duplex models do not take turns.
"""

from __future__ import annotations

from enum import StrEnum

from bridge.core.words import AgentState

__all__ = ["FLOOR", "Floor", "Move", "Turns"]


class Floor(StrEnum):
    """Who is being heard."""

    NOBODY = "nobody"
    USER = "user"
    MODEL = "model"
    BOTH = "both"


class Move(StrEnum):
    """Who begins or ends."""

    USER_STARTS = "user_starts"
    USER_STOPS = "user_stops"
    MODEL_STARTS = "model_starts"
    MODEL_STOPS = "model_stops"


# Every pair is there: events may come twice, late or in any order, and none of them is an error.
FLOOR = {
    (Floor.NOBODY, Move.USER_STARTS): Floor.USER,
    (Floor.NOBODY, Move.USER_STOPS): Floor.NOBODY,
    (Floor.NOBODY, Move.MODEL_STARTS): Floor.MODEL,
    (Floor.NOBODY, Move.MODEL_STOPS): Floor.NOBODY,
    (Floor.USER, Move.USER_STARTS): Floor.USER,
    (Floor.USER, Move.USER_STOPS): Floor.NOBODY,
    (Floor.USER, Move.MODEL_STARTS): Floor.BOTH,
    (Floor.USER, Move.MODEL_STOPS): Floor.USER,
    (Floor.MODEL, Move.USER_STARTS): Floor.BOTH,
    (Floor.MODEL, Move.USER_STOPS): Floor.MODEL,
    (Floor.MODEL, Move.MODEL_STARTS): Floor.MODEL,
    (Floor.MODEL, Move.MODEL_STOPS): Floor.NOBODY,
    (Floor.BOTH, Move.USER_STARTS): Floor.BOTH,
    (Floor.BOTH, Move.USER_STOPS): Floor.MODEL,
    (Floor.BOTH, Move.MODEL_STARTS): Floor.BOTH,
    (Floor.BOTH, Move.MODEL_STOPS): Floor.USER,
}


class Turns:
    """The floor, and whether the model owes an answer. What only a missing event would end, ends by itself."""

    def __init__(self, *, thinking_limit_s: float, user_limit_s: float) -> None:
        self.floor = Floor.NOBODY
        self.ready = False
        """A model session has been ready once."""
        self.accompanied = False
        """Somebody is in the room."""
        self.inferred = False
        """The user's turn is known from his words alone: no event will tell its end."""
        self._thinking_limit_s = thinking_limit_s
        self._user_limit_s = user_limit_s
        self._thinking_until: float | None = None
        self._user_until: float | None = None

    def user_starts(self, now: float, *, inferred: bool = False) -> None:
        """The user is heard. `inferred`: from his transcript, with no event for the end to come."""
        self.inferred = inferred and (self.inferred or not self.user_speaks)
        self.floor = FLOOR[self.floor, Move.USER_STARTS]
        self._user_until = now + self._user_limit_s
        self._thinking_until = None

    def user_stops(self, now: float, *, answer_expected: bool = True) -> None:
        """The user has finished; the model may be thinking now."""
        self.floor = FLOOR[self.floor, Move.USER_STOPS]
        self._user_until = None
        if answer_expected:
            self.thinks(now)

    def model_starts(self) -> None:
        """The model's voice sounds."""
        self.floor = FLOOR[self.floor, Move.MODEL_STARTS]
        self._thinking_until = None
        if self.inferred and self.user_speaks:
            self.floor = FLOOR[self.floor, Move.USER_STOPS]
            self._user_until = None

    def model_stops(self) -> None:
        """The model's voice has been heard to its end, or was cut."""
        self.floor = FLOOR[self.floor, Move.MODEL_STOPS]

    def thinks(self, now: float) -> None:
        """Something of the model is to be expected."""
        self._thinking_until = now + self._thinking_limit_s

    def rests(self) -> None:
        """Nothing of the model is to be expected."""
        self._thinking_until = None

    @property
    def thinking(self) -> bool:
        """Something of the model is to be expected."""
        return self._thinking_until is not None

    @property
    def user_speaks(self) -> bool:
        return self.floor in (Floor.USER, Floor.BOTH)

    @property
    def model_speaks(self) -> bool:
        return self.floor in (Floor.MODEL, Floor.BOTH)

    @property
    def state(self) -> AgentState:
        """What the room is shown: true to the ear."""
        if self.model_speaks:
            return AgentState.SPEAKING
        if not self.ready:
            return AgentState.INITIALIZING
        if not self.accompanied:
            return AgentState.IDLE
        if self.floor is Floor.NOBODY and self._thinking_until is not None:
            return AgentState.THINKING
        return AgentState.LISTENING

    def due(self, now: float, *, at_work: bool = False) -> None:
        """End what nobody has ended. `at_work`: a tool runs, so the model is still thinking."""
        if self._thinking_until is not None and now >= self._thinking_until:
            self._thinking_until = now + self._thinking_limit_s if at_work else None
        if self._user_until is not None and now >= self._user_until:
            self.floor = FLOOR[self.floor, Move.USER_STOPS]
            self._user_until = None

    def deadline(self) -> float | None:
        return min((t for t in (self._thinking_until, self._user_until) if t is not None), default=None)
