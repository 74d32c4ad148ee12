"""The demo without a livekit-server: it says so and offers the direct call, unless a server is what was asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridge.config import read
from bridge.core.errors import BridgeError, ConfigError
from bridge.demo.run import Demo
from bridge.demo.server import LocalServer, ServerNotFound
from tests.fakes.leftovers import nothing_left


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def missing(self: LocalServer) -> None:
        raise ServerNotFound("livekit-server is missing: run `make server`")

    monkeypatch.setattr(LocalServer, "start", missing)


def a_demo(told: asyncio.Queue[str], *, save: Path | None = None, direct: bool = False, **environ: str) -> Demo:
    config = read({"livekit": {"room": "demo"}}, {})
    return Demo(config, environ, port=0, page_port=0, direct=direct, say=None, save=save, tell=told.put_nowait)


async def test_without_a_server_the_direct_call_is_offered_and_said_to_be_all() -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    demo = a_demo(told)
    async with nothing_left(), asyncio.TaskGroup() as group:
        group.create_task(demo.run(), name="demo")
        first = await told.get()
        assert "livekit-server is missing" in first and "the direct call needs no server" in first
        assert "#token=" in await told.get()
        demo.stop()


async def test_where_none_is_wanted_nothing_is_said_of_it() -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    demo = a_demo(told, direct=True)
    async with asyncio.TaskGroup() as group:
        group.create_task(demo.run(), name="demo")
        assert (await told.get()).startswith("open http://127.0.0.1:")
        demo.stop()


async def test_who_needs_a_room_or_has_named_a_server_is_told_that_there_is_none(tmp_path: Path) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    with pytest.raises(BridgeError, match="livekit-server is missing"):
        await a_demo(told, save=tmp_path / "answer.wav").run()
    with pytest.raises(BridgeError, match="livekit-server is missing"):
        await a_demo(told, LIVEKIT_SERVER_BIN="/nowhere/livekit-server").run()
    with pytest.raises(ConfigError, match="--direct"):
        await a_demo(told, save=tmp_path / "answer.wav", direct=True).run()
