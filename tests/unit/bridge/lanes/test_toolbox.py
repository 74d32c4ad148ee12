"""What the desk decides is carried out: functions run, and results are told by id or in words, each once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.core.tool import Tool
from bridge.core.words import ToolAnswered
from bridge.lanes.settings import CallSettings
from bridge.lanes.toolbox import Toolbox
from providers.contract import SessionStart, ToolCall
from providers.errors import SettingRefused
from tests.fakes.hand_model import CAPABILITIES, HandSession
from tests.fakes.kept_call import until

NOTE = "{name} with {arguments} gave {result}"


class Refuses(HandSession):
    """A session whose provider takes no results."""

    def send_tool_result(self, *_: Any, **__: Any) -> None:
        raise SettingRefused("result", 1, "too large")


class Call:
    def __init__(self) -> None:
        self.sessions: dict[int, HandSession] = {}
        self.answered: list[ToolAnswered] = []
        self.free = True
        self.go = asyncio.Event()

        async def look(where: str) -> str:
            await self.go.wait()
            return f"{{result}} of {where}"

        self.box = Toolbox(
            {"look": Tool.from_function(look)},
            CallSettings(tool_note=NOTE),
            name="test",
            session=self.sessions.get,
            answered=self.answered.append,
            free=lambda: self.free,
        )

    def opens(self, number: int, kind: type[HandSession] = HandSession) -> HandSession:
        session = self.sessions[number] = kind(SessionStart(number=number), CAPABILITIES)
        self.box.opened(number)
        self.box.leads(number)
        return session

    def asks(self, session: int, call_id: str = "c1") -> None:
        self.box.called(ToolCall(session, call_id, "look", {"where": "here"}))


@asynccontextmanager
async def a_call() -> AsyncIterator[Call]:
    call = Call()
    async with asyncio.TaskGroup() as group:
        call.box.start(group)
        yield call
        call.box.close()


async def test_a_result_goes_to_the_session_that_asked_by_its_id() -> None:
    async with a_call() as call:
        session = call.opens(1)
        call.asks(1)
        call.go.set()
        await until(lambda: call.answered)
        assert session.told == [("send_tool_result", "c1", "look", "{result} of here", False)]
        assert [(one.call_id, one.session, one.told, one.error) for one in call.answered] == [("c1", 1, True, False)]


async def test_a_result_whose_session_is_gone_is_told_to_the_next_one_in_words_once_nobody_is_cut_short() -> None:
    async with a_call() as call:
        first = call.opens(1)
        call.asks(1)
        await asyncio.sleep(0)
        del call.sessions[1]
        call.box.gone(1)
        second = call.opens(2)
        call.free = False
        call.go.set()
        await asyncio.sleep(0.05)
        assert second.told == [] and call.answered == []
        call.free = True
        await until(lambda: call.answered)
        assert first.told == []
        # In one pass: the braces that the tool returned are its own.
        assert second.told == [("send_text", 'look with {"where":"here"} gave {result} of here')]


async def test_a_session_that_ends_between_the_decision_and_the_deed_is_told_nothing_and_the_next_one_is() -> None:
    async with a_call() as call:
        call.opens(1)
        call.asks(1)
        await asyncio.sleep(0)
        del call.sessions[1]  # and its end has not been told yet
        call.go.set()
        await asyncio.sleep(0.05)
        assert call.answered == []
        second = call.opens(2)
        await until(lambda: call.answered)
        assert second.commands == ["send_text"]


async def test_a_result_that_the_provider_refuses_is_answered_as_not_told_and_not_tried_for_ever() -> None:
    async with a_call() as call:
        call.opens(1, Refuses)
        call.asks(1)
        call.go.set()
        await until(lambda: call.answered)
        assert [one.told for one in call.answered] == [False]
        assert call.box.desk.stats.refused == 1


async def test_a_result_that_the_provider_refuses_later_is_told_in_words_and_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with a_call() as call:
        session = call.opens(1)
        call.asks(1)
        call.go.set()
        await until(lambda: call.answered)
        call.box.refused(1, "c1")
        call.box.refused(1, "c1")
        await until(lambda: len(call.answered) == 2)
        assert session.commands == ["send_tool_result", "send_text"]
        assert [record.getMessage() for record in caplog.records] == [
            "tool result refused, told in words call=test session=1 tool=look"
        ]


async def test_a_call_that_is_taken_back_is_stopped_and_nobody_is_told() -> None:
    async with a_call() as call:
        session = call.opens(1)
        call.asks(1)
        await asyncio.sleep(0)
        call.box.cancelled(1, ["c1"])
        call.go.set()
        await asyncio.sleep(0.05)
        assert session.told == [] and call.answered == []


async def test_at_the_end_of_a_call_what_runs_is_stopped_and_nothing_is_told_any_more() -> None:
    async with a_call() as call:
        session = call.opens(1)
        call.asks(1)
        await asyncio.sleep(0)
        call.box.close()
        call.box.close()
        call.go.set()
        await asyncio.sleep(0.05)
        assert session.told == [] and call.answered == []
