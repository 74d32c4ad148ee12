"""What a client's message is, for comparing a client with a capture: its kind, and the names that others answer to."""

from __future__ import annotations

from typing import Any, Literal

__all__ = ["STREAMED", "identity_of", "kind_of"]

STREAMED = frozenset({"realtimeInput.audio", "realtimeInput.video", "input_audio_buffer.append"})
"""Kinds that come by the clock, in pieces of any number: a client is not compared by these."""


def kind_of(vendor: Literal["gemini", "openai"], message: Any) -> str:
    """Its name in the vendor's words, such as `toolResponse` or `response.create`; `?` for what is no message.

    Gemini's takes both spellings of keys, as the service does.
    """
    if not isinstance(message, dict) or not message:
        return "?"
    if vendor == "openai":
        kind = message.get("type")
        return kind if isinstance(kind, str) and kind else "?"
    key = next(iter(message))
    top, content = _camel(key), message[key]
    if top != "realtimeInput" or not isinstance(content, dict):
        return top
    parts = sorted({"audio" if part == "mediaChunks" else part for part in map(_camel, content)})
    return f"realtimeInput.{'+'.join(parts)}" if parts else top


def identity_of(vendor: Literal["gemini", "openai"], message: Any) -> dict[str, object]:
    """Fields that name something of the server's, by their path: those must be as they were recorded."""
    if not isinstance(message, dict):
        return {}
    found: dict[str, object] = {}
    if vendor == "openai":
        found = {key: message[key] for key in ("item_id", "response_id", "content_index") if key in message}
        item = message.get("item")
        if isinstance(item, dict):
            found |= {f"item.{key}": item[key] for key in ("type", "role", "call_id") if key in item}
        return found
    key = next(iter(message), "")
    content = message.get(key)
    if not isinstance(content, dict):
        return {}
    content = {_camel(name): value for name, value in content.items()}
    match _camel(key):
        case "setup":
            found["setup.model"] = content.get("model")
            resumption = content.get("sessionResumption")
            handle = resumption.get("handle") if isinstance(resumption, dict) else None
            found["setup.sessionResumption.handle"] = handle or None
        case "toolResponse":
            answers = content.get("functionResponses")
            for index, answer in enumerate(answers if isinstance(answers, list) else []):
                if isinstance(answer, dict):
                    where = f"toolResponse.functionResponses[{index}]"
                    found |= {f"{where}.{name}": answer[name] for name in ("id", "name") if name in answer}
    return found


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)
