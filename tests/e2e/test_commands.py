"""`join` and the examples in a real room, as processes of their own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.demo.server import LocalServer
from tests.e2e.conftest import PersonFactory

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def python(server: LocalServer, *arguments: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python program that knows the server from its environment, and more of that if given."""
    known = {"LIVEKIT_URL": server.url, "LIVEKIT_API_KEY": server.api_key, "LIVEKIT_API_SECRET": server.api_secret}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=ROOT,
        env={**os.environ, **known, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_join_serves_several_rooms_until_a_signal(server: LocalServer, room_name: str) -> None:
    rooms = [f"{room_name}-a", f"{room_name}-b"]
    flags = [word for room in rooms for word in ("--room", room)]
    async with python(server, "-m", "bridge.cli", "join", *flags) as process:
        async with asyncio.timeout(20):
            while True:
                listed = (await server.ask("ListRooms", {})).get("rooms", [])
                if set(rooms) <= {room["name"] for room in listed if room.get("num_publishers")}:
                    break
                await asyncio.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert {f"room {room}: ended, requested" for room in rooms} == set(out.decode().splitlines())


async def test_join_ends_when_its_room_is_deleted(server: LocalServer, room_name: str, person: PersonFactory) -> None:
    async with python(server, "-m", "bridge.cli", "join", "--room", room_name) as process, person("ada") as ada:
        await ada.wait("hears_agent", timeout_s=20)
        await server.ask("DeleteRoom", {"room": room_name}, room=room_name)
        async with asyncio.timeout(15):
            out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert out.decode().strip() == f"room {room_name}: ended, room_deleted"


async def test_check_finds_a_real_server_and_a_refused_key(server: LocalServer, room_name: str) -> None:
    async with python(server, "-m", "bridge.cli", "check", "--room", room_name) as process:
        out, _ = await process.communicate()
    assert process.returncode == 0
    assert "accepts the key" in out.decode()


async def test_the_example_greets_who_is_there(server: LocalServer, room_name: str, person: PersonFactory) -> None:
    async with python(server, "-m", "examples.join_room", room_name), person("ada") as ada:
        await ada.wait("attributes", timeout_s=20, changed={"lk.agent.state": "speaking"})


@asynccontextmanager
async def emulating(server: LocalServer, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`emulate openai` and the base URL that it tells."""
    async with python(server, "-m", "bridge.cli", "emulate", "openai", *arguments) as process:
        assert process.stdout is not None
        told = ""
        async with asyncio.timeout(15):
            while "roombridge join" not in told:
                line = (await process.stdout.readline()).decode()
                assert line, "it ended before it served"
                told += line
        found = re.search(r"OPENAI_BASE_URL=(\S+)", told)
        assert found
        yield process, found[1]


async def talk_once(server: LocalServer, base_url: str, room: str, person: PersonFactory) -> None:
    """A call in which the model greets, and is heard; ended by a signal."""
    environ = {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "a-key-that-nobody-may-see"}
    join = ("-m", "bridge.cli", "join", "--room", room, "--provider", "openai")
    async with python(server, *join, **environ) as process, person("ada") as ada:
        await ada.wait("attributes", timeout_s=20, changed={"lk.agent.state": "speaking"})
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()


async def test_a_recorded_call_is_played_into_a_room_again(
    server: LocalServer, room_name: str, person: PersonFactory, tmp_path: Path
) -> None:
    scenario = tmp_path / "greets.toml"
    scenario.write_text('greeting = { kind = "tone", duration_ms = 800 }\npace = { speed = 1.0 }\n')
    calls = tmp_path / "calls"
    arguments = ("--record", str(calls), "--scenario", str(scenario), "--connect-ms", "100", "--setup-ms", "50")
    async with emulating(server, *arguments) as (emulator, base_url):
        await talk_once(server, base_url, room_name, person)
        emulator.send_signal(signal.SIGINT)
        out, errors = await emulator.communicate()
        assert emulator.returncode == 0 and b"recorded " in out, errors.decode()
    (capture,) = calls.iterdir()
    assert "a-key-that-nobody-may-see" not in capture.read_text()
    async with emulating(server, "--replay", str(calls)) as (emulator, base_url):
        await talk_once(server, base_url, room_name, person)
        emulator.send_signal(signal.SIGINT)
        out, errors = await emulator.communicate()
        assert emulator.returncode == 0, out.decode() + errors.decode()
