"""Which reply a piece of content belongs to. The service numbers nothing, so the ids are minted here."""

from __future__ import annotations

from providers.contract import (
    GenerationComplete,
    Interrupted,
    OutputTranscript,
    ReplyStarted,
    SessionEvent,
    TextChunk,
    TurnComplete,
)

__all__ = ["STALE_S", "ReplyTracker"]

# Speech that was on its way when the user interrupted arrives a moment later. It keeps the dead reply's id until the
# turn completes, a new generation shows itself, or this long: a fence without an end would leave the model mute.
STALE_S = 2.0


class ReplyTracker:
    """Replies of one session: minted, spoken, interrupted, completed. Appends events to the list it is given."""

    def __init__(self, session: int) -> None:
        self._session = session
        self._minted = 0
        self._transcribed = self._written = False
        self._stale_until = 0.0
        self.current: str | None = None
        """Reply of the turn that runs; None between turns."""
        self.generating = False
        """More content of `current` may come."""
        self.speaking = False
        """While `generating`: speech has come, and the model does nothing else that would take its time."""
        self.dead: str | None = None
        """Interrupted reply whose turn has not completed yet."""
        self.last: str | None = None

    @property
    def running(self) -> bool:
        """Is a turn of the model under way?"""
        return self.current is not None or self.dead is not None

    def for_speech(self, now: float, events: list[SessionEvent]) -> str:
        """The reply that speech or text arriving now belongs to; opens one where none is."""
        if self.generating and self.current is not None:
            return self.current
        if self.dead is not None:
            if now < self._stale_until:
                return self.dead
            self.dead = None
        if self.current is not None:
            # All of it had arrived: this is another generation within the same turn, as around tool calls.
            self._finish_words(events)
        return self._open(events)

    def for_transcript(self, now: float, events: list[SessionEvent]) -> str | None:
        """The reply that a transcript arriving now belongs to; None for words of a dead reply, which nobody heard."""
        if self.current is None and self.dead is not None and now < self._stale_until:
            return None
        reply = self.current or self.for_speech(now, events)
        self._transcribed = True
        return reply

    def for_text(self, now: float, events: list[SessionEvent]) -> str:
        """The reply that written words arriving now belong to."""
        reply = self.for_speech(now, events)
        self._written = self._written or reply == self.current
        return reply

    def for_stale_speech(self, events: list[SessionEvent]) -> str:
        """The reply of speech that came in one message with its own interruption."""
        return self.current or self.dead or self.last or self._open(events)

    def transcript_finished(self) -> None:
        """The service itself said that the transcript is whole."""
        self._transcribed = False

    def new_generation(self) -> None:
        """Something that only a new generation sends: what follows is fresh."""
        if self.dead is not None:
            self.dead = None

    def generation_complete(self, events: list[SessionEvent]) -> None:
        """`generationComplete`: with nothing open (seen after tool calls) it means nothing."""
        if self.current is not None and self.generating:
            self.generating = False
            events.append(GenerationComplete(session=self._session, reply_id=self.current))
        elif self.current is None:
            # An interrupted generation never completes, so a new one did.
            self.new_generation()

    def interrupted(self, now: float, events: list[SessionEvent]) -> None:
        """`interrupted`: the running reply dies. Without one, only what still plays must stop."""
        reply = self.current
        events.append(Interrupted(session=self._session, reply_id=reply))
        if reply is not None:
            self._finish_words(events)
            self.dead, self._stale_until = reply, now + STALE_S
            self.current, self.generating = None, False

    def turn_complete(self, reason: str, events: list[SessionEvent]) -> None:
        """`turnComplete`: of the dead reply, of the current one, or of a turn that held nothing."""
        reply = self.dead or self.current
        if self.dead is not None and reason == "completed":
            reason = "interrupted"
        if self.dead is None:
            self._finish_words(events)
        self.dead = self.current = None
        self.generating = False
        events.append(TurnComplete(session=self._session, reply_id=reply, reason=reason))

    def _open(self, events: list[SessionEvent]) -> str:
        self._minted += 1
        reply = self.current = self.last = f"{self._session}.{self._minted}"
        self.generating = True
        self.speaking = False
        self._transcribed = self._written = False
        events.append(ReplyStarted(session=self._session, reply_id=reply))
        return reply

    def _finish_words(self, events: list[SessionEvent]) -> None:
        if self.current is not None:
            if self._transcribed:
                events.append(OutputTranscript(session=self._session, reply_id=self.current, delta="", final=True))
            if self._written:
                events.append(TextChunk(session=self._session, reply_id=self.current, delta="", final=True))
        self._transcribed = self._written = False
