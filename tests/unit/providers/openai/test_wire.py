from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from openai.types.realtime import RealtimeServerEvent

from providers.openai import wire

LISTED = sorted(
    get_args(member.model_fields["type"].annotation)[0] for member in get_args(get_args(RealtimeServerEvent)[0])
)

BETA = {
    "conversation.item.created": wire.ItemAdded,
    "response.text.delta": wire.OutputTextDelta,
    "response.text.done": wire.OutputTextDone,
    "response.audio_transcript.delta": wire.OutputTranscriptDelta,
    "response.audio_transcript.done": wire.OutputTranscriptDone,
    "response.audio.delta": wire.OutputAudioDelta,
    "response.audio.done": wire.OutputAudioDone,
}


@pytest.mark.parametrize("kind", LISTED)
def test_every_server_event_of_the_sdk_is_known(kind: str) -> None:
    assert not isinstance(wire.decode(json.dumps({"type": kind})), wire.Unknown | wire.Malformed)


@pytest.mark.parametrize(("old", "new"), BETA.items())
def test_a_beta_name_is_read_as_its_ga_event(old: str, new: type) -> None:
    assert isinstance(wire.decode(json.dumps({"type": old})), new)


def test_an_unknown_event_keeps_its_type_and_harms_nobody() -> None:
    assert wire.decode('{"type":"response.dance","x":1}') == wire.Unknown(type="response.dance")


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "null",
        "[]",
        "7",
        '"response.done"',
        "{}",
        '{"type":7}',
        b"\xff\xfe",
        '{"type":"response.done","response":7}',
        '{"type":"response.output_audio.delta","delta":{}}',
        "[" * 5000,
    ],
)
def test_what_is_no_event_comes_back_as_malformed(frame: str | bytes) -> None:
    assert isinstance(wire.decode(frame), wire.Malformed)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.output_audio.delta", "response_id": "r", "item_id": None, "delta": "AAAA"},
        {"type": "response.done", "response": {"id": "r", "output": [None], "usage": None, "status": None}},
        {"type": "conversation.item.added", "item": {"id": "i", "call_id": None, "name": None}},
    ],
)
def test_null_in_place_of_an_absent_field_is_read_as_absent(event: dict[str, Any]) -> None:
    assert not isinstance(wire.decode(json.dumps(event)), wire.Unknown | wire.Malformed)


def test_a_null_conversation_is_told_from_an_absent_one() -> None:
    outside = wire.decode('{"type":"response.created","response":{"id":"r","conversation_id":null,"status":null}}')
    assert isinstance(outside, wire.ResponseCreated)
    assert outside.response.conversation_id is None
