"""What OpenAI checks of a client's event, as data, and the error that it answers with. The first problem counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import msgspec

from providers.openai.catalog import EFFORTS, MAX_OUTPUT_TOKENS, VOICES

__all__ = ["CLIENT_EVENTS", "Problem", "check"]


class Problem(msgspec.Struct, frozen=True):
    """One refusal: what goes into the `error` event."""

    code: str
    message: str
    param: str | None = None


class Kind(ABC):
    """Base of the rules. `check` returns the first problem of `value`, which stands at `path`."""

    @abstractmethod
    def check(self, value: Any, path: str) -> Problem | None: ...


_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def _wrong_type(path: str, wanted: str, value: Any) -> Problem:
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a decimal",
        str: "a string",
        list: "an array",
        dict: "an object",
    }
    got = names.get(type(value), "null")
    return Problem("invalid_type", f"Invalid type for '{path}': expected {wanted}, but got {got} instead.", path)


class Text(Kind):
    def check(self, value: Any, path: str) -> Problem | None:
        return None if isinstance(value, str) else _wrong_type(path, "a string", value)


class Flag(Kind):
    def check(self, value: Any, path: str) -> Problem | None:
        return None if isinstance(value, bool) else _wrong_type(path, "a boolean", value)


class Anything(Kind):
    def check(self, value: Any, path: str) -> Problem | None:
        return None


class Number(Kind):
    def __init__(self, low: float, high: float, *, whole: bool = False) -> None:
        self._low, self._high, self._whole = low, high, whole

    def check(self, value: Any, path: str) -> Problem | None:
        if isinstance(value, bool) or not isinstance(value, int if self._whole else (int, float)):
            return _wrong_type(path, "an integer" if self._whole else "a decimal", value)
        if self._low <= value <= self._high:
            return None
        said = f"Invalid '{path}': expected a value from {self._low:g} to {self._high:g}, but got {value:g} instead."
        return Problem("invalid_value", said, path)


class Choice(Kind):
    def __init__(self, *words: str) -> None:
        self._words = words

    def check(self, value: Any, path: str) -> Problem | None:
        if not isinstance(value, str):
            return _wrong_type(path, "a string", value)
        if value in self._words:
            return None
        supported = ", ".join(f"'{word}'" for word in self._words)
        return Problem("invalid_value", f"Invalid value: '{value}'. Supported values are: {supported}.", path)


class Pairs(Kind):
    """At most 16 names of 64 letters with values of 512."""

    def check(self, value: Any, path: str) -> Problem | None:
        if not isinstance(value, dict):
            return _wrong_type(path, "an object", value)
        if len(value) > 16:
            return Problem("invalid_value", f"Invalid '{path}': too many properties. Expected at most 16.", path)
        for name, text in value.items():
            if not isinstance(text, str):
                return _wrong_type(f"{path}.{name}", "a string", text)
            if len(name) > 64 or len(text) > 512:
                return Problem("invalid_value", f"Invalid '{path}.{name}': string too long.", f"{path}.{name}")
        return None


class Nullable(Kind):
    def __init__(self, inner: Kind) -> None:
        self._inner = inner

    def check(self, value: Any, path: str) -> Problem | None:
        return None if value is None else self._inner.check(value, path)


class List(Kind):
    def __init__(self, inner: Kind, length: int | None = None) -> None:
        self._inner, self._length = inner, length

    def check(self, value: Any, path: str) -> Problem | None:
        if not isinstance(value, list):
            return _wrong_type(path, "an array", value)
        if self._length is not None and len(value) != self._length:
            return Problem("invalid_value", f"Invalid '{path}': expected {self._length} value.", path)
        problems = (self._inner.check(inner, f"{path}[{index}]") for index, inner in enumerate(value))
        return next((problem for problem in problems if problem is not None), None)


class Object(Kind):
    """Known fields; further ones are refused. `required` must be there."""

    def __init__(self, fields: Mapping[str, Kind], *required: str) -> None:
        self._fields, self._required = fields, required

    def check(self, value: Any, path: str) -> Problem | None:
        if not isinstance(value, dict):
            return _wrong_type(path, "an object", value)
        prefix = f"{path}." if path else ""
        for name in self._required:
            if name not in value:
                wanted = f"{prefix}{name}"
                return Problem("missing_required_parameter", f"Missing required parameter: '{wanted}'.", wanted)
        for name, inner in value.items():
            kind = self._fields.get(name)
            if kind is None:
                return Problem("unknown_parameter", f"Unknown parameter: '{prefix}{name}'.", f"{prefix}{name}")
            problem = kind.check(inner, f"{prefix}{name}")
            if problem is not None:
                return problem
        return None


class Tagged(Kind):
    """An object whose `tag` field decides what else it may hold."""

    def __init__(self, tag: str, kinds: Mapping[str, Object]) -> None:
        self._tag, self._kinds, self._choice = tag, kinds, Choice(*kinds)

    def check(self, value: Any, path: str) -> Problem | None:
        if not isinstance(value, dict):
            return _wrong_type(path, "an object", value)
        where = f"{path}.{self._tag}" if path else self._tag
        if self._tag not in value:
            return Problem("missing_required_parameter", f"Missing required parameter: '{where}'.", where)
        problem = self._choice.check(value[self._tag], where)
        return self._kinds[value[self._tag]].check(value, path) if problem is None else problem


class OneOf(Kind):
    """The first kind if the value has its Python type, else the second."""

    def __init__(self, python_type: type, first: Kind, second: Kind) -> None:
        self._type, self._first, self._second = python_type, first, second

    def check(self, value: Any, path: str) -> Problem | None:
        return (self._first if isinstance(value, self._type) else self._second).check(value, path)


_TEXT, _FLAG, _ANY = Text(), Flag(), Anything()
_MS = Number(0, 600_000, whole=True)
_FORMAT = Tagged(
    "type",
    {
        "audio/pcm": Object({"type": _TEXT, "rate": Number(24_000, 24_000, whole=True)}),
        "audio/pcmu": Object({"type": _TEXT}),
        "audio/pcma": Object({"type": _TEXT}),
    },
)
_VAD_FLAGS = {"type": _TEXT, "create_response": _FLAG, "interrupt_response": _FLAG}
_TURN_DETECTION = Tagged(
    "type",
    {
        "server_vad": Object(
            {
                **_VAD_FLAGS,
                "threshold": Number(0, 1),
                "prefix_padding_ms": _MS,
                "silence_duration_ms": _MS,
                "idle_timeout_ms": Nullable(_MS),
            }
        ),
        "semantic_vad": Object({**_VAD_FLAGS, "eagerness": Choice("low", "medium", "high", "auto")}),
    },
)
_TRANSCRIPTION = Object(
    {
        "model": _TEXT,
        "language": _TEXT,
        "languages": List(_TEXT),
        "prompt": _TEXT,
        "keywords": List(_TEXT),
        "delay": Choice(*EFFORTS),
    }
)
_NOISE = Object({"type": Choice("near_field", "far_field"), "strength": Number(0, 100)})
_VOICE = OneOf(dict, Object({"id": _TEXT}, "id"), Choice(*VOICES))
_MODALITIES = List(Choice("audio", "text"), length=1)
_TOOL = Tagged(
    "type",
    {
        "function": Object({"type": _TEXT, "name": _TEXT, "description": _TEXT, "parameters": _ANY}, "name"),
        "mcp": Object(
            dict.fromkeys(
                (
                    *("type", "server_label", "server_url", "connector_id", "tunnel_id", "authorization", "headers"),
                    *("server_description", "allowed_tools", "require_approval", "defer_loading", "allowed_callers"),
                ),
                _ANY,
            ),
            "server_label",
        ),
    },
)
_TOOL_CHOICE = OneOf(
    dict,
    Tagged(
        "type",
        {
            "function": Object({"type": _TEXT, "name": _TEXT}, "name"),
            "mcp": Object({"type": _TEXT, "server_label": _TEXT, "name": _TEXT}, "server_label"),
        },
    ),
    Choice("auto", "none", "required"),
)
_TOKENS = OneOf(str, Choice("inf"), Number(1, MAX_OUTPUT_TOKENS, whole=True))
_PROMPT = Object({"id": _TEXT, "version": Nullable(_TEXT), "variables": Nullable(_ANY)}, "id")
_REASONING = Object({"effort": Choice(*EFFORTS)})
_TRUNCATION = OneOf(
    dict,
    Object(
        {
            "type": Choice("retention_ratio"),
            "retention_ratio": Number(0, 1),
            "token_limits": Nullable(Object({"post_instructions": Number(0, 10**7, whole=True)})),
        },
        "type",
        "retention_ratio",
    ),
    Choice("auto", "disabled"),
)
_SESSION = Object(
    {
        "type": Choice("realtime"),
        "model": _TEXT,
        "output_modalities": _MODALITIES,
        "instructions": _TEXT,
        "audio": Object(
            {
                "input": Object(
                    {
                        "format": _FORMAT,
                        "noise_reduction": Nullable(_NOISE),
                        "transcription": Nullable(_TRANSCRIPTION),
                        "turn_detection": Nullable(_TURN_DETECTION),
                    }
                ),
                "output": Object({"format": _FORMAT, "voice": _VOICE, "speed": Number(0.25, 1.5)}),
            }
        ),
        "include": Nullable(List(Choice("item.input_audio_transcription.logprobs"))),
        "tools": List(_TOOL),
        "tool_choice": _TOOL_CHOICE,
        "parallel_tool_calls": _FLAG,
        "reasoning": _REASONING,
        "max_output_tokens": _TOKENS,
        "truncation": _TRUNCATION,
        "tracing": Nullable(
            OneOf(dict, Object({"workflow_name": _TEXT, "group_id": _TEXT, "metadata": _ANY}), Choice("auto"))
        ),
        "prompt": Nullable(_PROMPT),
    },
    "type",
)
_COMMON_ITEM = {
    "id": _TEXT,
    "type": _TEXT,
    "object": Choice("realtime.item"),
    "status": Choice("in_progress", "completed", "incomplete"),
}
_CONTENT = {
    "system": ("input_text",),
    "user": ("input_text", "input_audio", "input_image"),
    "assistant": ("output_text",),
}


def _message(role: str) -> Object:
    fields = {"type": Choice(*_CONTENT[role]), "text": _TEXT}
    if role == "user":
        fields |= {"audio": _TEXT, "transcript": _TEXT, "image_url": _TEXT, "detail": Choice("auto", "low", "high")}
    return Object({**_COMMON_ITEM, "role": _TEXT, "content": List(Object(fields, "type"))}, "content")


class _Message(Kind):
    def __init__(self) -> None:
        self._roles = Tagged("role", {role: _message(role) for role in _CONTENT})

    def check(self, value: Any, path: str) -> Problem | None:
        return self._roles.check(value, path)


class _Item(Kind):
    """A conversation item that a client may create."""

    _others = Tagged(
        "type",
        {
            "message": Object({}),
            "function_call": Object(
                {**_COMMON_ITEM, "call_id": _TEXT, "name": _TEXT, "arguments": _TEXT}, "name", "arguments"
            ),
            "function_call_output": Object({**_COMMON_ITEM, "call_id": _TEXT, "output": _TEXT}, "call_id", "output"),
        },
    )
    _message = _Message()

    def check(self, value: Any, path: str) -> Problem | None:
        if isinstance(value, dict) and value.get("type") == "message":
            return self._message.check(value, path)
        return self._others.check(value, path)


_RESPONSE = Object(
    {
        "instructions": _TEXT,
        "output_modalities": _MODALITIES,
        "audio": Object({"output": Object({"format": _FORMAT, "voice": _VOICE})}),
        "tools": List(_TOOL),
        "tool_choice": _TOOL_CHOICE,
        "parallel_tool_calls": _FLAG,
        "reasoning": _REASONING,
        "max_output_tokens": _TOKENS,
        "metadata": Nullable(Pairs()),
        "prompt": Nullable(_PROMPT),
        "conversation": Choice("auto", "none"),
        "input": List(_ANY),
    }
)


def _event(fields: Mapping[str, Kind] | None = None, *required: str) -> Object:
    return Object({"type": _TEXT, "event_id": _TEXT, **(fields or {})}, *required)


CLIENT_EVENTS = Tagged(
    "type",
    {
        "session.update": _event({"session": _SESSION}, "session"),
        "input_audio_buffer.append": _event({"audio": _TEXT}, "audio"),
        "input_audio_buffer.commit": _event(),
        "input_audio_buffer.clear": _event(),
        "conversation.item.create": _event({"item": _Item(), "previous_item_id": Nullable(_TEXT)}, "item"),
        "conversation.item.retrieve": _event({"item_id": _TEXT}, "item_id"),
        "conversation.item.truncate": _event(
            {"item_id": _TEXT, "content_index": Number(0, 0, whole=True), "audio_end_ms": Number(0, 10**8, whole=True)},
            "item_id",
            "content_index",
            "audio_end_ms",
        ),
        "conversation.item.delete": _event({"item_id": _TEXT}, "item_id"),
        "response.create": _event({"response": Nullable(_RESPONSE)}),
        "response.cancel": _event({"response_id": _TEXT}),
        "output_audio_buffer.clear": _event(),
    },
)


def check(event: Any) -> Problem | None:
    """What OpenAI would refuse in this client event."""
    return CLIENT_EVENTS.check(event, "")
