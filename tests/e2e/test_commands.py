"""`join` and the examples in a real room, as processes of their own."""

from __future__ import annotations

import asyncio
import os
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
async def python(server: LocalServer, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python program that knows the server from its environment."""
    known = {"LIVEKIT_URL": server.url, "LIVEKIT_API_KEY": server.api_key, "LIVEKIT_API_SECRET": server.api_secret}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=ROOT,
        env={**os.environ, **known},
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
