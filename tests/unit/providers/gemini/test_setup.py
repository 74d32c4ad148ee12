"""What a configured model says it can do, and the parts of a setup that no SDK spells for comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from providers.contract import SessionStart, ToolSpec, Truncation, TurnDetector
from providers.errors import SettingRefused
from providers.gemini.endpoint import endpoint
from providers.gemini.rules import VOICES, Backend
from providers.gemini.settings import GeminiSettings
from providers.gemini.setup import capabilities, plan_session
from providers.settings import SpeechSettings
from providers.signal.formats import PCM16_16K, PCM16_24K

OLD = "gemini-2.5-flash-native-audio-latest"


def able(
    speech: dict[str, Any] | None = None, own: dict[str, Any] | None = None, backend: Backend = Backend.DEVELOPER
) -> Any:
    return capabilities(
        msgspec.convert(speech or {}, SpeechSettings), msgspec.convert(own or {}, GeminiSettings), backend
    )


def setup(speech: dict[str, Any] | None = None, own: dict[str, Any] | None = None, **start: Any) -> dict[str, Any]:
    settings = msgspec.convert(own or {}, GeminiSettings)
    spoken = msgspec.convert(speech or {}, SpeechSettings)
    return plan_session(spoken, settings, endpoint(settings, {}), SessionStart(**start)).setup


def test_what_the_default_model_can_do() -> None:
    can = able()
    assert (can.provider, can.model, can.output_format) == ("gemini", "gemini-3.8-live", PCM16_24K)
    assert can.input_formats[0] == PCM16_16K and PCM16_24K in can.input_formats
    assert can.truncation is Truncation.NONE and can.turn_detector is TurnDetector.PROVIDER
    assert can.speech and can.video and can.tools and can.async_tools and can.resumption
    assert can.interrupts_on_speech and can.needs_continuous_input and can.max_session_s == 58 * 60
    assert not can.overlapping_resume and not can.repairable_memory
    assert (can.seed_items, can.seed_chars) == (128, 32_768)
    assert can.voices == VOICES and len(VOICES) == 30


@pytest.mark.parametrize(
    ("speech", "own", "backend", "field", "value"),
    [
        ({"turn_detection": {"mode": "manual"}}, {}, Backend.DEVELOPER, "turn_detector", TurnDetector.CLIENT),
        ({"turn_detection": {"mode": "manual"}}, {}, Backend.DEVELOPER, "needs_continuous_input", False),
        ({"turn_detection": {"interrupt_response": False}}, {}, Backend.DEVELOPER, "interrupts_on_speech", False),
        ({}, {"activity_handling": "no_interruption"}, Backend.DEVELOPER, "interrupts_on_speech", False),
        ({}, {"model": "gemini-3.1-flash-live-preview"}, Backend.DEVELOPER, "async_tools", False),
        ({}, {"model": "gemini-3.5-live-translate-preview"}, Backend.DEVELOPER, "tools", False),
        ({}, {"model": "gemini-3.5-transcribe-live"}, Backend.DEVELOPER, "speech", False),
        ({}, {"compression": False}, Backend.DEVELOPER, "max_session_s", 900.0),
        ({}, {"resumption": False}, Backend.DEVELOPER, "resumption", False),
        ({}, {"repair_memory": True}, Backend.DEVELOPER, "repairable_memory", True),
        ({}, {"model": "gemini-3.5-transcribe-live"}, Backend.DEVELOPER, "seed_items", 0),
        ({}, {"model": "gemini-live-2.5-flash"}, Backend.VERTEX, "seed_chars", 8192),
        ({}, {"trigger_tokens": 10_000}, Backend.DEVELOPER, "seed_chars", 5000),
        ({"modality": "text"}, {"model": "gemini-live-2.5-flash"}, Backend.VERTEX, "speech", False),
        ({}, {}, Backend.DEVELOPER, "in_place_update", frozenset()),
        ({}, {}, Backend.VERTEX, "in_place_update", frozenset({"instructions", "tools"})),
        ({}, {"update_by": "new_session"}, Backend.VERTEX, "in_place_update", frozenset()),
        ({}, {"update_by": "system_turn"}, Backend.VERTEX, "in_place_update", frozenset({"instructions"})),
        (
            {},
            {"update_by": "context_update", "model": OLD},
            Backend.DEVELOPER,
            "in_place_update",
            frozenset({"instructions", "tools"}),
        ),
    ],
)
def test_settings_change_what_it_can_do(
    speech: dict[str, Any], own: dict[str, Any], backend: Backend, field: str, value: Any
) -> None:
    assert getattr(able(speech, own, backend), field) == value


def test_one_session_may_have_instructions_voice_and_further_tools_of_its_own() -> None:
    speech = {"instructions": "a", "voice": "Puck", "tools": [{"name": "one"}]}
    own = setup(speech, instructions="b", voice="Kore", tools=(ToolSpec(name="two"),))
    assert own["systemInstruction"]["parts"] == [{"text": "b"}]
    assert own["tools"] == [{"functionDeclarations": [{"name": "one"}, {"name": "two"}]}]
    assert own["generationConfig"]["speechConfig"]["voiceConfig"]["prebuiltVoiceConfig"] == {"voiceName": "Kore"}
    none = setup(speech, instructions="", tools=())
    assert "systemInstruction" not in none and "tools" not in none


def test_a_handle_is_sent_even_where_handles_are_not_asked_for() -> None:
    assert setup(own={"resumption": False}, resume="h")["sessionResumption"] == {"handle": "h"}


def test_sampling_that_the_sdk_has_no_word_for() -> None:
    own = {"candidate_count": 1, "presence_penalty": 0.5, "frequency_penalty": -0.5, "voice_id": "speaker-7"}
    generation = setup(own=own)["generationConfig"]
    assert generation == {
        "responseModalities": ["AUDIO"],
        "candidateCount": 1,
        "presencePenalty": 0.5,
        "frequencyPenalty": -0.5,
        "speechConfig": {"voiceConfig": {"voice": "speaker-7"}},
    }


def test_further_tools_go_out_in_googles_own_words() -> None:
    own = {"google_search": True, "extra_tools": [{"googleMaps": {"enableWidget": False}}]}
    assert setup(own=own)["tools"] == [{"googleSearch": {}}, {"googleMaps": {"enableWidget": False}}]


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    own = {"backend": "vertex", "project": "p", "avatar": {"image_file": str(tmp_path / "none.png")}}
    with pytest.raises(SettingRefused, match=r"providers\.gemini\.avatar\.image_file"):
        setup(own=own)
    (tmp_path / "none.png").write_bytes(b"png")
    assert setup(own=own)["avatarConfig"] == {
        "customizedAvatar": {"imageMimeType": "image/png", "imageData": "cG5n"},
    }


def test_tools_of_a_session_are_added_to_the_configured_ones() -> None:
    sent = setup(
        {"tools": [{"name": "kept"}, {"name": "same", "description": "old"}]},
        tools=(ToolSpec(name="same", description="new"),),
    )
    (entry,) = sent["tools"]
    declared = [(one["name"], one.get("description", "")) for one in entry["functionDeclarations"]]
    assert declared == [("kept", ""), ("same", "new")]
