from __future__ import annotations

import gc
import json
from base64 import b64decode
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.contract import (
    Closed,
    ErrorReported,
    GenerationComplete,
    GoAway,
    HistoryItem,
    InputTranscript,
    Interrupted,
    OutputTranscript,
    RateLimit,
    RateLimits,
    ReplyStarted,
    SessionEvent,
    SessionReady,
    SpeechChunk,
    TextChunk,
    ToolCall,
    ToolSpec,
    TurnComplete,
    Usage,
    UserSpeechStarted,
    UserSpeechStopped,
    WarningReported,
)
from providers.errors import NeedsNewSession, ProviderRejected, ProviderUnavailable, SettingRefused
from providers.openai.protocol import OpenAIProtocol
from providers.openai.settings import OpenAISettings
from providers.openai.setup import capabilities_of
from providers.settings import SpeechSettings, TranscriptionSettings, TurnDetectionSettings
from providers.signal.formats import PCM16_16K, PCM16_24K, PCMU_8K
from tests.unit.providers.openai.calls import MANUAL, NO_INTERRUPT, Call, pcm

# ------------------------------------------------------------------------------------------------------------ the setup


def test_the_setup_and_the_history_go_out_at_once() -> None:
    history = (HistoryItem(role="user", text="hi"), HistoryItem(role="assistant", text="hello"))
    call = Call(ready=False, history=history)
    update, user, assistant = call.sent()
    assert update["type"] == "session.update"
    assert user["item"] == {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    assert assistant["item"]["content"] == [{"type": "output_text", "text": "hello"}]


def test_the_session_is_ready_once_the_setup_is_acknowledged() -> None:
    call = Call(ready=False)
    assert call.says("session.created", session={"id": "sess_9"}) == []
    assert call.says("session.updated", session={"id": "sess_9"}) == [SessionReady(1, "sess_9")]
    assert (call.core.ready, call.core.session_id) == (True, "sess_9")


def test_a_server_that_never_acknowledges_is_ready_after_a_second() -> None:
    call = Call(ready=False, acknowledged=False)
    call.says("session.created", session={"id": "s"})
    deadline = call.core.deadline()
    assert deadline == call.now + 1.0
    assert call.core.handle_timeout(deadline) == [SessionReady(1, "s")]
    assert call.says("session.updated", session={"id": "s"}) == []


def test_a_refused_setup_ends_the_session_and_names_the_setting() -> None:
    call = Call(ready=False)
    error = {"type": "invalid_request_error", "code": "invalid_value", "message": "no", "event_id": "rb_setup"}
    events = call.says("error", error={**error, "param": "session.audio.output.voice"})
    assert isinstance(events[-1], Closed)
    assert isinstance(events[-1].error, ProviderRejected)
    assert "speech.voice" in str(events[-1].error)
    assert call.core.connection_closed(1000, "", call.now) == []


def test_a_server_error_during_the_setup_is_worth_another_try() -> None:
    events = Call(ready=False).refuses("", "rb_setup", kind="server_error")
    assert isinstance(events[-1], Closed) and isinstance(events[-1].error, ProviderUnavailable)


def test_a_history_line_that_is_refused_does_not_refuse_the_session() -> None:
    assert [type(event) for event in Call(ready=False).refuses("invalid_value", "rb_1")] == [ErrorReported]


def test_a_server_that_ignores_the_rate_is_reported_once() -> None:
    call = Call()
    session = {"id": "s", "audio": {"output": {"format": {"type": "audio/pcm", "rate": 16000}}}}
    (warning,) = call.says("session.updated", session=session)
    assert isinstance(warning, WarningReported) and "output_rate_hz" in warning.message
    assert call.says("session.updated", session=session) == []


def test_go_away_is_announced_a_minute_before_the_sessions_limit() -> None:
    call = Call()
    due = call.core.deadline()
    assert due == 100.0 + 3540.0
    assert call.core.handle_timeout(due) == [GoAway(1, 60.0)]
    assert call.core.deadline() is None


# ------------------------------------------------------------------------------------------------------------- replies


def test_a_reply_is_told_from_its_first_word_to_its_end() -> None:
    call = Call()
    assert call.begins() == [ReplyStarted(1, "resp_1")]
    call.adds("item_1")
    assert call.speaks(20) == [SpeechChunk(1, "resp_1", pcm(20))]
    words = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
    assert call.says("response.output_audio_transcript.delta", delta="Hello", **words) == [
        OutputTranscript(1, "resp_1", "Hello")
    ]
    assert call.says("response.output_audio_transcript.done", transcript="Hello there", **words) == [
        OutputTranscript(1, "resp_1", " there")
    ]
    usage = {
        "total_tokens": 30, "input_tokens": 10, "output_tokens": 20,
        "input_token_details": {"audio_tokens": 8, "cached_tokens": 3}, "output_token_details": {"audio_tokens": 15},
    }  # fmt: skip
    assert call.says("response.done", response={"id": "resp_1", "status": "completed", "usage": usage}) == [
        OutputTranscript(1, "resp_1", "", final=True),
        Usage(1, 10, 20, 30, cached_tokens=3, input_audio_tokens=8, output_audio_tokens=15),
        GenerationComplete(1, "resp_1"),
        TurnComplete(1, "resp_1", "completed"),
    ]


def test_two_messages_of_one_reply_are_joined_by_a_space() -> None:
    call = Call()
    call.begins()
    told = []
    for item, delta in (("a", "One moment."), ("b", "It rains.")):
        told += call.says("response.output_audio_transcript.delta", response_id="resp_1", item_id=item, delta=delta)
    assert [event.delta for event in told if isinstance(event, OutputTranscript)] == ["One moment.", " It rains."]


def test_no_output_transcript_is_told_when_none_is_wanted() -> None:
    call = Call(SpeechSettings(transcription=TranscriptionSettings(output=False)))
    call.begins()
    assert call.says("response.output_audio_transcript.delta", response_id="resp_1", item_id="i", delta="Hi") == []


def test_a_written_reply_comes_as_text() -> None:
    call = Call(SpeechSettings(modality="text"))
    call.begins()
    told = call.says("response.output_text.delta", response_id="resp_1", item_id="i", delta="Hi")
    assert told == [TextChunk(1, "resp_1", "Hi")]
    assert TextChunk(1, "resp_1", "", final=True) in call.ends()


def test_the_beta_dialect_says_the_same() -> None:
    call = Call()
    call.begins()
    told = call.says("response.audio.delta", response_id="resp_1", item_id="i", delta="AQI=")
    assert told == [SpeechChunk(1, "resp_1", b"\x01\x02")]


def test_half_a_sample_waits_for_its_other_half() -> None:
    call = Call()
    call.begins()
    assert call.says("response.output_audio.delta", response_id="resp_1", item_id="i", delta="AQID") == [
        SpeechChunk(1, "resp_1", b"\x01\x02")
    ]
    assert call.says("response.output_audio.delta", response_id="resp_1", item_id="i", delta="BA==") == [
        SpeechChunk(1, "resp_1", b"\x03\x04")
    ]


def test_speech_that_is_no_base64_is_a_warning() -> None:
    call = Call()
    call.begins()
    told = call.says("response.output_audio.delta", response_id="resp_1", item_id="i", delta="!!")
    assert [type(event) for event in told] == [WarningReported]


@pytest.mark.parametrize(
    ("status", "details", "reason"),
    [
        ("incomplete", {"reason": "max_output_tokens"}, "incomplete:max_output_tokens"),
        ("failed", {"error": {"type": "server_error", "code": None, "message": "x"}}, "failed:server_error"),
    ],
)
def test_a_reply_that_ends_badly_says_why(status: str, details: dict[str, Any], reason: str) -> None:
    call = Call()
    call.begins()
    assert call.ends(status=status, **details)[-1] == TurnComplete(1, "resp_1", reason)


def test_an_exhausted_quota_in_a_failed_reply_ends_the_session_for_good() -> None:
    call = Call()
    call.begins()
    (*_, last) = call.ends(status="failed", error={"type": "insufficient_quota", "code": "x", "message": "pay"})
    assert isinstance(last, Closed) and isinstance(last.error, ProviderRejected)


def test_the_end_of_a_response_that_never_began_is_no_reply() -> None:
    assert Call().ends("resp_7", "cancelled", reason="turn_detected") == [TurnComplete(1, "resp_7", "interrupted")]


# ------------------------------------------------------------------------------------------------------------- barge-in


def test_the_reply_is_interrupted_as_soon_as_the_user_speaks() -> None:
    call = Call()
    call.begins()
    call.speaks(500)
    assert call.says("input_audio_buffer.speech_started", audio_start_ms=1200, item_id="u") == [
        UserSpeechStarted(1, 1200),
        Interrupted(1, "resp_1"),
    ]
    assert call.sent() == []


def test_late_speech_carries_the_dead_replys_id_and_the_interruption_is_told_once() -> None:
    call = Call()
    call.begins()
    call.speaks(500)
    call.says("input_audio_buffer.speech_started", audio_start_ms=0, item_id="u")
    assert call.speaks(40) == [SpeechChunk(1, "resp_1", pcm(40))]
    assert call.ends(status="cancelled", reason="turn_detected") == [TurnComplete(1, "resp_1", "interrupted")]
    assert call.speaks(40) == [SpeechChunk(1, "resp_1", pcm(40))]


def test_no_words_follow_the_last_ones_of_a_reply() -> None:
    call = Call()
    call.begins()
    late = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0, "delta": "more"}
    assert call.says("response.output_audio_transcript.delta", **late) == [OutputTranscript(1, "resp_1", "more")]
    assert OutputTranscript(1, "resp_1", "", final=True) in call.ends(status="cancelled", reason="turn_detected")
    assert call.says("response.output_audio_transcript.delta", **late) == []
    assert call.says("response.output_text.delta", **late) == []


def test_a_finished_reply_that_may_still_be_heard_is_interrupted_too() -> None:
    call = Call()
    call.begins()
    call.speaks(5000)
    call.ends()
    call.now += 3.0
    assert Interrupted(1, "resp_1") in call.says("input_audio_buffer.speech_started", audio_start_ms=0)


def test_a_reply_heard_to_its_end_is_not_interrupted() -> None:
    call = Call()
    call.begins()
    call.speaks(1000)
    call.ends()
    call.now += 30.0
    assert call.says("input_audio_buffer.speech_started", audio_start_ms=0) == [UserSpeechStarted(1, 0)]


def test_with_interrupt_response_off_nobody_cuts_anything() -> None:
    call = Call(NO_INTERRUPT)
    call.begins()
    call.speaks(500)
    assert call.says("input_audio_buffer.speech_started", audio_start_ms=0) == [UserSpeechStarted(1, 0)]
    assert call.says("input_audio_buffer.speech_stopped", audio_end_ms=900) == [UserSpeechStopped(1, 900)]
    assert call.sent() == []


def test_the_servers_own_word_on_interruption_counts() -> None:
    call = Call()
    detection = {"type": "server_vad", "interrupt_response": False}
    call.says("session.updated", session={"id": "s", "audio": {"input": {"turn_detection": detection}}})
    call.begins()
    assert call.says("input_audio_buffer.speech_started", audio_start_ms=0) == [UserSpeechStarted(1, 0)]
    assert not call.core.capabilities.interrupts_on_speech


def test_interrupt_cancels_the_active_response_once() -> None:
    call = Call()
    call.core.interrupt(call.now)
    assert call.sent() == []
    call.begins()
    call.core.interrupt(call.now)
    call.core.interrupt(call.now)
    assert call.sent() == [{"type": "response.cancel", "response_id": "resp_1"}]
    told = call.ends(status="cancelled", reason="client_cancelled")
    assert told == [Interrupted(1, "resp_1"), TurnComplete(1, "resp_1", "interrupted")]


def test_interrupt_catches_the_response_that_was_just_asked_for() -> None:
    call = Call()
    call.core.respond()
    call.core.interrupt(call.now)
    assert call.sent_types() == ["response.create"]
    call.begins()
    assert call.sent_types() == ["response.cancel"]


@pytest.mark.parametrize("end", ["refused", "swallowed"])
def test_interrupting_a_request_that_leads_to_nothing_spares_the_next_response(end: str) -> None:
    call = Call()
    call.core.respond("Greet.")
    (frame,) = call.core.outgoing()
    call.core.interrupt(call.now)
    if end == "refused":
        call.refuses("invalid_value", json.loads(frame)["event_id"])
    else:
        call.now = call.core.deadline() or 0.0
        call.core.handle_timeout(call.now)
    call.begins("resp_to_the_user")
    assert call.sent() == [], "the answer to what the user says later is not cancelled"


def test_an_interrupted_request_that_was_refused_is_not_asked_again() -> None:
    call = Call()
    call.core.respond("Greet.")
    (frame,) = call.core.outgoing()
    call.core.interrupt(call.now)
    call.begins("resp_of_the_server")
    assert call.sent_types() == ["response.cancel"]
    call.refuses("conversation_already_has_active_response", json.loads(frame)["event_id"])
    call.ends("resp_of_the_server", "cancelled", reason="client_cancelled")
    assert call.sent() == []


def test_the_truncation_goes_out_in_ms_of_the_item_that_was_playing() -> None:
    call = Call()
    call.begins()
    call.adds("item_1")
    call.speaks(1000)
    call.core.truncate("resp_1", 370)
    assert call.sent() == [
        {"type": "conversation.item.truncate", "item_id": "item_1", "content_index": 0, "audio_end_ms": 370}
    ]


def test_an_unheard_reply_is_deleted_once_the_server_has_it() -> None:
    call = Call()
    call.begins()
    call.adds("item_1", exists=False)
    call.core.truncate("resp_1", 0)
    assert call.sent() == []
    call.says("conversation.item.added", item={"id": "item_1", "type": "message"})
    assert call.sent() == [{"type": "conversation.item.delete", "item_id": "item_1"}]


# ---------------------------------------------------------------------------------------------------------------- tools


def test_parallel_calls_are_one_batch_and_lead_to_one_response() -> None:
    call = Call()
    call.begins()
    assert call.calls_tool("c1", arguments='{"city":"Oslo"}') == [
        ToolCall(1, "c1", "f", {"city": "Oslo"}, "resp_1", "resp_1")
    ]
    call.calls_tool("c2")
    call.core.send_tool_result("c1", "f", {"t": 3})
    call.core.send_tool_result("c2", "f", "sunny")
    outputs = [frame["item"] for frame in call.sent()]
    assert [item["output"] for item in outputs] == ['{"t":3}', "sunny"]
    call.ends()
    assert call.sent_types() == ["response.create"]
    call.begins("resp_2")
    call.ends("resp_2")
    assert call.sent() == []


def test_the_response_waits_for_the_last_output() -> None:
    call = Call()
    call.begins()
    call.calls_tool("c1")
    call.calls_tool("c2")
    call.ends()
    call.core.send_tool_result("c1", "f", "a")
    assert call.sent_types() == ["conversation.item.create"]
    call.core.send_tool_result("c2", "f", "b")
    assert call.sent_types() == ["conversation.item.create", "response.create"]


def result_while_the_user_speaks(call: Call) -> None:
    call.begins()
    call.calls_tool("c1")
    call.ends()
    call.says("input_audio_buffer.speech_started", audio_start_ms=0, item_id="u1")
    call.core.send_tool_result("c1", "f", "a")
    assert call.sent_types() == ["conversation.item.create"], "the result at once, no answer into the user's words"


def test_a_result_while_the_user_speaks_is_answered_with_what_the_user_said() -> None:
    call = Call()
    result_while_the_user_speaks(call)
    output = {"id": "o1", "type": "function_call_output", "call_id": "c1", "output": "a"}
    call.says("conversation.item.added", item=output)
    call.now += 3
    call.says("input_audio_buffer.speech_stopped", audio_end_ms=3000, item_id="u1")
    call.begins("resp_2")
    call.ends("resp_2")
    assert call.core.handle_timeout(call.now + 60) == []
    assert call.sent() == []


def test_a_result_while_the_user_speaks_is_asked_for_where_the_server_does_not_answer_by_itself() -> None:
    call = Call(SpeechSettings(turn_detection=TurnDetectionSettings(create_response=False)))
    result_while_the_user_speaks(call)
    call.says("input_audio_buffer.speech_stopped", audio_end_ms=3000, item_id="u1")
    assert call.sent_types() == ["response.create"]


def test_a_result_is_asked_for_when_the_server_stays_silent_after_the_user() -> None:
    call = Call()
    result_while_the_user_speaks(call)
    call.says("input_audio_buffer.speech_stopped", audio_end_ms=3000, item_id="u1")
    due = call.core.deadline()
    assert due is not None and due - call.now < 2
    assert call.core.handle_timeout(due) == []
    assert call.sent_types() == ["response.create"]


def test_a_response_whose_end_never_comes_blocks_the_next_request_for_a_while_only() -> None:
    call = Call()
    call.core.respond("Greet.")
    (frame,) = call.core.outgoing()
    call.refuses("conversation_already_has_active_response", json.loads(frame)["event_id"])
    due = call.core.deadline()
    assert due is not None and due - call.now <= 30
    (warning,) = call.core.handle_timeout(due)
    assert isinstance(warning, WarningReported) and warning.code == "response_not_done"
    assert call.sent_types() == ["response.create"]


def test_outputs_that_want_no_answer_get_none() -> None:
    call = Call()
    call.begins()
    call.calls_tool("c1")
    call.ends()
    call.core.send_tool_result("c1", "f", "a", respond=False)
    assert call.sent_types() == ["conversation.item.create"]


def test_a_call_without_its_arguments_event_is_found_in_the_response() -> None:
    call = Call()
    call.begins()
    item = {"id": "i", "type": "function_call", "status": "completed", "call_id": "c1", "name": "f", "arguments": "{}"}
    told = call.says("response.done", response={"id": "resp_1", "status": "completed", "output": [item]})
    assert ToolCall(1, "c1", "f", {}, "resp_1", "resp_1") in told


def test_a_call_is_run_once_however_often_it_is_told() -> None:
    call = Call()
    call.begins()
    call.calls_tool("c1")
    item = {"id": "item_c1", "type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    assert call.says("response.output_item.done", response_id="resp_1", output_index=0, item=item) == []


def test_a_call_that_cannot_be_read_is_answered_with_the_reason() -> None:
    call = Call()
    call.begins()
    (warning,) = call.calls_tool("c1", arguments="{oops")
    assert isinstance(warning, WarningReported)
    (frame,) = call.sent()
    assert "JSON object" in json.loads(frame["item"]["output"])["error"]


def test_a_second_answer_to_a_call_is_kept_back() -> None:
    call = Call()
    call.begins()
    call.calls_tool("c1")
    call.core.send_tool_result("c1", "f", "a")
    call.core.send_tool_result("c1", "f", "b")
    assert call.sent_types() == ["conversation.item.create"]
    assert any(isinstance(event, WarningReported) for event in call.ends())


# ---------------------------------------------------------------------------------------------- asking for a response


def test_a_request_waits_for_the_active_response() -> None:
    call = Call()
    call.begins()
    call.core.respond("Say goodbye.")
    assert call.sent() == []
    call.ends()
    assert call.sent() == [{"type": "response.create", "response": {"instructions": "Say goodbye."}}]


def test_a_request_refused_because_a_response_was_active_goes_again_after_it() -> None:
    call = Call()
    call.core.respond("Greet.")
    (frame,) = call.core.outgoing()
    call.refuses("conversation_already_has_active_response", json.loads(frame)["event_id"])
    assert call.sent() == []
    call.ends("resp_of_the_server")
    assert call.sent() == [{"type": "response.create", "response": {"instructions": "Greet."}}]


def test_a_request_that_the_server_swallowed_does_not_block_the_next() -> None:
    call = Call()
    call.core.respond("One.")
    call.core.respond("Two.")
    assert len(call.sent()) == 1
    due = call.core.deadline()
    assert due is not None
    assert [type(event) for event in call.core.handle_timeout(due)] == [WarningReported]
    assert call.sent() == [{"type": "response.create", "response": {"instructions": "Two."}}]


def test_a_response_that_was_cut_before_it_began_makes_room_for_the_next_request() -> None:
    call = Call()
    call.core.respond("One.")
    call.core.respond("Two.")
    call.sent()
    call.ends("resp_1", "cancelled", reason="turn_detected")
    assert call.sent() == [{"type": "response.create", "response": {"instructions": "Two."}}]


def test_a_response_whose_end_was_never_told_does_not_keep_back_the_requests() -> None:
    call = Call()
    call.begins("resp_lost")
    call.begins("resp_2")
    call.ends("resp_2")
    call.core.respond()
    assert call.sent_types() == ["response.create"]


def test_calls_of_a_server_that_leaves_out_response_ids_lead_to_an_answer() -> None:
    call = Call()
    call.begins("")
    (asked,) = call.calls_tool("c1", reply="")
    assert isinstance(asked, ToolCall)
    call.core.send_tool_result("c1", "f", "done")
    call.ends("")
    assert call.sent_types() == ["conversation.item.create", "response.create"]


def test_a_response_without_an_id_is_cancelled_without_one() -> None:
    call = Call()
    call.begins("")
    call.core.interrupt(call.now)
    assert call.sent() == [{"type": "response.cancel"}]


def test_a_typed_turn_is_an_item_and_a_request() -> None:
    call = Call()
    call.core.send_text("What time is it?")
    assert call.sent_types() == ["conversation.item.create", "response.create"]
    call.core.send_text("Just so you know.", respond=False)
    assert call.sent_types() == ["conversation.item.create"]


def test_a_response_outside_the_conversation_blocks_nobody() -> None:
    call = Call()
    call.core.send_raw({"type": "response.create", "response": {"conversation": "none"}})
    call.says("response.created", response={"id": "side", "status": "in_progress", "conversation_id": None})
    call.sent()
    call.core.respond()
    assert call.sent_types() == ["response.create"]


# ----------------------------------------------------------------------------------------------------------- user input


def test_audio_goes_out_in_the_sessions_format_only() -> None:
    call = Call()
    assert call.core.encode_audio(b"\x01\x02", PCM16_24K) == b'{"type":"input_audio_buffer.append","audio":"AQI="}'
    with pytest.raises(SettingRefused):
        call.core.encode_audio(b"\x01\x02", PCM16_16K)


def test_a_commit_of_too_little_is_kept_back_with_a_warning() -> None:
    call = Call(MANUAL)
    call.core.encode_audio(pcm(99), PCM16_24K)
    call.core.commit_input()
    assert call.sent() == []
    deadline = call.core.deadline()
    assert deadline is not None and deadline <= call.now
    (warning,) = call.core.handle_timeout(call.now)
    assert isinstance(warning, WarningReported) and warning.code == "input_audio_buffer_commit_empty"


def test_a_manual_turn_is_committed_and_answered() -> None:
    call = Call(MANUAL)
    call.core.start_activity()
    call.core.encode_audio(pcm(600), PCM16_24K)
    call.core.end_activity()
    assert call.sent_types() == ["input_audio_buffer.commit", "response.create"]


def test_a_manual_turn_cuts_the_reply_as_the_provider_would() -> None:
    call = Call(MANUAL)
    call.begins()
    call.core.start_activity()
    assert call.sent_types() == ["response.cancel"]


def test_a_mute_sends_the_silence_that_ends_the_turn() -> None:
    call = Call(
        SpeechSettings(turn_detection=TurnDetectionSettings(silence_ms=300)), OpenAISettings(input_format="pcmu")
    )
    call.core.end_input()
    assert call.sent() == []
    call.core.encode_audio(b"\x00" * 800, PCMU_8K)
    call.core.end_input()
    (frame,) = call.sent()
    assert b64decode(frame["audio"]) == b"\xff" * (8 * 500)


def test_a_mute_without_turn_detection_commits() -> None:
    call = Call(MANUAL)
    call.core.encode_audio(pcm(600), PCM16_24K)
    call.core.end_input()
    assert call.sent_types()[0] == "input_audio_buffer.commit"


def test_a_still_goes_as_a_data_uri() -> None:
    call = Call()
    call.core.send_image(b"\xff\xd8", "image/jpeg")
    (frame,) = call.sent()
    assert frame["item"]["content"] == [{"type": "input_image", "image_url": "data:image/jpeg;base64,/9g="}]
    with pytest.raises(SettingRefused, match="image/png"):
        call.core.send_image(b"x", "image/webp")


def test_the_users_words_come_whole_and_then_final() -> None:
    call = Call()
    kind = "conversation.item.input_audio_transcription"
    assert call.says(f"{kind}.delta", item_id="u", delta="Good ") == [InputTranscript(1, "u", "Good ")]
    assert call.says(f"{kind}.delta", item_id="u", delta="mor") == [InputTranscript(1, "u", "Good mor")]
    final = InputTranscript(1, "u", "Good morning.", final=True)
    assert call.says(f"{kind}.completed", item_id="u", transcript="Good morning.") == [final]
    assert call.says(f"{kind}.delta", item_id="u", delta="late") == []


def test_a_failed_transcription_is_a_warning() -> None:
    kind = "conversation.item.input_audio_transcription.failed"
    (warning,) = Call().says(kind, item_id="u", error={"code": "audio_unintelligible", "message": "?"})
    assert warning == WarningReported(1, "transcription_failed:audio_unintelligible", "?")


# -------------------------------------------------------------------------------------------------------------- updates


def test_instructions_and_tools_change_in_place() -> None:
    call = Call()
    call.core.update(instructions="", tools=[])
    assert call.sent() == [{"type": "session.update", "session": {"type": "realtime", "instructions": "", "tools": []}}]
    call.core.update(tools=[ToolSpec(name="f")])
    assert call.sent()[0]["session"]["tools"][0]["name"] == "f"
    with pytest.raises(SettingRefused):
        call.core.update(tools=[ToolSpec(name="a b")])


def test_the_voice_changes_until_it_has_been_heard() -> None:
    call = Call()
    call.core.update(voice="ash")
    assert call.sent()[0]["session"]["audio"] == {"output": {"voice": "ash"}}
    call.speaks(20)
    with pytest.raises(NeedsNewSession) as refused:
        call.core.update(instructions="x", voice="sage")
    assert refused.value.fields == ("voice",)
    assert call.sent() == []


def test_raw_messages_need_a_type() -> None:
    call = Call()
    call.core.send_raw({"type": "conversation.item.retrieve", "item_id": "i"})
    assert call.sent() == [{"type": "conversation.item.retrieve", "item_id": "i"}]
    with pytest.raises(SettingRefused):
        call.core.send_raw({"item": 1})


# --------------------------------------------------------------------------------------------------------------- errors


def test_an_error_is_reported_and_the_session_goes_on() -> None:
    error = {"type": "invalid_request_error", "code": "unknown_parameter", "message": "no", "param": "session.x"}
    assert Call().says("error", error=error) == [ErrorReported(1, "unknown_parameter", "no", "session.x")]


def codes(events: list[SessionEvent]) -> list[str]:
    return [event.code for event in events if isinstance(event, WarningReported)]


def test_a_request_that_is_one_too_many_is_warned_of() -> None:
    call = Call()
    call.begins()
    for number in range(32):
        call.core.respond(str(number))
    assert codes(call.says("rate_limits.updated", rate_limits=[])) == []
    call.core.respond("one more")
    assert codes(call.says("rate_limits.updated", rate_limits=[])) == ["response_not_asked"]


def test_so_is_one_for_a_result_that_came_before_the_end_of_its_response() -> None:
    call = Call()
    call.begins()
    call.calls_tool("c1")
    call.core.send_tool_result("c1", "f", "sunny")
    for number in range(32):
        call.core.respond(str(number))
    assert codes(call.ends()) == ["response_not_asked"]


def test_a_refused_tool_result_is_reported_with_its_call() -> None:
    call = Call()
    call.core.send_text("hello")
    call.core.send_tool_result("c1", "f", "sunny")
    sent = [json.loads(frame) for frame in call.core.outgoing()]
    (text_id, result_id) = (frame["event_id"] for frame in sent if frame["type"] == "conversation.item.create")
    assert call.refuses("invalid_value", text_id) == [ErrorReported(1, "invalid_value", "no")]
    assert call.refuses("invalid_tool_call_id", result_id) == [
        ErrorReported(1, "invalid_tool_call_id", "no", call_id="c1")
    ]


@pytest.mark.parametrize("code", ["response_cancel_not_active", "item_delete_invalid_item_id"])
def test_a_race_with_the_server_is_only_a_warning(code: str) -> None:
    assert [type(event) for event in Call().refuses(code)] == [WarningReported]


@pytest.mark.parametrize("code", ["insufficient_quota", "invalid_api_key", "account_deactivated", "model_not_found"])
def test_a_fatal_error_ends_the_session_and_is_never_retried(code: str) -> None:
    call = Call()
    last = call.refuses(code)[-1]
    assert isinstance(last, Closed) and isinstance(last.error, ProviderRejected)
    assert call.begins() == []


def test_an_expired_session_is_worth_a_new_one() -> None:
    last = Call().refuses("session_expired")[-1]
    assert isinstance(last, Closed) and isinstance(last.error, ProviderUnavailable)


@pytest.mark.parametrize("code", [1001, 1005, 1006, 1011, 1012, 1013, 1015])
def test_close_codes_worth_a_new_connection(code: int) -> None:
    (closed,) = Call().core.connection_closed(code, "", 0.0)
    assert isinstance(closed, Closed) and isinstance(closed.error, ProviderUnavailable)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1008, ""), (3000, "invalid_request_error.invalid_api_key"), (1000, "insufficient_quota")],
)
def test_close_codes_that_would_come_again(code: int, reason: str) -> None:
    (closed,) = Call().core.connection_closed(code, reason, 0.0)
    assert isinstance(closed, Closed) and isinstance(closed.error, ProviderRejected)


def test_rate_limits_are_passed_on() -> None:
    limits = [{"name": "tokens", "limit": 1000, "remaining": 900, "reset_seconds": 1.5}]
    assert Call().says("rate_limits.updated", rate_limits=limits) == [
        RateLimits(1, (RateLimit("tokens", 1000, 900, 1.5),))
    ]


def test_an_unknown_event_is_warned_of_once() -> None:
    call = Call()
    assert [type(event) for event in call.says("response.dance")] == [WarningReported]
    assert call.says("response.dance") == []


# ----------------------------------------------------------------------------------------------------- anything at all


def test_speech_in_both_directions_leaves_no_garbage() -> None:
    call = Call()
    call.begins()
    call.adds("item_1")
    delta = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0, "delta": "AQI="}
    frame = json.dumps({"type": "response.output_audio.delta", **delta})
    gc.collect()
    gc.disable()
    try:
        for _ in range(200):
            call.core.receive(frame, call.now)
            call.core.encode_audio(b"\x01\x02", PCM16_24K)
        assert gc.collect() == 0
    finally:
        gc.enable()


KINDS = (
    *("response.created", "response.done", "response.output_audio.delta", "response.output_item.added", "error"),
    *("conversation.item.added", "response.function_call_arguments.done", "session.updated", "session.created"),
    *("input_audio_buffer.speech_started", "rate_limits.updated", "response.output_audio_transcript.done", "nonsense"),
    *("response.output_item.done", "conversation.item.input_audio_transcription.delta", "response.text.done"),
)
KEYS = (
    *("response", "item", "id", "delta", "error", "session", "response_id", "item_id", "output_index", "call_id"),
    *("status", "arguments", "type", "output", "usage", "code", "rate_limits", "transcript", "audio", "text"),
    *("turn_detection", "input", "status_details", "conversation_id", "content_index", "audio_start_ms"),
)
WORDS = (
    "",
    "resp_1",
    "item_1",
    "cancelled",
    "function_call",
    "message",
    "AAAA",
    "AAA",
    "insufficient_quota",
    "\x00\ud83d",
)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_number_written_as_a_text_that_is_none_is_left_out(number: str) -> None:
    call = Call()
    assert call.says("input_audio_buffer.speech_started", audio_start_ms=number) == [UserSpeechStarted(1)]
    limits = call.says("rate_limits.updated", rate_limits=[{"name": "tokens", "reset_seconds": number}])
    assert limits == [RateLimits(1, (RateLimit("tokens", 0, 0, 0.0),))]
    call.says("session.updated", session={"turn_detection": {"silence_duration_ms": number}})
    call.core.encode_audio(pcm(100), PCM16_24K)
    call.core.end_input()
    assert call.sent_types() == ["input_audio_buffer.append"]


def anything(chance: Random, depth: int = 4) -> Any:
    """A JSON value that a confused server might send."""
    match chance.randrange(8 if depth else 5):
        case 0:
            return None
        case 1:
            return chance.choice((True, False, 0, -1, 10**30, 0.5, 1e300))
        case 2 | 3 | 4:
            return chance.choice(WORDS)
        case 5:
            return [anything(chance, depth - 1) for _ in range(chance.randrange(3))]
        case _:
            return {chance.choice(KEYS): anything(chance, depth - 1) for _ in range(chance.randrange(5))}


@pytest.mark.parametrize("seed", range(20))
def test_no_event_however_odd_raises(seed: int) -> None:
    chance, call = Random(seed), Call()
    for _ in range(200):
        fields = {chance.choice(KEYS): anything(chance) for _ in range(chance.randrange(6))}
        events = call.core.receive(json.dumps({**fields, "type": chance.choice(KINDS)}), call.now)
        if events and isinstance(events[-1], Closed):
            call = Call()
        call.core.truncate("resp_1", chance.randrange(50))
        call.core.outgoing()
        call.core.deadline()


@given(st.binary() | st.text())
def test_no_frame_however_broken_raises(frame: bytes | str) -> None:
    speech, own = SpeechSettings(), OpenAISettings()
    core = OpenAIProtocol(1, speech, own, capabilities_of(speech, own, {}))
    core.start(0.0)
    core.receive(frame, 0.0)


# -------------------------------------------------------------------------------------- losses, silences and histories


def test_silence_is_suspicious_only_until_a_message_is_spoken() -> None:
    call = Call()
    seen: list[bool] = []
    for step in (
        call.begins,
        lambda: call.adds("item_1"),  # it may think for long
        lambda: call.speaks(100),
        call.finishes_item,  # a preamble was said; what follows may take its time
        lambda: call.speaks(100, "item_2", index=1),
        call.ends,
        lambda: call.speaks(20),  # late speech of a response that is over
    ):
        step()
        seen.append(call.core.speaking)
    assert seen == [False, False, True, False, True, False, False]


def test_a_line_of_the_history_that_is_refused_costs_itself_and_not_the_session() -> None:
    call = Call(ready=False, history=(HistoryItem(role="user", text="hi"),))
    error = {"type": "invalid_request_error", "code": "string_above_max_length", "message": "too long"}
    for named in ({"event_id": "rb_1"}, {"param": "item.content[0].text"}):
        events = call.says("error", error={**error, **named})
        assert [type(event) for event in events] == [ErrorReported]
    call.says("session.created", session={"id": "sess_1"})
    assert isinstance(call.says("session.updated", session={"id": "sess_1"})[0], SessionReady)


def test_a_history_that_is_too_long_is_cut_and_told() -> None:
    long = tuple(HistoryItem(role="user", text=f"{number}") for number in range(500))
    call = Call(ready=False, history=(*long, HistoryItem(role="assistant", text=" ")))
    texts = [
        frame["item"]["content"][0]["text"] for frame in call.sent() if frame["type"] == "conversation.item.create"
    ]
    assert texts == [f"{number}" for number in range(500 - 128, 500)]
    call.says("session.created", session={"id": "sess_1"})
    events = call.says("session.updated", session={"id": "sess_1"})
    assert [event.code for event in events if isinstance(event, WarningReported)] == ["history_cut"]


@pytest.mark.parametrize(("served", "kind"), [(False, ProviderRejected), (True, ProviderUnavailable)])
def test_a_close_that_blames_us_is_the_setups_fault_only_before_the_first_reply(
    served: bool, kind: type[Exception]
) -> None:
    call = Call()
    if served:
        call.begins()
        call.ends()
    closed = call.core.connection_closed(1008, "policy violation", call.now)[-1]
    assert isinstance(closed, Closed) and type(closed.error) is kind
