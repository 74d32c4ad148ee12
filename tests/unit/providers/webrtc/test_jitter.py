"""The jitter buffer on simulated networks, and under packets of every kind."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.webrtc.jitter import JitterBuffer, JitterSettings
from tests.unit.providers.webrtc.streams import FRAME, RATE_HZ, Call, even, speech


def accounted(buffer: JitterBuffer) -> int:
    stats = buffer.stats
    return stats.played + stats.late + stats.duplicate + stats.dropped


def test_an_even_network_costs_the_least_delay_and_no_sample() -> None:
    call = Call().run(20, even)
    stats = call.buffer.stats
    assert min(call.alike()[1:]) > 0.94 and np.mean(call.alike()) > 0.99
    assert stats.received == stats.played == 1000 and stats.lost == stats.late == stats.expanded_ms == 0
    assert call.delay_ms[-10] < 30 and stats.target_ms_now == 20


def test_loss_and_jitter_leave_speech_intelligible() -> None:
    chance = random.Random(7)

    def arrival(number: int) -> float | None:
        return None if chance.random() < 0.05 else even(number) + chance.uniform(0, 0.04)

    call = Call().run(28, arrival)
    stats = call.buffer.stats
    assert min(call.alike()) >= 0.6 and np.mean(call.alike()) > 0.93
    assert stats.reordered > 100 and stats.late <= 5
    assert 30 < stats.delay_ms_now < 70
    assert stats.lost == pytest.approx(1400 - stats.received, abs=10)


@pytest.mark.parametrize("held_back", [True, False], ids=["late", "lost"])
def test_after_a_cut_of_two_seconds_the_delay_comes_back(held_back: bool) -> None:
    def arrival(number: int) -> float | None:
        if not 5.0 <= number * 0.02 < 7.0:
            return even(number)
        return 7.05 if held_back else None

    call = Call().run(20, arrival)
    before, after = call.delay_ms[4 * 50], call.delay_ms[17 * 50]
    assert abs(after - before) <= 40
    assert call.buffer.stats.accelerated_ms > (1500 if held_back else -1)
    assert min(call.alike()[-5:]) > 0.9


def test_what_a_stall_held_back_is_played_faster_not_thrown_away() -> None:
    call = Call().run(20, lambda number: max(even(number), 6.5 if 5.0 <= number * 0.02 < 6.5 else 0.0))
    stats = call.buffer.stats
    assert stats.dropped == stats.lost == 0 and stats.played == 1000


def test_stalls_that_come_again_and_again_are_covered_by_more_delay() -> None:
    call = Call().run(30, lambda number: max(even(number), int(number * 0.02) + 0.17))
    assert 110 < call.buffer.stats.target_ms_now < 160
    concealed = call.buffer.stats.concealed_ms
    later = Call().run(60, lambda number: max(even(number), int(number * 0.02) + 0.17))
    assert later.buffer.stats.concealed_ms - concealed < 300, "once the delay covers them, nothing is concealed"


@pytest.mark.parametrize("parts_per_million", [300, -300])
def test_a_clock_that_drifts_is_followed(parts_per_million: int) -> None:
    call = Call().run(60, lambda number: even(number) * (1 + parts_per_million / 1e6))
    assert call.delay_ms[-10] < 50 and np.mean(call.alike()) > 0.97


@pytest.mark.parametrize("packet_ms", [10, 40, 60])
def test_packets_of_other_lengths_play_alike(packet_ms: int) -> None:
    call = Call().run(14, lambda number: number * packet_ms / 1000 + 0.05, packet_ms=packet_ms)
    assert call.buffer.stats.lost == 0 and np.mean(call.alike()) > 0.98


def test_a_pause_of_the_sender_is_no_loss() -> None:
    """Discontinuous transmission: time goes on, the numbers do not."""
    buffer = JitterBuffer(lambda payload: np.frombuffer(payload, dtype=np.int16), RATE_HZ)
    sequence, frames = 0, 0
    for tick in range(500):
        now = tick * 0.02
        if tick % 100 < 40 or tick % 20 == 0:
            buffer.push(sequence, tick * 960, speech()[tick * FRAME : (tick + 1) * FRAME].tobytes(), now)
            sequence += 1
        frames += buffer.pull(now + 0.001) is not None
    assert buffer.stats.lost == 0 and buffer.stats.restarts == 0 and frames > 490


def test_a_stream_rests_when_nothing_comes_and_goes_on() -> None:
    call = Call().run(20, lambda number: even(number) if not 5 <= number * 0.02 < 15 else None)
    assert not any(call.rested[10 : 5 * 50]) and all(call.rested[7 * 50 : 15 * 50]) and not any(call.rested[16 * 50 :])
    assert call.buffer.stats.delay_ms_now < 40


def test_a_new_time_line_is_taken_up_but_one_odd_packet_is_not() -> None:
    buffer = JitterBuffer(lambda payload: np.frombuffer(payload, dtype=np.int16), RATE_HZ)
    frame, silent = speech()[:FRAME].tobytes(), 0
    for tick in range(200):
        if tick == 50:
            buffer.push(9_000, 2**31 + 7, frame, 1.0)
        jump = 0 if tick < 100 else 1_000_000_000
        buffer.push(tick, tick * 960 + jump, frame, tick * 0.02)
        silent += buffer.pull(tick * 0.02 + 0.001) is None
        if tick == 99:
            assert buffer.stats.restarts == 0 and buffer.stats.dropped == 1
    assert buffer.stats.restarts == 1 and buffer.stats.played > 190 and silent < 10


def test_another_stream_starts_afresh() -> None:
    buffer = JitterBuffer(lambda payload: np.frombuffer(payload, dtype=np.int16), RATE_HZ)
    frame = speech()[:FRAME].tobytes()
    for tick in range(100):
        if tick == 50:
            buffer.restart()
        base = 0 if tick < 50 else 40_000
        buffer.push(base + tick, 77 * base + tick * 960, frame, tick * 0.02)
        buffer.pull(tick * 0.02 + 0.001)
    assert buffer.stats.restarts == 1 and buffer.stats.lost == 0 and buffer.stats.played > 90


def test_what_waits_can_be_thrown_away() -> None:
    call = Call().run(6, lambda number: max(even(number), 5.9 if number > 200 else 0))
    waiting = call.buffer.stats.received - accounted(call.buffer)
    assert waiting > 10
    call.buffer.flush()
    assert call.buffer.stats.received == accounted(call.buffer)
    assert call.buffer.pull(6.4) is None


def test_what_cannot_be_decoded_is_dropped_and_concealed() -> None:
    def refuse(payload: bytes) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
        if payload.startswith(b"bad"):
            raise ValueError
        return np.frombuffer(payload, dtype=np.int16)

    buffer = JitterBuffer(refuse, RATE_HZ)
    for tick in range(100):
        good = speech()[tick * FRAME : (tick + 1) * FRAME].tobytes()
        buffer.push(tick, tick * 960, b"bad" if tick % 10 == 9 else good, tick * 0.02)
        buffer.push(tick + 500, tick * 960, b"", tick * 0.02)
        buffer.push(tick + 600, tick * 960, bytes(5_000), tick * 0.02)
        buffer.pull(tick * 0.02 + 0.001)
    assert 208 <= buffer.stats.dropped <= 210 and buffer.stats.concealed_ms > 150


def test_what_nobody_has_asked_for_is_not_played_after_a_long_rest() -> None:
    buffer = JitterBuffer(lambda payload: np.frombuffer(payload, dtype=np.int16), RATE_HZ)
    frame = speech()[:FRAME].tobytes()
    buffer.push(1, 8 * 48_000, frame, 10.0)
    buffer.push(0, 0, frame, 110.0)
    assert (buffer.waiting, buffer.stats.dropped) == (1, 1)
    for tick in range(100):
        buffer.pull(110.0 + tick * 0.02)
    assert buffer.stats.played == 1 and buffer.pull(112.0) is None


packets = st.tuples(
    st.integers(0, 0xFFFF) | st.integers(0, 40),
    st.integers(0, 0xFFFFFFFF) | st.integers(0, 40).map(lambda number: number * 960),
    st.sampled_from([b"", b"bad", bytes(2), bytes(960), bytes(2_880), bytes(6_000)]) | st.binary(max_size=64),
    st.sampled_from([0.0, 0.001, 0.02, 0.5, 3.0, 100.0]),
    st.integers(0, 6),
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    st.lists(packets, max_size=120),
    st.sampled_from([8_000, 16_000, 24_000, 48_000]),
    st.sampled_from(
        [JitterSettings(), JitterSettings(min_delay_ms=0, max_delay_ms=20, start_delay_ms=0, max_held_ms=0)]
    ),
)
def test_whatever_comes_frames_come_out_and_the_counters_add_up(
    coming: list[tuple[int, int, bytes, float, int]], rate_hz: int, chosen: JitterSettings
) -> None:
    def decode(payload: bytes) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
        if payload == b"bad" or len(payload) % 2:
            raise ValueError
        return np.frombuffer(payload, dtype=np.int16)

    buffer, now = JitterBuffer(decode, rate_hz, chosen), 10.0
    for sequence, timestamp, payload, step, pulls in coming:
        now += step
        buffer.push(sequence, timestamp, payload, now)
        for _ in range(pulls):
            frame = buffer.pull(now)
            assert frame is None or (frame.shape == (rate_hz // 50,) and frame.dtype == np.int16)
            now += 0.02
        assert buffer.waiting <= 256
        assert buffer.stats.received == accounted(buffer) + buffer.waiting
        assert 0 <= buffer.stats.target_ms_now <= 200
    for _ in range(400):
        buffer.pull(now)
        now += 0.02
    assert buffer.pull(now) is None and buffer.waiting == 0, "a stream without packets comes to rest"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.3), st.floats(0, 0.2), st.floats(0, 0.2))
def test_on_any_network_speech_flows_and_the_delay_is_bounded(
    seed: int, loss: float, jitter_s: float, twice: float
) -> None:
    chance = random.Random(seed)
    buffer = JitterBuffer(lambda payload: np.frombuffer(payload, dtype=np.int16), RATE_HZ)
    coming = []
    for number in range(250):
        if chance.random() >= loss:
            coming.append((number * 0.02 + chance.uniform(0, jitter_s), number))
        if chance.random() < twice:
            coming.append((number * 0.02 + chance.uniform(0, jitter_s), number))
    coming.sort()
    for tick in range(250):
        now = tick * 0.02
        while coming and coming[0][0] <= now:
            at, number = coming.pop(0)
            buffer.push(number, number * 960, speech()[number * FRAME : (number + 1) * FRAME].tobytes(), at)
        frame = buffer.pull(now)
        assert tick < 30 or frame is not None
        assert buffer.stats.delay_ms_now < 500
    assert buffer.stats.received == accounted(buffer) + buffer.waiting
