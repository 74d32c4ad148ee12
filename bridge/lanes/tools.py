"""Runs the model's tool calls in the control lane: each in its own task, with a timeout, cancellable, never in the way
of a frame."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from bridge.core.tool import Tool, ToolError
from bridge.lanes.threads import Threads
from providers.contract import ToolCall

__all__ = ["ToolOutcome", "ToolRunner", "ToolStats"]

log = logging.getLogger(__name__)

_LARGEST_RESULT = 256 * 1024
"""Bytes of JSON. More would fill a model's context, and its encoding would hold up frames."""


class ToolOutcome(msgspec.Struct, frozen=True):
    """What the model is told about one call."""

    call: ToolCall
    result: dict[str, Any] | str
    error: bool = False


class ToolStats(msgspec.Struct):
    tool_calls: int = 0
    tool_failures: int = 0
    """Unknown name, wrong arguments, or an exception."""
    tool_timeouts: int = 0
    tools_cancelled: int = 0
    tools_refused_busy: int = 0
    """More calls at once than `max_parallel_tools`, threads that were given up included."""
    tool_threads_left: int = 0
    """Sync functions that still ran when their call timed out or was cancelled: a thread cannot be stopped."""


class ToolRunner:
    """The tools of one call. Full (`max_parallel`): the call is answered at once with an error, and counted.

    `answer` is called in the loop with each outcome, except for cancelled calls, which are never answered.
    """

    def __init__(
        self,
        tools: Mapping[str, Tool],
        answer: Callable[[ToolOutcome], None],
        *,
        timeout_s: float,
        max_parallel: int,
    ) -> None:
        self.stats = ToolStats()
        self._tools = tools
        self._answer = answer
        self._timeout_s = timeout_s
        self._max_parallel = max_parallel
        self._running: dict[tuple[int, str], asyncio.Task[None]] = {}
        self._unnamed = 0
        self._threads = Threads()

    @property
    def running(self) -> int:
        return len(self._running)

    def run(self, call: ToolCall, group: asyncio.TaskGroup) -> None:
        """Start one call. A second call with the id of a running one is a repetition and is ignored."""
        key = (call.session, call.call_id or self._private_id(call))
        if key in self._running:
            return
        self.stats.tool_calls += 1
        tool = self._tools.get(call.name)
        threaded = tool is not None and not tool.is_async
        if len(self._running) >= self._max_parallel or (threaded and self._threads.busy >= self._max_parallel):
            self.stats.tools_refused_busy += 1
            self._answer(ToolOutcome(call, "too many tools are running; try again when one has finished", error=True))
            return
        task = group.create_task(self._run(call), name=f"tool:{call.name}:{key[1]}")
        self._running[key] = task
        task.add_done_callback(functools.partial(self._ended, key))

    def cancel(self, session: int, call_ids: Iterable[str]) -> None:
        """Stop these calls of a session. A sync function's thread cannot be stopped; its result is thrown away."""
        for call_id in call_ids:
            self._cancel((session, call_id))

    def cancel_all(self, session: int | None = None) -> None:
        """Stop every call, or every call of one session that is gone."""
        for key in [key for key in self._running if session is None or key[0] == session]:
            self._cancel(key)

    def _cancel(self, key: tuple[int, str]) -> None:
        task = self._running.pop(key, None)
        if task is not None and task.cancel():
            self.stats.tools_cancelled += 1

    def _ended(self, key: tuple[int, str], task: asyncio.Task[None]) -> None:
        # A cancelled call may end after another one with its id has begun.
        if self._running.get(key) is task:
            del self._running[key]

    def _private_id(self, call: ToolCall) -> str:
        # Vertex calls may come without an id: two of the same name at once are still two calls.
        self._unnamed += 1
        return f"{call.name}#{self._unnamed}"

    async def _run(self, call: ToolCall) -> None:
        tool = self._tools.get(call.name)
        if tool is None:
            self.stats.tool_failures += 1
            self._answer(ToolOutcome(call, f"there is no tool named {call.name}", error=True))
            return
        timeout_s = tool.timeout_s or self._timeout_s
        limit = asyncio.timeout(timeout_s)
        task = asyncio.current_task()
        assert task is not None, "runs in a task of the group"
        try:
            async with limit:
                result = await self._call(tool, tool.bind(call.arguments))
            outcome = ToolOutcome(call, result)
        except ToolError as problem:
            self.stats.tool_failures += 1
            outcome = ToolOutcome(call, _text(str(problem)), error=True)
        except asyncio.CancelledError:
            if task.cancelling():
                raise
            # Not we: something that the tool waited for was cancelled. The model still waits for an answer.
            outcome = self._failed(call)
        except (Exception, SystemExit):
            if limit.expired():
                self.stats.tool_timeouts += 1
                outcome = ToolOutcome(call, f"{call.name} did not finish within {timeout_s:g} s", error=True)
            else:
                outcome = self._failed(call)
        if not task.cancelling():  # a tool may have swallowed it
            self._answer(outcome)

    async def _call(self, tool: Tool, arguments: dict[str, Any]) -> dict[str, Any] | str:
        if tool.is_async:
            return _plain(await tool.function(**arguments))

        def function(**arguments: Any) -> dict[str, Any] | str:
            return _plain(tool.function(**arguments))  # encoding a large result is the thread's work too

        try:
            result: dict[str, Any] | str = await self._threads.call(function, arguments, f"tool:{tool.spec.name}")
            return result
        finally:
            self.stats.tool_threads_left = self._threads.left

    def _failed(self, call: ToolCall) -> ToolOutcome:
        # The application's code: whatever it raises must not end the call, and its text may hold secrets, so the model
        # is only told that it failed.
        self.stats.tool_failures += 1
        log.exception("tool failed name=%s", call.name)
        return ToolOutcome(call, "the tool failed", error=True)


def _plain(result: Any) -> dict[str, Any] | str:
    """A result as what JSON can say: objects stay objects, everything else is wrapped or turned into text.

    Raises: ToolError where it is too large; what msgspec raises for what has no JSON.
    """
    # There and back: whoever writes it on a wire later meets nothing that JSON does not have.
    encoded = msgspec.json.encode(result)
    if len(encoded) > _LARGEST_RESULT:
        raise ToolError(f"the result is too large: {len(encoded)} bytes of JSON, {_LARGEST_RESULT} at most")
    plain = msgspec.json.decode(encoded)
    if isinstance(plain, dict):
        return plain or {"result": "done"}
    if plain is None:
        return {"result": "done"}
    return plain if isinstance(plain, str) and plain else {"result": plain}


def _text(said: str) -> str:
    return said.encode("utf-8", "replace").decode()
