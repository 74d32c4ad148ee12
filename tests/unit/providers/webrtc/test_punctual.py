from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from providers.contract import OutboxStats
from providers.webrtc.punctual import Punctual

RATE_HZ = 24_000
QUIET = bytes(960)


def vowel(pieces: int) -> list[bytes]:
    """A voice of 200 Hz without a pause, in pieces of 20 ms."""
    at = np.arange(pieces * 480) / RATE_HZ
    wave = sum(4000 / n * np.sin(2 * np.pi * 200 * n * at) for n in (1, 2, 3))
    pcm = np.asarray(wave).astype("<i2").tobytes()
    return [pcm[first : first + 960] for first in range(0, len(pcm), 960)]


class Line:
    """A sender that takes 20 ms each 20 ms, and a queue in front of it that may stand."""

    def __init__(self, standing_ms: float) -> None:
        self.stats = OutboxStats()
        self.punctual = Punctual(self.stats)
        self.queued_ms = standing_ms
        self.sent = b""
        self.now = 0.0

    def say(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            out = self.punctual.hand_on(piece, self.queued_ms, self.now)
            self.sent += out
            self.queued_ms = max(0.0, self.queued_ms + len(out) / 48 - 20)
            self.now += 0.02


def test_a_sender_that_is_on_time_gets_what_was_said() -> None:
    line, said = Line(0.0), vowel(500)
    line.say(said)
    assert line.sent == b"".join(said)


def test_a_queue_that_comes_and_goes_is_left_alone() -> None:
    line, said = Line(0.0), vowel(500)
    for place, piece in enumerate(said):
        line.queued_ms = 40.0 if place % 50 else 0.0
        line.say([piece])
    assert line.sent == b"".join(said)


def test_a_queue_that_stands_is_spoken_away_without_a_pause() -> None:
    line = Line(40.0)
    line.say(vowel(500))
    assert line.queued_ms < 15
    assert 25 < line.stats.shortened_ms <= 40
    step = np.abs(np.diff(np.frombuffer(line.sent, "<i2").astype(np.int32)))
    before = np.abs(np.diff(np.frombuffer(b"".join(vowel(500)), "<i2").astype(np.int32)))
    assert step.max() <= before.max() * 1.2, "joined without a click"


def test_speech_is_never_more_than_a_seventh_faster() -> None:
    line = Line(1000.0)
    said = vowel(150)
    line.say(said)
    assert 0 < line.stats.shortened_ms <= 1000 * 8 / 60 + 8


def test_a_pause_takes_the_standing_queue_away_at_once() -> None:
    line = Line(40.0)
    line.say(vowel(110))  # a window to know it
    spoken_ms = line.stats.shortened_ms
    line.say([QUIET] * 5)
    assert line.queued_ms < 20
    assert line.stats.skipped_silence_ms <= 40 - spoken_ms


@given(
    st.lists(st.tuples(st.integers(0, 1200), st.floats(0, 300), st.floats(0, 3), st.booleans()), max_size=40),
)
def test_whatever_comes_it_adds_nothing_and_counts_all_that_it_takes(
    steps: list[tuple[int, float, float, bool]],
) -> None:
    stats = OutboxStats()
    punctual = Punctual(stats)
    now, came, went = 0.0, 0, 0
    for size, ahead_ms, wait_s, loud in steps:
        pcm = (b"\x10\x20" if loud else b"\0\0") * size
        out = punctual.hand_on(pcm, ahead_ms, now)
        came, went, now = came + len(pcm), went + len(out), now + wait_s
    taken_ms = stats.shortened_ms + stats.skipped_silence_ms
    assert 0 <= came - went and abs((came - went) / 48 - taken_ms) < 0.01
