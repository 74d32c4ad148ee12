"""A standby over real sockets on loopback: what happens to it while it waits, and as it is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from providers.contract import SessionStart, SessionState
from providers.driver import ProtocolCore
from providers.errors import ProviderUnavailable, SessionEnded, SettingRefused, SetupTimeout
from providers.link import WebSocketLink
from providers.settings import ConnectionSettings
from providers.standby import LinkStandby, stand_by
from tests.fakes.json_protocol import JsonCore
from tests.fakes.leftovers import nothing_left
from tests.fakes.websocket_server import Peer, reset, until, websocket_server

QUICK = ConnectionSettings(connect_timeout_s=2, setup_timeout_s=0.3, close_timeout_s=0.3)


async def greeting(peer: Peer) -> None:
    await peer.greet()
    await peer.take_all()


@asynccontextmanager
async def waiting(
    *scripts: Callable[[Peer], Awaitable[None]],
    settings: ConnectionSettings = QUICK,
    core_for: Callable[[SessionStart], Awaitable[ProtocolCore]] | None = None,
) -> AsyncIterator[tuple[LinkStandby, list[Peer]]]:
    """A standby to a server whose n-th connection follows the n-th script, the last one for all further ones."""
    peers: list[Peer] = []

    async def script(peer: Peer) -> None:
        peers.append(peer)
        await scripts[min(len(peers), len(scripts)) - 1](peer)

    async def core(start: SessionStart) -> ProtocolCore:
        return JsonCore(start.number)

    async with nothing_left(), websocket_server(script) as url:
        standby = await stand_by(lambda: WebSocketLink.connect(url, {}, settings), core_for or core, settings)
        await until(lambda: peers)
        yield standby, peers
        await standby.close()


def is_alive(standby: LinkStandby) -> bool:
    return standby.alive


async def test_the_setup_goes_out_when_it_is_used_and_not_before() -> None:
    async with waiting(greeting) as (standby, peers):
        await asyncio.sleep(0.05)
        assert peers[0].got == []
        session = await standby.connect(SessionStart(number=3))
        assert (session.number, peers[0].got) == (3, [{"setup": 3}])
        assert len(peers) == 1
        await session.close()


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_connection_that_ends_while_it_waits_is_noticed_and_replaced(end: str) -> None:
    async with waiting(greeting) as (standby, peers):
        if end == "close":
            await peers[0].connection.close(1001, "idle")
        else:
            reset(peers[0])
        await until(lambda: not standby.alive)
        session = await standby.connect()
        assert len(peers) == 2
        await session.close()


@pytest.mark.parametrize("code", [1000, 1001])
async def test_a_server_that_tires_just_as_the_setup_comes_is_dialled_once_more(code: int) -> None:
    async def tired(peer: Peer) -> None:
        await peer.take()
        await peer.connection.close(code, "idle")

    async with waiting(tired, greeting) as (standby, peers):
        session = await standby.connect()
        assert (session.state, len(peers)) == (SessionState.READY, 2)
        await session.close()


async def test_it_is_dialled_once_more_only_once() -> None:
    async def tired(peer: Peer) -> None:
        await peer.take()
        await peer.connection.close(1001, "idle")

    async with waiting(tired) as (standby, peers):
        with pytest.raises(ProviderUnavailable, match="1001"):
            await standby.connect()
        assert len(peers) == 2


async def test_a_service_that_fails_the_setup_is_told_and_not_asked_again() -> None:
    async def failing(peer: Peer) -> None:
        await peer.take()
        await peer.connection.close(1011, "internal error")

    async with waiting(failing) as (standby, peers):
        with pytest.raises(ProviderUnavailable, match="1011"):
            await standby.connect()
        assert len(peers) == 1


async def test_a_setup_that_is_not_answered_times_out_as_on_any_connection() -> None:
    async with waiting(Peer.take_all) as (standby, peers):
        with pytest.raises(SetupTimeout):
            await standby.connect()
        assert len(peers) == 1
        assert not standby.alive


async def test_a_start_that_cannot_be_served_leaves_it_waiting_for_another() -> None:
    async def core(start: SessionStart) -> ProtocolCore:
        if start.voice is not None:
            raise SettingRefused("speech.voice", start.voice, "no such voice")
        return JsonCore(start.number)

    async with waiting(greeting, core_for=core) as (standby, peers):
        with pytest.raises(SettingRefused):
            await standby.connect(SessionStart(voice="nobody"))
        assert is_alive(standby)
        session = await standby.connect()
        assert len(peers) == 1
        await session.close()


async def test_of_two_who_want_it_at_once_one_gets_it() -> None:
    async def core(start: SessionStart) -> ProtocolCore:
        await asyncio.sleep(0.01)
        return JsonCore(start.number)

    async with waiting(greeting, core_for=core) as (standby, peers):
        results = await asyncio.gather(*(standby.connect() for _ in range(3)), return_exceptions=True)
        sessions = [result for result in results if not isinstance(result, BaseException)]
        assert [type(result) for result in results if isinstance(result, BaseException)] == [SessionEnded] * 2
        assert (len(sessions), len(peers)) == (1, 1)
        await sessions[0].close()


async def test_it_lets_go_in_good_order_when_it_has_waited_too_long() -> None:
    settings = ConnectionSettings(connect_timeout_s=2, setup_timeout_s=0.3, close_timeout_s=0.3, standby_s=0.05)
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with waiting(greeting, settings=settings) as (standby, peers):
        await until(lambda: not standby.alive)
        assert loop.time() >= began + 0.05
        await until(lambda: peers[0].connection.close_code == 1000)


async def test_a_server_that_does_not_answer_the_goodbye_does_not_hold_up_the_next_dial() -> None:
    settings = ConnectionSettings(connect_timeout_s=2, setup_timeout_s=0.3, close_timeout_s=5, standby_s=0.05)
    async with waiting(greeting, settings=settings) as (standby, peers):
        peers[0].connection.transport.pause_reading()
        await until(lambda: not standby.alive)
        loop = asyncio.get_running_loop()
        asked = loop.time()
        session = await standby.connect()
        assert loop.time() - asked < 1
        await session.close()
        peers[0].connection.transport.resume_reading()


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.003, 0.01])
async def test_a_close_that_is_cancelled_leaves_nothing(after_s: float) -> None:
    async with waiting(Peer.take_all) as (standby, peers):
        peers[0].connection.transport.pause_reading()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(standby.close(), after_s)
        peers[0].connection.transport.resume_reading()
