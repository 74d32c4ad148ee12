"""How long the end of a call waits for the model's last word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.lanes.drain import Drain
from bridge.lanes.fast_ports import FastStats


class AtWork:
    def __init__(self, *, replies: bool = False, tools: bool = False) -> None:
        self.at_work = replies or tools
        self.awaits_tools = tools


@asynccontextmanager
async def awaited(work: AtWork, *, now: float) -> AsyncIterator[tuple[Drain, asyncio.Task[None]]]:
    drain = Drain(work, FastStats())
    async with asyncio.TaskGroup() as group:
        waits = group.create_task(drain.wait(now), name="wait")
        await asyncio.sleep(0)
        yield drain, waits
        waits.cancel()


async def is_over(drain: Drain, waits: asyncio.Task[None], now: float) -> bool:
    drain.room_is_quiet(now)
    await asyncio.sleep(0)
    return waits.done()


async def test_a_quiet_room_with_no_work_left_ends_the_wait() -> None:
    async with awaited(AtWork(), now=0.0) as (drain, waits):
        assert drain.is_awaited
        assert await is_over(drain, waits, 0.0)
        assert not drain.is_awaited


async def test_a_reply_that_still_tells_is_waited_for_and_a_stalled_one_given_up_and_counted() -> None:
    stats = FastStats()
    drain = Drain(AtWork(replies=True), stats)
    async with asyncio.TaskGroup() as group:
        waits = group.create_task(drain.wait(0.0), name="wait")
        await asyncio.sleep(0)
        drain.news_at = 2.0
        assert not await is_over(drain, waits, 4.9)
        assert stats.stalled_goodbyes == 0
        assert await is_over(drain, waits, 5.0)
    assert stats.stalled_goodbyes == 1


async def test_a_tool_is_waited_for_however_long_nothing_is_told() -> None:
    async with awaited(AtWork(tools=True), now=0.0) as (drain, waits):
        assert not await is_over(drain, waits, 3600.0)
