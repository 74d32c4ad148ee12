"""Whole calls, as transcripts: who speaks, what is shown, what the model is told."""

from __future__ import annotations

import gc
import random

import msgspec
import pytest

from bridge.conversation.barge_in import BargeInPolicy, BargeInSettings
from bridge.conversation.conversation import ConversationEvent, ConversationSettings
from bridge.conversation.ledger import ToolUse
from bridge.conversation.turns import Floor
from bridge.core.commands import (
    CancelTools,
    EndCall,
    FlushPlayout,
    FlushReason,
    InterruptModel,
    Respond,
    RunTool,
    SendText,
    TruncateReply,
)
from bridge.core.words import (
    AgentState,
    AudioMuted,
    EndReason,
    InterruptRequested,
    LocalSpeechStarted,
    LocalSpeechStopped,
    Participant,
    ParticipantJoined,
    ParticipantLeft,
    RoomEnded,
    TextReceived,
    ToolAnswered,
)
from providers.contract import (
    Closed,
    GenerationComplete,
    InputTranscript,
    Interrupted,
    OutputTranscript,
    ReplyStarted,
    SessionReady,
    SpeechChunk,
    TextChunk,
    ToolCall,
    ToolCallCancelled,
    TurnComplete,
    UserSpeechStarted,
    UserSpeechStopped,
)
from tests.fakes.playbook import ANN, BEN, GEMINI, OPENAI, Playbook

INITIALIZING, LISTENING, THINKING, SPEAKING = (
    AgentState.INITIALIZING,
    AgentState.LISTENING,
    AgentState.THINKING,
    AgentState.SPEAKING,
)


# ------------------------------------------------------------------------------------------------------------ states


def test_states_are_true_to_the_ear() -> None:
    call = Playbook().connected()
    call.happens(UserSpeechStarted(1))
    call.run(500)
    call.happens(UserSpeechStopped(1))
    call.run(300)
    call.model_says("r", 2000)
    call.turn_ends("r")
    call.run(1900)
    assert call.state() is SPEAKING  # the provider has long finished; the room has not
    call.run(200)
    assert call.states == [INITIALIZING, LISTENING, THINKING, SPEAKING, LISTENING]


def test_the_agent_is_idle_while_nobody_is_in_the_room() -> None:
    call = Playbook()
    call.happens(SessionReady(1, "s"))
    assert call.state() is AgentState.IDLE
    call.happens(ParticipantJoined(Participant(ANN)))
    assert call.state() is LISTENING
    call.happens(AudioMuted(ANN))
    assert call.state() is LISTENING
    call.happens(ParticipantLeft(ANN, "client_initiated"))
    assert call.state() is AgentState.IDLE


def test_a_seam_between_two_replies_is_not_taken_for_silence() -> None:
    call = Playbook().connected()
    call.model_says("preamble", 500)
    call.model_says("answer", 500)
    call.run(1200)
    assert call.states == [INITIALIZING, LISTENING, THINKING, SPEAKING, LISTENING]


def test_thinking_ends_by_itself() -> None:
    call = Playbook(settings=ConversationSettings(thinking_limit_s=5)).connected()
    call.happens(UserSpeechStarted(1), UserSpeechStopped(1))
    call.run(6000)
    assert call.state() is LISTENING


def test_both_may_speak_at_once() -> None:
    duplex = msgspec.structs.replace(OPENAI, duplex=True)
    call = Playbook(duplex).connected()
    call.model_says("r", 1000)
    call.happens(UserSpeechStarted(1))
    assert call.floor() is Floor.BOTH
    assert not call.silent()
    call.run(1200)
    assert call.floor() is Floor.USER


def test_the_turn_of_one_who_mutes_himself_ends() -> None:
    call = Playbook().connected()
    call.happens(UserSpeechStarted(1), AudioMuted(ANN))
    assert call.floor() is Floor.NOBODY


def test_a_result_waits_for_the_words_that_follow_it_in_the_same_turn_or_the_next() -> None:
    for following in ("r", "next"):
        call = Playbook().connected()
        call.happens(ReplyStarted(1, "r"), ToolCall(1, "c1", "lookup", {}, "r"))
        call.happens(ToolAnswered("c1", "lookup", "found"))
        if following == "next":
            call.turn_ends("r")
        assert call.call.at_work
        if following == "next":
            call.happens(ReplyStarted(1, "next"))
        call.happens(SpeechChunk(1, following, bytes(24_000)))
        call.turn_ends(following)
        assert not call.call.at_work


def test_a_result_that_is_never_answered_is_not_waited_for_without_end() -> None:
    call = Playbook(settings=ConversationSettings(thinking_limit_s=5)).connected()
    call.happens(ToolCall(1, "c1", "lookup", {}), ToolAnswered("c1", "lookup", "found"))
    call.run(4000)
    assert call.call.at_work
    call.run(2000)
    assert not call.call.at_work


# ---------------------------------------------------------------------------------------------------------- barge-in


def test_the_room_is_silent_when_the_provider_hears_the_user() -> None:
    call = Playbook().connected()
    call.model_says("r", 5000)
    call.run(1000)
    decided = call.happens(UserSpeechStarted(1))
    assert decided[:2] == [FlushPlayout(FlushReason.PROVIDER), TruncateReply("r", 1000)]
    assert call.silent()
    assert call.state() is LISTENING
    assert not call.of(InterruptModel)  # the provider did it itself


def test_an_interrupted_reply_never_comes_back() -> None:
    call = Playbook().connected()
    call.model_says("r", 500, complete=False)
    call.run(200)
    call.happens(Interrupted(1, "r"), SpeechChunk(1, "r", bytes(48_000)))
    assert call.refused == 1
    call.run(1000)
    call.model_says("next", 500)
    assert call.state() is SPEAKING


@pytest.mark.parametrize("audio_first", [True, False])
def test_an_interruption_and_speech_in_one_message_leave_silence(audio_first: bool) -> None:
    call = Playbook(GEMINI).connected()
    call.model_says("r", 500, complete=False)
    call.run(100)
    late = SpeechChunk(1, "r", bytes(48_000))
    cut = Interrupted(1, "r")
    call.happens(*((late, cut) if audio_first else (cut, late)))
    assert call.silent()


def test_an_interruption_after_generation_was_complete_stops_what_still_sounds() -> None:
    call = Playbook(GEMINI).connected()
    call.model_says("r", 5000)
    call.turn_ends("r")
    call.run(1000)
    call.happens(Interrupted(1, None))
    assert call.silent()
    assert call.state() is LISTENING


def test_an_interruption_before_any_sound_fences_the_reply() -> None:
    call = Playbook().connected()
    call.happens(ReplyStarted(1, "r"), Interrupted(1, "r"), SpeechChunk(1, "r", bytes(960)))
    assert call.refused == 1
    assert not call.of(TruncateReply)


def test_replies_waiting_behind_the_interrupted_one_are_unheard() -> None:
    call = Playbook().connected()
    call.model_says("preamble", 1000)
    call.model_says("answer", 1000)
    call.run(400)
    call.happens(UserSpeechStarted(1))
    assert call.of(TruncateReply) == [TruncateReply("preamble", 400), TruncateReply("answer", 0)]


def test_late_news_of_an_interruption_does_not_touch_the_next_reply() -> None:
    call = Playbook().connected()
    call.model_says("r", 3000)
    call.run(500)
    call.happens(InterruptRequested())
    call.model_says("next", 1000)
    call.happens(Interrupted(1, "r"))
    assert not call.silent()
    call.happens(Interrupted(1, "next"))
    assert call.silent()


def test_what_waits_behind_a_cut_preamble_is_cut_with_it() -> None:
    call = Playbook().connected()
    call.model_says("preamble", 3000)
    call.run(500)
    call.happens(ReplyStarted(1, "answer"), Interrupted(1, "answer"))
    assert call.silent()


def test_interrupt_response_false_is_honoured() -> None:
    call = Playbook(msgspec.structs.replace(OPENAI, interrupts_on_speech=False)).connected()
    call.model_says("r", 1000)
    call.happens(UserSpeechStarted(1), UserSpeechStopped(1))
    assert not call.of(FlushPlayout)
    assert not call.of(InterruptModel)


def test_speech_of_the_user_in_a_silence_cuts_nothing() -> None:
    call = Playbook().connected()
    call.happens(UserSpeechStarted(1))
    assert not call.of(FlushPlayout)


def test_a_protected_reply_sounds_on_although_the_provider_cut_it() -> None:
    call = Playbook()
    call.connected()
    call.call.next_reply(BargeInPolicy(mode="never"), call.now)
    call.model_says("terms", 2000, complete=False)
    call.run(500)
    call.happens(UserSpeechStarted(1), Interrupted(1, "terms"), TurnComplete(1, "terms", "interrupted"))
    call.run(1600)
    assert len(call.sink.heard) == 48 * 2000
    assert not call.of(FlushPlayout)
    assert call.call.stats.protected == 2
    call.model_says("next", 2000)
    call.happens(UserSpeechStopped(1), UserSpeechStarted(1))
    assert call.silent()  # the policy was for one reply


def test_a_reply_protected_for_a_while_is_cut_when_the_while_is_over() -> None:
    policy = BargeInPolicy(mode="after", after_ms=1000)
    call = Playbook(settings=ConversationSettings(barge_in=BargeInSettings(policy=policy))).connected()
    call.model_says("r", 5000)
    call.run(300)
    call.happens(UserSpeechStarted(1))
    assert not call.silent()
    call.run(680)
    assert not call.silent()
    call.run(40)
    assert call.silent()
    (cut,) = call.of(TruncateReply)
    assert isinstance(cut, TruncateReply)
    assert 1000 <= cut.heard_ms <= 1020


def test_one_who_gave_up_meanwhile_does_not_cut() -> None:
    policy = BargeInPolicy(mode="after", after_ms=1000)
    call = Playbook(settings=ConversationSettings(barge_in=BargeInSettings(policy=policy))).connected()
    call.model_says("r", 3000)
    call.run(300)
    call.happens(UserSpeechStarted(1))
    call.run(200)
    call.happens(UserSpeechStopped(1))
    call.run(1000)
    assert not call.silent()


def test_a_provider_that_only_says_interrupted_cuts_when_the_while_is_over() -> None:
    policy = BargeInPolicy(mode="after", after_ms=1000)
    call = Playbook(settings=ConversationSettings(barge_in=BargeInSettings(policy=policy))).connected()
    call.model_says("r", 5000, complete=False)
    call.run(300)
    call.happens(Interrupted(1, "r"))
    call.run(680)
    assert not call.silent()
    call.run(40)
    assert call.silent()


def test_an_answer_that_came_meanwhile_is_not_cut_with_the_reply_before_it() -> None:
    policy = BargeInPolicy(mode="after", after_ms=1000)
    call = Playbook(settings=ConversationSettings(barge_in=BargeInSettings(policy=policy))).connected()
    call.model_says("r", 2000, complete=False)
    call.run(300)
    call.happens(Interrupted(1, "r"))
    call.model_says("answer", 500)
    call.run(3000)
    assert not call.of(FlushPlayout)
    assert len(call.sink.heard) == 48 * 2500


def test_the_application_may_always_interrupt() -> None:
    call = Playbook().connected()
    call.call.next_reply(BargeInPolicy(mode="never"), call.now)
    call.model_says("r", 2000, complete=False)
    call.run(100)
    decided = call.happens(InterruptRequested())
    assert decided[0] == FlushPlayout(FlushReason.APPLICATION, ("r",))
    assert InterruptModel() in decided
    assert call.silent()


LOCAL = ConversationSettings(barge_in=BargeInSettings(local=True, min_speech_ms=200, greeting_guard_ms=400))


def test_local_detection_cuts_after_enough_speech() -> None:
    call = Playbook(GEMINI, LOCAL).connected()
    call.model_says("r", 5000)
    call.run(1000)
    call.happens(LocalSpeechStarted(ANN))
    call.run(180)
    assert not call.silent()
    call.run(40)
    assert call.silent()
    assert call.of(InterruptModel) == [InterruptModel()]


def test_a_breath_does_not_cut() -> None:
    call = Playbook(GEMINI, LOCAL).connected()
    call.model_says("r", 5000)
    call.run(1000)
    call.happens(LocalSpeechStarted(ANN))
    call.run(100)
    call.happens(LocalSpeechStopped(ANN))
    call.run(1000)
    assert not call.silent()
    assert call.call.stats.short_speech == 1


def test_the_echo_of_the_greeting_does_not_cut_it() -> None:
    call = Playbook(GEMINI, LOCAL).connected()
    call.model_says("greeting", 5000)
    call.run(20)
    call.happens(LocalSpeechStarted(ANN))
    call.run(380)
    call.happens(LocalSpeechStopped(ANN))
    call.run(500)
    assert not call.silent()


def test_local_speech_in_a_silence_cuts_nothing_and_asks_for_nothing() -> None:
    call = Playbook(GEMINI, LOCAL).connected()
    call.happens(LocalSpeechStarted(ANN))
    call.run(1000)
    call.happens(LocalSpeechStopped(ANN))
    call.run(60_000)
    assert not call.of(FlushPlayout)
    assert not call.of(Respond)  # it may have been a door


def test_a_start_whose_end_got_lost_does_not_leave_the_bot_mute() -> None:
    call = Playbook(GEMINI, LOCAL).connected()
    call.happens(LocalSpeechStarted(ANN))
    call.run(11_000)
    call.model_says("r", 1000)
    call.run(1100)
    assert len(call.sink.heard) == 48 * 1000


def test_a_lost_stop_event_of_the_provider_does_not_leave_the_bot_mute() -> None:
    call = Playbook().connected()
    call.happens(UserSpeechStarted(1), Interrupted(1, None), Interrupted(1, "ghost"))
    call.model_says("r", 1000)
    call.run(1100)
    assert len(call.sink.heard) == 48 * 1000
    call.run(60_000)
    assert call.floor() is Floor.NOBODY


# ---------------------------------------------------------------------------------------------------------- captions

WORDS = "one two three four five six seven eight nine ten"


def test_the_agents_words_follow_his_speech() -> None:
    call = Playbook(GEMINI).connected()
    call.model_says("r", 4900, WORDS)
    call.run(100)
    assert call.shown("r") == ""
    call.run(2350)
    assert call.shown("r").split() == WORDS.split()[:5]
    call.run(2600)
    assert call.shown("r") == WORDS
    assert len(call.closings("r")) == 1
    assert not call.closings("r")[0].interrupted


def test_text_that_leads_its_speech_by_seconds_is_held_back() -> None:
    call = Playbook(GEMINI).connected()
    call.happens(ReplyStarted(1, "r"), OutputTranscript(1, "r", WORDS))
    call.run(2000)
    assert not call.captions
    for _ in range(10):
        call.happens(SpeechChunk(1, "r", bytes([1, 1]) * 24 * 100))
        call.run(100)
    assert 2 <= len(call.shown("r").split()) <= 5  # a second of about three words


def test_the_unheard_rest_of_a_cut_reply_is_never_shown() -> None:
    call = Playbook(GEMINI).connected()
    call.model_says("r", 4900, WORDS)
    call.run(2450)
    call.happens(Interrupted(1, "r"), OutputTranscript(1, "r", " and more", final=True), TurnComplete(1, "r"))
    call.run(5000)
    assert call.shown("r").split() == WORDS.split()[:5]
    (closing,) = call.closings("r")
    assert closing.interrupted
    assert call.call.ledger.lines[-1].text.split() == WORDS.split()[:5]
    assert call.call.ledger.lines[-1].interrupted
    assert call.call.ledger.lines[-1].heard_ms == pytest.approx(2450)


def test_words_of_which_nothing_was_heard_leave_no_segment() -> None:
    call = Playbook(GEMINI).connected()
    call.happens(ReplyStarted(1, "r"), OutputTranscript(1, "r", WORDS), Interrupted(1, "r"))
    call.run(5000)
    assert not call.captions


def test_interleaved_text_is_not_shown_before_its_speech() -> None:
    call = Playbook().connected()
    call.happens(ReplyStarted(1, "r"))
    for word in WORDS.split():
        call.happens(OutputTranscript(1, "r", word + " "), SpeechChunk(1, "r", bytes([1, 1]) * 24 * 1000))
    call.happens(GenerationComplete(1, "r"))
    call.run(3400)
    assert call.shown("r").split() == WORDS.split()[: len(call.shown("r").split())]
    assert 3 <= len(call.shown("r").split()) <= 4


def test_text_that_comes_just_after_its_speech_is_still_shown() -> None:
    call = Playbook().connected()
    call.model_says("r", 1000)
    call.run(1050)
    call.happens(OutputTranscript(1, "r", "late words", final=True))
    call.run(300)
    assert call.shown("r") == "late words"
    assert len(call.closings("r")) == 1


def test_a_written_answer_is_shown_at_once() -> None:
    call = Playbook().connected()
    call.happens(ReplyStarted(1, "r"), TextChunk(1, "r", "Dear "), TextChunk(1, "r", "Ann", final=True))
    assert call.shown("r") == "Dear Ann"
    assert len(call.closings("r")) == 1


def test_a_transcript_without_any_speech_is_shown_when_the_turn_is_over() -> None:
    call = Playbook().connected()
    call.happens(ReplyStarted(1, "r"), OutputTranscript(1, "r", "silent words"))
    call.turn_ends("r")
    assert call.shown("r") == "silent words"


def test_a_users_segment_grows_and_is_closed_once() -> None:
    call = Playbook().connected()
    call.user_said("t", "What is")
    call.user_said("t", "What is the time")
    call.user_said("t", "What is the time?", final=True)
    call.user_said("t", "What is the time?", final=True)
    texts = [(caption.text, caption.final, caption.speaker) for caption in call.captions]
    assert texts == [("What is", False, ANN), ("What is the time", False, ANN), ("What is the time?", True, ANN)]
    assert len({caption.segment_id for caption in call.captions}) == 1


def test_a_turn_belongs_to_whoever_was_loudest() -> None:
    call = Playbook().connected()
    call.loudest = lambda since, until: BEN
    call.happens(UserSpeechStarted(1))
    call.run(500)
    call.happens(UserSpeechStopped(1))
    call.user_said("t", "Ben here", final=True)
    assert call.captions[0].speaker == BEN


def test_words_that_come_under_the_next_turn_belong_to_their_own() -> None:
    call = Playbook().connected()
    call.happens(UserSpeechStarted(1))
    call.run(1000)
    call.happens(UserSpeechStopped(1))
    call.run(300)
    call.happens(UserSpeechStarted(1))
    call.loudest = lambda since, until: ANN if until < call.now else BEN
    call.user_said("t1", "Ann here", final=True)
    call.run(500)
    call.user_said("t2", "Ben here")
    assert [caption.speaker for caption in call.captions] == [ANN, BEN]


def test_a_users_segment_that_nobody_ends_is_closed() -> None:
    call = Playbook().connected()
    call.user_said("t", "hello")
    call.run(15_000)
    assert [caption.final for caption in call.captions] == [False, True]


def test_the_users_words_come_before_the_answer_to_them_if_they_come_in_time() -> None:
    call = Playbook().connected()
    call.user_said("t0", "hi", final=True)
    call.happens(UserSpeechStarted(1))
    call.run(500)
    call.happens(UserSpeechStopped(1))
    call.run(100)
    call.model_says("r", 3000, "the time is noon")
    call.run(400)
    call.user_said("t1", "what time is it", final=True)
    call.run(3500)
    order = [caption.segment_id[-2:] for caption in call.captions]
    assert order.index("t1") < order.index("-r")


def test_captions_do_not_wait_for_words_that_never_come() -> None:
    call = Playbook().connected()
    call.user_said("t0", "hi", final=True)
    call.happens(UserSpeechStarted(1), UserSpeechStopped(1))
    call.model_says("r", 3000, "the time is noon")
    call.run(1000)
    assert call.shown("r")


def test_every_segment_is_closed_at_the_end_of_the_call() -> None:
    call = Playbook().connected()
    call.user_said("t", "hel")
    call.model_says("r", 4900, WORDS)
    call.run(2500)
    decided = call.happens(RoomEnded(EndReason.ROOM_EMPTY))
    assert len(call.closings("t")) == len(call.closings("r")) == 1
    assert EndCall(EndReason.ROOM_EMPTY) in decided
    assert call.closings("r")[0].interrupted


# ------------------------------------------------------------------------------------------------- answers and tools


def test_an_empty_turn_is_noticed_and_the_model_asked_once_more() -> None:
    call = Playbook(GEMINI).connected()
    call.user_said("t", "hello?", final=True)
    call.turn_ends(None)
    call.run(1400)
    assert not call.of(Respond)
    call.run(200)
    assert call.of(Respond) == [Respond()]
    call.turn_ends(None)
    call.run(60_000)
    assert len(call.of(Respond)) == 1
    assert call.call.stats.empty_turns == 2


def test_a_turn_that_got_an_answer_is_not_asked_again() -> None:
    call = Playbook(GEMINI).connected()
    call.user_said("t", "hello?", final=True)
    call.model_says("r", 500)
    call.turn_ends("r")
    call.turn_ends(None)
    call.run(60_000)
    assert not call.of(Respond)
    assert call.call.stats.empty_turns == 0


def test_silence_after_a_turn_is_asked_about_at_last() -> None:
    call = Playbook().connected()
    call.happens(UserSpeechStarted(1), UserSpeechStopped(1))
    call.run(14_900)
    assert not call.of(Respond)
    call.run(200)
    assert call.of(Respond) == [Respond()]


def test_a_model_that_does_not_answer_on_its_own_is_not_asked() -> None:
    call = Playbook(msgspec.structs.replace(OPENAI, answers_turns=False)).connected()
    call.happens(UserSpeechStarted(1), UserSpeechStopped(1))
    call.turn_ends(None)
    call.run(60_000)
    assert not call.of(Respond)


def test_a_running_tool_is_not_a_missing_answer() -> None:
    call = Playbook().connected()
    tool = ToolCall(1, "c1", "lookup", {"q": "x"}, "r")
    call.happens(UserSpeechStarted(1), UserSpeechStopped(1), ReplyStarted(1, "r"))
    assert RunTool(tool) in call.happens(tool)
    call.turn_ends("r")
    assert call.state() is THINKING
    call.run(45_000)
    assert call.state() is THINKING
    assert not call.of(Respond)
    call.happens(ToolAnswered("c1", "lookup", "found"))
    (use,) = (entry for entry in call.call.ledger.entries if isinstance(entry, ToolUse))
    assert use.result == "found"


def test_cancelled_tools_are_stopped() -> None:
    call = Playbook().connected()
    call.happens(ToolCall(1, "c1", "lookup", {}))
    assert CancelTools(("c1",)) in call.happens(ToolCallCancelled(1, ("c1",)))


def test_a_greeting_waits_for_somebody_to_greet() -> None:
    call = Playbook(settings=ConversationSettings(greeting="Say hello."))
    assert not [c for c in call.happens(SessionReady(1, "s")) if isinstance(c, Respond)]
    call.connected()
    assert call.of(Respond) == [Respond("Say hello.")]


def test_a_typed_message_is_a_turn_and_cuts_the_speech() -> None:
    call = Playbook().connected()
    call.model_says("r", 3000)
    call.run(500)
    decided = call.happens(TextReceived(ANN, "stop"))
    assert call.silent()
    assert decided.index(FlushPlayout(FlushReason.TEXT)) < decided.index(SendText("stop", ANN))
    assert call.state() is THINKING
    assert call.call.ledger.lines[-1].typed


def test_a_session_that_ends_leaves_the_room_in_peace() -> None:
    call = Playbook().connected()
    call.model_says("r", 500, "some words", complete=False)
    call.happens(Closed(1, 1006, "gone"))
    call.run(2500)
    assert call.state() is LISTENING
    assert len(call.closings("r")) == 1


# -------------------------------------------------------------------------------------------------------- robustness


@pytest.mark.parametrize("seed", range(30))
def test_events_in_any_order_leave_a_call_that_still_speaks(seed: int) -> None:
    rng = random.Random(seed)
    call = Playbook(rng.choice([OPENAI, GEMINI]), LOCAL).connected()
    for step in range(150):
        reply_id = f"r{step // 10}"
        events: list[ConversationEvent] = [
            ReplyStarted(1, reply_id),
            SpeechChunk(1, reply_id, bytes([1, 1]) * rng.randrange(1, 20_000)),
            OutputTranscript(1, reply_id, rng.choice([" a word", "", "bit"]), rng.random() < 0.1),
            TextChunk(1, reply_id, "x", rng.random() < 0.1),
            InputTranscript(1, f"t{step // 12}", "said " * rng.randrange(3), rng.random() < 0.3),
            UserSpeechStarted(1),
            UserSpeechStopped(1),
            LocalSpeechStarted(ANN),
            LocalSpeechStopped(ANN),
            Interrupted(1, rng.choice([None, reply_id, "ghost"])),
            GenerationComplete(1, reply_id),
            TurnComplete(1, rng.choice([None, reply_id])),
            ToolCall(1, f"c{step}", "f", {}),
            ToolAnswered(f"c{step - 1}", "f", "{}"),
            InterruptRequested(),
        ]
        call.happens(rng.choice(events))
        call.run(rng.randrange(0, 200))
    call.run(30_000)
    for segment in {caption.segment_id for caption in call.captions}:
        assert [c.final for c in call.captions if c.segment_id == segment][-1:] in ([True], [False])
        assert sum(c.final for c in call.captions if c.segment_id == segment) <= 1
    call.model_says("the last", 1000)
    before = len(call.sink.heard)
    call.run(1100)
    assert len(call.sink.heard) - before == 48 * 1000
    assert call.state() is LISTENING


def test_a_thousand_events_leave_no_cyclic_garbage() -> None:
    call = Playbook().connected()
    gc.collect()
    gc.disable()
    try:
        for n in range(100):
            call.user_said(f"t{n}", "hello", final=True)
            call.model_says(f"r{n}", 100, "a few words")
            call.run(200)
        assert gc.collect() == 0
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------- tools that outlive their session


def work_and_words(call: Playbook) -> tuple[bool, bool]:
    """Is more on its way, and does the model owe (more) words to a result?"""
    return call.call.at_work, not call.call.results_settled


def test_a_call_stays_open_when_its_session_is_gone_until_the_next_was_told() -> None:
    call = Playbook().connected()
    call.happens(ReplyStarted(1, "r"), ToolCall(1, "c1", "lookup", {}, "r"), Closed(1, 1006, "lost"))
    assert call.call.at_work and call.state() is THINKING
    call.happens(SessionReady(2, "s"))
    call.run(60_000)
    assert call.call.at_work and call.state() is THINKING
    call.happens(ToolAnswered("c1", "lookup", "found", session=1))
    assert work_and_words(call) == (True, True)
    call.happens(ReplyStarted(2, "2.r"), TurnComplete(2, "2.r"))
    assert work_and_words(call) == (False, False)
    (use,) = [entry for entry in call.call.ledger.entries if isinstance(entry, ToolUse)]
    assert use.result == "found"


def test_a_result_that_nobody_took_is_on_record_and_owes_nothing() -> None:
    call = Playbook().connected()
    call.happens(ToolCall(1, "c1", "lookup", {}), Closed(1, 1006, "lost"))
    call.happens(ToolAnswered("c1", "lookup", "found", session=1, told=False))
    assert work_and_words(call) == (False, False)
    (use,) = [entry for entry in call.call.ledger.entries if isinstance(entry, ToolUse)]
    assert use.result == "found"


@pytest.mark.parametrize("begun", [False, True])
def test_a_result_whose_session_was_lost_before_its_answer_was_whole_is_still_owed_words(begun: bool) -> None:
    call = Playbook().connected()
    call.happens(ToolCall(1, "c1", "lookup", {}), ToolAnswered("c1", "lookup", "found"))
    if begun:
        call.model_says("r", 100, complete=False)
    call.happens(Closed(1, 1006, "lost"))
    assert work_and_words(call) == (True, True)


def test_an_answer_that_was_whole_when_its_session_was_lost_is_owed_no_more() -> None:
    call = Playbook().connected()
    call.happens(ToolCall(1, "c1", "lookup", {}), ToolAnswered("c1", "lookup", "found"))
    call.model_says("r", 100)
    call.happens(Closed(1, 1006, "lost"))
    assert work_and_words(call) == (False, False)


def test_equal_ids_of_two_sessions_are_two_calls() -> None:
    call = Playbook().connected()
    call.happens(ToolCall(1, "c1", "lookup", {}), Closed(1, 1006, "lost"), SessionReady(2, "s"))
    call.happens(ToolCall(2, "c1", "lookup", {}), ToolAnswered("c1", "lookup", "found", session=2))
    call.happens(ReplyStarted(2, "2.r"), TurnComplete(2, "2.r"))
    assert call.call.at_work, "the first one is still open"
    call.happens(ToolAnswered("c1", "lookup", "found", session=1), ReplyStarted(2, "2.q"), TurnComplete(2, "2.q"))
    assert not call.call.at_work


def test_a_repeated_call_is_one_entry_and_its_repetition_never_passes_for_work() -> None:
    call = Playbook().connected()
    asked = ToolCall(1, "c1", "lookup", {})
    assert call.happens(asked, asked)[-1:] == [RunTool(asked)], "who runs the tools counts it"
    call.happens(ToolAnswered("c1", "lookup", "found"), asked, ReplyStarted(1, "r"), TurnComplete(1, "r"))
    assert not call.call.at_work
    assert len(call.call.ledger.entries) == 1
