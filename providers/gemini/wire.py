"""Every server message as typed Structs. Unknown keys are read past, so that a newer service does not stop a call.

Field names are the wire's lowerCamelCase. `null` is allowed everywhere, as protobuf's JSON may write it.
Fields nobody here reads (`groundingMetadata`, `urlContextMetadata`, words of a transcript) are not declared on purpose:
what is not decoded cannot fail.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pybase64

__all__ = [
    "Blob",
    "ConsentSignature",
    "Content",
    "FunctionCall",
    "GoAwayNotice",
    "Part",
    "PartialArg",
    "ServerContent",
    "ServerMessage",
    "SessionResumptionUpdate",
    "SetupComplete",
    "TokenCount",
    "ToolCallCancellation",
    "ToolCallMessage",
    "Transcription",
    "UsageMetadata",
    "VadSignal",
    "VoiceActivity",
    "decode_base64",
    "decode_message",
    "duration_s",
]


class _Wire(msgspec.Struct, rename="camel", gc=False):
    pass


class Blob(_Wire):
    data: str = ""
    mime_type: str | None = None


class Part(_Wire):
    inline_data: Blob | None = None
    text: str | None = None
    thought: bool | None = None


class Content(_Wire):
    parts: list[Part] | None = None


class Transcription(_Wire):
    text: str | None = None
    finished: bool | None = None


class ServerContent(_Wire):
    model_turn: Content | None = None
    generation_complete: bool | None = None
    turn_complete: bool | None = None
    interrupted: bool | None = None
    input_transcription: Transcription | None = None
    output_transcription: Transcription | None = None
    interim_input_transcription: Transcription | None = None
    turn_complete_reason: str | None = None
    waiting_for_input: bool | None = None
    interaction_status: str | None = None
    speech_state: str | None = None


class ConsentSignature(_Wire):
    signature: str | None = None


class SetupComplete(_Wire):
    session_id: str | None = None
    voice_consent_signature: ConsentSignature | None = None


class PartialArg(_Wire):
    """A piece of streamed arguments (Vertex)."""

    json_path: str = "$"
    string_value: str | None = None
    number_value: float | None = None
    bool_value: bool | None = None
    null_value: Any = msgspec.UNSET
    will_continue: bool | None = None


class FunctionCall(_Wire):
    name: str | None = None
    id: str | None = None
    args: dict[str, Any] | None = None
    partial_args: list[PartialArg] | None = None
    will_continue: bool | None = None


class ToolCallMessage(_Wire):
    function_calls: list[FunctionCall] | None = None


class ToolCallCancellation(_Wire):
    ids: list[str] | None = None


class TokenCount(_Wire):
    modality: str | None = None
    token_count: int | str | None = None


class UsageMetadata(_Wire):
    """Both spellings of the answer's tokens: `response*` (Developer API), `candidates*` (Vertex)."""

    prompt_token_count: int | str | None = None
    response_token_count: int | str | None = None
    candidates_token_count: int | str | None = None
    total_token_count: int | str | None = None
    cached_content_token_count: int | str | None = None
    tool_use_prompt_token_count: int | str | None = None
    thoughts_token_count: int | str | None = None
    prompt_tokens_details: list[TokenCount] | None = None
    response_tokens_details: list[TokenCount] | None = None
    candidates_tokens_details: list[TokenCount] | None = None


class GoAwayNotice(_Wire):
    time_left: str | None = None


class SessionResumptionUpdate(_Wire):
    new_handle: str | None = None
    resumable: bool | None = None
    last_consumed_client_message_index: int | str | None = None


class VoiceActivity(_Wire):
    type: str | None = None
    voice_activity_type: str | None = None
    """The SDK's name for `type`; not seen on the wire, tolerated."""
    audio_offset: str | None = None


class VadSignal(_Wire):
    vad_signal_type: str | None = None


class ServerMessage(_Wire):
    """One frame: several of these may be set, and all count."""

    server_content: ServerContent | None = None
    setup_complete: SetupComplete | None = None
    tool_call: ToolCallMessage | None = None
    tool_call_cancellation: ToolCallCancellation | None = None
    usage_metadata: UsageMetadata | None = None
    go_away: GoAwayNotice | None = None
    session_resumption_update: SessionResumptionUpdate | None = None
    voice_activity: VoiceActivity | None = None
    voice_activity_detection_signal: VadSignal | None = None
    interaction_status: str | None = None
    """Google's guide also shows it here, beside `toolCall`."""
    error: Any = None
    code: Any = None


_DECODER = msgspec.json.Decoder(ServerMessage)
decode_message = _DECODER.decode
"""str or bytes to `ServerMessage`. Raises `msgspec.DecodeError` (or UnicodeDecodeError for broken UTF-8)."""

_URL_SAFE_TO_STANDARD = str.maketrans("-_", "+/")


def decode_base64(data: str) -> bytes:
    """Either alphabet, padded or not. Raises ValueError when it is no base64 at all."""
    try:
        return pybase64.b64decode(data, validate=True)
    except ValueError:
        text = "".join(data.split()).translate(_URL_SAFE_TO_STANDARD).rstrip("=")
        return pybase64.b64decode(text + "=" * (-len(text) % 4), validate=True)


_LONGEST_DURATION_S = 315_576_000_000
"""10,000 years: protobuf's own bound. What is beyond is a fault, and may be infinite in other units."""


def duration_s(text: str | None) -> float | None:
    """`google.protobuf.Duration` in seconds: "50s", "9.5s". None when it is none."""
    if not text:
        return None
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        return None
    return seconds if abs(seconds) <= _LONGEST_DURATION_S else None
