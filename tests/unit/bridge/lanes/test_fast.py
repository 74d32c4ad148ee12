"""The fast lane alone: time is set by hand, nothing waits, nothing is left for the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pytest

from bridge.audio.mix import Mixer
from bridge.audio.playout import Playout
from bridge.conversation.answers import AnswerSettings
from bridge.conversation.barge_in import BargeInPolicy, BargeInSettings
from bridge.conversation.conversation import Conversation, ConversationSettings
from bridge.core.commands import Command, Respond, SendText
from bridge.core.words import (
    AudioMuted,
    AudioUnmuted,
    EarlyAudio,
    EndReason,
    ParticipantId,
    RoomReconnected,
    RoomReconnecting,
    ToolActivity,
    ToolAnswered,
    ToolState,
    TurnTimeline,
)
from bridge.lanes.fast import FastLane
from bridge.lanes.fast_ports import Told
from bridge.sessions.feed import SessionFeed
from bridge.sessions.tape import Tape
from bridge.transports.loopback import LoopbackRoom
from providers.contract import (
    Capabilities,
    Closed,
    ErrorReported,
    GenerationComplete,
    GoAway,
    InputTranscript,
    ReplyStarted,
    ResumptionUpdate,
    SessionStart,
    SpeechChunk,
    Thought,
    ToolCall,
    TurnComplete,
    TurnDetector,
    UserSpeechStopped,
    WarningReported,
)
from providers.errors import NeedsNewSession, ProviderUnavailable
from providers.signal.formats import PCM16_24K
from providers.signal.vad import EnergyVad, VadSettings
from tests.fakes.hand_model import CAPABILITIES, HandSession

FRAME_BYTES = 960


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


class Control:
    """Writes down what the fast lane asks for."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.settled: list[int] = []
        self.told: list[Told] = []
        self.woken = 0

    def run_tool(self, call: ToolCall) -> None:
        self.asked.append(call)

    def cancel_tools(self, session: int, call_ids: Sequence[str]) -> None:
        self.asked.append(("cancel", session, call_ids))

    def results_settled(self, session: int) -> None:
        self.settled.append(session)

    def end_call(self, reason: EndReason, detail: str) -> None:
        self.asked.append(reason)

    def session_closed(self, closed: Closed) -> None:
        self.asked.append(closed)

    def session_told(self, event: Told) -> None:
        self.told.append(event)

    def reported(self, report: ErrorReported | WarningReported) -> None:
        self.asked.append(report)

    def wake(self) -> None:
        self.woken += 1

    def published(self, command: Command) -> None: ...


class Call:
    """A fast lane with a room, and as many sessions as a test wants."""

    def __init__(
        self,
        *,
        vad: bool = False,
        local_barge_in: bool = False,
        first_words_ms: int = 1000,
        away_min_speech_ms: int = 60,
        stalled_after_s: float = 8.0,
        vad_settings: VadSettings | None = None,
    ) -> None:
        self.clock = Clock()
        self.control = Control()
        self.room = LoopbackRoom(clock=self.clock)
        self.playout = Playout(self.room)
        mixer = Mixer()
        settings = ConversationSettings(
            barge_in=BargeInSettings(local=local_barge_in, greeting_guard_ms=0, away_min_speech_ms=away_min_speech_ms),
            answers=AnswerSettings(stalled_after_s=stalled_after_s),
        )
        self.lane = FastLane(
            room=self.room,
            mixer=mixer,
            playout=self.playout,
            conversation=Conversation(settings, CAPABILITIES, self.playout, mixer.loudest),
            tape=Tape(first_words_ms, PCM16_24K),
            make_vad=lambda: EnergyVad(24_000, vad_settings),
            listens_itself=vad,
            frame_bytes=FRAME_BYTES,
            control=self.control,
            clock=self.clock,
        )

    async def start(self) -> Call:
        await self.room.open(self.lane)
        self.room.join("ada")
        return self

    def lead(self, number: int = 1, capabilities: Capabilities = CAPABILITIES) -> HandSession:
        session = HandSession(SessionStart(number=number), capabilities)
        feed = SessionFeed(session, bus=PCM16_24K, room=PCM16_24K)
        self.lane.add_session(feed)
        feed.stop_listening = session.listen(self.lane.on_session_event)
        self.lane.lead(number, [number])
        return session

    def beats(self, ms: int) -> None:
        for _ in range(ms // 20):
            self.clock.now += 0.02
            self.lane.beat(self.clock.now)

    def speaks(self, ms: int, level: int = 8000) -> None:
        for _ in range(ms // 20):
            self.clock.now += 0.02
            self.room.speak("ada", np.full(480, level, np.int16).tobytes())
            self.lane.beat(self.clock.now)


@pytest.fixture
async def call() -> Call:
    return await Call().start()


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_silence_keeps_coming_when_nobody_speaks(call: Call) -> None:
    session = call.lead()
    call.speaks(100)
    heard = len(session.heard)
    call.beats(1000)
    assert abs(PCM16_24K.duration_ms(len(session.heard) - heard) - 1000) <= 80


async def test_after_the_last_one_has_muted_the_turn_ends_and_nothing_more_is_sent(call: Call) -> None:
    session = call.lead()
    call.speaks(400)
    call.room.tell(AudioMuted(ParticipantId("ada")))
    call.beats(3000)
    assert session.commands == ["end_input"]
    heard = len(session.heard)
    call.beats(10_000)
    assert (session.commands, len(session.heard)) == (["end_input"], heard)
    call.room.tell(AudioUnmuted(ParticipantId("ada")))
    call.speaks(100)
    assert len(session.heard) > heard


async def test_a_recording_is_not_ended_before_its_owner_can_be_heard() -> None:
    call = await Call().start()
    call.room.leave("ada")
    session = call.lead()
    call.room.tell(EarlyAudio(ParticipantId("ada"), b"\5\0" * 480))
    call.beats(1500)
    assert session.commands == []
    call.beats(1000)
    assert session.commands == ["end_input"]


async def test_recorded_speech_from_before_the_join_goes_first(call: Call) -> None:
    session = call.lead()
    call.room.tell(EarlyAudio(ParticipantId("ada"), b"\5\0" * 700))
    call.room.speak("ada", b"\7\0" * 480)
    early = b"\5\0" * 700 + bytes(2 * FRAME_BYTES - 1400)
    assert bytes(session.heard) == early + b"\7\0" * 480


async def test_a_model_without_turn_detection_is_told_the_turns() -> None:
    call = await Call(vad=True).start()
    manual = msgspec.structs.replace(CAPABILITIES, turn_detector=TurnDetector.CLIENT)
    session = call.lead(capabilities=manual)
    call.speaks(400, level=0)
    assert session.heard == b""
    call.speaks(400)
    call.speaks(1000, level=0)
    assert [command for command in session.commands if "activity" in command] == ["start_activity", "end_activity"]
    said = np.frombuffer(bytes(session.heard), np.int16)
    assert np.count_nonzero(said) == 400 * 24  # none of the speech is missing, its onset included


async def test_local_speech_stops_the_voice_when_the_provider_does_not_hear_it() -> None:
    call = await Call(vad=True, local_barge_in=True).start()
    session = call.lead()
    session.says("r1", b"\1\0" * 24_000 * 5)
    call.beats(500)
    call.speaks(400)
    assert call.playout.drained(call.clock.now)
    assert "interrupt" in session.commands
    assert session.told[0][0] == "truncate"


async def test_only_the_leader_is_acted_on(call: Call) -> None:
    first = call.lead(1)
    second = call.lead(2)
    first.emit(SpeechChunk(1, "late", b"\1\0" * 480), ToolCall(1, "c", "t", {}))
    call.beats(100)
    assert call.room.heard() == b""
    assert call.control.asked == []
    second.says("r1", b"\2\0" * 2400)
    call.beats(200)
    assert call.room.heard() == b"\2\0" * 2400
    assert call.lane.stats.side_events == 2


async def test_the_end_of_any_session_is_passed_on(call: Call) -> None:
    first = call.lead(1)
    second = call.lead(2)
    first.dies(None)
    second.dies(None)
    assert [type(asked) for asked in call.control.asked] == [Closed, Closed]


async def test_what_any_session_tells_of_its_own_end_is_passed_on(call: Call) -> None:
    sessions = [call.lead(number) for number in (1, 2)]
    told: list[list[Told]] = [
        [GoAway(number, 10.0), ResumptionUpdate(number, "h", resumable=True), ReplyStarted(number, "r")]
        for number in (1, 2)
    ]
    for session, events in zip(sessions, told, strict=True):
        session.emit(*events)
    assert call.control.told == told[0] + told[1]
    assert call.lane.stats.side_events == 0


async def test_what_any_session_reports_is_passed_on(call: Call) -> None:
    first = call.lead(1)
    second = call.lead(2)
    odd, led = WarningReported(1, "malformed_message", "no object"), ErrorReported(2, "invalid_value", "no")
    first.emit(odd)
    second.emit(led)
    assert call.control.asked == [odd, led]
    assert call.lane.stats.side_events == 0


async def test_prompts_without_a_leader_are_kept_within_bounds(call: Call) -> None:
    for number in range(40):
        call.lane.do(Respond(str(number)))
    session = call.lead()
    assert session.told == [("respond", str(number)) for number in range(8, 40)]
    assert call.lane.orders.stats.dropped == 8


async def test_a_session_that_does_not_do_what_it_is_told_is_given_up(call: Call) -> None:
    session = call.lead()
    call.lane.do(Respond("hello"))
    call.beats(7800)
    assert call.control.asked == []
    call.beats(400)
    (closed,) = call.control.asked
    assert isinstance(closed, Closed) and isinstance(closed.error, ProviderUnavailable)
    assert session.told == [("respond", "hello")]


async def test_a_session_that_tells_anything_is_waited_for(call: Call) -> None:
    session = call.lead()
    call.lane.do(Respond("hello"))
    for _ in range(5):
        call.beats(6000)
        session.emit(InputTranscript(1, "t", "well", final=False))
    assert call.control.asked == []


async def test_a_session_that_is_spoken_to_and_tells_nothing_is_asked_and_then_given_up() -> None:
    call = await Call(first_words_ms=30_000).start()
    session = call.lead()
    call.speaks(1500)
    call.beats(17_000)
    assert session.told == [("respond", None)]
    call.beats(9000)
    assert [type(asked) for asked in call.control.asked] == [Closed]


async def test_a_door_is_not_asked_to_be_answered() -> None:
    call = await Call(first_words_ms=30_000).start()
    session = call.lead()
    call.speaks(300)
    call.beats(40_000)
    assert session.told == []


async def test_whoever_speaks_on_and_on_is_not_answered_into_his_words() -> None:
    call = await Call(first_words_ms=30_000).start()
    session = call.lead()
    call.speaks(25_000)
    assert session.told == []


async def test_a_prompt_to_a_session_that_just_ended_is_kept_for_the_next(call: Call) -> None:
    first = call.lead(1)
    await first.close()
    call.lane.do(Respond("hello"))
    second = call.lead(2)
    assert (first.told, second.told) == ([], [("respond", "hello")])


async def test_a_command_that_the_model_cannot_do_is_counted_and_logged(
    call: Call, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def cannot(instructions: str | None = None) -> None:
        raise NeedsNewSession(["instructions"])

    monkeypatch.setattr(call.lead(), "respond", cannot)
    call.lane.do(Respond("hello"))
    assert call.lane.orders.stats.refused == 1
    assert "cannot change instructions" in caplog.text


async def test_a_model_without_ears_gets_the_words_said_before_it_came() -> None:
    call = await Call(vad=True).start()
    call.speaks(600, 8000)
    session = call.lead(capabilities=msgspec.structs.replace(CAPABILITIES, turn_detector=TurnDetector.CLIENT))
    assert session.commands == ["start_activity"]
    call.beats(20)
    assert len(session.heard) >= PCM16_24K.size(600)
    call.speaks(100, 8000)
    call.beats(1500)
    assert session.commands == ["start_activity", "end_activity"]
    assert b"\x40\x1f" * 2400 in bytes(session.heard)


async def test_long_first_words_are_passed_on_by_the_beat_in_order() -> None:
    call = await Call(first_words_ms=30_000).start()
    call.speaks(20_000, 7)
    session = call.lead()
    assert PCM16_24K.duration_ms(len(session.heard)) == 500
    call.speaks(2000, 9)
    said = np.frombuffer(bytes(session.heard), np.int16)
    assert np.count_nonzero(said == 7) == 20_000 * 24
    assert np.count_nonzero(said == 9) == 2000 * 24
    assert np.all(np.diff(said) >= 0)


async def test_a_model_with_manual_turns_that_takes_the_lead_later_is_told_the_turns(call: Call) -> None:
    call.lead(1)
    call.speaks(100, level=0)
    session = call.lead(2, msgspec.structs.replace(CAPABILITIES, turn_detector=TurnDetector.CLIENT))
    call.speaks(400)
    call.speaks(1000, level=0)
    assert [command for command in session.commands if "activity" in command] == ["start_activity", "end_activity"]


async def test_frames_leave_nothing_for_the_garbage_collector(call: Call, no_collector: None) -> None:
    session = call.lead()
    session.emit(ReplyStarted(1, "r1"))
    call.speaks(400)
    gc.collect()
    for _ in range(500):
        call.speaks(20)
        session.emit(SpeechChunk(1, "r1", b"\1\0" * 480))
    assert gc.collect() == 0


async def deaf_in_mid_reply(call: Call) -> HandSession:
    """A reply of five seconds sounds, and the session that gave it is gone."""
    session = call.lead()
    session.says("r1", b"\1\0" * 24_000 * 5)
    call.beats(1000)
    return session


def listens_itself(call: Call) -> bool:
    return call.lane.speech.vad is not None


def silent_after_ms(call: Call, limit_ms: int = 1000) -> int:
    """Somebody begins to speak: how long until the voice stops."""
    for spoken_ms in range(20, limit_ms + 1, 20):
        call.speaks(20)
        if call.playout.drained(call.clock.now):
            return spoken_ms
    return limit_ms


async def test_while_no_session_leads_our_own_ears_stop_the_voice_as_soon_as_they_are_sure(call: Call) -> None:
    session = await deaf_in_mid_reply(call)
    call.speaks(400, level=0)
    session.dies(None)
    call.lane.remove_session(1)
    call.speaks(100, level=0)
    assert not call.playout.drained(call.clock.now)
    assert silent_after_ms(call) <= 80


async def test_who_was_speaking_already_when_the_session_went_is_heard_at_once(call: Call) -> None:
    await deaf_in_mid_reply(call)
    call.lane.watch_speech(True)
    call.speaks(200)
    assert not call.playout.drained(call.clock.now), "a session leads: that is its business"
    call.lane.remove_session(1)
    assert call.playout.drained(call.clock.now)


async def test_who_was_speaking_when_a_session_was_lost_without_warning_is_heard_too(call: Call) -> None:
    await deaf_in_mid_reply(call)
    call.speaks(200)
    call.lane.remove_session(1)
    assert call.playout.drained(call.clock.now)


async def test_a_noise_in_the_room_that_was_there_before_stops_nothing() -> None:
    call = await Call(vad_settings=VadSettings(threshold_dbfs=-45.0, margin_db=9.0)).start()
    session = call.lead()
    call.speaks(1000, level=600)
    session.says("r1", b"\1\0" * 24_000 * 5)
    call.speaks(1000, level=600)
    call.lane.remove_session(1)
    call.speaks(1000, level=600)
    assert not call.playout.drained(call.clock.now)
    assert silent_after_ms(call) <= 80


async def test_a_reply_that_may_not_be_interrupted_sounds_on_while_no_session_leads(call: Call) -> None:
    call.lane.next_reply(BargeInPolicy(mode="never"))
    await deaf_in_mid_reply(call)
    call.lane.remove_session(1)
    assert silent_after_ms(call) == 1000


async def test_a_model_that_is_not_interrupted_by_speech_is_not_while_it_is_away(call: Call) -> None:
    session = call.lead(capabilities=msgspec.structs.replace(CAPABILITIES, interrupts_on_speech=False))
    session.says("r1", b"\1\0" * 24_000 * 5)
    call.beats(1000)
    call.lane.remove_session(1)
    assert silent_after_ms(call) == 1000


async def test_speech_shorter_than_the_setting_for_this_stops_nothing() -> None:
    call = await Call(away_min_speech_ms=800).start()
    await deaf_in_mid_reply(call)
    call.lane.remove_session(1)
    call.speaks(200)
    call.speaks(600, level=0)
    assert not call.playout.drained(call.clock.now)
    assert 800 <= silent_after_ms(call) <= 840


async def test_once_a_session_leads_again_our_ears_hear_out_the_speech_and_close(call: Call) -> None:
    call.lead(1)
    call.lane.remove_session(1)
    call.speaks(200)
    second = call.lead(2)
    assert listens_itself(call)
    call.speaks(700, level=0)
    assert not listens_itself(call)
    second.says("r1", b"\1\0" * 24_000 * 5)
    call.beats(1000)
    assert silent_after_ms(call) == 1000


async def test_who_leads_by_now_does_not_know_what_an_earlier_session_has_said_so_we_listen_for_interruptions() -> None:
    call = await Call(local_barge_in=False).start()
    await deaf_in_mid_reply(call)
    call.lane.remove_session(1)
    second = call.lead(2)
    assert silent_after_ms(call) <= 80
    call.beats(20)
    assert not call.lane.speech.away
    second.says("r2", b"\1\0" * 24_000 * 5)
    call.speaks(700, level=0)
    assert silent_after_ms(call) == 1000, "it tells by itself when its own speech is interrupted"


def stands_in(call: Call) -> bool:
    """Asked anew, which a type checker would not expect of an attribute."""
    return call.lane.speech.away


async def test_once_the_speech_of_an_earlier_session_is_over_only_the_model_interrupts(call: Call) -> None:
    first = call.lead(1)
    first.says("r1", b"\1\0" * 24_000)
    call.beats(100)
    second = call.lead(2)
    assert stands_in(call)
    call.beats(1500)
    assert not stands_in(call)
    second.says("r2", b"\1\0" * 24_000 * 5)
    call.beats(100)
    assert silent_after_ms(call) == 1000


async def test_a_reply_whose_session_is_closed_in_its_midst_is_known_to_be_broken_off(call: Call) -> None:
    first = call.lead(1)
    first.says("r1", b"\1\0" * 24_000, done=False)
    call.beats(100)
    call.lane.remove_session(1)
    assert call.lane.loose_ends().reply_broken_off
    call.beats(1500)
    assert call.playout.stats.unfinished_replies == 0, "its end was told"
    assert call.lane._conversation.stats.sessions_ended == 1


async def test_what_was_said_while_no_session_led_reaches_the_next_one_once(call: Call) -> None:
    first = call.lead(1)
    call.speaks(200, level=11)
    call.lane.remove_session(1)
    call.speaks(400, level=12)
    second = call.lead(2)
    call.speaks(200, level=13)
    assert list(dict.fromkeys(np.frombuffer(bytes(first.heard), np.int16))) == [11]
    said = np.frombuffer(bytes(second.heard), np.int16)
    assert [np.count_nonzero(said == level) for level in (11, 12, 13)] == [0, 400 * 24, 200 * 24]


async def test_what_nobody_answered_can_be_heard_again_from_its_first_sound(call: Call) -> None:
    first = call.lead(1)
    call.speaks(500)
    first.says("r1", b"\1\0" * 480)
    answered = call.lane.hearing.unsettled()
    call.speaks(1000, level=0)
    call.speaks(400)
    call.lane.remove_session(1)
    loud = call.lane.hearing.first_loud(answered)
    assert loud is not None and loud > answered
    call.lane.hearing.rewind(loud)
    second = call.lead(2)
    call.beats(60)
    said = np.frombuffer(bytes(second.heard), np.int16)
    assert np.count_nonzero(said) == 400 * 24
    assert np.flatnonzero(said)[0] == 300 * 24


async def test_speech_waits_while_the_room_is_away_and_goes_on_where_it_was_lost(call: Call) -> None:
    session = call.lead()
    session.says("r1", np.arange(48_000, dtype=np.int16).tobytes())
    call.beats(500)
    call.lane.on_event(RoomReconnecting())
    heard = len(call.room.heard())
    call.beats(10_000)
    assert call.playout.heard_ms("r1", call.clock()) == pytest.approx(500, abs=20)
    call.lane.on_event(RoomReconnected(renewed=True))
    call.beats(2000)
    said, whole = np.arange(48_000, dtype=np.int16), np.frombuffer(call.room.heard(), np.int16)
    rest = 48_000 - heard // 2 - 480
    assert np.array_equal(whole[-rest:], said[-rest:])
    assert call.playout.drained(call.clock())
    assert call.lane.absence.stats.away_ms == pytest.approx(10_000, abs=1)


async def test_a_room_that_is_away_gets_no_more_than_a_moment_of_speech(call: Call) -> None:
    session = call.lead()
    call.lane.on_event(RoomReconnecting())
    session.says("r1", bytes(48_000 * 30))
    call.beats(20_000)
    assert len(call.room.heard()) <= 48_000 * 1.5
    call.beats(20_000)
    assert call.playout.stats.refused_chunks == 0
    session.says("r2", *[bytes(48_000 * 10)] * 10)
    assert call.playout.stats.refused_chunks == 1  # 130 s would wait: the bound is 120


async def test_the_control_lane_learns_when_the_answer_to_a_result_is_whole(call: Call) -> None:
    session = call.lead()
    session.emit(ReplyStarted(1, "r1"), ToolCall(1, "c1", "dig", {}, "r1"), TurnComplete(1, "r1"))
    call.control.settled.clear()
    call.lane.tool_answered(ToolAnswered("c1", "dig", "gold", session=1))
    session.emit(ReplyStarted(1, "r2"), SpeechChunk(1, "r2", bytes(4800)))
    assert call.control.settled == []
    session.emit(GenerationComplete(1, "r2"))
    assert call.control.settled == [1]


# ------------------------------------------------------------------------------------------------- stalled sessions


def closed(call: Call) -> list[int]:
    return [event.session for event in call.control.asked if isinstance(event, Closed)]


async def test_a_session_that_makes_nothing_of_what_it_is_told_is_given_up() -> None:
    call = await Call(stalled_after_s=2.0).start()
    session = call.lead()
    call.lane.do(SendText("hello"))
    call.beats(1960)
    assert closed(call) == []
    call.beats(100)
    assert closed(call) == [1]
    assert session.told[-1][:2] == ("send_text", "hello")


async def test_a_session_that_still_tells_something_is_waited_for() -> None:
    call = await Call(stalled_after_s=2.0).start()
    session = call.lead()
    call.lane.do(SendText("hello"))
    for _ in range(5):
        call.beats(1500)
        session.emit(Thought(1, "r1", "let me see"))
    assert closed(call) == []


async def test_whoever_watches_is_told_how_soon_a_turn_was_answered() -> None:
    call = await Call(first_words_ms=30_000).start()
    session = call.lead()
    call.speaks(600)
    ended_at = call.clock.now
    call.speaks(400, level=1)
    session.emit(UserSpeechStopped(1))
    call.speaks(200, level=1)
    session.emit(ReplyStarted(1, "r1"))
    call.speaks(100, level=1)
    session.emit(SpeechChunk(1, "r1", b"\1\0" * 24_000))
    call.speaks(100, level=1)
    (turn,) = call.room.activities
    assert isinstance(turn, TurnTimeline)
    assert abs(turn.speech_ended_at - ended_at) <= 0.08
    assert turn.turn_known_ms and abs(turn.turn_known_ms - 400) <= 80
    assert turn.reply_started_ms == turn.turn_known_ms + 200
    assert turn.first_speech_ms == turn.turn_known_ms + 300
    assert turn.audible_ms and 0 <= turn.audible_ms - turn.first_speech_ms <= 100


async def test_whoever_watches_is_told_of_tools_by_name_and_state_alone(call: Call) -> None:
    session = call.lead()
    session.emit(ToolCall(1, "c1", "weather", {"where": "secret"}))
    call.clock.now += 0.5
    call.lane.tool_answered(ToolAnswered("c1", "weather", "secret"))
    assert call.room.activities == [
        ToolActivity("c1", "weather", ToolState.STARTED),
        ToolActivity("c1", "weather", ToolState.ANSWERED, 500),
    ]
