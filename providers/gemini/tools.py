"""Tool calls of one session: which are open, which are dead, and what an answer looks like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from providers.contract import SessionEvent, ToolCall, ToolCallCancelled, ToolSpec, WarningReported
from providers.gemini.rules import Backend, ModelRules
from providers.gemini.wire import FunctionCall, PartialArg

__all__ = ["ToolLedger"]

# Never empty: an answer that says nothing makes 3.8 models call the tool again.
_NOTHING_RETURNED = "The call succeeded and returned nothing."
_NOTHING_SAID = "The call failed."
_PATH_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,9})\]|\['([^']*)'\]")
_MAX_STEPS = 64
_MAX_HOLE = 64
"""Arguments are streamed in order, so an index leaves few places out. Without a bound a short path could ask for any
amount of memory."""
_MAX_GROWING = 64
_MAX_OPEN = 256


class _Open(msgspec.Struct):
    call_id: str
    name: str
    batch: str
    blocking: bool
    answer: dict[str, Any] | None = None


class _Growing(msgspec.Struct):
    call_id: str
    name: str
    arguments: dict[str, Any]


class ToolLedger:
    """Open calls by batch. A blocking batch is answered in one message, a non-blocking call at once."""

    def __init__(
        self,
        session: int,
        rules: ModelRules,
        backend: Backend,
        tools: Sequence[ToolSpec],
        scheduling: str | None,
    ) -> None:
        self._session = session
        self._rules = rules
        self._backend = backend
        self._scheduling = scheduling
        self._open: list[_Open] = []
        """Full: the oldest is forgotten, and a warning says so."""
        self._growing: dict[str, _Growing] = {}
        """Calls whose arguments are still coming, by id. Full: the oldest is forgotten."""
        self._batches = 0
        self.declare(tools)

    def declare(self, tools: Sequence[ToolSpec]) -> None:
        """From now on these functions are known."""
        self._blocking = {tool.name: self._rules.blocks(tool.blocking) for tool in tools}

    @property
    def waiting(self) -> bool:
        """Does the model wait for an answer?"""
        return any(call.blocking for call in self._open)

    def called(self, calls: Sequence[FunctionCall], reply_id: str | None) -> list[SessionEvent]:
        """The events of one `toolCall` message."""
        self._batches += 1
        batch = f"{self._session}.b{self._batches}"
        events: list[SessionEvent] = []
        for call in calls:
            whole = self._whole(call)
            if whole is None:
                continue  # streamed arguments: more to come
            call_id, name, arguments = whole
            if not name:
                events.append(self._warning("malformed_message", "a tool call has no name"))
                continue
            if call_id and any(call_id == known.call_id for known in self._open):
                # A frame that came twice. The copy would never be answered, and would look like work for ever.
                events.append(self._warning("tool_call_repeated", f"the call {call_id[:80]} of {name[:80]} came twice"))
                continue
            if len(self._open) >= _MAX_OPEN:
                lost = self._open.pop(0)
                said = f"{_MAX_OPEN} calls wait for answers: the oldest, of {lost.name[:80]}, is given up"
                events.append(self._warning("tool_call_forgotten", said))
            blocking = self._blocking.get(name, self._rules.blocking_by_default)
            self._open.append(_Open(call_id=call_id, name=name, batch=batch, blocking=blocking))
            events.append(
                ToolCall(
                    session=self._session,
                    call_id=call_id,
                    name=name,
                    arguments=arguments,
                    reply_id=reply_id,
                    batch_id=batch,
                )
            )
        return events

    def cancelled(self, ids: Sequence[str]) -> tuple[list[SessionEvent], list[dict[str, Any]]]:
        """The event of a `toolCallCancellation`, and the answers that only waited for these calls."""
        dead = set(ids)
        batches = {call.batch for call in self._open if call.call_id in dead}
        self._open = [call for call in self._open if call.call_id not in dead]
        messages = [message for batch in sorted(batches) for message in self._complete(batch)]
        return [ToolCallCancelled(session=self._session, call_ids=tuple(ids))], messages

    def answer(
        self, call_id: str, name: str, result: dict[str, Any] | str, *, error: bool, respond: bool
    ) -> tuple[list[dict[str, Any]], str]:
        """Messages to send now, and why nothing may ever be sent for this call (empty when it may).

        A call that is cancelled, answered or from another session is never answered: the service closes 1007 on some.
        """
        call = next((call for call in self._open if self._is(call, call_id, name)), None)
        if call is None:
            return [], f"no open call {call_id or name!r}: it was cancelled, answered before, or never made"
        key, empty = ("error", _NOTHING_SAID) if error else ("output", _NOTHING_RETURNED)
        answer: dict[str, Any] = {"name": call.name, "response": {key: result or empty}}
        if call.call_id:
            answer["id"] = call.call_id
        scheduling = self._schedule(call, respond)
        if scheduling:
            answer["scheduling"] = scheduling
        if not call.blocking:
            self._open.remove(call)
            return [{"toolResponse": {"functionResponses": [answer]}}], ""
        call.answer = answer
        return self._complete(call.batch), ""

    def _warning(self, code: str, text: str) -> WarningReported:
        return WarningReported(session=self._session, code=code, message=text)

    def _is(self, call: _Open, call_id: str, name: str) -> bool:
        if call.answer is not None:
            return False
        return call.call_id == call_id if call_id else not call.call_id and call.name == name

    def _complete(self, batch: str) -> list[dict[str, Any]]:
        members = [call for call in self._open if call.batch == batch and call.blocking]
        answers = [call.answer for call in members if call.answer is not None]
        if not answers or len(answers) < len(members):
            return []
        self._open = [call for call in self._open if call not in members]
        return [{"toolResponse": {"functionResponses": answers}}]

    def _schedule(self, call: _Open, respond: bool) -> str:
        if call.blocking or not self._rules.scheduling:
            return ""
        if self._backend is Backend.VERTEX and self._scheduling is None:
            return ""  # whether Vertex takes the field is not documented
        if not respond:
            return "SILENT"
        return (self._scheduling or "").upper()

    def _whole(self, call: FunctionCall) -> tuple[str, str, dict[str, Any]] | None:
        """Id, name and arguments; None while more of them are to come."""
        key = call.id or call.name or ""
        if not key and self._growing:
            key = next(reversed(self._growing))  # only the first piece need say whose it is
        grown = self._growing.pop(key, None) or _Growing(call.id or "", call.name or "", {})
        for piece in call.partial_args or ():
            _put(grown.arguments, piece)
        if call.will_continue:
            self._growing[key] = grown
            if len(self._growing) > _MAX_GROWING:
                del self._growing[next(iter(self._growing))]
            return None
        return grown.call_id or call.id or "", call.name or grown.name, {**grown.arguments, **(call.args or {})}


def _put(arguments: dict[str, Any], piece: PartialArg) -> None:
    """Write a streamed piece at its JSON path; strings grow. A path that cannot be followed is left out."""
    steps = [int(index) if index else name or quoted for name, index, quoted in _PATH_STEP.findall(piece.json_path)]
    if not steps or not isinstance(steps[0], str) or len(steps) > _MAX_STEPS:
        return
    node: Any = arguments
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(node, list) and isinstance(step, int) and step <= len(node) + _MAX_HOLE:
            node.extend([None] * (step + 1 - len(node)))
        elif not (isinstance(node, dict) and isinstance(step, str)):
            return
        held = node.get(step) if isinstance(node, dict) else node[step]
        if following is None:
            node[step] = _value(piece, held)
        else:
            if held is None:
                held = node[step] = [] if isinstance(following, int) else {}
            node = held


def _value(piece: PartialArg, held: Any) -> Any:
    if piece.string_value is not None:
        return held + piece.string_value if isinstance(held, str) else piece.string_value
    return piece.number_value if piece.number_value is not None else piece.bool_value
