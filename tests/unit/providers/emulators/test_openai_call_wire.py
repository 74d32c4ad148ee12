"""A call in OpenAI's words, without a network: the time and what has been sent are arguments."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from providers.emulators.openai_call_wire import OpenAICallWire, OpenAISidebandWire
from providers.emulators.wire import CallOffer, Hush, Outgoing, Output, Sound, Strike, UpgradeRequest
from providers.scripted.faults import Stall, TimedFault
from providers.scripted.scenario import Call, Pace, Scenario, ServerVad, Session, Text, Tone, TurnScript
from tests.fakes.openai_call import voice
from tests.fakes.openai_types import check_server_frame

SPEECH, QUIET = voice(600).tobytes(), bytes(960)
VAD = ServerVad(silence_ms=200)
LONG = Tone(duration_ms=4000, transcript="one two three four five six seven eight")


class Script:
    """Plays the carrier and the clock: frames of 20 ms come in, what is played goes out in real time."""

    def __init__(self, scenario: Scenario, calls: dict[str, OpenAICallWire] | None = None, **session: Any) -> None:
        self.now = 100.0
        self.events: list[dict[str, Any]] = []
        self.silent_from: list[float] = []
        self.sounds: list[tuple[float, bytes]] = []
        self.strikes: list[tuple[TimedFault, float]] = []
        self.given_ms = self.sent_ms = 0.0
        offer = CallOffer("v=0", {"type": "realtime", "model": "gpt-realtime-2.1", **session})
        request = UpgradeRequest("/v1/realtime/calls", {}, {}, False, offer)
        self.wire = OpenAICallWire(scenario, request, 1, calls=calls)
        self.wire.played_ms = lambda now: self.sent_ms
        self._take(self.wire.opened(self.now))
        self._catch_up()

    def _take(self, output: list[Output]) -> None:
        for each in output:
            match each:
                case Outgoing():
                    self.events.append(check_server_frame(each.data))
                case Sound():
                    self.given_ms += len(each.pcm) / 48
                    self.sounds.append((self.now, each.pcm))
                case Strike():
                    self.strikes.append((each.fault, self.sent_ms))
                case Hush():
                    self.sent_ms = self.given_ms
                    self.silent_from.append(self.now)

    def _catch_up(self) -> None:
        while (deadline := self.wire.deadline()) is not None and deadline <= self.now:
            self._take(self.wire.handle_timeout(self.now))

    def hears(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), 960):
            self._step()
            self._take(self.wire.listened(pcm[start : start + 960].ljust(960, b"\0"), self.now))
            self._catch_up()

    def passes(self, ms: int) -> None:
        """Nobody speaks, and the microphone goes on."""
        self.hears(QUIET * (ms // 20))

    def _step(self) -> None:
        for _ in range(4):
            self.now += 0.005
            self.sent_ms = min(self.given_ms, self.sent_ms + 5)
            self._catch_up()

    def sends(self, kind: str, **fields: Any) -> None:
        self._take(self.wire.received(json.dumps({"type": kind, **fields}), self.now))
        self._catch_up()

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    def newest(self, kind: str) -> dict[str, Any]:
        return next(event for event in reversed(self.events) if event["type"] == kind)

    def is_answered(self) -> None:
        """A user's turn, up to the first sound of the answer."""
        self.hears(SPEECH)
        self.passes(400)
        assert self.types()[-1] != "error" and "output_audio_buffer.started" in self.types()


def answering(speed: float, answer: Any = LONG, **more: Any) -> Scenario:
    return Scenario(pace=Pace(speed=speed, latency_ms=10), vad=VAD, answer=answer, **more)


def test_speech_is_played_in_real_time_and_told_of_in_order() -> None:
    script = Script(answering(50.0))
    script.is_answered()
    done_at = len(script.events)
    assert script.types()[-1] == "response.done" and "response.output_audio.delta" not in script.types()
    assert script.types().index("response.content_part.added") < script.types().index("output_audio_buffer.started")
    script.passes(3000)
    assert script.types()[done_at:] == []
    script.passes(1000)
    assert script.types()[done_at:] == ["output_audio_buffer.stopped"]
    started, stopped = script.newest("output_audio_buffer.started"), script.newest("output_audio_buffer.stopped")
    assert started["response_id"] == stopped["response_id"] == script.newest("response.done")["response"]["id"]
    assert script.given_ms == 4000
    assert script.wire.conversation.items[-1].believed_heard_ms == 4000


def test_a_voice_cuts_the_reply_that_is_generated_and_the_service_knows_what_was_heard() -> None:
    script = Script(answering(1.2))
    script.is_answered()
    before = len(script.events)
    heard_ms = script.sent_ms
    script.hears(SPEECH)
    kinds = [kind for kind in script.types()[before:] if not kind.endswith(".delta")]
    assert kinds == [
        "input_audio_buffer.speech_started",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
        "output_audio_buffer.cleared",
        "conversation.item.truncated",
    ]
    assert script.newest("response.done")["response"]["status_details"]["reason"] == "turn_detected"
    cut = script.newest("conversation.item.truncated")
    assert heard_ms <= cut["audio_end_ms"] <= heard_ms + 100
    item = script.wire.conversation.find(cut["item_id"])
    assert item is not None and item.believed_heard_ms == cut["audio_end_ms"]
    assert item.body["content"] == [{"type": "output_audio"}]
    line = script.wire.mind.memory.line("assistant", 1)
    assert line is not None and line.heard_ms == cut["audio_end_ms"]
    sounds = len(script.sounds)
    assert len(script.silent_from) == 1
    script.passes(100)
    assert len(script.sounds) == sounds


def test_a_voice_cuts_the_playback_of_a_reply_that_was_complete() -> None:
    script = Script(answering(50.0))
    script.is_answered()
    script.passes(1000)
    before, heard_ms = len(script.events), script.sent_ms
    script.hears(SPEECH[:9600])
    assert script.types()[before:] == [
        "input_audio_buffer.speech_started",
        "output_audio_buffer.cleared",
        "conversation.item.truncated",
    ]
    assert heard_ms <= script.newest("conversation.item.truncated")["audio_end_ms"] <= heard_ms + 100
    line = script.wire.mind.memory.line("assistant", 1)
    assert line is not None and line.heard_ms is not None and line.text == "one two three"[: len(line.text)]


def test_where_a_voice_may_not_interrupt_the_reply_plays_on() -> None:
    detection = {"type": "server_vad", "interrupt_response": False, "silence_duration_ms": 200}
    script = Script(answering(50.0), audio={"input": {"turn_detection": detection}})
    script.is_answered()
    script.hears(SPEECH)
    assert "output_audio_buffer.cleared" not in script.types() and script.silent_from == []


def test_a_cancelled_response_plays_out_unless_the_buffer_is_cleared() -> None:
    script = Script(answering(2.0))
    script.is_answered()
    before = len(script.events)
    script.sends("response.cancel")
    assert script.types()[-1] == "response.done" and script.silent_from == []
    script.passes(200)
    assert "output_audio_buffer.stopped" not in script.types()
    script.sends("output_audio_buffer.clear")
    assert script.types()[-2:] == ["output_audio_buffer.cleared", "conversation.item.truncated"]
    assert (
        script.newest("output_audio_buffer.cleared")["response_id"]
        == script.newest("response.created")["response"]["id"]
    )
    assert len(script.silent_from) == 1
    script.sends("output_audio_buffer.clear")
    assert "error" not in script.types()[before:] and len(script.silent_from) == 1, "nothing is left to clear"
    script.passes(2000)
    assert "output_audio_buffer.stopped" not in script.types()


def test_the_session_of_the_request_is_the_first_one() -> None:
    script = Script(Scenario(), instructions="be brief", audio={"output": {"voice": "cedar"}})
    assert script.types() == ["session.created"]
    session = script.events[0]["session"]
    assert (session["instructions"], session["audio"]["output"]["voice"]) == ("be brief", "cedar")
    assert (
        session["model"] == "gpt-realtime-2.1" and session["audio"]["input"]["turn_detection"]["type"] == "server_vad"
    )


GREETED = Scenario(session=Session(setup_delay_ms=300), greeting=Text(text="Hello"))


def test_a_request_that_sets_the_session_up_is_taken_in_before_it_is_created() -> None:
    script = Script(GREETED, instructions="at once")
    script.sends("session.update", session={"type": "realtime", "instructions": "later"})
    assert script.types() == []
    script.passes(400)
    assert script.types()[:3] == ["session.created", "response.created", "rate_limits.updated"]
    assert script.events[0]["session"]["instructions"] == "at once"
    assert script.newest("session.updated")["session"]["instructions"] == "later"


def test_a_request_that_only_names_the_model_is_set_up_by_the_first_event() -> None:
    script = Script(GREETED)
    script.passes(1000)
    assert script.types() == ["session.created"]
    script.sends("session.update", session={"type": "realtime", "instructions": "now"})
    assert script.types() == ["session.created"]
    script.passes(400)
    assert script.types()[:3] == ["session.created", "session.updated", "response.created"]


def test_appended_audio_mixes_and_is_counted() -> None:
    script = Script(Scenario())
    script.sends("input_audio_buffer.append", audio="AAAA")
    assert script.wire.appends == 1 and "error" not in script.types()


def test_a_written_response_and_a_tool_call_have_no_playback() -> None:
    calls = (Call(name="weather"),)
    script = Script(answering(50.0, turns=(TurnScript(turn=1, calls=calls),)))
    script.hears(SPEECH)
    script.passes(500)
    assert script.newest("response.done")["response"]["output"][0]["type"] == "function_call"
    written = Script(answering(50.0, Text(text="Hi.")), output_modalities=["text"])
    written.hears(SPEECH)
    written.passes(500)
    assert "response.output_text.done" in written.types()
    for each in (script, written):
        assert not [kind for kind in each.types() if kind.startswith("output_audio_buffer")]


def test_the_silence_of_the_user_counts_from_the_end_of_playback() -> None:
    detection = {"type": "server_vad", "idle_timeout_ms": 500, "silence_duration_ms": 200}
    script = Script(answering(50.0, Tone(duration_ms=2000)), audio={"input": {"turn_detection": detection}})
    script.is_answered()
    script.passes(2000)
    assert "input_audio_buffer.timeout_triggered" not in script.types()
    script.passes(600)
    assert script.types().index("output_audio_buffer.stopped") < script.types().index(
        "input_audio_buffer.timeout_triggered"
    )


@pytest.mark.parametrize("speed", [1.2, 50.0])
def test_late_speech_of_a_cut_reply_is_not_heard(speed: float) -> None:
    script = Script(answering(speed, late_chunks=3))
    script.is_answered()
    script.hears(SPEECH[:9600])
    sounds = len(script.sounds)
    script.passes(100)
    assert len(script.sounds) == sounds and script.types().count("output_audio_buffer.cleared") == 1


def test_both_messages_of_a_reply_are_cut_where_the_playback_was() -> None:
    request = UpgradeRequest("", {}, {}, False, CallOffer("v=0", {"type": "realtime", "model": "gpt-realtime-2.1"}))
    script = Script(answering(50.0))
    script.wire = OpenAICallWire(script.wire.scenario, request, 1, split_ms=500)
    script.wire.played_ms = lambda now: script.sent_ms
    script.hears(b"")
    script._take(script.wire.opened(script.now))
    script.is_answered()
    assert script.sent_ms < 400
    script.hears(SPEECH[:9600])
    cuts = [event["audio_end_ms"] for event in script.events if event["type"] == "conversation.item.truncated"]
    assert len(cuts) == 2 and 0 < cuts[0] < 520 and cuts[1] == 0
    line = script.wire.mind.memory.line("assistant", 1)
    assert line is not None and line.heard_ms == cuts[0]


def test_whoever_joins_is_introduced_and_speaks_for_the_call() -> None:
    calls: dict[str, OpenAICallWire] = {}
    script = Script(Scenario(), calls)
    assert calls == {script.wire.call_id: script.wire}
    delivered: list[str | bytes] = []
    side = OpenAISidebandWire(script.wire, UpgradeRequest("/v1/realtime", {}, {}, False), delivered.append)
    [first] = side.opened(script.now)
    assert isinstance(first, Outgoing) and check_server_frame(first.data)["type"] == "session.created"
    assert side.received("{}", script.now) == [] and delivered == ["{}"]
    assert side.brain is None and side.joins
    script.wire.closed(1000, "", script.now)
    assert calls == {}


def test_sound_before_the_session_is_there_is_not_heard() -> None:
    script = Script(Scenario(session=Session(setup_delay_ms=300)), instructions="be brief")
    script.hears(SPEECH[:4800])
    assert script.wire.mind.hearing.now_ms == 0
    script.passes(300)
    script.hears(np.zeros(480, np.int16).tobytes())
    assert script.wire.mind.hearing.now_ms > 0


@pytest.mark.parametrize("speed", [1.0, 50.0])
def test_a_fault_in_mid_word_strikes_when_so_much_was_heard(speed: float) -> None:
    fault = Stall(reply=1, speech_ms=800)
    script = Script(answering(speed, faults=(fault,)))
    script.is_answered()
    assert script.strikes == []
    script.passes(1200)
    [(struck, heard_ms)] = script.strikes
    assert struck == fault and 800 <= heard_ms <= 840


def test_a_fault_in_mid_word_strikes_at_once_if_the_word_is_cut() -> None:
    script = Script(answering(50.0, faults=(Stall(reply=1, speech_ms=3000),)))
    script.is_answered()
    script.sends("output_audio_buffer.clear")
    assert len(script.strikes) == 1 and script.types()[-1] == "conversation.item.truncated"
