"""Frames of exactly 20 ms on a schedule, for transports that do not pace themselves."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.audio.pace import PacedSink
from bridge.audio.playout import Playout
from providers.signal.formats import PCMU_8K


class Wire:
    """Takes frames and says at once that they are gone."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.flushes = 0

    def play(self, audio: bytes) -> None:
        self.frames.append(audio)

    def flush(self) -> None:
        self.flushes += 1

    def queued_ms(self, now: float) -> float:
        return 0.0


def test_one_frame_leaves_each_20_ms() -> None:
    wire = Wire()
    paced = PacedSink(wire)
    paced.play(bytes(960 * 10))
    sent = [paced.tick(10.0 + n * 0.01) for n in range(10)]
    assert sent == [1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert {len(frame) for frame in wire.frames} == {960}
    assert paced.queued_ms(10.1) == 100.0


def test_the_queue_is_bounded_and_what_it_refuses_is_counted() -> None:
    wire = Wire()
    paced = PacedSink(wire, limit_ms=100)
    paced.play(b"\1" * 960 * 4)
    paced.play(b"\2" * 960 * 4)
    assert (paced.queued_ms(0.0), paced.stats.refused_ms) == (100.0, 60.0)
    for n in range(5):
        paced.tick(n * 0.02)
    assert b"".join(wire.frames) == b"\1" * 960 * 4 + b"\2" * 960
    paced.play(b"\3" * 960)
    assert paced.stats.refused_ms == 60.0


def test_a_late_wake_up_catches_up() -> None:
    wire = Wire()
    paced = PacedSink(wire)
    paced.play(bytes(960 * 10))
    assert paced.tick(1.0) == 1
    assert paced.tick(1.1) == 5
    assert paced.stats.late_frames == 4


def test_after_a_long_stall_the_schedule_restarts() -> None:
    wire = Wire()
    paced = PacedSink(wire)
    paced.play(bytes(960 * 500))
    paced.tick(1.0)
    assert paced.tick(4.0) == 1
    assert paced.tick(4.02) == 1
    assert paced.stats.restarts == 1


def test_the_deadline_is_the_next_frame() -> None:
    paced = PacedSink(Wire())
    assert paced.deadline() is None
    paced.play(bytes(960 * 2))
    paced.tick(1.0)
    assert paced.deadline() == 1.02


def test_flush_drops_what_waits_here_and_below() -> None:
    wire = Wire()
    paced = PacedSink(wire)
    paced.play(bytes(960 * 5))
    paced.tick(0.0)
    paced.flush()
    assert paced.tick(0.1) == 0
    assert wire.flushes == 1


def test_the_last_frame_is_filled_up_with_the_silence_of_its_encoding() -> None:
    wire = Wire()
    paced = PacedSink(wire, PCMU_8K)
    paced.play(b"\x01" * 100)
    paced.tick(0.0)
    assert wire.frames == [b"\x01" * 100 + b"\xff" * 60]


def test_a_continuous_stream_is_silent_between_replies() -> None:
    wire = Wire()
    paced = PacedSink(wire, continuous=True)
    for n in range(50):
        paced.tick(n * 0.02)
    assert len(wire.frames) == 50
    assert paced.stats.silent_frames == 50


def test_a_pause_between_replies_owes_nothing() -> None:
    wire = Wire()
    paced = PacedSink(wire)
    paced.play(bytes(960))
    paced.tick(0.0)
    paced.tick(0.02)
    paced.play(bytes(960 * 10))
    assert paced.tick(5.0) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 45), min_size=40, max_size=40), st.integers(100, 30_000))
def test_a_playout_above_loses_nothing_to_the_schedule(steps_ms: list[int], samples: int) -> None:
    wire = Wire()
    paced = PacedSink(wire)
    playout = Playout(paced)
    said = np.random.default_rng(samples).integers(-9000, 9000, samples, dtype=np.int16).tobytes()
    now = 0.0
    playout.push("a", said, now)
    playout.finish("a", now)
    playout.feed(now)
    for step_ms in steps_ms * 3:
        now += step_ms / 1000
        paced.tick(now)
        playout.feed(now)
    heard = b"".join(wire.frames)
    assert said.startswith(heard[: len(said)])
    assert len(heard) <= now * 48_000 + 960
