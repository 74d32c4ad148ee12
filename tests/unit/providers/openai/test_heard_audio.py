"""The speech fence: every loud frame belongs to one reply or to none, and no reply ends before its speech."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.contract import (
    GenerationComplete,
    Interrupted,
    OutputTranscript,
    SessionEvent,
    SpeechChunk,
    TurnComplete,
)
from providers.openai.heard_audio import HeardAudio

QUIET = bytes(960)


def voice(number: int) -> bytes:
    """A loud frame that no other is like."""
    return np.full(480, 1000 + number, dtype="<i2").tobytes()


class Track:
    """A track and its fence, one frame each 20 ms."""

    def __init__(self) -> None:
        self.fence = HeardAudio(7)
        self.now = 50.0
        self.events: list[SessionEvent] = []

    def plays(self, *frames: bytes) -> list[SessionEvent]:
        came: list[SessionEvent] = []
        for frame in frames:
            self.now += 0.02
            came += self.due()
            came += self.fence.frame(frame, self.now)
        self.events += came
        return came

    def due(self) -> list[SessionEvent]:
        deadline = self.fence.deadline()
        return self.fence.expire(self.now) if deadline is not None and deadline <= self.now else []

    def passes(self, seconds: float) -> list[SessionEvent]:
        """Time without any frame."""
        self.now += seconds
        came = self.due()
        self.events += came
        return came

    def does(self, events: list[SessionEvent]) -> list[SessionEvent]:
        self.events += events
        return events

    def says(self, reply: str) -> None:
        self.does(self.fence.told([OutputTranscript(7, reply, "word ")], self.now))

    def done(self, reply: str) -> list[SessionEvent]:
        return self.does(self.fence.told([GenerationComplete(7, reply), TurnComplete(7, reply)], self.now))

    def speech(self, reply: str) -> bytes:
        return b"".join(e.audio for e in self.events if isinstance(e, SpeechChunk) and e.reply_id == reply)

    def kinds(self) -> list[tuple[Any, ...]]:
        """What was told, speech left out."""
        return [
            (type(event), event.reply_id, *([event.reason] if isinstance(event, TurnComplete) else []))
            for event in self.events
            if isinstance(event, GenerationComplete | TurnComplete | Interrupted)
        ]


def spoken(track: Track, reply: str, *numbers: int) -> None:
    """A reply is announced, and so much of it is heard."""
    track.says(reply)
    track.does(track.fence.started(reply, track.now))
    track.plays(QUIET, QUIET, *(voice(number) for number in numbers))


def whole(reply: str) -> list[tuple[Any, ...]]:
    return [(GenerationComplete, reply), (TurnComplete, reply, "completed")]


def cut(reply: str) -> list[tuple[Any, ...]]:
    return [(Interrupted, reply), (TurnComplete, reply, "interrupted")]


def test_speech_between_started_and_stopped_is_the_replys_and_its_end_waits_for_it() -> None:
    track = Track()
    track.plays(*[QUIET] * 20)
    spoken(track, "a", 1, 2, 3)
    assert track.done("a") == [], "generated, and not yet heard"
    track.plays(voice(4), voice(5))
    track.does(track.fence.stopped("a", track.now))
    track.plays(voice(6), voice(7))
    assert track.kinds() == []
    track.plays(*[QUIET] * 8)
    assert track.kinds() == whole("a")
    assert track.speech("a") == QUIET * 2 + b"".join(voice(n) for n in range(1, 8))
    assert track.fence.unfinished == ()


def test_a_pause_inside_a_reply_is_part_of_it() -> None:
    track = Track()
    spoken(track, "a", 1)
    track.plays(*[QUIET] * 40, voice(2))
    assert track.speech("a") == QUIET * 2 + voice(1) + QUIET * 40 + voice(2)


def test_a_short_pause_after_stopped_does_not_cut_the_last_word() -> None:
    track = Track()
    spoken(track, "a", 1)
    track.does(track.fence.stopped("a", track.now))
    track.plays(*[QUIET] * 6, voice(2))
    assert track.speech("a").endswith(voice(1) + QUIET * 6 + voice(2))


def test_speech_a_little_ahead_of_started_belongs_to_it() -> None:
    track = Track()
    track.says("a")
    track.plays(*[QUIET] * 20, voice(1), voice(2), voice(3))
    track.does(track.fence.started("a", track.now))
    track.plays(voice(4))
    assert track.speech("a") == QUIET * 2 + b"".join(voice(n) for n in range(1, 5))


def test_quiet_ahead_of_started_belongs_to_nobody() -> None:
    track = Track()
    track.plays(*[QUIET] * 20)
    track.does(track.fence.started("a", track.now))
    assert track.plays(*[QUIET] * 20) == []


@pytest.mark.parametrize("ended", [False, True], ids=["being generated", "generated"])
def test_an_interruption_ends_the_reply_at_once_and_drops_what_is_on_its_way(ended: bool) -> None:
    track = Track()
    spoken(track, "a", 1, 2)
    if ended:
        track.done("a")
    heard = track.speech("a")
    track.does(track.fence.told([Interrupted(7, "a")], track.now))
    track.plays(voice(3), voice(4), voice(5))
    track.does(track.fence.cleared("a", track.now))
    track.plays(voice(6))
    if not ended:
        track.does(track.fence.told([TurnComplete(7, "a", "interrupted")], track.now))
    assert track.kinds() == cut("a")
    assert track.speech("a") == heard
    assert track.fence.stats.dropped_frames == 4


def test_late_frames_of_a_dead_reply_are_not_the_next_ones() -> None:
    track = Track()
    spoken(track, "a", 1)
    track.does(track.fence.told([Interrupted(7, "a")], track.now))
    track.says("b")
    track.plays(voice(2))
    track.does(track.fence.started("b", track.now))
    track.plays(voice(3), QUIET, QUIET, voice(4))
    assert track.speech("b").endswith(voice(4)) and voice(3) not in track.speech("b")


def test_our_own_order_to_stop_drops_at_once_and_is_told_when_the_server_confirms() -> None:
    track = Track()
    spoken(track, "a", 1)
    track.done("a")
    heard = track.speech("a")
    assert track.fence.silence(track.now)
    track.plays(voice(2), voice(3))
    assert track.kinds() == []
    track.does(track.fence.cleared("a", track.now))
    assert track.kinds() == cut("a")
    assert track.speech("a") == heard
    assert not track.fence.silence(track.now)


def test_an_order_to_stop_that_nobody_confirms_is_carried_out_all_the_same() -> None:
    track = Track()
    spoken(track, "a", 1)
    track.done("a")
    track.fence.silence(track.now)
    track.passes(1.1)
    assert track.kinds() == cut("a")


def test_a_reply_that_was_cut_before_it_sounded_never_does() -> None:
    track = Track()
    track.does(track.fence.told([Interrupted(7, "a")], track.now))
    track.does(track.fence.started("a", track.now))
    track.plays(*[voice(n) for n in range(30)])
    assert track.speech("a") == b""


def test_a_reply_completed_by_the_server_just_as_we_cut_it_is_told_as_interrupted() -> None:
    track = Track()
    spoken(track, "a", 1)
    track.fence.silence(track.now)
    track.does(track.fence.cleared("a", track.now))
    track.done("a")
    assert track.kinds() == cut("a")


def test_a_reply_without_speech_ends_at_once() -> None:
    track = Track()
    track.done("a")
    assert track.kinds() == whole("a")


def test_announced_speech_that_never_comes_holds_nobody_up_for_long() -> None:
    track = Track()
    track.says("a")
    track.done("a")
    assert track.passes(1.9) == []
    track.passes(0.2)
    assert track.kinds() == whole("a")


def test_a_lost_stopped_holds_nobody_up_for_long() -> None:
    track = Track()
    spoken(track, "a", 1)
    track.done("a")
    track.plays(*[QUIET] * 240)
    assert track.kinds() == []
    track.plays(*[QUIET] * 20)
    assert track.kinds() == whole("a")


def test_a_stopped_after_which_no_frame_comes_ends_the_reply_too() -> None:
    track = Track()
    spoken(track, "a", 1)
    track.done("a")
    track.does(track.fence.stopped("a", track.now))
    track.passes(0.5)
    assert track.kinds() == whole("a")


def test_a_server_that_never_says_started_is_understood() -> None:
    track = Track()
    track.says("a")
    track.plays(*(voice(n) for n in range(30)))
    track.done("a")
    track.plays(*[QUIET] * 60)
    assert track.speech("a").startswith(b"".join(voice(n) for n in range(30)))
    assert track.kinds() == whole("a")
    assert track.fence.stats.untold_starts == 1


def test_words_that_come_after_the_end_of_a_reply_make_nobody_wait() -> None:
    track = Track()
    track.done("a")
    track.says("a")
    assert track.fence.unfinished == () and not track.fence.silence(track.now)


def test_speech_that_starts_after_the_end_was_told_ends_by_itself_if_its_stop_gets_lost() -> None:
    track = Track()
    track.done("a")
    track.does(track.fence.started("a", track.now))
    track.plays(*(voice(n) for n in range(10)))
    track.plays(*[QUIET] * 20)
    assert track.fence.speaking and track.speech("a")
    track.passes(6.0)
    assert track.fence.unfinished == () and not track.fence.speaking


def test_the_next_replys_start_ends_the_one_before() -> None:
    track = Track()
    spoken(track, "a", 1)
    track.done("a")
    track.says("b")
    track.does(track.fence.started("b", track.now))
    track.plays(voice(2))
    assert track.kinds() == whole("a")
    assert track.speech("b").endswith(voice(2))


def test_speech_of_nobody_is_counted_until_a_message_comes() -> None:
    track = Track()
    track.plays(*(voice(n) for n in range(50)))
    assert track.fence.unclaimed_ms == 1000
    track.fence.message_came()
    assert track.fence.unclaimed_ms == 0
    assert track.events == []


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("loud"), st.integers(1, 12)),
        st.tuples(st.just("quiet"), st.integers(1, 30)),
        st.tuples(
            st.sampled_from(("says", "started", "stopped", "cleared", "interrupted", "done", "cancelled")),
            st.sampled_from("abcd"),
        ),
        st.tuples(st.sampled_from(("silence", "wait")), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(ACTIONS)
def test_whatever_comes_no_frame_is_told_twice_and_every_end_is_the_last_word(actions: list[tuple[str, Any]]) -> None:
    track = Track()
    number = 0
    done: set[str] = set()
    for action, what in actions:
        match action:
            case "loud":
                track.plays(*(voice(number + n) for n in range(what)))
                number += what
            case "quiet":
                track.plays(*[QUIET] * what)
            case "says":
                track.says(what)
            case "started" | "stopped" | "cleared":
                track.does(getattr(track.fence, action)(what, track.now))
            case "interrupted":
                track.does(track.fence.told([Interrupted(7, what)], track.now))
            case "done" if what not in done:
                done.add(what)
                track.done(what)
            case "cancelled" if what not in done:
                done.add(what)
                track.does(track.fence.told([Interrupted(7, what), TurnComplete(7, what, "interrupted")], track.now))
            case "silence":
                track.fence.silence(track.now)
            case "wait":
                track.passes(0.5)
    for _ in range(4):
        track.plays(*[QUIET] * 10)
        track.passes(5.5)
    loud = [
        sample
        for event in track.events
        if isinstance(event, SpeechChunk)
        for sample in np.frombuffer(event.audio, "<i2")[::480].tolist()
        if sample
    ]
    assert all(earlier < later for earlier, later in pairwise(loud)), "in order, each once"
    for reply in done:
        ends = [e for e in track.events if isinstance(e, TurnComplete) and e.reply_id == reply]
        assert len(ends) == 1, "told once, whatever became of it"
        place = track.events.index(ends[0])
        if ends[0].reason == "interrupted":
            later = [e for e in track.events[place:] if isinstance(e, SpeechChunk) and e.reply_id == reply]
            assert not later, "nothing more of a dead reply"
            assert not any(isinstance(e, GenerationComplete) and e.reply_id == reply for e in track.events)
    assert not set(track.fence.unfinished) & done, "what was told to its end is waited for no longer"
