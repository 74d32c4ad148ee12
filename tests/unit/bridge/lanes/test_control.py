"""The control lane alone: how long it keeps trying, what it resumes, and what becomes of late tool answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import msgspec
import pytest

from bridge.core.errors import ModelFailed
from bridge.core.tool import Tool, ToolError
from bridge.core.words import EndReason, ToolAnswered
from bridge.lanes import control
from bridge.lanes.control import ControlLane
from bridge.lanes.fast import FastLane
from bridge.lanes.settings import CallSettings
from bridge.sessions.feed import SessionFeed
from providers.contract import Closed, HistoryItem, ResumptionUpdate, SessionEvent, SessionStart, ToolCall
from providers.errors import ProviderError, ProviderRejected, ProviderUnavailable, ResumeRefused
from providers.retry import RetryPolicy
from providers.signal.formats import PCM16_24K
from tests.fakes.fake_time import in_fake_time
from tests.fakes.hand_model import CAPABILITIES, HandModel, HandSession

SAID = (HistoryItem(role="user", text="two tickets, please"),)
QUICK = RetryPolicy(base_s=0.001, longest_s=0.001, give_up_after_s=30)
GONE = ProviderUnavailable("gone")


class Fast:
    """What the control lane needs of the fast one: it hands events on and writes down the orders."""

    def __init__(self) -> None:
        self.control: ControlLane
        self.feeds: dict[int, SessionFeed] = {}
        self.led: list[int] = []
        self.answered: list[ToolAnswered] = []
        self.floor_is_free = True

    def add_session(self, feed: SessionFeed) -> None:
        self.feeds[feed.number] = feed

    def remove_session(self, number: int) -> None:
        self.feeds.pop(number, None)

    def listen(self, number: int) -> None:
        self.feeds[number].session.listen(self._on_event)

    def lead(self, number: int, hearing: Sequence[int]) -> None:
        assert number in hearing
        self.led.append(number)

    def hear(self, numbers: Sequence[int]) -> None: ...

    def tool_answered(self, event: ToolAnswered) -> None:
        self.answered.append(event)

    def _on_event(self, event: SessionEvent) -> None:
        match event:
            case Closed():
                self.control.session_closed(event)
            case ResumptionUpdate(session=number) if number == self.control.board.leader:
                self.control.resumption(event)
            case ToolCall():
                self.control.run_tool(event)
            case _:
                pass


class Call:
    """A control lane at work on `model`."""

    def __init__(self, model: HandModel, settings: CallSettings, tools: dict[str, Tool]) -> None:
        self.model = model
        self.fast = Fast()
        self.ended: list[EndReason | BaseException] = []
        self.lane = self.fast.control = ControlLane(
            name="test",
            model=model,
            settings=settings,
            tools=tools,
            make_feed=lambda session: SessionFeed(session, bus=PCM16_24K, room=PCM16_24K),
            history=lambda _: SAID,
            ended=lambda reason, detail: self.ended.append(reason),
            published=lambda command: None,
            rng=random.Random(7),
        )

    async def leads(self, number: int) -> None:
        await until(lambda: self.lane.board.leader == number)

    @property
    def starts(self) -> list[tuple[str, tuple[HistoryItem, ...]]]:
        """What each session of the model began with."""
        return [(session.start.resume, session.start.history) for session in self.model.sessions]


@asynccontextmanager
async def call(
    model: HandModel | None = None,
    retry: RetryPolicy = QUICK,
    tools: dict[str, Tool] | None = None,
    settings: CallSettings | None = None,
) -> AsyncIterator[Call]:
    settings = msgspec.structs.replace(settings or CallSettings(), retry=retry)
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


def handle(session: HandSession, name: str, *, mid_turn: bool = False, resumable: bool = True) -> None:
    session.emit(ResumptionUpdate(session.number, name, resumable=resumable, mid_turn=mid_turn))


# ------------------------------------------------------------------------------------------------------ retry budget


async def test_a_model_that_is_away_is_asked_again_until_it_is_there() -> None:
    model = HandModel()
    model.refuse = [GONE, GONE, GONE]
    async with call(model) as at_work:
        await at_work.leads(4)
        assert at_work.lane.stats.connect_failures == 3
        assert at_work.ended == []


@in_fake_time
async def test_the_call_fails_with_the_cause_when_the_budget_is_spent() -> None:
    model = HandModel()
    model.refuse = [GONE] * 500
    async with call(model, RetryPolicy(base_s=0.01, longest_s=0.01, give_up_after_s=0.05)) as at_work:
        await until(lambda: at_work.ended)
        (failure,) = at_work.ended
        assert isinstance(failure, ModelFailed) and failure.__cause__ is GONE
        assert at_work.lane.stats.connect_failures > 1


@pytest.mark.parametrize("refusal", [ProviderRejected("key"), ResumeRefused("of a fresh session")])
async def test_what_will_fail_again_is_not_tried_again(refusal: ProviderError) -> None:
    model = HandModel()
    model.refuse = [refusal, GONE]
    async with call(model) as at_work:
        await until(lambda: at_work.ended)
        assert model.refuse == [GONE]


@in_fake_time
async def test_sessions_that_are_lost_at_once_count_against_the_budget() -> None:
    model = HandModel()
    model.opening = lambda session: session.dies(GONE)
    async with call(model, RetryPolicy(base_s=0.01, longest_s=0.01, give_up_after_s=0.05)) as at_work:
        await until(lambda: at_work.ended)
        assert isinstance(at_work.ended[0], ModelFailed)
        assert at_work.lane.stats.sessions_lost == len(model.sessions) > 1


async def test_a_session_that_held_makes_the_next_loss_a_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_HOLDS_AFTER_S", 0.0)
    async with call(retry=RetryPolicy(give_up_after_s=0)) as at_work:  # a loss that counted would end the call
        for number in range(1, 6):
            await at_work.leads(number)
            at_work.model.session.dies(GONE)
        await at_work.leads(6)
        assert at_work.ended == []


async def test_a_rejection_in_mid_call_ends_the_call() -> None:
    async with call() as at_work:
        await at_work.leads(1)
        at_work.model.session.dies(ProviderRejected("quota"))
        await until(lambda: at_work.ended)
        assert len(at_work.model.sessions) == 1


@in_fake_time
async def test_attempts_end_when_the_application_gives_the_lead_to_a_session_of_its_own() -> None:
    model, other = HandModel(), HandModel()
    model.refuse = [GONE] * 10_000
    async with call(model) as at_work:
        number = await at_work.lane.open_session(other)
        at_work.lane.lead(number)
        await asyncio.sleep(0.02)
        left = len(model.refuse)
        await asyncio.sleep(0.02)
        assert len(model.refuse) == left
        assert at_work.lane.board.leader == number and at_work.ended == []


# ------------------------------------------------------------------------------------------------------------ resume


async def test_a_lost_session_is_resumed_by_its_newest_handle_that_is_not_of_mid_turn() -> None:
    async with call() as at_work:
        await at_work.leads(1)
        handle(at_work.model.session, "h1")
        handle(at_work.model.session, "h2")
        handle(at_work.model.session, "h3", mid_turn=True)
        handle(at_work.model.session, "", resumable=False)
        at_work.model.session.dies(GONE)
        await at_work.leads(2)
        assert at_work.starts == [("", SAID), ("h2", ())]


async def test_a_handle_of_mid_turn_is_better_than_none() -> None:
    async with call() as at_work:
        await at_work.leads(1)
        handle(at_work.model.session, "h1", mid_turn=True)
        at_work.model.session.dies(GONE)
        await at_work.leads(2)
        assert at_work.starts[1] == ("h1", ())


async def test_a_refused_handle_leads_to_a_fresh_session_that_knows_what_was_said() -> None:
    async with call() as at_work:
        await at_work.leads(1)
        handle(at_work.model.session, "h1")
        at_work.model.refuse = [ResumeRefused("expired")]
        at_work.model.session.dies(GONE)
        await at_work.leads(3)
        assert at_work.starts[1] == ("", SAID)
        assert at_work.lane.stats.resumes_refused == 1


async def test_a_handle_whose_session_dies_at_once_is_not_used_again() -> None:
    async with call() as at_work:
        await at_work.leads(1)
        handle(at_work.model.session, "h1")
        for number in (2, 3):
            at_work.model.session.dies(GONE)
            await at_work.leads(number)
        assert [resume for resume, _ in at_work.starts] == ["", "h1", ""]


async def test_the_handle_of_a_session_that_gave_up_the_lead_is_forgotten() -> None:
    async with call() as at_work:
        await at_work.leads(1)
        handle(at_work.model.session, "of the first")
        at_work.lane.lead(await at_work.lane.open_session())
        at_work.model.session.dies(GONE)
        await at_work.leads(3)
        assert at_work.starts[2] == ("", SAID)


async def test_leading_again_keeps_the_handle() -> None:
    async with call() as at_work:
        await at_work.leads(1)
        handle(at_work.model.session, "h1")
        at_work.lane.lead(1)
        at_work.model.session.dies(GONE)
        await at_work.leads(2)
        assert at_work.starts[1] == ("h1", ())


async def test_the_model_that_led_is_the_one_that_is_asked_again() -> None:
    other = HandModel()
    async with call() as at_work:
        await at_work.leads(1)
        handle(at_work.model.session, "of the first model")
        at_work.lane.lead(await at_work.lane.open_session(other))
        handle(other.session, "of the other")
        other.session.dies(GONE)
        await at_work.leads(3)
        assert [session.start.resume for session in other.sessions] == ["", "of the other"]
        assert len(at_work.model.sessions) == 1


async def test_a_refused_resume_does_not_end_a_call_that_somebody_else_leads_by_now() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    class Slow(HandModel):
        async def connect(self, start: SessionStart | None = None) -> HandSession:
            if start is not None and start.resume:
                asked.set()
                await answer.wait()
                raise ResumeRefused("expired")
            return await super().connect(start)

    async with call(Slow()) as at_work:
        await at_work.leads(1)
        handle(at_work.model.session, "h1")
        at_work.model.session.dies(GONE)
        await asked.wait()
        number = await at_work.lane.open_session(HandModel())
        at_work.lane.lead(number)
        answer.set()
        await until(lambda: at_work.lane.stats.resumes_refused)
        assert at_work.lane.board.leader == number and at_work.ended == []


async def test_a_session_that_comes_too_late_is_closed_and_a_later_loss_is_still_seen() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    class Slow(HandModel):
        async def connect(self, start: SessionStart | None = None) -> HandSession:
            asked.set()
            await answer.wait()
            return await super().connect(start)

    other = HandModel()
    async with call(Slow()) as at_work:
        await asked.wait()
        number = await at_work.lane.open_session(other)
        at_work.lane.lead(number)
        answer.set()
        await until(lambda: at_work.model.sessions and at_work.model.session.state == "closed")
        assert at_work.fast.led == [number]
        other.session.dies(GONE)
        await until(lambda: len(other.sessions) == 2 and at_work.lane.board.leader == other.session.number)


# ------------------------------------------------------------------------------------------------------------- tools


async def test_the_answer_of_a_tool_goes_to_the_session_that_asked() -> None:
    async def add(a: int, b: int) -> int:
        return a + b

    async with call(tools={"add": Tool.from_function(add)}) as at_work:
        await at_work.leads(1)
        asker = at_work.model.session
        at_work.lane.lead(await at_work.lane.open_session())
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
