"""Requests for a response, one at a time: the default conversation refuses a second response while one is active."""

from __future__ import annotations

from collections import OrderedDict, deque

__all__ = ["ResponseRequests"]

_MAX_WAITING = 32
_REMEMBERED = 8
_CREATED_WITHIN_S = 10.0
"""A request that led to no `response.created` and no error for so long was swallowed; the next one may go."""


class ResponseRequests:
    """What we want to ask the model for. Full: a further request is refused, `dropped` counts it.

    A request without instructions ("go on") says no more when asked twice, so such ones are merged while they wait.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._waiting: deque[str | None] = deque()
        self._sent: OrderedDict[str, str | None] = OrderedDict()
        self._awaiting = ""
        """Event id of the request that has led to nothing yet."""
        self._awaiting_until = 0.0
        self._unwanted = False
        """The one in flight was taken back before there was a response to cancel."""
        self._blocked = False
        """The server said that a response is active: nothing goes before the next `response.done`."""

    def ask(self, instructions: str | None) -> bool:
        """Queue a request. False: there are too many."""
        if instructions is None and None in self._waiting:
            return True
        if len(self._waiting) >= _MAX_WAITING:
            self.dropped += 1
            return False
        self._waiting.append(instructions)
        return True

    def due(self, *, active: bool) -> bool:
        """May the next request go now?"""
        return bool(self._waiting) and not (active or self._awaiting or self._blocked)

    def send(self, event_id: str, now: float) -> str | None:
        """Take the next request, to be sent under this id; returns its instructions."""
        instructions = self._waiting.popleft()
        self.sent_raw(event_id, now)
        self._sent[event_id] = instructions
        if len(self._sent) > _REMEMBERED:
            self._sent.popitem(last=False)
        return instructions

    def sent_raw(self, event_id: str, now: float) -> None:
        """Somebody sent a request past the queue: it counts as in flight, but is never repeated."""
        self._awaiting = event_id
        self._awaiting_until = now + _CREATED_WITHIN_S
        self._unwanted = False

    def take_back(self) -> None:
        """The request in flight is not wanted any more: it is never repeated, and `created` says so."""
        if self._awaiting:
            self._sent.pop(self._awaiting, None)
            self._unwanted = True

    def created(self) -> bool:
        """`response.created`: ours or one that the server made itself. True: it was taken back, cancel it."""
        unwanted = self._unwanted
        self._landed()
        return unwanted

    def ended(self) -> None:
        """`response.done`: the conversation is free."""
        self._blocked = False

    def refused(self, event_id: str | None) -> bool:
        """A response was active: the request goes again after the next `response.done`. False: it was not ours."""
        # Some servers do not name the event that they refuse; then it can only be the one in flight.
        refused_id = event_id or self._awaiting
        if refused_id == self._awaiting:
            self._landed()
        self._blocked = True
        if refused_id not in self._sent:
            return False
        instructions = self._sent.pop(refused_id)
        if instructions is not None or None not in self._waiting:
            self._waiting.appendleft(instructions)
        return True

    def failed(self, event_id: str | None) -> None:
        """The request was refused for another reason: it is given up."""
        if event_id is not None and event_id == self._awaiting:
            self._landed()

    def deadline(self) -> float | None:
        return self._awaiting_until if self._awaiting else None

    def expire(self, now: float) -> bool:
        """True: the request in flight was swallowed, and is given up."""
        if not self._awaiting or now < self._awaiting_until:
            return False
        self._landed()
        return True

    def _landed(self) -> None:
        self._awaiting = ""
        # A response of later is another one: what was taken back is over with its request.
        self._unwanted = False
