"""The data channel's messages: what is told reads as documented, and what is not a message is refused by name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.words import AgentState, Caption, ParticipantId
from bridge.transports.webrtc_call import messages
from bridge.transports.webrtc_call.messages import BadMessage, HangUp, Interrupt, Mute, Text, decode


def test_what_a_client_may_say() -> None:
    assert decode('{"type":"text","text":"hello"}') == Text("hello")
    assert decode('{"type":"interrupt"}') == Interrupt()
    assert decode('{"type":"mute","muted":true,"since":7}') == Mute(True), "a newer client may say more"
    assert decode('{"type":"hang_up"}') == HangUp()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b'{"type":"interrupt"}', "binary"),
        ("x" * 65_537, "too_long"),
        ("", "invalid"),
        ("[]", "invalid"),
        ("{}", "invalid"),
        ("[" * 60_000, "invalid"),
        ('{"type":"text"}', "invalid"),
        ('{"type":"text","text":7}', "invalid"),
        ('{"type":"mute","muted":"yes"}', "invalid"),
        ('{"type":"TEXT","text":"x"}', "invalid"),
        ('{"type":"text","text":"\ud800"}', "invalid"),
        ('{"type":7}', "invalid"),
        ("null", "invalid"),
    ],
)
def test_what_is_no_message_is_refused_and_not_quoted(message: str | bytes, code: str) -> None:
    with pytest.raises(BadMessage) as refused:
        decode(message)
    assert refused.value.code == code and len(str(refused.value)) < 100


@given(st.one_of(st.text(), st.binary(), st.recursive(st.none() | st.text(), st.lists).map(json.dumps)))
def test_nothing_else_comes_out_of_anything(message: str | bytes) -> None:
    try:
        assert isinstance(decode(message), messages.ClientMessage)
    except BadMessage:
        pass


def test_captions_of_the_agent_append_and_those_of_people_replace() -> None:
    agent = json.loads(messages.caption_message(Caption("s1", None, " there", final=True, interrupted=True)))
    assert agent == {
        "type": "caption", "segment": "s1", "speaker": "agent", "text": " there", "append": True, "final": True,
        "interrupted": True,
    }  # fmt: skip
    user = json.loads(messages.caption_message(Caption("s2", ParticipantId("ada"), "hello", final=False)))
    assert (user["speaker"], user["append"], user["final"], user["interrupted"]) == ("ada", False, False, False)


def test_the_other_messages_of_the_bridge() -> None:
    hello = messages.hello_message(call="c", provider="p", model="m", identity="i", video=False)
    assert json.loads(hello) == {
        "type": "hello", "version": 1, "call": "c", "provider": "p", "model": "m", "identity": "i", "video": False,
    }  # fmt: skip
    assert json.loads(messages.state_message(AgentState.THINKING)) == {"type": "state", "state": "thinking"}
    assert json.loads(messages.ended_message("requested")) == {"type": "ended", "reason": "requested"}
    error = json.loads(messages.error_message("code", "x" * 900))
    assert (error["type"], error["code"], len(error["message"])) == ("error", "code", 500)


def test_half_a_surrogate_pair_of_a_model_does_not_stop_the_captions() -> None:
    assert json.loads(messages.caption_message(Caption("s", None, "a\ud83d", final=False)))["text"] == "a\ud83d"
