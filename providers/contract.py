"""The one interface behind which every speech model stands.

A `SpeechModel` is a connector: `connect()` opens a `ModelSession`, and any number of sessions may live side by side.
Commands to a session are synchronous and never wait: they queue a message for the session's writer. What the model
does comes back as `SessionEvent`s (`providers.session_events`), either to a listener in the loop's own turn (the fast
lane) or to bounded readers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from enum import StrEnum
from typing import Any, Literal, Protocol

import msgspec

from providers.session_events import (
    Closed,
    ErrorReported,
    GenerationComplete,
    GoAway,
    InputTranscript,
    Interrupted,
    OutputTranscript,
    RateLimit,
    RateLimits,
    ReplyStarted,
    ResumptionUpdate,
    SessionEvent,
    SessionReady,
    SpeechChunk,
    TextChunk,
    Thought,
    ToolCall,
    ToolCallCancelled,
    TurnComplete,
    Usage,
    UserSpeechStarted,
    UserSpeechStopped,
    WarningReported,
)
from providers.signal.formats import AudioFormat

__all__ = [
    "Capabilities",
    "Closed",
    "ErrorReported",
    "EventReader",
    "GenerationComplete",
    "GoAway",
    "HistoryItem",
    "InputTranscript",
    "Interrupted",
    "Listener",
    "ModelSession",
    "OutboxStats",
    "OutputTranscript",
    "RateLimit",
    "RateLimits",
    "ReplyStarted",
    "ResumptionUpdate",
    "SessionEvent",
    "SessionReady",
    "SessionStart",
    "SessionState",
    "SpeechChunk",
    "SpeechModel",
    "Standby",
    "TextChunk",
    "Thought",
    "ToolCall",
    "ToolCallCancelled",
    "ToolSpec",
    "Truncation",
    "TurnComplete",
    "TurnDetector",
    "Usage",
    "UserSpeechStarted",
    "UserSpeechStopped",
    "WarningReported",
]


# ----------------------------------------------------------------------------------------------- what a model can do


class Truncation(StrEnum):
    """Who makes the model forget what nobody heard."""

    CLIENT = "client"
    """We say how much was heard: `ModelSession.truncate`."""
    SERVER = "server"
    """The provider keeps its own playback clock; `truncate` is a no-op."""
    NONE = "none"
    """Nothing can be cut; only our own transcript is."""


class TurnDetector(StrEnum):
    """Who decides when the user's turn begins and ends."""

    PROVIDER = "provider"
    CLIENT = "client"
    """We send activity start and end (or commit)."""
    NOBODY = "nobody"
    """Full duplex: there are no turns."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a configured model can do, so that the bridge adapts instead of guessing."""

    provider: str
    model: str
    input_formats: tuple[AudioFormat, ...]
    """Accepted by `send_audio`; the first is preferred."""
    output_format: AudioFormat
    """Of every `SpeechChunk`."""
    speech: bool = True
    """False: the model answers in `TextChunk`s only."""
    video: bool = False
    max_image_bytes: int | None = None
    """Largest image that `send_image` takes; None: more than anybody sends."""
    text_input: bool = True
    tools: bool = True
    async_tools: bool = False
    """The model may go on speaking while a tool runs."""
    truncation: Truncation = Truncation.NONE
    resumption: bool = False
    """Sessions hand out handles (`ResumptionUpdate`), and `SessionStart.resume` takes them."""
    overlapping_resume: bool = False
    """A handle may be used while the session's earlier connection is open. False: close that one first."""
    seed_items: int = 128
    """Lines of `SessionStart.history` that it takes at most; 0: none. More is cut, the oldest first."""
    seed_chars: int = 32_000
    """Characters in all of them together, at most. A quarter of the context even at one token for each."""
    repairable_memory: bool = False
    """While nobody speaks, a note of what was heard may be added to what it remembers: `send_text(respond=False)`."""
    in_place_update: frozenset[str] = frozenset()
    """Of `instructions`, `tools`, `voice`: those that `update` can change in a running session. What is not in it
    needs a new session; one resumed by its handle takes changes too."""
    turn_detector: TurnDetector = TurnDetector.PROVIDER
    interrupts_on_speech: bool = True
    """The provider itself cuts its reply when the user speaks. False under `interrupt_response = false`."""
    answers_turns: bool = True
    """The provider answers on its own when a turn ends. False under `create_response = false`."""
    needs_continuous_input: bool = True
    """The provider detects the end of speech only if silence keeps arriving."""
    duplex: bool = False
    max_session_s: float | None = None
    """A connection ends at this age, with or without a go-away before it, s. None: no such cap is known."""
    voices: tuple[str, ...] = ()
    """Known names; empty when any is accepted."""


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model may call."""

    name: str
    """What the model calls it by."""
    description: str = ""
    """When to call it, and what for: all that the model knows of it."""
    parameters: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON Schema of the arguments object."""
    blocking: bool | None = None
    """Does the model wait for the result before it speaks on? None leaves it to the provider."""


class HistoryItem(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an earlier conversation, to seed a fresh session with."""

    role: Literal["user", "assistant"]
    text: str


class SessionStart(msgspec.Struct, frozen=True, kw_only=True):
    """How a session begins."""

    number: int = 1
    """Minted by the caller, carried by every event of the session."""
    resume: str = ""
    """Newest resumption handle; empty opens a fresh session. Raises `ResumeRefused` when the handle is dead."""
    history: tuple[HistoryItem, ...] = ()
    """Seeds a fresh session; does not make the model speak. Empty lines are left out, and what is more than
    `Capabilities.seed_items` and `seed_chars` allow is cut, the oldest first: a `WarningReported` says so."""
    instructions: str | None = None
    """Overrides the configured instructions for this session."""
    tools: tuple[ToolSpec, ...] | None = None
    """Added to the configured tools for this session; of two with one name this one stays. Empty: no tool at all."""
    voice: str | None = None
    """Overrides the configured voice for this session."""


class SessionState(StrEnum):
    CONNECTING = "connecting"
    READY = "ready"
    CLOSING = "closing"
    CLOSED = "closed"


class OutboxStats(msgspec.Struct):
    """What the session's bounded outbox did. Plain integers; read a copy."""

    sent_messages: int = 0
    sent_audio_ms: float = 0.0
    waiting_audio_ms: float = 0.0
    """Waiting now. 0: the socket takes all that it is given."""
    dropped_audio_messages: int = 0
    """Audio that the provider's socket could not take in time: the oldest went first."""
    dropped_audio_ms: float = 0.0
    skipped_silence_ms: float = 0.0
    """Silence left out to catch up, where audio can only be sent at the speed of sound."""
    shortened_ms: float = 0.0
    """Pitch periods of speech left out for the same reason: it was said up to 13 % faster."""
    unsent_messages: int = 0
    """Other messages that were still waiting when the connection ended."""
    dropped_after_end: int = 0
    """`send_audio` calls after the end."""


class EventReader(Protocol):
    """One bounded view of a session's events, for the control lane. Full: the oldest event goes, `missed` counts it.

    Ends (StopAsyncIteration) after `Closed`.
    """

    missed: int

    def __aiter__(self) -> AsyncIterator[SessionEvent]: ...
    async def __anext__(self) -> SessionEvent: ...
    def close(self) -> None: ...


Listener = Callable[[SessionEvent], None]


class ModelSession(Protocol):
    """One open conversation with a model. Commands never wait and never raise for a slow network.

    After the end every command raises `SessionEnded`, except `send_audio` and `close`, which do nothing:
    the fast lane must not have to ask. `OutboxStats.dropped_after_end` counts that audio.
    """

    @property
    def number(self) -> int: ...
    @property
    def id(self) -> str: ...
    @property
    def state(self) -> SessionState: ...
    @property
    def capabilities(self) -> Capabilities: ...
    @property
    def outbox(self) -> OutboxStats: ...

    # events
    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each event, in order, in the loop's own turn; returns the way to stop it.

        Events before the first listener or reader are kept (bounded) and given to it at once. A listener must return
        fast and must not raise. Where either fails, a `WarningReported` tells: `events_missed`, `listener_failed`.
        """
        ...

    def read(self, capacity: int = 256) -> EventReader:
        """A bounded reader of the events from now on."""
        ...

    # input
    def send_audio(self, audio: bytes, format: AudioFormat) -> None:
        """Queue microphone audio of any length. `format` must be one of `Capabilities.input_formats`."""
        ...

    def end_input(self) -> None:
        """The microphone is muted or gone: flush what the provider holds. Audio may follow again at any time."""
        ...

    def commit_input(self) -> None:
        """Without provider turn detection: what was sent so far is the user's turn."""
        ...

    def clear_input(self) -> None:
        """Forget audio that was sent but not yet committed, where the provider can."""
        ...

    def start_activity(self) -> None:
        """Without provider turn detection: the user begins to speak."""
        ...

    def end_activity(self) -> None:
        """Without provider turn detection: the user has finished."""
        ...

    def send_image(self, image: bytes, mime_type: str) -> None:
        """One still (JPEG, PNG or WebP). Raises `SettingRefused` when the model takes no images."""
        ...

    def send_text(self, text: str, *, respond: bool = True) -> None:
        """A typed user turn; `respond` asks for an answer to it."""
        ...

    # replies
    def respond(self, instructions: str | None = None) -> None:
        """Make the model speak now: a greeting, or "say ...". With None it answers what it has heard."""
        ...

    def interrupt(self) -> None:
        """Stop the reply that is being generated, without asking for a new one. No-op when idle."""
        ...

    def truncate(self, reply_id: str, heard_ms: int) -> None:
        """Make the model forget what was not heard: `heard_ms` of this reply's speech reached the room.

        No-op unless `Capabilities.truncation` is CLIENT. Clamped to what was received; unheard items are deleted.
        """
        ...

    # tools
    def send_tool_result(
        self, call_id: str, name: str, result: dict[str, Any] | str, *, error: bool = False, respond: bool = True
    ) -> None:
        """Answer one tool call. With `respond` the model goes on once all calls of the batch are answered."""
        ...

    # session
    def update(
        self,
        *,
        instructions: str | None = None,
        tools: Sequence[ToolSpec] | None = None,
        voice: str | None = None,
    ) -> None:
        """Change what is given, in place. Raises `NeedsNewSession` naming what the provider cannot change."""
        ...

    def send_raw(self, message: dict[str, Any]) -> None:
        """One message in the provider's own words, for what this contract has no word for."""
        ...

    async def close(self) -> None:
        """Say goodbye and end all of the session's tasks. Bounded; safe to call twice."""
        ...


class Standby(Protocol):
    """A connection that is dialled and upgraded, and waits for its setup: what a change of session can have in advance.

    Nobody has to watch it. One that dies, or waits longer than `ConnectionSettings.standby_s`, closes by itself, and
    `connect` then dials anew.
    """

    @property
    def alive(self) -> bool:
        """Would `connect` find it waiting? False once it is used, closed, dead or too old."""
        ...

    async def connect(self, start: SessionStart | None = None) -> ModelSession:
        """Send the setup and return the session READY. Once: SessionEnded when it was used or closed before.

        Else as `SpeechModel.connect`. `SettingRefused` leaves it waiting; any other error ends it.
        """
        ...

    async def close(self) -> None:
        """Hang up, unless it has become a session. Bounded; safe to call twice."""
        ...


class SpeechModel(Protocol):
    """A configured model, ready to be connected to."""

    @property
    def name(self) -> str:
        """Provider name as in the configuration: `gemini`, `openai`, `scripted`."""
        ...

    @property
    def endpoint(self) -> str:
        """Where its sessions are opened: host and model, and whose account where that is known. Holds no secret.

        Two models of one endpoint succeed and fail together: the key of `providers.health.HealthBook`.
        """
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    async def connect(self, start: SessionStart | None = None) -> ModelSession:
        """Open a session and return it READY.

        Bounded by the connect and setup timeouts. Raises `ProviderUnavailable`, `SetupTimeout`, `ResumeTooSoon`,
        `ProviderRejected` or `ResumeRefused`; nothing stays open behind an error, or behind a cancellation.
        """
        ...

    async def stand_by(self) -> Standby:
        """Dial and upgrade a connection now, to be set up later. Whoever asks for it uses or closes it.

        Bounded by the connect timeout; credentials are fetched for it. Raises `ProviderUnavailable` or
        `ProviderRejected`; nothing stays open behind an error, or behind a cancellation.
        """
        ...
