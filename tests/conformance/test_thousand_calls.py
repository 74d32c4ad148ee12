"""A thousand short calls, one after the other: no task, no object and no memory stays."""

from __future__ import annotations

import asyncio
import gc

import psutil

from bridge.facade import RoomBridge
from bridge.transports.loopback import LoopbackRoom
from providers.scripted.model import ScriptedModel
from providers.scripted.scenario import Pace, Scenario, Tone
from providers.signal.formats import PCM16_24K

CALLS = 1000
WARM = 200
SCENARIO = Scenario(greeting=Tone(duration_ms=200), pace=Pace(speed=1000, latency_ms=0))
FRAME = bytes(PCM16_24K.size(20))


async def call(model: ScriptedModel) -> None:
    """Somebody comes and says something; the model's first sound is played; all leave."""
    room = LoopbackRoom()
    async with RoomBridge(room, model) as bridge:
        while bridge.leader is None:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0)
        room.join("ada")
        room.speak("ada", FRAME)
        async with asyncio.timeout(2):
            while not room.queued_ms(asyncio.get_running_loop().time()):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0)
        room.leave("ada")


async def test_a_thousand_calls_leave_tasks_objects_and_memory_as_they_were() -> None:
    process = psutil.Process()
    tasks = asyncio.all_tasks()
    model = ScriptedModel(SCENARIO)
    for _ in range(WARM):
        await call(model)
    gc.collect()
    objects, rss = len(gc.get_objects()), process.memory_info().rss
    for _ in range(CALLS - WARM):
        await call(model)
    assert asyncio.all_tasks() == tasks
    gc.collect()
    assert len(gc.get_objects()) - objects < 500
    assert (process.memory_info().rss - rss) / 1e6 < 6
    assert not model.sessions
