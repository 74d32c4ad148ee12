"""`[providers.openai]`: what only OpenAI has a word for. The rest is neutral: `providers.settings.SpeechSettings`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from providers.openai.catalog import DEFAULT_MODEL, MAX_SESSION_S
from providers.signal.formats import PCM16_24K, PCMA_8K, PCMU_8K, AudioFormat, Encoding
from providers.webrtc.settings import IceServer

__all__ = ["FormatName", "OpenAISettings", "PromptTemplate", "TracingSettings"]

FormatName = Literal["pcm", "pcmu", "pcma"]


class PromptTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A prompt stored at OpenAI."""

    id: Annotated[str, Meta(min_length=1)]
    """Its id, `pmpt_...`."""
    version: str | None = None
    """None: the current one."""
    variables: dict[str, str] = msgspec.field(default_factory=dict)
    """Values for its placeholders."""


class TracingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a session appears in OpenAI's trace viewer."""

    workflow_name: str | None = None
    """Name of the workflow that the session belongs to."""
    group_id: str | None = None
    """Ties the traces of one conversation together."""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    """Further labels."""


class OpenAISettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What only OpenAI Realtime and servers compatible with it understand. None leaves a value to the server."""

    model: Annotated[str, Meta(min_length=1)] = DEFAULT_MODEL
    """Realtime model."""

    # where and as whom
    base_url: str | None = None
    """Another endpoint: https, http, wss or ws. None: OPENAI_BASE_URL, else https://api.openai.com/v1."""
    organization: str | None = None
    """OpenAI-Organization header. None: OPENAI_ORG_ID."""
    project: str | None = None
    """OpenAI-Project header. None: OPENAI_PROJECT_ID."""
    safety_identifier: str | None = None
    """A hash that stands for the end user, for OpenAI's abuse checks."""
    auth: Literal["api_key", "client_secret"] = "api_key"
    """client_secret: each connect first mints a short-lived secret with the key."""
    client_secret_ttl_s: Annotated[int, Meta(ge=10, le=7200)] = 60
    """How long a minted secret may open sessions, s. A running session outlives it."""

    # how
    transport: Literal["websocket", "webrtc"] = "websocket"
    """webrtc: speech travels as Opus over UDP, events over a data channel. Needs the extra `webrtc`."""
    webrtc_request: Literal["auto", "unified", "sdp"] = "auto"
    """How a call is asked for: unified sends offer and session together (API key), sdp the offer alone (client
    secret). auto: by the key."""
    sideband: bool = False
    """With webrtc: events travel over a WebSocket that joins the call, not over the data channel. Larger messages;
    needs an API key."""
    opus_bitrate_bps: Annotated[int, Meta(ge=6000, le=256_000)] = 64_000
    """With webrtc: of the speech that we send. Recognition suffers below 24000."""
    ice_servers: tuple[IceServer, ...] = ()
    """With webrtc: STUN and TURN servers. OpenAI itself needs none where UDP may leave."""

    # audio
    input_format: FormatName = "pcm"
    """What we send: pcm (int16), or G.711 pcmu or pcma at 8 kHz."""
    output_format: FormatName = "pcm"
    """What we get."""
    input_rate_hz: Annotated[int, Meta(ge=8000, le=48_000)] = 24_000
    """Rate of pcm input. OpenAI knows 24000 only; compatible servers differ."""
    output_rate_hz: Annotated[int, Meta(ge=8000, le=48_000)] = 24_000
    """Rate of pcm output. OpenAI knows 24000 only; compatible servers differ."""
    noise_reduction: Literal["near_field", "far_field"] | None = None
    """near_field for headsets, far_field for laptops and rooms. None: off."""
    noise_reduction_strength: Annotated[float, Meta(ge=0.0)] | None = None
    """How much noise is suppressed; the service begins with 1."""
    speed: Annotated[float, Meta(ge=0.25, le=1.5)] | None = None
    """Pace of the voice; 1.0 is normal."""

    # context and replies
    truncation: Literal["auto", "disabled", "retention_ratio"] | None = None
    """What happens when the context is full. None: the service's default, auto."""
    retention_ratio: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    """With truncation = retention_ratio: the share of the context that is kept."""
    post_instructions_token_limit: Annotated[int, Meta(ge=1)] | None = None
    """With truncation = retention_ratio: tokens allowed after the instructions."""
    tool_choice: Annotated[str, Meta(min_length=1)] | None = None
    """auto, none, required, or the name of the one tool to call."""
    parallel_tool_calls: bool | None = None
    """May the model call several tools at once? Reasoning models only."""
    prompt: PromptTemplate | None = None
    """A prompt template stored at OpenAI."""
    tracing: Literal["auto"] | TracingSettings | None = None
    """Traces of the sessions at OpenAI. Cannot be changed once on."""
    include: tuple[Literal["item.input_audio_transcription.logprobs"], ...] = ()
    """Further fields in the events."""

    # transcription of the user, beyond speech.transcription
    transcription_delay: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None
    """How long gpt-realtime-whisper waits before it writes. Later is better."""
    transcription_languages: tuple[str, ...] = ()
    """Languages to expect, ISO 639-1; gpt-transcribe and gpt-live-transcribe only."""
    transcription_prompt: str | None = None
    """Free text that guides the transcription model."""

    # compatible servers
    acknowledges_update: bool | None = None
    """Wait for session.updated before the session counts as ready. None: yes at OpenAI; elsewhere for a second."""
    max_session_s: Annotated[float, Meta(gt=0)] = MAX_SESSION_S
    """When the server ends a session, s. Go-away is announced a minute before."""

    def input_audio_format(self) -> AudioFormat:
        """What `send_audio` takes."""
        return _format(self.input_format, self.input_rate_hz)

    def output_audio_format(self) -> AudioFormat:
        """What the model's speech comes in."""
        return _format(self.output_format, self.output_rate_hz)


def _format(name: FormatName, rate_hz: int) -> AudioFormat:
    if name == "pcmu":
        return PCMU_8K
    if name == "pcma":
        return PCMA_8K
    # The constant itself: the hot path compares formats by identity first.
    return PCM16_24K if rate_hz == PCM16_24K.rate_hz else AudioFormat(Encoding.PCM16, rate_hz)
