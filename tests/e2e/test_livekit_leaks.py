"""Rooms opened and closed leave nothing behind: no task, socket, thread, native object or registration."""

from __future__ import annotations

import asyncio
import gc
import statistics
import weakref
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

import pytest

from bench.soak import heap_mb
from bridge.core.errors import RoomError
from bridge.core.words import AgentState, Caption, TextReceived, VideoOffered
from bridge.demo.person import Person
from bridge.demo.server import LocalServer
from tests.e2e.held import held, kept_mb, settled
from tests.e2e.listening import TestListener, opened_room

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

BATCH = 15
LEAK_MB = 0.8
"""Kept per room, resident. A whole call weighs about 2.5; the arenas of native threads grow by up to 0.3 for a hundred
rooms."""
LEFT_MB = 0.15
"""In use per room: 0.02 as a rule, 0.6 if its engine stays."""
_LETS_GO_S = 3.0


async def one_call(server: LocalServer, number: int, ffi: str) -> None:
    name = f"leak-{ffi}-{number}"
    async with opened_room(server, name, ffi=ffi) as (room, _):
        room.play(bytes(9600))
        room.show_state(AgentState.LISTENING)
        room.show_caption(Caption("s", None, "Hello", final=number % 2 == 0))
        room.flush()
        room.play(bytes(9600))
    await server.ask("DeleteRoom", {"room": name}, room=name)


@pytest.mark.parametrize("ffi", ["auto", "public"])
async def test_thirty_rooms_leave_nothing(server: LocalServer, ffi: str) -> None:
    numbers = iter(range(100))
    start = held()
    for _ in range(3):
        await one_call(server, next(numbers), ffi)
    await settled(start, fds=20, threads=12, handles=2)
    before, kept = held(), [kept_mb()]
    for _ in range(2):
        for _ in range(BATCH):
            await one_call(server, next(numbers), ffi)
        assert await settled(before, fds=3, threads=3) == {}
        kept.append(kept_mb())
    # What each room leaves behind, both batches leave behind; what only one of them does was noise or a cache.
    first, second = kept[1] - kept[0], kept[2] - kept[1]
    assert min(first, second) / BATCH < LEAK_MB, f"kept: {kept} MB"


async def heap_after(calls: Sequence[Callable[[], Awaitable[None]]]) -> list[float]:
    """What of the C library's heap is in use once each call is over and its native threads have let go, MB."""
    used = []
    for call in calls:
        await call()
        await asyncio.sleep(_LETS_GO_S)
        gc.collect()
        used.append(heap_mb())
    return used


async def test_rooms_that_the_people_leave_first_keep_no_memory(server: LocalServer) -> None:
    """Where the agent goes first, the SDK keeps half a megabyte of each room: docs/operations.md."""
    numbers = iter(range(100))

    async def call() -> None:
        name = f"left-{next(numbers)}"
        async with (
            opened_room(server, name) as (room, listener),
            Person(server.url, server.participant_token(name, "ann")) as ann,
        ):
            await ann.do("publish")
            await listener.frames("ann", 10)
            room.play(bytes(9600))

    used = await heap_after([call] * 5)
    kept = [after - before for before, after in pairwise(used)]
    assert statistics.median(kept) < LEFT_MB, f"in use after each: {used} MB"


async def test_heard_people_leave_nothing(server: LocalServer) -> None:
    async def call(number: int) -> None:
        name = f"heard-{number}"
        async with (
            opened_room(server, name) as (_, listener),
            Person(server.url, server.participant_token(name, "ann")) as ann,
        ):
            await ann.do("publish")
            await listener.frames("ann", 10)

    start = held()
    await call(0)
    await settled(start, fds=20, threads=12, handles=2)
    before = held()
    for number in range(1, 5):
        await call(number)
    assert await settled(before, fds=3, threads=3) == {}


@pytest.mark.parametrize("ffi", ["auto", "public"])
async def test_a_call_is_freed_without_the_collector(server: LocalServer, ffi: str) -> None:
    from bridge.transports.livekit_room.ffi import live_handles

    async def call(number: int) -> list[weakref.ref[object]]:
        name = f"freed-{ffi}-{number}"
        async with (
            opened_room(server, name, ffi=ffi) as (room, listener),
            Person(server.url, server.participant_token(name, "ann")) as ann,
        ):
            await ann.do("publish")
            await listener.frames("ann", 10)
            await ann.do("film")
            room.look_at((await listener.event(VideoOffered)).track_id)
            async with asyncio.timeout(10):
                while (frame := room.take_frame()) is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            frame.release()
            del frame
            await ann.do("chat", text="Hello")
            await listener.event(TextReceived)
            room.show_state(AgentState.LISTENING)
            room.show_caption(Caption("s", None, "Hello", final=True))
            room.play(bytes(9600))
            room.flush()
            assert room._call is not None and room._call._connection is not None
            return [weakref.ref(room), weakref.ref(room._call), weakref.ref(room._call._connection.room)]

    await call(0)
    gc.collect()
    before = live_handles()
    gc.disable()
    try:
        alive = [kept() for number in range(1, 3) for kept in await call(number)]
        assert alive == [None] * 6
        assert live_handles() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("ffi", ["auto", "public"])
async def test_watched_video_leaves_nothing_and_video_that_is_off_costs_nothing(server: LocalServer, ffi: str) -> None:
    from bridge.transports.livekit_room.ffi import live_handles

    name = f"seen-{ffi}"
    async with (
        opened_room(server, name, ffi=ffi) as (room, listener),
        Person(server.url, server.participant_token(name, "ann")) as ann,
    ):
        await ann.do("film", width=1280, height=720)
        track = (await listener.event(VideoOffered)).track_id

        async def look(seconds: float) -> None:
            room.look_at(track)
            until = asyncio.get_running_loop().time() + seconds
            taken = 0
            while asyncio.get_running_loop().time() < until:
                frame = room.take_frame()
                if frame is not None:
                    taken += 1
                    if taken % 2:
                        frame.picture()
                    frame.release()
                await asyncio.sleep(0.1)
            room.look_at(None)
            await asyncio.sleep(0.3)
            assert taken > 1

        for _ in range(3):
            await look(1.5)
        gc.collect()
        handles, kept = live_handles(), [kept_mb()]
        # One frame that was kept would be 1.4 MB; 67 of them are decoded in each round. What leaks does so in each, the
        # heap of a process with a long past finds its size in one.
        while len(kept) < 4 and (len(kept) < 2 or kept[-1] - kept[-2] >= 12):
            for _ in range(3):
                await look(1.5)
            kept.append(kept_mb())
        assert kept[-1] - kept[-2] < 12, f"kept: {kept} MB"
        await asyncio.sleep(3.0)  # off: somebody films, and nobody looks
        gc.collect()
        kept.append(kept_mb())
        assert live_handles() <= handles
        assert kept[-1] - kept[-2] < 3, f"kept: {kept} MB"


async def test_a_room_that_was_left_holds_nothing_native_but_knows_its_counters(server: LocalServer) -> None:
    from bridge.transports.livekit_room.ffi import live_handles

    async with opened_room(server, "kept-0"):
        pass
    gc.collect()
    before = live_handles()
    async with opened_room(server, "kept-1") as (room, _):
        room.show_state(AgentState.LISTENING)
        await asyncio.sleep(0.1)
        counters = room.counters()
    gc.collect()
    assert live_handles() == before
    assert room.counters().keys() == counters.keys()
    with pytest.raises(RoomError, match="serves one call"):
        await room.open(TestListener())
