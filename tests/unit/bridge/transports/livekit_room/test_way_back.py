"""When a lost room is looked for again."""

from __future__ import annotations

import random

from bridge.transports.livekit_room.way_back import WayBack


def test_waits_grow_to_a_bound_and_spread() -> None:
    waits = [
        [way.delay_s(0.0) or 0.0 for _ in range(12)]
        for way in (WayBack(1e9, random.Random(seed)) for seed in range(200))
    ]
    for number, ceiling_s in ((0, 0.25), (1, 0.5), (2, 1.0), (3, 2.0), (4, 3.0), (11, 3.0)):
        column = [row[number] for row in waits]
        assert ceiling_s * 0.9 < max(column) <= ceiling_s
        assert min(column) < ceiling_s * 0.1


def test_no_attempt_begins_after_the_deadline() -> None:
    way, now, attempts = WayBack(30.0, random.Random(4)), 0.0, 1
    while (delay_s := way.delay_s(now)) is not None:
        now += delay_s
        attempts += 1
    assert now < 30.0
    assert way.failures == attempts < 60
