"""Whose words a transcript holds: the loudest participant of the turn that it belongs to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from bridge.core.words import ParticipantId

__all__ = ["Speakers", "Spoken", "WhoSpoke"]

WhoSpoke = Callable[[float, float], ParticipantId | None]
"""The loudest participant between two times, `Mixer.loudest`."""

_BEFORE_S = 3.0  # without events for speech: words belong to what was heard this long before they came
_LATENCY_S = 0.3  # a detector tells the start a little after it
_WAITS_S = 12.0  # for the transcript of a turn
_TRAILS_S = 2.0  # without events for speech: words this soon after a reply began were spoken before it
_LEAST_SAID_S = 0.1  # nobody says anything in less
_MAX_TURNS = 8


class Spoken(msgspec.Struct, frozen=True, gc=False):
    """Who said the words of a turn, and when, on the call's clock, s."""

    speaker: ParticipantId
    since: float
    until: float | None = None
    """None: he may still be speaking."""


class Speakers:
    """Who is there, and the turns whose words have not come yet.

    Transcripts may come after their turn, in the midst of the next one: turns are matched with them in order. A turn
    that was not transcribed is given up after a while. Full: the oldest turn goes.
    """

    def __init__(self, who_spoke: WhoSpoke) -> None:
        self._who_spoke = who_spoke
        self._present: dict[ParticipantId, None] = {}
        self._began_at: float | None = None
        self._has_words = False  # the turn that goes on
        self._turns: deque[tuple[float, float]] = deque(maxlen=_MAX_TURNS)

    def joined(self, participant: ParticipantId) -> None:
        self._present[participant] = None

    def left(self, participant: ParticipantId) -> None:
        self._present.pop(participant, None)

    @property
    def present(self) -> tuple[ParticipantId, ...]:
        """Who is here, in the order of arrival."""
        return tuple(self._present)

    def turn_began(self, now: float) -> None:
        """The provider hears somebody."""
        if self._began_at is None:
            self._began_at = now - _LATENCY_S
            self._has_words = False

    def turn_ended(self, now: float) -> None:
        """The provider hears him no more."""
        if self._began_at is not None:
            if not self._has_words:
                self._turns.append((self._began_at, now))
            self._began_at = None

    def of_words(self, now: float, answered_at: float | None = None) -> Spoken:
        """Who said the words of a turn that come now for the first time, and when.

        Args: answered_at is when the model's last reply began, where the provider tells nothing of speech.
        """
        spoken = self._of_turn(now)
        if answered_at is None or spoken.since - answered_at >= _TRAILS_S:
            return spoken
        # Words that trail in behind the beginning of a reply are those that it answers.
        return Spoken(spoken.speaker, min(spoken.since, answered_at - _LEAST_SAID_S), answered_at)

    def _of_turn(self, now: float) -> Spoken:
        while self._turns and now - self._turns[0][1] > _WAITS_S:
            self._turns.popleft()
        if self._turns:
            since, until = self._turns.popleft()
            return Spoken(self._who_spoke(since, until) or self.anyone(), since, until)
        self._has_words = True
        if self._began_at is not None:
            return Spoken(self._who_spoke(self._began_at, now) or self.anyone(), self._began_at)
        return Spoken(self._who_spoke(now - _BEFORE_S, now) or self.anyone(), now)

    def is_speaking(self, participant: ParticipantId, now: float) -> bool:
        """Was he the loudest of the last second, or was nobody?"""
        return (self._who_spoke(now - 1.0, now) or participant) == participant

    def anyone(self) -> ParticipantId:
        """Somebody who is here."""
        return next(iter(self._present), ParticipantId("user"))
