"""One-shot faults on an emulated connection: each happens when the test says, once, and is counted."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from providers.emulators.server import EmulatorServer
from providers.scripted.faults import Abort, Close, GoAway, TimedFault
from tests.fakes.plain_vendor import TONE, all_messages, ready, served

SLOW = "answer = { kind = 'tone', duration_ms = 2000 }\npace = { speed = 2.0, latency_ms = 0 }\n"


@asynccontextmanager
async def called(toml: str = TONE) -> AsyncIterator[tuple[EmulatorServer, ClientConnection]]:
    async with served(toml) as server, connect(server.url, ping_interval=None) as client:
        await ready(client)
        yield server, client


async def speaking(client: ClientConnection) -> None:
    """In mid-word of a reply."""
    await client.send('{"text": "hi"}')
    assert json.loads(await client.recv()) == {"say": 0}


async def test_a_kill_in_mid_word_is_seen_as_1006() -> None:
    async with called(SLOW) as (server, client):
        await speaking(client)
        server.connections[-1].kill()
        await all_messages(client)
        assert client.close_code == 1006
        await server.connections[0].ended.wait()
        assert server.stats.faults == 1 and server.live == [] and not server.connections[0].left_by_client


@pytest.mark.parametrize(("code", "reason"), [(1001, ""), (1007, "bad"), (1008, "no"), (1011, "oops"), (1013, "later")])
async def test_a_close_in_mid_word_carries_its_code_and_reason(code: int, reason: str) -> None:
    async with called(SLOW) as (server, client):
        await speaking(client)
        server.connections[0].close(code, reason)
        assert {"done": 1} not in await all_messages(client)
        assert (client.close_code, client.close_reason) == (code, reason)


@pytest.mark.parametrize("pongs", [True, False])
async def test_a_stall_sends_nothing_until_it_may_go_on(pongs: bool) -> None:
    async with called(SLOW) as (server, client):
        await speaking(client)
        server.connections[0].stall(pongs=pongs)
        await asyncio.sleep(0.05)
        pong = await client.ping()
        with pytest.raises(TimeoutError):
            while True:  # what was on its way before the stall
                async with asyncio.timeout(0.25):
                    await client.recv()
        assert asyncio.isfuture(pong) and pong.done() is pongs
        begun = time.monotonic()
        server.connections[0].go_on()
        assert (await all_messages(client))[-1] == {"done": 1}
        await pong
        assert time.monotonic() - begun < 1.5, "what had become due meanwhile came at once"


@pytest.mark.parametrize(("fault", "code"), [(Close(code=1013), 1013), (Abort(), 1006)])
async def test_whoever_is_stalled_can_still_be_closed_and_killed(fault: TimedFault, code: int) -> None:
    async with called() as (server, client):
        server.connections[0].stall()
        await asyncio.sleep(0.05)
        server.connections[0].strike(fault)
        async with asyncio.timeout(2):
            await all_messages(client)
        assert client.close_code == code


async def test_a_go_away_is_announced_and_comes_true() -> None:
    async with called() as (server, client):
        begun = time.monotonic()
        server.connections[0].go_away(0.2)
        assert await all_messages(client) == [{"going": 0.2}]
        assert (client.close_code, client.close_reason) == (1011, "time is up")
        assert time.monotonic() - begun >= 0.2


async def test_a_session_can_be_ended_and_its_quota_used_up() -> None:
    async with called() as (server, client):
        server.connections[0].end_session()
        await all_messages(client)
        assert client.close_reason == "time is up"
    async with called() as (server, client):
        server.connections[0].use_up_quota()
        await all_messages(client)
        assert (client.close_code, client.close_reason) == (1011, "quota exceeded")


async def test_odd_frames_come_at_once() -> None:
    async with called() as (server, client):
        server.connections[0].malformed("{")
        assert await client.recv() == b"{"
        server.connections[0].duplicate()
        assert json.loads(await client.recv()) == {"ready": True}
        assert server.stats.faults == 2


async def test_a_fault_may_wait_for_the_reply_that_it_cuts() -> None:
    async with called() as (server, client):
        server.connections[0].strike(Abort(reply=2, speech_ms=400))
        await client.send('{"text": "one"}')
        assert (await all_messages(client))[-1] == {"done": 1}
        await client.send('{"text": "two"}')
        assert await all_messages(client) == [{"say": ms} for ms in range(0, 400, 40)]
        assert client.close_code == 1006


async def test_a_time_means_nothing_before_the_setup() -> None:
    async with served() as server, connect(server.url) as client:
        await client.recv()
        for fault in (Close(at_s=1), Abort(reply=1), GoAway()):
            with pytest.raises(LookupError, match="connection 1 is not set up"):
                server.connections[0].strike(fault)


async def test_nothing_happens_to_a_connection_that_is_over() -> None:
    async with called() as (server, client):
        await client.close()
        await server.connections[0].ended.wait()
        server.connections[0].kill()
        assert server.stats.faults == 0 and server.connections[0].left_by_client


async def test_so_many_upgrades_are_refused_and_no_more() -> None:
    async with served() as server:
        server.refuse(2, 429, body="slow down", retry_after_s=7)
        for _ in range(2):
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.url)
            assert refused.value.response.status_code == 429
            assert refused.value.response.headers["Retry-After"] == "7"
            assert refused.value.response.body == b"slow down"
        async with connect(server.url) as client:
            await ready(client, 3)
        assert (server.stats.refused, server.stats.faults, server.stats.accepted) == (2, 2, 1)


async def test_a_status_that_http_does_not_name_can_be_refused_with() -> None:
    async with served() as server:
        server.refuse(1, 499)
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.url)
        assert refused.value.response.status_code == 499


async def test_an_upgrade_may_get_no_answer_at_all() -> None:
    async with served() as server:
        server.drop()
        with pytest.raises((InvalidMessage, EOFError, ConnectionError)):
            await connect(server.url)
        async with connect(server.url) as client:
            await ready(client, 2)


async def test_a_setup_may_never_be_answered_while_pings_are() -> None:
    async with served() as server:
        server.ignore_setups()
        async with connect(server.url) as client:
            assert json.loads(await client.recv()) == {"hello": 1}
            await client.send('{"setup": 1}')
            await (await client.ping())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await client.recv()
        async with connect(server.url) as client:
            await ready(client, 2)


async def test_while_the_server_is_down_tcp_refuses_and_the_connected_stay() -> None:
    async with called() as (server, client):
        async with server.down():
            await asyncio.sleep(0)
            with pytest.raises(ConnectionRefusedError):
                await connect(server.url)
            await client.send('{"text": "still here?"}')
            assert (await all_messages(client))[-1] == {"done": 1}
        async with connect(server.url) as other:
            await ready(other, 2)
        await client.send('{"text": "and now?"}')
        assert (await all_messages(client))[-1] == {"done": 2}


async def test_leaving_after_having_been_down_closes_the_older_connections() -> None:
    async with served() as server:
        client = await connect(server.url)
        async with server.down():
            pass
        begun = time.monotonic()
    assert time.monotonic() - begun < 3
    with pytest.raises(ConnectionClosed):
        while True:
            await client.recv()
    assert client.close_code == 1001


async def test_a_storm_of_go_aways_follows_the_session_to_its_next_connections() -> None:
    async with served() as server:
        server.plan(GoAway(at_s=0.01, time_left_s=0.05), connections=2)
        for number in (1, 2):
            async with connect(server.url) as client:
                await ready(client, number)
                assert await all_messages(client) == [{"going": 0.05}]
        async with connect(server.url) as client:
            await ready(client, 3)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await client.recv()
        with pytest.raises(ValueError, match="at_s"):
            server.plan(GoAway())
