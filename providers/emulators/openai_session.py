"""The effective session of an emulated connection: defaults, what an update changes, and what it may not."""

from __future__ import annotations

import copy
import time
from typing import Any

from providers.emulators.openai_schema import Problem
from providers.openai.catalog import MAX_SESSION_S, model_facts, transcription_facts
from providers.scripted.scenario import ServerVad

__all__ = ["EffectiveSession"]

_INSTRUCTIONS = "You are a helpful, witty and friendly AI. Act like a human, but remember that you are not a human."
_SEMANTIC_PACE = {"high": 0.5, "medium": 1.0, "auto": 1.0, "low": 2.0}
"""How patient semantic_vad is, as multiples of the scenario's silence."""
_DBFS_PER_THRESHOLD = 40.0


class EffectiveSession:
    """What the service would show as `session` in `session.created` and `session.updated`."""

    def __init__(self, session_id: str, model: str, vad: ServerVad) -> None:
        self._vad = vad
        self.model = model
        self.body: dict[str, Any] = {
            "type": "realtime",
            "object": "realtime.session",
            "id": session_id,
            "model": model,
            "output_modalities": ["audio"],
            "instructions": _INSTRUCTIONS,
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "tracing": None,
            "truncation": "auto",
            "prompt": None,
            "include": None,
            "expires_at": time.time_ns() // 10**9 + int(MAX_SESSION_S),
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "transcription": None,
                    "noise_reduction": None,
                    "turn_detection": self._detection({"type": "server_vad"}) if vad.enabled else None,
                },
                "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin", "speed": 1.0},
            },
        }

    def show(self) -> dict[str, Any]:
        """A copy for the wire."""
        return copy.deepcopy(self.body)

    @property
    def input_format(self) -> str:
        """`audio/pcm`, `audio/pcmu` or `audio/pcma`."""
        return str(self.body["audio"]["input"]["format"]["type"])

    @property
    def output_format(self) -> str:
        return str(self.body["audio"]["output"]["format"]["type"])

    @property
    def turn_detection(self) -> dict[str, Any] | None:
        detection: dict[str, Any] | None = self.body["audio"]["input"]["turn_detection"]
        return detection

    @property
    def transcribes(self) -> bool:
        return self.body["audio"]["input"]["transcription"] is not None

    @property
    def written(self) -> bool:
        return bool(self.body["output_modalities"] == ["text"])

    def refusal(self, update: dict[str, Any], *, spoke: bool) -> Problem | None:
        """What is wrong with a well-formed update. Any problem refuses the whole of it."""
        if update.get("model") not in (None, self.model):
            return Problem("invalid_value", "The model of a session cannot be changed.", "session.model")
        facts = model_facts(self.model)
        for field in ("reasoning", "parallel_tool_calls"):
            if field in update and facts.reasoning is False:
                said = f"The parameter '{field}' is not supported with the model '{self.model}'."
                return Problem("invalid_value", said, f"session.{field}")
        audio = update.get("audio", {})
        voice = audio.get("output", {}).get("voice")
        if voice is not None and spoke and voice != self.body["audio"]["output"]["voice"]:
            said = "Cannot update a conversation's voice if assistant audio is present."
            return Problem("cannot_update_voice", said, "session.audio.output.voice")
        transcription = audio.get("input", {}).get("transcription")
        if transcription is not None:
            return self._transcription_refusal(transcription)
        if self.body["tracing"] is not None and update.get("tracing", self.body["tracing"]) != self.body["tracing"]:
            return Problem("invalid_value", "Tracing cannot be changed once it is enabled.", "session.tracing")
        return None

    def _transcription_refusal(self, wanted: dict[str, Any]) -> Problem | None:
        model = str(wanted.get("model", ""))
        facts = transcription_facts(model)
        path = "session.audio.input.transcription"
        if not facts.listed:
            return Problem("invalid_value", f"Invalid value: '{model}'.", f"{path}.model")
        for field in ("keywords", "languages", "prompt", "delay"):
            if field in wanted and not getattr(facts, field):
                return Problem("invalid_value", f"'{field}' is not supported with '{model}'.", f"{path}.{field}")
        return None

    def apply(self, update: dict[str, Any]) -> None:
        """Replace the fields that are present."""
        changes = copy.deepcopy(update)
        audio = changes.pop("audio", {})
        self.body.update(changes)
        self.body["audio"]["output"].update(audio.get("output", {}))
        given = audio.get("input", {})
        kept = self.body["audio"]["input"]
        if given.get("noise_reduction") is not None:
            given["noise_reduction"] = {"strength": 1.0, **(kept["noise_reduction"] or {}), **given["noise_reduction"]}
        if given.get("turn_detection") is not None:
            given["turn_detection"] = self._detection(given["turn_detection"])
        for side in (given, audio.get("output", {})):
            if side.get("format", {}).get("type") == "audio/pcm":
                side["format"]["rate"] = 24000
        kept.update(given)

    def _detection(self, given: dict[str, Any]) -> dict[str, Any]:
        flags = {"create_response": True, "interrupt_response": True}
        if given["type"] == "semantic_vad":
            return {"type": "semantic_vad", "eagerness": "auto", **flags, **given}
        defaults = {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": self._vad.prefix_padding_ms,
            "silence_duration_ms": self._vad.silence_ms,
            "idle_timeout_ms": None,
        }
        return {**defaults, **flags, **given}

    def detector(self) -> ServerVad:
        """The effective turn detection as the mind understands it."""
        detection = self.turn_detection
        own = self._vad
        if detection is None:
            return ServerVad(enabled=False)
        if detection["type"] == "semantic_vad":
            silence_ms = max(10, round(own.silence_ms * _SEMANTIC_PACE[detection["eagerness"]]))
            padding_ms, threshold = own.prefix_padding_ms, 0.5
        else:
            silence_ms = min(10_000, max(10, detection["silence_duration_ms"]))
            padding_ms, threshold = min(5000, detection["prefix_padding_ms"]), detection["threshold"]
        return ServerVad(
            threshold_dbfs=min(0.0, max(-90.0, own.threshold_dbfs + (threshold - 0.5) * _DBFS_PER_THRESHOLD)),
            onset_ms=own.onset_ms,
            prefix_padding_ms=padding_ms,
            silence_ms=silence_ms,
        )
