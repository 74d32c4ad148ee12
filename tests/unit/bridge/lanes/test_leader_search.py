"""How long a model is asked for a leader, and what is resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from bridge.lanes import leader_search
from providers.contract import GoAway, SessionStart
from providers.errors import (
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
    ResumeRefused,
)
from providers.health import HealthSettings
from providers.retry import RetryPolicy
from providers.settings import ConnectionSettings
from tests.fakes.fake_time import in_fake_time
from tests.fakes.hand_model import HandModel, HandSession, HandStandby
from tests.fakes.kept_call import GONE, RESUMES, hands_out, kept_call, until
from tests.fakes.lanes import SAID

# ------------------------------------------------------------------------------------------------------ retry budget


async def test_a_model_that_is_away_is_asked_again_until_it_is_there() -> None:
    model = HandModel()
    model.refuse = [GONE, GONE, GONE]
    async with kept_call(model) as at_work:
        await at_work.leads(4)
        assert at_work.keeper.stats.connect_failures == 3
        assert at_work.ended == []


@in_fake_time
async def test_the_call_fails_with_the_cause_when_the_budget_is_spent() -> None:
    model = HandModel()
    model.refuse = [GONE] * 500
    async with kept_call(model, retry=RetryPolicy(base_s=0.01, longest_s=0.01, give_up_after_s=0.05)) as at_work:
        await until(lambda: at_work.ended)
        assert at_work.ended == [GONE]
        assert at_work.keeper.stats.connect_failures > 1


@pytest.mark.parametrize("refusal", [ProviderRejected("key"), ResumeRefused("of a fresh session")])
async def test_what_will_fail_again_is_not_tried_again(refusal: ProviderError) -> None:
    model = HandModel()
    model.refuse = [refusal, GONE]
    async with kept_call(model) as at_work:
        await until(lambda: at_work.ended)
        assert model.refuse == [GONE]


@in_fake_time
async def test_sessions_that_are_lost_at_once_count_against_the_budget() -> None:
    model = HandModel()
    model.opening = lambda session: session.dies(GONE)
    async with kept_call(model, retry=RetryPolicy(base_s=0.01, longest_s=0.01, give_up_after_s=0.05)) as at_work:
        await until(lambda: at_work.ended)
        assert isinstance(at_work.ended[0], ProviderUnavailable)
        assert at_work.keeper.stats.sessions_lost == len(model.sessions) > 1


async def test_a_session_that_held_makes_the_next_loss_a_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_search, "_HOLDS_AFTER_S", 0.0)
    async with kept_call(retry=RetryPolicy(give_up_after_s=0)) as at_work:  # a loss that counted would end the call
        for number in range(1, 6):
            await at_work.leads(number)
            at_work.model.session.dies(GONE)
        await at_work.leads(6)
        assert at_work.ended == []


class SetupsFail(HandModel):
    """Connections that are dialled ahead come to nothing, and so does the next attempt."""

    async def stand_by(self) -> HandStandby:
        standby = await super().stand_by()
        if len(self.standbys) == 1:
            self.refuse = [GONE, GONE]
        return standby


@in_fake_time
@pytest.mark.parametrize("handle", [False, True], ids=["overlap", "standby"])
async def test_trouble_of_long_ago_does_not_count_when_a_planned_change_fails(handle: bool) -> None:
    model = SetupsFail(RESUMES)
    model.refuse = [GONE]
    async with kept_call(model, retry=RetryPolicy(base_s=0.01, longest_s=0.01, give_up_after_s=5)) as at_work:
        await at_work.leads(2)
        await asyncio.sleep(600)
        if handle:
            hands_out(model.session, "a")
        at_work.model.session.emit(GoAway(2, 60.0))
        await until(lambda: at_work.sessions.board.leader not in (None, 2))
        assert at_work.ended == [] and model.refuse == []
        model.session.dies(GONE)  # at once: the only failure of these ten minutes, or the third
        led = at_work.sessions.board.leader
        await until(lambda: at_work.sessions.board.leader not in (None, led))
        assert at_work.ended == []


@in_fake_time
async def test_trouble_of_long_ago_does_not_count_when_a_call_wakes() -> None:
    model = HandModel()
    model.refuse = [GONE]
    quick = RetryPolicy(base_s=0.01, longest_s=0.01, give_up_after_s=5)
    async with kept_call(model, retry=quick, idle_s=60.0) as at_work:
        await at_work.leads(2)
        await asyncio.sleep(61)
        assert at_work.fast.dozes
        model.refuse = [GONE]
        at_work.keeper.wake()
        await at_work.leads(4)
        assert at_work.ended == []


class TakesItsTime(HandModel):
    """As a service does that is far away."""

    async def connect(self, start: SessionStart | None = None) -> HandSession:
        await asyncio.sleep(0.3)
        return await super().connect(start)


@in_fake_time
@pytest.mark.parametrize("handle", [False, True], ids=["overlap", "standby"])
async def test_a_provider_that_served_all_the_time_has_held_though_its_sessions_were_changed(handle: bool) -> None:
    model = TakesItsTime(RESUMES)
    model.refuse = [GONE]
    async with kept_call(model, retry=RetryPolicy()) as at_work:
        await at_work.leads(2)
        for number in range(2, 8):
            await asyncio.sleep(8)
            model.session.fixed = ("instructions",)
            if handle:
                hands_out(model.session, f"h{number}")
            await at_work.keeper.update(instructions=f"step {number}")
        assert at_work.ended == [] and len(model.sessions) == 7
        model.session.dies(GONE)
        model.refuse = [GONE]
        await until(lambda: len(model.sessions) == 8)
        assert at_work.ended == []


@in_fake_time
@pytest.mark.parametrize("why", ["wish", "announced", "sleep"])
async def test_a_planned_change_soon_after_long_trouble_is_made_all_the_same(why: str) -> None:
    model = TakesItsTime(RESUMES)
    retry = RetryPolicy(base_s=1.0, longest_s=1.0)
    async with kept_call(model, retry=retry, idle_s=5.0 if why == "sleep" else None) as at_work:
        began = asyncio.get_running_loop().time()
        model.refuse = [GONE] * 1000
        await asyncio.sleep(22)
        model.refuse = []
        await until(lambda: at_work.sessions.board.leader)
        first = model.session
        hands_out(first, "h")
        first.fixed = ("instructions",)
        await asyncio.sleep(began + 26 - asyncio.get_running_loop().time())
        match why:
            case "wish":
                await at_work.keeper.update(instructions="the next step")
            case "announced":
                first.emit(GoAway(first.number, 60.0))
            case "sleep":
                await asyncio.sleep(6)
                assert at_work.fast.dozes
                at_work.fast.silent_at = asyncio.get_running_loop().time() + 3600
                at_work.keeper.wake()
        await asyncio.sleep(20)
        assert at_work.ended == [] and at_work.sessions.board.leader == first.number + 1


async def test_a_rejection_in_mid_call_ends_the_call() -> None:
    async with kept_call() as at_work:
        await at_work.leads(1)
        at_work.model.session.dies(ProviderRejected("quota"))
        await until(lambda: at_work.ended)
        assert len(at_work.model.sessions) == 1


@in_fake_time
async def test_attempts_end_when_the_application_gives_the_lead_to_a_session_of_its_own() -> None:
    model, other = HandModel(), HandModel()
    model.refuse = [GONE] * 10_000
    async with kept_call(model) as at_work:
        number = await at_work.keeper.open_session(other)
        at_work.keeper.lead(number)
        await asyncio.sleep(0.02)
        left = len(model.refuse)
        await asyncio.sleep(0.02)
        assert len(model.refuse) == left
        assert at_work.sessions.board.leader == number and at_work.ended == []


# --------------------------------------------------------------------------------------------------------- the bound


class Away(HandModel):
    """Its first session is to be had. Then it takes its time to refuse."""

    def __init__(self, takes_s: float, problem: ProviderError = GONE, *, from_the_start: bool = False) -> None:
        super().__init__()
        self.takes_s = takes_s
        self.problem = problem
        self.from_the_start = from_the_start

    async def connect(self, start: SessionStart | None = None) -> HandSession:
        if self.sessions or self.from_the_start:
            await asyncio.sleep(self.takes_s)
            raise self.problem
        return await super().connect(start)


BUSY = ProviderUnavailable("busy", code=503, retry_after_s=20)


async def seconds_until(condition: Callable[[], object]) -> float:
    """How long that takes, to a tenth."""
    clock = asyncio.get_running_loop().time
    began = clock()
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110 - a condition of the outside has no event to wait for
            await asyncio.sleep(0.1)
    return clock() - began


@in_fake_time
@pytest.mark.parametrize("known", [False, True], ids=["news", "known to be ill"])
@pytest.mark.parametrize("lasted_s", [0, 5, 60])
@pytest.mark.parametrize(("takes_s", "problem"), [(0, GONE), (0.5, GONE), (9, GONE), (20, GONE), (13, BUSY), (0, BUSY)])
async def test_a_provider_that_stays_away_ends_the_call_within_the_patience(
    takes_s: float, problem: ProviderError, lasted_s: float, known: bool
) -> None:
    """However long its refusals take (20 s: connect and setup by default), with all that is configured by default."""
    model = Away(takes_s, problem, from_the_start=lasted_s == 0)
    async with kept_call(model, retry=RetryPolicy(), health=HealthSettings()) as at_work:
        if lasted_s:
            await at_work.leads(1)
            await asyncio.sleep(lasted_s)
            model.session.dies(GONE)
        if known:
            for _ in range(8):
                at_work.health.of(model.endpoint).failed(GONE, asyncio.get_running_loop().time())
        assert await seconds_until(lambda: at_work.ended) <= ConnectionSettings().setup_timeout_s + 15 + 0.2
        assert isinstance(at_work.ended[0], ProviderUnavailable)


@in_fake_time
async def test_the_first_attempt_has_its_own_time_and_the_last_one_what_is_left() -> None:
    model = Away(8.0, from_the_start=True)
    async with kept_call(model, retry=RetryPolicy(base_s=0.01, longest_s=0.01, give_up_after_s=10)) as at_work:
        assert await seconds_until(lambda: at_work.ended) == pytest.approx(10, abs=0.2)
        assert str(at_work.ended[0]).endswith("; before that: gone")
    model = Away(8.0, from_the_start=True)
    async with kept_call(model, retry=RetryPolicy(give_up_after_s=0)) as at_work:
        assert await seconds_until(lambda: at_work.ended) == pytest.approx(8, abs=0.2)


@in_fake_time
@pytest.mark.parametrize(("patience_s", "failures"), [(12, 2), (9, 1)], ids=["time enough", "hardly any time"])
async def test_an_attempt_that_is_broken_off_is_a_failure_and_shows_the_endpoint_ill_if_it_had_time_enough(
    patience_s: float, failures: int
) -> None:
    model = Away(8.0, from_the_start=True)
    retry = RetryPolicy(base_s=0.01, longest_s=0.01, give_up_after_s=patience_s)
    async with kept_call(model, retry=retry) as at_work:
        assert await seconds_until(lambda: at_work.ended) == pytest.approx(patience_s, abs=0.2)
        assert at_work.keeper.stats.connect_failures == 2
        assert at_work.health.of(model.endpoint).stats.failures == failures


@in_fake_time
async def test_an_attempt_that_is_cancelled_from_outside_is_no_failure() -> None:
    model = Away(8.0, from_the_start=True)
    retry = RetryPolicy(base_s=0.01, longest_s=0.01, give_up_after_s=14)
    async with kept_call(model, retry=retry) as at_work:
        await asyncio.sleep(12)
    assert at_work.keeper.stats.connect_failures == 1
    assert at_work.health.of(model.endpoint).stats.failures == 1


@in_fake_time
async def test_a_search_that_was_cut_short_without_a_failure_costs_no_patience() -> None:
    model = Away(3.0, from_the_start=True)
    async with kept_call(model, retry=RetryPolicy(base_s=0.01, longest_s=0.01, give_up_after_s=5)) as at_work:
        await asyncio.sleep(0.1)
        model.from_the_start = False
        at_work.keeper.lead(await at_work.keeper.open_session())
        await asyncio.sleep(4)  # what was being tried has failed, and nobody minds
        model.takes_s = 0.1
        model.session.dies(GONE)
        await asyncio.sleep(4)
        assert at_work.ended == []
        assert await seconds_until(lambda: at_work.ended) <= 1.1


@in_fake_time
async def test_a_stand_in_is_given_the_whole_patience_too() -> None:
    model, other = Away(9.0), Away(9.0)
    other.name = "other"
    other.from_the_start = True
    async with kept_call(model, other, retry=RetryPolicy(), health=HealthSettings()) as at_work:
        await at_work.leads(1)
        await asyncio.sleep(60)
        model.session.dies(GONE)
        assert await seconds_until(lambda: at_work.keeper.stats.failovers) <= 25.2
        other.from_the_start = False
        assert await seconds_until(lambda: at_work.sessions.board.leader is not None) <= 12
        assert other.sessions and at_work.ended == []


# ------------------------------------------------------------------------------------------------------------ resume


async def test_a_lost_session_is_resumed_by_its_newest_handle_that_is_not_of_mid_turn() -> None:
    async with kept_call() as at_work:
        await at_work.leads(1)
        hands_out(at_work.model.session, "h1")
        hands_out(at_work.model.session, "h2")
        hands_out(at_work.model.session, "h3", mid_turn=True)
        hands_out(at_work.model.session, "", resumable=False)
        at_work.model.session.dies(GONE)
        await at_work.leads(2)
        assert at_work.starts == [("", SAID), ("h2", ())]


async def test_a_handle_of_mid_turn_is_better_than_none() -> None:
    async with kept_call() as at_work:
        await at_work.leads(1)
        hands_out(at_work.model.session, "h1", mid_turn=True)
        at_work.model.session.dies(GONE)
        await at_work.leads(2)
        assert at_work.starts[1] == ("h1", ())


async def test_a_refused_handle_leads_to_a_fresh_session_that_knows_what_was_said() -> None:
    async with kept_call() as at_work:
        await at_work.leads(1)
        hands_out(at_work.model.session, "h1")
        at_work.model.refuse = [ResumeRefused("expired")]
        at_work.model.session.dies(GONE)
        await at_work.leads(3)
        assert at_work.starts[1] == ("", SAID)
        assert at_work.keeper.stats.resumes_refused == 1


async def test_a_handle_whose_session_dies_at_once_is_not_used_again() -> None:
    async with kept_call() as at_work:
        await at_work.leads(1)
        hands_out(at_work.model.session, "h1")
        for number in (2, 3):
            at_work.model.session.dies(GONE)
            await at_work.leads(number)
        assert [resume for resume, _ in at_work.starts] == ["", "h1", ""]


async def test_the_handle_of_a_session_that_gave_up_the_lead_is_forgotten() -> None:
    async with kept_call() as at_work:
        await at_work.leads(1)
        hands_out(at_work.model.session, "of the first")
        at_work.keeper.lead(await at_work.keeper.open_session())
        at_work.model.session.dies(GONE)
        await at_work.leads(3)
        assert at_work.starts[2] == ("", SAID)


async def test_leading_again_keeps_the_handle() -> None:
    async with kept_call() as at_work:
        await at_work.leads(1)
        hands_out(at_work.model.session, "h1")
        at_work.keeper.lead(1)
        at_work.model.session.dies(GONE)
        await at_work.leads(2)
        assert at_work.starts[1] == ("h1", ())


async def test_the_model_that_led_is_the_one_that_is_asked_again() -> None:
    other = HandModel(RESUMES)
    async with kept_call() as at_work:
        await at_work.leads(1)
        hands_out(at_work.model.session, "of the first model")
        at_work.keeper.lead(await at_work.keeper.open_session(other))
        hands_out(other.session, "of the other")
        other.session.dies(GONE)
        await at_work.leads(3)
        assert [session.start.resume for session in other.sessions] == ["", "of the other"]
        assert len(at_work.model.sessions) == 1


@in_fake_time
async def test_a_connection_that_waits_is_closed_when_the_application_leads_with_a_session_of_its_own() -> None:
    async with kept_call(HandModel(RESUMES)) as at_work:
        await at_work.leads(1)
        own = await at_work.keeper.open_session()
        first = at_work.model.sessions[0]
        first.goodbye_s = 0.2
        hands_out(first, "h")
        first.emit(GoAway(1, 50.0))
        await until(lambda: at_work.sessions.board.leader is None)
        at_work.keeper.lead(own)
        await asyncio.sleep(1)
        assert at_work.sessions.board.leader == own and len(at_work.model.standbys) == 1
        assert at_work.model.standbys[0].closed


async def test_a_refused_resume_does_not_end_a_call_that_somebody_else_leads_by_now() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    class Slow(HandModel):
        async def connect(self, start: SessionStart | None = None) -> HandSession:
            if start is not None and start.resume:
                asked.set()
                await answer.wait()
                raise ResumeRefused("expired")
            return await super().connect(start)

    async with kept_call(Slow(RESUMES)) as at_work:
        await at_work.leads(1)
        hands_out(at_work.model.session, "h1")
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
    async with kept_call(Slow(RESUMES)) as at_work:
        await asked.wait()
        number = await at_work.keeper.open_session(other)
        at_work.keeper.lead(number)
        answer.set()
        await until(lambda: at_work.model.sessions and at_work.model.session.state == "closed")
        assert at_work.fast.led == [number]
        other.session.dies(GONE)
        await until(lambda: len(other.sessions) == 2 and at_work.sessions.board.leader == other.session.number)
