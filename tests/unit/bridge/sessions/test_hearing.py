"""Who hears what, and when: a slow socket loses nothing, and turns are marked for each session that needs it."""

from __future__ import annotations

import msgspec
import pytest

from bridge.sessions.feed import FirstWords, SessionFeed
from bridge.sessions.hearing import Hearing
from providers.contract import Capabilities, SessionStart, TurnDetector
from providers.outbox import AudioOutbox
from providers.signal.formats import PCM16_24K, AudioFormat
from tests.fakes.hand_model import CAPABILITIES, HandSession

MANUAL = msgspec.structs.replace(CAPABILITIES, turn_detector=TurnDetector.CLIENT, needs_continuous_input=False)


class SlowSession(HandSession):
    """Its socket takes 16 KiB at once, and as much again with each `writes`; the rest waits in a real outbox."""

    def __init__(self) -> None:
        super().__init__(SessionStart(), CAPABILITIES)
        self.waiting = AudioOutbox(1000, self.outbox)
        self.room = 16_384

    def send_audio(self, audio: bytes, format: AudioFormat) -> None:
        self.waiting.push_audio(audio, format.duration_ms(len(audio)))
        self.writes(0)

    def writes(self, more: int) -> None:
        self.room = min(16_384, self.room + more)
        while self.waiting and self.room > 0:
            message = self.waiting.pop()
            self.heard += message
            self.room -= len(message)


def frame(number: int) -> bytes:
    return number.to_bytes(2, "little") * 480


def feed_of(session: HandSession) -> SessionFeed:
    return SessionFeed(session, bus=PCM16_24K, room=PCM16_24K)


def session_of(capabilities: Capabilities = CAPABILITIES, number: int = 1) -> HandSession:
    return HandSession(SessionStart(number=number), capabilities)


@pytest.fixture
def hearing() -> Hearing:
    return Hearing(FirstWords(30_000, 20), frame_ms=20)


def test_twenty_seconds_said_before_the_model_came_pass_a_slow_socket_whole_and_in_order(hearing: Hearing) -> None:
    session = SlowSession()
    said = [frame(number) for number in range(1200)]
    for audio in said[:1000]:
        hearing.hear(audio)
    hearing.turn_to([feed_of(session)])
    for audio in said[1000:]:
        hearing.catch_up()
        hearing.hear(audio)
        session.writes(16_384)
    assert bytes(session.heard) == b"".join(said)
    assert session.outbox.dropped_audio_ms == 0
    assert hearing.hear(frame(7)) == 1, "live again"


def test_a_recording_goes_before_the_live_frames_that_follow(hearing: Hearing) -> None:
    session = SlowSession()
    hearing.turn_to([feed_of(session)])
    for number in range(1500):
        hearing.hear_later(frame(number))
    hearing.catch_up()
    assert hearing.hear(frame(1500)) == 0
    for _ in range(200):
        hearing.catch_up()
        session.writes(16_384)
    assert bytes(session.heard) == b"".join(frame(number) for number in range(1501))
    assert session.outbox.dropped_audio_ms == 0


def test_a_short_beginning_arrives_at_once(hearing: Hearing) -> None:
    session = session_of()
    for number in range(10):
        hearing.hear(frame(number))
    hearing.turn_to([feed_of(session)])
    assert hearing.catch_up() == 10


def test_every_session_without_ears_of_its_own_is_told_the_turns(hearing: Hearing) -> None:
    leader, beside = session_of(), session_of(MANUAL, 2)
    hearing.turn_to([feed_of(leader), feed_of(beside)])
    hearing.hear(frame(1))
    assert beside.heard == b""
    hearing.mark(True)
    hearing.hear(frame(2))
    hearing.mark(False)
    hearing.hear(frame(3))
    assert beside.commands == ["start_activity", "end_activity"]
    assert bytes(beside.heard) == frame(1) + frame(2)
    assert bytes(leader.heard) == frame(1) + frame(2) + frame(3)


def test_who_begins_to_hear_in_mid_speech_is_told_of_it_and_who_stops_hearing_too(hearing: Hearing) -> None:
    session = session_of(MANUAL)
    hearing.mark(True)
    hearing.turn_to([feed_of(session)])
    assert session.commands == ["start_activity"]
    hearing.turn_to([])
    assert session.commands == ["start_activity", "end_activity"]


def test_speech_that_ended_among_the_first_words_is_one_whole_turn(hearing: Hearing) -> None:
    session = session_of(MANUAL)
    hearing.mark(True)
    for number in range(100):
        hearing.hear(frame(number))
    hearing.mark(False)
    hearing.turn_to([feed_of(session)])
    while hearing.catch_up():
        assert session.commands[:1] == ["start_activity"]
    assert session.commands == ["start_activity", "end_activity"]
    assert bytes(session.heard) == b"".join(frame(number) for number in range(100))


def test_input_is_ended_once_and_again_only_after_more_was_sent(hearing: Hearing) -> None:
    session = session_of()
    hearing.turn_to([feed_of(session)])
    hearing.rest()
    assert session.commands == []
    for _ in range(2):
        hearing.hear(frame(1))
        hearing.rest()
        hearing.rest()
    assert session.commands == ["end_input", "end_input"]


def test_a_model_that_needs_no_silence_needs_no_end_of_it(hearing: Hearing) -> None:
    session = session_of(MANUAL)
    hearing.turn_to([feed_of(session)])
    hearing.hear(frame(1))
    hearing.rest()
    assert session.commands == []


async def test_a_session_that_just_ended_harms_nobody(hearing: Hearing) -> None:
    session = session_of()
    hearing.turn_to([feed_of(session)])
    hearing.hear(frame(1))
    await session.close()
    hearing.rest()
    assert session.commands == []
