from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from providers.contract import (
    Closed,
    GenerationComplete,
    Interrupted,
    ReplyStarted,
    SessionEvent,
    SessionReady,
    SpeechChunk,
    Truncation,
    TurnComplete,
    UserSpeechStarted,
    WarningReported,
)
from providers.errors import NeedsNewSession, ProviderUnavailable, SettingRefused
from providers.openai.call_protocol import OpenAICallProtocol
from providers.openai.settings import OpenAISettings
from providers.openai.setup import MAX_CALL_MESSAGE_BYTES, capabilities_of
from providers.settings import SpeechSettings
from providers.signal.formats import PCM16_16K, PCM16_24K
from tests.fakes.openai_types import check_client_frame
from tests.unit.providers.openai.calls import MANUAL, NO_INTERRUPT, pcm

QUIET = bytes(960)
LOUD = np.full(480, 3000, dtype="<i2").tobytes()


class WebRtcCall:
    """A protocol core and the service's side of its call: events, and the track. Our frames are checked by the SDK."""

    def __init__(self, speech: SpeechSettings | None = None, **options: Any) -> None:
        speech, own = speech or SpeechSettings(), OpenAISettings(transport="webrtc")
        self.core = OpenAICallProtocol(1, speech, own, capabilities_of(speech, own, {}), **options)
        self.now = 100.0
        self.core.start(self.now)
        self.setup = self.sent()
        self.says("session.created", session={"id": "sess_1"})
        self.ready = self.says("session.updated", session={"id": "sess_1"})

    def says(self, kind: str, **fields: Any) -> list[SessionEvent]:
        return self.core.receive(json.dumps({"type": kind, "event_id": "event_1", **fields}), self.now)

    def sent(self) -> list[dict[str, Any]]:
        frames = [check_client_frame(frame) for frame in self.core.outgoing()]
        return [{key: value for key, value in frame.items() if key != "event_id"} for frame in frames]

    def sent_types(self) -> list[str]:
        return [frame["type"] for frame in self.sent()]

    def plays(self, frame: bytes, count: int = 1) -> list[SessionEvent]:
        events: list[SessionEvent] = []
        for _ in range(count):
            events += self.passes(0.02)
            events += self.core.receive_audio(frame, self.now)
        return events

    def passes(self, seconds: float) -> list[SessionEvent]:
        self.now += seconds
        due = self.core.deadline()
        return self.core.handle_timeout(self.now) if due is not None and due <= self.now else []

    def begins(self, reply: str = "r1") -> list[SessionEvent]:
        events = self.says("response.created", response={"id": reply, "status": "in_progress", "output": []})
        ids = {"response_id": reply, "item_id": f"item_{reply}", "output_index": 0, "content_index": 0}
        events += self.says("response.content_part.added", **ids, part={"type": "audio"})
        return events + self.says("output_audio_buffer.started", response_id=reply)

    def ends(self, reply: str = "r1", status: str = "completed") -> list[SessionEvent]:
        return self.says("response.done", response={"id": reply, "status": status, "output": []})


def kinds(events: list[SessionEvent]) -> list[type]:
    return [type(event) for event in events]


def test_the_setup_is_that_of_a_websocket_without_what_the_call_itself_says() -> None:
    call = WebRtcCall()
    (update,) = call.setup
    assert update["type"] == "session.update"
    assert "format" not in update["session"]["audio"]["input"] and "format" not in update["session"]["audio"]["output"]
    assert kinds(call.ready) == [SessionReady]
    assert call.core.capabilities.truncation is Truncation.SERVER


def test_microphone_audio_is_passed_on_as_it_is_and_never_a_message() -> None:
    call = WebRtcCall()
    assert call.core.encode_audio(pcm(20), PCM16_24K) == pcm(20)
    with pytest.raises(SettingRefused):
        call.core.encode_audio(pcm(20), PCM16_16K)
    call.core.end_input()
    assert call.sent() == []


def test_a_spoken_reply_ends_when_it_has_been_played_and_the_next_request_need_not_wait() -> None:
    call = WebRtcCall()
    assert kinds(call.begins()) == [ReplyStarted]
    assert kinds(call.plays(LOUD, 5)) == [SpeechChunk] * 5
    assert call.ends() == []
    call.core.respond()
    assert call.sent_types() == ["response.create"], "the conversation is free at response.done"
    call.plays(LOUD, 3)
    assert call.says("output_audio_buffer.stopped", response_id="r1") == []
    assert kinds(call.plays(QUIET, 10)) == [GenerationComplete, TurnComplete]


def test_speech_of_the_user_is_an_interruption_as_long_as_the_reply_sounds() -> None:
    call = WebRtcCall()
    call.begins()
    call.plays(LOUD, 5)
    call.ends()
    call.plays(LOUD, 400)  # generated long ago, and still being played
    events = call.says("input_audio_buffer.speech_started", audio_start_ms=5, item_id="u")
    assert kinds(events) == [UserSpeechStarted, Interrupted, TurnComplete]
    assert call.plays(LOUD, 5) == []
    assert call.says("output_audio_buffer.cleared", response_id="r1") == []


def test_speech_of_the_user_cuts_nothing_where_he_may_not() -> None:
    call = WebRtcCall(NO_INTERRUPT)
    call.begins()
    call.plays(LOUD, 5)
    assert kinds(call.says("input_audio_buffer.speech_started", audio_start_ms=5, item_id="u")) == [UserSpeechStarted]
    assert kinds(call.plays(LOUD, 2)) == [SpeechChunk] * 2


def test_interrupt_cancels_and_empties_the_servers_queue() -> None:
    call = WebRtcCall()
    call.begins()
    call.plays(LOUD, 5)
    call.core.interrupt(call.now)
    assert call.sent_types() == ["response.cancel", "output_audio_buffer.clear"]
    assert call.plays(LOUD, 2) == []
    assert kinds(call.ends(status="cancelled")) == [Interrupted, TurnComplete]
    call.core.interrupt(call.now)
    assert call.sent() == [], "nothing is there to stop"


def test_interrupt_stops_a_reply_that_is_generated_and_still_plays() -> None:
    call = WebRtcCall()
    call.begins()
    call.plays(LOUD, 5)
    call.ends()
    call.core.interrupt(call.now)
    assert call.sent_types() == ["output_audio_buffer.clear"]
    events = call.says("output_audio_buffer.cleared", response_id="r1")
    assert [(type(e), e.reason) for e in events if isinstance(e, TurnComplete)] == [(TurnComplete, "interrupted")]
    assert kinds(events)[0] is Interrupted


def test_nothing_is_truncated_by_us() -> None:
    call = WebRtcCall()
    call.begins()
    call.plays(LOUD, 5)
    call.core.truncate("r1", 40)
    assert call.sent() == []


def test_a_commit_waits_until_the_speech_before_it_has_arrived() -> None:
    call = WebRtcCall(MANUAL)
    call.plays(QUIET)
    for _ in range(50):
        call.core.encode_audio(pcm(20), PCM16_24K)
    call.core.end_activity()
    call.passes(1.0)
    assert call.sent() == []
    call.passes(0.2)
    assert call.sent_types() == ["input_audio_buffer.commit", "response.create"]


def test_a_commit_of_nothing_is_refused_as_ever() -> None:
    call = WebRtcCall(MANUAL)
    call.core.commit_input()
    (warning,) = call.passes(0.1)
    assert isinstance(warning, WarningReported) and warning.code == "input_audio_buffer_commit_empty"


def test_a_clear_goes_at_once_and_takes_the_commit_with_it() -> None:
    call = WebRtcCall(MANUAL)
    call.core.encode_audio(pcm(500), PCM16_24K)
    call.core.commit_input()
    call.core.clear_input()
    assert call.sent_types() == ["input_audio_buffer.clear"]
    call.passes(2.0)
    assert call.sent() == []


def test_what_does_not_fit_into_a_message_is_refused_with_the_mend() -> None:
    call = WebRtcCall()
    with pytest.raises(SettingRefused, match="sideband"):
        call.core.send_image(bytes(200_000), "image/jpeg")
    with pytest.raises(SettingRefused, match="sideband"):
        call.core.send_text("x" * 300_000)
    assert call.sent() == []
    free = WebRtcCall(max_message_bytes=None)
    free.core.send_image(bytes(200_000), "image/jpeg")
    assert free.sent_types() == ["conversation.item.create"]


def test_the_largest_image_that_the_capabilities_name_fits_into_a_message() -> None:
    call = WebRtcCall()
    largest = call.core.capabilities.max_image_bytes
    assert largest is not None
    call.core.send_image(bytes(largest), "image/jpeg")
    [frame] = call.core.outgoing()
    assert 260_000 < len(frame) <= MAX_CALL_MESSAGE_BYTES


def test_a_result_that_does_not_fit_is_answered_all_the_same() -> None:
    call = WebRtcCall()
    call.core.send_tool_result("c", "read_file", "x" * 300_000, respond=False)
    (item,) = call.sent()
    assert "too long" in item["item"]["output"]
    (warning,) = call.passes(0.1)
    assert isinstance(warning, WarningReported) and "read_file" in warning.message


def test_a_voice_that_was_heard_cannot_be_changed() -> None:
    call = WebRtcCall()
    call.core.update(voice="marin")
    call.begins()
    call.plays(LOUD, 2)
    with pytest.raises(NeedsNewSession):
        call.core.update(voice="cedar")


def test_audio_in_a_message_is_not_heard_twice() -> None:
    call = WebRtcCall()
    call.begins()
    assert call.says("response.output_audio.delta", response_id="r1", item_id="i", output_index=0, delta="AAAA") == []


def test_a_reply_of_which_only_the_start_of_its_speech_was_told_is_announced() -> None:
    call = WebRtcCall()
    call.says("output_audio_buffer.started", response_id="r9")
    assert kinds(call.plays(LOUD)) == [SpeechChunk]


def test_speaking_means_that_speech_is_owed() -> None:
    call = WebRtcCall()
    seen = [call.core.speaking]
    call.begins()
    call.plays(LOUD)
    seen.append(call.core.speaking)
    at = call.core.sounded_at
    call.plays(QUIET, 50)
    seen.append(call.core.speaking)
    assert call.core.sounded_at == at, "silence is no sign of life"
    call.says("output_audio_buffer.stopped", response_id="r1")
    assert [*seen, call.core.speaking] == [False, True, True, False]


def test_a_server_that_tells_neither_start_nor_stop_of_its_audio_is_warned_of_once() -> None:
    call = WebRtcCall()
    events: list[SessionEvent] = []
    for reply in ("r1", "r2"):
        events += call.says("response.created", response={"id": reply, "status": "in_progress", "output": []})
        ids = {"response_id": reply, "item_id": f"item_{reply}", "output_index": 0, "content_index": 0}
        events += call.says("response.content_part.added", **ids, part={"type": "audio"})
        events += call.plays(LOUD, 30)
        events += call.ends(reply)
        events += call.plays(QUIET, 60)
    assert kinds(events).count(TurnComplete) == 2
    warned = [event.code for event in events if isinstance(event, WarningReported)]
    assert warned == ["audio_not_started", "audio_not_stopped"]


def test_a_model_that_speaks_while_no_message_comes_has_lost_its_data_channel() -> None:
    call = WebRtcCall()
    events = call.plays(LOUD, 120)
    (closed,) = events
    assert isinstance(closed, Closed) and isinstance(closed.error, ProviderUnavailable)
    assert call.plays(LOUD, 10) == []


def test_a_request_that_leads_to_nothing_at_all_shows_a_dead_data_channel() -> None:
    call = WebRtcCall()
    call.core.respond()
    call.sent()
    events = call.passes(10.1)
    assert kinds(events) == [WarningReported, Closed]


def test_a_request_that_is_only_ignored_does_not() -> None:
    call = WebRtcCall()
    call.core.respond()
    call.now += 5
    call.says("rate_limits.updated", rate_limits=[])
    assert kinds(call.passes(5.1)) == [WarningReported]


def test_what_became_of_the_received_speech_is_told_once_when_the_session_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="providers.openai.call_protocol")
    call = WebRtcCall()
    call.begins()
    call.plays(LOUD, 2)
    call.says("output_audio_buffer.cleared", response_id="r1")
    call.plays(LOUD, 3)
    assert not caplog.records
    for _ in range(2):
        call.core.connection_closed(1000, "", call.now)
    assert [record.getMessage() for record in caplog.records] == [
        "speech of a call's track session=1 dropped_frames=3 untold_starts=0 unstopped=0"
    ]


def test_of_a_session_that_lost_no_speech_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="providers.openai.call_protocol")
    call = WebRtcCall()
    call.begins()
    call.plays(LOUD, 2)
    call.core.connection_closed(1000, "", call.now)
    assert not caplog.records


def test_a_session_that_ends_itself_tells_what_became_of_the_received_speech(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="providers.openai.call_protocol")
    call = WebRtcCall()
    call.plays(LOUD, 120)  # nobody claims it: the data channel is dead
    assert [record.getMessage().split("session=1 ")[1] for record in caplog.records] == [
        "dropped_frames=90 untold_starts=0 unstopped=0"
    ]
