"""`[providers.gemini]`: what only Gemini has. Everything that other models share is in `providers.settings`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from providers.gemini.rules import DEFAULT_MODEL

__all__ = [
    "AvatarSettings",
    "ClonedVoiceSettings",
    "GeminiSettings",
    "GoogleSearchSettings",
    "SafetySettings",
    "TranslationSettings",
]

Sensitivity = Literal["high", "low"]
HarmCategory = Literal[
    "harassment",
    "hate_speech",
    "sexually_explicit",
    "dangerous_content",
    "civic_integrity",
    "jailbreak",
    "image_hate",
    "image_dangerous_content",
    "image_harassment",
    "image_sexually_explicit",
]
HarmThreshold = Literal["block_low_and_above", "block_medium_and_above", "block_only_high", "block_none", "off"]


class SafetySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From where on one kind of harm is blocked."""

    category: HarmCategory
    """Kind of harm."""
    threshold: HarmThreshold
    """Blocked from here on."""
    method: Literal["severity", "probability"] | None = None
    """Vertex only: what the threshold is compared with."""


class AvatarSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A talking face instead of a voice (Vertex, gemini-3.8-live): the answer is video/mp4."""

    name: str | None = None
    """One of Google's avatars."""
    image_file: str | None = None
    """Picture of an avatar of your own, JPEG or PNG."""
    audio_bitrate_bps: Annotated[int, Meta(ge=1)] | None = None
    """Bit rate of the muxed voice, bit/s."""
    video_bitrate_bps: Annotated[int, Meta(ge=1)] | None = None
    """Bit rate of the picture, bit/s."""


class TranslationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For the live-translate models."""

    target_language: str
    """BCP-47 tag that is spoken back."""
    echo_target_language: bool | None = None
    """Repeat speech that is in the target language already."""


class ClonedVoiceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A voice cloned from a sample; allow-listed by Google."""

    sample_file: str
    """WAV, 24 kHz, 16 bit."""
    consent_file: str | None = None
    """WAV of the speaker's consent (Developer API)."""
    consent_signature: str | None = None
    """Signature that an earlier session returned for that consent (Developer API)."""


class GoogleSearchSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How Google Search grounds the answers."""

    exclude_domains: tuple[str, ...] = ()
    """Vertex only: domains that are never used."""
    blocking_confidence: str | None = None
    """Vertex only: how sure a site must be phishing to be left out, such as BLOCK_HIGH_AND_ABOVE."""
    search_types: tuple[Literal["web", "image"], ...] = ()
    """Developer API only: kinds of search."""
    start_time: str | None = None
    """Developer API only: nothing older, RFC 3339."""
    end_time: str | None = None
    """Developer API only: nothing newer, RFC 3339."""


class GeminiSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What only Gemini has. None leaves a value to the service."""

    # where
    model: str = DEFAULT_MODEL
    """Model id, with or without its path."""
    backend: Literal["auto", "developer", "vertex"] = "auto"
    """developer: API key. vertex: Google Cloud. auto: vertex when GOOGLE_GENAI_USE_ENTERPRISE or
    GOOGLE_GENAI_USE_VERTEXAI is true."""
    api_version: str | None = None
    """None: v1beta (developer), v1beta1 (vertex). Ephemeral tokens that v1beta refuses need v1alpha."""
    base_url: str | None = None
    """Another address than Google's, with ws, wss, http or https. None: GOOGLE_VERTEX_BASE_URL (vertex) or
    GOOGLE_GEMINI_BASE_URL, if set."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key or ephemeral token. None: GOOGLE_API_KEY, GEMINI_API_KEY."""
    project: str | None = None
    """Vertex: Google Cloud project. None: GOOGLE_CLOUD_PROJECT."""
    location: str | None = None
    """Vertex: region such as us-central1, or global, us, eu. None: GOOGLE_CLOUD_LOCATION, else us-central1."""
    quota_project: str | None = None
    """Vertex: project that is billed, when it is another. None: as the credentials say."""

    # voice
    voice_id: str | None = None
    """Speaker identifier for synthesis, instead of speech.voice. Few models take it."""
    cloned_voice: ClonedVoiceSettings | None = None
    """A cloned voice, instead of speech.voice."""
    avatar: AvatarSettings | None = None
    """A talking face instead of a voice."""

    # sampling
    candidate_count: Annotated[int, Meta(ge=1, le=8)] | None = None
    """Candidates per answer."""
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None
    """Nucleus sampling, 0 to 1."""
    top_k: Annotated[float, Meta(ge=1)] | None = None
    """Tokens to choose from."""
    presence_penalty: Annotated[float, Meta(ge=-2.0, le=2.0)] | None = None
    """Against words already used."""
    frequency_penalty: Annotated[float, Meta(ge=-2.0, le=2.0)] | None = None
    """Against words used often."""
    seed: int | None = None
    """For answers that repeat."""

    # thinking
    thinking_level: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None
    """As speech.thinking, when Gemini should differ."""
    thinking_budget: Annotated[int, Meta(ge=-1)] | None = None
    """Tokens for thinking, 2.5 models: 0 is off, -1 automatic. Not with a level."""
    include_thoughts: bool | None = None
    """Send the thoughts too; they are never spoken."""

    # turns
    start_sensitivity: Sensitivity | None = None
    """How easily speech is believed to begin. None: high (developer), low (vertex)."""
    end_sensitivity: Sensitivity | None = None
    """How easily speech is believed to end. None: high (developer); undocumented on vertex."""
    activity_handling: Literal["interrupts", "no_interruption"] | None = None
    """Does speech cut the reply? None: as speech.turn_detection.interrupt_response."""
    turn_coverage: Literal["only_activity", "all_input", "audio_activity_and_all_video"] | None = None
    """What a user turn holds. None: the model's default."""
    explicit_vad: bool | None = None
    """Vertex: report the edges of the user's speech."""
    interim_transcript_timestamps: bool | None = None
    """Timestamps on interim transcripts."""

    # transcripts
    transcription_mode: Literal["verbatim", "smart"] | None = None
    """smart tidies the user's words; not with timestamps or diarization."""
    transcription_source_text: str | None = None
    """Text that smart transcription edits."""
    word_timestamps: bool | None = None
    """Times of single words; transcribe models."""
    diarization: bool | None = None
    """Who spoke; transcribe models."""

    # the session
    resumption: bool = True
    """Ask for resumption handles."""
    transparent: bool | None = None
    """Vertex: also say which of our messages were taken in."""
    compression: bool = True
    """Slide the context window; without it a session ends after 15 minutes."""
    trigger_tokens: Annotated[int, Meta(ge=1)] | None = None
    """Context that triggers compression, tokens. None: 80 % of the window. Every turn bills what is kept."""
    target_tokens: Annotated[int, Meta(ge=0)] | None = None
    """What compression leaves, tokens. None: half the trigger."""
    history_in_client_content: bool | None = None
    """Announce an initial history. None: when a session is seeded and the model knows it."""
    repair_memory: bool = False
    """Tell the model, while nobody speaks, what of an interrupted reply was not heard. Off: not verified with the
    service, and a new session is told anyway."""
    update_by: Literal["auto", "context_update", "system_turn", "new_session"] = "auto"
    """How instructions and tools change in a running session. auto: context_update where it is documented, else a
    new session. system_turn: instructions only, Vertex only."""

    # behaviour
    proactive_audio: bool | None = None
    """May stay silent on what is not meant for it. 2.5 models, Developer API: v1alpha."""
    proactive_video: bool | None = None
    """Reacts to every image; needs proactive_audio."""
    affective_dialog: bool | None = None
    """Answers in the user's mood. 2.5 models, Developer API: v1alpha."""
    media_resolution: Literal["low", "medium", "high"] | None = None
    """Detail in which images are read."""
    translation: TranslationSettings | None = None
    """For the live-translate models."""
    safety: tuple[SafetySettings, ...] = ()
    """Blocking thresholds."""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    """For the bill: lower case, at most 63 characters each."""

    # tools
    google_search: bool | GoogleSearchSettings = False
    """Answers grounded in Google Search."""
    code_execution: bool = False
    """Runs code by itself; not on 3.x models."""
    url_context: bool = False
    """Reads pages; not on 3.x models."""
    extra_tools: tuple[dict[str, Any], ...] = ()
    """Further entries of `tools` in Google's own words."""
    tool_schema: Literal["openapi", "json_schema"] = "openapi"
    """How parameters are declared: as `parameters`, or unchanged as `parametersJsonSchema`, which Live may ignore."""
    tool_scheduling: Literal["silent", "when_idle", "interrupt"] | None = None
    """When the answer of a non-blocking tool is spoken. On Vertex sent only if set."""
