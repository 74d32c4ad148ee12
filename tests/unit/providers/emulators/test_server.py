"""The server that every emulator runs in, with a vendor of a few words."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from providers.emulators.server import EmulatorServer, Message
from tests.fakes.plain_vendor import TONE, PlainVendor, PlainWire, all_messages, ready, served


async def test_a_turn_runs_over_the_wire_and_is_recorded() -> None:
    async with served(TONE) as server, connect(server.url) as client:
        seen: list[Message] = []
        server.on_write = seen.append
        await ready(client)
        before = time.monotonic()
        await client.send('{"text": "hi"}')
        found = await all_messages(client)
        assert found == [*({"say": ms} for ms in range(0, 1000, 40)), {"done": 1}]
        assert all(before <= message.at <= time.monotonic() for message in seen if message.label == "say")
        connection = server.connections[0]
        assert [message.label for message in connection.messages(sent=True)][:3] == ["", "ready", "say"]
        assert [message.data for message in connection.messages(sent=False)] == ['{"setup": 1}', '{"text": "hi"}']
        assert server.stats.messages_out == len(connection.messages(sent=True))
        assert connection.brain.memory.turns == 1


async def test_listens_on_loopback_only_unless_told() -> None:
    async with served() as server:
        assert server.base_url == f"ws://127.0.0.1:{server.port}" and server.port > 0


@pytest.mark.parametrize("frames", ["vendor", "text", "binary"])
async def test_frames_are_of_the_kind_that_the_scenario_says(frames: str) -> None:
    async with served(f"frames = '{frames}'") as server, connect(server.url) as client:
        assert isinstance(await client.recv(), str if frames == "text" else bytes)


async def test_the_vendor_may_refuse_an_upgrade() -> None:
    async with served() as server:
        for url, status in ((f"{server.base_url}/other", 404), (f"{server.url}?key=bad", 401)):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url)
            assert refused.value.response.status_code == status
        assert refused.value.response.headers["X-Why"] == "key"
        assert (server.stats.refused, server.stats.accepted) == (2, 0)


async def test_a_planned_refusal_meets_only_its_connection() -> None:
    refuse = "[[faults]]\nkind = 'refuse'\nstatus = 429\nretry_after_s = 3\nconnection = 1"
    async with served(refuse) as server:
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.url)
        assert refused.value.response.status_code == 429
        assert refused.value.response.headers["Retry-After"] == "3"
        async with connect(server.url) as client:
            assert json.loads(await client.recv()) == {"hello": 2}


async def test_connecting_and_setting_up_take_their_time() -> None:
    async with served("session = { connect_delay_ms = 150, setup_delay_ms = 100 }") as server:
        begun = time.monotonic()
        async with connect(server.url) as client:
            connected = time.monotonic()
            await ready(client)
            assert connected - begun >= 0.15 and time.monotonic() - connected >= 0.1


async def test_closes_in_mid_word_with_any_code() -> None:
    fault = "[[faults]]\nkind = 'close'\ncode = 4321\nreason = 'mid-word'\nreply = 1\nspeech_ms = 400"
    async with served(TONE + fault) as server, connect(server.url) as client:
        await ready(client)
        await client.send('{"text": "hi"}')
        assert await all_messages(client) == [{"say": ms} for ms in range(0, 400, 40)]
        assert (client.close_code, client.close_reason) == (4321, "mid-word")


async def test_an_abort_is_seen_as_1006() -> None:
    async with served("[[faults]]\nkind = 'abort'\nat_s = 0.05") as server, connect(server.url) as client:
        await ready(client)
        await all_messages(client)
        assert client.close_code == 1006


async def test_a_stall_sends_nothing_and_answers_no_ping_then_goes_on() -> None:
    fault = "[[faults]]\nkind = 'stall'\nduration_s = 0.4\nreply = 1"
    async with served(TONE + fault) as server, connect(server.url, ping_interval=None) as client:
        await ready(client)
        await client.send('{"text": "hi"}')
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        pong = await client.ping()
        found = await all_messages(client)
        await pong
        assert time.monotonic() - begun >= 0.2
        assert found[-1] == {"done": 1} and len(found) == 26


async def test_leaving_ends_a_stall_that_would_last_for_ever() -> None:
    async with served("[[faults]]\nkind = 'stall'\nat_s = 0.01") as server:
        client = await connect(server.url, ping_interval=None)
        await ready(client)
        await asyncio.sleep(0.1)
        begun = time.monotonic()
    assert time.monotonic() - begun < 3
    await client.close()


async def test_a_client_that_leaves_during_an_endless_stall_is_noticed() -> None:
    async with served("[[faults]]\nkind = 'stall'\nat_s = 0.01") as server:
        client = await connect(server.url, ping_interval=None, close_timeout=0.1)
        await ready(client)
        await asyncio.sleep(0.1)
        await client.send('{"text": "never read"}')
        await client.close()
        async with asyncio.timeout(2):
            await server.connections[0].ended.wait()
        assert server.stats.closed == 1


async def test_odd_frames_come_between_sound_ones() -> None:
    faults = "".join(
        f"[[faults]]\nkind = '{kind}'\nreply = 1\nspeech_ms = 400\n"
        for kind in ("malformed", "empty", "unknown", "duplicate")
    )
    async with served(TONE + faults) as server, connect(server.url) as client:
        await ready(client)
        await client.send('{"text": "hi"}')
        found = await all_messages(client)
        assert found[9:15] == [
            {"say": 360}, b'{"broken": ', {}, {"type": "something.new", "somethingNew": {}}, {"say": 360}, {"say": 400},
        ]  # fmt: skip
        assert server.stats.faults == 4


async def test_the_session_limit_closes_as_the_vendor_does() -> None:
    async with served("session = { limit_s = 0.1 }") as server, connect(server.url) as client:
        await ready(client)
        await all_messages(client)
        assert (client.close_code, client.close_reason) == (1011, "time is up")


async def test_a_long_reason_is_cut_to_what_a_close_frame_holds() -> None:
    async with served() as server, connect(server.url) as client:
        await client.recv()
        await client.send('{"text": "too early"}')
        await all_messages(client)
        assert client.close_code == 1008 and len((client.close_reason or "").encode()) == 123


async def test_the_wire_learns_of_the_end() -> None:
    before = PlainWire.freed
    async with served() as server:
        async with connect(server.url) as client:
            await client.recv()
        await server.connections[0].ended.wait()
        assert PlainWire.freed == before + 1
        assert server.connections[0].close_code == 1000 and server.connections[0].closed_at is not None


async def test_a_bug_in_a_wire_raises_at_exit_and_spares_other_connections() -> None:
    with pytest.raises(ExceptionGroup, match="plain emulator failed") as failed:
        async with served() as server, connect(server.url) as client, connect(server.url) as other:
            await client.send('{"bug": 1}')
            await all_messages(client)
            assert client.close_code == 1011
            await other.recv()
            await other.send('{"setup": 1}')
            assert json.loads(await other.recv()) == {"ready": True}
    assert [str(error) for error in failed.value.exceptions] == ["a bug in the wire"]


async def test_a_client_that_does_not_read_is_aborted_and_counted() -> None:
    async with served(queue_limit=100) as server, connect(server.url) as client:
        await ready(client)
        await client.send('{"flood": 200}')
        await all_messages(client)
        assert client.close_code == 1006
        assert server.stats.overflowed == 1


async def test_runs_until_cancelled_and_leaves_nothing_open() -> None:
    opened: list[EmulatorServer] = []
    server = EmulatorServer(PlainVendor())
    task_names = {task.get_name() for task in asyncio.all_tasks()}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await server.run(opened.append)
    assert opened == [server]
    await asyncio.sleep(0)
    assert {task.get_name() for task in asyncio.all_tasks()} == task_names
