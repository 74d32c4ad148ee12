"""Functions run beside the audio: bounded, cancellable, and each has an outcome unless it was cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from bridge.core.tool import Tool, ToolError
from bridge.lanes import tools
from bridge.lanes.tool_desk import ToolOutcome
from bridge.lanes.tools import ToolRunner
from providers.contract import ToolCall


class Answers(list[ToolOutcome]):
    """Collects outcomes."""


class Runner:
    """A runner whose tickets are counted for the test."""

    def __init__(self, answers: Answers, by_name: dict[str, Tool], timeout_s: float, max_parallel: int) -> None:
        self.real = ToolRunner(
            by_name, lambda _, outcome: answers.append(outcome), timeout_s=timeout_s, max_parallel=max_parallel
        )
        self.stats = self.real.stats
        self._tickets = 0

    def run(self, group: asyncio.TaskGroup, name: str, call_id: str = "c1", **arguments: Any) -> int:
        """Returns the ticket."""
        self._tickets += 1
        self.real.run(self._tickets, ToolCall(session=1, call_id=call_id, name=name, arguments=arguments), group)
        return self._tickets


def a_runner(answers: Answers, *functions: Any, timeout_s: float = 5, max_parallel: int = 4) -> Runner:
    by_name = {function.__name__: Tool.from_function(function) for function in functions}
    return Runner(answers, by_name, timeout_s, max_parallel)


async def test_sync_and_async_results_reach_the_model() -> None:
    def add(a: int, b: int) -> int:
        return a + b

    async def place() -> dict[str, str]:
        return {"city": "Lyon"}

    answers = Answers()
    runner = a_runner(answers, add, place)
    async with asyncio.TaskGroup() as group:
        runner.run(group, "add", "c1", a=1, b=2)
        runner.run(group, "place", "c2")
    assert {outcome.call.call_id: outcome.result for outcome in answers} == {
        "c1": {"result": 3},
        "c2": {"city": "Lyon"},
    }


async def test_a_tool_that_blocks_its_thread_does_not_stop_the_loop() -> None:
    def slow() -> str:
        time.sleep(0.2)  # a blocking library, as applications have them
        return "done"

    answers = Answers()
    runner = a_runner(answers, slow)
    turns = 0
    async with asyncio.TaskGroup() as group:
        runner.run(group, "slow")
        while not answers:
            await asyncio.sleep(0.01)
            turns += 1
    assert turns >= 5
    assert answers[0].result == "done"


async def test_a_tool_that_takes_too_long_is_answered_with_an_error() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    answers = Answers()
    runner = a_runner(answers, stuck, timeout_s=0.05)
    async with asyncio.TaskGroup() as group:
        runner.run(group, "stuck")
    assert answers[0].error
    assert "did not finish within 0.05 s" in str(answers[0].result)
    assert runner.stats.tool_timeouts == 1


async def test_a_failure_keeps_its_text_from_the_model_unless_it_is_meant_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> None:
        raise RuntimeError("password=hunter2")

    def clumsy() -> None:
        raise TimeoutError("its own")

    def polite() -> None:
        raise ToolError("no table is free at eight")

    answers = Answers()
    runner = a_runner(answers, broken, clumsy, polite)
    async with asyncio.TaskGroup() as group:
        for name in ("broken", "clumsy", "polite"):
            runner.run(group, name, name)
    told = {outcome.call.name: outcome.result for outcome in answers}
    assert told == {"broken": "the tool failed", "clumsy": "the tool failed", "polite": "no table is free at eight"}
    assert all(outcome.error for outcome in answers)
    assert runner.stats.tool_failures == 3
    assert "tool failed name=broken" in caplog.text


async def test_a_cancelled_call_is_never_answered() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    answers = Answers()
    runner = a_runner(answers, stuck)
    async with asyncio.TaskGroup() as group:
        first = runner.run(group, "stuck", "c1")
        runner.run(group, "stuck", "c2")
        await asyncio.sleep(0)
        runner.real.cancel(first)
        runner.real.cancel(first + 100)
        runner.real.cancel_all()
    assert answers == []
    assert runner.stats.tools_cancelled == 2
    assert runner.real.running == 0


async def test_beyond_the_bound_calls_are_refused_and_counted() -> None:
    async def note() -> None: ...

    answers = Answers()
    runner = a_runner(answers, note, max_parallel=1)
    async with asyncio.TaskGroup() as group:
        runner.run(group, "note", "c1")
        runner.run(group, "note", "c2")
    assert [outcome.error for outcome in answers] == [True, False]
    assert runner.stats.tools_refused_busy == 1


async def test_an_unknown_tool_is_answered_so_that_the_model_goes_on() -> None:
    answers = Answers()
    runner = a_runner(answers)
    async with asyncio.TaskGroup() as group:
        runner.run(group, "nothing")
    assert answers[0].error
    assert "no tool named nothing" in str(answers[0].result)


async def test_an_empty_result_still_tells_the_model_something() -> None:
    def quiet() -> None: ...

    def empty() -> dict[str, str]:
        return {}

    answers = Answers()
    runner = a_runner(answers, quiet, empty)
    async with asyncio.TaskGroup() as group:
        runner.run(group, "quiet", "c1")
        runner.run(group, "empty", "c2")
    assert [outcome.result for outcome in answers] == [{"result": "done"}] * 2


async def test_a_result_without_json_is_a_failed_tool_and_not_the_end_of_the_call() -> None:
    def keys() -> dict[Any, Any]:
        return {"seats": {(1, 2): "free"}}

    def torn() -> str:
        return "half a character: \ud83d"

    def whole() -> dict[Any, Any]:
        return {1: float("nan")}

    async def huge() -> str:
        return "a" * 1_000_000

    def complaint() -> None:
        raise ToolError("no such name: \ud83d")

    answers = Answers()
    runner = a_runner(answers, keys, torn, whole, huge, complaint, max_parallel=8)
    async with asyncio.TaskGroup() as group:
        for name in ("keys", "torn", "whole", "huge", "complaint"):
            runner.run(group, name, name)
    told = {outcome.call.name: outcome.result for outcome in answers}
    assert told["keys"] == told["torn"] == "the tool failed"
    assert told["whole"] == {"1": None}
    assert "too large: 1000002 bytes" in str(told["huge"])
    assert told["complaint"] == "no such name: ?"


async def test_a_tool_that_exits_or_cancels_itself_is_answered_all_the_same() -> None:
    async def cancels() -> None:
        raise asyncio.CancelledError

    async def leaves() -> None:
        raise SystemExit(3)

    def leaves_its_thread() -> None:
        raise SystemExit(3)

    def stops() -> None:
        raise StopIteration

    answers = Answers()
    runner = a_runner(answers, cancels, leaves, leaves_its_thread, stops)
    async with asyncio.TaskGroup() as group:
        for name in ("cancels", "leaves", "leaves_its_thread", "stops"):
            runner.run(group, name, name)
    assert [outcome.result for outcome in answers] == ["the tool failed"] * 4


async def test_a_tool_that_swallows_its_cancellation_is_not_answered() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "here I am"
        return "never"

    answers = Answers()
    runner = a_runner(answers, stubborn)
    async with asyncio.TaskGroup() as group:
        runner.run(group, "stubborn")
        await asyncio.sleep(0.01)
        runner.real.cancel_all()
    assert answers == []
    assert runner.stats.tool_results_discarded == 1


async def test_a_tool_that_will_not_end_does_not_hold_the_call(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tools, "_CLEANUP_S", 0.02)
    release = asyncio.Event()

    async def deaf() -> str:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass
        return "at last"

    answers = Answers()
    runner = a_runner(answers, deaf, timeout_s=0.02, max_parallel=2)
    async with asyncio.timeout(2):
        async with asyncio.TaskGroup() as group:
            runner.run(group, "deaf", "too slow")
            runner.run(group, "deaf", "cancelled")
            await asyncio.sleep(0.01)
            runner.real.cancel(2)
        assert [(outcome.call.call_id, outcome.error) for outcome in answers] == [("too slow", True)]
        assert runner.stats.tool_tasks_left == 2
        assert "left behind name=deaf" in caplog.text
        async with asyncio.TaskGroup() as group:
            runner.run(group, "deaf", "one more")
        assert runner.stats.tools_refused_busy == 1, "what was left behind still takes its place"
        release.set()
        while runner.stats.tool_results_discarded < 2:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)


async def test_a_thread_that_returns_too_late_is_counted() -> None:
    release = threading.Event()

    def slow() -> str:
        release.wait(10)
        return "late"

    answers = Answers()
    runner = a_runner(answers, slow, timeout_s=0.02)
    async with asyncio.TaskGroup() as group:
        runner.run(group, "slow")
    release.set()
    async with asyncio.timeout(2):
        while not runner.stats.tool_results_discarded:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
    assert len(answers) == 1 and answers[0].error


async def test_threads_that_hang_are_bounded_and_take_nothing_from_the_loop() -> None:
    release = threading.Event()

    def hangs() -> None:
        release.wait(10)

    async def note() -> str:
        return "noted"

    answers = Answers()
    runner = a_runner(answers, hangs, note, timeout_s=0.02, max_parallel=12)
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(12):
                runner.run(group, "hangs", f"c{number}")
        assert runner.stats.tool_threads_left == runner.stats.tool_timeouts == 12
        async with asyncio.timeout(2), asyncio.TaskGroup() as group:
            runner.run(group, "hangs", "one too many")
            runner.run(group, "note", "async")
            await asyncio.to_thread(int)  # the loop's own threads are free
    finally:
        release.set()
    told = {outcome.call.call_id: outcome.result for outcome in answers}
    assert "too many tools" in str(told["one too many"])
    assert told["async"] == "noted"
