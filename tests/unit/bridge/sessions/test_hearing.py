"""Who hears what, and when: a slow socket loses nothing, and turns are marked for each session that needs it."""

from __future__ import annotations

import msgspec
import pytest

from bridge.sessions.feed import SessionFeed
from bridge.sessions.hearing import Hearing
from bridge.sessions.tape import Tape
from providers.contract import Capabilities, SessionStart, TurnDetector
from providers.outbox import AudioOutbox
from providers.signal.formats import PCM16_16K, PCM16_24K, AudioFormat
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
    return Hearing(Tape(30_000, PCM16_24K))


def test_twenty_seconds_said_before_the_model_came_pass_a_slow_socket_whole_and_in_order(hearing: Hearing) -> None:
    session = SlowSession()
    said = [frame(number) for number in range(1200)]
    for audio in said[:1000]:
        hearing.hear(audio)
    hearing.turn_to([feed_of(session)], leader=1)
    for audio in said[1000:]:
        hearing.catch_up()
        hearing.hear(audio)
        session.writes(16_384)
    assert bytes(session.heard) == b"".join(said)
    assert session.outbox.dropped_audio_ms == 0
    assert hearing.hear(frame(7)) == 1, "live again"


def test_a_recording_goes_before_the_live_frames_that_follow(hearing: Hearing) -> None:
    session = SlowSession()
    hearing.turn_to([feed_of(session)], leader=1)
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
    hearing.turn_to([feed_of(session)], leader=1)
    assert hearing.catch_up() == 10


def test_every_session_without_ears_of_its_own_is_told_the_turns(hearing: Hearing) -> None:
    leader, beside = session_of(), session_of(MANUAL, 2)
    hearing.turn_to([feed_of(leader), feed_of(beside)], leader=1)
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
    hearing.turn_to([feed_of(session)], leader=1)
    assert session.commands == ["start_activity"]
    hearing.turn_to([])
    assert session.commands == ["start_activity", "end_activity"]


def test_speech_that_ended_among_the_first_words_is_one_whole_turn(hearing: Hearing) -> None:
    session = session_of(MANUAL)
    hearing.mark(True)
    for number in range(100):
        hearing.hear(frame(number))
    hearing.mark(False)
    hearing.turn_to([feed_of(session)], leader=1)
    while hearing.catch_up():
        assert session.commands[:1] == ["start_activity"]
    assert session.commands == ["start_activity", "end_activity"]
    assert bytes(session.heard) == b"".join(frame(number) for number in range(100))


def test_input_is_ended_once_and_again_only_after_more_was_sent(hearing: Hearing) -> None:
    session = session_of()
    hearing.turn_to([feed_of(session)], leader=1)
    hearing.rest()
    assert session.commands == []
    for _ in range(2):
        hearing.hear(frame(1))
        hearing.rest()
        hearing.rest()
    assert session.commands == ["end_input", "end_input"]


def test_a_model_that_needs_no_silence_needs_no_end_of_it(hearing: Hearing) -> None:
    session = session_of(MANUAL)
    hearing.turn_to([feed_of(session)], leader=1)
    hearing.hear(frame(1))
    hearing.rest()
    assert session.commands == []


async def test_a_session_that_just_ended_harms_nobody(hearing: Hearing) -> None:
    session = session_of()
    hearing.turn_to([feed_of(session)], leader=1)
    hearing.hear(frame(1))
    await session.close()
    hearing.rest()
    assert session.commands == []


def numbers(session: HandSession) -> list[int]:
    """Of the frames that it heard, in order."""
    return [int.from_bytes(session.heard[place : place + 2], "little") for place in range(0, len(session.heard), 960)]


def says(hearing: Hearing, since: int, until: int) -> None:
    for number in range(since, until):
        hearing.hear(frame(number))


def test_a_new_leader_goes_on_where_the_last_one_was_left(hearing: Hearing) -> None:
    first, second = session_of(), session_of(number=2)
    hearing.turn_to([feed_of(first)], leader=1)
    says(hearing, 0, 10)
    hearing.turn_to([feed_of(second)], leader=2)
    says(hearing, 10, 20)
    assert (numbers(first), numbers(second)) == (list(range(10)), list(range(10, 20)))


def test_what_is_said_while_nobody_leads_waits_for_the_next_leader_alone(hearing: Hearing) -> None:
    first, beside, second = session_of(), session_of(number=2), session_of(number=3)
    feeds = [feed_of(first), feed_of(beside)]
    hearing.turn_to(feeds, leader=1)
    says(hearing, 0, 10)
    hearing.forget(1)
    says(hearing, 10, 20)
    assert numbers(beside) == list(range(20)), "whoever hears beside the leader hears on"
    hearing.turn_to([feed_of(second), feeds[1]], leader=3)
    hearing.catch_up()
    says(hearing, 20, 30)
    assert (numbers(second), numbers(beside)) == (list(range(10, 30)), list(range(30)))


def test_who_heard_beside_the_leader_hears_nothing_twice_when_it_takes_the_lead(hearing: Hearing) -> None:
    first, second = session_of(), session_of(number=2)
    feeds = [feed_of(first), feed_of(second)]
    hearing.turn_to(feeds[:1], leader=1)
    says(hearing, 0, 10)
    hearing.turn_to(feeds, leader=1)
    says(hearing, 10, 20)
    hearing.forget(1)
    says(hearing, 20, 30)
    hearing.turn_to(feeds[1:], leader=2)
    hearing.catch_up()
    says(hearing, 30, 40)
    assert numbers(second) == list(range(10, 40))


def test_a_session_opened_by_hand_while_nobody_leads_hears_what_waits(hearing: Hearing) -> None:
    session = session_of()
    feed = feed_of(session)
    says(hearing, 0, 10)
    hearing.turn_to([feed])
    hearing.catch_up()
    says(hearing, 10, 20)
    hearing.turn_to([feed], leader=1)
    hearing.catch_up()
    says(hearing, 20, 30)
    assert numbers(session) == list(range(30))


def test_a_leader_lost_while_it_was_catching_up_leaves_the_rest_to_the_next(hearing: Hearing) -> None:
    first, second = session_of(), session_of(number=2)
    says(hearing, 0, 100)
    hearing.turn_to([feed_of(first)], leader=1)
    assert hearing.catch_up() == 25
    first.outbox.waiting_audio_ms = 20
    assert hearing.catch_up() == 0
    hearing.forget(1)
    hearing.turn_to([feed_of(second)], leader=2)
    while hearing.catch_up():
        pass
    assert (numbers(first), numbers(second)) == (list(range(25)), list(range(25, 100)))


def test_after_a_rewind_the_next_leader_hears_again_what_was_not_answered(hearing: Hearing) -> None:
    first, second = session_of(), session_of(number=2)
    hearing.turn_to([feed_of(first)], leader=1)
    says(hearing, 0, 30)
    assert hearing.rewind(20) == 20
    says(hearing, 30, 32)
    hearing.turn_to([feed_of(second)], leader=2)
    hearing.catch_up()
    says(hearing, 32, 40)
    assert (numbers(first), numbers(second)) == (list(range(32)), list(range(20, 40)))
    assert hearing.tape.stats.replayed_frames == 12


def test_a_rewind_holds_for_one_change_and_never_skips_anything(hearing: Hearing) -> None:
    sessions = [session_of(number=number) for number in (1, 2, 3)]
    hearing.turn_to([feed_of(sessions[0])], leader=1)
    says(hearing, 0, 10)
    assert hearing.rewind(99) == 10
    for session in sessions[1:]:
        hearing.turn_to([feed_of(session)], leader=session.number)
        says(hearing, session.number * 10, session.number * 10 + 10)
    assert [numbers(session) for session in sessions[1:]] == [list(range(20, 30)), list(range(30, 40))]


def test_after_a_rewind_the_filter_starts_at_the_rewound_place(hearing: Hearing) -> None:
    narrow = msgspec.structs.replace(CAPABILITIES, input_formats=(PCM16_16K,))
    first, second, fresh = (session_of(narrow, number) for number in (1, 2, 3))
    hearing.turn_to([feed_of(first)], leader=1)
    says(hearing, 5000, 5020)
    hearing.forget(1)
    hearing.rewind(10)
    hearing.turn_to([feed_of(second)], leader=2)
    hearing.catch_up()
    feed = feed_of(fresh)
    for number in range(5010, 5020):
        feed.hear(frame(number))
    assert second.heard == fresh.heard


def test_without_a_rewind_the_filter_goes_on_as_if_nothing_had_happened(hearing: Hearing) -> None:
    narrow = msgspec.structs.replace(CAPABILITIES, input_formats=(PCM16_16K,))
    first, second, whole = (session_of(narrow, number) for number in (1, 2, 3))
    hearing.turn_to([feed_of(first)], leader=1)
    says(hearing, 5000, 5010)
    hearing.forget(1)
    says(hearing, 5010, 5015)
    hearing.turn_to([feed_of(second)], leader=2)
    hearing.catch_up()
    says(hearing, 5015, 5020)
    feed = feed_of(whole)
    for number in range(5000, 5020):
        feed.hear(frame(number))
    assert first.heard + second.heard == whole.heard


def test_an_open_turn_is_closed_on_the_old_session_and_goes_on_with_the_new_one(hearing: Hearing) -> None:
    first, second = session_of(MANUAL), session_of(MANUAL, 2)
    hearing.turn_to([feed_of(first)], leader=1)
    hearing.mark(True)
    says(hearing, 0, 10)
    hearing.turn_to([feed_of(second)], leader=2)
    says(hearing, 10, 20)
    hearing.mark(False)
    assert first.commands == second.commands == ["start_activity", "end_activity"]
    assert (numbers(first), numbers(second)) == (list(range(10)), list(range(10, 20)))


def test_an_onset_just_before_the_change_is_heard_by_the_new_session(hearing: Hearing) -> None:
    first, second = session_of(MANUAL), session_of(MANUAL, 2)
    hearing.turn_to([feed_of(first)], leader=1)
    says(hearing, 0, 20)
    hearing.turn_to([feed_of(second)], leader=2)
    says(hearing, 20, 22)
    hearing.mark(True)
    says(hearing, 22, 30)
    assert (numbers(first), numbers(second)) == ([], list(range(7, 30)))


def test_a_turn_that_is_heard_again_is_one_turn(hearing: Hearing) -> None:
    first, second = session_of(MANUAL), session_of(MANUAL, 2)
    hearing.turn_to([feed_of(first)], leader=1)
    hearing.mark(True)
    says(hearing, 0, 60)
    hearing.mark(False)
    hearing.forget(1)
    says(hearing, 60, 80)
    hearing.rewind(20)
    hearing.turn_to([feed_of(second)], leader=2)
    while hearing.catch_up():
        pass
    assert second.commands == ["start_activity", "end_activity"]
    assert numbers(second) == list(range(20, 80))


def test_what_a_complete_reply_answers_is_settled_and_what_came_after_it_is_not(hearing: Hearing) -> None:
    session = session_of()
    hearing.turn_to([feed_of(session)], leader=1)
    says(hearing, 5000, 5050)
    hearing.reply_started("r1")
    says(hearing, 5050, 5080)
    assert (hearing.reply_place("r1"), hearing.unsettled()) == (50, 0)
    hearing.turn_complete("r1")
    assert hearing.unsettled() == 50
    assert hearing.first_loud(hearing.unsettled()) == 35


def test_a_failed_reply_and_one_that_nobody_began_settle_nothing(hearing: Hearing) -> None:
    hearing.turn_to([feed_of(session_of())], leader=1)
    says(hearing, 5000, 5050)
    hearing.reply_started("r1")
    hearing.turn_complete("r1", "failed:server_error")
    hearing.turn_complete("r2")
    hearing.turn_complete(None)
    assert (hearing.unsettled(), hearing.reply_place("r2")) == (0, None)


def test_what_has_not_left_for_the_model_is_not_answered_by_its_reply(hearing: Hearing) -> None:
    session = session_of()
    hearing.turn_to([feed_of(session)], leader=1)
    says(hearing, 5000, 5050)
    session.outbox.waiting_audio_ms = 90
    hearing.reply_started("r1")
    assert hearing.reply_place("r1") == 45


def test_the_places_of_replies_do_not_add_up_for_ever(hearing: Hearing) -> None:
    hearing.turn_to([feed_of(session_of())], leader=1)
    for number in range(100):
        hearing.reply_started(f"r{number}")
    assert hearing.reply_place("r99") == 0
    assert hearing.reply_place("r0") is None


def test_a_quiet_call_keeps_a_second_and_a_half_of_it(hearing: Hearing) -> None:
    hearing.turn_to([feed_of(session_of())], leader=1)
    for _ in range(3000):
        hearing.hear(frame(1))
        hearing.catch_up()
    assert len(hearing.tape) <= 90


def test_a_recording_reaches_those_who_hear_beside_the_leader_too_each_at_its_own_pace(hearing: Hearing) -> None:
    leader, beside = session_of(), session_of(number=2)
    hearing.turn_to([feed_of(leader), feed_of(beside)], leader=1)
    for number in range(60):
        hearing.hear_later(frame(number))
    beside.outbox.waiting_audio_ms = 20
    while hearing.catch_up():
        pass
    says(hearing, 60, 70)
    assert (numbers(leader), numbers(beside)) == (list(range(70)), [])
    beside.outbox.waiting_audio_ms = 0
    for _ in range(5):
        hearing.catch_up()
    assert numbers(beside) == list(range(70))


def test_the_frame_over_which_a_session_ends_is_heard_by_the_next(
    hearing: Hearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = session_of(), session_of(number=2)
    hearing.turn_to([feed_of(first)], leader=1)
    says(hearing, 0, 5)
    monkeypatch.setattr(first, "send_audio", lambda audio, format: hearing.forget(1))
    assert hearing.hear(frame(5)) == 0
    hearing.turn_to([feed_of(second)], leader=2)
    hearing.catch_up()
    assert (numbers(first), numbers(second)) == (list(range(5)), [5])


def test_what_a_rewind_brought_back_waits_like_any_other_first_words(hearing: Hearing) -> None:
    first, second = session_of(), session_of(number=2)
    hearing.turn_to([feed_of(first)], leader=1)
    says(hearing, 5000, 5100)
    hearing.forget(1)
    hearing.rewind(80)
    says(hearing, 5100, 6600)
    hearing.turn_to([feed_of(second)], leader=2)
    while hearing.catch_up():
        pass
    assert numbers(second) == list(range(5100, 6600))
    assert hearing.tape.stats.first_words_dropped_frames == 20


def test_a_leader_that_becomes_a_listener_in_the_midst_of_first_words_hears_on_from_there(hearing: Hearing) -> None:
    first, second = session_of(), session_of(number=2)
    feeds = [feed_of(first), feed_of(second)]
    says(hearing, 0, 60)
    hearing.turn_to(feeds[:1], leader=1)
    hearing.catch_up()
    hearing.turn_to(feeds, leader=2)
    while hearing.catch_up():
        pass
    says(hearing, 60, 70)
    assert (numbers(first), numbers(second)) == (list(range(70)), list(range(25, 70)))
