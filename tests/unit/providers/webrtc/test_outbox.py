from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.contract import OutboxStats
from providers.webrtc.outbox import RealTimeOutbox

QUIET = bytes(960)
LOUD = np.full(480, 4000, dtype="<i2").tobytes()


def outbox(limit_ms: float = 5000, kept_silence_ms: float = 700) -> RealTimeOutbox:
    return RealTimeOutbox(limit_ms, OutboxStats(), kept_silence_ms=kept_silence_ms)


def take_all(box: RealTimeOutbox) -> bytes:
    taken = b""
    while (piece := box.take()) is not None:
        taken += piece[0]
    return taken


def test_speech_comes_out_as_it_went_in() -> None:
    box = outbox()
    for size in (100, 960, 5000, 2):
        box.push(LOUD * 10 if size == 5000 else LOUD[:size])
    assert take_all(box) == LOUD[:100] + LOUD + LOUD * 10 + LOUD[:2]
    assert box.stats.sent_audio_ms == pytest.approx((100 + 960 + 9600 + 2) / 48)
    assert box.stats.waiting_audio_ms == 0


def test_full_the_oldest_goes_and_is_counted() -> None:
    box = outbox(limit_ms=100)
    box.push(LOUD * 8)
    assert box.stats.waiting_audio_ms == 100
    assert (box.stats.dropped_audio_messages, box.stats.dropped_audio_ms) == (3, 60)


def test_a_little_that_waits_is_no_reason_to_skip_anything() -> None:
    box = outbox()
    box.push(QUIET * 4)
    assert take_all(box) == QUIET * 4


def test_silence_before_anybody_spoke_is_skipped_up_to_the_onset() -> None:
    box = outbox()
    box.push(QUIET * 40 + LOUD * 5)
    taken = take_all(box)
    assert taken.endswith(QUIET * 3 + LOUD * 5)
    assert box.stats.skipped_silence_ms == 37 * 20
    assert box.stats.dropped_audio_ms == 0


def test_silence_is_left_out_until_a_little_waits_and_no_further() -> None:
    box = outbox()
    box.push(QUIET * 40)
    assert take_all(box) == QUIET * 2
    assert box.stats.skipped_silence_ms == 38 * 20


def test_what_the_sender_holds_counts_as_waiting() -> None:
    box = outbox()
    for _ in range(10):
        box.push(QUIET)
        assert box.take(200.0) is None, "live silence is left out until the sender has caught up"
    assert box.stats.skipped_silence_ms == 200
    box.push(QUIET)
    assert box.take(20.0) is not None


def test_a_pause_keeps_what_ends_a_turn() -> None:
    box = outbox()
    box.push(LOUD * 5 + QUIET * 100 + LOUD * 20)
    taken = take_all(box)
    assert taken.startswith(LOUD * 5 + QUIET * 35)
    assert taken.endswith(QUIET * 3 + LOUD * 20)
    assert box.stats.skipped_silence_ms == (100 - 38) * 20


def test_what_is_dropped_on_purpose_is_counted_too() -> None:
    box = outbox()
    box.push(LOUD * 5)
    box.drop_all()
    assert (len(box), box.stats.waiting_audio_ms, box.stats.dropped_audio_ms) == (0, 0, 100)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 30), st.integers(0, 40)), min_size=3, max_size=30))
def test_no_speech_is_lost_within_the_bound(steps: list[tuple[bool, int, int]]) -> None:
    box = outbox(limit_ms=1e9)
    said, taken = 0, 0
    for loud, count, takes in steps:
        said += count * loud
        box.push((LOUD if loud else QUIET) * count)
        for _ in range(takes):
            piece = box.take()
            taken += piece is not None and piece[0] == LOUD
    while (piece := box.take()) is not None:
        taken += piece[0] == LOUD
    assert taken == said
    assert box.stats.waiting_audio_ms == 0
    total = sum(count for _, count, _ in steps) * 20
    assert box.stats.sent_audio_ms + box.stats.skipped_silence_ms == pytest.approx(total)
