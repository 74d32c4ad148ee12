"""What a client's message is, in either vendor's words and either spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.emulators.kinds import STREAMED, identity_of, kind_of


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"setup": {}}, "setup"),
        ({"toolResponse": {}}, "toolResponse"),
        ({"tool_response": {}}, "toolResponse"),
        ({"realtimeInput": {"audio": {}}}, "realtimeInput.audio"),
        ({"realtime_input": {"media_chunks": []}}, "realtimeInput.audio"),
        ({"realtimeInput": {"text": "x", "activityEnd": {}}}, "realtimeInput.activityEnd+text"),
        ({"realtimeInput": {}}, "realtimeInput"),
        ({}, "?"),
        ([], "?"),
        (None, "?"),
    ],
)
def test_a_message_of_gemini_is_named_in_the_services_words(message: object, kind: str) -> None:
    assert kind_of("gemini", message) == kind


@pytest.mark.parametrize(
    ("message", "kind"), [({"type": "response.create"}, "response.create"), ({"type": 3}, "?"), ({}, "?"), ("x", "?")]
)
def test_a_message_of_openai_is_named_by_its_type(message: object, kind: str) -> None:
    assert kind_of("openai", message) == kind


def test_only_sound_and_pictures_are_streamed() -> None:
    assert kind_of("gemini", {"realtimeInput": {"audio": {}}}) in STREAMED
    assert kind_of("gemini", {"realtimeInput": {"audioStreamEnd": True}}) not in STREAMED
    assert kind_of("openai", {"type": "input_audio_buffer.append"}) in STREAMED
    assert kind_of("openai", {"type": "input_audio_buffer.commit"}) not in STREAMED


def test_names_that_the_service_gave_are_found() -> None:
    item = {"type": "function_call_output", "call_id": "c", "output": "words may differ", "id": "mine"}
    assert identity_of("openai", {"type": "conversation.item.create", "item": item}) == {
        "item.type": "function_call_output", "item.call_id": "c",
    }  # fmt: skip
    answer = {"id": "c", "name": "f", "response": {"output": "words may differ"}}
    assert identity_of("gemini", {"tool_response": {"function_responses": [answer]}}) == {
        "toolResponse.functionResponses[0].id": "c", "toolResponse.functionResponses[0].name": "f",
    }  # fmt: skip


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["setup", "toolResponse", "functionResponses", "sessionResumption", "item", "type"]), inner
        )
    ),
)


@given(st.sampled_from(["gemini", "openai"]), JSON)
def test_whatever_a_client_sends_has_a_kind(vendor: str, message: object) -> None:
    assert kind_of(vendor, message)  # type: ignore[arg-type]
    assert isinstance(identity_of(vendor, message), dict)  # type: ignore[arg-type]
