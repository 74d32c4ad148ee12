"""Requests for a response, one at a time: the default conversation refuses a second response while one is active."""

from __future__ import annotations

from collections import OrderedDict, deque

import msgspec

__all__ = ["CREATED_WITHIN_S", "ResponseRequests"]

_MAX_WAITING = 32
_REMEMBERED = 8
CREATED_WITHIN_S = 10.0
"""A request that led to no `response.created` and no error for so long was swallowed; the next one may go."""
_BLOCKED_AT_MOST_S = 20.0
"""A response that was said to be active, and whose end was never told, blocks no longer than this."""
_USER_SPEAKS_AT_MOST_S = 20.0
"""A result waits so long for a user whose end of speech is not told."""
_AFTER_SPEECH_S = 1.5
"""The server makes its own response when the user has finished. If none comes within this, we ask for one."""


class _Wanted(msgspec.Struct):
    """A request that waits."""

    instructions: str | None
    call_id: str = ""
    """Asks for words to the result of this call: it may wait for the user."""
    known: bool = False
    """The server has that result: whatever response begins from now on answers with it."""


class ResponseRequests:
    """What we want to ask the model for. Full (32): a further request is refused, and whoever asks is told.

    A request without instructions ("go on") says no more when asked twice, so such ones are merged while they wait.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Wanted] = deque()
        self._sent: OrderedDict[str, _Wanted] = OrderedDict()
        self._awaiting = ""
        """Event id of the request that has led to nothing yet."""
        self._awaiting_until = 0.0
        self._unwanted = False
        """The one in flight was taken back before there was a response to cancel."""
        self._blocked_until: float | None = None
        """The server said that a response is active: nothing goes before the next `response.done`."""
        self._user_until: float | None = None
        """The user has the floor: requests that may wait do not go before this."""

    def ask(self, instructions: str | None, call_id: str = "") -> bool:
        """Queue a request. False: there are too many. With `call_id` it asks for words to the result of this call, and
        does not go into the user's speech."""
        if instructions is None:
            waiting = next((wanted for wanted in self._waiting if wanted.instructions is None), None)
            if waiting is not None:
                if not call_id:
                    waiting.call_id = ""  # somebody wants it without waiting for the user
                elif waiting.call_id:
                    waiting.call_id, waiting.known = call_id, False
                return True
        if len(self._waiting) >= _MAX_WAITING:
            return False
        self._waiting.append(_Wanted(instructions, call_id))
        return True

    def user_started(self, now: float) -> None:
        """The user speaks."""
        self._user_until = now + _USER_SPEAKS_AT_MOST_S

    def user_stopped(self, now: float, *, answered: bool) -> None:
        """The user has finished. `answered`: the server makes a response to that by itself."""
        self._user_until = now + _AFTER_SPEECH_S if answered else None

    def result_known(self, call_id: str) -> None:
        """The server has taken the result of this call into the conversation."""
        for wanted in (*self._waiting, *self._sent.values()):
            if wanted.call_id and wanted.call_id == call_id:
                wanted.known = True

    def due(self, now: float, *, active: bool) -> bool:
        """May the next request go now?"""
        return not (active or self._awaiting or self._blocked_until is not None) and self._next(now) is not None

    def send(self, event_id: str, now: float) -> str | None:
        """Take the next request, to be sent under this id; returns its instructions."""
        wanted = self._next(now)
        assert wanted is not None, "ask due() first"
        self._waiting.remove(wanted)
        self.sent_raw(event_id, now)
        self._sent[event_id] = wanted
        if len(self._sent) > _REMEMBERED:
            self._sent.popitem(last=False)
        return wanted.instructions

    def sent_raw(self, event_id: str, now: float) -> None:
        """Somebody sent a request past the queue: it counts as in flight, but is never repeated."""
        self._awaiting = event_id
        self._awaiting_until = now + CREATED_WITHIN_S
        self._unwanted = False

    def take_back(self) -> None:
        """The request in flight is not wanted any more: it is never repeated, and `created` says so."""
        if self._awaiting:
            self._sent.pop(self._awaiting, None)
            self._unwanted = True

    def created(self, *, begun: bool = True) -> bool:
        """`response.created`: ours or one that the server made itself; or it was cut before it had `begun`. True: it
        was taken back, cancel it."""
        unwanted = self._unwanted
        if begun and not self._awaiting:
            # The server's own, to what the user said: it answers with the results that are there, too.
            answered = [wanted for wanted in self._waiting if wanted.known]
            for wanted in answered:
                self._waiting.remove(wanted)
            self._user_until = None
        self._landed()
        return unwanted

    def ended(self) -> None:
        """`response.done`: the conversation is free."""
        self._blocked_until = None

    def refused(self, event_id: str | None, now: float) -> bool:
        """A response was active: the request goes again after the next `response.done`. False: it was not ours."""
        # Some servers do not name the event that they refuse; then it can only be the one in flight.
        refused_id = event_id or self._awaiting
        if refused_id == self._awaiting:
            self._landed()
        self._blocked_until = now + _BLOCKED_AT_MOST_S
        if refused_id not in self._sent:
            return False
        wanted = self._sent.pop(refused_id)
        if wanted.instructions is not None or all(other.instructions is not None for other in self._waiting):
            self._waiting.appendleft(wanted)
        return True

    def failed(self, event_id: str | None) -> None:
        """The request was refused for another reason: it is given up."""
        if event_id is not None and event_id == self._awaiting:
            self._landed()

    def deadline(self) -> float | None:
        times = [self._awaiting_until] if self._awaiting else []
        if self._blocked_until is not None:
            times.append(self._blocked_until)
        if self._user_until is not None and self._waiting:
            times.append(self._user_until)
        return min(times, default=None)

    def expire(self, now: float) -> str:
        """What was waited for in vain: `request` (it was swallowed, and is given up), `response` (its end was never
        told), or nothing."""
        if self._user_until is not None and now >= self._user_until:
            self._user_until = None
        if self._blocked_until is not None and now >= self._blocked_until:
            self._blocked_until = None
            return "response"
        if self._awaiting and now >= self._awaiting_until:
            self._landed()
            return "request"
        return ""

    def _next(self, now: float) -> _Wanted | None:
        user_speaks = self._user_until is not None and now < self._user_until
        return next((wanted for wanted in self._waiting if not (user_speaks and wanted.call_id)), None)

    def _landed(self) -> None:
        self._awaiting = ""
        # A response of later is another one: what was taken back is over with its request.
        self._unwanted = False
