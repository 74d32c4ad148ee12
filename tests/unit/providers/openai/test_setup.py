from __future__ import annotations

from typing import Any

import msgspec
import pytest

from providers.contract import SessionStart, ToolSpec, Truncation, TurnDetector
from providers.openai import messages
from providers.openai.settings import OpenAISettings, PromptTemplate, TracingSettings
from providers.openai.setup import capabilities_of, problems, session_body, setting_of, settings_for
from providers.settings import SpeechSettings, TranscriptionSettings, TurnDetectionSettings
from providers.signal.formats import PCM16_24K, PCMA_8K, PCMU_8K
from providers.webrtc.settings import IceServer
from tests.fakes.openai_types import check_client_frame

KEY = {"OPENAI_API_KEY": "sk-test"}
TOOL = ToolSpec(name="get_weather", description="Weather of a city.", parameters={"type": "object", "properties": {}})

EVERYTHING = (
    SpeechSettings(
        instructions="Be brief.",
        voice={"openai": "marin", "gemini": "Puck"},
        thinking="low",
        max_output_tokens=500,
        turn_detection=TurnDetectionSettings(
            mode="server_vad",
            threshold=0.4,
            prefix_padding_ms=200,
            silence_ms=450,
            create_response=False,
            interrupt_response=False,
            idle_timeout_ms=9000,
        ),
        transcription=TranscriptionSettings(model="gpt-transcribe", vocabulary=("Oslo",)),
        tools=(TOOL,),
    ),
    OpenAISettings(
        model="gpt-realtime-2.1",
        input_format="pcmu",
        output_format="pcma",
        noise_reduction="far_field",
        noise_reduction_strength=0.5,
        speed=1.1,
        truncation="retention_ratio",
        retention_ratio=0.8,
        post_instructions_token_limit=5000,
        tool_choice="get_weather",
        parallel_tool_calls=True,
        prompt=PromptTemplate(id="pmpt_1", version="2", variables={"city": "Oslo"}),
        tracing=TracingSettings(workflow_name="calls", group_id="g", metadata={"a": "b"}),
        include=("item.input_audio_transcription.logprobs",),
        transcription_languages=("en", "no"),
        transcription_prompt="A phone call.",
    ),
)

EVERYTHING_SENT: dict[str, Any] = {
    "type": "realtime",
    "output_modalities": ["audio"],
    "instructions": "Be brief.",
    "audio": {
        "input": {
            "format": {"type": "audio/pcmu"},
            "noise_reduction": {"type": "far_field", "strength": 0.5},
            "transcription": {
                "model": "gpt-transcribe",
                "languages": ["en", "no"],
                "keywords": ["Oslo"],
                "prompt": "A phone call.",
            },
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.4,
                "prefix_padding_ms": 200,
                "silence_duration_ms": 450,
                "idle_timeout_ms": 9000,
                "create_response": False,
                "interrupt_response": False,
            },
        },
        "output": {"format": {"type": "audio/pcma"}, "voice": "marin", "speed": 1.1},
    },
    "tools": [
        {
            "type": "function",
            "name": "get_weather",
            "description": "Weather of a city.",
            "parameters": {"type": "object", "properties": {}},
        }
    ],
    "tool_choice": {"type": "function", "name": "get_weather"},
    "parallel_tool_calls": True,
    "reasoning": {"effort": "low"},
    "max_output_tokens": 500,
    "truncation": {"type": "retention_ratio", "retention_ratio": 0.8, "token_limits": {"post_instructions": 5000}},
    "tracing": {"workflow_name": "calls", "group_id": "g", "metadata": {"a": "b"}},
    "prompt": {"id": "pmpt_1", "version": "2", "variables": {"city": "Oslo"}},
    "include": ["item.input_audio_transcription.logprobs"],
}


def refused(speech: SpeechSettings | None = None, own: OpenAISettings | None = None) -> list[str]:
    return [problem.field for problem in problems(speech or SpeechSettings(), own or OpenAISettings(), KEY)]


def test_every_setting_reaches_the_session() -> None:
    assert problems(*EVERYTHING, KEY) == []
    assert session_body(*EVERYTHING) == EVERYTHING_SENT


def test_the_defaults_leave_the_choice_to_the_server() -> None:
    assert session_body(SpeechSettings(), OpenAISettings()) == {
        "type": "realtime",
        "output_modalities": ["audio"],
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": {"model": "gpt-4o-mini-transcribe"},
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}},
        },
    }


@pytest.mark.parametrize("settings", [EVERYTHING, (SpeechSettings(modality="text"), OpenAISettings(tracing="auto"))])
def test_the_setup_is_what_the_sdk_would_send(settings: tuple[SpeechSettings, OpenAISettings]) -> None:
    check_client_frame(messages.session_update(session_body(*settings), "e"))


@pytest.mark.parametrize(
    "path",
    [
        ("instructionz",),
        ("audio", "voice"),
        ("audio", "output", "voise"),
        ("audio", "input", "turn_detection", "silence_ms"),
        ("audio", "input", "transcription", "vocabulary"),
        ("truncation", "token_limits", "post"),
        ("tools", 0, "strict"),
        ("reasoning", "level"),
        ("prompt", "ident"),
        ("tool_choice", "function"),
        ("tracing", "workflow"),
    ],
)
def test_a_misspelt_field_fails_the_check(path: tuple[Any, ...]) -> None:
    session = msgspec.json.decode(msgspec.json.encode(EVERYTHING_SENT))
    inner = session
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = "x"
    with pytest.raises((ValueError, AssertionError)):
        check_client_frame(messages.session_update(session, "e"))


@pytest.mark.parametrize(
    ("turns", "sent"),
    [
        (TurnDetectionSettings(), ...),
        (TurnDetectionSettings(mode="manual"), None),
        (TurnDetectionSettings(mode="semantic_vad"), {"type": "semantic_vad"}),
        (TurnDetectionSettings(mode="semantic_vad", eagerness="low"), {"type": "semantic_vad", "eagerness": "low"}),
        (TurnDetectionSettings(eagerness="high"), {"type": "semantic_vad", "eagerness": "high"}),
        (TurnDetectionSettings(silence_ms=300), {"type": "server_vad", "silence_duration_ms": 300}),
        (TurnDetectionSettings(interrupt_response=False), {"type": "server_vad", "interrupt_response": False}),
    ],
)
def test_turn_detection_is_said_in_openais_words(turns: TurnDetectionSettings, sent: Any) -> None:
    body = session_body(SpeechSettings(turn_detection=turns), OpenAISettings())["audio"]["input"]
    assert body.get("turn_detection", ...) == sent


def test_no_transcription_is_said_by_null() -> None:
    speech = SpeechSettings(transcription=TranscriptionSettings(input=False))
    assert session_body(speech, OpenAISettings())["audio"]["input"]["transcription"] is None


def test_a_vocabulary_becomes_the_prompt_of_a_model_without_keywords() -> None:
    speech = SpeechSettings(transcription=TranscriptionSettings(vocabulary=("Oslo", "Bergen"), language="nb-NO"))
    sent = session_body(speech, OpenAISettings())["audio"]["input"]["transcription"]
    assert sent == {"model": "gpt-4o-mini-transcribe", "language": "nb", "prompt": "Oslo, Bergen"}


def test_a_custom_voice_goes_by_id() -> None:
    speech = SpeechSettings(voice="voice_abc")
    assert problems(speech, OpenAISettings(), KEY) == []
    assert session_body(speech, OpenAISettings())["audio"]["output"]["voice"] == {"id": "voice_abc"}


OLD = OpenAISettings(model="gpt-realtime")


@pytest.mark.parametrize(
    ("speech", "own", "field"),
    [
        (SpeechSettings(temperature=0.8), None, "speech.temperature"),
        (SpeechSettings(language="de-DE"), None, "speech.language"),
        (SpeechSettings(max_output_tokens=4097), None, "speech.max_output_tokens"),
        (SpeechSettings(thinking="low"), OLD, "speech.thinking"),
        (SpeechSettings(thinking="off"), None, "speech.thinking"),
        (SpeechSettings(voice="Puck"), None, "speech.voice"),
        (None, OpenAISettings(model="gpt-realtime", parallel_tool_calls=True), "providers.openai.parallel_tool_calls"),
        (None, OpenAISettings(model="gpt-realtime-whisper"), "providers.openai.model"),
        (None, OpenAISettings(model="gpt-live-1"), "providers.openai.model"),
        (None, OpenAISettings(model="gpt-4o-realtime-preview-2024-12-17"), "providers.openai.model"),
        (None, OpenAISettings(input_rate_hz=16_000), "providers.openai.input_rate_hz"),
        (None, OpenAISettings(noise_reduction_strength=0.5), "providers.openai.noise_reduction_strength"),
        (None, OpenAISettings(truncation="retention_ratio"), "providers.openai.truncation"),
        (None, OpenAISettings(retention_ratio=0.5), "providers.openai.retention_ratio"),
        (None, OpenAISettings(tool_choice="get weather"), "providers.openai.tool_choice"),
        (None, OpenAISettings(transcription_delay="low"), "providers.openai.transcription_delay"),
        (None, OpenAISettings(transcription_languages=("de",)), "providers.openai.transcription_languages"),
        (None, OpenAISettings(organization="a\nb"), "providers.openai.organization"),
        (SpeechSettings(tools=(ToolSpec(name="a b"),)), None, "speech.tools.name"),
        (SpeechSettings(tools=(TOOL, TOOL)), None, "speech.tools.name"),
        (
            SpeechSettings(transcription=TranscriptionSettings(model="gpt-realtime-whisper", vocabulary=("x",))),
            None,
            "speech.transcription.vocabulary",
        ),
        (
            SpeechSettings(transcription=TranscriptionSettings(input=False, language="de")),
            None,
            "speech.transcription.language",
        ),
        (
            SpeechSettings(turn_detection=TurnDetectionSettings(mode="semantic_vad", silence_ms=300)),
            None,
            "speech.turn_detection.silence_ms",
        ),
        (
            SpeechSettings(turn_detection=TurnDetectionSettings(mode="semantic_vad", idle_timeout_ms=9000)),
            None,
            "speech.turn_detection.idle_timeout_ms",
        ),
        (
            SpeechSettings(turn_detection=TurnDetectionSettings(mode="server_vad", eagerness="low")),
            None,
            "speech.turn_detection.eagerness",
        ),
        (
            SpeechSettings(turn_detection=TurnDetectionSettings(mode="manual", threshold=0.5)),
            None,
            "speech.turn_detection.threshold",
        ),
        (
            SpeechSettings(turn_detection=TurnDetectionSettings(eagerness="low", threshold=0.5)),
            None,
            "speech.turn_detection.eagerness",
        ),
    ],
)  # fmt: skip
def test_what_the_service_would_refuse_is_refused_before(
    speech: SpeechSettings | None, own: OpenAISettings | None, field: str
) -> None:
    assert refused(speech, own) == [field]


def test_all_problems_are_told_at_once() -> None:
    found = problems(SpeechSettings(temperature=1.0, voice="Puck"), OpenAISettings(input_rate_hz=16_000), {})
    assert {problem.field for problem in found} == {
        "OPENAI_API_KEY", "speech.temperature", "speech.voice", "providers.openai.input_rate_hz",
    }  # fmt: skip
    assert all(problem.mend for problem in found)


def test_a_compatible_server_may_have_other_voices_rates_and_models() -> None:
    own = OpenAISettings(base_url="wss://api.x.ai/v1", model="grok-voice-latest", input_rate_hz=16_000)
    assert problems(SpeechSettings(voice="eve", thinking="high"), own, {}) == []
    sent = session_body(SpeechSettings(voice="eve"), own)["audio"]
    assert sent["input"]["format"] == {"type": "audio/pcm", "rate": 16_000}


@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("rate_hz", [11_025, 22_050, 44_100])
def test_a_rate_that_nothing_converts_is_refused_for_any_server(side: str, rate_hz: int) -> None:
    own = msgspec.convert({"base_url": "wss://api.x.ai/v1", f"{side}_rate_hz": rate_hz}, OpenAISettings)
    (problem,) = problems(SpeechSettings(), own, {})
    assert (problem.field, problem.value) == (f"providers.openai.{side}_rate_hz", rate_hz)
    assert "8000, 12000, 16000, 24000, 48000" in problem.mend


def test_the_rate_of_g711_is_not_looked_at() -> None:
    own = OpenAISettings(base_url="wss://api.x.ai/v1", input_format="pcmu", input_rate_hz=22_050)
    assert problems(SpeechSettings(), own, {}) == []


def test_a_session_may_override_instructions_and_voice_and_add_tools() -> None:
    speech = SpeechSettings(
        instructions="a", tools=(ToolSpec(name="kept"), ToolSpec(name=TOOL.name, description="old"))
    )
    speech = settings_for(speech, SessionStart(instructions="b", tools=(TOOL,), voice="ash"))
    assert (speech.instructions, speech.voice_for("openai")) == ("b", "ash")
    assert speech.tools == (ToolSpec(name="kept"), TOOL)


def test_capabilities_say_what_the_settings_make_of_the_model() -> None:
    plain = capabilities_of(SpeechSettings(), OpenAISettings(), KEY)
    assert (plain.input_formats, plain.output_format) == ((PCM16_24K,), PCM16_24K)
    assert (plain.truncation, plain.turn_detector) == (Truncation.CLIENT, TurnDetector.PROVIDER)
    assert plain.interrupts_on_speech and plain.needs_continuous_input and not plain.resumption
    manual = SpeechSettings(modality="text", turn_detection=TurnDetectionSettings(mode="manual"))
    other = capabilities_of(manual, OpenAISettings(input_format="pcmu", output_format="pcma"), KEY)
    assert (other.input_formats, other.output_format) == ((PCMU_8K,), PCMA_8K)
    assert (other.truncation, other.turn_detector, other.speech) == (Truncation.NONE, TurnDetector.CLIENT, False)
    assert not other.interrupts_on_speech and not other.needs_continuous_input


def test_a_refused_param_leads_to_the_setting_behind_it() -> None:
    assert setting_of("session.reasoning.effort") == "speech.thinking"
    assert setting_of("session.audio.output.voice") == "speech.voice"
    assert setting_of("item.content") == "item.content"


# ------------------------------------------------------------------------------------------------------------- WebRTC


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"input_format": "pcmu"}, "input_format"),
        ({"output_format": "pcma"}, "output_format"),
        ({"input_rate_hz": 16_000}, "input_rate_hz"),
        ({"output_rate_hz": 48_000}, "output_rate_hz"),
        ({"webrtc_request": "sdp"}, "webrtc_request"),
        ({"ice_servers": (IceServer(urls=("http://x",)),)}, "ice_servers"),
        ({"ice_servers": (IceServer(urls=("turn:x",), username="u", credential_env="NOT_SET"),)}, "ice_servers"),
    ],
)
def test_what_a_call_cannot_have_is_refused_by_name(given: dict[str, Any], field: str) -> None:
    own = OpenAISettings(transport="webrtc", base_url="ws://somewhere/v1", **given)
    assert refused(own=own) == [f"providers.openai.{field}"]


@pytest.mark.parametrize(
    "given", [{"webrtc_request": "unified"}, {"sideband": True}, {"ice_servers": (IceServer(urls=("stun:x",)),)}]
)
def test_words_of_a_call_mean_nothing_over_a_websocket(given: dict[str, Any]) -> None:
    (problem,) = problems(SpeechSettings(), OpenAISettings(**given), KEY)
    assert problem.field == f"providers.openai.{next(iter(given))}"
    assert "transport = 'webrtc'" in problem.mend


def test_a_call_needs_its_extra_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.openai.setup.find_spec", lambda name: None)
    (problem,) = problems(SpeechSettings(), OpenAISettings(transport="webrtc"), KEY)
    assert problem.field == "providers.openai.transport"
    assert "roombridge[webrtc]" in problem.mend


def test_the_kind_of_key_decides_what_a_call_may_ask_for() -> None:
    secret = {"OPENAI_API_KEY": "ek_0001"}
    assert problems(SpeechSettings(), OpenAISettings(transport="webrtc", webrtc_request="sdp"), secret) == []
    (problem,) = problems(SpeechSettings(), OpenAISettings(transport="webrtc", sideband=True), secret)
    assert problem.field == "providers.openai.sideband"
    minting = OpenAISettings(transport="webrtc", webrtc_request="sdp", auth="client_secret", sideband=True)
    assert problems(SpeechSettings(), minting, KEY) == []


def test_a_setup_too_long_for_a_data_channel_is_refused_unless_there_is_a_sideband() -> None:
    speech = SpeechSettings(instructions="x" * 300_000)
    assert refused(speech, OpenAISettings(transport="webrtc")) == ["providers.openai.transport"]
    assert refused(speech, OpenAISettings(transport="webrtc", sideband=True)) == []


def test_a_call_knows_by_itself_what_was_heard() -> None:
    can = capabilities_of(SpeechSettings(), OpenAISettings(transport="webrtc"), {})
    assert can.truncation is Truncation.SERVER
    assert (can.input_formats, can.output_format) == ((PCM16_24K,), PCM16_24K)
