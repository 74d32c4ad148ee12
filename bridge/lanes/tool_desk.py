"""Which session is told what a tool returned: each result once, whatever becomes of the sessions. No I/O, no clock.

A call belongs to the session that made it. While that session lives, its results go there by the call's id. When it is
gone, nothing is stopped: the function runs on, and its result waits (bounded) for the session that leads next. That one
is told in words, for ids die with their session (docs/decisions). Should it ask for the same thing again by itself, it
is given the result that is there or under way, under its own id: no function runs twice for one wish.

A result that was sent is kept until the reply to it is complete. If its session is lost before, the next one is told:
the caller has not heard the answer, and that session knows nothing of it. If the provider refuses it by the call's id
(it has forgotten the call), the leader is told in words, once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import msgspec

from providers.contract import ToolCall

__all__ = [
    "DeskStats",
    "DropResult",
    "Order",
    "Parcel",
    "RunCall",
    "StopCall",
    "TellByCallId",
    "TellByNote",
    "ToolDesk",
    "ToolOutcome",
]

_SETTLE_S = 0.3
"""A session that has just taken the lead may hear words again whose answer is the very call: it goes first."""
_PATIENCE_S = 5.0
"""A note waits so long for a moment in which nobody speaks, and for the other results of its batch."""
_LOOK_AGAIN_S = 0.1
_KEPT = 256
_NOBODY = 0
"""No session has this number."""


class ToolOutcome(msgspec.Struct, frozen=True):
    """What the model is told about one call."""

    call: ToolCall
    result: dict[str, Any] | str
    error: bool = False


class Parcel(msgspec.Struct, frozen=True):
    """A result, and every call that asked for it: the newest last, earlier ones by sessions that are gone."""

    ticket: int
    outcome: ToolOutcome
    calls: tuple[ToolCall, ...]


class RunCall(msgspec.Struct, frozen=True):
    """Run this function; `finished` wants the ticket."""

    ticket: int
    call: ToolCall


class StopCall(msgspec.Struct, frozen=True):
    """Nobody wants the result any more."""

    ticket: int


class TellByCallId(msgspec.Struct, frozen=True):
    """Answer the newest call in the provider's own way."""

    session: int
    parcel: Parcel


class TellByNote(msgspec.Struct, frozen=True):
    """Tell this session in words what its predecessors' calls returned; in order, in one turn."""

    session: int
    parcels: tuple[Parcel, ...]


class DropResult(msgspec.Struct, frozen=True):
    """No session took it in time."""

    parcel: Parcel


Order = RunCall | StopCall | TellByCallId | TellByNote | DropResult


class DeskStats(msgspec.Struct):
    delivered: int = 0
    """Results that went to the session that had asked, refused by its provider or not."""
    delivered_by_note: int = 0
    """Results that the next session was told in words, or the same one after a refusal."""
    adopted: int = 0
    """Calls of a lost session that its successor made again: one run, one result."""
    told_again: int = 0
    """Results given once more to a session that asked for what a note had just told it."""
    redelivered: int = 0
    """Results whose session was lost before its reply to them was complete: the next one was told."""
    duplicates: int = 0
    """Repetitions of a call id in one session, ignored."""
    cancelled: int = 0
    """Calls that the model took back: never answered."""
    discarded: int = 0
    """Results that came after their call was taken back."""
    refused: int = 0
    """Results that could not be sent to the session that had asked, or that the provider refused. Each is logged."""
    expired: int = 0
    """Results that no session took within `result_wait_s`, or before the call ended. Each is logged."""


class _Phase(Enum):
    RUNNING = "running"
    WAITING = "waiting"
    """For a session that can take the result."""
    TOLD = "told"
    """Sent; the reply to it is not complete."""


class _Errand(msgspec.Struct):
    """One run of a function, and everybody who asked for it."""

    ticket: int
    calls: list[ToolCall]
    """The newest is the one to answer."""
    session: int
    """Whose it is now; `_NOBODY`: whoever leads next is told in words."""
    since: float
    """When its phase began, s."""
    phase: _Phase = _Phase.RUNNING
    outcome: ToolOutcome | None = None
    noted: bool = False
    """Its session was told in words, and never called by itself."""
    doubtful: bool = False
    """It was sent before, to a session that was lost."""

    @property
    def call(self) -> ToolCall:
        return self.calls[-1]

    @property
    def parcel(self) -> Parcel:
        assert self.outcome is not None, "only a finished errand has something to tell"
        return Parcel(self.ticket, self.outcome, tuple(self.calls))


class ToolDesk:
    """The errands of one call. Full (256 results that wait, or whose fate is still watched): the oldest one is dropped,
    and counted in `expired` if nobody was told.

    Every method returns what to do, in order. A session that refuses an order because it has ended is `gone`: what it
    was to be told waits for the next.
    """

    def __init__(self, *, result_wait_s: float) -> None:
        self.stats = DeskStats()
        self._result_wait_s = result_wait_s
        self._errands: dict[int, _Errand] = {}
        """In the order in which their phase began, as far as it matters: results are told in this order."""
        self._keys: OrderedDict[tuple[int, str], int | None] = OrderedDict()
        """Calls with an id, by session; None: answered. Full: the oldest is forgotten."""
        self._living: set[int] = set()
        self._leader: int | None = None
        self._led_since = 0.0
        self._tickets = 0

    @property
    def open(self) -> int:
        """Calls that run, or whose result nobody has been told."""
        return sum(errand.phase in (_Phase.RUNNING, _Phase.WAITING) for errand in self._errands.values())

    # --------------------------------------------------------------------------------------------------- sessions

    def opened(self, session: int) -> None:
        """A session is ready."""
        self._living.add(session)

    def leads(self, session: int, now: float) -> None:
        """This session has the lead: notes are for it."""
        if session != self._leader:
            self._leader, self._led_since = session, now

    def gone(self, session: int, now: float) -> list[Order]:
        """This session takes no more results: it has ended, or will be closed soon. Twice does no harm."""
        self._living.discard(session)
        if self._leader == session:
            self._leader = None
        for errand in self._told_to(session):
            errand.doubtful = True
            self._wait(errand, now)
        for key in [key for key in self._keys if key[0] == session]:
            del self._keys[key]
        return self._bounded()

    def settled(self, session: int) -> None:
        """This session has made its reply to what it was told."""
        for errand in self._told_to(session):
            self._close(errand)

    # ------------------------------------------------------------------------------------------------------ calls

    def called(self, call: ToolCall, now: float) -> list[Order]:
        """The model asks for a function to be run."""
        if call.call_id and (call.session, call.call_id) in self._keys:
            self.stats.duplicates += 1
            return []
        errand = self._same(call)
        if errand is None:
            self._tickets += 1
            errand = self._errands[self._tickets] = _Errand(self._tickets, [call], call.session, now)
            self._remember(call.session, call, errand.ticket)
            return [RunCall(errand.ticket, call)]
        if errand.phase is _Phase.TOLD:
            self.stats.told_again += 1
            errand.doubtful = False
        else:
            self.stats.adopted += 1
        errand.calls.append(call)
        errand.session, errand.noted = call.session, False
        self._remember(call.session, call, errand.ticket)
        if errand.phase is not _Phase.RUNNING:
            self._wait(errand, now)
        return self._tell_owner(errand, now)

    def cancelled(self, session: int, call_ids: Iterable[str]) -> list[Order]:
        """The model takes these calls of a session back: they are never answered."""
        orders: list[Order] = []
        for call_id in call_ids:
            ticket = self._keys.get((session, call_id))
            errand = None if ticket is None else self._errands.get(ticket)
            if errand is None or errand.session != session or errand.call.call_id != call_id:
                continue
            if errand.phase is _Phase.RUNNING:
                orders.append(StopCall(errand.ticket))
            elif errand.phase is not _Phase.WAITING:
                continue  # too late: it is answered
            self.stats.cancelled += 1
            self._close(errand)
        return orders

    def finished(self, ticket: int, outcome: ToolOutcome, now: float) -> list[Order]:
        """The function has returned, or is given up."""
        errand = self._errands.get(ticket)
        if errand is None:
            self.stats.discarded += 1
            return []
        assert errand.phase is _Phase.RUNNING, "a function returns once"
        errand.outcome = outcome
        self._wait(errand, now)
        return [*self._tell_owner(errand, now), *self._bounded()]

    def not_told(self, order: TellByCallId | TellByNote, now: float) -> None:
        """The session had ended before the order could be carried out: call `gone`, too."""
        parcels = order.parcels if isinstance(order, TellByNote) else (order.parcel,)
        for parcel in parcels:
            errand = self._errands.get(parcel.ticket)
            if errand is None or errand.phase is not _Phase.TOLD:
                continue
            self.stats.redelivered -= errand.doubtful
            if isinstance(order, TellByNote):
                self.stats.delivered_by_note -= 1
            else:
                self.stats.delivered -= 1
            self._wait(errand, now)

    def refused(self, session: int, call_id: str, now: float) -> str:
        """The provider has refused what this session was told by id: the leader is to be told in words, which may well
        be the same session. Returns the function's name, empty when nothing is done about it."""
        errand = self._errands.get(self._keys.get((session, call_id)) or 0)
        if errand is None or errand.phase is not _Phase.TOLD or errand.session != session or errand.noted:
            return ""
        self.stats.refused += 1
        errand.session = _NOBODY
        self._wait(errand, now)
        return errand.call.name

    # ------------------------------------------------------------------------------------------------------- time

    def due(self, now: float, free: Callable[[], bool]) -> list[Order]:
        """What time makes due. `free`: nobody speaks and no reply is being made, so that a note cuts nobody short."""
        orders: list[Order] = []
        for errand in list(self._errands.values()):
            if errand.phase is _Phase.RUNNING or now < errand.since + self._result_wait_s:
                continue
            if errand.phase is _Phase.WAITING:
                orders.append(self._drop(errand))
            else:
                self._close(errand)  # a model need not say anything to a result
        leader = self._leader
        if leader is None:
            return orders
        ready = [errand for errand in self._for_a_note() if self._may_be_noted(errand, now, free)]
        if not ready:
            return orders
        for errand in ready:
            errand.session, errand.noted = leader, True
            self._told(errand, now)
            self.stats.delivered_by_note += 1
        return [*orders, TellByNote(leader, tuple(errand.parcel for errand in ready))]

    def deadline(self, now: float) -> float | None:
        """When to call `due` next."""
        times = [e.since + self._result_wait_s for e in self._errands.values() if e.phase is not _Phase.RUNNING]
        if self._leader is not None and self._for_a_note():
            times.append(max(self._led_since + _SETTLE_S, now + _LOOK_AGAIN_S))
        return min(times, default=None)

    def end(self) -> list[Order]:
        """The call is over: what waits is dropped, what runs is stopped."""
        orders: list[Order] = []
        for errand in list(self._errands.values()):
            if errand.phase is _Phase.RUNNING:
                orders.append(StopCall(errand.ticket))
                self._close(errand)
            elif errand.phase is _Phase.WAITING:
                orders.append(self._drop(errand))
            else:
                self._close(errand)
        return orders

    # ----------------------------------------------------------------------------------------------------- inside

    def _told_to(self, session: int) -> list[_Errand]:
        return [e for e in self._errands.values() if e.session == session and e.phase is _Phase.TOLD]

    def _same(self, call: ToolCall) -> _Errand | None:
        """An errand that this call asks for once more."""
        for errand in self._errands.values():
            if errand.call.name != call.name or errand.call.arguments != call.arguments:
                continue
            # One session that calls twice wants two runs, unless the first call was its predecessor's.
            if errand.session != call.session or errand.noted:
                return errand
        return None

    def _for_a_note(self) -> list[_Errand]:
        return [e for e in self._errands.values() if e.phase is _Phase.WAITING and e.session not in self._living]

    def _may_be_noted(self, errand: _Errand, now: float, free: Callable[[], bool]) -> bool:
        if now < self._led_since + _SETTLE_S:
            return False
        if now >= max(errand.since, self._led_since) + _PATIENCE_S:
            return True
        return free() and not self._has_running_sibling(errand)

    def _has_running_sibling(self, errand: _Errand) -> bool:
        """Another call of its batch still runs: the model meant to answer them together."""
        first = errand.calls[0]
        return bool(first.batch_id) and any(
            other.phase is _Phase.RUNNING
            and other.session not in self._living
            and other.calls[0].batch_id == first.batch_id
            for other in self._errands.values()
        )

    def _tell_owner(self, errand: _Errand, now: float) -> list[Order]:
        """By id, if its result is there and its session lives."""
        if errand.phase is not _Phase.WAITING or errand.session not in self._living:
            return []
        self.stats.delivered += 1
        self._told(errand, now)
        return [TellByCallId(errand.session, errand.parcel)]

    def _told(self, errand: _Errand, now: float) -> None:
        self.stats.redelivered += errand.doubtful
        errand.phase, errand.since = _Phase.TOLD, now

    def _wait(self, errand: _Errand, now: float) -> None:
        errand.phase, errand.since = _Phase.WAITING, now
        self._errands[errand.ticket] = self._errands.pop(errand.ticket)

    def _remember(self, session: int, call: ToolCall, ticket: int) -> None:
        if call.call_id:
            self._keys[session, call.call_id] = ticket
            if len(self._keys) > 4 * _KEPT:
                self._keys.popitem(last=False)

    def _bounded(self) -> list[Order]:
        ended = [errand for errand in self._errands.values() if errand.phase is not _Phase.RUNNING]
        orders: list[Order] = []
        for errand in ended[: max(0, len(ended) - _KEPT)]:
            if errand.phase is _Phase.WAITING:
                orders.append(self._drop(errand))
            else:
                self._close(errand)
        return orders

    def _drop(self, errand: _Errand) -> DropResult:
        self.stats.expired += 1
        self._close(errand)
        return DropResult(errand.parcel)

    def _close(self, errand: _Errand) -> None:
        del self._errands[errand.ticket]
        for call in errand.calls:
            key = call.session, call.call_id
            if key in self._keys:
                self._keys[key] = None
