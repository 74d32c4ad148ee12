"""Tool calls run beside the audio: bounded, cancellable, and always answered once unless cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from bridge.core.tool import Tool, ToolError
from bridge.lanes.tools import ToolOutcome, ToolRunner
from providers.contract import ToolCall


def a_call(name: str, call_id: str = "c1", **arguments: Any) -> ToolCall:
    return ToolCall(session=1, call_id=call_id, name=name, arguments=arguments)


class Answers(list[ToolOutcome]):
    """Collects outcomes; a runner's `answer`."""


def a_runner(answers: Answers, *functions: Any, timeout_s: float = 5, max_parallel: int = 4) -> ToolRunner:
    tools = {function.__name__: Tool.from_function(function) for function in functions}
    return ToolRunner(tools, answers.append, timeout_s=timeout_s, max_parallel=max_parallel)


async def test_sync_and_async_results_reach_the_model() -> None:
    def add(a: int, b: int) -> int:
        return a + b

    async def place() -> dict[str, str]:
        return {"city": "Lyon"}

    answers = Answers()
    runner = a_runner(answers, add, place)
    async with asyncio.TaskGroup() as group:
        runner.run(a_call("add", "c1", a=1, b=2), group)
        runner.run(a_call("place", "c2"), group)
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
        runner.run(a_call("slow"), group)
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
        runner.run(a_call("stuck"), group)
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
            runner.run(a_call(name, name), group)
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
        runner.run(a_call("stuck", "c1"), group)
        runner.run(a_call("stuck", "c2"), group)
        await asyncio.sleep(0)
        runner.cancel(1, ["c1", "unknown"])
        runner.cancel_all(session=1)
    assert answers == []
    assert runner.stats.tools_cancelled == 2
    assert runner.running == 0


async def test_a_repeated_call_id_runs_once_and_calls_without_id_run_each() -> None:
    ran: list[int] = []

    async def note() -> None:
        ran.append(1)

    answers = Answers()
    runner = a_runner(answers, note)
    async with asyncio.TaskGroup() as group:
        for call_id in ("same", "same", "", ""):
            runner.run(a_call("note", call_id), group)
    assert len(ran) == 3
    assert len(answers) == 3


async def test_beyond_the_bound_calls_are_refused_and_counted() -> None:
    async def note() -> None: ...

    answers = Answers()
    runner = a_runner(answers, note, max_parallel=1)
    async with asyncio.TaskGroup() as group:
        runner.run(a_call("note", "c1"), group)
        runner.run(a_call("note", "c2"), group)
    assert [outcome.error for outcome in answers] == [True, False]
    assert runner.stats.tools_refused_busy == 1


async def test_an_unknown_tool_is_answered_so_that_the_model_goes_on() -> None:
    answers = Answers()
    runner = a_runner(answers)
    async with asyncio.TaskGroup() as group:
        runner.run(a_call("nothing"), group)
    assert answers[0].error
    assert "no tool named nothing" in str(answers[0].result)


async def test_an_empty_result_still_tells_the_model_something() -> None:
    def quiet() -> None: ...

    def empty() -> dict[str, str]:
        return {}

    answers = Answers()
    runner = a_runner(answers, quiet, empty)
    async with asyncio.TaskGroup() as group:
        runner.run(a_call("quiet", "c1"), group)
        runner.run(a_call("empty", "c2"), group)
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
            runner.run(a_call(name, name), group)
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
            runner.run(a_call(name, name), group)
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
        runner.run(a_call("stubborn"), group)
        await asyncio.sleep(0)
        runner.cancel_all()
    assert answers == []


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
                runner.run(a_call("hangs", f"c{number}"), group)
        assert runner.stats.tool_threads_left == runner.stats.tool_timeouts == 12
        async with asyncio.timeout(2), asyncio.TaskGroup() as group:
            runner.run(a_call("hangs", "one too many"), group)
            runner.run(a_call("note", "async"), group)
            await asyncio.to_thread(int)  # the loop's own threads are free
    finally:
        release.set()
    told = {outcome.call.call_id: outcome.result for outcome in answers}
    assert "too many tools" in str(told["one too many"])
    assert told["async"] == "noted"


async def test_a_call_begun_under_the_id_of_a_cancelled_one_can_be_cancelled_too() -> None:
    async def slow_to_die() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)

    answers = Answers()
    runner = a_runner(answers, slow_to_die)
    async with asyncio.TaskGroup() as group:
        runner.run(a_call("slow_to_die"), group)
        await asyncio.sleep(0)
        runner.cancel_all()
        runner.run(a_call("slow_to_die"), group)
        await asyncio.sleep(0.03)
        assert runner.running == 1
        runner.cancel_all()
    assert (runner.running, answers) == (0, [])
