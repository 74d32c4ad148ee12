"""A real livekit-server for each module, people in processes of their own, and a listener that keeps everything."""

from __future__ import annotations

import gc
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bridge.demo.person import Person
from bridge.demo.server import LocalServer, ServerNotFound, find_server
from bridge.transports.livekit_room import LiveKitRoom
from tests.e2e.listening import RoomFactory, TestListener, opened_room
from tests.e2e.stalls import Reruns

_HERE = Path(__file__).parent
_names = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Reruns(), "e2e-reruns")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    try:
        find_server()
        missing = ""
    except ServerNotFound as error:
        missing = str(error)
    for item in items:
        if _HERE not in item.path.parents or item.get_closest_marker("e2e") is None:
            continue
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(60))
        if missing:
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="module", autouse=True)
def frozen_heap() -> Iterator[None]:
    """What thousands of tests before have left is not walked again in the middle of a call; `join` does as much."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[LocalServer]:
    """Shared by the tests of a module; each uses rooms of its own."""
    async with LocalServer() as running:
        yield running


@pytest.fixture
def room_name(request: pytest.FixtureRequest) -> str:
    return f"{request.node.originalname}-{next(_names)}"


PersonFactory = Callable[..., AbstractAsyncContextManager[Person]]


@pytest.fixture
def person(server: LocalServer, room_name: str) -> PersonFactory:
    """`async with person("ann") as ann:` somebody in the test's room, publishing a microphone unless told not to."""

    @asynccontextmanager
    async def join(
        identity: str, *, publish: bool = True, rate_hz: int = 48_000, channels: int = 1
    ) -> AsyncIterator[Person]:
        async with Person(server.url, server.participant_token(room_name, identity)) as joined:
            if publish:
                await joined.do("publish", rate_hz=rate_hz, channels=channels)
            yield joined

    return join


@pytest.fixture
def open_room(server: LocalServer, room_name: str) -> RoomFactory:
    """`async with open_room() as (room, listener):` our transport in the test's room."""

    def make(**settings: Any) -> AbstractAsyncContextManager[tuple[LiveKitRoom, TestListener]]:
        return opened_room(server, room_name, **settings)

    return make
