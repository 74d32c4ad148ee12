"""The neutral vocabulary of a speech model's settings. Each provider maps it, or refuses a key with the reason."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from providers.contract import ToolSpec
from providers.handshake import place

__all__ = ["ConnectionSettings", "SpeechSettings", "TranscriptionSettings", "TurnDetectionSettings"]


class TurnDetectionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who decides when the user's turn begins and ends, and how eagerly. None leaves a value to the provider."""

    mode: Literal["auto", "server_vad", "semantic_vad", "manual"] = "auto"
    """auto: the provider's own default. manual: the bridge marks the turns."""
    threshold: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    """How sure of speech the detector must be, 0 to 1."""
    prefix_padding_ms: Annotated[int, Meta(ge=0, le=5000)] | None = None
    """OpenAI: audio kept before the detected start, ms. Gemini: speech needed before a start is believed, ms."""
    silence_ms: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    """Silence that ends a turn, ms."""
    eagerness: Literal["low", "medium", "high", "auto"] | None = None
    """How soon a semantic detector answers."""
    create_response: bool = True
    """The provider answers on its own when a turn ends."""
    interrupt_response: bool = True
    """The provider cuts its reply when the user speaks."""
    idle_timeout_ms: Annotated[int, Meta(ge=1000, le=600_000)] | None = None
    """OpenAI server_vad: speak up after this much silence, ms."""


class TranscriptionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Transcripts of both sides."""

    input: bool = True
    """Transcribe what the user says."""
    output: bool = True
    """Transcribe what the model says."""
    model: str | None = None
    """OpenAI: the transcription model. None: gpt-4o-mini-transcribe."""
    language: str | None = None
    """BCP-47 hint for the user's language."""
    vocabulary: tuple[str, ...] = ()
    """Words to expect."""


class SpeechSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every speech model is told, in our own words."""

    instructions: str = ""
    """Who the model is and how it should behave."""
    voice: str | dict[str, str] | None = None
    """One voice name, or one per provider: { gemini = "Puck", openai = "marin" }. None: the provider's default."""
    language: str | None = None
    """BCP-47 tag of the spoken language. None: the model decides."""
    modality: Literal["audio", "text"] = "audio"
    """What the model answers in."""
    temperature: Annotated[float, Meta(gt=0.0, le=2.0)] | None = None
    """Randomness. Not every provider has it."""
    thinking: Literal["off", "minimal", "low", "medium", "high", "xhigh"] | None = None
    """How much the model reasons before it answers. None: the model's default."""
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    """Tokens of one reply at most. None: the model's own limit."""
    turn_detection: TurnDetectionSettings = TurnDetectionSettings()
    transcription: TranscriptionSettings = TranscriptionSettings()
    tools: tuple[ToolSpec, ...] = ()
    """Functions that the model may call; registered ones of the bridge are added; of two with one name
    the registered one stays."""

    def voice_for(self, provider: str) -> str | None:
        """The voice that this provider should use, if one is set for it."""
        return self.voice.get(provider) if isinstance(self.voice, dict) else self.voice

    def tools_with(self, added: tuple[ToolSpec, ...] | None) -> tuple[ToolSpec, ...]:
        """The configured tools and those `added`, in this order; of two with one name the added one stays.

        None adds nothing; empty takes all tools away. Two of one name on the same side are both kept: the model's own
        check refuses them.
        """
        if added is None:
            return self.tools
        if not added:
            return ()
        newer = {tool.name for tool in added}
        return (*(tool for tool in self.tools if tool.name not in newer), *added)


class ConnectionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one provider connection. The same for every provider."""

    connect_timeout_s: Annotated[float, Meta(gt=0, le=120)] = 10.0
    """Name look-up, TCP, TLS and upgrade together, s."""
    setup_timeout_s: Annotated[float, Meta(gt=0, le=120)] = 10.0
    """From the open socket to a ready session, s."""
    close_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 2.0
    """For the goodbye, s."""
    standby_s: Annotated[float, Meta(gt=0, le=300)] = 8.0
    """How long a connection that was dialled ahead may wait for its setup, s; then it is closed, and dialled anew when
    it is needed. Servers do not say how long they let one wait."""
    ping_interval_s: Annotated[float, Meta(gt=0, le=600)] = 20.0
    """Keeps middleboxes awake, s."""
    stall_timeout_s: Annotated[float, Meta(ge=5, le=600)] = 60.0
    """Nothing received for this long, pongs included: the connection is dead, s. Gemini's pongs take up to 30 s."""
    speech_stall_s: Annotated[float, Meta(ge=0.5, le=600)] = 8.0
    """In the midst of a spoken reply nothing came for this long, pongs apart: the connection is dead, s. A model that
    speaks in bursts further apart than this needs more."""
    unacknowledged_s: Annotated[float, Meta(ge=1, le=600)] = 15.0
    """What we sent reached nobody's machine for this long: the connection is dead, s. Linux only."""
    outbox_ms: Annotated[int, Meta(ge=200, le=60_000)] = 5_000
    """Microphone audio that may wait for a slow socket, ms. Full: the oldest goes and is counted."""
    ca_file: str | None = None
    """PEM file of further certificate authorities to trust."""
    proxy: str | None = None
    """Proxy URL. None: HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the environment."""

    def __repr__(self) -> str:
        # A proxy's password stands in its URL, and settings end up in tracebacks and logs.
        shown = {**msgspec.structs.asdict(self), "proxy": None if self.proxy is None else place(self.proxy)}
        return f"ConnectionSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"
