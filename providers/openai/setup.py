"""From settings to the first `session.update`; what OpenAI would refuse in them is found before anything is opened."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import msgspec

from providers.contract import Capabilities, SessionStart, ToolSpec, Truncation, TurnDetector
from providers.errors import SettingRefused
from providers.openai import catalog
from providers.openai.auth import KEY_VARIABLE, credential_problem
from providers.openai.endpoint import base_url_problem, find_base_url, is_official
from providers.openai.settings import OpenAISettings, PromptTemplate, TracingSettings
from providers.settings import SpeechSettings, TurnDetectionSettings
from providers.signal.formats import AudioFormat, Encoding
from providers.signal.resample import RATES_HZ
from providers.webrtc.ice import resolve, shown_url
from providers.webrtc.settings import IceServer

__all__ = [
    "MAX_CALL_IMAGE_BYTES",
    "MAX_CALL_MESSAGE_BYTES",
    "OpenAISettings",
    "PromptTemplate",
    "TracingSettings",
    "capabilities_of",
    "function_tools",
    "problems",
    "session_body",
    "setting_of",
    "settings_for",
    "tool_problems",
    "turn_detection_body",
    "voice_body",
]

_OWN = "providers.openai"
MAX_CALL_MESSAGE_BYTES = 262_144
"""One message over a data channel: the maximum that SCTP in WebRTC is sure to take."""
MAX_CALL_IMAGE_BYTES = (MAX_CALL_MESSAGE_BYTES - 1_000) * 3 // 4
"""In base64, with the message around it."""
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TOOL_CHOICES = frozenset({"auto", "none", "required"})
_SERVER_VAD_WORDS = ("threshold", "prefix_padding_ms", "silence_ms", "idle_timeout_ms")
_SEED_ITEMS = 128
"""Nobody says how many items are too many; the sister API takes 128 text messages as its history."""
_SERVER_VAD_WIRE = {
    "threshold": "threshold",
    "prefix_padding_ms": "prefix_padding_ms",
    "silence_ms": "silence_duration_ms",
    "idle_timeout_ms": "idle_timeout_ms",
}


# --------------------------------------------------------------------------------------------------- what is refused


def problems(speech: SpeechSettings, own: OpenAISettings, environ: Mapping[str, str]) -> list[SettingRefused]:
    """Everything that OpenAI would refuse in these settings, all at once. Empty: a session can be opened."""
    address = base_url_problem(own.base_url, environ)
    official = address is None and is_official(find_base_url(own.base_url, environ))
    key = credential_problem(environ, required=official, minting=own.auth == "client_secret")
    found = [problem for problem in (address, key) if problem is not None]
    found += _model_problems(speech, own, official)
    found += _transport_problems(speech, own, environ)
    found += _audio_problems(own, official)
    found += _voice_problems(speech.voice_for("openai"), own, official)
    found += _turn_problems(speech.turn_detection)
    found += _transcription_problems(speech, own)
    found += _context_problems(own)
    found += tool_problems(speech.tools)
    found += _header_problems(own, environ)
    return found


def _model_problems(speech: SpeechSettings, own: OpenAISettings, official: bool) -> Iterator[SettingRefused]:
    facts = catalog.model_facts(own.model)
    if facts.not_conversational and official:
        yield SettingRefused(f"{_OWN}.model", own.model, facts.not_conversational)
    if speech.temperature is not None:
        yield SettingRefused("speech.temperature", speech.temperature, "OpenAI Realtime has none any more: remove it")
    if speech.language is not None:
        mend = "OpenAI has no such setting: name the language in speech.instructions, "
        mend += "and for captions in speech.transcription.language"
        yield SettingRefused("speech.language", speech.language, mend)
    if speech.max_output_tokens is not None and speech.max_output_tokens > catalog.MAX_OUTPUT_TOKENS:
        mend = f"at most {catalog.MAX_OUTPUT_TOKENS}, or leave it out for no limit"
        yield SettingRefused("speech.max_output_tokens", speech.max_output_tokens, mend)
    if speech.thinking == "off" and facts.reasoning:
        yield SettingRefused("speech.thinking", "off", f"{own.model} always reasons: use minimal")
    if speech.thinking not in (None, "off") and facts.reasoning is False:
        mend = f"{own.model} does not reason: use gpt-realtime-2.1 or remove it"
        yield SettingRefused("speech.thinking", speech.thinking, mend)
    if own.parallel_tool_calls is not None and facts.reasoning is False:
        mend = f"{own.model} has no such switch: use gpt-realtime-2.1 or remove it"
        yield SettingRefused(f"{_OWN}.parallel_tool_calls", own.parallel_tool_calls, mend)


def _transport_problems(
    speech: SpeechSettings, own: OpenAISettings, environ: Mapping[str, str]
) -> Iterator[SettingRefused]:
    if own.transport == "websocket":
        for field, value in (
            ("webrtc_request", None if own.webrtc_request == "auto" else own.webrtc_request),
            ("sideband", own.sideband or None),
            ("ice_servers", _shown(own.ice_servers) or None),
        ):
            if value is not None:
                yield SettingRefused(f"{_OWN}.{field}", value, "only counts with transport = 'webrtc'")
        return
    if any(find_spec(name) is None for name in ("aiortc", "av")):
        mend = "needs the extra webrtc: pip install 'roombridge[webrtc]'"
        yield SettingRefused(f"{_OWN}.transport", own.transport, mend)
    ephemeral = environ.get(KEY_VARIABLE, "").strip().startswith("ek_")
    if own.webrtc_request == "sdp" and own.auth == "api_key" and not ephemeral:
        mend = "an offer alone goes with a client secret: set auth = 'client_secret', or use unified"
        yield SettingRefused(f"{_OWN}.webrtc_request", own.webrtc_request, mend)
    if own.sideband and ephemeral:
        yield SettingRefused(f"{_OWN}.sideband", True, f"joining a call needs an API key in {KEY_VARIABLE}")
    try:
        resolve(own.ice_servers, environ)
    except ValueError as error:
        yield SettingRefused(f"{_OWN}.ice_servers", _shown(own.ice_servers), str(error))
    size = 0 if own.sideband else len(msgspec.json.encode(session_body(speech, own)))
    if size > MAX_CALL_MESSAGE_BYTES - 1000:
        mend = f"the setup is {size} bytes long; a message over WebRTC holds {MAX_CALL_MESSAGE_BYTES}: "
        mend += f"shorten speech.instructions and tools, or set {_OWN}.sideband = true"
        yield SettingRefused(f"{_OWN}.transport", own.transport, mend)


def _shown(servers: Sequence[IceServer]) -> list[str]:
    return [shown_url(url) for server in servers for url in server.urls]


def _audio_problems(own: OpenAISettings, official: bool) -> Iterator[SettingRefused]:
    for side, name, rate_hz in (
        ("input", own.input_format, own.input_rate_hz),
        ("output", own.output_format, own.output_rate_hz),
    ):
        if own.transport == "webrtc":
            if name != "pcm":
                mend = "WebRTC carries Opus: remove it, or use transport = 'websocket'"
                yield SettingRefused(f"{_OWN}.{side}_format", name, mend)
            elif rate_hz != 24_000:
                mend = "speech over WebRTC has 24000 Hz on our side, whatever the codec does: remove it"
                yield SettingRefused(f"{_OWN}.{side}_rate_hz", rate_hz, mend)
        elif name == "pcm" and official and rate_hz != 24_000:
            yield SettingRefused(f"{_OWN}.{side}_rate_hz", rate_hz, "OpenAI takes pcm at 24000 Hz only")
        elif name == "pcm" and rate_hz not in RATES_HZ:
            mend = f"no conversion to this rate: use one of {', '.join(map(str, RATES_HZ))}"
            yield SettingRefused(f"{_OWN}.{side}_rate_hz", rate_hz, mend)
    if own.noise_reduction_strength is not None and own.noise_reduction is None:
        mend = "set noise_reduction to near_field or far_field, or remove the strength"
        yield SettingRefused(f"{_OWN}.noise_reduction_strength", own.noise_reduction_strength, mend)


def _voice_problems(voice: str | None, own: OpenAISettings, official: bool) -> Iterator[SettingRefused]:
    if voice is None or not official or not catalog.model_facts(own.model).listed:
        return
    if voice not in catalog.VOICES and not voice.startswith(catalog.CUSTOM_VOICE_PREFIX):
        mend = f"{own.model} has {', '.join(catalog.VOICES)}, or a custom voice_..."
        yield SettingRefused("speech.voice", voice, mend)


def _turn_problems(turns: TurnDetectionSettings) -> Iterator[SettingRefused]:
    path = "speech.turn_detection"
    server_words = [word for word in _SERVER_VAD_WORDS if getattr(turns, word) is not None]
    if turns.mode == "manual":
        for word in [*server_words, *(["eagerness"] if turns.eagerness is not None else [])]:
            yield SettingRefused(
                f"{path}.{word}", getattr(turns, word), "nothing detects turns in mode manual: remove it"
            )
    elif turns.mode == "semantic_vad":
        for word in server_words:
            mend = "semantic_vad does not know it: use mode server_vad, or eagerness instead"
            yield SettingRefused(f"{path}.{word}", getattr(turns, word), mend)
    elif turns.mode == "server_vad" and turns.eagerness is not None:
        mend = "server_vad does not know it: use mode semantic_vad, or silence_ms instead"
        yield SettingRefused(f"{path}.eagerness", turns.eagerness, mend)
    elif turns.mode == "auto" and turns.eagerness is not None and server_words:
        mend = f"goes with semantic_vad, but {server_words[0]} with server_vad: keep one of them"
        yield SettingRefused(f"{path}.eagerness", turns.eagerness, mend)


def _transcription_problems(speech: SpeechSettings, own: OpenAISettings) -> Iterator[SettingRefused]:
    wanted = speech.transcription
    model = wanted.model or catalog.DEFAULT_TRANSCRIPTION_MODEL
    facts = catalog.transcription_facts(model)
    if not wanted.input:
        asked: dict[str, object] = {
            "speech.transcription.model": wanted.model,
            "speech.transcription.language": wanted.language,
            "speech.transcription.vocabulary": wanted.vocabulary or None,
            f"{_OWN}.transcription_delay": own.transcription_delay,
            f"{_OWN}.transcription_languages": own.transcription_languages or None,
            f"{_OWN}.transcription_prompt": own.transcription_prompt,
            f"{_OWN}.include": own.include or None,
        }
        for field, value in asked.items():
            if value is not None:
                yield SettingRefused(field, value, "needs speech.transcription.input = true")
        return
    if own.transcription_delay is not None and not facts.delay:
        mend = f"only gpt-realtime-whisper takes it, not {model}: remove it or change speech.transcription.model"
        yield SettingRefused(f"{_OWN}.transcription_delay", own.transcription_delay, mend)
    if own.transcription_languages and not facts.languages:
        mend = f"only gpt-transcribe and gpt-live-transcribe take it, not {model}: use speech.transcription.language"
        yield SettingRefused(f"{_OWN}.transcription_languages", own.transcription_languages, mend)
    if own.transcription_prompt is not None and not facts.prompt:
        yield SettingRefused(f"{_OWN}.transcription_prompt", own.transcription_prompt, f"{model} takes no prompt")
    if wanted.vocabulary and not (facts.keywords or facts.prompt):
        mend = f"{model} takes neither keywords nor a prompt: use gpt-transcribe"
        yield SettingRefused("speech.transcription.vocabulary", wanted.vocabulary, mend)
    if wanted.vocabulary and not facts.keywords and own.transcription_prompt is not None:
        mend = f"{model} has one field for both: keep the vocabulary or the prompt, or use gpt-transcribe"
        yield SettingRefused(f"{_OWN}.transcription_prompt", own.transcription_prompt, mend)


def _context_problems(own: OpenAISettings) -> Iterator[SettingRefused]:
    if own.truncation == "retention_ratio" and own.retention_ratio is None:
        yield SettingRefused(f"{_OWN}.truncation", own.truncation, "needs retention_ratio, 0.0 to 1.0")
    if own.truncation != "retention_ratio":
        for word in ("retention_ratio", "post_instructions_token_limit"):
            if getattr(own, word) is not None:
                mend = "only counts with truncation = 'retention_ratio'"
                yield SettingRefused(f"{_OWN}.{word}", getattr(own, word), mend)
    if own.tool_choice is not None and not _TOOL_NAME.fullmatch(own.tool_choice):
        mend = "auto, none, required, or the name of a tool"
        yield SettingRefused(f"{_OWN}.tool_choice", own.tool_choice, mend)


def tool_problems(tools: Iterable[ToolSpec]) -> Iterator[SettingRefused]:
    """What OpenAI would refuse in these tools."""
    seen: set[str] = set()
    for tool in tools:
        if not _TOOL_NAME.fullmatch(tool.name):
            yield SettingRefused("speech.tools.name", tool.name, "1 to 64 letters, digits, _ or -")
        elif tool.name in seen:
            yield SettingRefused("speech.tools.name", tool.name, "given twice: names must differ")
        elif tool.parameters.get("type", "object") != "object":
            value = tool.parameters["type"]
            yield SettingRefused(f"speech.tools.{tool.name}.parameters.type", value, "must be 'object'")
        seen.add(tool.name)


def _header_problems(own: OpenAISettings, environ: Mapping[str, str]) -> Iterator[SettingRefused]:
    for field, value in (
        (f"{_OWN}.organization", own.organization),
        (f"{_OWN}.project", own.project),
        (f"{_OWN}.safety_identifier", own.safety_identifier),
        ("OPENAI_ORG_ID", environ.get("OPENAI_ORG_ID")),
        ("OPENAI_PROJECT_ID", environ.get("OPENAI_PROJECT_ID")),
    ):
        if value is not None and (not value.isascii() or any(ord(char) < 32 for char in value)):
            yield SettingRefused(field, value, "goes into a header: printable ASCII only")


_SETTING_OF_PARAM = {
    "session.model": f"{_OWN}.model",
    "session.instructions": "speech.instructions",
    "session.output_modalities": "speech.modality",
    "session.max_output_tokens": "speech.max_output_tokens",
    "session.reasoning": "speech.thinking",
    "session.tools": "speech.tools",
    "session.tool_choice": f"{_OWN}.tool_choice",
    "session.parallel_tool_calls": f"{_OWN}.parallel_tool_calls",
    "session.truncation": f"{_OWN}.truncation",
    "session.tracing": f"{_OWN}.tracing",
    "session.prompt": f"{_OWN}.prompt",
    "session.include": f"{_OWN}.include",
    "session.audio.input.format": f"{_OWN}.input_format",
    "session.audio.input.noise_reduction": f"{_OWN}.noise_reduction",
    "session.audio.input.transcription": "speech.transcription",
    "session.audio.input.turn_detection": "speech.turn_detection",
    "session.audio.output.format": f"{_OWN}.output_format",
    "session.audio.output.voice": "speech.voice",
    "session.audio.output.speed": f"{_OWN}.speed",
}


def setting_of(param: str) -> str:
    """The setting behind a `param` of OpenAI's errors, or the param itself: `session.reasoning.effort` is thinking."""
    path = param
    while path:
        if path in _SETTING_OF_PARAM:
            return _SETTING_OF_PARAM[path]
        path = path.rpartition(".")[0]
    return param


# ------------------------------------------------------------------------------------------------------- the mapping


def settings_for(speech: SpeechSettings, start: SessionStart) -> SpeechSettings:
    """The settings of one session: what `SessionStart` overrides or adds is put in."""
    changes: dict[str, Any] = {}
    if start.instructions is not None:
        changes["instructions"] = start.instructions
    if start.tools is not None:
        changes["tools"] = speech.tools_with(start.tools)
    if start.voice is not None:
        changes["voice"] = start.voice
    return msgspec.structs.replace(speech, **changes) if changes else speech


def session_body(speech: SpeechSettings, own: OpenAISettings) -> dict[str, Any]:
    """The `session` of the first `session.update`. Leaves out what is left to the server; `model` goes in the URL."""
    session: dict[str, Any] = {
        "type": "realtime",
        "output_modalities": [speech.modality],
        "audio": {"input": _input_body(speech, own), "output": _output_body(speech, own)},
    }
    if speech.instructions:
        session["instructions"] = speech.instructions
    if speech.tools:
        session["tools"] = function_tools(speech.tools)
    if own.tool_choice is not None:
        chosen = own.tool_choice
        session["tool_choice"] = chosen if chosen in _TOOL_CHOICES else {"type": "function", "name": chosen}
    if own.parallel_tool_calls is not None:
        session["parallel_tool_calls"] = own.parallel_tool_calls
    if speech.thinking not in (None, "off"):
        session["reasoning"] = {"effort": speech.thinking}
    if speech.max_output_tokens is not None:
        session["max_output_tokens"] = speech.max_output_tokens
    if own.truncation is not None:
        session["truncation"] = _truncation_body(own)
    if own.tracing is not None:
        session["tracing"] = own.tracing if isinstance(own.tracing, str) else _given(own.tracing)
    if own.prompt is not None:
        session["prompt"] = _given(own.prompt)
    if own.include:
        session["include"] = list(own.include)
    return session


def _input_body(speech: SpeechSettings, own: OpenAISettings) -> dict[str, Any]:
    body = _format(own, own.input_audio_format())
    if own.noise_reduction is not None:
        body["noise_reduction"] = {"type": own.noise_reduction}
        if own.noise_reduction_strength is not None:
            body["noise_reduction"]["strength"] = own.noise_reduction_strength
    body["transcription"] = _transcription_body(speech, own)
    turns = speech.turn_detection
    if turns.mode == "manual":
        body["turn_detection"] = None
    elif (detection := turn_detection_body(turns)) is not None:
        body["turn_detection"] = detection
    return body


def _output_body(speech: SpeechSettings, own: OpenAISettings) -> dict[str, Any]:
    body = _format(own, own.output_audio_format())
    voice = speech.voice_for("openai")
    if voice is not None:
        body["voice"] = voice_body(voice)
    if own.speed is not None:
        body["speed"] = own.speed
    return body


def turn_detection_body(turns: TurnDetectionSettings) -> dict[str, Any] | None:
    """The detector that these settings ask for; None leaves the choice to the server (mode auto, nothing else said).

    In mode auto, `eagerness` asks for semantic_vad; anything else for server_vad, the documented default.
    """
    body: dict[str, Any] = {}
    for word, wire in _SERVER_VAD_WIRE.items():
        if getattr(turns, word) is not None:
            body[wire] = getattr(turns, word)
    if turns.eagerness is not None:
        body["eagerness"] = turns.eagerness
    if not turns.create_response:
        body["create_response"] = False
    if not turns.interrupt_response:
        body["interrupt_response"] = False
    if turns.mode == "auto" and not body:
        return None
    semantic = turns.mode == "semantic_vad" or (turns.mode == "auto" and turns.eagerness is not None)
    return {"type": "semantic_vad" if semantic else "server_vad", **body}


def _transcription_body(speech: SpeechSettings, own: OpenAISettings) -> dict[str, Any] | None:
    wanted = speech.transcription
    if not wanted.input:
        return None
    model = wanted.model or catalog.DEFAULT_TRANSCRIPTION_MODEL
    facts = catalog.transcription_facts(model)
    body: dict[str, Any] = {"model": model}
    if wanted.language is not None:
        body["language"] = wanted.language.replace("_", "-").split("-")[0].lower()  # ISO 639-1 has no region
    if own.transcription_languages:
        body["languages"] = list(own.transcription_languages)
    if wanted.vocabulary and facts.keywords:
        body["keywords"] = list(wanted.vocabulary)
    elif wanted.vocabulary:
        body["prompt"] = ", ".join(wanted.vocabulary)
    if own.transcription_prompt is not None:
        body["prompt"] = own.transcription_prompt
    if own.transcription_delay is not None:
        body["delay"] = own.transcription_delay
    return body


def _truncation_body(own: OpenAISettings) -> str | dict[str, Any]:
    if own.truncation != "retention_ratio":
        return own.truncation or "auto"
    body: dict[str, Any] = {"type": "retention_ratio", "retention_ratio": own.retention_ratio}
    if own.post_instructions_token_limit is not None:
        body["token_limits"] = {"post_instructions": own.post_instructions_token_limit}
    return body


def _format(own: OpenAISettings, format: AudioFormat) -> dict[str, Any]:
    """Over WebRTC both sides' descriptions of the call say it."""
    return {} if own.transport == "webrtc" else {"format": _format_body(format)}


def _format_body(format: AudioFormat) -> dict[str, Any]:
    if format.encoding is Encoding.PCM16:
        return {"type": "audio/pcm", "rate": format.rate_hz}
    return {"type": f"audio/{format.encoding.value}"}


def voice_body(voice: str) -> str | dict[str, str]:
    """A voice by name, or a custom one by its id."""
    return {"id": voice} if voice.startswith(catalog.CUSTOM_VOICE_PREFIX) else voice


def function_tools(tools: Sequence[ToolSpec]) -> list[dict[str, Any]]:
    """Flat, as the Realtime API wants them: no nested `function`, no `strict`."""
    return [
        {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters}
        for tool in tools
    ]


def _given(settings: msgspec.Struct) -> dict[str, Any]:
    """The fields that were set, by name."""
    fields: dict[str, Any] = msgspec.structs.asdict(settings)
    return {name: value for name, value in fields.items() if value not in (None, {})}


# ------------------------------------------------------------------------------------------------------ capabilities


def _seed_chars(own: OpenAISettings, facts: catalog.ModelFacts) -> int:
    """A quarter of the context, half of a limit that was set: no sentence has more tokens than characters."""
    bounds = [facts.context_tokens // 4]
    if own.post_instructions_token_limit is not None:
        bounds.append(own.post_instructions_token_limit // 2)
    return min(bounds)


def capabilities_of(speech: SpeechSettings, own: OpenAISettings, environ: Mapping[str, str]) -> Capabilities:
    """What a session with these settings can do."""
    facts = catalog.model_facts(own.model)
    spoken = speech.modality == "audio"
    manual = speech.turn_detection.mode == "manual"
    official = is_official(find_base_url(own.base_url, environ))
    # Over WebRTC the server plays at the speed of sound, and knows by itself how far it got.
    truncation = Truncation.SERVER if own.transport == "webrtc" else Truncation.CLIENT
    return Capabilities(
        provider="openai",
        model=own.model,
        input_formats=(own.input_audio_format(),),
        output_format=own.output_audio_format(),
        speech=spoken,
        video=facts.images,
        max_image_bytes=MAX_CALL_IMAGE_BYTES if own.transport == "webrtc" and not own.sideband else None,
        async_tools=True,
        truncation=truncation if spoken else Truncation.NONE,
        # There is no resumption: a session that is lost is begun anew, with its history as text items.
        resumption=False,
        seed_items=_SEED_ITEMS,
        seed_chars=_seed_chars(own, facts),
        repairable_memory=True,
        # A voice can be changed too, but only before the first speech: `update` says which it is.
        in_place_update=frozenset({"instructions", "tools"}),
        turn_detector=TurnDetector.CLIENT if manual else TurnDetector.PROVIDER,
        interrupts_on_speech=speech.turn_detection.interrupt_response and not manual,
        answers_turns=speech.turn_detection.create_response,
        needs_continuous_input=not manual,
        max_session_s=own.max_session_s,
        voices=catalog.VOICES if official and facts.listed else (),
    )
