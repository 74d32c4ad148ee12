"""Runs the model's tool calls in the control lane: each in its own task, with a timeout, cancellable, never in the way
of a frame."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from bridge.core.tool import Tool, ToolError
from bridge.lanes.threads import Threads
from bridge.lanes.tool_desk import ToolOutcome
from providers.contract import ToolCall

__all__ = ["ToolRunner", "ToolStats"]

log = logging.getLogger(__name__)

_LARGEST_RESULT = 256 * 1024
"""Bytes of JSON. More would fill a model's context, and its encoding would hold up frames."""
_CLEANUP_S = 2.0
"""An async tool that was cancelled may clean up for so long. One that takes longer, or will not end at all, is left
behind: it must not keep the call from ending."""


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
    tool_tasks_left: int = 0
    """Async functions that did not end within 2 s of being cancelled. Each is logged by its name."""
    tool_results_discarded: int = 0
    """Functions that returned after they were cancelled or had timed out."""


class ToolRunner:
    """Runs the functions of one call. Full (`max_parallel`): the call is answered at once with an error, and counted.

    `answer` is called in the loop with the ticket and the outcome of each, except for those that were cancelled.
    """

    def __init__(
        self,
        tools: Mapping[str, Tool],
        answer: Callable[[int, ToolOutcome], None],
        *,
        timeout_s: float,
        max_parallel: int,
    ) -> None:
        self.stats = ToolStats()
        self._tools = tools
        self._answer = answer
        self._timeout_s = timeout_s
        self._max_parallel = max_parallel
        self._running: dict[int, asyncio.Task[None]] = {}
        self._left: set[asyncio.Task[Any]] = set()
        """Async functions that would not end. They count as running: whoever ignores us may not fill the loop."""
        self._threads = Threads(self._came_late)

    @property
    def running(self) -> int:
        return len(self._running)

    def run(self, ticket: int, call: ToolCall, group: asyncio.TaskGroup) -> None:
        """Start one function. Tickets are the caller's, each used once."""
        self.stats.tool_calls += 1
        tool = self._tools.get(call.name)
        threaded = tool is not None and not tool.is_async
        busy = len(self._running) + len(self._left)
        if busy >= self._max_parallel or (threaded and self._threads.busy >= self._max_parallel):
            self.stats.tools_refused_busy += 1
            told = "too many tools are running; try again when one has finished"
            self._answer(ticket, ToolOutcome(call, told, error=True))
            return
        task = group.create_task(self._run(ticket, call), name=f"tool:{call.name}:{call.call_id or ticket}")
        self._running[ticket] = task
        task.add_done_callback(lambda _: self._running.pop(ticket, None))

    def cancel(self, ticket: int) -> None:
        """Stop this one. A sync function's thread cannot be stopped; its result is thrown away."""
        task = self._running.pop(ticket, None)
        if task is not None and task.cancel():
            self.stats.tools_cancelled += 1

    def cancel_all(self) -> None:
        """The call ends."""
        for ticket in list(self._running):
            self.cancel(ticket)

    async def _run(self, ticket: int, call: ToolCall) -> None:
        tool = self._tools.get(call.name)
        if tool is None:
            self.stats.tool_failures += 1
            self._answer(ticket, ToolOutcome(call, f"there is no tool named {call.name}", error=True))
            return
        timeout_s = tool.timeout_s or self._timeout_s
        task = asyncio.current_task()
        assert task is not None, "runs in a task of the group"
        try:
            arguments = tool.bind(call.arguments)
            if tool.is_async:
                outcome = ToolOutcome(call, await self._in_loop(tool, arguments, timeout_s))
            else:
                outcome = ToolOutcome(call, await self._in_thread(tool, arguments, timeout_s))
        except ToolError as problem:
            self.stats.tool_failures += 1
            outcome = ToolOutcome(call, _text(str(problem)), error=True)
        except _TooLate:
            self.stats.tool_timeouts += 1
            outcome = ToolOutcome(call, f"{call.name} did not finish within {timeout_s:g} s", error=True)
        except asyncio.CancelledError:
            if task.cancelling():
                raise
            # Not we: something that the tool waited for was cancelled. The model still waits for an answer.
            outcome = self._failed(call)
        except Exception:
            outcome = self._failed(call)
        self._answer(ticket, outcome)

    async def _in_loop(self, tool: Tool, arguments: dict[str, Any], timeout_s: float) -> dict[str, Any] | str:
        # A task of its own, not of the group: a function that swallows its cancellation would keep the group, and with
        # it the call, from ending. It is waited for here, or kept in `_left`.
        loop = asyncio.get_running_loop()
        work = loop.create_task(_awaited(tool, arguments), name=f"tool:{tool.spec.name}:function")
        try:
            await asyncio.wait({work}, timeout=timeout_s)
            if work.done():
                return work.result()
        except asyncio.CancelledError:
            await self._end(work, tool.spec.name)
            raise
        await self._end(work, tool.spec.name)
        raise _TooLate

    async def _end(self, work: asyncio.Task[Any], name: str) -> None:
        """Cancel it, and wait for its cleanup; not for ever."""
        work.cancel()
        try:
            await asyncio.wait({work}, timeout=_CLEANUP_S)
        finally:
            if work.done():
                self._discard(work)
            else:
                self.stats.tool_tasks_left += 1
                log.error("tool ignores its cancellation and is left behind name=%s", name)
                self._left.add(work)
                work.add_done_callback(self._discard)

    def _discard(self, work: asyncio.Task[Any]) -> None:
        """Nobody waits for it any more; asyncio need not complain of an error that nobody asked for."""
        self._left.discard(work)
        if not work.cancelled() and work.exception() is None:
            self._came_late()

    def _came_late(self) -> None:
        self.stats.tool_results_discarded += 1

    async def _in_thread(self, tool: Tool, arguments: dict[str, Any], timeout_s: float) -> dict[str, Any] | str:
        def function(**arguments: Any) -> dict[str, Any] | str:
            return _plain(tool.function(**arguments))  # encoding a large result is the thread's work too

        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                result: dict[str, Any] | str = await self._threads.call(function, arguments, f"tool:{tool.spec.name}")
                return result
        except TimeoutError:
            if limit.expired():
                raise _TooLate from None
            raise  # the function's own
        finally:
            self.stats.tool_threads_left = self._threads.left

    def _failed(self, call: ToolCall) -> ToolOutcome:
        # The application's code: whatever it raises must not end the call, and its text may hold secrets, so the model
        # is only told that it failed.
        self.stats.tool_failures += 1
        log.exception("tool failed name=%s", call.name)
        return ToolOutcome(call, "the tool failed", error=True)


class _TooLate(Exception):
    """The function took longer than it may."""


async def _awaited(tool: Tool, arguments: dict[str, Any]) -> dict[str, Any] | str:
    try:
        return _plain(await tool.function(**arguments))
    except SystemExit as left:
        # In a task of its own it would end the loop.
        raise RuntimeError("it raised SystemExit") from left


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
