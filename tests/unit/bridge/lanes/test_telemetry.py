"""Snapshots for those who watch, readable at any time, named by part and cause."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from bridge.lanes.pulse import PulseStats
from bridge.lanes.telemetry import Snapshot, Telemetry, counters_of
from tests.fakes.fake_time import in_fake_time


def gather() -> Iterator[tuple[str, int | float]]:
    yield from counters_of("loop", PulseStats(beats=3, worst_late_ms=1.5))


def test_counters_are_named_by_part_and_field() -> None:
    snapshot = Telemetry("c", gather).snapshot(now=5.0)
    assert snapshot.counters == {
        "loop.beats": 3,
        "loop.late_beats": 0,
        "loop.missed_beats": 0,
        "loop.worst_late_ms": 1.5,
    }


@in_fake_time
async def test_a_watcher_gets_a_snapshot_every_second_with_the_age_of_the_call() -> None:
    telemetry = Telemetry("c", gather)
    given: list[Snapshot] = []
    telemetry.watch(given.append)
    telemetry.start(asyncio.get_running_loop().time())
    await asyncio.sleep(2.5)
    telemetry.stop()
    await asyncio.sleep(60)
    assert [snapshot.age_s for snapshot in given] == pytest.approx([1.0, 2.0])


def test_each_watcher_has_its_own_rhythm_and_can_leave() -> None:
    telemetry = Telemetry("c", gather)
    often: list[float] = []
    seldom: list[float] = []
    telemetry.watch(lambda snapshot: often.append(snapshot.at_s))
    leave = telemetry.watch(lambda snapshot: seldom.append(snapshot.at_s), every_s=3.0)
    for second in range(1, 7):
        telemetry.beat(float(second))
    leave()
    for second in range(7, 10):
        telemetry.beat(float(second))
    assert often == [float(second) for second in range(1, 10)]
    assert seldom == [3.0, 6.0]


def test_nothing_is_gathered_while_no_snapshot_is_due() -> None:
    gathered: list[str] = []

    def counted() -> Iterator[tuple[str, int | float]]:
        gathered.append("asked")
        yield from gather()

    telemetry = Telemetry("c", counted)
    telemetry.beat(1.0)
    telemetry.watch(lambda _: None, every_s=2.0)
    telemetry.watch(lambda _: None, every_s=2.0)
    telemetry.beat(2.0)
    assert gathered == []
    telemetry.beat(3.0)
    assert gathered == ["asked"]
