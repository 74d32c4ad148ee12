"""Blocking functions run aside, and nobody waits for one that never ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from bridge.lanes.threads import Threads


async def test_results_and_errors_come_back() -> None:
    threads = Threads()

    def halve(number: int) -> float:
        return number / 2

    assert await threads.call(halve, {"number": 3}, "halve") == 1.5
    with pytest.raises(TypeError):
        await threads.call(halve, {"number": "three"}, "halve")
    assert (threads.busy, threads.left) == (0, 0)


def test_the_process_ends_although_a_function_hangs() -> None:
    code = """
import asyncio, time
from bridge.lanes.threads import Threads
async def main():
    threads = Threads()
    try:
        async with asyncio.timeout(0.05):
            await threads.call(lambda: time.sleep(60), {}, "hangs")
    except TimeoutError:
        print(threads.busy, threads.left)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=10, check=True)
    assert (done.stdout.split(), done.stderr) == (["1", "1"], "")


async def test_a_function_that_ends_after_it_was_given_up_is_counted_out() -> None:
    threads = Threads()
    loop = asyncio.get_running_loop()
    runs, released = asyncio.Event(), threading.Event()

    def waits() -> None:
        loop.call_soon_threadsafe(runs.set)
        released.wait(5)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(threads.call(waits, {}, "waits"), name="waits")
        await runs.wait()
        thread = next(thread for thread in threading.enumerate() if thread.name == "waits")
        task.cancel()
    assert (threads.busy, threads.left) == (1, 1)
    released.set()
    await asyncio.to_thread(thread.join)  # its last act was to tell the loop, which hears that before it goes on here
    assert threads.busy == 0
