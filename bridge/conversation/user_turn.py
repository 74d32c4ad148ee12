"""The user's turn: when it begins and ends, by whoever tells of it, and whose its words are. No I/O, no clock.

The provider's events for speech tell it best; our own ears may. Where a provider has no such events, a transcript tells
that a turn goes on, and what comes of it that it is over.
"""

from __future__ import annotations

from bridge.conversation.answers import AnswerWatch
from bridge.conversation.replies import Replies
from bridge.conversation.scribe import Scribe
from bridge.conversation.speakers import Speakers, Spoken
from bridge.conversation.turns import Turns
from bridge.core.commands import Command
from bridge.core.words import ParticipantId
from providers.contract import InputTranscript

__all__ = ["UserTurn"]

_NEVER = float("-inf")


class UserTurn:
    """Tells the floor, the answer that is owed and the captions of it. `answered`, wherever a turn may end, says that
    the model answers a turn by itself."""

    def __init__(
        self, turns: Turns, speakers: Speakers, answers: AnswerWatch, scribe: Scribe, replies: Replies
    ) -> None:
        self.is_told = False
        """The provider tells when he begins and ends."""
        self._turns = turns
        self._speakers = speakers
        self._answers = answers
        self._scribe = scribe
        self._replies = replies
        self._reply_began_at = _NEVER

    def starts(self, now: float, *, told: bool = False) -> None:
        """He is heard. `told`: by the provider, which will tell the end as well."""
        if told:
            self.is_told = True
            self._speakers.turn_began(now)
        self._turns.user_starts(now)
        self._answers.user_speaks()
        self._scribe.user_goes_on()

    def stops(self, now: float, *, answered: bool, told: bool = False) -> None:
        """He has finished. `told`: by the provider."""
        if told:
            self._speakers.turn_ended(now)
        self._turns.user_stops(now, answer_expected=answered)
        if answered:
            self._answers.user_finished(now)
        else:
            self._answers.answered()  # whoever asked for no answers is not reminded of one
        self._scribe.user_finished(now)

    def words(self, event: InputTranscript, now: float, commands: list[Command], *, answered: bool) -> None:
        """What he said so far, or all of it."""
        session, turn_id, text, final = event.session, event.turn_id, event.text, event.final
        new = self._scribe.user.is_new(session, turn_id)
        # A transcript may come long after its turn (OpenAI transcribes beside the answer): words tell of a turn only
        # where the provider has no event for speech, and only before the answer.
        tells = new and bool(text.strip()) and not self.is_told
        if tells and not self._replies.audible and not self._replies.generating and not self._turns.user_speaks:
            self._turns.user_starts(now, inferred=True)
            self._answers.user_speaks()
        # An empty transcript takes its turn too: it was a cough.
        answered_at = None if self.is_told else self._reply_began_at
        spoken = self._speakers.of_words(now, answered_at) if new and (text.strip() or final) else None
        again = self._scribe.ledger.heard_again() if new and text.strip() else None
        if again is not None and again.speaker is not None:
            spoken = Spoken(again.speaker, again.at, again.ended_at)  # the mixer knows nothing of a replay
        self._scribe.user_words(session, turn_id, text, final=final, spoken=spoken, now=now, commands=commands)
        if final:
            self.ends_if_inferred(now, answered=answered)

    def ends_if_inferred(self, now: float, *, answered: bool) -> None:
        """Nobody will tell the end of a turn that is known from its words alone: this is it."""
        if self._turns.inferred and self._turns.user_speaks:
            self.stops(now, answered=answered)

    def fell_silent(self, participant: ParticipantId, now: float, *, answered: bool) -> None:
        """His microphone is gone: no detector will tell that he has stopped."""
        if self._turns.user_speaks and self._speakers.is_speaking(participant, now):
            self.stops(now, answered=answered)

    def reply_began(self, now: float, *, answered: bool) -> None:
        """Words that trail in now are those that it answers."""
        self._reply_began_at = now
        self.ends_if_inferred(now, answered=answered)

    def reply_cut(self) -> None:
        """Whatever is said now follows what was cut."""
        self._reply_began_at = _NEVER

    def session_began(self) -> None:
        """The next provider may have no events for speech."""
        self.is_told = False
