"""Everything about a configuration that Gemini would refuse, found before anything is opened, all at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from providers.contract import ToolSpec
from providers.errors import SettingRefused
from providers.gemini.auth import ApiKey, EphemeralToken, credential
from providers.gemini.endpoint import chosen_backend, endpoint
from providers.gemini.rules import MODELS, VOICES, Backend, ModelRules, rules_for
from providers.gemini.schema import FUNCTION_NAME, MAX_FUNCTIONS, SchemaError, to_gemini_schema
from providers.gemini.settings import GeminiSettings
from providers.settings import SpeechSettings

__all__ = ["problems", "tool_problems", "voice_problems"]

_OWN = "providers.gemini"
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_VERTEX_TRIGGER = range(5_000, 128_001)
_VERTEX_TARGET = range(0, 128_001)


def problems(speech: SpeechSettings, own: GeminiSettings, environ: Mapping[str, str]) -> list[SettingRefused]:
    """Every setting that this model, on this backend, cannot serve, and every missing key."""
    rules = rules_for(own.model)
    backend = chosen_backend(own, environ)
    return [
        *_access(own, environ),
        *_model(own, rules, backend),
        *_speech(speech, own, rules),
        *_thinking(speech, own, rules),
        *_turns(speech, own, backend),
        *_behaviour(own, rules, backend),
        *_session(own, backend),
        *_tool_kinds(own, rules, backend),
        *tool_problems(speech.tools, own, rules),
    ]


def _access(own: GeminiSettings, environ: Mapping[str, str]) -> Iterator[SettingRefused]:
    ephemeral = express = False
    try:
        found = credential(own, environ)
        ephemeral, express = isinstance(found, EphemeralToken), isinstance(found, ApiKey)
    except SettingRefused as refusal:
        yield refusal
    try:
        endpoint(own, environ, ephemeral=ephemeral, express=express)
    except SettingRefused as refusal:
        yield refusal


def _model(own: GeminiSettings, rules: ModelRules, backend: Backend) -> Iterator[SettingRefused]:
    served = [other.pattern.rstrip("*") for other in MODELS if not other.retired and backend in other.backends]
    if rules.retired:
        yield SettingRefused(
            f"{_OWN}.model", own.model, f"it was switched off on {rules.retired}: use one of {', '.join(served)}"
        )
    elif backend not in rules.backends:
        yield SettingRefused(f"{_OWN}.model", own.model, f"{backend} does not serve it: use one of {', '.join(served)}")


def voice_problems(voice: str | None, field: str = "speech.voice") -> list[SettingRefused]:
    """A voice name that Gemini lacks. Names are case-sensitive."""
    if voice is None or voice in VOICES:
        return []
    near = [name for name in VOICES if name.lower() == voice.lower()]
    mend = f"did you mean {near[0]}?" if near else f"Gemini has {', '.join(VOICES)}"
    return [SettingRefused(field, voice, mend)]


def _speech(speech: SpeechSettings, own: GeminiSettings, rules: ModelRules) -> Iterator[SettingRefused]:
    voice = speech.voice_for("gemini")
    yield from voice_problems(voice, "speech.voice.gemini" if isinstance(speech.voice, dict) else "speech.voice")
    chosen = {
        "speech.voice": voice,
        f"{_OWN}.voice_id": own.voice_id,
        f"{_OWN}.cloned_voice": own.cloned_voice,
    }
    named = [field for field, value in chosen.items() if value is not None]
    if len(named) > 1:
        # A cloned voice holds the signature of a consent, which belongs into no error.
        shown = own.cloned_voice.sample_file if own.cloned_voice is not None else chosen[named[-1]]
        yield SettingRefused(named[-1], shown, f"set only one of {', '.join(named)}")
    if speech.language is not None and not rules.language_code:
        yield SettingRefused(
            "speech.language", speech.language, f"{own.model} picks the language itself: name it in speech.instructions"
        )
    if speech.modality not in rules.modalities:
        yield SettingRefused(
            "speech.modality",
            speech.modality,
            f"{own.model} answers in {' or '.join(sorted(rules.modalities))} only: use transcription.output for text",
        )
    if speech.transcription.model is not None:
        yield SettingRefused(
            "speech.transcription.model", speech.transcription.model, "Gemini transcribes by itself: leave it out"
        )
    if own.cloned_voice is not None:
        for key in ("sample_file", "consent_file"):
            yield from _file(f"{_OWN}.cloned_voice.{key}", getattr(own.cloned_voice, key))


def _file(field: str, path: str | None) -> Iterator[SettingRefused]:
    if path is not None and not Path(path).is_file():
        yield SettingRefused(field, path, "no such file")


def _thinking(speech: SpeechSettings, own: GeminiSettings, rules: ModelRules) -> Iterator[SettingRefused]:
    levels, budgets = rules.thinking_levels, rules.thinking_budgets
    if own.thinking_budget is not None:
        field = f"{_OWN}.thinking_budget"
        if budgets == "none" or (budgets == "zero" and own.thinking_budget != 0):
            yield SettingRefused(field, own.thinking_budget, f"{own.model} takes no thinking budget: leave it out")
        elif own.thinking_level is not None or speech.thinking not in (None, "off"):
            yield SettingRefused(field, own.thinking_budget, "a budget and a level exclude each other: keep one")
        return
    field = "speech.thinking" if own.thinking_level is None else f"{_OWN}.thinking_level"
    level = own.thinking_level or speech.thinking
    if level is None:
        if rules.thinking_required:
            yield SettingRefused(field, None, f"{own.model} needs it: set one of {', '.join(levels)}")
    elif level == "off" and budgets != "none":
        return  # a budget of 0
    elif not levels:
        mend = f"set {_OWN}.thinking_budget instead" if budgets == "any" else "leave it out"
        yield SettingRefused(field, level, f"{own.model} has no thinking level: {mend}")
    elif level not in levels:
        yield SettingRefused(field, level, f"{own.model} takes one of {', '.join(levels)}")


def _turns(speech: SpeechSettings, own: GeminiSettings, backend: Backend) -> Iterator[SettingRefused]:
    turns, here = speech.turn_detection, "speech.turn_detection"
    if turns.mode == "semantic_vad":
        yield SettingRefused(f"{here}.mode", turns.mode, "Gemini has no semantic detector: use auto or server_vad")
    if turns.eagerness is not None:
        yield SettingRefused(
            f"{here}.eagerness", turns.eagerness, f"Gemini has none: set silence_ms or {_OWN}.end_sensitivity"
        )
    if turns.threshold is not None:
        yield SettingRefused(
            f"{here}.threshold",
            turns.threshold,
            f"Gemini knows two sensitivities, no threshold: set {_OWN}.start_sensitivity to high or low",
        )
    if turns.idle_timeout_ms is not None:
        yield SettingRefused(f"{here}.idle_timeout_ms", turns.idle_timeout_ms, "Gemini has none: leave it out")
    if not turns.create_response:
        yield SettingRefused(
            f"{here}.create_response", False, "Gemini answers every turn: use mode = manual and mark only those meant"
        )
    if not turns.interrupt_response and own.activity_handling == "interrupts":
        yield SettingRefused(
            f"{_OWN}.activity_handling", "interrupts", f"it contradicts {here}.interrupt_response = false"
        )
    if turns.mode == "manual":
        given = {
            f"{here}.prefix_padding_ms": turns.prefix_padding_ms,
            f"{here}.silence_ms": turns.silence_ms,
            f"{_OWN}.start_sensitivity": own.start_sensitivity,
            f"{_OWN}.end_sensitivity": own.end_sensitivity,
        }
        for field, value in given.items():
            if value is not None:
                yield SettingRefused(field, value, f"there is no detector to set with {here}.mode = manual")
    if own.turn_coverage == "audio_activity_and_all_video" and backend is Backend.VERTEX:
        yield SettingRefused(
            f"{_OWN}.turn_coverage", own.turn_coverage, "Vertex closes the session on it: use only_activity"
        )
    if own.transcription_mode == "smart" and (own.word_timestamps or own.diarization):
        yield SettingRefused(f"{_OWN}.transcription_mode", "smart", "it excludes word_timestamps and diarization")


def _behaviour(own: GeminiSettings, rules: ModelRules, backend: Backend) -> Iterator[SettingRefused]:
    switches = ("affective_dialog", "proactive_audio", "proactive_video")
    for key in switches:
        value = getattr(own, key)
        if value is None:
            continue
        if not rules.affective:
            yield SettingRefused(f"{_OWN}.{key}", value, f"{own.model} refuses the field: leave it out")
        elif backend is Backend.DEVELOPER and own.api_version != "v1alpha":
            yield SettingRefused(f"{_OWN}.{key}", value, f'it needs {_OWN}.api_version = "v1alpha"')
    if own.proactive_video and not own.proactive_audio:
        yield SettingRefused(f"{_OWN}.proactive_video", True, "it needs proactive_audio = true")
    if own.translation is not None and not rules.translation:
        yield SettingRefused(f"{_OWN}.translation", own.translation, "only the live-translate models take it")
    if own.avatar is not None:
        if not rules.avatar or backend is not Backend.VERTEX:
            yield SettingRefused(f"{_OWN}.avatar", own.avatar, "only gemini-3.8-live on Vertex has avatars")
        yield from _file(f"{_OWN}.avatar.image_file", own.avatar.image_file)
    for key, value in own.labels.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            yield SettingRefused(
                f"{_OWN}.labels.{key}", value, "lower case letters, digits, _ and -, 63 at most, key begins by a letter"
            )
    if backend is Backend.DEVELOPER:
        for item in own.safety:
            if item.method is not None:
                yield SettingRefused(f"{_OWN}.safety", item.method, "method exists on Vertex only")
        for key in ("explicit_vad", "transparent"):
            if getattr(own, key) is not None:
                yield SettingRefused(f"{_OWN}.{key}", getattr(own, key), "it exists on Vertex only: leave it out")
    elif own.cloned_voice is not None:
        for key in ("consent_file", "consent_signature"):
            if getattr(own.cloned_voice, key):
                yield SettingRefused(f"{_OWN}.cloned_voice.{key}", "...", "it exists on the Developer API only")


def _session(own: GeminiSettings, backend: Backend) -> Iterator[SettingRefused]:
    if own.transparent and not own.resumption:
        yield SettingRefused(f"{_OWN}.transparent", True, "it needs resumption = true")
    if not own.compression:
        for key in ("trigger_tokens", "target_tokens"):
            if getattr(own, key) is not None:
                yield SettingRefused(f"{_OWN}.{key}", getattr(own, key), "it needs compression = true")
    if backend is Backend.VERTEX:
        for key, span in (("trigger_tokens", _VERTEX_TRIGGER), ("target_tokens", _VERTEX_TARGET)):
            value = getattr(own, key)
            if value is not None and value not in span:
                yield SettingRefused(f"{_OWN}.{key}", value, f"Vertex takes {span.start} to {span.stop - 1}")
    trigger, target = own.trigger_tokens, own.target_tokens
    if trigger is not None and target is not None and target >= trigger:
        yield SettingRefused(f"{_OWN}.target_tokens", target, f"it must stay below trigger_tokens ({trigger})")
    if own.update_by == "system_turn" and backend is not Backend.VERTEX:
        yield SettingRefused(f"{_OWN}.update_by", "system_turn", "the Developer API closes the session on it")


def _tool_kinds(own: GeminiSettings, rules: ModelRules, backend: Backend) -> Iterator[SettingRefused]:
    for key in ("code_execution", "url_context"):
        if getattr(own, key) and not rules.code_tools:
            yield SettingRefused(f"{_OWN}.{key}", True, f"{own.model} does not support it: leave it out")
    if (own.google_search or own.extra_tools) and not rules.tools:
        key = "google_search" if own.google_search else "extra_tools"
        yield SettingRefused(f"{_OWN}.{key}", getattr(own, key), f"{own.model} takes no tools")
    if own.tool_scheduling is not None and not rules.scheduling:
        yield SettingRefused(
            f"{_OWN}.tool_scheduling", own.tool_scheduling, f"{own.model} does not take it: leave it out"
        )
    search = own.google_search
    if not isinstance(search, bool):
        only_vertex = {"exclude_domains": search.exclude_domains, "blocking_confidence": search.blocking_confidence}
        only_developer = {
            "search_types": search.search_types,
            "start_time": search.start_time,
            "end_time": search.end_time,
        }
        for key, value in (only_vertex if backend is Backend.DEVELOPER else only_developer).items():
            if value:
                yield SettingRefused(f"{_OWN}.google_search.{key}", value, f"{backend} does not have it: leave it out")


def tool_problems(tools: Sequence[ToolSpec], own: GeminiSettings, rules: ModelRules) -> list[SettingRefused]:
    """Function declarations that the service would refuse, also those registered at run time."""
    found: list[SettingRefused] = []
    if tools and not rules.tools:
        found.append(SettingRefused("speech.tools", tools[0].name, f"{own.model} takes no tools"))
    if len(tools) > MAX_FUNCTIONS:
        found.append(SettingRefused("speech.tools", len(tools), f"at most {MAX_FUNCTIONS} functions"))
    seen: set[str] = set()
    for tool in tools:
        field = f"speech.tools.{tool.name}"
        if not FUNCTION_NAME.fullmatch(tool.name):
            found.append(
                SettingRefused(f"{field}.name", tool.name, "1 to 128 of A-Z a-z 0-9 _ . : -, first a letter or _")
            )
        if tool.name in seen:
            found.append(SettingRefused(f"{field}.name", tool.name, "two tools have this name"))
        seen.add(tool.name)
        if tool.blocking is True and not rules.blocking:
            found.append(SettingRefused(f"{field}.blocking", True, f"{own.model} runs tools without blocking only"))
        if tool.blocking is False and not rules.non_blocking:
            found.append(SettingRefused(f"{field}.blocking", False, f"{own.model} waits for every tool"))
        try:
            to_gemini_schema(tool.parameters)
        except SchemaError as error:
            found.append(SettingRefused(f"{field}.parameters", "...", str(error)))
    return found
