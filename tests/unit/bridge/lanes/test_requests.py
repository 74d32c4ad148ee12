"""Who asks for another model or other settings gets them, or learns why not, and the call goes on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import msgspec
import pytest

from providers.contract import (
    Capabilities,
    GoAway,
    SessionStart,
)
from providers.errors import (
    ProviderError,
    ProviderRejected,
    ResumeRefused,
    SessionEnded,
    SettingRefused,
)
from providers.retry import RetryPolicy
from tests.fakes.fake_time import in_fake_time
from tests.fakes.hand_model import CAPABILITIES, HandModel, HandSession, HandStandby
from tests.fakes.kept_call import GONE, RESUMES, hands_out, kept_call, until
from tests.fakes.lanes import SAID

OTHER = msgspec.structs.replace(CAPABILITIES, model="hand-2")
FOREIGN = msgspec.structs.replace(CAPABILITIES, provider="foot", model="foot-1")


class Fixed(HandModel):
    """The voice of its running sessions cannot be changed."""

    async def connect(self, start: SessionStart | None = None) -> HandSession:
        session = await super().connect(start)
        session.fixed = ("voice",)
        return session


class Slow(Fixed):
    """Opens a session when it is let, and one after the other."""

    def __init__(self, capabilities: Capabilities = CAPABILITIES, *, fixed: bool = False) -> None:
        super().__init__(capabilities)
        self.may_open = asyncio.Semaphore(0)
        self.asked = 0
        self._fixed = fixed

    async def connect(self, start: SessionStart | None = None) -> HandSession:
        self.asked += 1
        await self.may_open.acquire()
        return await (super().connect(start) if self._fixed else HandModel.connect(self, start))


class OneVoice(Fixed):
    """Has one voice beside the one that is configured."""

    def __init__(self, voice: str, capabilities: Capabilities = CAPABILITIES) -> None:
        super().__init__(capabilities)
        self.voice = voice

    async def connect(self, start: SessionStart | None = None) -> HandSession:
        if start is not None and start.voice not in (None, self.voice):
            raise SettingRefused("speech.voice", start.voice, f"it has {self.voice}")
        return await super().connect(start)


class SetupFails(HandModel):
    """Can be dialled, and no more."""

    async def stand_by(self) -> HandStandby:
        self.standbys.append(HandStandby(self))
        return self.standbys[-1]


async def gives_up(wish: Awaitable[None]) -> ProviderError:
    with pytest.raises(ProviderError) as given_up:
        await wish
    return given_up.value


# -------------------------------------------------------------------------------------------------------- another model


async def test_a_swap_goes_on_with_the_other_model_in_a_quiet_moment() -> None:
    other = HandModel(OTHER)
    async with kept_call() as at_work:
        await at_work.leads(1)
        await asyncio.wait_for(at_work.keeper.swap(other), 5)
        assert at_work.keeper.model is other
        assert other.session.start.history == SAID
        other.session.dies(GONE)
        await until(lambda: len(other.sessions) == 2)


async def test_a_swap_that_cannot_be_made_leaves_the_call_as_it_was() -> None:
    other = HandModel(OTHER)
    other.refuse = [ProviderRejected("key")] * 5
    async with kept_call() as at_work:
        await at_work.leads(1)
        with pytest.raises(ProviderRejected):
            await asyncio.wait_for(at_work.keeper.swap(other), 5)
        assert at_work.sessions.board.leader == 1
        assert at_work.keeper.model is at_work.model and at_work.ended == []


async def test_a_swap_asked_for_while_a_session_is_being_opened_is_made_after_it() -> None:
    model, other = Slow(), HandModel(OTHER)
    async with kept_call(model) as at_work, asyncio.TaskGroup() as group:
        await until(lambda: model.asked)
        swapped = group.create_task(at_work.keeper.swap(other), name="swap")
        at_work.fast.quiet = False
        await asyncio.sleep(0)
        model.may_open.release()
        await at_work.leads(1)
        assert at_work.keeper.model is model and not swapped.done()
        at_work.fast.quiet = True
        await at_work.leads(2)
        assert at_work.keeper.model is other
        await asyncio.wait_for(swapped, 5)


async def test_a_swap_asked_for_during_a_planned_change_is_made_after_it() -> None:
    model, other = Slow(), HandModel(OTHER)
    model.may_open.release()
    async with kept_call(model) as at_work, asyncio.TaskGroup() as group:
        await at_work.leads(1)
        model.session.emit(GoAway(1, 50.0))
        await until(lambda: model.asked == 2)
        swapped = group.create_task(at_work.keeper.swap(other), name="swap")
        await asyncio.sleep(0)
        model.may_open.release()
        await at_work.leads(3)
        assert at_work.keeper.model is other and at_work.fast.led == [1, 2, 3]
        await asyncio.wait_for(swapped, 5)


async def test_a_swap_waits_though_the_application_gives_the_lead_to_another_session() -> None:
    other = HandModel(OTHER)
    async with kept_call() as at_work, asyncio.TaskGroup() as group:
        await at_work.leads(1)
        at_work.fast.quiet = False
        swapped = group.create_task(at_work.keeper.swap(other), name="swap")
        await until(lambda: other.standbys)
        at_work.keeper.lead(await at_work.keeper.open_session())
        await asyncio.sleep(0.01)
        assert not swapped.done()
        at_work.fast.quiet = True
        await asyncio.wait_for(swapped, 5)
        assert at_work.keeper.model is other


@pytest.mark.parametrize("again", [True, False], ids=["another wish", "no wish"])
async def test_a_model_that_nobody_wishes_for_any_more_does_not_get_the_lead(again: bool) -> None:
    other, third = Slow(OTHER), HandModel(msgspec.structs.replace(OTHER, model="hand-3"))
    async with kept_call() as at_work:
        await at_work.leads(1)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            swapped = group.create_task(gives_up(at_work.keeper.swap(other)), name="swap")
            await until(lambda: other.asked)
            if again:
                group.create_task(at_work.keeper.swap(third), name="swap again")
            else:
                swapped.cancel()
            await asyncio.sleep(0)
            other.may_open.release()
        await until(lambda: other.session.state == "closed")
        assert at_work.fast.led == ([1, 3] if again else [1])
        assert at_work.keeper.model is (third if again else at_work.model)


async def test_a_swap_that_is_not_wanted_any_more_is_not_made_though_nobody_leads() -> None:
    model, other = Slow(), Slow(OTHER)
    model.may_open.release()
    async with kept_call(model) as at_work:
        await at_work.leads(1)
        at_work.fast.quiet = False
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            swapped = group.create_task(gives_up(at_work.keeper.swap(other)), name="swap")
            await until(lambda: other.standbys)
            model.session.dies(GONE)
            await until(lambda: other.asked)
            swapped.cancel()
        other.may_open.release()
        model.may_open.release()
        await at_work.leads(3)
        assert at_work.keeper.model is model and other.session.state == "closed"


@in_fake_time
async def test_the_room_does_not_wait_for_the_goodbye_of_a_session_that_nobody_wishes_for_any_more() -> None:
    other = Slow(OTHER)
    async with kept_call() as at_work:
        await at_work.leads(1)
        at_work.fast.quiet = False
        async with asyncio.TaskGroup() as group:
            swapped = group.create_task(gives_up(at_work.keeper.swap(other)), name="swap")
            await until(lambda: other.standbys)
            at_work.model.session.dies(GONE)
            await until(lambda: other.asked)
            swapped.cancel()
        other.opening = lambda session: setattr(session, "goodbye_s", 2.0)
        other.may_open.release()
        await at_work.leads(3)
        assert at_work.keeper.stats.longest_leaderless_ms < 100
        await asyncio.sleep(2.1)
        assert other.session.state == "closed"


@in_fake_time
async def test_the_room_does_not_wait_for_the_goodbye_of_a_connection_that_nobody_wishes_for_any_more() -> None:
    other = SetupFails(OTHER)
    other.refuse = [GONE]
    async with kept_call() as at_work, asyncio.TaskGroup() as group:
        await at_work.leads(1)
        swapped = group.create_task(gives_up(at_work.keeper.swap(other)), name="swap")
        await until(lambda: not other.refuse)
        at_work.fast.quiet = False
        await until(lambda: len(other.standbys) == 2)
        other.standbys[1].goodbye_s = 2.0
        at_work.model.session.dies(GONE, 1011)
        await at_work.leads(3)
        assert other.standbys[1].closed and swapped.done() and swapped.result() is GONE
        assert at_work.keeper.stats.longest_leaderless_ms < 100


async def test_of_two_changes_the_later_one_is_made_and_the_earlier_one_forgotten() -> None:
    async with kept_call(Fixed()) as at_work:
        await at_work.leads(1)
        at_work.fast.quiet = False
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            first = group.create_task(gives_up(at_work.keeper.update(voice="marin", instructions="be brief")))
            await asyncio.sleep(0.01)
            group.create_task(at_work.keeper.update(voice="cedar"))
            await asyncio.sleep(0.01)
            at_work.fast.quiet = True
        assert isinstance(first.result(), SessionEnded)
        start = at_work.model.session.start
        assert (start.voice, start.instructions) == ("cedar", None), "the first has changed nothing"


@in_fake_time
@pytest.mark.parametrize("dialled", [False, True], ids=["not dialled", "not set up"])
async def test_a_swap_to_a_model_that_is_away_says_so_when_its_patience_is_over(dialled: bool) -> None:
    other = SetupFails(OTHER) if dialled else HandModel(OTHER)
    other.refuse = [GONE] * 10_000
    retry = RetryPolicy(base_s=0.25, longest_s=4.0, give_up_after_s=30)
    async with kept_call(retry=retry) as at_work:
        await at_work.leads(1)
        began = asyncio.get_running_loop().time()
        assert await gives_up(at_work.keeper.swap(other)) is GONE
        assert 10 < asyncio.get_running_loop().time() - began <= 31
        asked = 10_000 - len(other.refuse)
        assert 5 <= asked <= 20, "each pause is longer than the one before"
        await asyncio.sleep(60)
        assert len(other.refuse) == 10_000 - asked and at_work.fast.led == [1] and at_work.ended == []


@in_fake_time
async def test_a_swap_to_an_endpoint_that_nobody_may_ask_says_so() -> None:
    other = HandModel(OTHER)
    async with kept_call() as at_work:
        await at_work.leads(1)
        health = at_work.keeper._succession.health_of(other)
        health.failed(ProviderRejected("key", endpoint_wide=True), asyncio.get_running_loop().time())
        assert "nobody asks it for 60 s" in str(await gives_up(at_work.keeper.swap(other)))
        assert other.standbys == [] and at_work.fast.led == [1]


@in_fake_time
@pytest.mark.parametrize("failed", [True, False], ids=["it had failed", "it was not tried yet"])
async def test_a_lost_leader_is_resumed_at_the_first_failure_of_the_model_that_was_wished_for(failed: bool) -> None:
    other = HandModel(OTHER) if failed else SetupFails(OTHER)
    impatient = RetryPolicy(base_s=1.0, longest_s=1.0, give_up_after_s=10)
    other.refuse = [GONE] * 10_000
    async with kept_call(retry=impatient) as at_work, asyncio.TaskGroup() as group:
        await at_work.leads(1)
        hands_out(at_work.model.session, "h1")
        at_work.fast.quiet = False
        swapped = group.create_task(gives_up(at_work.keeper.swap(other)), name="swap")
        await asyncio.sleep(1)
        asked = len(other.refuse)
        at_work.model.session.dies(GONE)
        await until(at_work.keeper._lead.is_held)
        assert asked - (not failed) == len(other.refuse) and swapped.done() and swapped.result() is GONE
        assert at_work.keeper.model is at_work.model and at_work.model.session.start.resume == "h1"
        assert at_work.keeper._succession.backoff.failures == 1, "the loss alone"
        assert at_work.keeper.stats.longest_leaderless_ms == 0


@in_fake_time
async def test_at_the_last_moment_the_model_of_the_call_goes_on_if_the_one_wished_for_is_not_at_hand() -> None:
    other = HandModel(OTHER)
    other.refuse = [GONE] * 3
    async with kept_call(retry=RetryPolicy(longest_s=10.0)) as at_work, asyncio.TaskGroup() as group:
        await at_work.leads(1)
        at_work.fast.quiet = False
        swapped = group.create_task(at_work.keeper.swap(other), name="swap")
        await asyncio.sleep(0)
        at_work.model.session.emit(GoAway(1, 2.0))
        await at_work.leads(2)
        assert at_work.keeper.model is at_work.model and at_work.keeper.stats.changes_forced == 1
        assert other.refuse and not swapped.done()
        at_work.fast.quiet = True
        await asyncio.wait_for(swapped, 30)
        assert at_work.keeper.model is other and at_work.keeper.stats.longest_leaderless_ms == 0


class NeverDialled(HandModel):
    """Its connections are not there in time."""

    async def stand_by(self) -> HandStandby:
        await asyncio.sleep(10.0)
        return await super().stand_by()

    async def connect(self, start: SessionStart | None = None) -> HandSession:
        await asyncio.sleep(10.0)
        return await super().connect(start)


@in_fake_time
@pytest.mark.parametrize("refused", [False, True])
async def test_at_the_last_moment_the_model_of_the_call_is_had_before_the_one_wished_for_is_asked(
    refused: bool,
) -> None:
    other = NeverDialled(OTHER)
    async with kept_call(HandModel(RESUMES)) as at_work, asyncio.TaskGroup() as group:
        await at_work.leads(1)
        hands_out(at_work.model.session, "h1")
        at_work.model.refuse = [ResumeRefused("old")] if refused else []
        at_work.fast.quiet = False
        swapped = group.create_task(at_work.keeper.swap(other), name="swap")
        await asyncio.sleep(0)
        at_work.model.session.emit(GoAway(1, 3.0))
        await at_work.leads(3 if refused else 2)
        assert at_work.keeper.model is at_work.model and at_work.keeper.stats.resumes_refused == refused
        assert at_work.model.session.start.resume == ("" if refused else "h1")
        assert at_work.keeper.stats.longest_leaderless_ms < 10 and not swapped.done()
        at_work.fast.quiet = True
        await asyncio.wait_for(swapped, 30)
        assert at_work.keeper.model is other


async def test_a_swap_is_made_though_the_leader_was_refused_for_good() -> None:
    other = HandModel(OTHER)
    async with kept_call() as at_work, asyncio.TaskGroup() as group:
        await at_work.leads(1)
        at_work.fast.quiet = False
        swapped = group.create_task(at_work.keeper.swap(other), name="swap")
        await until(lambda: other.standbys)
        at_work.model.session.dies(ProviderRejected("quota"))
        await asyncio.wait_for(swapped, 5)
        assert at_work.keeper.model is other and at_work.ended == []


async def test_settings_that_a_lost_session_cannot_be_opened_with_are_refused_and_it_is_opened_without() -> None:
    async with kept_call(OneVoice("alloy")) as at_work, asyncio.TaskGroup() as group:
        await at_work.leads(1)
        at_work.fast.quiet = False
        changed = group.create_task(gives_up(at_work.keeper.update(voice="marin")), name="update")
        await until(lambda: at_work.model.standbys)
        at_work.model.session.dies(GONE)
        await at_work.leads(3)
        assert isinstance(await changed, SettingRefused) and at_work.ended == []


@in_fake_time
async def test_a_wish_that_nobody_can_grant_any_more_says_so() -> None:
    async with kept_call() as at_work:
        await at_work.leads(1)
        at_work.fast.quiet = False
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(gives_up(at_work.keeper.swap(HandModel())), name="swap")
            await asyncio.sleep(0.01)
            await at_work.keeper.close()
        assert isinstance(waiting.result(), SessionEnded)


async def test_a_swap_that_nobody_waits_for_any_more_is_not_made() -> None:
    other = HandModel(OTHER)
    async with kept_call() as at_work:
        await at_work.leads(1)
        at_work.fast.quiet = False
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(at_work.keeper.swap(other), 0.05)
        at_work.fast.quiet = True
        await asyncio.sleep(0.1)
        assert other.sessions == [] and at_work.sessions.board.leader == 1


@in_fake_time
async def test_a_call_does_not_fall_asleep_while_somebody_waits_for_a_swap() -> None:
    other = Slow(OTHER)
    async with kept_call(idle_s=30.0) as at_work, asyncio.TaskGroup() as group:
        await at_work.leads(1)
        await asyncio.sleep(29.99)
        swapped = group.create_task(at_work.keeper.swap(other), name="swap")
        await asyncio.sleep(1.0)
        other.may_open.release()
        await asyncio.wait_for(swapped, 5)
        assert at_work.keeper.stats.idle_closed == 0


# ------------------------------------------------------------------------------------------------------- other settings


async def test_a_change_that_needs_a_new_session_gets_one_and_lasts() -> None:
    async with kept_call(Fixed()) as at_work:
        await at_work.leads(1)
        await asyncio.wait_for(at_work.keeper.update(voice="marin"), 5)
        assert at_work.model.session.start.voice == "marin"
        at_work.model.session.dies(GONE)
        await at_work.leads(3)
        assert at_work.model.session.start.voice == "marin"


async def test_what_is_changed_while_the_first_session_is_being_opened_is_told_to_it_before_it_leads() -> None:
    model = Slow()
    async with kept_call(model) as at_work:
        await until(lambda: model.asked)
        await at_work.keeper.update(instructions="be brief")
        model.may_open.release()
        await at_work.leads(1)
        assert model.session.start.instructions is None
        assert model.session.told == [("update", "be brief", None, None)]


async def test_what_is_changed_while_a_successor_is_being_opened_holds_for_it_too() -> None:
    model = Slow()
    model.may_open.release()
    async with kept_call(model) as at_work:
        await at_work.leads(1)
        model.session.emit(GoAway(1, 50.0))
        await until(lambda: model.asked == 2)
        await at_work.keeper.update(instructions="be brief")
        assert model.sessions[0].told == [("update", "be brief", None, None)]
        model.may_open.release()
        await at_work.leads(2)
        assert model.session.told == [("update", "be brief", None, None)]


async def test_what_the_session_that_was_being_opened_cannot_be_told_is_known_to_the_next() -> None:
    model = Slow(fixed=True)
    async with kept_call(model) as at_work:
        await until(lambda: model.asked)
        await at_work.keeper.update(voice="marin")
        model.may_open.release()
        await at_work.leads(1)
        model.may_open.release()
        await at_work.leads(2)
        assert [session.start.voice for session in model.sessions] == [None, "marin"]
        await asyncio.sleep(0.05)
        assert model.asked == 2, "the next one knows it all"


async def test_a_change_that_the_session_opened_meanwhile_refuses_is_not_made() -> None:
    model = Slow()
    model.may_open.release()
    refusal = SettingRefused("speech.voice", "Puck", "it has marin")
    async with kept_call(model) as at_work, asyncio.TaskGroup() as group:
        await at_work.leads(1)
        model.session.fixed = ("voice",)
        model.session.emit(GoAway(1, 50.0))
        await until(lambda: model.asked == 2)
        changed = group.create_task(gives_up(at_work.keeper.update(voice="Puck")), name="update")
        await asyncio.sleep(0)
        model.opening = lambda session: setattr(session, "refuses_updates", refusal)
        model.may_open.release()
        await at_work.leads(2)
        assert await asyncio.wait_for(changed, 5) is refusal
        assert at_work.keeper._lead.overrides.of(model.name).voice is None
        await asyncio.sleep(0.05)
        assert model.asked == 2 and at_work.sessions.board.leader == 2


# --------------------------------------------------------------------------------------------------------------- voices


async def test_a_voice_stays_with_its_provider_when_another_stands_in_and_after_a_swap_back() -> None:
    model, foreign = OneVoice("marin"), OneVoice("Kore", FOREIGN)
    async with kept_call(model, foreign) as at_work, asyncio.timeout(5):
        await at_work.leads(1)
        await at_work.keeper.update(voice="marin")
        model.session.dies(ProviderRejected("quota"))
        await at_work.leads(3)
        assert at_work.keeper.model is foreign and foreign.session.start.voice is None and at_work.ended == []
        await at_work.keeper.update(voice="Kore", instructions="be brief")
        for other, voice in ((model, "marin"), (foreign, "Kore")):
            await at_work.keeper.swap(other)
            assert (other.session.start.voice, other.session.start.instructions) == (voice, "be brief")


async def test_a_voice_that_the_model_does_not_have_ends_no_call_when_nobody_leads_to_say_so() -> None:
    async with kept_call(OneVoice("marin")) as at_work:
        await at_work.keeper.update(voice="Kore")
        await at_work.leads(2)
        assert at_work.model.session.start.voice is None and at_work.ended == []


async def test_a_voice_that_the_model_does_not_have_is_asked_for_once_by_a_planned_change() -> None:
    model, slow = OneVoice("marin"), Slow(fixed=True)
    async with kept_call(slow) as at_work:
        await until(lambda: slow.asked)
        await at_work.keeper.update(voice="Kore")
        slow.connect = model.connect  # type: ignore[method-assign]
        slow.may_open.release()
        await at_work.leads(3)
        assert model.session.start.voice is None and slow.standbys[0].used
        await asyncio.sleep(0.05)
        assert at_work.fast.led == [1, 3] and at_work.ended == []
