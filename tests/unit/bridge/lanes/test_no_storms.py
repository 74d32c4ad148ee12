"""Whatever fails when a session is to be replaced: nobody is stormed, and the call goes on as long as it can."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sessions.rollover import RolloverSettings
from providers.contract import GoAway, SessionStart
from providers.errors import ProviderError, ProviderRejected, ProviderUnavailable, ResumeRefused, ResumeTooSoon
from providers.health import HealthSettings
from providers.retry import RetryPolicy
from tests.fakes.fake_time import FakeTimeLoop, in_fake_time
from tests.fakes.hand_model import HandModel, HandSession, HandStandby
from tests.fakes.kept_call import GONE, PATIENT, RESUMES, hands_out, kept_call

MOST = 14
"""Connections dialled in any ten seconds, by one call that meets nothing but failures."""
KEY = ProviderRejected("key", endpoint_wide=True)
BUSY = ProviderUnavailable("one session at a time", code=503)


class Counted(HandModel):
    """Notes when it is dialled. The first session is to be had; `fails` says what becomes of all others."""

    def __init__(self, fails: Callable[[Counted, str], ProviderError | None]) -> None:
        super().__init__(RESUMES)
        self.fails = fails
        self.dialled: list[float] = []

    async def stand_by(self) -> HandStandby:
        self.dial("stand_by")
        return await super().stand_by()

    async def connect(self, start: SessionStart | None = None) -> HandSession:
        spare = next((one for one in self.standbys if one.used and not one.closed), None)
        if spare is None:
            self.dial("connect")
        else:
            spare.closed = True
            self.may("connect")
        return await super().connect(start)

    def dial(self, what: str) -> None:
        self.dialled.append(asyncio.get_running_loop().time())
        self.may(what)

    def may(self, what: str) -> None:
        problem = self.fails(self, what) if self.sessions else None
        if problem is not None:
            raise problem

    @property
    def most_in_ten_seconds(self) -> int:
        return max(sum(at <= other < at + 10 for other in self.dialled) for at in self.dialled)


def all_of_it(model: Counted, what: str) -> ProviderError | None:
    return GONE


def the_setup(model: Counted, what: str) -> ProviderError | None:
    return GONE if what == "connect" else None


def the_key(model: Counted, what: str) -> ProviderError | None:
    return KEY


def the_settings(model: Counted, what: str) -> ProviderError | None:
    return ProviderRejected("setup") if what == "connect" else None


def a_second_session(model: Counted, what: str) -> ProviderError | None:
    return BUSY if what == "connect" and model.session.state == "ready" else None


def each_connection_ends_at_once(model: Counted, what: str) -> ProviderError | None:
    for standby in model.standbys:
        standby.alive = False
    return GONE if what == "connect" else None


def the_handle(model: Counted, what: str) -> ProviderError | None:
    return ResumeRefused("old") if what == "connect" else None


FAILURES = [all_of_it, the_setup, the_key, the_settings, a_second_session, each_connection_ends_at_once, the_handle]


@in_fake_time
@pytest.mark.parametrize("careful", [False, True], ids=["no breaker", "breaker"])
@pytest.mark.parametrize("quiet", [True, False], ids=["quiet", "busy"])
@pytest.mark.parametrize("ends", ["by a cap of ours", "announced", "announced in the last moment"])
@pytest.mark.parametrize("fails", FAILURES)
async def test_a_change_that_cannot_be_made_storms_nobody(
    fails: Callable[[Counted, str], ProviderError | None], ends: str, quiet: bool, careful: bool
) -> None:
    """The provider never ends the session; the leader serves on."""
    model = Counted(fails)
    cap_s = 30.0 if ends == "by a cap of ours" else None
    rollover = RolloverSettings(max_session_s=cap_s, before_cap_s=10.0, way="overlap")
    health = HealthSettings() if careful else PATIENT
    async with kept_call(model, retry=RetryPolicy(), rollover=rollover, health=health) as at_work:
        await asyncio.sleep(15)
        at_work.fast.quiet = quiet
        if ends != "by a cap of ours":
            model.session.emit(GoAway(1, 12.0 if ends == "announced" else 0.0))
        await asyncio.sleep(45)
        assert at_work.sessions.board.leader == 1 and at_work.ended == []
    assert 2 <= len(model.dialled) <= 25
    assert model.most_in_ten_seconds <= MOST
    if careful and fails is the_key:
        assert len(model.dialled) <= 5, "what is refused for good is asked once a minute"


@in_fake_time
@pytest.mark.parametrize("quiet", [True, False], ids=["quiet", "busy"])
@pytest.mark.parametrize("fails", [all_of_it, the_key])
async def test_at_a_cap_of_ours_a_session_that_has_a_handle_serves_on_until_another_can_be_reached(
    fails: Callable[[Counted, str], ProviderError | None], quiet: bool
) -> None:
    model = Counted(fails)
    rollover = RolloverSettings(max_session_s=30.0, before_cap_s=10.0)
    async with kept_call(model, retry=RetryPolicy(), rollover=rollover) as at_work:
        await asyncio.sleep(15)
        hands_out(model.session, "h")
        at_work.fast.quiet = quiet
        await asyncio.sleep(90)
        assert at_work.sessions.board.leader == 1 and at_work.ended == []
        assert 2 <= len(model.dialled) <= 25 and model.most_in_ten_seconds <= MOST
        model.fails = lambda _, __: None
        await asyncio.sleep(75)  # what was refused for good is asked once a minute
        assert at_work.sessions.board.leader not in (None, 1) and model.sessions[1].start.resume == "h"


class SlowToDial(Counted):
    """It takes its time to be reached."""

    async def stand_by(self) -> HandStandby:
        await asyncio.sleep(3.0)
        return await super().stand_by()


@in_fake_time
async def test_at_a_cap_of_ours_a_connection_that_is_being_dialled_is_waited_for() -> None:
    model = SlowToDial(lambda _, __: None)
    rollover = RolloverSettings(max_session_s=20.0, before_cap_s=1.0)
    async with kept_call(model, rollover=rollover) as at_work:
        await asyncio.sleep(15)
        hands_out(model.session, "h")
        at_work.fast.quiet = False
        await asyncio.sleep(6.5)
        assert at_work.sessions.board.leader == 1
        await asyncio.sleep(2.0)
        assert at_work.sessions.board.leader not in (None, 1) and len(model.dialled) == 2


@in_fake_time
async def test_at_the_real_end_a_stand_in_takes_over() -> None:
    model, other = Counted(all_of_it), HandModel(RESUMES)
    other.name = "other"
    async with kept_call(model, other, retry=RetryPolicy(give_up_after_s=2), health=HealthSettings()) as at_work:
        await asyncio.sleep(15)
        model.session.emit(GoAway(1, 3.0))
        await asyncio.sleep(3)
        model.session.dies(GONE)
        await asyncio.sleep(15)
        assert other.sessions and at_work.sessions.board.leader == other.session.number


@in_fake_time
async def test_a_change_that_succeeds_late_is_made_once() -> None:
    model = Counted(all_of_it)
    async with kept_call(model, retry=RetryPolicy()) as at_work:
        await asyncio.sleep(15)
        hands_out(model.session, "h")
        model.session.emit(GoAway(1, 60.0))
        await asyncio.sleep(20)
        model.fails = lambda _, __: None
        await asyncio.sleep(20)
        assert at_work.sessions.board.leader is not None and len(model.sessions) == 2
        assert at_work.keeper.stats.changes == 1 and at_work.keeper.stats.changes_forced == 0


# ------------------------------------------------------------------------------- sessions that are ended as they begin


def ends_early(notice_s: float, *, for_good: bool) -> HandModel:
    """A service that announces the end of each session as soon as it leads; `for_good`: and then ends it."""
    model = HandModel()

    def opening(session: HandSession) -> None:
        session.emit(GoAway(session.number, notice_s))
        if for_good:
            asyncio.get_running_loop().call_later(notice_s, session.dies, GONE)

    model.opening = opening
    return model


@in_fake_time
@pytest.mark.parametrize("notice_s", [0.0, 1.0, 3.0, 50.0])
async def test_announced_ends_without_end_are_not_followed_without_end(notice_s: float) -> None:
    model = ends_early(notice_s, for_good=False)
    async with kept_call(model, retry=RetryPolicy(), rollover=RolloverSettings()) as at_work:
        await asyncio.sleep(2)
        assert len(model.sessions) >= 2, "one is followed at once"
        await asyncio.sleep(58)
        begun = len(model.sessions)
        assert begun <= 20
        await asyncio.sleep(600)
        assert len(model.sessions) - begun <= 60, "once in ten seconds"
        assert at_work.sessions.board.leader is not None and at_work.ended == []


@in_fake_time
async def test_a_wish_that_cannot_be_had_shortens_no_wait_that_announced_ends_impose() -> None:
    model, other = ends_early(0.0, for_good=False), HandModel()
    other.name = "other"
    other.refuse = [GONE] * 10_000
    announces = model.opening

    def opening(session: HandSession) -> None:
        assert len(model.sessions) <= 20
        announces(session)

    async def swap() -> None:
        while True:
            with contextlib.suppress(ProviderError):
                await at_work.keeper.swap(other)

    model.opening = opening
    async with kept_call(model, retry=RetryPolicy(), rollover=RolloverSettings()) as at_work:
        async with asyncio.TaskGroup() as group:
            asks = group.create_task(swap(), name="swap")
            await asyncio.sleep(60)
            asks.cancel()
        assert at_work.sessions.board.leader is not None and at_work.ended == []


@in_fake_time
@pytest.mark.parametrize("notice_s", [0.5, 3.0])
async def test_sessions_that_end_as_announced_as_soon_as_they_begin_end_the_call_in_the_end(notice_s: float) -> None:
    model = ends_early(notice_s, for_good=True)
    async with kept_call(model, retry=RetryPolicy(), rollover=RolloverSettings()) as at_work:
        await asyncio.sleep(60)
        assert len(at_work.ended) == 1 and isinstance(at_work.ended[0], ProviderUnavailable)
        assert len(model.sessions) <= 15


@in_fake_time
async def test_a_stand_in_takes_over_from_a_service_that_ends_all_its_sessions() -> None:
    model, other = ends_early(0.5, for_good=True), HandModel()
    other.name = "other"
    async with kept_call(model, other, retry=RetryPolicy(), rollover=RolloverSettings()) as at_work:
        await asyncio.sleep(60)
        assert at_work.sessions.board.leader == other.session.number and at_work.ended == []


@in_fake_time
async def test_a_session_that_serves_in_between_makes_the_next_early_end_a_first_one() -> None:
    model = HandModel()
    async with kept_call(model, retry=RetryPolicy(base_s=8.0), rollover=RolloverSettings()) as at_work:
        await at_work.leads(1)
        for number in range(1, 9):
            model.session.emit(GoAway(number, 1.0))
            await asyncio.sleep(0.5)
            assert at_work.sessions.board.leader == number + 1, "at once"
            await asyncio.sleep(15)


# ------------------------------------------------------------------------------------------------------ all of it mixed

OUTCOMES = {
    "well": None,
    "gone": GONE,
    "busy": BUSY,
    "setup": ProviderRejected("setup"),
    "handle": ResumeRefused("old"),
    "early": ResumeTooSoon("open"),
}
MOST_OF_ALL = 20
"""In any ten seconds: after each loss two attempts are made at once, and so they are at the first early end."""


@settings(max_examples=60, deadline=None)
@given(
    outcomes=st.lists(st.sampled_from(sorted(OUTCOMES)), max_size=60),
    events=st.lists(
        st.tuples(st.sampled_from(["go away", "handle", "busy", "quiet", "word", "standby ends"]), st.floats(0.0, 3.0)),
        max_size=60,
    ),
    last=st.sampled_from(["well", "gone", "busy"]),
)
def test_whatever_fails_in_whatever_order_nobody_is_stormed(
    outcomes: list[str], events: list[tuple[str, float]], last: str
) -> None:
    script = list(outcomes)

    def fails(model: Counted, what: str) -> ProviderError | None:
        return OUTCOMES[script.pop(0) if script else last]

    async def live() -> None:
        model = Counted(fails)
        async with kept_call(model, retry=RetryPolicy(give_up_after_s=600), rollover=RolloverSettings()) as at_work:
            await asyncio.sleep(15)
            for number, (what, seconds) in enumerate(events):
                leader = at_work.sessions.board.leader
                session = next((one for one in model.sessions if one.number == leader), None)
                match what:
                    case "go away" if session is not None:
                        session.emit(GoAway(session.number, seconds * 20))
                    case "handle" if session is not None:
                        hands_out(session, f"handle {number}")
                    case "busy" | "quiet":
                        at_work.fast.quiet = what == "quiet"
                    case "word":
                        at_work.memory.version += 1
                    case "standby ends":
                        for standby in model.standbys:
                            standby.alive = False
                await asyncio.sleep(seconds)
            await asyncio.sleep(20)
            assert at_work.ended == [] or isinstance(at_work.ended[0], ProviderRejected | ResumeRefused)
        assert model.most_in_ten_seconds <= MOST_OF_ALL

    with asyncio.Runner(loop_factory=FakeTimeLoop, debug=False) as runner:
        runner.run(live())
