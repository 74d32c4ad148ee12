"""The names and types that the real service accepts in a client's messages, and its words for those it does not.

Keys may come in lowerCamelCase or snake_case, even mixed; what `read_message` returns is lowerCamelCase.
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["INVALID_ARGUMENT", "BadMessage", "read_message"]

INVALID_ARGUMENT = "Request contains an invalid argument."


class BadMessage(Exception):
    """The service closes with 1007 and this reason."""


class _Enum(frozenset[str]):
    """Accepted values."""


def _enum(prefix: str, *names: str) -> _Enum:
    return _Enum(f"{prefix}{name}" for name in names)


_ANY = object()
_BLOB = {"mimeType": str, "data": str, "displayName": str}
_CALL = {"id": str, "name": str, "args": _ANY}
_SCHEDULING = _Enum({"SILENT", "WHEN_IDLE", "INTERRUPT", "SCHEDULING_UNSPECIFIED"})
_RESPONSE = {
    "id": str,
    "name": str,
    "response": _ANY,
    "scheduling": _SCHEDULING,
    "willContinue": bool,
    "parts": [{"inlineData": _BLOB, "fileData": {"fileUri": str, "mimeType": str, "displayName": str}}],
}
_PART = {
    "text": str,
    "thought": bool,
    "inlineData": _BLOB,
    "fileData": {"fileUri": str, "mimeType": str, "displayName": str},
    "functionCall": _CALL,
    "functionResponse": _RESPONSE,
}
_CONTENT = {"role": str, "parts": [_PART]}
_SCHEMA: dict[str, Any] = {
    "type": _Enum({"TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"}),
    **dict.fromkeys(("format", "title", "description", "pattern"), str),
    **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"), int),
    **dict.fromkeys(("minimum", "maximum"), float),
    **dict.fromkeys(("default", "example"), _ANY),
    "nullable": bool,
    "enum": [str],
    "required": [str],
    "propertyOrdering": [str],
}
_SCHEMA |= {"items": _SCHEMA, "anyOf": [_SCHEMA], "properties": {"*": _SCHEMA}}
_FUNCTION = {
    "name": str,
    "description": str,
    "parameters": _SCHEMA,
    "parametersJsonSchema": _ANY,
    "response": _SCHEMA,
    "responseJsonSchema": _ANY,
    "behavior": _Enum({"UNSPECIFIED", "BLOCKING", "NON_BLOCKING"}),
}
_TOOL = {
    "functionDeclarations": [_FUNCTION],
    "googleSearch": {
        "searchTypes": {"webSearch": {}, "imageSearch": {}},
        "timeRangeFilter": {"startTime": str, "endTime": str},
        "blockingConfidence": str,
        "excludeDomains": [str],
    },
    **dict.fromkeys(
        ("codeExecution", "urlContext", "googleMaps", "fileSearch", "retrieval", "enterpriseWebSearch"), _ANY
    ),
    **dict.fromkeys(("parallelAiSearch", "exaAiSearch", "computerUse", "mcpServers", "googleSearchRetrieval"), _ANY),
}
_GENERATION = {
    **dict.fromkeys(("candidateCount", "maxOutputTokens", "seed"), int),
    **dict.fromkeys(("temperature", "topP", "topK", "presencePenalty", "frequencyPenalty"), float),
    "responseModalities": [_Enum({"MODALITY_UNSPECIFIED", "AUDIO", "TEXT", "VIDEO", "IMAGE"})],
    "speechConfig": {
        "languageCode": str,
        "voiceConfig": {
            "voice": str,
            "prebuiltVoiceConfig": {"voiceName": str},
            "replicatedVoiceConfig": {
                "mimeType": str,
                "voiceSampleAudio": str,
                "consentAudio": str,
                "voiceConsentSignature": {"signature": str},
            },
        },
    },
    "mediaResolution": _enum("MEDIA_RESOLUTION_", "UNSPECIFIED", "LOW", "MEDIUM", "HIGH"),
    "thinkingConfig": {
        "includeThoughts": bool,
        "thinkingBudget": int,
        "thinkingLevel": _Enum({"THINKING_LEVEL_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"}),
    },
    "enableAffectiveDialog": bool,
    "translationConfig": {"targetLanguageCode": str, "echoTargetLanguage": bool},
}
_TRANSCRIPTION = {
    "languageCodes": [str],
    "customVocabulary": [str],
    "adaptationPhrases": [str],
    "mode": _Enum({"VERBATIM", "SMART", "MODE_UNSPECIFIED"}),
    "wordTimestamp": bool,
    "diarization": bool,
    "sourceText": str,
    "languageAuto": {},
    "languageHints": {"languageCodes": [str]},
}
_SETUP = {
    "model": str,
    "generationConfig": _GENERATION,
    "systemInstruction": _CONTENT,
    "tools": [_TOOL],
    "realtimeInputConfig": {
        "automaticActivityDetection": {
            "disabled": bool,
            "startOfSpeechSensitivity": _enum("START_SENSITIVITY_", "UNSPECIFIED", "HIGH", "LOW"),
            "endOfSpeechSensitivity": _enum("END_SENSITIVITY_", "UNSPECIFIED", "HIGH", "LOW"),
            "prefixPaddingMs": int,
            "silenceDurationMs": int,
        },
        "activityHandling": _Enum({"ACTIVITY_HANDLING_UNSPECIFIED", "START_OF_ACTIVITY_INTERRUPTS", "NO_INTERRUPTION"}),
        "turnCoverage": _Enum(
            {
                "TURN_COVERAGE_UNSPECIFIED",
                "TURN_INCLUDES_ONLY_ACTIVITY",
                "TURN_INCLUDES_ALL_INPUT",
                "TURN_INCLUDES_AUDIO_ACTIVITY_AND_ALL_VIDEO",
            }
        ),
        "interimTranscriptTimestampEnabled": bool,
    },
    "sessionResumption": {"handle": str, "transparent": bool},
    "contextWindowCompression": {"triggerTokens": int, "slidingWindow": {"targetTokens": int}},
    "inputAudioTranscription": _TRANSCRIPTION,
    "outputAudioTranscription": _TRANSCRIPTION,
    "proactivity": {"proactiveAudio": bool, "proactiveVideo": bool},
    "historyConfig": {"initialHistoryInClientContent": bool},
    "explicitVadSignal": bool,
    "avatarConfig": {
        "avatarName": str,
        "customizedAvatar": {"imageMimeType": str, "imageData": str},
        "audioBitrateBps": int,
        "videoBitrateBps": int,
    },
    "safetySettings": [{"category": str, "threshold": str, "method": str}],
    "labels": {"*": str},
}
_MESSAGE = {
    "setup": _SETUP,
    "clientContent": {"turns": [_CONTENT], "turnComplete": bool},
    "realtimeInput": {
        "audio": _BLOB,
        "video": _BLOB,
        "mediaChunks": [_BLOB],
        "text": str,
        "audioStreamEnd": bool,
        "activityStart": {},
        "activityEnd": {},
    },
    "toolResponse": {"functionResponses": [_RESPONSE]},
    "contextUpdate": {"systemInstruction": _CONTENT, "tools": {"tools": [_TOOL]}},
}


def read_message(message: str | bytes) -> tuple[str, dict[str, Any]]:
    """Kind and content of one client message. Raises `BadMessage` with the service's own reason."""
    try:
        raw = json.loads(message)
    except (ValueError, RecursionError):
        raise BadMessage("Invalid JSON payload received. Unexpected token.") from None
    if not isinstance(raw, dict):
        raise BadMessage('Invalid JSON payload received. Unknown name "": Root element must be a message.')
    read = _read(raw, _MESSAGE, "")
    if len(read) != 1:
        raise BadMessage(INVALID_ARGUMENT)
    ((kind, content),) = read.items()
    return kind, content


def _read(value: Any, shape: Any, path: str) -> Any:
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise _invalid(value, path)
        if "*" in shape:
            return {name: _read(item, shape["*"], f"{path}.{_snake(name)}") for name, item in value.items()}
        return _read_object(value, shape, path)
    if isinstance(shape, list):
        if not isinstance(value, list):
            raise _invalid(value, path)
        return [_read(item, shape[0], f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(shape, _Enum):
        if not isinstance(value, str) or value not in shape:
            raise _invalid(value, path)
    elif shape is not _ANY and not _fits(value, shape):
        raise _invalid(value, path)
    return value


def _read_object(value: dict[str, Any], shape: dict[str, Any], path: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, item in value.items():
        key = _camel(name)
        if key not in shape:
            at = f" at '{path}'" if path else ""
            raise BadMessage(f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.')
        if item is not None:
            out[key] = _read(item, shape[key], f"{path}.{_snake(key)}".lstrip("."))
    return out


def _fits(value: Any, kind: type) -> bool:
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:  # int64 may be a string in protobuf's JSON
        return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, str) and value.isdigit())
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind)


def _invalid(value: Any, path: str) -> BadMessage:
    return BadMessage(f"Invalid value at '{path}', {json.dumps(value)[:40]}")


def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda found: found.group(1).upper(), name)


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda found: "_" + found.group(1).lower(), name)
