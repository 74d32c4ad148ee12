"""A queue seen from outside: what is queued falls with the clock."""

from __future__ import annotations

from bridge.audio.queue_clock import QueueClock


def test_what_is_queued_plays_in_real_time() -> None:
    queue = QueueClock()
    queue.push(200, now=1.0)
    assert round(queue.queued_ms(1.05)) == 150
    queue.push(100, now=1.1)
    assert round(queue.queued_ms(1.1)) == 200
    assert queue.queued_ms(5.0) == 0


def test_after_running_dry_it_starts_anew() -> None:
    queue = QueueClock()
    queue.push(100, now=1.0)
    queue.push(100, now=9.0)
    assert round(queue.queued_ms(9.0)) == 100


def test_clear_tells_what_it_dropped() -> None:
    queue = QueueClock()
    queue.push(300, now=1.0)
    assert round(queue.clear(1.1)) == 200
    assert queue.queued_ms(1.1) == 0
