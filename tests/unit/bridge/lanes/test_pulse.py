"""The beat keeps its schedule, counts what it misses, and stops when told."""

from __future__ import annotations

import asyncio

import pytest

from bridge.lanes.pulse import Pulse
from tests.fakes.fake_time import in_fake_time


class _Loop:
    """Just enough of an event loop to move time by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, object]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: object) -> asyncio.TimerHandle:
        self.due.append((when, callback))
        return asyncio.TimerHandle(when, lambda: None, (), asyncio.get_running_loop())


@in_fake_time
async def test_it_beats_in_its_period_and_stops() -> None:
    beats: list[float] = []
    began = asyncio.get_running_loop().time()
    pulse = Pulse(0.01, beats.append)
    pulse.start()
    await asyncio.sleep(0.035)
    pulse.stop()
    await asyncio.sleep(1)
    assert beats == pytest.approx([began + 0.01, began + 0.02, began + 0.03])
    assert (pulse.stats.beats, pulse.stats.late_beats, pulse.stats.missed_beats) == (3, 0, 0)


async def test_a_stall_is_counted_and_not_made_up() -> None:
    beats: list[float] = []
    pulse = Pulse(0.02, beats.append)
    loop = _Loop()
    pulse._loop = loop  # type: ignore[assignment]
    pulse._due = 0.02
    loop.now = 0.095
    pulse._run()
    assert beats == [0.095]
    assert (pulse.stats.late_beats, pulse.stats.missed_beats) == (1, 3)
    assert [round(when, 3) for when, _ in loop.due] == [0.1]
