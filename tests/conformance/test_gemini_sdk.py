"""Our Gemini messages are those of Google's own SDK, and the SDK holds a conversation with our emulator."""

from __future__ import annotations

import asyncio
import json
import re
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import numpy as np
import pytest
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials
from pydantic import ValidationError

from providers.contract import HistoryItem, SessionStart, ToolSpec
from providers.emulators.gemini import GeminiEmulator, GeminiVendor
from providers.gemini.endpoint import endpoint
from providers.gemini.protocol import GeminiProtocol
from providers.gemini.settings import GeminiSettings
from providers.gemini.setup import plan_session
from providers.scripted.scenario import Scenario, load_text
from providers.settings import SpeechSettings, TurnDetectionSettings
from providers.signal.formats import PCM16_16K

CLOUD = {"GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_LOCATION": "us-central1"}
FAST = "[pace]\nspeed = 50.0\nlatency_ms = 20\n[vad]\nsilence_ms = 200\n"
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Where."},
        "days": {"type": ["integer", "null"], "minimum": 1},
    },
    "required": ["city"],
    "additionalProperties": False,
}


# ------------------------------------------------------------------------------------------------ what the SDK sends


@asynccontextmanager
async def sdk(
    emulator: GeminiEmulator, *, vertex: bool = False, version: str | None = None
) -> AsyncIterator[genai.client.AsyncClient]:
    assert emulator.certificate is not None
    options = types.HttpOptions(
        base_url=f"https://127.0.0.1:{emulator.port}",
        api_version=version,
        async_client_args={"ssl": emulator.certificate.client_context()},
    )
    if vertex:
        untyped: Any = Credentials
        client = genai.Client(
            vertexai=True,
            project="p",
            location="us-central1",
            credentials=untyped(token="token"),
            http_options=options,
        )
    else:
        client = genai.Client(api_key="key", http_options=options)
    async with client.aio as opened:
        yield opened
    client.close()


async def sdk_setup(model: str, config: dict[str, Any], *, vertex: bool, version: str | None) -> dict[str, Any]:
    """The SDK's first message for this `LiveConnectConfig`, off the wire."""
    async with GeminiEmulator(tls=True) as emulator, sdk(emulator, vertex=vertex, version=version) as client:
        async with client.live.connect(model=model, config=types.LiveConnectConfig(**config)):
            first = emulator.connections[0].messages(sent=False)[0].data
    sent: dict[str, Any] = json.loads(first)
    return sent


def our_setup(speech: dict[str, Any], own: dict[str, Any], **start: Any) -> dict[str, Any]:
    settings = msgspec.convert(own, GeminiSettings)
    plan = plan_session(
        msgspec.convert(speech, SpeechSettings), settings, endpoint(settings, CLOUD), SessionStart(**start)
    )
    core = GeminiProtocol(plan)
    core.start(0.0)
    sent: dict[str, Any] = json.loads(core.outgoing()[0])
    return sent


def normalised(value: Any) -> Any:
    """Keys in lowerCamelCase: protobuf's JSON accepts both spellings, and the SDK mixes them."""
    if isinstance(value, dict):
        return {
            re.sub(r"_([a-z])", lambda found: found.group(1).upper(), key): normalised(item)
            for key, item in value.items()
        }
    return [normalised(item) for item in value] if isinstance(value, list) else value


BASE: dict[str, Any] = {
    "response_modalities": ["AUDIO"],
    "session_resumption": {},
    "context_window_compression": {"sliding_window": {}},
    "input_audio_transcription": {},
    "output_audio_transcription": {},
}
"""What our defaults amount to."""

SETUPS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "defaults": ({}, {}, {}),
    "speech": (
        {"instructions": "Be brief.", "voice": "Puck", "temperature": 0.5, "max_output_tokens": 300},
        {},
        {
            "system_instruction": "Be brief.",
            "temperature": 0.5,
            "max_output_tokens": 300,
            "speech_config": {"voice_config": {"prebuilt_voice_config": {"voice_name": "Puck"}}},
        },
    ),
    "sampling": (
        {},
        {"top_p": 0.9, "top_k": 40, "seed": 7, "media_resolution": "low"},
        {"top_p": 0.9, "top_k": 40, "seed": 7, "media_resolution": "MEDIA_RESOLUTION_LOW"},
    ),
    "server vad": (
        {"turn_detection": {"mode": "server_vad", "prefix_padding_ms": 40, "silence_ms": 300}},
        {
            "start_sensitivity": "low",
            "end_sensitivity": "high",
            "activity_handling": "no_interruption",
            "turn_coverage": "all_input",
        },
        {
            "realtime_input_config": {
                "automatic_activity_detection": {
                    "start_of_speech_sensitivity": "START_SENSITIVITY_LOW",
                    "end_of_speech_sensitivity": "END_SENSITIVITY_HIGH",
                    "prefix_padding_ms": 40,
                    "silence_duration_ms": 300,
                },
                "activity_handling": "NO_INTERRUPTION",
                "turn_coverage": "TURN_INCLUDES_ALL_INPUT",
            }
        },
    ),
    "manual": (
        {"turn_detection": {"mode": "manual"}},
        {"interim_transcript_timestamps": True},
        {
            "realtime_input_config": {
                "automatic_activity_detection": {"disabled": True},
                "interim_transcript_timestamp_enabled": True,
            }
        },
    ),
    "transcription": (
        {"transcription": {"language": "nb-NO", "vocabulary": ["Oslo"], "output": False}},
        {"transcription_mode": "smart", "transcription_source_text": "x"},
        {
            "input_audio_transcription": {
                "language_codes": ["nb-NO"],
                "custom_vocabulary": ["Oslo"],
                "mode": "SMART",
                "source_text": "x",
            },
            "output_audio_transcription": None,
        },
    ),
    "words": (
        {},
        {"word_timestamps": True, "diarization": True},
        {"input_audio_transcription": {"word_timestamp": True, "diarization": True}},
    ),
    "context": (
        {},
        {"trigger_tokens": 20000, "target_tokens": 10000, "resumption": False, "history_in_client_content": True},
        {
            "session_resumption": None,
            "context_window_compression": {"trigger_tokens": 20000, "sliding_window": {"target_tokens": 10000}},
            "history_config": {"initial_history_in_client_content": True},
        },
    ),
    "thinking level": (
        {"thinking": "low"},
        {"model": "gemini-3.1-flash-live-preview", "include_thoughts": True},
        {"thinking_config": {"thinking_level": "LOW", "include_thoughts": True}},
    ),
    "older model": (
        {"thinking": "off"},
        {
            "model": "gemini-2.5-flash-native-audio-latest",
            "api_version": "v1alpha",
            "affective_dialog": True,
            "proactive_audio": True,
            "proactive_video": True,
        },
        {
            "thinking_config": {"thinking_budget": 0},
            "enable_affective_dialog": True,
            "proactivity": {"proactive_audio": True, "proactive_video": True},
        },
    ),
    "safety and labels": (
        {},
        {"safety": [{"category": "harassment", "threshold": "block_only_high"}], "labels": {"team": "voice"}},
        {
            "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}],
            "labels": {"team": "voice"},
        },
    ),
    "tools": (
        {
            "tools": [
                {"name": "weather", "description": "Now.", "parameters": SCHEMA, "blocking": True},
                {"name": "clock", "blocking": False},
            ]
        },
        {"google_search": {"search_types": ["web"]}},
        {
            "tools": [
                {
                    "function_declarations": [
                        {
                            "name": "weather",
                            "description": "Now.",
                            "behavior": "BLOCKING",
                            "parameters": {
                                "type": "OBJECT",
                                "properties": {
                                    "city": {"type": "STRING", "description": "Where."},
                                    "days": {"type": "INTEGER", "nullable": True, "minimum": 1},
                                },
                                "required": ["city"],
                            },
                        },
                        {"name": "clock", "behavior": "NON_BLOCKING"},
                    ]
                },
                {"google_search": {"search_types": {"web_search": {}}}},
            ]
        },
    ),
    "translation": (
        {},
        {
            "model": "gemini-3.5-live-translate-preview",
            "translation": {"target_language": "nb", "echo_target_language": False},
        },
        {"translation_config": {"target_language_code": "nb", "echo_target_language": False}},
    ),
    "vertex": (
        {"voice": "Kore"},
        {
            "backend": "vertex",
            "transparent": True,
            "explicit_vad": True,
            "safety": [{"category": "jailbreak", "threshold": "off", "method": "severity"}],
            "google_search": {"exclude_domains": ["a.example"], "blocking_confidence": "BLOCK_HIGH_AND_ABOVE"},
        },
        {
            "speech_config": {"voice_config": {"prebuilt_voice_config": {"voice_name": "Kore"}}},
            "session_resumption": {"transparent": True},
            "explicit_vad_signal": True,
            "safety_settings": [{"category": "HARM_CATEGORY_JAILBREAK", "threshold": "OFF", "method": "SEVERITY"}],
            "tools": [
                {
                    "google_search": {
                        "exclude_domains": ["a.example"],
                        "blocking_confidence": "BLOCK_HIGH_AND_ABOVE",
                    }
                }
            ],
        },
    ),
    "avatar": (
        {},
        {"backend": "vertex", "avatar": {"name": "Ada", "video_bitrate_bps": 500000}},
        {"response_modalities": ["VIDEO"], "avatar_config": {"avatar_name": "Ada", "video_bitrate_bps": 500000}},
    ),
    "half cascade": (
        {"modality": "text", "language": "nb-NO"},
        {"backend": "vertex", "model": "gemini-live-2.5-flash", "code_execution": True, "url_context": True},
        {
            "response_modalities": ["TEXT"],
            "speech_config": {"language_code": "nb-NO"},
            "output_audio_transcription": None,
            "tools": [{"code_execution": {}}, {"url_context": {}}],
        },
    ),
}


@pytest.mark.parametrize("name", SETUPS)
async def test_our_setup_is_the_sdks(name: str) -> None:
    speech, own, config = SETUPS[name]
    config = {key: value for key, value in {**BASE, **config}.items() if value is not None}
    theirs = await sdk_setup(
        own.get("model", "gemini-3.8-live"),
        config,
        vertex=own.get("backend") == "vertex",
        version=own.get("api_version", "v1beta1" if own.get("backend") == "vertex" else "v1beta"),
    )
    assert normalised(our_setup(speech, own)) == normalised(theirs)


async def test_a_misspelt_field_of_ours_would_be_seen() -> None:
    theirs = await sdk_setup("gemini-3.8-live", BASE, vertex=False, version="v1beta")
    ours = our_setup({}, {})
    ours["setup"]["sesionResumption"] = ours["setup"].pop("sessionResumption")
    assert normalised(ours) != normalised(theirs)


async def test_the_emulator_refuses_a_misspelt_field_in_the_services_words() -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed

    async with GeminiEmulator() as emulator:
        url = emulator.base_url + "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=k"
        async with connect(url) as socket:
            await socket.send('{"setup": {"model": "models/gemini-3.8-live", "generationConfig": {"temprature": 1}}}')
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
        1007,
        "Invalid JSON payload received. Unknown name \"temprature\" at 'setup.generation_config': Cannot find field.",
    )


# ----------------------------------------------------------------------------------------------- all other messages


def ready(own: dict[str, Any] | None = None, **start: Any) -> GeminiProtocol:
    settings = msgspec.convert(own or {}, GeminiSettings)
    speech = SpeechSettings(
        tools=(ToolSpec(name="one", blocking=True), ToolSpec(name="two")),
        turn_detection=TurnDetectionSettings(mode="manual" if start.pop("manual", False) else "auto"),
    )
    core = GeminiProtocol(plan_session(speech, settings, endpoint(settings, CLOUD), SessionStart(**start)))
    core.start(0.0)
    core.outgoing()
    core.receive(b'{"setupComplete": {}}', 0.0)
    return core


def tool_answers(core: GeminiProtocol) -> None:
    calls = [{"id": "a", "name": "one"}, {"id": "b", "name": "two"}]
    core.receive(json.dumps({"toolCall": {"functionCalls": calls}}), 1.0)
    core.send_tool_result("b", "two", "text", respond=False)
    core.send_tool_result("a", "one", {"error": 1}, error=True)


def interruption(core: GeminiProtocol) -> None:
    core.receive(json.dumps({"serverContent": {"outputTranscription": {"text": "x"}}}), 1.0)
    core.interrupt(1.0)


def marks(core: GeminiProtocol) -> None:
    core.start_activity()
    core.end_activity()


def audio(core: GeminiProtocol) -> None:
    core.send_raw(json.loads(core.encode_audio(bytes(range(256)), PCM16_16K)))
    core.end_input()


COMMANDS: dict[str, tuple[dict[str, Any], dict[str, Any], Callable[[GeminiProtocol], None]]] = {
    "history": ({}, {"history": (HistoryItem(role="user", text="hi"),)}, lambda core: None),
    "audio": ({}, {}, audio),
    "activity": ({}, {"manual": True}, marks),
    "image": ({}, {}, lambda core: core.send_image(b"\xff\xd8\xff", "image/jpeg")),
    "text": ({}, {}, lambda core: core.send_text("hello")),
    "silent text": ({}, {}, lambda core: core.send_text("hello", respond=False)),
    "respond": ({}, {}, lambda core: core.respond("greet them")),
    "respond, older": ({"model": "gemini-2.5-flash-native-audio-latest"}, {}, lambda core: core.respond()),
    "interrupt": ({}, {}, interruption),
    "tool answers": ({}, {}, tool_answers),
    "update": ({"backend": "vertex"}, {}, lambda core: core.update(instructions="x", tools=[ToolSpec(name="n")])),
    "clear tools": ({"backend": "vertex"}, {}, lambda core: core.update(tools=[])),
}


def check_client_message(message: dict[str, Any]) -> None:
    """Every key known to the SDK at every depth (its types forbid others), and none lost on the way through."""
    passed = types.LiveClientMessage.model_validate(message).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert keys(passed) == keys(message)


def keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: keys(item) for key, item in value.items()}
    return [keys(item) for item in value] if isinstance(value, list) else None


@pytest.mark.parametrize("name", COMMANDS)
def test_every_client_message_is_one_of_the_sdks(name: str) -> None:
    own, start, command = COMMANDS[name]
    core = ready(own, **start)
    command(core)
    messages = [json.loads(message) for message in core.outgoing()]
    assert messages
    for message in messages:
        check_client_message(message)


@pytest.mark.parametrize(
    "misspelt",
    [
        {"realtimeInptu": {"text": "x"}},
        {"realtimeInput": {"audio": {"mimetype": "audio/pcm", "data": ""}}},
        {"clientContent": {"turns": [{"role": "user", "parts": [{"txt": "x"}]}], "turnComplete": True}},
        {"toolResponse": {"functionResponses": [{"id": "a", "nam": "x", "response": {}}]}},
    ],
)
def test_a_misspelt_field_at_any_depth_would_be_seen(misspelt: dict[str, Any]) -> None:
    with pytest.raises((ValidationError, AssertionError)):
        check_client_message(misspelt)


# --------------------------------------------------------------------------------------- the SDK talks to the emulator


def voice(seconds: float) -> bytes:
    noise = np.random.default_rng(3).normal(0, 4000, int(seconds * 16_000))
    return np.asarray(np.convolve(noise, np.ones(8) / 3, "same").clip(-32000, 32000), dtype="<i2").tobytes()


async def speak(session: Any, seconds: float) -> None:
    for audio in (voice(seconds), bytes(12_800)):
        for first in range(0, len(audio), 3200):
            blob = types.Blob(data=audio[first : first + 3200], mime_type="audio/pcm;rate=16000")
            await session.send_realtime_input(audio=blob)


CONFIG = types.LiveConnectConfig(
    response_modalities=[types.Modality.AUDIO],
    input_audio_transcription=types.AudioTranscriptionConfig(),
    output_audio_transcription=types.AudioTranscriptionConfig(),
    session_resumption=types.SessionResumptionConfig(),
)


def scenario(text: str = "") -> Scenario:
    return load_text(f"{text}\n{FAST}")


@pytest.mark.parametrize("vertex", [False, True])
async def test_the_sdk_hears_what_it_said(vertex: bool) -> None:
    async with GeminiEmulator(scenario(), tls=True) as emulator, sdk(emulator, vertex=vertex) as client:
        async with client.live.connect(model="gemini-3.8-live", config=CONFIG) as session:
            await speak(session, 0.6)
            answer, heard, said, usage = b"", "", "", None
            async for message in session.receive():
                answer += message.data or b""
                content = message.server_content
                if content and content.input_transcription:
                    heard += content.input_transcription.text or ""
                if content and content.output_transcription:
                    said += content.output_transcription.text or ""
                usage = message.usage_metadata or usage
    asked = np.frombuffer(voice(0.6), dtype="<i2").astype(float)
    asked = np.interp(np.arange(0, len(asked), 2 / 3), np.arange(len(asked)), asked)
    spoken = np.frombuffer(answer, dtype="<i2").astype(float)
    match = np.correlate(spoken, asked, "valid").max() / (np.linalg.norm(asked) * np.linalg.norm(spoken))
    assert match > 0.9
    assert heard.strip().startswith("I heard") and said
    assert usage is not None and (usage.response_token_count or 0) > 0


async def test_the_sdk_interrupts() -> None:
    long = (
        'answer = { kind = "tone", duration_ms = 20000 }\n[pace]\nspeed = 2.0\nlatency_ms = 20\n[vad]\nsilence_ms=200'
    )
    async with GeminiEmulator(load_text(long), tls=True) as emulator, sdk(emulator) as client:
        async with client.live.connect(model="gemini-3.8-live", config=CONFIG) as session:
            await speak(session, 0.4)
            kinds: list[str] = []
            async for message in session.receive():
                content = message.server_content
                if message.data and "speech" not in kinds:
                    kinds.append("speech")
                    await speak(session, 0.3)
                if content and content.interrupted:
                    kinds.append("interrupted")
                if content and content.generation_complete:
                    kinds.append("generation_complete")
                if content and content.turn_complete:
                    kinds.append("turn_complete")
    assert kinds == ["speech", "interrupted", "turn_complete"]


TOOL = """
[[turns]]
turn = 1
calls = [{ name = "weather", arguments = { city = "Oslo" } }]
answer = { kind = "text", text = "It is {result} now" }
"""


@pytest.mark.parametrize("behavior", ["BLOCKING", "NON_BLOCKING"])
async def test_the_sdk_answers_a_tool_call(behavior: str) -> None:
    weather = types.FunctionDeclaration(name="weather", behavior=types.Behavior(behavior))
    config = CONFIG.model_copy(update={"tools": [types.Tool(function_declarations=[weather])]})
    script = TOOL if behavior == "BLOCKING" else TOOL.replace("turn = 1", "turn = 1\nblocking = false")
    async with GeminiEmulator(scenario(script), tls=True) as emulator, sdk(emulator) as client:
        async with client.live.connect(model="gemini-3.8-live", config=config) as session:
            await session.send_realtime_input(text="how is the weather?")
            said = ""
            while "now" not in said:
                async for message in session.receive():
                    for call in (message.tool_call.function_calls or []) if message.tool_call else []:
                        assert call.args == {"city": "Oslo"}
                        answer = types.FunctionResponse(id=call.id, name=call.name, response={"output": "7"})
                        await session.send_tool_response(function_responses=answer)
                    content = message.server_content
                    if content and content.output_transcription:
                        said += content.output_transcription.text or ""
    assert "It is 7 now" in said
    assert emulator.sessions[0].tool_answers[0]["response"] == {"output": "7"}


async def test_the_sdk_uses_every_other_message() -> None:
    vendor = GeminiVendor()
    async with GeminiEmulator(scenario(), tls=True, vendor=vendor) as emulator, sdk(emulator) as client:
        async with client.live.connect(model="gemini-3.8-live", config=CONFIG) as session:
            await session.send_context_update(system_instruction="be brief", tools=[])
            await session.send_realtime_input(video=types.Blob(data=b"\xff\xd8", mime_type="image/jpeg"))
            await session.send_realtime_input(audio_stream_end=True)
            turn = types.Content(role="user", parts=[types.Part(text="hello")])
            await session.send_client_content(turns=turn)
            async for _ in session.receive():
                pass
            handles = vendor.handles
        wire = emulator.sessions[0]
    assert (wire.instructions, wire.tools, wire.images, wire.texts) == ("be brief", [], [b"\xff\xd8"], ["hello"])
    assert wire.activities == ["stream_end"] and handles


async def test_the_sdk_resumes_and_is_refused_while_the_old_socket_is_open() -> None:
    async with GeminiEmulator(scenario(), tls=True) as emulator, sdk(emulator) as client:
        async with client.live.connect(model="gemini-3.8-live", config=CONFIG) as session:
            handle = ""
            while not handle:
                update = (await session._receive()).session_resumption_update
                handle = (update.new_handle if update and update.resumable else "") or ""
            resumption = types.SessionResumptionConfig(handle=handle)
            again = CONFIG.model_copy(update={"session_resumption": resumption})
            with pytest.raises(genai.errors.APIError, match="1011"):
                async with client.live.connect(model="gemini-3.8-live", config=again):
                    pass
        await emulator.connections[0].ended.wait()
        async with client.live.connect(model="gemini-3.8-live", config=again):
            assert emulator.sessions[-1].resumed


async def test_an_ephemeral_token_has_a_method_of_its_own() -> None:
    async with GeminiEmulator(scenario(), tls=True, vendor=GeminiVendor(keys={"auth_tokens/x"})) as emulator:
        assert emulator.certificate is not None
        options = types.HttpOptions(
            base_url=f"https://127.0.0.1:{emulator.port}",
            api_version="v1alpha",
            async_client_args={"ssl": emulator.certificate.client_context()},
        )
        client = genai.Client(api_key="auth_tokens/x", http_options=options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the SDK warns that its token support is experimental
            async with client.aio.live.connect(model="gemini-3.8-live", config=CONFIG):
                assert emulator.sessions[0].request.path.endswith("BidiGenerateContentConstrained")
        client.close()
        await client.aio.aclose()
        await asyncio.sleep(0)
