"""A session is told what it must know before it hears, and is asked to speak only when it leads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import msgspec
import pytest

from bridge.lanes.keeper_ports import KeeperStats
from bridge.lanes.lead import Lead
from bridge.lanes.open_sessions import OpenSessions
from bridge.lanes.settings import CallSettings
from bridge.lanes.succession import Succession
from bridge.lanes.wishes import Wishes
from bridge.sessions.feed import SessionFeed
from bridge.sessions.overrides import Overrides
from bridge.sessions.thread import Thread
from providers.contract import Closed, ResumptionUpdate, SessionStart, ToolSpec
from providers.errors import (
    NeedsNewSession,
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
    ResumeRefused,
    SessionEnded,
    SettingRefused,
)
from providers.health import HealthBook
from providers.retry import RetryPolicy
from providers.signal.formats import PCM16_24K
from tests.fakes.fake_time import in_fake_time
from tests.fakes.hand_model import HandModel, HandSession
from tests.fakes.kept_call import GONE, PATIENT, RESUMES
from tests.fakes.lanes import SAID, OrderedLane, Remembers

WEATHER = ToolSpec(name="weather")


class Control:
    """Told of the ends of sessions."""

    def __init__(self, sessions: OpenSessions) -> None:
        self.sessions = sessions

    def session_closed(self, closed: Closed) -> None:
        self.sessions.forget(closed.session)


class Call:
    def __init__(self) -> None:
        self.model = HandModel(RESUMES)
        self.lane = OrderedLane()
        self.stats = KeeperStats()
        self.owes_results = False
        self.sessions = OpenSessions(
            "test",
            make_feed=lambda session: SessionFeed(session, bus=PCM16_24K, room=PCM16_24K),
            opened=lambda _: None,
            gone=lambda _: None,
        )
        settings = CallSettings(retry=RetryPolicy(give_up_after_s=5))
        self.succession = Succession([self.model], settings, HealthBook(PATIENT), random.Random(1))
        self.wishes = Wishes(lambda: None)
        self.lead = Lead(
            self.sessions,
            settings=settings,
            tool_specs=lambda: (WEATHER,),
            memory=Remembers(),
            succession=self.succession,
            wishes=self.wishes,
            stats=self.stats,
            owes_results=lambda: self.owes_results,
        )
        self.lane.control = Control(self.sessions)  # type: ignore[assignment]
        self.sessions.start(self.lane)
        self.lead.start(self.lane)

    async def open(self, thread: Thread = Thread(), *, by_handle: bool = False) -> int:  # noqa: B008 - frozen
        return await self.lead.open(self.model, thread, None, by_handle=by_handle)


async def test_a_session_begins_with_what_was_said_or_by_its_handle_never_with_both() -> None:
    call = Call()
    await call.open()
    await call.open(Thread(without_last_turn=True))
    call.lead.handle.update(ResumptionUpdate(1, "h", resumable=True))
    await call.open(by_handle=True)
    starts = [session.start for session in call.model.sessions]
    assert [(start.resume, start.history) for start in starts] == [("", SAID), ("", SAID[:-1]), ("h", ())]
    assert all(start.tools == (WEATHER,) for start in starts)


@in_fake_time
async def test_a_connection_that_waits_is_closed_when_nobody_may_ask_its_endpoint() -> None:
    call = Call()
    call.succession.health_of(call.model).failed(ProviderRejected("key", endpoint_wide=True), 1000.0)
    standby = await call.model.stand_by()
    with pytest.raises(ProviderUnavailable, match="nobody asks it"):
        await call.lead.open(call.model, Thread(), standby, by_handle=False)
    assert standby.closed and not standby.used


@in_fake_time
async def test_a_connection_that_waits_is_closed_when_the_call_ends_before_its_endpoint_may_be_asked() -> None:
    call = Call()
    call.succession.health_of(call.model).begin = lambda now: 3.0  # type: ignore[method-assign]
    standby = await call.model.stand_by()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await call.lead.open(call.model, Thread(), standby, by_handle=False)
    assert standby.closed and not standby.used


async def test_what_was_changed_in_a_call_goes_along_and_wins_over_what_was_configured() -> None:
    call = Call()
    call.lead.overrides.add(Overrides(voice="Kore", tools=()), "hand")
    await call.open()
    assert (call.model.session.start.voice, call.model.session.start.tools) == ("Kore", ())


async def test_what_is_wished_for_is_of_the_next_session_and_not_kept_unless_it_is_granted() -> None:
    call = Call()
    call.lead.overrides.add(Overrides(voice="Kore", instructions="be brief"), "hand")
    call.wishes.make("another voice", overrides=Overrides(voice="Puck"))
    number = await call.open()
    assert (call.model.session.start.voice, call.model.session.start.instructions) == ("Puck", "be brief")
    assert call.lead.bring_up_to_date(number) == []
    call.wishes.refuse(GONE)
    assert call.lead.bring_up_to_date(number) == [] and call.model.session.told == [("update", None, None, "Kore")]


async def test_a_session_is_told_of_what_was_changed_after_it_began_to_open_and_of_nothing_else() -> None:
    call = Call()
    call.lead.overrides.add(Overrides(voice="Kore", tools=()), "hand")
    number = await call.open()
    assert call.lead.bring_up_to_date(number) == [] and call.model.session.told == []
    call.lead.overrides.add(Overrides(voice="Kore", tools=(), instructions="be brief"), "hand")
    for _ in range(2):
        assert call.lead.bring_up_to_date(number) == []
        assert call.model.session.told == [("update", "be brief", None, None)]


@pytest.mark.parametrize("refusal", [NeedsNewSession(["voice"]), SessionEnded("gone")])
async def test_what_a_session_cannot_be_told_is_said_as_often_as_it_is_asked(refusal: ProviderError) -> None:
    call = Call()
    number = await call.open()
    call.model.session.refuses_updates = refusal
    call.lead.overrides.add(Overrides(voice="Kore"), "hand")
    assert [call.lead.bring_up_to_date(number) for _ in range(2)] == [["voice"], ["voice"]]


async def test_no_session_can_be_told_to_go_back_to_what_is_configured() -> None:
    call = Call()
    call.lead.overrides.add(Overrides(voice="Kore"), "hand")
    number = await call.open()
    call.lead.overrides.forget_voice("hand")
    call.lead.overrides.add(Overrides(instructions="be brief"), "hand")
    assert call.lead.bring_up_to_date(number) == ["instructions", "voice"]
    assert call.model.session.told == []


async def test_a_change_that_the_model_refuses_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    call = Call()
    number = await call.open()
    call.model.session.refuses_updates = ProviderError("a bad tool")
    call.lead.overrides.add(Overrides(tools=(WEATHER,)), "hand")
    assert [call.lead.bring_up_to_date(number) for _ in range(2)] == [[], []]
    assert ["a bad tool" in record.message for record in caplog.records] == [True]


async def test_a_connection_that_waits_is_let_go_when_a_setting_is_refused() -> None:
    call = Call()
    standby = await call.model.stand_by()
    call.model.refuse = [SettingRefused("speech.voice", "marin", "choose another")]
    with pytest.raises(SettingRefused):
        await call.lead.open(call.model, Thread(), standby, by_handle=False)
    assert standby.closed


async def test_the_note_comes_before_the_lead_and_the_request_to_speak_after_it() -> None:
    call = Call()
    order: list[str] = []
    call.lane = _Ordered(call.lane, order)
    call.sessions.start(call.lane)
    call.lead.start(call.lane)
    number = await call.open()
    call.model.session.told = _Log(order)
    assert call.lead.give(number, Thread(rewind_to=7, go_on=True, note=True), resumed=True)
    assert order == ["send_text", "rewind", "lead", "go on"]


class _Ordered(OrderedLane):
    """Writes down what it is asked, and when."""

    def __init__(self, lane: OrderedLane, order: list[str]) -> None:
        super().__init__()
        self.control, self.feeds = lane.control, lane.feeds
        self._order = order

    def rewind(self, frame: int) -> None:
        self._order.append("rewind")

    def lead(self, number: int, hearing: Sequence[int]) -> None:
        self._order.append("lead")
        super().lead(number, hearing)

    def go_on(self, instructions: str) -> None:
        self._order.append("go on")


class _Log(list[tuple[object, ...]]):
    def __init__(self, order: list[str]) -> None:
        super().__init__()
        self._order = order

    def append(self, command: tuple[object, ...]) -> None:
        self._order.append(str(command[0]))


async def test_a_model_that_is_told_a_result_speaks_anyway_and_is_not_asked_to() -> None:
    call = Call()
    call.owes_results = True
    assert call.lead.give(await call.open(), Thread(go_on=True), resumed=False)
    assert call.lane.asked == []


async def test_a_session_whose_first_word_is_its_end_has_not_led() -> None:
    call = Call()
    call.model.opening = lambda session: session.dies(GONE)
    number = await call.open()
    assert not call.lead.give(number, Thread(go_on=True), resumed=False)
    assert call.lane.asked == [] and not call.lead.is_held()


async def test_a_fresh_session_makes_the_old_handle_worthless_and_a_resumed_one_does_not() -> None:
    call = Call()
    for resumed, kept in ((True, "h"), (False, "")):
        call.lead.handle.update(ResumptionUpdate(1, "h", resumable=True))
        call.lead.give(await call.open(by_handle=resumed), Thread(), resumed=resumed)
        assert call.lead.handle.value == kept


@pytest.mark.parametrize(
    "refusal", [ResumeRefused("old"), SettingRefused("speech.voice", "x", "no such voice"), SessionEnded("over")]
)
async def test_a_refused_handle_and_a_refusal_of_ours_are_no_failures_of_the_connection(refusal: ProviderError) -> None:
    call = Call()
    call.model.refuse = [refusal, GONE]
    for wanted in (type(refusal), ProviderUnavailable):
        with pytest.raises(wanted):
            await call.open()
    assert call.stats.connect_failures == 1


@in_fake_time
async def test_a_goodbye_is_waited_for_half_a_second_and_the_time_without_a_leader_is_known() -> None:
    class Slow(HandSession):
        async def close(self) -> None:
            await asyncio.sleep(60)

    call = Call()
    loop = asyncio.get_running_loop()
    first = await call.open()
    call.lead.give(first, Thread(), resumed=False)
    call.model.session.__class__ = Slow
    began = loop.time()
    await call.lead.end(first)
    assert loop.time() - began == pytest.approx(0.5)
    await call.lead.end(first)  # it is gone
    await asyncio.sleep(1)
    call.lead.give(await call.open(), Thread(), resumed=False)
    assert call.stats.longest_leaderless_ms == pytest.approx(1500)


@in_fake_time
async def test_an_endpoint_that_nobody_may_ask_is_waited_for_but_not_longer_than_a_call_is_patient() -> None:
    call = Call()
    loop = asyncio.get_running_loop()
    health = call.succession.health_of(call.model)
    waits = [3.0, 0.0]
    health.begin = lambda now: waits.pop(0)  # type: ignore[method-assign]
    began = loop.time()
    await call.open()
    assert loop.time() - began == pytest.approx(3.0)
    health.begin = lambda now: 6.0  # type: ignore[method-assign]
    with pytest.raises(ProviderUnavailable, match="nobody asks it for 6 s") as refused:
        await call.open()
    assert refused.value.retry_after_s == 6.0
    health.begin = lambda now: 3.0  # type: ignore[method-assign]
    call.succession.led_by(HandModel())
    with pytest.raises(ProviderUnavailable, match="nobody asks it for 3 s"):
        await call.open()  # it is only wished for


@in_fake_time
async def test_an_attempt_that_is_cancelled_makes_room_for_another_unless_it_began_long_before() -> None:
    class Hangs(HandModel):
        async def connect(self, start: SessionStart | None = None) -> HandSession:
            await asyncio.sleep(3600)
            raise AssertionError("nobody waits so long")

    call = Call()
    call.model = Hangs()
    health, now = call.succession.health_of(call.model), asyncio.get_running_loop().time
    async with asyncio.TaskGroup() as group:
        before = group.create_task(call.open(), name="before")
        await asyncio.sleep(1)
        for _ in range(PATIENT.failures_to_open):
            health.failed(GONE, now())
        await asyncio.sleep(PATIENT.open_s)
        one_for_all = group.create_task(call.open(), name="one for all")
        await asyncio.sleep(1)
        before.cancel()
        await asyncio.sleep(0.1)
        assert health.allows(now()) > 0, "it is still waited for"
        one_for_all.cancel()
        await asyncio.sleep(0.1)
        assert health.allows(now()) == 0


async def test_a_note_that_cannot_be_told_does_not_keep_a_session_from_leading(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Deaf(HandSession):
        problem: ProviderError

        def send_text(self, text: str, *, respond: bool = True) -> None:
            raise self.problem

    call = Call()
    for problem in (SessionEnded("gone"), ProviderError("too long")):
        number = await call.open()
        call.model.session.__class__ = Deaf
        call.model.session.problem = problem  # type: ignore[attr-defined]
        assert call.lead.give(number, Thread(note=True), resumed=True)
    assert ["too long" in record.message for record in caplog.records] == [True]


async def test_capabilities_of_the_model_bound_what_it_is_told() -> None:
    call = Call()
    call.model.capabilities = msgspec.structs.replace(RESUMES, seed_items=0)
    await call.open()
    assert call.model.session.start.history == SAID, "the memory knows the bound; nothing is cut twice"
