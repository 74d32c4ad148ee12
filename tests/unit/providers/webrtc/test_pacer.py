from __future__ import annotations

import random

import pytest

from providers.webrtc.pacer import MAX_CATCH_UP, Pacer


def test_one_packet_is_due_each_20_ms() -> None:
    pacer = Pacer(now=100.0, timestamp=7)
    sent = []
    for step in range(50):
        now = 100.0 + step * 0.02
        assert pacer.due(now) == 1
        sent.append(pacer.next_timestamp())
        assert pacer.due(now) == 0 and pacer.next_at() == pytest.approx(now + 0.02)
    assert sent == [7 + 960 * step for step in range(50)]


def test_a_late_wake_up_catches_up() -> None:
    pacer = Pacer(now=0.0, timestamp=0)
    pacer.next_timestamp()
    assert pacer.due(0.085) == 4
    assert [pacer.next_timestamp() for _ in range(4)] == [960, 1920, 2880, 3840]
    assert pacer.restarts == 0


def test_after_a_long_stall_the_schedule_goes_on_at_the_present_and_is_counted() -> None:
    pacer = Pacer(now=0.0, timestamp=0)
    pacer.next_timestamp()
    assert pacer.due(2.0) == 1
    assert pacer.resumed and pacer.restarts == 1 and pacer.skipped == 99
    assert pacer.next_timestamp() == 960 * 100
    assert not pacer.resumed


def test_the_rtp_clock_never_leaves_the_monotonic_clock() -> None:
    chance = random.Random(3)
    pacer, now = Pacer(now=5.0, timestamp=0xFFFFF000), 5.0
    for _ in range(30_000):
        now += chance.choice([0.001, 0.02, 0.021, 0.05, 0.3])
        for _ in range(pacer.due(now)):
            stamp = pacer.next_timestamp()
        drift = ((stamp - pacer.timestamp_at(now)) & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
        assert -960 <= drift <= 1
    assert MAX_CATCH_UP * 20 == 100
