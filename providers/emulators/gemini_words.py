"""What the emulated service says, message by message."""

from __future__ import annotations

from typing import Any

import pybase64

from providers.scripted.acts import SpeechStarted, SpeechStopped, TurnDone

__all__ = ["pieces", "speech", "text_of", "turn_complete", "voice_activity"]

# Pretty-printed, as the service writes it.
_SPEECH_START = (
    b'{\n  "serverContent": {\n    "modelTurn": {\n      "parts": [\n        {\n          "inlineData": {\n'
    b'            "mimeType": "audio/pcm;rate=24000",\n            "data": "'
)
_SPEECH_END = b'"\n          }\n        }\n      ]\n    }\n  }\n}\n'


def speech(pcm: bytes) -> bytes:
    """One message of speech, int16 mono at 24 kHz."""
    return _SPEECH_START + pybase64.b64encode(pcm) + _SPEECH_END


def pieces(text: str) -> list[str]:
    """As the service cuts a transcript: a few words each, a space in front."""
    words = text.split(" ")
    return [" " + " ".join(words[first : first + 3]) for first in range(0, len(words), 3)]


def text_of(content: dict[str, Any]) -> str:
    """The text of a Content; each part is a paragraph."""
    return "\n\n".join(part["text"] for part in content.get("parts", []) if part.get("text"))


def voice_activity(act: SpeechStarted | SpeechStopped) -> dict[str, Any]:
    """An edge of the user's speech."""
    kind = "ACTIVITY_START" if isinstance(act, SpeechStarted) else "ACTIVITY_END"
    return {"voiceActivity": {"type": kind, "audioOffset": f"{act.at_ms / 1000:g}s"}}


def turn_complete(act: TurnDone, *, vertex: bool, status: str) -> dict[str, Any]:
    """The end of a turn with its usage, which Vertex spells in its own way."""
    usage = act.usage
    answered = "candidates" if vertex else "response"
    content: dict[str, Any] = {"turnComplete": True}
    if status:
        content["interactionStatus"] = status
    counted: dict[str, Any] = {
        "promptTokenCount": usage.input_tokens,
        f"{answered}TokenCount": usage.output_tokens,
        "totalTokenCount": usage.total_tokens,
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": usage.input_audio_tokens}],
        f"{answered}TokensDetails": [{"modality": "AUDIO", "tokenCount": usage.output_audio_tokens}],
    }
    if usage.cached_tokens:
        counted["cachedContentTokenCount"] = usage.cached_tokens
    if usage.thought_tokens:
        counted["thoughtsTokenCount"] = usage.thought_tokens
    return {"serverContent": content, "usageMetadata": counted}
