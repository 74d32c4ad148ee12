"""The control lane as a whole: how a call fails with its model, and what becomes of late tool answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import msgspec
import pytest

from bridge.core.errors import ModelFailed
from bridge.core.tool import Tool, ToolError
from bridge.core.words import EndReason
from bridge.lanes.control import ControlLane
from bridge.lanes.fast import FastLane
from bridge.lanes.settings import CallSettings
from bridge.sessions.feed import SessionFeed
from providers.contract import ToolCall
from providers.errors import ProviderRejected, ProviderUnavailable
from providers.health import HealthBook
from providers.retry import RetryPolicy
from providers.signal.formats import PCM16_24K
from tests.fakes.fake_time import in_fake_time
from tests.fakes.hand_model import CAPABILITIES, HandModel
from tests.fakes.lanes import OrderedLane, Remembers

QUICK = RetryPolicy(base_s=0.001, longest_s=0.001, give_up_after_s=30)
GONE = ProviderUnavailable("gone")


class Call:
    """A control lane at work on `model`."""

    def __init__(self, model: HandModel, settings: CallSettings, tools: dict[str, Tool]) -> None:
        self.model = model
        self.fast = OrderedLane()
        self.ended: list[EndReason | BaseException] = []
        self.lane = ControlLane(
            name="test",
            models=[model],
            settings=settings,
            tools=tools,
            make_feed=lambda session: SessionFeed(session, bus=PCM16_24K, room=PCM16_24K),
            memory=Remembers(),
            health=HealthBook(),
            ended=lambda reason, detail: self.ended.append(reason),
            published=lambda command: None,
            rng=random.Random(7),
        )
        self.fast.control = self.lane

    async def leads(self, number: int) -> None:
        await until(lambda: self.lane.sessions.board.leader == number)


@asynccontextmanager
async def call(
    model: HandModel | None = None, tools: dict[str, Tool] | None = None, settings: CallSettings | None = None
) -> AsyncIterator[Call]:
    settings = msgspec.structs.replace(settings or CallSettings(), retry=QUICK)
    at_work = Call(model or HandModel(), settings, tools or {})
    async with asyncio.TaskGroup() as group:
        at_work.lane.start(group, cast(FastLane, at_work.fast))
        try:
            yield at_work
        finally:
            await at_work.lane.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a condition of the outside has no event to wait for
            await asyncio.sleep(0.001)


async def test_the_call_fails_with_what_the_model_was_given_up_for() -> None:
    refused = ProviderRejected("quota")
    async with call() as at_work:
        await at_work.leads(1)
        at_work.model.session.dies(refused)
        await until(lambda: at_work.ended)
        (failure,) = at_work.ended
        assert isinstance(failure, ModelFailed) and failure.__cause__ is refused


async def test_the_answer_of_a_tool_goes_to_the_session_that_asked() -> None:
    async def add(a: int, b: int) -> int:
        return a + b

    async with call(tools={"add": Tool.from_function(add)}) as at_work:
        await at_work.leads(1)
        asker = at_work.model.session
        at_work.lane.keeper.lead(await at_work.lane.keeper.open_session())
        asker.emit(ToolCall(1, "c1", "add", {"a": 2, "b": 3}))
        await until(lambda: at_work.fast.answered)
        assert asker.told == [("send_tool_result", "c1", "add", {"result": 5}, False)]
        assert at_work.model.session.told == []


async def test_a_tool_that_returns_while_nobody_leads_is_told_to_the_next_session_once() -> None:
    go = asyncio.Event()

    async def dig(depth: int) -> str:
        await go.wait()
        return f"gold at {depth} m"

    async with call(tools={"dig": Tool.from_function(dig)}) as at_work:
        await at_work.leads(1)
        asker = at_work.model.session
        asker.emit(ToolCall(1, "c1", "dig", {"depth": 3}))
        await asyncio.sleep(0)
        asker.dies(GONE)
        go.set()
        await at_work.leads(2)
        await until(lambda: at_work.fast.answered)
        ((command, text),) = at_work.model.session.told
        assert command == "send_text"
        assert "dig" in text and '{"depth":3}' in text and "gold at 3 m" in text
        assert asker.told == []
        (answered,) = at_work.fast.answered
        assert (answered.session, answered.call_id, answered.told) == (1, "c1", True)
        assert at_work.lane.tools.desk.stats.delivered_by_note == 1


@in_fake_time
async def test_the_note_is_worded_as_the_settings_say() -> None:
    async def dig() -> str:
        asker.dies(GONE)
        return "gold"

    async with call(
        tools={"dig": Tool.from_function(dig)}, settings=CallSettings(tool_note="{name}: {result}")
    ) as at_work:
        await at_work.leads(1)
        asker = at_work.model.session
        asker.emit(ToolCall(1, "c1", "dig", {}))
        await until(lambda: at_work.fast.answered)
        ((_, text),) = at_work.model.session.told
        assert text.startswith("dig: ") and "gold" in text


@in_fake_time
async def test_a_note_waits_until_nobody_speaks() -> None:
    async def dig() -> str:
        return "gold"

    async with call(tools={"dig": Tool.from_function(dig)}) as at_work:
        await at_work.leads(1)
        at_work.fast.floor_is_free = False
        at_work.model.session.emit(ToolCall(1, "c1", "dig", {}))
        at_work.model.session.dies(GONE)
        await at_work.leads(2)
        await asyncio.sleep(0.45)
        assert at_work.model.session.told == []
        at_work.fast.floor_is_free = True
        await until(lambda: at_work.model.session.commands == ["send_text"])


async def test_a_successor_that_asks_again_is_given_the_running_errand() -> None:
    go, runs = asyncio.Event(), []

    async def dig(depth: int) -> str:
        runs.append(depth)
        await go.wait()
        return "gold"

    async with call(tools={"dig": Tool.from_function(dig)}) as at_work:
        await at_work.leads(1)
        at_work.model.session.emit(ToolCall(1, "c1", "dig", {"depth": 3}))
        await asyncio.sleep(0)
        at_work.model.session.dies(GONE)
        await at_work.leads(2)
        at_work.model.session.emit(ToolCall(2, "c9", "dig", {"depth": 3}))
        go.set()
        await until(lambda: at_work.fast.answered)
        assert at_work.model.session.told == [("send_tool_result", "c9", "dig", "gold", False)]
        assert [(event.session, event.call_id) for event in at_work.fast.answered] == [(1, "c1"), (2, "c9")]
        assert runs == [3]


@in_fake_time
async def test_an_answer_to_a_session_that_has_just_ended_goes_to_the_next() -> None:
    go = asyncio.Event()

    async def wait() -> str:
        await go.wait()
        return "done"

    async with call(tools={"wait": Tool.from_function(wait)}) as at_work:
        await at_work.leads(1)
        asker = at_work.model.session
        asker.emit(ToolCall(1, "c1", "wait", {}))
        await asyncio.sleep(0)
        await asker.close()  # its end has not been told yet
        go.set()
        await asyncio.sleep(0.01)
        assert at_work.fast.answered == []
        asker.dies(GONE)
        await at_work.leads(2)
        await until(lambda: at_work.fast.answered)
        stats = at_work.lane.tools.desk.stats
        assert at_work.model.session.commands == ["send_text"]
        assert (stats.delivered, stats.delivered_by_note, stats.redelivered) == (0, 1, 0)


async def test_a_result_that_nobody_takes_in_time_is_dropped_and_said(caplog: pytest.LogCaptureFixture) -> None:
    async def dig() -> str:
        return "gold"

    model = HandModel()
    async with call(
        model, tools={"dig": Tool.from_function(dig)}, settings=CallSettings(result_wait_s=0.05)
    ) as at_work:
        await at_work.leads(1)
        model.refuse = [GONE] * 10_000
        model.session.emit(ToolCall(1, "c1", "dig", {}))
        model.session.dies(GONE)
        await until(lambda: at_work.fast.answered)
        (answered,) = at_work.fast.answered
        assert not answered.told
        assert at_work.lane.tools.desk.stats.expired == 1
        assert "tool result dropped" in caplog.text and "tool=dig" in caplog.text


async def test_a_model_that_takes_no_text_is_told_as_an_instruction() -> None:
    async def dig() -> str:
        raise ToolError("the ground is frozen")

    model = HandModel(msgspec.structs.replace(CAPABILITIES, text_input=False))
    async with call(model, tools={"dig": Tool.from_function(dig)}) as at_work:
        await at_work.leads(1)
        model.session.emit(ToolCall(1, "c1", "dig", {}))
        model.session.dies(GONE)
        await at_work.leads(2)
        await until(lambda: model.session.told)
        ((command, text),) = model.session.told
        assert command == "respond" and "an error: the ground is frozen" in text
