from __future__ import annotations

import pytest

from bridge.transports.livekit_room.playclock import PlayClock


def test_pieces_pushed_in_a_burst_play_one_after_the_other() -> None:
    clock = PlayClock(limit_s=1.0)
    assert clock.push(0.1, now=5.0)
    assert clock.push(0.2, now=5.05)
    assert clock.queued_s(5.05) == pytest.approx(0.25)
    assert clock.queued_s(5.4) == 0.0


def test_after_an_empty_queue_time_starts_anew() -> None:
    clock = PlayClock(limit_s=1.0)
    clock.push(0.1, now=5.0)
    clock.push(0.1, now=9.0)
    assert clock.queued_s(9.0) == pytest.approx(0.1)


def test_what_does_not_fit_is_refused_whole() -> None:
    clock = PlayClock(limit_s=1.0)
    assert clock.push(0.9, now=0.0)
    assert not clock.push(0.2, now=0.0)
    assert clock.queued_s(0.0) == pytest.approx(0.9)
    assert clock.push(0.2, now=0.1)


def test_a_clear_leaves_nothing() -> None:
    clock = PlayClock(limit_s=1.0)
    clock.push(0.9, now=0.0)
    clock.clear()
    assert clock.queued_s(0.0) == 0.0
    assert clock.room_s(0.0) == 1.0
