"""A setting that the model cannot serve is named, with its mend, before anything is opened."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from providers.contract import ToolSpec
from providers.gemini.checks import problems
from providers.gemini.settings import ClonedVoiceSettings, GeminiSettings
from providers.settings import SpeechSettings

KEY = {"GOOGLE_API_KEY": "k"}
CLOUD = {"GOOGLE_CLOUD_PROJECT": "p"}
EXTENDED = "gemini-3.8-live-extended-thinking"
OLD = "gemini-2.5-flash-native-audio-latest"


def fields(speech: dict[str, Any], own: dict[str, Any], environ: dict[str, str]) -> list[str]:
    return [
        refusal.field
        for refusal in problems(msgspec.convert(speech, SpeechSettings), msgspec.convert(own, GeminiSettings), environ)
    ]


@pytest.mark.parametrize(
    ("speech", "own"),
    [
        ({}, {}),
        ({"voice": "Puck", "temperature": 0.5, "max_output_tokens": 100}, {}),
        ({"voice": {"openai": "marin"}}, {}),
        ({"thinking": "medium"}, {"model": EXTENDED}),
        ({}, {"thinking_budget": 0}),
        ({"thinking": "off"}, {"model": OLD}),
        ({}, {"model": OLD, "thinking_budget": -1}),
        ({}, {"model": OLD, "affective_dialog": True, "proactive_audio": True, "api_version": "v1alpha"}),
        ({"thinking": "minimal"}, {"model": "gemini-3.1-flash-live-preview"}),
        ({"turn_detection": {"mode": "server_vad", "silence_ms": 300, "interrupt_response": False}}, {}),
        ({}, {"model": "gemini-9-of-tomorrow", "affective_dialog": True, "api_version": "v1alpha"}),
        ({}, {"model": "gemini-3.5-live-translate-preview", "translation": {"target_language": "nb"}}),
    ],
)
def test_what_the_model_can_serve_passes(speech: dict[str, Any], own: dict[str, Any]) -> None:
    assert fields(speech, own, KEY) == []


@pytest.mark.parametrize(
    ("speech", "own", "field"),
    [
        ({"voice": "puck"}, {}, "speech.voice"),
        ({"voice": {"gemini": "marin"}}, {}, "speech.voice.gemini"),
        ({"voice": "Puck"}, {"voice_id": "x"}, "providers.gemini.voice_id"),
        ({"language": "nb-NO"}, {}, "speech.language"),
        ({"modality": "text"}, {}, "speech.modality"),
        ({"thinking": "low"}, {}, "speech.thinking"),
        ({}, {"thinking_budget": 5}, "providers.gemini.thinking_budget"),
        ({}, {"thinking_level": "high"}, "providers.gemini.thinking_level"),
        ({}, {"model": EXTENDED}, "speech.thinking"),
        ({"thinking": "minimal"}, {"model": EXTENDED}, "speech.thinking"),
        ({"thinking": "low"}, {"model": OLD}, "speech.thinking"),
        ({"thinking": "off"}, {"model": "gemini-3.1-flash-live-preview"}, "speech.thinking"),
        (
            {"thinking": "low"},
            {"model": "gemini-3.1-flash-live-preview", "thinking_budget": 1},
            "providers.gemini.thinking_budget",
        ),
        ({"turn_detection": {"mode": "semantic_vad"}}, {}, "speech.turn_detection.mode"),
        ({"turn_detection": {"threshold": 0.5}}, {}, "speech.turn_detection.threshold"),
        ({"turn_detection": {"eagerness": "low"}}, {}, "speech.turn_detection.eagerness"),
        ({"turn_detection": {"idle_timeout_ms": 5000}}, {}, "speech.turn_detection.idle_timeout_ms"),
        ({"turn_detection": {"create_response": False}}, {}, "speech.turn_detection.create_response"),
        ({"turn_detection": {"mode": "manual", "silence_ms": 1}}, {}, "speech.turn_detection.silence_ms"),
        (
            {"turn_detection": {"interrupt_response": False}},
            {"activity_handling": "interrupts"},
            "providers.gemini.activity_handling",
        ),
        ({"transcription": {"model": "whisper-1"}}, {}, "speech.transcription.model"),
        ({}, {"affective_dialog": True}, "providers.gemini.affective_dialog"),
        ({}, {"model": OLD, "affective_dialog": True}, "providers.gemini.affective_dialog"),
        ({}, {"proactive_audio": False}, "providers.gemini.proactive_audio"),
        ({}, {"model": "gemini-2.0-flash-live-001"}, "providers.gemini.model"),
        ({}, {"model": "gemini-live-2.5-flash"}, "providers.gemini.model"),
        ({}, {"explicit_vad": True}, "providers.gemini.explicit_vad"),
        ({}, {"transparent": True}, "providers.gemini.transparent"),
        ({}, {"avatar": {"name": "Ada"}}, "providers.gemini.avatar"),
        ({}, {"labels": {"Team": "x"}}, "providers.gemini.labels.Team"),
        ({}, {"code_execution": True}, "providers.gemini.code_execution"),
        ({}, {"google_search": {"exclude_domains": ["a.b"]}}, "providers.gemini.google_search.exclude_domains"),
        (
            {},
            {"safety": [{"category": "jailbreak", "threshold": "off", "method": "severity"}]},
            "providers.gemini.safety",
        ),
        ({}, {"compression": False, "trigger_tokens": 9}, "providers.gemini.trigger_tokens"),
        ({}, {"trigger_tokens": 100, "target_tokens": 100}, "providers.gemini.target_tokens"),
        ({}, {"update_by": "system_turn"}, "providers.gemini.update_by"),
        ({}, {"translation": {"target_language": "nb"}}, "providers.gemini.translation"),
        ({}, {"transcription_mode": "smart", "diarization": True}, "providers.gemini.transcription_mode"),
        ({}, {"cloned_voice": {"sample_file": "/nowhere.wav"}}, "providers.gemini.cloned_voice.sample_file"),
        ({}, {"base_url": "nonsense"}, "providers.gemini.base_url"),
        (
            {"tools": [{"name": "x", "blocking": True}], "thinking": "low"},
            {"model": EXTENDED},
            "speech.tools.x.blocking",
        ),
        (
            {"tools": [{"name": "x", "blocking": False}]},
            {"model": "gemini-3.1-flash-live-preview"},
            "speech.tools.x.blocking",
        ),
        ({"tools": [{"name": "1x"}]}, {}, "speech.tools.1x.name"),
        (
            {"tools": [{"name": "x", "parameters": {"properties": {"a": {"$ref": "#/no"}}}}]},
            {},
            "speech.tools.x.parameters",
        ),
    ],
)
def test_what_it_cannot_serve_is_named(speech: dict[str, Any], own: dict[str, Any], field: str) -> None:
    assert fields(speech, own, KEY) == [field]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, []),
        ({"model": EXTENDED, "thinking_level": "low"}, ["providers.gemini.model"]),
        ({"turn_coverage": "audio_activity_and_all_video"}, ["providers.gemini.turn_coverage"]),
        ({"trigger_tokens": 100}, ["providers.gemini.trigger_tokens"]),
        ({"explicit_vad": True, "transparent": True, "avatar": {"name": "Ada"}}, []),
        ({"model": "gemini-live-2.5-flash", "code_execution": True}, []),
    ],
)
def test_vertex_has_rules_of_its_own(own: dict[str, Any], expected: list[str]) -> None:
    assert fields({}, {"backend": "vertex", **own}, CLOUD) == expected


def test_a_consent_is_in_no_error() -> None:
    own = GeminiSettings(
        backend="vertex",
        voice_id="x",
        cloned_voice=ClonedVoiceSettings(sample_file=__file__, consent_signature="top-secret"),
    )
    found = problems(SpeechSettings(), own, CLOUD)
    assert [refused.field for refused in found] == [
        "providers.gemini.cloned_voice",
        "providers.gemini.cloned_voice.consent_signature",
    ]
    assert "top-secret" not in repr([str(refused) for refused in found]) + repr([refused.value for refused in found])


def test_all_faults_are_told_at_once() -> None:
    found = fields({"voice": "nobody", "modality": "text"}, {"labels": {"A": "b"}}, {})
    assert found == ["GOOGLE_API_KEY", "speech.voice", "speech.modality", "providers.gemini.labels.A"]


def test_more_functions_than_the_service_takes() -> None:
    speech = SpeechSettings(tools=tuple(ToolSpec(name=f"f{index}") for index in range(513)))
    assert [refusal.value for refusal in problems(speech, GeminiSettings(), KEY)] == [513]


def test_a_voice_in_the_wrong_case_is_recognised() -> None:
    assert "Puck" in str(problems(SpeechSettings(voice="PUCK"), GeminiSettings(), KEY)[0])
