"""Who leads: how long a model is asked, what is resumed, when a session is changed on purpose, and who stands in."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import msgspec
import pytest

from bridge.lanes import leader_search
from bridge.lanes.keeper import SessionKeeper
from bridge.lanes.open_sessions import OpenSessions
from bridge.lanes.settings import CallSettings
from bridge.sessions.feed import SessionFeed
from bridge.sessions.rollover import RolloverSettings
from bridge.sessions.thread import Loose
from providers.contract import (
    GoAway,
    HistoryItem,
    ResumptionUpdate,
    SessionStart,
    ToolSpec,
)
from providers.errors import (
    NeedsNewSession,
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
    ResumeRefused,
    SessionEnded,
)
from providers.health import HealthBook, HealthSettings
from providers.retry import RetryPolicy
from providers.signal.formats import PCM16_24K
from tests.fakes.fake_time import in_fake_time
from tests.fakes.hand_model import CAPABILITIES, HandModel, HandSession
from tests.fakes.lanes import SAID, ControlPart, OrderedLane, Remembers

QUICK = RetryPolicy(base_s=0.001, longest_s=0.001, give_up_after_s=30)
AT_ONCE = RolloverSettings(quiet_ms=0, patience_s=0.0)
GONE = ProviderUnavailable("gone")
PATIENT = HealthSettings(retries_per_minute=100_000, failures_to_open=1000)
RESUMES = msgspec.structs.replace(CAPABILITIES, resumption=True)


class Call:
    """A keeper at work on `models`."""

    def __init__(self, models: Sequence[HandModel], settings: CallSettings) -> None:
        self.model = models[0]
        self.fast = OrderedLane()
        self.memory = Remembers()
        self.ended: list[ProviderError] = []
        self.sessions = OpenSessions(
            "test",
            make_feed=lambda session: SessionFeed(session, bus=PCM16_24K, room=PCM16_24K),
            opened=lambda number: None,
            gone=lambda number: None,
        )
        self.keeper = SessionKeeper(
            self.sessions,
            name="test",
            models=models,
            settings=settings,
            tool_specs=lambda: None,
            memory=self.memory,
            health=HealthBook(PATIENT),
            failed=self.ended.append,
            took_lead=lambda number: None,
            rng=random.Random(7),
        )
        self.fast.control = cast(ControlPart, self.keeper)  # nobody calls a tool here

    async def leads(self, number: int) -> None:
        await until(lambda: self.sessions.board.leader == number)

    @property
    def starts(self) -> list[tuple[str, tuple[HistoryItem, ...]]]:
        """What each session of the model began with."""
        return [(session.start.resume, session.start.history) for session in self.model.sessions]


@asynccontextmanager
async def call(
    *models: HandModel, retry: RetryPolicy = QUICK, rollover: RolloverSettings = AT_ONCE, idle_s: float | None = None
) -> AsyncIterator[Call]:
    settings = CallSettings(retry=retry, rollover=rollover, idle_close_s=idle_s)
    at_work = Call(models or (HandModel(RESUMES),), settings)
    async with asyncio.TaskGroup() as group:
        at_work.keeper.start(group, at_work.fast)
        try:
            yield at_work
        finally:
            await at_work.keeper.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a condition of the outside has no event to wait for
            await asyncio.sleep(0.001)


async def gives_up(wish: Awaitable[None]) -> ProviderError:
    with pytest.raises(ProviderError) as given_up:
        await wish
    return given_up.value


def handle(session: HandSession, name: str, *, mid_turn: bool = False, resumable: bool = True) -> None:
    session.emit(ResumptionUpdate(session.number, name, resumable=resumable, mid_turn=mid_turn))


# ------------------------------------------------------------------------------------------------------ retry budget


async def test_a_model_that_is_away_is_asked_again_until_it_is_there() -> None:
    model = HandModel()
    model.refuse = [GONE, GONE, GONE]
    async with call(model) as at_work:
        await at_work.leads(4)
        assert at_work.keeper.stats.connect_failures == 3
        assert at_work.ended == []


@in_fake_time
async def test_the_call_fails_with_the_cause_when_the_budget_is_spent() -> None:
    model = HandModel()
    model.refuse = [GONE] * 500
    async with call(model, retry=RetryPolicy(base_s=0.01, longest_s=0.01, give_up_after_s=0.05)) as at_work:
        await until(lambda: at_work.ended)
        assert at_work.ended == [GONE]
        assert at_work.keeper.stats.connect_failures > 1


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
    async with call(model, retry=RetryPolicy(base_s=0.01, longest_s=0.01, give_up_after_s=0.05)) as at_work:
        await until(lambda: at_work.ended)
        assert isinstance(at_work.ended[0], ProviderUnavailable)
        assert at_work.keeper.stats.sessions_lost == len(model.sessions) > 1


async def test_a_session_that_held_makes_the_next_loss_a_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_search, "_HOLDS_AFTER_S", 0.0)
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
        number = await at_work.keeper.open_session(other)
        at_work.keeper.lead(number)
        await asyncio.sleep(0.02)
        left = len(model.refuse)
        await asyncio.sleep(0.02)
        assert len(model.refuse) == left
        assert at_work.sessions.board.leader == number and at_work.ended == []


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
        assert at_work.keeper.stats.resumes_refused == 1


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
        at_work.keeper.lead(await at_work.keeper.open_session())
        at_work.model.session.dies(GONE)
        await at_work.leads(3)
        assert at_work.starts[2] == ("", SAID)


async def test_leading_again_keeps_the_handle() -> None:
    async with call() as at_work:
        await at_work.leads(1)
        handle(at_work.model.session, "h1")
        at_work.keeper.lead(1)
        at_work.model.session.dies(GONE)
        await at_work.leads(2)
        assert at_work.starts[1] == ("h1", ())


async def test_the_model_that_led_is_the_one_that_is_asked_again() -> None:
    other = HandModel(RESUMES)
    async with call() as at_work:
        await at_work.leads(1)
        handle(at_work.model.session, "of the first model")
        at_work.keeper.lead(await at_work.keeper.open_session(other))
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

    async with call(Slow(RESUMES)) as at_work:
        await at_work.leads(1)
        handle(at_work.model.session, "h1")
        at_work.model.session.dies(GONE)
        await asked.wait()
        number = await at_work.keeper.open_session(HandModel())
        at_work.keeper.lead(number)
        answer.set()
        await until(lambda: at_work.keeper.stats.resumes_refused)
        assert at_work.sessions.board.leader == number and at_work.ended == []


async def test_a_session_that_comes_too_late_is_closed_and_a_later_loss_is_still_seen() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    class Slow(HandModel):
        async def connect(self, start: SessionStart | None = None) -> HandSession:
            asked.set()
            await answer.wait()
            return await super().connect(start)

    other = HandModel()
    async with call(Slow(RESUMES)) as at_work:
        await asked.wait()
        number = await at_work.keeper.open_session(other)
        at_work.keeper.lead(number)
        answer.set()
        await until(lambda: at_work.model.sessions and at_work.model.session.state == "closed")
        assert at_work.fast.led == [number]
        other.session.dies(GONE)
        await until(lambda: len(other.sessions) == 2 and at_work.sessions.board.leader == other.session.number)


# ---------------------------------------------------------------------------------------------------- planned changes


async def test_an_announced_end_is_overtaken_by_a_seeded_session_and_nobody_is_without_a_leader() -> None:
    async with call() as at_work:
        await at_work.leads(1)
        first = at_work.model.session
        first.emit(GoAway(1, 50.0))
        await at_work.leads(2)
        assert at_work.starts == [("", SAID), ("", SAID)]
        assert at_work.model.standbys[0].used, "the connection was dialled in advance"
        await until(lambda: first.state == "closed")
        assert at_work.keeper.stats.changes == 1
        assert at_work.keeper.stats.longest_leaderless_ms == 0


async def test_a_handle_is_used_only_after_the_old_session_has_been_closed() -> None:
    class Strict(HandModel):
        async def connect(self, start: SessionStart | None = None) -> HandSession:
            if start is not None and start.resume:
                assert self.session.state == "closed"
            return await super().connect(start)

    async with call(Strict(RESUMES)) as at_work:
        await at_work.leads(1)
        handle(at_work.model.session, "h1")
        at_work.model.session.emit(GoAway(1, 50.0))
        await at_work.leads(2)
        assert at_work.starts[1] == ("h1", ())
        assert at_work.model.standbys[0].used
        assert at_work.keeper.stats.sessions_lost == 0


async def test_a_provider_that_remembers_what_nobody_heard_is_seeded_anew() -> None:
    async with call(HandModel(RESUMES)) as at_work:
        await at_work.leads(1)
        handle(at_work.model.session, "h1")
        at_work.memory.is_wrong = True
        at_work.model.session.emit(GoAway(1, 50.0))
        await at_work.leads(2)
        assert at_work.starts[1] == ("", SAID)


@in_fake_time
async def test_the_change_waits_for_a_quiet_moment() -> None:
    async with call() as at_work:
        await at_work.leads(1)
        at_work.fast.quiet = False
        at_work.model.session.emit(GoAway(1, 50.0))
        await until(lambda: at_work.model.standbys)
        assert at_work.fast.watches, "speech must be heard by ourselves from now on"
        await asyncio.sleep(0.05)
        assert at_work.sessions.board.leader == 1
        at_work.fast.quiet = True
        await at_work.leads(2)
        assert not at_work.fast.watches


async def test_at_the_last_moment_the_change_is_made_in_mid_reply_and_the_reply_gone_on_with() -> None:
    async with call() as at_work:
        await at_work.leads(1)
        at_work.fast.quiet = False
        at_work.fast.loose = Loose(reply_broken_off=True, unanswered_from=3)
        at_work.model.session.emit(GoAway(1, 0.1))
        await at_work.leads(2)
        assert at_work.keeper.stats.changes_forced == 1
        assert at_work.fast.asked == ["go on"]
        assert at_work.fast.rewound == []


async def test_a_successor_that_came_too_late_for_the_quiet_is_closed_and_another_moment_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = HandModel()
    async with call(model) as at_work:
        await at_work.leads(1)

        def somebody_speaks(session: HandSession) -> None:
            at_work.fast.quiet = False

        model.opening = somebody_speaks
        model.session.emit(GoAway(1, 50.0))
        await until(lambda: at_work.keeper.stats.changes_put_off)
        assert at_work.sessions.board.leader == 1
        await until(lambda: model.session.state == "closed")
        model.opening = lambda _: None
        at_work.fast.quiet = True
        await at_work.leads(3)


async def test_what_was_said_while_the_successor_was_set_up_makes_it_stale() -> None:
    model = HandModel()
    async with call(model) as at_work:
        await at_work.leads(1)

        def something_is_said(session: HandSession) -> None:
            at_work.memory.version += 1
            model.opening = lambda _: None

        model.opening = something_is_said
        model.session.emit(GoAway(1, 50.0))
        await at_work.leads(3)
        assert at_work.keeper.stats.changes_put_off == 1


async def test_a_leader_lost_during_its_replacement_is_replaced_all_the_same() -> None:
    model = HandModel()
    async with call(model) as at_work:
        await at_work.leads(1)
        first = model.session
        model.opening = lambda session: first.dies(GONE)
        first.emit(GoAway(1, 50.0))
        await at_work.leads(2)
        assert at_work.ended == []


async def test_a_known_cap_is_not_waited_for() -> None:
    rollover = msgspec.structs.replace(AT_ONCE, max_session_s=0.5)
    async with call(rollover=rollover) as at_work:
        await until(lambda: at_work.keeper.stats.changes_forced > 1)
        assert at_work.keeper.stats.sessions_lost == 0


# --------------------------------------------------------------------------------------------------------- the thread


async def test_an_unanswered_turn_is_heard_again_and_left_out_of_the_seed() -> None:
    async with call() as at_work:
        await at_work.leads(1)
        at_work.fast.loose = Loose(unanswered_from=42)
        at_work.model.session.dies(GONE)
        await at_work.leads(2)
        assert at_work.fast.rewound == [42]
        assert at_work.starts[1] == ("", ())


async def test_a_resumed_session_is_told_of_the_exchange_that_its_handle_lacks() -> None:
    async with call(HandModel(RESUMES)) as at_work:
        await at_work.leads(1)
        handle(at_work.model.session, "h1")
        at_work.keeper.turn_began()
        at_work.model.session.dies(GONE)
        await at_work.leads(2)
        assert at_work.model.session.told == [("send_text", "you said this")]


# ------------------------------------------------------------------------------------------------- failover and swap


async def test_the_next_model_of_the_list_takes_over_when_one_is_given_up() -> None:
    first, second = HandModel(), HandModel(msgspec.structs.replace(CAPABILITIES, model="hand-2"))
    async with call(first, second) as at_work:
        await at_work.leads(1)
        first.session.dies(ProviderRejected("quota"))
        await until(lambda: second.sessions)
        assert second.session.start.history == SAID
        assert at_work.keeper.stats.failovers == 1
        assert at_work.ended == []


async def test_the_call_fails_when_every_model_has_been_given_up() -> None:
    first, second = HandModel(), HandModel(msgspec.structs.replace(CAPABILITIES, model="hand-2"))
    refused = ProviderRejected("key")
    second.refuse = [refused]
    async with call(first, second) as at_work:
        await at_work.leads(1)
        first.session.dies(ProviderRejected("quota"))
        await until(lambda: at_work.ended)
        assert at_work.ended == [refused]


async def test_a_swap_goes_on_with_the_other_model_in_a_quiet_moment() -> None:
    other = HandModel(msgspec.structs.replace(CAPABILITIES, model="hand-2"))
    async with call() as at_work:
        await at_work.leads(1)
        await asyncio.wait_for(at_work.keeper.swap(other), 5)
        assert at_work.keeper.model is other
        assert other.session.start.history == SAID
        other.session.dies(GONE)
        await until(lambda: len(other.sessions) == 2)


async def test_a_swap_that_cannot_be_made_leaves_the_call_as_it_was() -> None:
    other = HandModel(msgspec.structs.replace(CAPABILITIES, model="hand-2"))
    other.refuse = [ProviderRejected("key")] * 5
    async with call() as at_work:
        await at_work.leads(1)
        with pytest.raises(ProviderRejected):
            await asyncio.wait_for(at_work.keeper.swap(other), 5)
        assert at_work.sessions.board.leader == 1
        assert at_work.keeper.model is at_work.model and at_work.ended == []


@in_fake_time
async def test_a_wish_that_nobody_can_grant_any_more_says_so() -> None:
    async with call() as at_work:
        await at_work.leads(1)
        at_work.fast.quiet = False
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(gives_up(at_work.keeper.swap(HandModel())), name="swap")
            await asyncio.sleep(0.01)
            await at_work.keeper.close()
        assert isinstance(waiting.result(), SessionEnded)


async def test_a_change_that_needs_a_new_session_gets_one_and_lasts() -> None:
    class Fixed(HandSession):
        def update(
            self, *, instructions: str | None = None, tools: Sequence[ToolSpec] | None = None, voice: str | None = None
        ) -> None:
            raise NeedsNewSession(["voice"])

    class FixedModel(HandModel):
        async def connect(self, start: SessionStart | None = None) -> HandSession:
            self.sessions.append(Fixed(start or SessionStart(), self.capabilities))
            return self.session

    async with call(FixedModel()) as at_work:
        await at_work.leads(1)
        await asyncio.wait_for(at_work.keeper.update(voice="marin"), 5)
        assert at_work.model.session.start.voice == "marin"
        at_work.model.session.dies(GONE)
        await at_work.leads(3)
        assert at_work.model.session.start.voice == "marin"


# -------------------------------------------------------------------------------------------------------------- idle


@in_fake_time
async def test_a_silent_call_closes_its_session_and_the_next_word_opens_it_again() -> None:
    async with call(HandModel(RESUMES), idle_s=0.05) as at_work:
        await at_work.leads(1)
        handle(at_work.model.session, "h1")
        await until(lambda: at_work.fast.dozes and at_work.sessions.board.leader is None)
        assert at_work.model.sessions[0].state == "closed"
        await asyncio.sleep(0.02)
        assert len(at_work.model.sessions) == 1
        at_work.fast.silent_at = asyncio.get_running_loop().time()
        at_work.keeper.wake()
        await at_work.leads(2)
        assert at_work.starts[1] == ("h1", ())
        assert at_work.fast.dozes is False
        assert at_work.keeper.stats.idle_closed == at_work.keeper.stats.idle_woken == 1
