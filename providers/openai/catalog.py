"""What is known of OpenAI's realtime and transcription models, as data. One row for each rule that a setting can break.

A model that is not listed (a compatible server's, or a newer one) gets `UNLISTED`: nothing about it is refused here.
Source: OpenAI Realtime reference and model pages, November 2026.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "CUSTOM_VOICE_PREFIX",
    "DEFAULT_MODEL",
    "DEFAULT_TRANSCRIPTION_MODEL",
    "EFFORTS",
    "MAX_OUTPUT_TOKENS",
    "MAX_SESSION_S",
    "UNLISTED",
    "VOICES",
    "ModelFacts",
    "TranscriptionFacts",
    "model_facts",
    "transcription_facts",
]

DEFAULT_MODEL = "gpt-realtime-2.1"
DEFAULT_TRANSCRIPTION_MODEL = "gpt-4o-mini-transcribe"
VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")
CUSTOM_VOICE_PREFIX = "voice_"
EFFORTS = ("minimal", "low", "medium", "high", "xhigh")
MAX_OUTPUT_TOKENS = 4096
MAX_SESSION_S = 3600.0


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What one realtime model accepts."""

    listed: bool = True
    reasoning: bool | None = False
    """`reasoning` and `parallel_tool_calls`: refused with the whole update elsewhere. None: not known."""
    images: bool = True
    context_tokens: int = 32_000
    """What it can keep in mind, instructions and tools included."""
    not_conversational: str = ""
    """Why the model cannot hold a conversation, with the mend."""


class TranscriptionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What one transcription model accepts."""

    listed: bool = True
    keywords: bool = False
    languages: bool = False
    prompt: bool = True
    delay: bool = False


UNLISTED = ModelFacts(listed=False, reasoning=None)
_UNLISTED_TRANSCRIPTION = TranscriptionFacts(listed=False, keywords=True, languages=True, delay=True)

_RETIRED = ModelFacts(not_conversational="this preview was retired: use gpt-realtime-2.1")
_CHAT_AUDIO = ModelFacts(images=False)

# The first prefix that fits decides, so that dated snapshots follow their family.
_FAMILIES: tuple[tuple[str, ModelFacts], ...] = (
    (
        "gpt-realtime-whisper",
        ModelFacts(
            not_conversational="it only transcribes: use gpt-realtime-2.1, and this in speech.transcription.model"
        ),
    ),
    ("gpt-realtime-translate", ModelFacts(not_conversational="it only translates: use gpt-realtime-2.1")),
    ("gpt-live", ModelFacts(not_conversational="it speaks the Live API, not Realtime: use gpt-realtime-2.1")),
    ("gpt-realtime-2025", ModelFacts()),
    ("gpt-realtime-2", ModelFacts(reasoning=True, context_tokens=128_000)),
    ("gpt-realtime", ModelFacts()),
    ("gpt-audio", _CHAT_AUDIO),
    ("gpt-4o-realtime-preview", _RETIRED),
    ("gpt-4o-mini-realtime-preview", _RETIRED),
)

_TRANSCRIPTION: dict[str, TranscriptionFacts] = {
    "gpt-transcribe": TranscriptionFacts(keywords=True, languages=True),
    "gpt-live-transcribe": TranscriptionFacts(keywords=True, languages=True),
    "gpt-realtime-whisper": TranscriptionFacts(prompt=False, delay=True),
    "gpt-4o-transcribe": TranscriptionFacts(),
    "gpt-4o-mini-transcribe": TranscriptionFacts(),
    "gpt-4o-mini-transcribe-2025-12-15": TranscriptionFacts(),
    "gpt-4o-transcribe-diarize": TranscriptionFacts(prompt=False),
    "whisper-1": TranscriptionFacts(),
}


def model_facts(model: str) -> ModelFacts:
    """The rules of this model; `UNLISTED` when it belongs to no known family."""
    for prefix, facts in _FAMILIES:
        if model.startswith(prefix):
            return facts
    return UNLISTED


def transcription_facts(model: str) -> TranscriptionFacts:
    """The rules of this transcription model; permissive when it is not listed."""
    return _TRANSCRIPTION.get(model, _UNLISTED_TRANSCRIPTION)
