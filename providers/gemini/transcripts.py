"""What the user said: pieces from the service, whole text so far to the listener."""

from __future__ import annotations

from providers.contract import InputTranscript, SessionEvent

__all__ = ["LATE_S", "UserTranscript"]

# The service promises no order between the user's words and the answer: pieces that follow the start of the answer
# within this time still belong to what was answered, later ones to what the user says into it.
LATE_S = 2.0


class UserTranscript:
    """One user turn after another. A text already called final may be replaced once more by late words."""

    def __init__(self, session: int) -> None:
        self._session = session
        self._turn = 0
        self._text = ""
        self._shown = ""
        """Text of the last event, interim words included."""
        self._final = True
        self._answered_at: float | None = None

    def piece(self, text: str, finished: bool, now: float, events: list[SessionEvent]) -> None:
        """A further piece; the first one of a turn often starts with a space."""
        if self._answered_at is not None and now >= self._answered_at + LATE_S:
            self._next()
        if not text and not finished:
            return
        self._text += text
        if finished or self._answered_at is not None:
            self._show(self._text, True, events)
        else:
            self._show(self._text, False, events)
        if finished:
            self._next()

    def interim(self, text: str, now: float, events: list[SessionEvent]) -> None:
        """A first guess at words still being spoken; the next guess replaces it."""
        if self._answered_at is not None and now >= self._answered_at + LATE_S:
            self._next()
        if text:
            self._show(self._text + text, False, events)

    def answered(self, now: float, events: list[SessionEvent]) -> None:
        """The model begins to answer: the text is shown as final before the answer."""
        if self._answered_at is None and self._shown:
            self._answered_at = now
            if not self._final:
                self._show(self._text or self._shown, True, events)

    def speech_started(self, events: list[SessionEvent]) -> None:
        """The user begins anew."""
        if self._answered_at is not None:
            self._next()

    def turn_ended(self, events: list[SessionEvent]) -> None:
        """The turn is over: nothing late can come any more."""
        if not self._final:
            self._show(self._text or self._shown, True, events)
        self._next()

    def _show(self, text: str, final: bool, events: list[SessionEvent]) -> None:
        if not self._shown:
            self._turn += 1
        self._shown, self._final = text, final
        if text:
            turn_id = f"{self._session}.u{self._turn}"
            events.append(InputTranscript(session=self._session, turn_id=turn_id, text=text.strip(), final=final))

    def _next(self) -> None:
        self._text = self._shown = ""
        self._final = True
        self._answered_at = None
