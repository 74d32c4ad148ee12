"""The rules of a Gemini session, message by message, without a socket and without a clock."""

from __future__ import annotations

import base64
import gc
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.contract import (
    Closed,
    HistoryItem,
    InputTranscript,
    Interrupted,
    OutputTranscript,
    ReplyStarted,
    ResumptionUpdate,
    SessionEvent,
    SessionReady,
    SessionStart,
    SpeechChunk,
    ToolCall,
    ToolCallCancelled,
    ToolSpec,
    TurnComplete,
    UserSpeechStarted,
    WarningReported,
)
from providers.errors import (
    NeedsNewSession,
    ProviderRejected,
    ProviderUnavailable,
    ResumeRefused,
    ResumeTooSoon,
    SettingRefused,
)
from providers.gemini.endpoint import endpoint
from providers.gemini.protocol import INTERRUPT_ANSWER_S, GeminiProtocol
from providers.gemini.replies import STALE_S
from providers.gemini.settings import GeminiSettings
from providers.gemini.setup import plan_session
from providers.settings import SpeechSettings, TurnDetectionSettings
from providers.signal.formats import PCM16_16K, PCM16_24K, PCMU_8K

SPEECH = b"\x01\x00" * 2400
BOTH_CALLS = {"toolCall": {"functionCalls": [{"id": "a", "name": "one", "args": {}}, {"id": "b", "name": "two"}]}}


def opened(
    own: GeminiSettings | None = None,
    speech: SpeechSettings | None = None,
    *,
    ready: bool = True,
    **start: Any,
) -> GeminiProtocol:
    own = own or GeminiSettings()
    place = endpoint(own, {"GOOGLE_CLOUD_PROJECT": "p"})
    core = GeminiProtocol(plan_session(speech or SpeechSettings(), own, place, SessionStart(number=1, **start)))
    core.start(0.0)
    if ready:
        core.receive(b'{"setupComplete": {"sessionId": "s"}}', 0.0)
        core.outgoing()
    return core


def say(**fields: Any) -> dict[str, Any]:
    return {"serverContent": fields}


def speech(data: bytes = SPEECH, **fields: Any) -> dict[str, Any]:
    blob = {"mimeType": "audio/pcm;rate=24000", "data": base64.b64encode(data).decode()}
    return say(modelTurn={"parts": [{"inlineData": blob}]}, **fields)


def feed(core: GeminiProtocol, *messages: dict[str, Any], now: float = 1.0) -> list[SessionEvent]:
    return [event for message in messages for event in core.receive(json.dumps(message).encode(), now)]


def sent(core: GeminiProtocol) -> list[dict[str, Any]]:
    return [json.loads(message) for message in core.outgoing()]


def chunk(reply_id: str, data: bytes = SPEECH) -> SpeechChunk:
    return SpeechChunk(session=1, reply_id=reply_id, audio=data)


# ------------------------------------------------------------------------------------------------------------- setup


def test_setup_is_the_first_message_and_the_only_one_before_it_is_accepted() -> None:
    core = opened(ready=False)
    core.send_text("too early", respond=False)
    assert [list(message) for message in sent(core)] == [["setup"]]
    assert feed(core, {"setupComplete": {"sessionId": "s"}}) == [SessionReady(session=1, session_id="s")]
    assert [list(message) for message in sent(core)] == [["clientContent"]]
    assert core.ready and core.session_id == "s"


def test_announced_history_may_end_with_the_model_and_asks_for_nothing() -> None:
    core = opened(ready=False, history=(HistoryItem(role="user", text="hi"), HistoryItem(role="assistant", text="yes")))
    assert sent(core)[0]["setup"]["historyConfig"] == {"initialHistoryInClientContent": True}
    feed(core, {"setupComplete": {}})
    assert sent(core) == [
        {
            "clientContent": {
                "turns": [
                    {"role": "user", "parts": [{"text": "hi"}]},
                    {"role": "model", "parts": [{"text": "yes"}]},
                ],
                "turnComplete": True,
            }
        }
    ]


def test_history_of_an_older_model_ends_with_a_user_turn_and_stays_incomplete() -> None:
    own = GeminiSettings(model="gemini-2.5-flash-native-audio-latest")
    core = opened(own, ready=False, history=(HistoryItem(role="assistant", text="yes"),))
    assert "historyConfig" not in sent(core)[0]["setup"]
    feed(core, {"setupComplete": {}})
    content = sent(core)[0]["clientContent"]
    assert content["turns"][-1] == {"role": "user", "parts": [{"text": "."}]}
    assert content["turnComplete"] is False


def test_history_that_is_announced_and_empty_is_ended_so_that_the_greeting_is_none() -> None:
    core = opened(GeminiSettings(history_in_client_content=True), ready=False)
    sent(core)
    feed(core, {"setupComplete": {}})
    assert sent(core) == [{"clientContent": {"turnComplete": True}}]


def test_the_signature_of_a_consent_is_handed_on() -> None:
    core = opened(ready=False)
    (ready,) = feed(core, {"setupComplete": {"voiceConsentSignature": {"signature": "sig"}}})
    assert isinstance(ready, SessionReady)
    assert ready.voice_consent == "sig"


def test_a_resumed_session_says_so_and_sends_no_history_again() -> None:
    core = opened(ready=False, resume="h", history=(HistoryItem(role="user", text="hi"),))
    setup = sent(core)[0]["setup"]
    assert setup["sessionResumption"] == {"handle": "h"} and "historyConfig" not in setup
    assert feed(core, {"setupComplete": {}}) == [SessionReady(session=1, session_id="", resumed=True)]
    assert sent(core) == []


# ------------------------------------------------------------------------------------------------------------- turns


def test_every_field_of_one_message_counts() -> None:
    core = opened()
    events = feed(
        core,
        speech(
            inputTranscription={"text": " hello"},
            outputTranscription={"text": " yes"},
            generationComplete=True,
            turnComplete=True,
        )
        | {"usageMetadata": {"totalTokenCount": 7}},
    )
    assert [type(event).__name__ for event in events] == [
        "InputTranscript",
        "InputTranscript",
        "ReplyStarted",
        "OutputTranscript",
        "SpeechChunk",
        "GenerationComplete",
        "OutputTranscript",
        "TurnComplete",
        "Usage",
    ]
    assert events[1] == InputTranscript(session=1, turn_id="1.u1", text="hello", final=True)
    assert events[6] == OutputTranscript(session=1, reply_id="1.1", delta="", final=True)


def test_speech_in_one_message_with_its_interruption_is_stale_and_comes_first() -> None:
    core = opened()
    feed(core, speech())
    assert feed(core, speech(interrupted=True)) == [chunk("1.1"), Interrupted(session=1, reply_id="1.1")]


def test_stale_speech_after_the_turn_keeps_the_last_reply() -> None:
    core = opened()
    feed(core, speech(), say(turnComplete=True))
    assert feed(core, speech(interrupted=True)) == [chunk("1.1"), Interrupted(session=1, reply_id=None)]


def test_late_speech_keeps_the_dead_reply_until_the_turn_completes() -> None:
    core = opened()
    feed(core, speech(), say(interrupted=True))
    assert feed(core, speech()) == [chunk("1.1")]
    assert feed(core, say(turnComplete=True)) == [TurnComplete(session=1, reply_id="1.1", reason="interrupted")]
    assert feed(core, speech()) == [ReplyStarted(session=1, reply_id="1.2"), chunk("1.2")]


def test_late_speech_keeps_the_dead_reply_no_longer_than_two_seconds() -> None:
    core = opened()
    feed(core, speech(), say(interrupted=True), now=1.0)
    assert feed(core, speech(), now=1.0 + STALE_S - 0.01) == [chunk("1.1")]
    assert feed(core, speech(), now=1.0 + STALE_S) == [ReplyStarted(session=1, reply_id="1.2"), chunk("1.2")]


def test_a_tool_call_shows_that_a_new_generation_has_begun() -> None:
    core = opened()
    feed(core, speech(), say(interrupted=True), BOTH_CALLS)
    assert chunk("1.2") in feed(core, speech())


def test_words_of_a_dead_reply_are_nobodys() -> None:
    core = opened()
    feed(core, speech(), say(interrupted=True))
    assert feed(core, say(outputTranscription={"text": " unheard"})) == []


def test_interruption_of_nothing_only_stops_what_plays() -> None:
    core = opened()
    assert feed(core, say(interrupted=True)) == [Interrupted(session=1, reply_id=None)]
    assert feed(core, speech()) == [ReplyStarted(session=1, reply_id="1.1"), chunk("1.1")]


def test_empty_messages_open_no_reply() -> None:
    core = opened()
    assert core.receive(b"{}", 1.0) == []
    assert feed(core, say(), say(modelTurn={"parts": []}), say(generationComplete=True)) == []
    assert feed(core, say(turnComplete=True)) == [TurnComplete(session=1, reply_id=None)]


def test_speech_after_generation_complete_is_another_reply() -> None:
    core = opened()
    feed(core, speech(generationComplete=True))
    assert feed(core, speech()) == [ReplyStarted(session=1, reply_id="1.2"), chunk("1.2")]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "completed"),
        ({"turnCompleteReason": "TURN_COMPLETE_REASON_UNSPECIFIED"}, "completed"),
        ({"turnCompleteReason": "NEED_MORE_INPUT"}, "need_more_input"),
        ({"turnCompleteReason": "GENERATED_AUDIO_SAFETY"}, "failed:generated_audio_safety"),
        ({"turnCompleteReason": "MALFORMED_FUNCTION_CALL"}, "failed:malformed_function_call"),
        ({"waitingForInput": True}, "waiting_for_input"),
        ({"interactionStatus": "IN_PROGRESS"}, "in_progress"),
        ({"interactionStatus": "IDLE"}, "completed"),
        ({"interactionStatus": "REQUIRES_ACTION"}, "completed"),
    ],
)
def test_why_a_turn_ended(fields: dict[str, Any], reason: str) -> None:
    assert feed(opened(), say(turnComplete=True, **fields))[-1] == TurnComplete(session=1, reply_id=None, reason=reason)


def test_a_promise_to_go_on_that_is_not_kept_is_reported_once() -> None:
    core = opened()
    feed(core, say(turnComplete=True, interactionStatus="IN_PROGRESS"), now=1.0)
    assert core.deadline() == 31.0 and core.handle_timeout(30.9) == []
    assert [event.code for event in core.handle_timeout(31.0) if isinstance(event, WarningReported)] == [
        "in_progress_silent"
    ]
    assert core.deadline() is None


# -------------------------------------------------------------------------------------------------------- transcripts


def test_the_users_words_are_final_before_the_answer_and_late_ones_replace_them() -> None:
    core = opened()
    feed(core, say(inputTranscription={"text": " what"}), say(inputTranscription={"text": " time"}), now=1.0)
    assert feed(core, speech(), now=1.1)[0] == InputTranscript(session=1, turn_id="1.u1", text="what time", final=True)
    assert feed(core, say(inputTranscription={"text": " is it"}), now=1.2) == [
        InputTranscript(session=1, turn_id="1.u1", text="what time is it", final=True)
    ]


def test_words_spoken_into_an_answer_are_a_turn_of_their_own() -> None:
    core = opened()
    feed(core, say(inputTranscription={"text": "one"}), speech(), now=1.0)
    assert feed(core, say(inputTranscription={"text": "stop"}, interrupted=True), now=1.5)[0] == InputTranscript(
        session=1, turn_id="1.u2", text="stop"
    )
    feed(core, say(turnComplete=True), now=1.6)
    assert feed(core, say(inputTranscription={"text": " it"}), now=1.7) == [
        InputTranscript(session=1, turn_id="1.u2", text="stop it")
    ]


def test_interim_words_replace_each_other() -> None:
    core = opened()
    texts = [
        event.text
        for text in ("wha", "what t")
        for event in feed(core, say(interimInputTranscription={"text": text}))
        if isinstance(event, InputTranscript)
    ]
    assert texts == ["wha", "what t"]
    assert feed(core, say(inputTranscription={"text": "what time"})) == [
        InputTranscript(session=1, turn_id="1.u1", text="what time")
    ]


def test_thoughts_are_no_answer() -> None:
    parts = [{"text": "hmm", "thought": True}, {"text": "42"}]
    events = feed(opened(), say(modelTurn={"parts": parts}))
    assert [type(event).__name__ for event in events] == ["ReplyStarted", "Thought", "TextChunk"]


# -------------------------------------------------------------------------------------------------------------- tools


def test_a_blocking_batch_is_answered_in_one_message() -> None:
    own = GeminiSettings(model="gemini-3.1-flash-live-preview")
    core = opened(own, tools=(ToolSpec(name="one"), ToolSpec(name="two")))
    calls = feed(core, BOTH_CALLS)
    assert calls[0] == ToolCall(session=1, call_id="a", name="one", arguments={}, batch_id="1.b1")
    core.send_tool_result("a", "one", {"t": 21})
    assert sent(core) == []
    core.send_tool_result("b", "two", "no", error=True)
    assert sent(core) == [
        {
            "toolResponse": {
                "functionResponses": [
                    {"id": "a", "name": "one", "response": {"output": {"t": 21}}},
                    {"id": "b", "name": "two", "response": {"error": "no"}},
                ]
            }
        }
    ]


def test_a_non_blocking_call_is_answered_at_once_and_silently_if_asked() -> None:
    core = opened(tools=(ToolSpec(name="one"), ToolSpec(name="two")))
    feed(core, BOTH_CALLS)
    core.send_tool_result("b", "two", {"ok": True}, respond=False)
    answer = sent(core)[0]["toolResponse"]["functionResponses"]
    assert answer == [{"id": "b", "name": "two", "response": {"output": {"ok": True}}, "scheduling": "SILENT"}]


def test_scheduling_is_left_out_on_vertex_unless_configured() -> None:
    quiet = opened(GeminiSettings(backend="vertex"), tools=(ToolSpec(name="one"),))
    loud = opened(GeminiSettings(backend="vertex", tool_scheduling="interrupt"), tools=(ToolSpec(name="one"),))
    for core in (quiet, loud):
        feed(core, {"toolCall": {"functionCalls": [{"id": "a", "name": "one"}]}})
        core.send_tool_result("a", "one", "x")
    assert "scheduling" not in sent(quiet)[0]["toolResponse"]["functionResponses"][0]
    assert sent(loud)[0]["toolResponse"]["functionResponses"][0]["scheduling"] == "INTERRUPT"


@pytest.mark.parametrize("nothing", ["", {}])
def test_an_answer_is_never_empty(nothing: Any) -> None:
    core = opened(tools=(ToolSpec(name="one"),))
    feed(core, {"toolCall": {"functionCalls": [{"id": "a", "name": "one"}]}})
    core.send_tool_result("a", "one", nothing)
    assert sent(core)[0]["toolResponse"]["functionResponses"][0]["response"]["output"]


def test_a_cancelled_call_is_never_answered_and_frees_the_rest_of_its_batch() -> None:
    core = opened(tools=(ToolSpec(name="one", blocking=True), ToolSpec(name="two", blocking=True)))
    feed(core, BOTH_CALLS)
    core.send_tool_result("b", "two", "x")
    assert feed(core, {"toolCallCancellation": {"ids": ["a"]}}) == [ToolCallCancelled(session=1, call_ids=("a",))]
    assert [r["id"] for r in sent(core)[0]["toolResponse"]["functionResponses"]] == ["b"]
    core.send_tool_result("a", "one", "late")
    assert sent(core) == []
    assert core.deadline() == 0.0
    assert [event.code for event in core.handle_timeout(2.0) if isinstance(event, WarningReported)] == [
        "tool_result_dropped"
    ]


def test_a_call_without_an_id_is_answered_by_name_without_one() -> None:
    core = opened(GeminiSettings(backend="vertex"), tools=(ToolSpec(name="one"),))
    call = feed(core, {"toolCall": {"functionCalls": [{"name": "one", "args": {"x": 1}}]}})[0]
    assert isinstance(call, ToolCall) and call.call_id == "" and call.arguments == {"x": 1}
    core.send_tool_result("", "one", "ok")
    assert sent(core)[0]["toolResponse"]["functionResponses"] == [{"name": "one", "response": {"output": "ok"}}]


def test_streamed_arguments_become_one_call() -> None:
    core = opened(GeminiSettings(backend="vertex"), tools=(ToolSpec(name="one"),))
    first = {"id": "a", "name": "one", "partialArgs": [{"jsonPath": "$.city", "stringValue": "Os"}]}
    pieces = [
        {"jsonPath": "$.city", "stringValue": "lo"},
        {"jsonPath": "$.days[1].n", "numberValue": 2},
        {"jsonPath": "$.now", "boolValue": True},
    ]
    assert feed(core, {"toolCall": {"functionCalls": [first | {"willContinue": True}]}}) == []
    call = feed(core, {"toolCall": {"functionCalls": [{"id": "a", "name": "one", "partialArgs": pieces}]}})[0]
    assert isinstance(call, ToolCall)
    assert call.arguments == {"city": "Oslo", "days": [None, {"n": 2}], "now": True}


@pytest.mark.parametrize("path", ["$.a[9999]", "$.a" + "[60]" * 100, "$.a[" + "9" * 5000 + "]"])
def test_a_short_path_cannot_ask_for_much_memory(path: str) -> None:
    core = opened(GeminiSettings(backend="vertex"), tools=(ToolSpec(name="one"),))
    piece = {"jsonPath": path, "stringValue": "x"}
    (call,) = feed(core, {"toolCall": {"functionCalls": [{"id": "a", "name": "one", "partialArgs": [piece]}]}})
    assert isinstance(call, ToolCall)
    assert len(json.dumps(call.arguments)) < 100


def test_a_call_that_comes_twice_is_made_and_answered_once() -> None:
    core = opened(tools=(ToolSpec(name="one", blocking=True), ToolSpec(name="two", blocking=True)))
    feed(core, BOTH_CALLS)
    events = feed(core, BOTH_CALLS)
    assert [event.code for event in events if isinstance(event, WarningReported)] == ["tool_call_repeated"] * 2
    assert len(events) == 2
    for call_id, name in (("a", "one"), ("b", "two")):
        core.send_tool_result(call_id, name, "ok")
    assert len(sent(core)) == 1
    (update,) = feed(core, {"sessionResumptionUpdate": {"newHandle": "h", "resumable": True}})
    assert isinstance(update, ResumptionUpdate) and not update.mid_turn


def test_calls_that_are_never_answered_are_given_up_one_by_one() -> None:
    core = opened(tools=(ToolSpec(name="one"),))
    for number in range(300):
        events = feed(core, {"toolCall": {"functionCalls": [{"id": f"c{number}", "name": "one"}]}})
        given_up = [event.code for event in events if isinstance(event, WarningReported)]
        assert given_up == (["tool_call_forgotten"] if number >= 256 else [])


def test_only_the_first_piece_of_a_streamed_call_need_say_whose_it_is() -> None:
    core = opened(GeminiSettings(backend="vertex"), tools=(ToolSpec(name="one"),))
    piece = {"partialArgs": [{"jsonPath": "$.city", "stringValue": "Oslo"}], "willContinue": True}
    for part in ({"id": "a", "name": "one", "willContinue": True}, piece):
        assert feed(core, {"toolCall": {"functionCalls": [part]}}) == []
    call = feed(core, {"toolCall": {"functionCalls": [{}]}})[0]
    assert isinstance(call, ToolCall)
    assert (call.call_id, call.name, call.arguments) == ("a", "one", {"city": "Oslo"})


def test_a_result_that_json_cannot_carry_leaves_the_call_open() -> None:
    core = opened(tools=(ToolSpec(name="one", blocking=True),))
    feed(core, {"toolCall": {"functionCalls": [{"id": "a", "name": "one"}]}})
    with pytest.raises(TypeError):
        core.send_tool_result("a", "one", {"when": object()})
    assert sent(core) == []
    core.send_tool_result("a", "one", "no usable result", error=True)
    (answer,) = sent(core)[0]["toolResponse"]["functionResponses"]
    assert answer["response"] == {"error": "no usable result"}


# ----------------------------------------------------------------------------------------------------------- commands


def test_respond_on_each_family() -> None:
    newer, older = opened(), opened(GeminiSettings(model="gemini-2.5-flash-native-audio-latest"))
    for core in (newer, older):
        core.respond()
    assert sent(newer) == [{"clientContent": {"turnComplete": True}}, {"realtimeInput": {"text": " "}}]
    dot = {"role": "user", "parts": [{"text": "."}]}
    assert sent(older) == [{"clientContent": {"turns": [dot], "turnComplete": True}}]


def test_a_typed_turn_is_asked_once_and_carries_the_last_image() -> None:
    core = opened()
    core.send_text("hello")
    core.send_image(b"jpg", "image/jpeg")
    core.send_text("what is it?")
    messages = sent(core)
    assert messages[0] == {"realtimeInput": {"text": "hello"}}
    image = {"mimeType": "image/jpeg", "data": base64.b64encode(b"jpg").decode()}
    assert messages[1] == {"realtimeInput": {"video": image}}
    assert messages[2]["clientContent"]["turns"][0]["parts"] == [{"inlineData": image}, {"text": "what is it?"}]
    assert messages[3] == {"realtimeInput": {"text": " "}}


def test_an_image_of_long_ago_is_not_repeated_and_a_note_never_carries_one() -> None:
    core = opened()
    core.send_image(b"jpg", "image/jpeg")
    core.send_text("a note", respond=False)
    for _ in range(310):
        core.encode_audio(bytes(640), PCM16_16K)
    core.send_text("what is it?")
    _, note, typed = sent(core)
    assert note["clientContent"]["turns"][0]["parts"] == [{"text": "a note"}]
    assert typed == {"realtimeInput": {"text": "what is it?"}}


def test_interrupt_asks_for_no_answer_and_does_nothing_when_idle() -> None:
    core = opened()
    core.interrupt(1.0)
    assert sent(core) == [] and core.deadline() is None
    feed(core, speech())
    core.interrupt(1.0)
    core.interrupt(1.1)
    assert sent(core) == [{"clientContent": {"turnComplete": False}}]
    feed(core, say(interrupted=True))
    assert core.deadline() is None


def test_an_interrupt_that_nobody_acknowledges_kills_the_reply_all_the_same() -> None:
    core = opened()
    feed(core, speech())
    core.interrupt(1.0)
    assert core.deadline() == 1.0 + INTERRUPT_ANSWER_S
    assert Interrupted(session=1, reply_id="1.1") in core.handle_timeout(1.0 + INTERRUPT_ANSWER_S)


def test_manual_turns_are_marked_and_interrupt_by_their_mark() -> None:
    core = opened(speech=SpeechSettings(turn_detection=TurnDetectionSettings(mode="manual")))
    core.start_activity()
    core.encode_audio(b"\0\0", PCM16_16K)
    core.end_input()
    core.end_activity()
    feed(core, speech())
    core.interrupt(1.0)
    core.start_activity()
    core.commit_input()
    assert [next(iter(message["realtimeInput"])) for message in sent(core)] == [
        "activityStart",
        "activityEnd",
        "activityStart",
        "activityEnd",
    ]


def test_muting_ends_the_stream_once_until_audio_flows_again() -> None:
    core = opened()
    core.end_input()
    core.encode_audio(b"\0\0", PCM16_16K)
    core.end_input()
    core.end_input()
    assert sent(core) == [{"realtimeInput": {"audioStreamEnd": True}}]
    core.start_activity()
    assert sent(core) == []


@pytest.mark.parametrize(("format", "rate"), [(PCM16_16K, 16000), (PCM16_24K, 24000)])
def test_audio_is_declared_with_its_rate(format: Any, rate: int) -> None:
    assert json.loads(opened().encode_audio(b"\x01\xff\x00\x80", format)) == {
        "realtimeInput": {
            "audio": {"mimeType": f"audio/pcm;rate={rate}", "data": base64.b64encode(b"\x01\xff\x00\x80").decode()}
        }
    }


def test_what_the_model_cannot_take_is_refused() -> None:
    core = opened()
    with pytest.raises(SettingRefused, match="pcm16"):
        core.encode_audio(b"", PCMU_8K)
    with pytest.raises(SettingRefused, match="image/jpeg"):
        core.send_image(b"", "image/tiff")


def test_update_in_place_where_documented_else_a_new_session() -> None:
    developer, vertex = opened(), opened(GeminiSettings(backend="vertex"))
    with pytest.raises(NeedsNewSession, match="instructions, tools"):
        developer.update(instructions="x", tools=())
    with pytest.raises(NeedsNewSession, match="voice"):
        vertex.update(instructions="x", voice="Puck")
    assert sent(vertex) == []
    vertex.update(instructions="be brief", tools=())
    instruction = {"role": "user", "parts": [{"text": "be brief"}]}
    assert sent(vertex) == [{"contextUpdate": {"systemInstruction": instruction, "tools": {"tools": []}}}]


def test_a_system_turn_replaces_instructions_on_vertex() -> None:
    core = opened(GeminiSettings(backend="vertex", update_by="system_turn"))
    core.update(instructions="be brief")
    turn = {"role": "system", "parts": [{"text": "be brief"}]}
    assert sent(core) == [{"clientContent": {"turns": [turn], "turnComplete": False}}]
    with pytest.raises(NeedsNewSession):
        core.update(tools=())


def test_an_update_with_a_tool_that_the_service_would_refuse_changes_nothing() -> None:
    core = opened(GeminiSettings(backend="vertex"))
    with pytest.raises(SettingRefused, match=r"speech\.tools\.1x\.name"):
        core.update(instructions="be brief", tools=(ToolSpec(name="1x"),))
    assert sent(core) == []


def test_what_a_user_typed_is_in_no_error() -> None:
    core = opened(GeminiSettings(model="gemini-3.5-transcribe-live"), SpeechSettings(modality="text"))
    with pytest.raises(SettingRefused) as refused:
        core.send_text("my card number")
    assert "card" not in str(refused.value)


def test_a_call_of_no_function_is_reported_and_not_run() -> None:
    (warning,) = feed(opened(), {"toolCall": {"functionCalls": [{"id": "c"}]}})
    assert isinstance(warning, WarningReported)


def test_half_a_sample_is_no_speech() -> None:
    (warning,) = feed(opened(), speech(b"\x01"))
    assert isinstance(warning, WarningReported)


def test_oddities_of_a_server_are_warned_of_within_bounds() -> None:
    core = opened()
    told = [event for number in range(200) for event in feed(core, {f"{number}{'x' * 500}": 1})]
    assert len(told) == 64
    assert all(isinstance(event, WarningReported) and len(event.message) < 200 for event in told)


# ------------------------------------------------------------------------------------------------------------ session


def test_a_handle_issued_while_a_turn_runs_is_marked() -> None:
    core = opened()
    update = {"sessionResumptionUpdate": {"newHandle": "h", "resumable": True, "lastConsumedClientMessageIndex": "12"}}
    idle = ResumptionUpdate(session=1, handle="h", resumable=True, last_consumed_index=12)
    assert feed(core, update) == [idle]
    busy = feed(core, speech(), update)[-1]
    assert isinstance(busy, ResumptionUpdate) and busy.mid_turn


def test_a_handle_that_is_not_resumable_is_not_handed_on() -> None:
    update = {"sessionResumptionUpdate": {"newHandle": "h", "resumable": False}}
    assert feed(opened(), update) == [ResumptionUpdate(session=1)]


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (1000, "", ProviderUnavailable),
        (1006, "", ProviderUnavailable),
        (1007, "Request contains an invalid argument.", ProviderRejected),
        (1007, "API key not valid. Please pass a valid API key.", ProviderRejected),
        (1008, "models/x is not found for API version v1beta, or is not supported", ProviderRejected),
        (1008, "Operation is not implemented, or supported, or enabled.", ProviderUnavailable),
        (1011, "Internal error encountered.", ProviderUnavailable),
        (1011, "You exceeded your current quota, please check your plan", ProviderRejected),
        (1011, "Deadline expired before operation could complete.", ProviderUnavailable),
    ],
)
def test_the_close_tells_retry_from_give_up(code: int, reason: str, kind: type[Exception]) -> None:
    closed = opened().connection_closed(code, reason, 1.0)[-1]
    assert isinstance(closed, Closed) and (closed.code, closed.reason) == (code, reason)
    assert type(closed.error) is kind and str(code) in str(closed.error) and reason in str(closed.error)


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (1007, "Request contains an invalid argument.", ResumeRefused),
        (1008, "Requested entity was not found", ResumeRefused),
        (1007, "API key not valid. Please pass a valid API key.", ProviderRejected),
        (1011, "Internal error encountered.", ResumeTooSoon),
        (1011, "You exceeded your current quota, please check your plan and billing details.", ProviderRejected),
        (1006, "", ProviderUnavailable),
    ],
)
def test_a_resume_that_fails_tells_the_handle_from_the_rest(code: int, reason: str, kind: type[Exception]) -> None:
    closed = opened(ready=False, resume="h").connection_closed(code, reason, 1.0)[-1]
    assert isinstance(closed, Closed) and type(closed.error) is kind


def test_an_invalid_argument_in_mid_call_is_worth_a_resume() -> None:
    core = opened()
    feed(core, speech(), say(generationComplete=True), say(turnComplete=True))
    closed = core.connection_closed(1007, "Request contains an invalid argument.", 2.0)[-1]
    assert isinstance(closed, Closed) and type(closed.error) is ProviderUnavailable


def test_a_history_that_is_too_long_is_cut_and_told() -> None:
    long = tuple(HistoryItem(role="user", text=f"{number} ".ljust(1000, "x")) for number in range(100))
    core = opened(ready=False, history=(*long, HistoryItem(role="assistant", text="")))
    sent(core)
    warned = [event for event in feed(core, {"setupComplete": {}}) if isinstance(event, WarningReported)]
    assert [warning.code for warning in warned] == ["history_cut"]
    (turn,) = sent(core)[0]["clientContent"]["turns"]
    assert len(turn["parts"][0]["text"]) <= core.capabilities.seed_chars
    assert turn["parts"][0]["text"].endswith(long[-1].text)


@pytest.mark.parametrize(
    ("messages", "speaking"),
    [
        ([say(outputTranscription={"text": "We"})], False),
        ([say(modelTurn={"parts": [{"text": "hm", "thought": True}]})], False),
        ([speech()], True),
        ([speech()] * 5, True),
        ([speech(), say(modelTurn={"parts": [{"text": "hm", "thought": True}]})], False),
        ([speech(), {"toolCall": {"functionCalls": [{"id": "1", "name": "f", "args": {}}]}}], False),
        ([speech(), say(generationComplete=True)], False),
        ([speech(), say(interrupted=True)], False),
        ([speech(), say(interrupted=True), speech()], False),
        ([speech(), say(interrupted=True), say(turnComplete=True), speech()], True),
        ([speech(), say(turnComplete=True)], False),
    ],
)
def test_silence_is_suspicious_only_between_two_pieces_of_speech(messages: list[Any], speaking: bool) -> None:
    core = opened()
    feed(core, *messages)
    assert core.speaking is speaking


# --------------------------------------------------------------------------------------------------------- robustness

_names = st.sampled_from(
    "serverContent modelTurn parts inlineData data text toolCall functionCalls id name args goAway timeLeft "
    "usageMetadata promptTokenCount interrupted turnComplete error toolCallCancellation ids setupComplete "
    "sessionResumptionUpdate newHandle partialArgs jsonPath outputTranscription inputTranscription voiceActivity "
    "type audioOffset mimeType".split()
)
_leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | _names
_json = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.binary(max_size=60) | _json.map(lambda value: json.dumps(value).encode()), max_size=6))
def test_nothing_that_a_server_sends_raises(messages: list[bytes]) -> None:
    core = opened()
    for index, message in enumerate(messages):
        core.receive(message, float(index))
        core.handle_timeout(float(index))


def test_an_endless_offset_is_no_offset() -> None:
    (event,) = feed(opened(), {"voiceActivity": {"type": "ACTIVITY_START", "audioOffset": "1e308s"}})
    assert event == UserSpeechStarted(session=1)


def test_an_unknown_name_that_is_no_text_is_reported() -> None:
    (event,) = opened().receive(b'{"\xff": 1}', 1.0)
    assert isinstance(event, WarningReported) and event.code == "unknown_message"


def test_deep_nesting_is_reported() -> None:
    events = opened().receive(b'{"toolCall":' + b"[" * 100_000, 1.0)
    assert [event.code for event in events if isinstance(event, WarningReported)] == ["malformed_message"]


def test_a_message_of_an_unknown_kind_is_reported_once() -> None:
    core = opened()
    (event,) = feed(core, {"somethingNew": {}})
    assert isinstance(event, WarningReported) and event.code == "unknown_message" and "somethingNew" in event.message
    assert feed(core, {"somethingNew": {}}) == []


# ------------------------------------------------------------------------------------------------------------- the cost


def test_speech_leaves_no_cyclic_garbage() -> None:
    core = opened()
    message = json.dumps(speech()).encode()
    core.receive(message, 1.0)
    gc.collect()
    gc.disable()
    try:
        for _ in range(200):
            core.receive(message, 1.0)
            core.encode_audio(SPEECH, PCM16_16K)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_importing_the_model_loads_no_google_library() -> None:
    code = "import sys, providers.gemini.model; print([m for m in sys.modules if m.split('.')[0] == 'google'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
