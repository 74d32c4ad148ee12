"""The same seed is the same faults; each can happen alone; the server tells what it did."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect

from providers.emulators.chaos import FATAL_KINDS, KINDS, LASTING_KINDS, ChaosSchedule, Stroke, stroke
from providers.scripted.faults import Abort, GoAway, refused_fault
from tests.fakes.plain_vendor import all_messages, ready, served


def test_a_seed_is_the_same_list_everywhere() -> None:
    told = [str(one) for one in ChaosSchedule(7, every_s=10).first(3)]
    assert told == GOLDEN


GOLDEN = [
    "chaos seed=7 fault=1 at_s=1.2 pause: stall duration_s=1.477 pongs=True",
    "chaos seed=7 fault=2 at_s=17.1 pause: stall duration_s=0.572",
    "chaos seed=7 fault=3 at_s=22.1 outage: abort, next connect drop",
]


@given(seed=st.integers(), number=st.integers(1, 10_000), every_s=st.floats(0.01, 1000))
def test_a_stroke_is_sound_in_its_own_stretch_of_time_and_needs_no_other(
    seed: int, number: int, every_s: float
) -> None:
    one = stroke(seed, number, every_s=every_s, kinds=[*KINDS, *FATAL_KINDS, *LASTING_KINDS])
    assert one == stroke(seed, number, every_s=every_s, kinds=[*KINDS, *FATAL_KINDS, *LASTING_KINDS])
    assert every_s * (number - 1) <= one.at_s <= every_s * number
    assert one.now, "something happens at once"
    assert all(refused_fault(fault) is None for fault in (*one.afterwards, *one.instead))
    assert 0 <= one.of(3) < 3
    assert f"seed={seed} fault={number} " in str(one)


def test_every_kind_comes_up_and_the_fatal_ones_only_when_asked_for() -> None:
    assert {one.kind for one in ChaosSchedule(1).first(400)} == set(KINDS)
    fatal = ChaosSchedule(1, kinds=FATAL_KINDS).first(60)
    assert {one.kind for one in fatal} == set(FATAL_KINDS)
    away = stroke(1, kinds=LASTING_KINDS)
    assert away.kind == "away" and len(away.instead) >= 100 and len(str(away)) < 250


@given(st.lists(st.floats(0, 30), min_size=1, max_size=40))
def test_each_stroke_is_due_once_and_in_order_however_the_clock_steps(steps: list[float]) -> None:
    schedule = ChaosSchedule(3, every_s=2.0)
    assert schedule.deadline() is None and schedule.due(5.0) == []
    schedule.start(100.0)
    now, found = 100.0, list[Stroke]()
    for step in steps:
        now += step
        found += schedule.due(now)
        deadline = schedule.deadline()
        assert deadline is not None and deadline > now
    assert found == [one for one in ChaosSchedule(3, every_s=2.0).first(len(found))]


def test_after_a_long_sleep_only_the_newest_are_due() -> None:
    schedule = ChaosSchedule(3, every_s=1.0)
    schedule.start(0.0)
    late = schedule.due(100_000.0)
    assert 99 <= len(late) <= 101 and late[-1].at_s > 99_998


@pytest.mark.parametrize("wrong", [{"every_s": 0}, {"every_s": float("nan")}, {"kinds": ["earthquake"]}, {"kinds": []}])
def test_a_wrong_schedule_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"every_s|choose from"):
        ChaosSchedule(1, **wrong)  # type: ignore[arg-type]


async def test_the_server_lets_a_schedule_happen_and_tells() -> None:
    told: list[str] = []
    async with served() as server, asyncio.TaskGroup() as tasks:
        schedule = ChaosSchedule(5, every_s=0.05, kinds=["kill"])
        chaos = tasks.create_task(server.run_chaos(schedule, told.append), name="chaos")
        while not told:  # noqa: ASYNC110 - it tells by a line
            await asyncio.sleep(0.01)
        assert told[0].startswith("chaos seed=5 fault=1 at_s=")
        assert told[0].endswith("kill: abort (nobody was connected)")
        async with connect(server.url) as client:
            await ready(client)
            await all_messages(client)
            assert client.close_code == 1006
        assert any(line.endswith("kill: abort (connection 1)") for line in told)
        chaos.cancel()


async def test_a_stroke_reaches_the_connections_that_follow() -> None:
    async with served() as server:
        again = (GoAway(at_s=0, time_left_s=0.01),)
        one = Stroke(seed=1, number=1, at_s=0, kind="storm", pick=0, now=(Abort(),), afterwards=again)
        async with connect(server.url) as client:
            await ready(client)
            assert server.befall(one) is server.connections[0]
            await all_messages(client)
        assert server.befall(one) is None, "nobody is connected"
        async with connect(server.url) as client:
            await ready(client, 2)
            assert await all_messages(client) == [{"going": 0.01}]
