"""What a call's tools still owe it: calls that run, and results for which the model owes words. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable

__all__ = ["ToolWork"]

_KNOWN_CALLS = 256


class ToolWork:
    """Calls and results outlive their session: what one has not said to a result, the next is told and has to say."""

    def __init__(self, generated_ms: Callable[[str], float], told_again_within_s: float) -> None:
        """Args: generated_ms tells how much speech of a reply has come, ms; told_again_within_s, how long a result
        that a lost session left unanswered may take to be told to the next."""
        self._generated_ms = generated_ms
        self._told_again_within_s = told_again_within_s
        self._open: dict[tuple[int, str], str | None] = {}  # by session, with the replies that made them
        self._known: dict[tuple[int, str], None] = {}
        self._told_again_by: float | None = None
        self._result_of: tuple[str | None, float] | None = None  # a reply that called, and its speech until the result
        self._unsettled = False

    @property
    def runs(self) -> bool:
        """A tool runs."""
        return bool(self._open)

    @property
    def is_told_again(self) -> bool:
        """A result is on its way to the next session."""
        return self._told_again_by is not None

    @property
    def owes_words(self) -> bool:
        """The model has been told a result, or is being told, and has said nothing to it yet."""
        return self._result_of is not None

    @property
    def settled(self) -> bool:
        """All of the model's reply to the results that it was told is here."""
        return not self._unsettled

    def called(self, session: int, call_id: str, name: str, reply_id: str | None) -> bool:
        """Returns whether it is a new call: a repetition may be of an answered one."""
        key = session, call_id or name
        if call_id and key in self._known:
            return False
        self._known[key] = None
        if len(self._known) > _KNOWN_CALLS:
            del self._known[next(iter(self._known))]
        self._open[key] = reply_id
        return True

    def cancelled(self, session: int, call_ids: Iterable[str]) -> None:
        for call_id in call_ids:
            self._open.pop((session, call_id), None)

    def answered(self, session: int, call_id: str, name: str, *, told: bool) -> None:
        """A tool has returned, or failed; `told` says that the model was told."""
        caller = self._open.pop((session, call_id or name), None)
        self._told_again_by = None
        if told:
            self._unsettled = True
            self._result_of = caller, 0.0 if caller is None else self._generated_ms(caller)

    def reply_started(self) -> None:
        """Whatever it says, it says it knowing the results."""
        self._result_of = None

    def reply_generated(self) -> None:
        """All that a reply says is here."""
        if self._result_of is None:
            self._unsettled = False

    def turn_complete(self, reply_id: str) -> None:
        if self._result_of is not None:
            caller, said_ms = self._result_of
            # One turn may go on after a result, or end with the call and leave the answer to a turn of its own.
            if reply_id != caller or self._generated_ms(reply_id) > said_ms:
                self._result_of = None
        self.reply_generated()

    def session_ended(self, now: float) -> None:
        if self._unsettled:
            self._result_of = None, 0.0  # the next session is told, and owes the words to it
            self._told_again_by = now + self._told_again_within_s

    def due(self, now: float) -> None:
        if self._told_again_by is not None and now >= self._told_again_by:
            self._told_again_by = None  # it went otherwise

    def deadline(self) -> float | None:
        return self._told_again_by
