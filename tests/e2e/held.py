"""What a process holds of tasks, descriptors, threads and native objects, before and after."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os

import psutil

__all__ = ["held", "kept_mb", "settled"]


def held() -> dict[str, int]:
    from bridge.transports.livekit_room import ffi

    gc.collect()
    hub = ffi.hub()
    assert hub is not None
    process = psutil.Process(os.getpid())
    return {
        "tasks": len(asyncio.all_tasks()),
        "fds": process.num_fds(),
        "threads": process.num_threads(),
        "handles": ffi.live_handles(),
        **hub.in_use(),
    }


def kept_mb() -> float:
    """Resident memory of this process, MB, once the allocator has given back what nobody uses.

    Freed memory stays with glibc's arenas, more or less of it from run to run: that is no leak, and some MB of noise.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc's own
        trim(0)
    return float(psutil.Process().memory_info().rss) / 1e6


async def settled(before: dict[str, int], **slack: int) -> dict[str, tuple[int, int]]:
    """What is still above `before` after a while. libwebrtc's name look-ups outlive a call by some seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + 20
    while True:
        after = held()
        grown = {key: (before[key], after[key]) for key in before if after[key] > before[key] + slack.get(key, 0)}
        if not grown or loop.time() > until:
            return grown
        await asyncio.sleep(0.5)
