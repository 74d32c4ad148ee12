"""When a session is changed on purpose, what it is told, who stands in, and when it sleeps."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from bridge.sessions.thread import Loose
from providers.contract import (
    GoAway,
    ReplyStarted,
    SessionStart,
)
from providers.errors import (
    ProviderRejected,
)
from tests.fakes.fake_time import in_fake_time
from tests.fakes.hand_model import CAPABILITIES, HandModel, HandSession, HandStandby
from tests.fakes.kept_call import AT_ONCE, GONE, RESUMES, hands_out, kept_call, until
from tests.fakes.lanes import SAID

OTHER = msgspec.structs.replace(CAPABILITIES, model="hand-2")


# ---------------------------------------------------------------------------------------------------- planned changes


async def test_an_announced_end_is_overtaken_by_a_seeded_session_and_nobody_is_without_a_leader() -> None:
    async with kept_call() as at_work:
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

    async with kept_call(Strict(RESUMES)) as at_work:
        await at_work.leads(1)
        hands_out(at_work.model.session, "h1")
        at_work.model.session.emit(GoAway(1, 50.0))
        await at_work.leads(2)
        assert at_work.starts[1] == ("h1", ())
        assert at_work.model.standbys[0].used
        assert at_work.keeper.stats.sessions_lost == 0


async def test_a_provider_that_remembers_what_nobody_heard_is_seeded_anew() -> None:
    async with kept_call(HandModel(RESUMES)) as at_work:
        await at_work.leads(1)
        hands_out(at_work.model.session, "h1")
        at_work.memory.is_wrong = True
        at_work.model.session.emit(GoAway(1, 50.0))
        await at_work.leads(2)
        assert at_work.starts[1] == ("", SAID)


@in_fake_time
async def test_the_change_waits_for_a_quiet_moment() -> None:
    async with kept_call() as at_work:
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


@in_fake_time
async def test_who_begins_to_speak_while_the_successor_is_being_dialled_keeps_the_session_that_hears_him() -> None:
    class Slow(HandModel):
        async def stand_by(self) -> HandStandby:
            await asyncio.sleep(0.5)
            return await super().stand_by()

    async with kept_call(Slow(RESUMES)) as at_work:
        await at_work.leads(1)
        hands_out(at_work.model.session, "h1")
        at_work.model.session.emit(GoAway(1, 50.0))
        await asyncio.sleep(0.3)
        at_work.fast.quiet = False
        await asyncio.sleep(1.0)
        assert at_work.sessions.board.leader == 1
        at_work.fast.quiet = True
        await at_work.leads(2)
        assert [standby.used for standby in at_work.model.standbys] == [True]


async def test_at_the_last_moment_the_change_is_made_in_mid_reply_and_the_reply_gone_on_with() -> None:
    async with kept_call() as at_work:
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
    async with kept_call(model) as at_work:
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


@in_fake_time
async def test_a_leader_lost_while_a_successor_that_came_too_late_says_goodbye_is_replaced_at_once() -> None:
    model = HandModel()
    async with kept_call(model) as at_work:
        await at_work.leads(1)

        def somebody_speaks(session: HandSession) -> None:
            at_work.fast.quiet = False
            session.goodbye_s = 2.0
            model.opening = lambda _: None

        model.opening = somebody_speaks
        model.session.emit(GoAway(1, 50.0))
        await until(lambda: at_work.keeper.stats.changes_put_off)
        model.sessions[0].dies(GONE)
        await at_work.leads(3)
        assert at_work.keeper.stats.longest_leaderless_ms < 100


async def test_what_was_said_while_the_successor_was_set_up_makes_it_stale() -> None:
    model = HandModel()
    async with kept_call(model) as at_work:
        await at_work.leads(1)

        def something_is_said(session: HandSession) -> None:
            at_work.memory.version += 1
            model.opening = lambda _: None

        model.opening = something_is_said
        model.session.emit(GoAway(1, 50.0))
        await at_work.leads(3)
        assert at_work.keeper.stats.changes_put_off == 1


async def test_who_speaks_while_a_successor_is_set_up_at_the_last_moment_is_heard_by_it() -> None:
    model = HandModel()
    async with kept_call(model) as at_work:
        await at_work.leads(1)

        def somebody_speaks(session: HandSession) -> None:
            at_work.memory.version += 1
            at_work.fast.loose = Loose(unanswered_from=7)

        model.opening = somebody_speaks
        model.session.emit(GoAway(1, 0.1))
        await at_work.leads(2)
        assert at_work.keeper.stats.changes_forced == 1
        assert at_work.fast.rewound == [7]


class SlowToDial(HandModel):
    """Takes until `dialled` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.dialled = asyncio.Event()

    async def stand_by(self) -> HandStandby:
        await self.dialled.wait()
        return await super().stand_by()


async def test_a_connection_that_came_too_late_is_closed_when_the_application_has_given_the_lead() -> None:
    model = SlowToDial()
    async with kept_call(model) as at_work:
        await at_work.leads(1)
        model.session.emit(GoAway(1, 1.5))  # the last moment: it is waited for
        await asyncio.sleep(0.05)
        at_work.keeper.lead(await at_work.keeper.open_session())
        model.dialled.set()
        await until(lambda: model.standbys and model.standbys[0].closed)
        assert at_work.sessions.board.leader == 2


@pytest.mark.parametrize(("code", "used"), [(1011, True), (1006, False)], ids=["told", "vanished"])
async def test_what_was_dialled_is_used_when_the_provider_ends_the_session_before_its_time(
    code: int, used: bool
) -> None:
    """Where its connection just vanished the other one may be as dead."""
    async with kept_call(HandModel(RESUMES)) as at_work:
        await at_work.leads(1)
        hands_out(at_work.model.session, "h1")
        at_work.fast.quiet = False
        at_work.model.session.emit(GoAway(1, 50.0))
        await until(lambda: at_work.model.standbys)
        at_work.model.session.dies(GONE, code)
        await at_work.leads(2)
        assert at_work.starts[1] == ("h1", ())
        assert [standby.used for standby in at_work.model.standbys] == [used]


async def test_what_is_still_being_dialled_is_not_waited_for_when_nobody_leads() -> None:
    model = SlowToDial()
    async with kept_call(model) as at_work:
        await at_work.leads(1)
        at_work.fast.quiet = False
        model.session.emit(GoAway(1, 50.0))
        await asyncio.sleep(0.01)
        model.session.dies(GONE, 1011)
        await at_work.leads(2)
        assert model.standbys == []


async def test_a_leader_lost_during_its_replacement_is_replaced_all_the_same() -> None:
    model = HandModel()
    async with kept_call(model) as at_work:
        await at_work.leads(1)
        first = model.session
        model.opening = lambda session: first.dies(GONE)
        first.emit(GoAway(1, 50.0))
        await at_work.leads(2)
        assert at_work.ended == []


async def test_a_known_cap_is_not_waited_for() -> None:
    rollover = msgspec.structs.replace(AT_ONCE, max_session_s=0.5)
    async with kept_call(rollover=rollover) as at_work:
        await until(lambda: at_work.keeper.stats.changes_forced > 1)
        assert at_work.keeper.stats.sessions_lost == 0


@in_fake_time
async def test_an_end_that_was_announced_before_a_session_led_is_not_forgotten() -> None:
    async with kept_call() as at_work:
        await at_work.leads(1)
        number = await at_work.keeper.open_session()
        at_work.model.session.emit(GoAway(number, 30.0))
        await asyncio.sleep(10)
        assert at_work.sessions.board.leader == 1, "it does not lead: nothing is due"
        at_work.fast.quiet = False
        at_work.keeper.lead(number)
        at_work.keeper.lead(number)
        await asyncio.sleep(18)
        assert at_work.sessions.board.leader == number
        await asyncio.sleep(1)
        assert at_work.sessions.board.leader == 3 and at_work.keeper.stats.changes_forced == 1


@in_fake_time
async def test_a_session_is_as_old_as_the_time_that_it_has_been_open() -> None:
    async with kept_call(HandModel(msgspec.structs.replace(CAPABILITIES, max_session_s=3600.0))) as at_work:
        await at_work.leads(1)
        number = await at_work.keeper.open_session()
        at_work.fast.quiet = False
        await asyncio.sleep(3570)
        at_work.keeper.lead(number)
        await asyncio.sleep(29)
        assert at_work.sessions.board.leader not in (None, number)
        assert at_work.keeper.stats.sessions_lost == 0


async def test_a_handle_that_a_session_was_given_before_it_led_brings_it_back() -> None:
    async with kept_call() as at_work:
        await at_work.leads(1)
        hands_out(at_work.model.session, "of the first")
        number = await at_work.keeper.open_session()
        hands_out(at_work.model.session, "of the second")
        at_work.model.session.emit(ReplyStarted(number, "r1"))
        at_work.keeper.lead(number)
        at_work.model.session.dies(GONE)
        await at_work.leads(3)
        assert at_work.model.session.start.resume == "of the second"
        assert at_work.model.session.told == [("send_text", "you said this")], "of which the handle knows nothing"


# --------------------------------------------------------------------------------------------------------- the thread


async def test_an_unanswered_turn_is_heard_again_and_left_out_of_the_seed() -> None:
    async with kept_call() as at_work:
        await at_work.leads(1)
        at_work.fast.loose = Loose(unanswered_from=42)
        at_work.model.session.dies(GONE)
        await at_work.leads(2)
        assert at_work.fast.rewound == [42]
        assert at_work.starts[1] == ("", ())


async def test_a_resumed_session_is_told_of_the_exchange_that_its_handle_lacks() -> None:
    async with kept_call(HandModel(RESUMES)) as at_work:
        await at_work.leads(1)
        hands_out(at_work.model.session, "h1")
        at_work.keeper.session_told(ReplyStarted(1, "r1"))
        at_work.model.session.dies(GONE)
        await at_work.leads(2)
        assert at_work.model.session.told == [("send_text", "you said this")]


# ----------------------------------------------------------------------------------------------------------- failover


async def test_the_next_model_of_the_list_takes_over_when_one_is_given_up() -> None:
    first, second = HandModel(), HandModel(OTHER)
    async with kept_call(first, second) as at_work:
        await at_work.leads(1)
        first.session.dies(ProviderRejected("quota"))
        await until(lambda: second.sessions)
        assert second.session.start.history == SAID
        assert at_work.keeper.stats.failovers == 1
        assert at_work.ended == []


async def test_the_call_fails_when_every_model_has_been_given_up() -> None:
    first, second = HandModel(), HandModel(OTHER)
    refused = ProviderRejected("key")
    second.refuse = [refused]
    async with kept_call(first, second) as at_work:
        await at_work.leads(1)
        first.session.dies(ProviderRejected("quota"))
        await until(lambda: at_work.ended)
        assert at_work.ended == [refused]


# -------------------------------------------------------------------------------------------------------------- idle


@in_fake_time
async def test_a_silent_call_closes_its_session_and_the_next_word_opens_it_again() -> None:
    async with kept_call(HandModel(RESUMES), idle_s=0.05) as at_work:
        await at_work.leads(1)
        hands_out(at_work.model.session, "h1")
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


@in_fake_time
async def test_a_call_that_sleeps_is_awake_when_the_application_gives_the_lead_to_a_session() -> None:
    async with kept_call(idle_s=1.0) as at_work:
        await at_work.leads(1)
        await until(lambda: at_work.fast.dozes and at_work.sessions.board.leader is None)
        at_work.keeper.lead(await at_work.keeper.open_session())
        assert at_work.fast.dozes is False and at_work.keeper.stats.idle_woken == 1
        at_work.fast.silent_at = asyncio.get_running_loop().time()
        at_work.model.session.dies(GONE)
        await at_work.leads(3)


async def test_a_successor_that_dies_before_it_is_told_what_it_missed_is_replaced_as_any_other() -> None:
    model = HandModel(RESUMES)
    async with kept_call(model) as at_work:
        await at_work.leads(1)
        hands_out(model.session, "h1")
        at_work.keeper.session_told(ReplyStarted(1, "r1"))
        model.opening = lambda session: session.dies(GONE) if session.number == 2 else None
        model.session.dies(GONE)
        await at_work.leads(3)
        assert at_work.ended == []


@in_fake_time
async def test_a_loss_that_was_made_good_is_not_held_against_the_model_when_the_call_wakes() -> None:
    async with kept_call(idle_s=30.0) as at_work:
        await at_work.leads(1)
        first = at_work.model.session
        at_work.model.opening = lambda session: first.dies(ProviderRejected("quota"))
        first.emit(GoAway(1, 50.0))
        await at_work.leads(2)
        at_work.model.opening = lambda _: None
        await asyncio.sleep(31)
        assert at_work.fast.dozes
        at_work.keeper.wake()
        await at_work.leads(3)
        assert at_work.ended == []
