"""A connection dialled ahead: what `providers.contract.Standby` promises, kept by every provider."""

from __future__ import annotations

import asyncio

import pytest

from providers.contract import (
    HistoryItem,
    ResumptionUpdate,
    SessionReady,
    SessionStart,
    SessionState,
    Standby,
    WarningReported,
)
from providers.errors import ProviderRejected, ProviderUnavailable, ResumeRefused, ResumeTooSoon, SessionEnded
from providers.settings import ConnectionSettings
from tests.conformance.ears import Ear, best_correlation, best_correlation_of_pieces, say, speech
from tests.conformance.stages import FAST, PROVIDERS, WRONG_KEY, Provider, Scene
from tests.fakes.leftovers import nothing_left
from tests.fakes.websocket_server import until

SLOW = FAST + "[session]\nconnect_delay_ms = 300\n"


@pytest.fixture(params=PROVIDERS, ids=lambda provider: provider.name)
def provider(request: pytest.FixtureRequest) -> Provider:
    found = request.param
    assert isinstance(found, Provider)
    return found


def is_alive(standby: Standby) -> bool:
    """Asked anew, which a type checker would not expect of a property."""
    return standby.alive


def waits(standby_s: float) -> ConnectionSettings:
    return ConnectionSettings(connect_timeout_s=5, setup_timeout_s=5, close_timeout_s=1, standby_s=standby_s)


async def test_a_standby_becomes_a_session_without_dialling_again(provider: Provider) -> None:
    loop = asyncio.get_running_loop()
    async with nothing_left(), provider.open(Scene(SLOW)) as stage:
        standby = await stage.model.stand_by()
        assert is_alive(standby)
        asked = loop.time()
        session = await standby.connect(SessionStart(number=4))
        assert loop.time() - asked < 0.25, "the connection was there"
        ear = Ear(session)
        assert (session.state, session.number) == (SessionState.READY, 4)
        assert isinstance(ear.events[0], SessionReady)
        assert not is_alive(standby)
        assert stage.dialled() == 1
        await session.close()


async def test_a_session_of_a_standby_speaks_and_hears(provider: Provider) -> None:
    async with provider.open(Scene()) as stage:
        standby = await stage.model.stand_by()
        session = await standby.connect(SessionStart(history=(HistoryItem(role="user", text="I am Kim."),)))
        ear = Ear(session)
        said = speech(600, 21)
        say(session, said)
        await ear.answered()
        correlation = best_correlation_of_pieces if provider.real_time else best_correlation
        assert correlation(ear.spoken(), said) > 0.9
        assert stage.brain(1).memory.lines[0].text == "I am Kim."
        await session.close()


async def test_a_standby_that_died_dials_anew(provider: Provider) -> None:
    async with nothing_left(), provider.open(Scene()) as stage:
        standby = await stage.model.stand_by()
        await stage.drop(standby)
        await until(lambda: not standby.alive)
        session = await standby.connect()
        assert session.state is SessionState.READY
        assert stage.dialled() == 2
        await session.close()


async def test_a_standby_that_waited_too_long_is_let_go_and_dials_anew(provider: Provider) -> None:
    async with nothing_left(), provider.open(Scene(connection=waits(0.05))) as stage:
        standby = await stage.model.stand_by()
        await until(lambda: not standby.alive)
        session = await standby.connect()
        assert stage.dialled() == 2
        await session.close()


async def test_a_standby_that_nobody_wants_any_more_leaves_nothing(provider: Provider) -> None:
    async with nothing_left(), provider.open(Scene(connection=waits(0.05))) as stage:
        await stage.model.stand_by()  # forgotten: it lets go by itself
        standby = await stage.model.stand_by()
        await standby.close()
        await standby.close()
        assert not standby.alive
        with pytest.raises(SessionEnded):
            await standby.connect()
        assert stage.dialled() == 2


async def test_a_standby_is_used_once(provider: Provider) -> None:
    async with provider.open(Scene()) as stage:
        standby = await stage.model.stand_by()
        session = await standby.connect()
        with pytest.raises(SessionEnded):
            await standby.connect()
        await standby.close()
        assert session.state is SessionState.READY, "the connection belongs to the session"
        await session.close()


async def test_a_busy_service_is_unavailable_to_a_standby_too(provider: Provider) -> None:
    refuse = '[[faults]]\nkind = "refuse"\nstatus = 503\nconnection = 1\n'
    async with nothing_left(), provider.open(Scene(FAST + refuse)) as stage:
        with pytest.raises(ProviderUnavailable) as caught:
            await stage.model.stand_by()
        assert caught.value.code == 503


async def test_a_refused_key_is_known_at_the_latest_when_the_standby_is_used(provider: Provider) -> None:
    if not provider.has_key:
        pytest.skip("no key to refuse")
    async with nothing_left(), provider.open(Scene(key=WRONG_KEY)) as stage:
        with pytest.raises(ProviderRejected) as caught:
            await (await stage.model.stand_by()).connect()
        assert caught.value.endpoint_wide


async def test_nothing_is_left_of_a_dial_or_setup_that_was_cancelled(provider: Provider) -> None:
    slow = FAST + "[session]\nconnect_delay_ms = 200\nsetup_delay_ms = 3000\n"
    async with nothing_left(), provider.open(Scene(slow)) as stage:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stage.model.stand_by(), 0.05)
        standby = await stage.model.stand_by()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(standby.connect(), 0.05)
        assert not standby.alive
        await standby.close()


async def test_two_models_of_one_endpoint_say_so_without_a_secret(provider: Provider) -> None:
    async with provider.open(Scene()) as stage:
        named = stage.model.endpoint
        assert stage.model.capabilities.model in named
        assert "key" not in named


# --------------------------------------------------------------------------------------------------------- resumption


async def newest_handle(ear: Ear) -> str:
    await until(lambda: any(update.resumable and not update.mid_turn for update in ear.of(ResumptionUpdate)))
    return [update.handle for update in ear.of(ResumptionUpdate) if update.resumable and not update.mid_turn][-1]


async def test_a_handle_is_taken_on_a_standby_once_the_earlier_connection_is_closed(provider: Provider) -> None:
    async with nothing_left(), provider.open(Scene()) as stage:
        able = stage.model.capabilities
        if not able.resumption:
            pytest.skip("the provider cannot resume")
        assert not able.overlapping_resume
        first = await stage.model.connect(SessionStart(number=1))
        ear = Ear(first)
        first.send_text("My name is Kim.")
        await ear.answered()
        handle = await newest_handle(ear)

        early = await stage.model.stand_by()
        with pytest.raises(ResumeTooSoon) as caught:
            await early.connect(SessionStart(number=2, resume=handle))
        assert isinstance(caught.value, ProviderUnavailable), "worth another try"
        assert not isinstance(caught.value, ResumeRefused)

        standby = await stage.model.stand_by()
        await first.close()
        second = await standby.connect(SessionStart(number=3, resume=handle))
        ready = Ear(second).events[0]
        assert isinstance(ready, SessionReady) and ready.resumed
        assert stage.dialled() == 3
        await second.close()


async def test_an_overlapping_resume_works_where_the_service_allows_it(provider: Provider) -> None:
    async with provider.open(Scene(FAST + "[session]\noverlap = true\n")) as stage:
        if not stage.model.capabilities.resumption:
            pytest.skip("the provider cannot resume")
        first = await stage.model.connect(SessionStart(number=1))
        handle = await newest_handle(Ear(first))
        second = await (await stage.model.stand_by()).connect(SessionStart(number=2, resume=handle))
        assert first.state is second.state is SessionState.READY
        await second.close()
        await first.close()


# ------------------------------------------------------------------------------------------------------------- seeding


async def test_no_history_is_too_long_too_empty_or_too_lopsided(provider: Provider) -> None:
    async with provider.open(Scene()) as stage:
        able = stage.model.capabilities
        long = tuple(HistoryItem(role="assistant", text=f"{number} ".ljust(2000, "x")) for number in range(1000))
        history = (HistoryItem(role="assistant", text=""), *long, HistoryItem(role="user", text="  \n"))
        session = await stage.model.connect(SessionStart(history=history))
        ear = Ear(session)
        await until(lambda: stage.brain(1).memory.lines)
        session.send_text("Are you there?")
        await ear.answered()
        assert [warning.code for warning in ear.of(WarningReported)] == ["history_cut"]
        seeded = [line.text for line in stage.brain(1).memory.lines if line.role == "assistant" and line.number == 0]
        assert 0 < sum(map(len, seeded)) <= able.seed_chars + able.seed_items
        assert len(seeded) <= able.seed_items
        assert seeded[-1].endswith(long[-1].text), "the newest words are kept"
        await session.close()


async def test_a_line_in_many_bytes_is_taken_too(provider: Provider) -> None:
    async with provider.open(Scene()) as stage:
        able = stage.model.capabilities
        history = (HistoryItem(role="user", text="語" * able.seed_chars),)
        session = await stage.model.connect(SessionStart(history=history))
        ear = Ear(session)
        session.send_text("Are you there?")
        await ear.answered()
        assert not ear.of(WarningReported)
        await session.close()
