"""What a session tells: a closed union of records, each with the number of its session.

Turns need not alternate: speech may come while the user speaks, and no event promises another one.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = [
    "Closed",
    "ErrorReported",
    "GenerationComplete",
    "GoAway",
    "InputTranscript",
    "Interrupted",
    "OutputTranscript",
    "RateLimit",
    "RateLimits",
    "ReplyStarted",
    "ResumptionUpdate",
    "SessionEvent",
    "SessionReady",
    "SpeechChunk",
    "TextChunk",
    "Thought",
    "ToolCall",
    "ToolCallCancelled",
    "TurnComplete",
    "Usage",
    "UserSpeechStarted",
    "UserSpeechStopped",
    "WarningReported",
]


class SessionReady(msgspec.Struct, frozen=True, gc=False):
    """The provider accepted the setup; audio may flow."""

    session: int
    session_id: str
    """The provider's own id, empty when it gives none."""
    resumed: bool = False
    voice_consent: str = ""
    """Gemini: signature of the speaker's consent to a cloned voice, for the next session's `consent_signature`."""


class ReplyStarted(msgspec.Struct, frozen=True, gc=False):
    """The model began a reply. No promise that speech follows."""

    session: int
    reply_id: str


class SpeechChunk(msgspec.Struct, frozen=True, gc=False):
    """Model speech as it arrived: any length, not yet paced. Comes faster or slower than real time."""

    session: int
    reply_id: str
    """Minted by the protocol core, unique among all sessions of a call. Late speech of an interrupted reply still
    carries the dead reply's id."""
    audio: bytes
    """In `Capabilities.output_format`."""


class InputTranscript(msgspec.Struct, frozen=True, gc=False):
    """What the user said, as far as it is known: each one replaces the one before of the same `turn_id`."""

    session: int
    turn_id: str
    text: str
    """The whole text so far, not a delta."""
    final: bool = False


class OutputTranscript(msgspec.Struct, frozen=True, gc=False):
    """A further piece of what the model says aloud in this reply. May lead its audio by seconds."""

    session: int
    reply_id: str
    delta: str
    final: bool = False
    """No more pieces of this reply follow. The delta may be empty."""


class TextChunk(msgspec.Struct, frozen=True, gc=False):
    """A further piece of a written (not spoken) answer."""

    session: int
    reply_id: str
    delta: str
    final: bool = False


class Thought(msgspec.Struct, frozen=True, gc=False):
    """Reasoning text. Never spoken, never captioned."""

    session: int
    reply_id: str
    text: str


class UserSpeechStarted(msgspec.Struct, frozen=True, gc=False):
    """The provider heard the user begin."""

    session: int
    at_ms: int | None = None
    """On the session's own input-audio clock, where the provider tells."""


class UserSpeechStopped(msgspec.Struct, frozen=True, gc=False):
    """The provider heard the user end."""

    session: int
    at_ms: int | None = None


class Interrupted(msgspec.Struct, frozen=True, gc=False):
    """The provider cut this reply because of the user (or on our request). What plays of it must stop now."""

    session: int
    reply_id: str | None
    """None: no reply was being generated; what still plays of the last one must stop all the same."""


class GenerationComplete(msgspec.Struct, frozen=True, gc=False):
    """All of the reply's content has arrived; it may go on sounding for long."""

    session: int
    reply_id: str


class TurnComplete(msgspec.Struct, frozen=True, gc=False):
    """The provider closed the turn."""

    session: int
    reply_id: str | None
    reason: str = "completed"
    """`completed`, `interrupted`, `incomplete:<why>`, `failed:<why>`, or the provider's own word in lower case."""


class ToolCall(msgspec.Struct, frozen=True):
    """The model asks for a function to be run. Parallel calls come as separate events of one `batch_id`."""

    session: int
    call_id: str
    """Empty where the provider gives none (Vertex): the answer then goes by name."""
    name: str
    arguments: dict[str, Any]
    reply_id: str | None = None
    batch_id: str = ""


class ToolCallCancelled(msgspec.Struct, frozen=True, gc=False):
    """These calls are dead: stop them, never answer them."""

    session: int
    call_ids: tuple[str, ...]


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one turn (not cumulative)."""

    session: int
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    thought_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0


class GoAway(msgspec.Struct, frozen=True, gc=False):
    """The provider will abort this connection."""

    session: int
    time_left_s: float


class ResumptionUpdate(msgspec.Struct, frozen=True, gc=False):
    """A newer handle for this session, or the notice that just now there is none."""

    session: int
    handle: str = msgspec.field(default="")
    resumable: bool = False
    mid_turn: bool = False
    """Issued while a turn ran: a session resumed from it has lost that turn."""
    last_consumed_index: int | None = None
    """Index of the last client message that the server has taken in (Vertex, transparent resumption)."""


class RateLimit(msgspec.Struct, frozen=True, gc=False):
    """One budget of the provider."""

    name: str
    limit: int
    remaining: int
    reset_s: float


class RateLimits(msgspec.Struct, frozen=True):
    """What is left of the provider's budgets."""

    session: int
    limits: tuple[RateLimit, ...]


class WarningReported(msgspec.Struct, frozen=True, gc=False):
    """Something odd that the session survives: an unknown message, a harmless refusal."""

    session: int
    code: str
    message: str


class ErrorReported(msgspec.Struct, frozen=True, gc=False):
    """The provider refused something we sent; the session goes on."""

    session: int
    code: str
    message: str
    setting: str = ""
    """The field that the provider names, if it does."""
    call_id: str = ""
    """The tool call whose result it is that was refused, where that is known: the model has not been told it."""


class Closed(msgspec.Struct, frozen=True):
    """The session has ended; nothing follows. `error` says what to do about it, None after our own close()."""

    session: int
    code: int
    """WebSocket close code; 1006 when the connection vanished."""
    reason: str
    error: Exception | None = None
    """A `providers.errors.ProviderError`: its class tells retry from give-up. `ResumeRefused`: not by this handle."""


SessionEvent = (
    SessionReady
    | ReplyStarted
    | SpeechChunk
    | InputTranscript
    | OutputTranscript
    | TextChunk
    | Thought
    | UserSpeechStarted
    | UserSpeechStopped
    | Interrupted
    | GenerationComplete
    | TurnComplete
    | ToolCall
    | ToolCallCancelled
    | Usage
    | GoAway
    | ResumptionUpdate
    | RateLimits
    | WarningReported
    | ErrorReported
    | Closed
)
