"""Every event that an OpenAI Realtime server may send, one Struct for each.

GA names are the tags. The beta dialect's names are subclasses with the old tag, so that a `match` on the GA class takes
both (compatible servers and old deployments still speak it). Fields that this project never reads are not declared:
msgspec skips them. Everything but the tag has a default, because compatible servers leave much out.

Source: OpenAI Realtime server events, GA; beta names from the migration guide.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

__all__ = [
    "AudioFormatBody",
    "AudioSide",
    "AudioSides",
    "BetaAudioDelta",
    "BetaAudioDone",
    "BetaItemCreated",
    "BetaTextDelta",
    "BetaTextDone",
    "BetaTranscriptDelta",
    "BetaTranscriptDone",
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
    "Session",
    "SessionCreated",
    "SessionUpdated",
    "SpeechStarted",
    "SpeechStopped",
    "StatusDetails",
    "TimeoutTriggered",
    "TurnDetection",
    "UsageDetails",
    "UsageTokens",
]


class _Event(msgspec.Struct, tag_field="type", gc=False):
    """Base of every server event."""


# ------------------------------------------------------------------------------------------------- parts of events


class ErrorBody(msgspec.Struct, gc=False):
    """What went wrong, in an `error` event, a failed response or a failed transcription."""

    type: str = ""
    code: str | None = None
    message: str = ""
    param: str | None = None
    event_id: str | None = None
    """Id of the client event that caused it, when the client gave one."""


class TurnDetection(msgspec.Struct, gc=False):
    """The parts of the effective turn detection that decide how a session behaves."""

    type: str = ""
    create_response: bool | None = None
    interrupt_response: bool | None = None
    silence_duration_ms: float | None = None


class AudioFormatBody(msgspec.Struct, gc=False):
    type: str = ""
    rate: int | None = None


class AudioSide(msgspec.Struct):
    format: AudioFormatBody | str | None = None
    turn_detection: TurnDetection | UnsetType | None = UNSET


class AudioSides(msgspec.Struct):
    input: AudioSide | None = None
    output: AudioSide | None = None


class Session(msgspec.Struct):
    """The effective session. `turn_detection` stands at the top level in the beta dialect and with xAI."""

    id: str = ""
    model: str = ""
    audio: AudioSides | None = None
    turn_detection: TurnDetection | UnsetType | None = UNSET


class Item(msgspec.Struct, gc=False):
    """A conversation item: a message, a function call, or its output."""

    id: str = ""
    type: str = ""
    role: str = ""
    status: str = ""
    call_id: str = ""
    name: str = ""
    arguments: str = ""


class UsageDetails(msgspec.Struct, gc=False):
    audio_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class UsageTokens(msgspec.Struct):
    """Tokens of one response."""

    total_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_token_details: UsageDetails | None = None
    output_token_details: UsageDetails | None = None


class StatusDetails(msgspec.Struct):
    type: str | None = None
    reason: str | None = None
    error: ErrorBody | None = None


class Response(msgspec.Struct):
    """A response object. A null `conversation_id` marks one outside the default conversation."""

    id: str = ""
    status: str = ""
    status_details: StatusDetails | None = None
    output: list[Item] = []
    conversation_id: str | UnsetType | None = UNSET
    usage: UsageTokens | None = None


class RateLimitBody(msgspec.Struct, gc=False):
    name: str = ""
    limit: int | None = None
    remaining: int | None = None
    reset_seconds: float | None = None


class Part(msgspec.Struct, gc=False):
    """A content part. Its types are `audio` and `text`, not `output_audio`."""

    type: str = ""


# ------------------------------------------------------------------------------------------- session, errors, limits


class ErrorEvent(_Event, tag="error"):
    error: ErrorBody = msgspec.field(default_factory=ErrorBody)


class SessionCreated(_Event, tag="session.created"):
    session: Session = msgspec.field(default_factory=Session)


class SessionUpdated(_Event, tag="session.updated"):
    session: Session = msgspec.field(default_factory=Session)


class ConversationCreated(_Event, tag="conversation.created"):
    """Kept in the types; whether GA still sends it is not known."""


class RateLimitsUpdated(_Event, tag="rate_limits.updated"):
    rate_limits: list[RateLimitBody] = []


# --------------------------------------------------------------------------------------------------------- items


class ItemAdded(_Event, tag="conversation.item.added"):
    """The item exists on the server: from now on it can be truncated or deleted."""

    item: Item = msgspec.field(default_factory=Item)


class BetaItemCreated(ItemAdded, tag="conversation.item.created"):
    pass


class ItemDone(_Event, tag="conversation.item.done"):
    item: Item = msgspec.field(default_factory=Item)


class ItemRetrieved(_Event, tag="conversation.item.retrieved"):
    item: Item = msgspec.field(default_factory=Item)


class ItemTruncated(_Event, tag="conversation.item.truncated"):
    item_id: str = ""
    content_index: int = 0
    audio_end_ms: float = 0


class ItemDeleted(_Event, tag="conversation.item.deleted"):
    item_id: str = ""


# ---------------------------------------------------------------------------------------------- input transcription


class InputTranscriptDelta(_Event, tag="conversation.item.input_audio_transcription.delta"):
    item_id: str = ""
    delta: str = ""


class InputTranscriptSegment(_Event, tag="conversation.item.input_audio_transcription.segment"):
    """One speaker's stretch, from a diarizing model."""

    item_id: str = ""
    text: str = ""
    speaker: str = ""


class InputTranscriptUpdated(_Event, tag="conversation.item.input_audio_transcription.updated"):
    """xAI: the whole text so far, not a delta."""

    item_id: str = ""
    transcript: str = ""


class InputTranscriptCompleted(_Event, tag="conversation.item.input_audio_transcription.completed"):
    item_id: str = ""
    transcript: str = ""


class InputTranscriptFailed(_Event, tag="conversation.item.input_audio_transcription.failed"):
    item_id: str = ""
    error: ErrorBody = msgspec.field(default_factory=ErrorBody)


# ----------------------------------------------------------------------------------------------------- audio buffers


class SpeechStarted(_Event, tag="input_audio_buffer.speech_started"):
    audio_start_ms: float | None = None
    item_id: str = ""


class SpeechStopped(_Event, tag="input_audio_buffer.speech_stopped"):
    audio_end_ms: float | None = None
    item_id: str = ""


class BufferCommitted(_Event, tag="input_audio_buffer.committed"):
    item_id: str = ""


class BufferCleared(_Event, tag="input_audio_buffer.cleared"):
    pass


class TimeoutTriggered(_Event, tag="input_audio_buffer.timeout_triggered"):
    """Nobody spoke for `idle_timeout_ms`: an empty segment was committed and a response follows."""

    item_id: str = ""


class DtmfReceived(_Event, tag="input_audio_buffer.dtmf_event_received"):
    """A phone key; SIP calls only."""

    event: str = ""


class OutputBufferStarted(_Event, tag="output_audio_buffer.started"):
    """WebRTC and SIP only, as the next two."""

    response_id: str = ""


class OutputBufferStopped(_Event, tag="output_audio_buffer.stopped"):
    response_id: str = ""


class OutputBufferCleared(_Event, tag="output_audio_buffer.cleared"):
    response_id: str = ""


# ---------------------------------------------------------------------------------------------------------- responses


class ResponseCreated(_Event, tag="response.created"):
    response: Response = msgspec.field(default_factory=Response)


class ResponseDone(_Event, tag="response.done"):
    response: Response = msgspec.field(default_factory=Response)


class OutputItemAdded(_Event, tag="response.output_item.added"):
    response_id: str = ""
    output_index: int = 0
    item: Item = msgspec.field(default_factory=Item)


class OutputItemDone(_Event, tag="response.output_item.done"):
    response_id: str = ""
    output_index: int = 0
    item: Item = msgspec.field(default_factory=Item)


class PartAdded(_Event, tag="response.content_part.added"):
    response_id: str = ""
    item_id: str = ""
    content_index: int = 0
    part: Part = msgspec.field(default_factory=Part)


class PartDone(_Event, tag="response.content_part.done"):
    response_id: str = ""
    item_id: str = ""
    content_index: int = 0
    part: Part = msgspec.field(default_factory=Part)


class OutputTextDelta(_Event, tag="response.output_text.delta"):
    response_id: str = ""
    item_id: str = ""
    output_index: int = 0
    delta: str = ""


class BetaTextDelta(OutputTextDelta, tag="response.text.delta"):
    pass


class OutputTextDone(_Event, tag="response.output_text.done"):
    response_id: str = ""
    item_id: str = ""
    output_index: int = 0
    text: str = ""


class BetaTextDone(OutputTextDone, tag="response.text.done"):
    pass


class OutputTranscriptDelta(_Event, tag="response.output_audio_transcript.delta"):
    response_id: str = ""
    item_id: str = ""
    output_index: int = 0
    delta: str = ""


class BetaTranscriptDelta(OutputTranscriptDelta, tag="response.audio_transcript.delta"):
    pass


class OutputTranscriptDone(_Event, tag="response.output_audio_transcript.done"):
    response_id: str = ""
    item_id: str = ""
    output_index: int = 0
    transcript: str = ""


class BetaTranscriptDone(OutputTranscriptDone, tag="response.audio_transcript.done"):
    pass


class OutputAudioDelta(_Event, tag="response.output_audio.delta"):
    response_id: str = ""
    item_id: str = ""
    output_index: int = 0
    content_index: int = 0
    delta: str = ""


class BetaAudioDelta(OutputAudioDelta, tag="response.audio.delta"):
    pass


class OutputAudioDone(_Event, tag="response.output_audio.done"):
    response_id: str = ""
    item_id: str = ""
    output_index: int = 0


class BetaAudioDone(OutputAudioDone, tag="response.audio.done"):
    pass


class FunctionArgumentsDelta(_Event, tag="response.function_call_arguments.delta"):
    """Not read: the `done` event carries the whole."""


class FunctionArgumentsDone(_Event, tag="response.function_call_arguments.done"):
    response_id: str = ""
    item_id: str = ""
    output_index: int = 0
    call_id: str = ""
    name: str = ""
    """Absent in the beta dialect; the item's `added` event has it."""
    arguments: str = ""


# ---------------------------------------------------------------------------- MCP: known, run by OpenAI, not ours yet


class McpArgumentsDelta(_Event, tag="response.mcp_call_arguments.delta"):
    pass


class McpArgumentsDone(_Event, tag="response.mcp_call_arguments.done"):
    pass


class McpCallInProgress(_Event, tag="response.mcp_call.in_progress"):
    pass


class McpCallCompleted(_Event, tag="response.mcp_call.completed"):
    pass


class McpCallFailed(_Event, tag="response.mcp_call.failed"):
    item_id: str = ""


class McpListToolsInProgress(_Event, tag="mcp_list_tools.in_progress"):
    pass


class McpListToolsCompleted(_Event, tag="mcp_list_tools.completed"):
    pass


class McpListToolsFailed(_Event, tag="mcp_list_tools.failed"):
    item_id: str = ""
