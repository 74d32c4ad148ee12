"""Notices a user's turn that the model never answered, and asks once more. Bounded: it never becomes a loop."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from bridge.conversation.stats import ConversationStats

__all__ = ["AnswerSettings", "AnswerWatch"]


class AnswerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do when the model stays silent after the user has spoken."""

    empty_turn_wait_s: Annotated[float, Meta(ge=0.1, le=60)] = 1.5
    """After the provider closed the turn with nothing in it: the wait before it is asked again, s."""
    silence_wait_s: Annotated[float, Meta(ge=1, le=300)] = 15.0
    """After the user's turn with no word from the provider at all: the wait before it is asked again, s."""
    mute_after_s: Annotated[float, Meta(ge=2, le=300)] = 10.0
    """Somebody has spoken to a session and paused for an answer, and nothing at all has come of it for so long, no
    transcript and no event either: it is asked to answer, s."""
    stalled_after_s: Annotated[float, Meta(ge=1, le=300)] = 10.0
    """A session that was told to speak, by a typed turn, a prompt or a nudge, and of which nothing at all has come for
    so long, is given up for another one, s."""
    max_nudges: Annotated[int, Meta(ge=0, le=10)] = 1
    """Times that the model is asked again for one turn. 0: only counted."""


class AnswerWatch:
    """One user's turn at a time."""

    def __init__(self, settings: AnswerSettings, stats: ConversationStats) -> None:
        self.settings = settings
        self._stats = stats
        self._open = False
        self._spoken_to = 0
        self._due_at: float | None = None

    @property
    def owed(self) -> bool:
        """The user has spoken, or a tool has answered, and nothing has come of it yet."""
        return self._open

    def user_speaks(self) -> None:
        """The user is (still) speaking: nothing is owed yet."""
        if not self._open:
            self._spoken_to = 0
        self._open = True
        self._due_at = None

    def user_finished(self, now: float) -> None:
        """The user's turn is over: an answer is owed."""
        self._open = True
        self._due_at = now + self.settings.silence_wait_s

    def model_works(self) -> None:
        """A tool call or a beginning: the model is not silent, but has not answered either."""
        self._due_at = None

    def answered(self) -> None:
        """Something was heard or written."""
        self._open = False
        self._due_at = None

    def turn_was_empty(self, now: float) -> None:
        """The provider closed the turn with nothing in it."""
        if self._open:
            self._stats.empty_turns += 1
            self._due_at = now + self.settings.empty_turn_wait_s

    def due(self, now: float) -> bool:
        """True: ask the model again, now."""
        if self._due_at is None or now < self._due_at:
            return False
        self._due_at = None
        self._stats.unanswered_turns += 1
        if self._spoken_to >= self.settings.max_nudges:
            self._open = False
            return False
        self._spoken_to += 1
        self._stats.nudges += 1
        self._due_at = now + self.settings.silence_wait_s
        return True

    def deadline(self) -> float | None:
        return self._due_at
