"""Nothing may stay open: tasks and file descriptors before and after."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["nothing_left"]


@asynccontextmanager
async def nothing_left(within_s: float = 1.0) -> AsyncIterator[None]:
    """Fail unless tasks and descriptors are back at what they were, `within_s` after the block (servers close late)."""
    await asyncio.to_thread(int)  # the executor and its self-pipe belong to the process, not to what is tested
    tasks, descriptors = asyncio.all_tasks(), _descriptors()
    yield
    loop = asyncio.get_running_loop()
    give_up = loop.time() + within_s
    while True:
        left = [f"{task.get_name()} {task.get_coro()}" for task in asyncio.all_tasks() - tasks]
        opened = _descriptors() - descriptors
        if not left and opened <= 0:
            return
        if loop.time() > give_up:
            raise AssertionError(f"left behind: tasks {left}, {opened} file descriptors")
        await asyncio.sleep(0.01)


def _descriptors() -> int:
    return len(os.listdir("/dev/fd"))
