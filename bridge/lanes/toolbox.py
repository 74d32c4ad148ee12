"""The tools of one call: runs what the model asks for, and sees to it that each result reaches a session once."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import msgspec

from bridge.core.tool import Tool
from bridge.core.words import ToolAnswered
from bridge.lanes.settings import CallSettings
from bridge.lanes.tool_desk import (
    DropResult,
    Order,
    Parcel,
    RunCall,
    StopCall,
    TellByCallId,
    TellByNote,
    ToolDesk,
    ToolOutcome,
)
from bridge.lanes.tools import ToolRunner
from providers.contract import ModelSession, ToolCall
from providers.errors import ProviderError, SessionEnded

__all__ = ["Toolbox"]

log = logging.getLogger(__name__)

_PLACES = re.compile(r"\{(name|arguments|result)\}")


class Toolbox:
    """Joins a `ToolDesk`, which decides, to a `ToolRunner`, which runs, and to the sessions of the call.

    Args: `session` finds an open session by its number; `answered` is told of each call that is over, after the model;
    `free` says whether a note would cut anybody short.
    """

    def __init__(
        self,
        tools: Mapping[str, Tool],
        settings: CallSettings,
        *,
        name: str,
        session: Callable[[int], ModelSession | None],
        answered: Callable[[ToolAnswered], None],
        free: Callable[[], bool],
    ) -> None:
        self.desk = ToolDesk(result_wait_s=settings.result_wait_s)
        self.runner = ToolRunner(
            tools, self._finished, timeout_s=settings.tool_timeout_s, max_parallel=settings.max_parallel_tools
        )
        self._note = settings.tool_note
        self._name = name
        self._session = session
        self._answered = answered
        self._free = free
        self._group: asyncio.TaskGroup | None = None
        self._orders: deque[Order] = deque()
        self._at_work = False
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    # ------------------------------------------------------------------------------------------- what the call does

    def start(self, group: asyncio.TaskGroup) -> None:
        """The group owns every task from now on."""
        self._group = group

    def opened(self, session: int) -> None:
        """A session is ready."""
        self.desk.opened(session)

    def leads(self, session: int) -> None:
        """This session leads."""
        self.desk.leads(session, self._now())
        self._do([])

    def gone(self, session: int) -> None:
        """This session has ended, or will be closed soon: what it was not told goes to the one that leads next."""
        if not self._ended:
            self._do(self.desk.gone(session, self._now()))

    def called(self, call: ToolCall) -> None:
        """The model asks for a function."""
        self._do(self.desk.called(call, self._now()))

    def cancelled(self, session: int, call_ids: Iterable[str]) -> None:
        """The model takes calls back."""
        self._do(self.desk.cancelled(session, call_ids))

    def settled(self, session: int) -> None:
        """This session has made its reply to the results that it was told."""
        self.desk.settled(session)

    def refused(self, session: int, call_id: str) -> None:
        """The provider has not taken the result of this call."""
        name = "" if self._ended else self.desk.refused(session, call_id, self._now())
        if name:
            log.error("tool result refused, told in words call=%s session=%d tool=%s", self._name, session, name)
            self._do([])

    def close(self) -> None:
        """The call is over: stop what runs, drop what waits."""
        if not self._ended:
            self._ended = True
            self._do(self.desk.end())
        self.runner.cancel_all()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------------------------------------------------ workings

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _finished(self, ticket: int, outcome: ToolOutcome) -> None:
        if not self._ended:
            self._do(self.desk.finished(ticket, outcome, self._now()))

    def _do(self, orders: list[Order]) -> None:
        """Carry them out, and what they lead to, one after the other."""
        self._orders.extend(orders)
        if self._at_work:
            return
        self._at_work = True
        try:
            while True:
                while self._orders:
                    self._carry_out(self._orders.popleft())
                self._orders.extend(self.desk.due(self._now(), self._free))
                if not self._orders:
                    break
        finally:
            self._at_work = False
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self.desk.deadline(self._now())
        if at is not None and not self._ended:
            self._timer = asyncio.get_running_loop().call_at(at, self._do, [])

    def _carry_out(self, order: Order) -> None:
        match order:
            case RunCall(ticket=ticket, call=call):
                assert self._group is not None, "tools run after start()"
                self.runner.run(ticket, call, self._group)
            case StopCall(ticket=ticket):
                self.runner.cancel(ticket)
            case TellByCallId(session=number, parcel=parcel):
                call, outcome = parcel.calls[-1], parcel.outcome

                def by_id(session: ModelSession) -> None:
                    session.send_tool_result(call.call_id, call.name, outcome.result, error=outcome.error)

                self._tell(order, number, (parcel,), by_id)
            case TellByNote(session=number, parcels=parcels):
                text = "\n".join(self._in_words(parcel.outcome) for parcel in parcels)

                def by_note(session: ModelSession) -> None:
                    if session.capabilities.text_input:
                        session.send_text(text)
                    else:
                        session.respond(text)

                self._tell(order, number, parcels, by_note)
            case DropResult(parcel=parcel):
                log.warning(
                    "tool result dropped, no session took it call=%s tool=%s", self._name, parcel.calls[-1].name
                )
                self._settle(parcel, told=False)

    def _tell(
        self,
        order: TellByCallId | TellByNote,
        number: int,
        parcels: tuple[Parcel, ...],
        tell: Callable[[ModelSession], None],
    ) -> None:
        session = self._session(number)
        told = True
        try:
            if session is None:
                raise SessionEnded(f"session {number} is gone")
            tell(session)
        except SessionEnded:
            # Between the decision and the deed; its Closed event follows.
            now = self._now()
            self.desk.not_told(order, now)
            self._orders.extend(self.desk.gone(number, now))
            return
        except ProviderError as refused:
            told = False
            self.desk.stats.refused += len(parcels)
            names = ",".join(parcel.calls[-1].name for parcel in parcels)
            log.error("tool result refused call=%s session=%d tools=%s: %s", self._name, number, names, refused)
        for parcel in parcels:
            self._settle(parcel, told=told)

    def _settle(self, parcel: Parcel, *, told: bool) -> None:
        if self._ended:
            return
        outcome = parcel.outcome
        text = _as_text(outcome)
        for call in parcel.calls:
            self._answered(ToolAnswered(call.call_id, call.name, text, outcome.error, session=call.session, told=told))

    def _in_words(self, outcome: ToolOutcome) -> str:
        call = outcome.call
        said = {
            "name": call.name,
            "arguments": msgspec.json.encode(call.arguments).decode(),
            "result": f"an error: {_as_text(outcome)}" if outcome.error else _as_text(outcome),
        }
        # In one pass: what a tool returned may hold braces of its own.
        return _PLACES.sub(lambda place: said[place[1]], self._note)


def _as_text(outcome: ToolOutcome) -> str:
    return outcome.result if isinstance(outcome.result, str) else msgspec.json.encode(outcome.result).decode()
