from __future__ import annotations

from bridge.core.words import EarlyAudio, ParticipantId, RoomEvent
from bridge.transports.livekit_room.held import HeldSpeech

ANN, BOB = ParticipantId("ann"), ParticipantId("bob")


class Bench:
    def __init__(self) -> None:
        self.came: list[RoomEvent | tuple[ParticipantId, bytes, float]] = []
        self.held = HeldSpeech(lambda *frame: self.came.append(frame), self.came.append, rate_hz=8000)


def test_without_a_recording_frames_pass_at_once() -> None:
    bench = Bench()
    bench.held.hear(ANN, b"live", 1.0)
    assert bench.came == [(ANN, b"live", 1.0)]


def test_live_speech_comes_behind_the_recording() -> None:
    bench = Bench()
    bench.held.begin(ANN)
    bench.held.hear(ANN, b"three", 1.0)
    bench.held.hear(ANN, b"four", 1.02)
    assert bench.came == []
    bench.held.end(ANN, b"onetwo")
    bench.held.hear(ANN, b"five", 1.04)
    assert bench.came == [EarlyAudio(ANN, b"onetwothreefour"), (ANN, b"five", 1.04)]


def test_only_the_speaker_of_the_recording_waits() -> None:
    bench = Bench()
    bench.held.begin(ANN)
    bench.held.hear(BOB, b"bob", 1.0)
    assert bench.came == [(BOB, b"bob", 1.0)]


def test_a_recording_that_fails_takes_no_live_speech_with_it() -> None:
    bench = Bench()
    bench.held.begin(ANN)
    bench.held.hear(ANN, b"live", 1.0)
    bench.held.end(ANN)
    assert bench.came == [EarlyAudio(ANN, b"live")]


def test_a_slow_recording_holds_nobody_up_for_long_and_is_counted() -> None:
    bench = Bench()
    bench.held.begin(ANN)
    frame = bytes(320)
    for number in range(150):
        assert bench.came == []
        bench.held.hear(ANN, frame, number * 0.02)
    assert bench.came == [EarlyAudio(ANN, bytes(48_000))]
    bench.held.hear(ANN, b"live", 3.0)
    bench.held.end(ANN, b"late")
    assert bench.came[1:] == [(ANN, b"live", 3.0), EarlyAudio(ANN, b"late")]
    assert bench.held.late == 1


def test_after_it_was_let_go_nothing_comes() -> None:
    bench = Bench()
    bench.held.begin(ANN)
    bench.held.hear(ANN, b"held", 1.0)
    bench.held.forget()
    bench.held.end(ANN, b"late")
    bench.held.hear(ANN, b"live", 1.0)
    assert bench.came == []
