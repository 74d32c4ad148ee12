"""Tool calls of a session: which wait for an answer, and when the model may go on.

A response may call several functions. Each call is answered by an item of its own; the model is asked to go on once,
after the response has ended and the last of its calls was answered.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

__all__ = ["ToolLedger", "output_text", "parse_arguments"]

_KEPT_BATCHES = 64
_MOST_OPEN = 256
"""Calls without an answer: only a server at fault makes more."""


class _Batch:
    __slots__ = ("ended", "latest", "open_calls", "respond")

    def __init__(self) -> None:
        self.open_calls: set[str] = set()
        self.ended = False
        """`response.done` came: no further call joins."""
        self.respond = False
        self.latest = ""
        """The call that was answered last."""


class ToolLedger:
    """Batches of calls, one for each response that calls tools. Full: the oldest batch is forgotten, or the oldest call
    that has no answer."""

    def __init__(self) -> None:
        self._batches: OrderedDict[str, _Batch] = OrderedDict()
        self._batch_of: dict[str, str] = {}
        self._answered: OrderedDict[str, None] = OrderedDict()
        self._sent: OrderedDict[str, str] = OrderedDict()
        """Calls by the message that carried their answer."""

    def called(self, reply_id: str, call_id: str) -> bool:
        """Note a call. False: it is known already, and must not be run twice."""
        if call_id in self._batch_of or call_id in self._answered:
            return False
        batch = self._batches.get(reply_id)
        if batch is None:
            batch = self._batches[reply_id] = _Batch()
            if len(self._batches) > _KEPT_BATCHES:
                _, oldest = self._batches.popitem(last=False)
                for lost in oldest.open_calls:
                    self._batch_of.pop(lost, None)
        if len(self._batch_of) >= _MOST_OPEN:
            lost, its_reply = next(iter(self._batch_of.items()))
            del self._batch_of[lost]
            self._batches[its_reply].open_calls.discard(lost)
        batch.open_calls.add(call_id)
        self._batch_of[call_id] = reply_id
        return True

    def is_answered(self, call_id: str) -> bool:
        """A second answer would be refused by the server."""
        return call_id in self._answered

    def answered(self, call_id: str, event_id: str, *, respond: bool) -> bool:
        """Note an answer, sent under this event id. True: ask the model to go on now. An unknown call is a batch of its
        own."""
        self._answered[call_id] = None
        if len(self._answered) > 16 * _KEPT_BATCHES:
            self._answered.popitem(last=False)
        self._sent[event_id] = call_id
        if len(self._sent) > _KEPT_BATCHES:
            self._sent.popitem(last=False)
        reply_id = self._batch_of.pop(call_id, None)
        if reply_id is None:
            return respond
        batch = self._batches[reply_id]
        batch.open_calls.discard(call_id)
        batch.respond = batch.respond or respond
        batch.latest = call_id
        return self._settle(reply_id, batch)

    def refused(self, event_id: str | None) -> str:
        """The server refused this message: the call whose answer it carried, empty for any other."""
        return self._sent.pop(event_id or "", "")

    def response_ended(self, reply_id: str) -> str | None:
        """`response.done`. The call that was answered last, if all of its calls are: ask the model to go on."""
        batch = self._batches.get(reply_id)
        if batch is None:
            return None
        batch.ended = True
        return batch.latest if self._settle(reply_id, batch) else None

    def _settle(self, reply_id: str, batch: _Batch) -> bool:
        if batch.open_calls or not batch.ended:
            return False
        del self._batches[reply_id]
        return batch.respond


def parse_arguments(text: str) -> dict[str, Any] | None:
    """The arguments object; None when the model wrote something else. No text at all means no arguments."""
    if not text.strip():
        return {}
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def output_text(result: dict[str, Any] | str, *, error: bool) -> str:
    """What goes into `function_call_output.output`, which is a string: objects are JSON, a failure says so."""
    if error:
        return msgspec.json.encode({"error": result}).decode()
    return result if isinstance(result, str) else msgspec.json.encode(result).decode()
