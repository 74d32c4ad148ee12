"""What the model is told to do: now, by the session that leads, or by the next one."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable

import msgspec

from bridge.core.commands import InterruptModel, Respond, SendImage, SendText, TruncateReply
from providers.contract import Closed, ModelSession
from providers.errors import ProviderError, ProviderUnavailable, SessionEnded

__all__ = ["ModelOrder", "ModelOrders", "OrderStats", "stalled"]

log = logging.getLogger(__name__)

_MOST_DEFERRED = 32

ModelOrder = TruncateReply | InterruptModel | Respond | SendText | SendImage


def stalled(number: int) -> Closed:
    """A session that was told to speak and says nothing has ended, whatever its connection says."""
    said = "told to speak, and nothing has come of it"
    return Closed(number, 1006, said, ProviderUnavailable(f"session {number} was {said}"))


class OrderStats(msgspec.Struct):
    refused: int = 0
    """Commands that the leading session refused, each logged."""
    deferred: int = 0
    """Typed turns and prompts that waited for a leading session."""
    dropped: int = 0
    """The same beyond the bound, or told and not answered: the oldest went, and no other session will be given them."""
    repeated: int = 0
    """Typed turns and prompts that a lost session had not answered, given to the next."""


class ModelOrders:
    """Orders to the leading session. Typed turns and prompts outlive it until a model has begun to answer them."""

    def __init__(self, wanted: Callable[[], None], *, stalled_after_s: float = math.inf) -> None:
        """Args: wanted is called when an order waits though nobody leads; a leader that was told to speak may be silent
        for stalled_after_s."""
        self.stats = OrderStats()
        self.unanswered_since: float | None = None
        """When the leader was told the first of what it has not begun to answer."""
        self._stalled_after_s = stalled_after_s
        self._wanted = wanted
        self._waiting: deque[Respond | SendText] = deque()
        self._unanswered: deque[Respond | SendText] = deque(maxlen=_MOST_DEFERRED)

    def give(self, order: ModelOrder, session: ModelSession | None, now: float) -> None:
        """Carry it out, or keep what the next leader can do too."""
        if session is None:
            self._defer(order)
            return
        try:
            match order:
                case TruncateReply(reply_id=reply_id, heard_ms=heard_ms):
                    session.truncate(reply_id, heard_ms)
                case InterruptModel():
                    session.interrupt()
                case SendImage(captured=captured):
                    session.send_image(captured.image, captured.mime_type)
                case Respond(instructions=instructions):
                    session.respond(instructions)
                    self._expect_answer(order, now)
                case SendText(text=text, respond=respond):
                    session.send_text(text, respond=respond)
                    if respond:
                        self._expect_answer(order, now)
        except SessionEnded:
            # Between the decision and the deed; its Closed event follows, and then the next leader.
            self._defer(order)
        except ProviderError as refused:
            self.stats.refused += 1
            log.warning("the model refused session=%d command=%s: %s", session.number, type(order).__name__, refused)

    def answered(self) -> None:
        """The leading model has begun to answer what it was told."""
        self._unanswered.clear()
        self.unanswered_since = None

    def is_stalled(self, news_at: float, now: float) -> bool:
        """The leader was told to speak, and has told us nothing at all since; `news_at` is when it last did."""
        since = self.unanswered_since
        return since is not None and now - max(since, news_at) > self._stalled_after_s

    def leader_gone(self) -> None:
        """What it had not begun to answer is for the next one, before what waits already."""
        self.stats.repeated += len(self._unanswered)
        self._waiting.extendleft(reversed(self._unanswered))
        self._unanswered.clear()
        self.unanswered_since = None

    def take_waiting(self) -> list[Respond | SendText]:
        """Somebody leads: what has waited for it, in order."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    @property
    def open(self) -> tuple[Respond | SendText, ...]:
        """Typed turns and prompts that no model has begun to answer."""
        return (*self._unanswered, *self._waiting)

    def _expect_answer(self, order: Respond | SendText, now: float) -> None:
        if len(self._unanswered) == _MOST_DEFERRED:
            self.stats.dropped += 1
        self._unanswered.append(order)
        if self.unanswered_since is None:
            self.unanswered_since = now

    def _defer(self, order: ModelOrder) -> None:
        if not isinstance(order, Respond | SendText):
            return
        if len(self._waiting) >= _MOST_DEFERRED:
            self._waiting.popleft()
            self.stats.dropped += 1
        self._waiting.append(order)
        self.stats.deferred += 1
        self._wanted()
