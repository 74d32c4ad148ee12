"""From settings to the first message, and to what the protocol core must know of the session."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pybase64

from providers.contract import (
    Capabilities,
    HistoryItem,
    SessionStart,
    ToolSpec,
    Truncation,
    TurnDetector,
)
from providers.errors import SettingRefused
from providers.gemini.checks import problems, tool_problems, voice_problems
from providers.gemini.endpoint import Endpoint
from providers.gemini.rules import VOICES, Backend, ModelRules, rules_for
from providers.gemini.schema import function_declaration
from providers.gemini.settings import GeminiSettings
from providers.seeding import seed
from providers.settings import SpeechSettings
from providers.signal.formats import PCM16_16K, PCM16_24K, AudioFormat, Encoding

__all__ = [
    "GeminiSettings",
    "SessionPlan",
    "build_setup",
    "capabilities",
    "instruction_content",
    "plan_session",
    "problems",
    "tool_list",
]

_INPUT_FORMATS = (
    PCM16_16K,  # native; any other rate is resampled by the service
    PCM16_24K,
    AudioFormat(Encoding.PCM16, 48_000),
    AudioFormat(Encoding.PCM16, 8_000),
)
_UNCOMPRESSED_SESSION_S = 15 * 60.0
_CONNECTION_S = 58 * 60.0
"""A go-away comes long before, by the documentation; Developer API connections were measured to end at this age without
one ("Deadline expired")."""
_SEED_ITEMS = 128
"""Nobody says how many turns are too many; so many are a long conversation."""
_TURN_COVERAGE = {
    "only_activity": "TURN_INCLUDES_ONLY_ACTIVITY",
    "all_input": "TURN_INCLUDES_ALL_INPUT",
    "audio_activity_and_all_video": "TURN_INCLUDES_AUDIO_ACTIVITY_AND_ALL_VIDEO",
}


class SessionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the protocol core needs to know of one session, with every choice already made."""

    number: int
    setup: dict[str, Any]
    """The bare setup object."""
    rules: ModelRules
    backend: Backend
    capabilities: Capabilities
    own: GeminiSettings
    tools: tuple[ToolSpec, ...] = ()
    history: tuple[HistoryItem, ...] = ()
    history_cut: str = ""
    """What of the history was left out; empty: nothing."""
    manual_turns: bool = False
    resumed: bool = False


def plan_session(speech: SpeechSettings, own: GeminiSettings, place: Endpoint, start: SessionStart) -> SessionPlan:
    """One session's plan: the settings with what `start` overrides. Raises `SettingRefused` for an override that
    the model cannot serve."""
    rules = rules_for(own.model)
    tools = speech.tools_with(start.tools)
    refused = [*tool_problems(tools, own, rules), *voice_problems(start.voice)]
    if refused:
        raise refused[0]
    able = capabilities(speech, own, place.backend)
    # A resumed session knows it all.
    seeded = seed(() if start.resume else start.history, able, alternate=True)
    start = msgspec.structs.replace(start, history=seeded.items)
    return SessionPlan(
        number=start.number,
        setup=build_setup(speech, own, place, start),
        rules=rules,
        backend=place.backend,
        capabilities=able,
        own=own,
        tools=tools,
        history=seeded.items,
        history_cut=seeded.cut,
        manual_turns=speech.turn_detection.mode == "manual",
        resumed=bool(start.resume),
    )


def capabilities(speech: SpeechSettings, own: GeminiSettings, backend: Backend) -> Capabilities:
    """What this model can do, configured like this."""
    rules = rules_for(own.model)
    manual = speech.turn_detection.mode == "manual"
    return Capabilities(
        provider="gemini",
        model=own.model,
        input_formats=_INPUT_FORMATS,
        output_format=PCM16_24K,
        speech=rules.speech and speech.modality == "audio" and own.avatar is None,
        video=rules.video,
        text_input=rules.speech,
        tools=rules.tools,
        async_tools=rules.tools and rules.non_blocking,
        # It keeps what it has sent, heard or not: up to four times as much as has sounded by then.
        truncation=Truncation.NONE,
        resumption=own.resumption,
        # Refused with 1011: measured on the Developer API, unknown on Vertex.
        overlapping_resume=False,
        seed_items=_SEED_ITEMS if rules.context_tokens else 0,
        seed_chars=_seed_chars(own, rules),
        repairable_memory=own.repair_memory and rules.speech,
        in_place_update=_in_place(own, rules, backend),
        turn_detector=TurnDetector.CLIENT if manual else TurnDetector.PROVIDER,
        interrupts_on_speech=_activity_handling(speech, own) != "NO_INTERRUPTION",
        needs_continuous_input=not manual,
        max_session_s=_CONNECTION_S if own.compression else _UNCOMPRESSED_SESSION_S,
        voices=VOICES,
    )


def _seed_chars(own: GeminiSettings, rules: ModelRules) -> int:
    """A quarter of the context, and no more than half of what would be compressed away at once: no sentence has more
    tokens than characters."""
    bounds = [rules.context_tokens // 4]
    if own.compression and own.trigger_tokens is not None:
        bounds.append(own.trigger_tokens // 2)
    return min(bounds)


def _in_place(own: GeminiSettings, rules: ModelRules, backend: Backend) -> frozenset[str]:
    match own.update_by:
        case "context_update":
            return frozenset({"instructions", "tools"})
        case "system_turn":
            return frozenset({"instructions"})
        case "auto" if backend in rules.context_update:
            return frozenset({"instructions", "tools"})
        case _:
            return frozenset()


def build_setup(speech: SpeechSettings, own: GeminiSettings, place: Endpoint, start: SessionStart) -> dict[str, Any]:
    """The bare `setup` object, in lowerCamelCase. Expects settings in which `problems` found none."""
    rules = rules_for(own.model)
    instructions = speech.instructions if start.instructions is None else start.instructions
    tools = tool_list(speech.tools_with(start.tools), own, rules)
    announce_history = own.history_in_client_content
    if announce_history is None and start.history and not start.resume and rules.history_config:
        announce_history = True
    setup: dict[str, Any] = {
        "model": place.model_path,
        "generationConfig": _generation(speech, own, start),
        "systemInstruction": instruction_content(instructions) if instructions else None,
        "tools": tools or None,
        "realtimeInputConfig": _realtime_input(speech, own) or None,
        "sessionResumption": _resumption(own, start),
        "contextWindowCompression": _compression(own),
        "inputAudioTranscription": _input_transcription(speech, own),
        "outputAudioTranscription": {} if speech.transcription.output and speech.modality == "audio" else None,
        "proactivity": _given(proactiveAudio=own.proactive_audio, proactiveVideo=own.proactive_video) or None,
        "historyConfig": None if announce_history is None else {"initialHistoryInClientContent": announce_history},
        "explicitVadSignal": own.explicit_vad,
        "avatarConfig": _avatar(own),
        "safetySettings": [
            _given(
                category=f"HARM_CATEGORY_{item.category.upper()}",
                threshold=item.threshold.upper(),
                method=item.method and item.method.upper(),
            )
            for item in own.safety
        ]
        or None,
        "labels": own.labels or None,
    }
    return {key: value for key, value in setup.items() if value is not None}


def instruction_content(text: str) -> dict[str, Any]:
    """Instructions as a Content. The role is ignored; Google's SDK writes `user`."""
    return {"role": "user", "parts": [{"text": text}]}


def tool_list(tools: Sequence[ToolSpec], own: GeminiSettings, rules: ModelRules) -> list[dict[str, Any]]:
    """The `tools` field: each kind as an entry of its own, functions last as Google's SDK writes them."""
    entries: list[dict[str, Any]] = []
    if own.google_search:
        entries.append({"googleSearch": _search(own)})
    if own.code_execution:
        entries.append({"codeExecution": {}})
    if own.url_context:
        entries.append({"urlContext": {}})
    entries.extend(own.extra_tools)
    if tools:
        entries.append({"functionDeclarations": [function_declaration(tool, rules, own.tool_schema) for tool in tools]})
    return entries


def _search(own: GeminiSettings) -> dict[str, Any]:
    search = own.google_search
    if isinstance(search, bool):
        return {}
    return _given(
        searchTypes={f"{kind}Search": {} for kind in search.search_types} or None,
        timeRangeFilter=_given(startTime=search.start_time, endTime=search.end_time) or None,
        excludeDomains=list(search.exclude_domains) or None,
        blockingConfidence=search.blocking_confidence,
    )


def _given(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _generation(speech: SpeechSettings, own: GeminiSettings, start: SessionStart) -> dict[str, Any]:
    translation = own.translation
    modality = "VIDEO" if own.avatar is not None else speech.modality.upper()
    return _given(
        responseModalities=[modality],
        temperature=speech.temperature,
        maxOutputTokens=speech.max_output_tokens,
        candidateCount=own.candidate_count,
        topP=own.top_p,
        topK=own.top_k,
        presencePenalty=own.presence_penalty,
        frequencyPenalty=own.frequency_penalty,
        seed=own.seed,
        speechConfig=_speech_config(speech, own, start) or None,
        mediaResolution=own.media_resolution and f"MEDIA_RESOLUTION_{own.media_resolution.upper()}",
        thinkingConfig=_thinking(speech, own) or None,
        enableAffectiveDialog=own.affective_dialog,
        translationConfig=translation
        and _given(targetLanguageCode=translation.target_language, echoTargetLanguage=translation.echo_target_language),
    )


def _speech_config(speech: SpeechSettings, own: GeminiSettings, start: SessionStart) -> dict[str, Any]:
    voice = start.voice or speech.voice_for("gemini")
    voice_config: dict[str, Any] | None = None
    if start.voice is None and own.cloned_voice is not None:
        cloned = own.cloned_voice
        signature = cloned.consent_signature
        voice_config = {
            "replicatedVoiceConfig": _given(
                mimeType="audio/wav",
                voiceSampleAudio=_file_base64(cloned.sample_file, "providers.gemini.cloned_voice.sample_file"),
                consentAudio=cloned.consent_file
                and _file_base64(cloned.consent_file, "providers.gemini.cloned_voice.consent_file"),
                voiceConsentSignature=signature and {"signature": signature},
            )
        }
    elif start.voice is None and own.voice_id is not None:
        voice_config = {"voice": own.voice_id}
    elif voice is not None:
        voice_config = {"prebuiltVoiceConfig": {"voiceName": voice}}
    return _given(voiceConfig=voice_config, languageCode=speech.language)


def _file_base64(path: str, field: str) -> str:
    try:
        return pybase64.b64encode(Path(path).read_bytes()).decode("ascii")
    except OSError as error:
        raise SettingRefused(field, path, f"cannot be read: {error.strerror}") from error


def _thinking(speech: SpeechSettings, own: GeminiSettings) -> dict[str, Any]:
    level = own.thinking_level or speech.thinking
    budget = own.thinking_budget
    if budget is None and level == "off":
        budget = 0
    return _given(
        includeThoughts=own.include_thoughts,
        thinkingBudget=budget,
        thinkingLevel=level.upper() if level is not None and level != "off" and budget is None else None,
    )


def _activity_handling(speech: SpeechSettings, own: GeminiSettings) -> str | None:
    if own.activity_handling == "no_interruption" or not speech.turn_detection.interrupt_response:
        return "NO_INTERRUPTION"
    return "START_OF_ACTIVITY_INTERRUPTS" if own.activity_handling == "interrupts" else None


def _realtime_input(speech: SpeechSettings, own: GeminiSettings) -> dict[str, Any]:
    turns = speech.turn_detection
    if turns.mode == "manual":
        detection: Mapping[str, Any] = {"disabled": True}
    else:
        detection = _given(
            startOfSpeechSensitivity=own.start_sensitivity and f"START_SENSITIVITY_{own.start_sensitivity.upper()}",
            endOfSpeechSensitivity=own.end_sensitivity and f"END_SENSITIVITY_{own.end_sensitivity.upper()}",
            prefixPaddingMs=turns.prefix_padding_ms,
            silenceDurationMs=turns.silence_ms,
        )
    return _given(
        automaticActivityDetection=detection or None,
        activityHandling=_activity_handling(speech, own),
        turnCoverage=own.turn_coverage and _TURN_COVERAGE[own.turn_coverage],
        interimTranscriptTimestampEnabled=own.interim_transcript_timestamps,
    )


def _resumption(own: GeminiSettings, start: SessionStart) -> dict[str, Any] | None:
    if not own.resumption and not start.resume:
        return None
    return _given(handle=start.resume or None, transparent=own.transparent)


def _compression(own: GeminiSettings) -> dict[str, Any] | None:
    if not own.compression:
        return None
    # int64 travels as a string in protobuf's JSON; a number is accepted too and is what Google's SDK sends.
    window = _given(targetTokens=own.target_tokens)
    return _given(triggerTokens=own.trigger_tokens, slidingWindow=window)


def _input_transcription(speech: SpeechSettings, own: GeminiSettings) -> dict[str, Any] | None:
    transcription = speech.transcription
    if not transcription.input:
        return None
    return _given(
        languageCodes=[transcription.language] if transcription.language else None,
        customVocabulary=list(transcription.vocabulary) or None,
        mode=own.transcription_mode and own.transcription_mode.upper(),
        wordTimestamp=own.word_timestamps,
        diarization=own.diarization,
        sourceText=own.transcription_source_text,
    )


def _avatar(own: GeminiSettings) -> dict[str, Any] | None:
    avatar = own.avatar
    if avatar is None:
        return None
    picture: dict[str, Any] | None = None
    if avatar.image_file is not None:
        mime_type = mimetypes.guess_type(avatar.image_file)[0] or "image/jpeg"
        data = _file_base64(avatar.image_file, "providers.gemini.avatar.image_file")
        picture = {"imageMimeType": mime_type, "imageData": data}
    return _given(
        avatarName=avatar.name,
        customizedAvatar=picture,
        audioBitrateBps=avatar.audio_bitrate_bps,
        videoBitrateBps=avatar.video_bitrate_bps,
    )
