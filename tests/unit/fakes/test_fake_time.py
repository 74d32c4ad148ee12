"""Tests in fake time wait for nothing, and time passes as they say."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tests.fakes.fake_time import in_fake_time


def test_an_hour_passes_at_once_and_in_order() -> None:
    woke: list[tuple[str, float]] = []

    @in_fake_time
    async def sleepers() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def sleeper(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            woke.append((name, loop.time() - began))

        async with asyncio.TaskGroup() as group:
            group.create_task(sleeper("late", 3600), name="late")
            group.create_task(sleeper("early", 0.02), name="early")

    began = time.monotonic()
    sleepers()
    assert time.monotonic() - began < 5
    assert [name for name, _ in woke] == ["early", "late"]
    assert [at for _, at in woke] == pytest.approx([0.02, 3600])


@in_fake_time
async def test_a_limit_is_reached_and_a_failure_told() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(100):
            await asyncio.Event().wait()


@in_fake_time
async def test_a_thread_is_waited_for_where_no_timer_is_set() -> None:
    release = threading.Event()
    threading.Timer(0.01, release.set).start()
    assert await asyncio.to_thread(release.wait, 5)
