"""From the bytes of one frame to a server event. Nothing that a server sends raises here.

This module names every event, so that the protocol reads `wire.ResponseDone`; what each holds stands in `events`.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from providers.openai.events import (
    AudioFormatBody,
    AudioSide,
    AudioSides,
    BetaAudioDelta,
    BetaAudioDone,
    BetaItemCreated,
    BetaTextDelta,
    BetaTextDone,
    BetaTranscriptDelta,
    BetaTranscriptDone,
    BufferCleared,
    BufferCommitted,
    ConversationCreated,
    DtmfReceived,
    ErrorBody,
    ErrorEvent,
    FunctionArgumentsDelta,
    FunctionArgumentsDone,
    InputTranscriptCompleted,
    InputTranscriptDelta,
    InputTranscriptFailed,
    InputTranscriptSegment,
    InputTranscriptUpdated,
    Item,
    ItemAdded,
    ItemDeleted,
    ItemDone,
    ItemRetrieved,
    ItemTruncated,
    McpArgumentsDelta,
    McpArgumentsDone,
    McpCallCompleted,
    McpCallFailed,
    McpCallInProgress,
    McpListToolsCompleted,
    McpListToolsFailed,
    McpListToolsInProgress,
    OutputAudioDelta,
    OutputAudioDone,
    OutputBufferCleared,
    OutputBufferStarted,
    OutputBufferStopped,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    OutputTextDone,
    OutputTranscriptDelta,
    OutputTranscriptDone,
    Part,
    PartAdded,
    PartDone,
    RateLimitBody,
    RateLimitsUpdated,
    Response,
    ResponseCreated,
    ResponseDone,
    Session,
    SessionCreated,
    SessionUpdated,
    SpeechStarted,
    SpeechStopped,
    StatusDetails,
    TimeoutTriggered,
    TurnDetection,
    UsageDetails,
    UsageTokens,
)

__all__ = [
    "AudioFormatBody",
    "AudioSide",
    "AudioSides",
    "BufferCleared",
    "BufferCommitted",
    "ConversationCreated",
    "DtmfReceived",
    "ErrorBody",
    "ErrorEvent",
    "FunctionArgumentsDelta",
    "FunctionArgumentsDone",
    "InputTranscriptCompleted",
    "InputTranscriptDelta",
    "InputTranscriptFailed",
    "InputTranscriptSegment",
    "InputTranscriptUpdated",
    "Item",
    "ItemAdded",
    "ItemDeleted",
    "ItemDone",
    "ItemRetrieved",
    "ItemTruncated",
    "Malformed",
    "McpArgumentsDelta",
    "McpArgumentsDone",
    "McpCallCompleted",
    "McpCallFailed",
    "McpCallInProgress",
    "McpListToolsCompleted",
    "McpListToolsFailed",
    "McpListToolsInProgress",
    "OutputAudioDelta",
    "OutputAudioDone",
    "OutputBufferCleared",
    "OutputBufferStarted",
    "OutputBufferStopped",
    "OutputItemAdded",
    "OutputItemDone",
    "OutputTextDelta",
    "OutputTextDone",
    "OutputTranscriptDelta",
    "OutputTranscriptDone",
    "Part",
    "PartAdded",
    "PartDone",
    "RateLimitBody",
    "RateLimitsUpdated",
    "Response",
    "ResponseCreated",
    "ResponseDone",
    "ServerEvent",
    "Session",
    "SessionCreated",
    "SessionUpdated",
    "SpeechStarted",
    "SpeechStopped",
    "StatusDetails",
    "TimeoutTriggered",
    "TurnDetection",
    "Unknown",
    "UsageDetails",
    "UsageTokens",
    "decode",
    "whole_ms",
]


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """A well-formed event of a type that this project has no word for: a no-op."""

    type: str


class Malformed(msgspec.Struct, frozen=True, gc=False):
    """Not an event: no JSON, no object, no type, or fields of the wrong kind."""

    type: str
    """The event's type, empty when it has none."""
    reason: str
    """What is wrong, without the content: it may hold speech."""


_KnownEvent = (
    ErrorEvent
    | SessionCreated
    | SessionUpdated
    | ConversationCreated
    | RateLimitsUpdated
    | ItemAdded
    | BetaItemCreated
    | ItemDone
    | ItemRetrieved
    | ItemTruncated
    | ItemDeleted
    | InputTranscriptDelta
    | InputTranscriptSegment
    | InputTranscriptUpdated
    | InputTranscriptCompleted
    | InputTranscriptFailed
    | SpeechStarted
    | SpeechStopped
    | BufferCommitted
    | BufferCleared
    | TimeoutTriggered
    | DtmfReceived
    | OutputBufferStarted
    | OutputBufferStopped
    | OutputBufferCleared
    | ResponseCreated
    | ResponseDone
    | OutputItemAdded
    | OutputItemDone
    | PartAdded
    | PartDone
    | OutputTextDelta
    | BetaTextDelta
    | OutputTextDone
    | BetaTextDone
    | OutputTranscriptDelta
    | BetaTranscriptDelta
    | OutputTranscriptDone
    | BetaTranscriptDone
    | OutputAudioDelta
    | BetaAudioDelta
    | OutputAudioDone
    | BetaAudioDone
    | FunctionArgumentsDelta
    | FunctionArgumentsDone
    | McpArgumentsDelta
    | McpArgumentsDone
    | McpCallInProgress
    | McpCallCompleted
    | McpCallFailed
    | McpListToolsInProgress
    | McpListToolsCompleted
    | McpListToolsFailed
)
ServerEvent = _KnownEvent | Unknown | Malformed


class _Envelope(msgspec.Struct, gc=False):
    type: str


_decode_known = msgspec.json.Decoder(_KnownEvent).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_TAGS = frozenset(str(kind.__struct_config__.tag) for kind in _KnownEvent.__args__)
_MAX_DEPTH = 32


def decode(message: str | bytes) -> ServerEvent:
    """The event that one frame holds. Never raises: what is not an event comes back as `Malformed`."""
    try:
        event: ServerEvent = _decode_known(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as refused:
        return _decode_oddly(message, str(refused))
    return event


def whole_ms(milliseconds: float | None) -> int | None:
    """Of a time in an event. A server that writes numbers as texts may write "nan": None."""
    return int(milliseconds) if milliseconds is not None and math.isfinite(milliseconds) else None


def _decode_oddly(message: str | bytes, refusal: str) -> ServerEvent:
    """The slow way, for unknown types and for servers that write null where OpenAI leaves a field out."""
    try:
        kind = _decode_envelope(message).type
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Malformed(type="", reason=refusal)
    if kind not in _TAGS:
        return Unknown(type=kind)
    try:
        body = _without_nulls(msgspec.json.decode(message), _MAX_DEPTH)
        event: ServerEvent = msgspec.convert(body, _KnownEvent, strict=False)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Malformed(type=kind, reason=refusal)
    return event


# A null here says something that an absent field does not.
_TELLING_NULLS = frozenset({"turn_detection", "conversation_id"})


def _without_nulls(value: Any, depth: int) -> Any:
    if depth == 0:
        return None
    if isinstance(value, dict):
        return {
            key: _without_nulls(inner, depth - 1)
            for key, inner in value.items()
            if inner is not None or key in _TELLING_NULLS
        }
    if isinstance(value, list):
        return [_without_nulls(inner, depth - 1) for inner in value if inner is not None]
    return value
