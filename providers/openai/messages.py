"""The client events that we send, as bytes of one text frame each."""

from __future__ import annotations

from typing import Any

import msgspec
from pybase64 import b64encode

__all__ = [
    "APPEND_HEAD",
    "APPEND_TAIL",
    "append_audio",
    "assistant_text",
    "buffer_clear",
    "buffer_commit",
    "encode",
    "function_output",
    "item_create",
    "item_delete",
    "item_truncate",
    "output_clear",
    "response_cancel",
    "response_create",
    "session_update",
    "user_image",
    "user_text",
]

encode = msgspec.json.Encoder().encode

APPEND_HEAD = b'{"type":"input_audio_buffer.append","audio":"'
APPEND_TAIL = b'"}'


def append_audio(audio: bytes) -> bytes:
    """The hot path, `OpenAIProtocol.encode_audio`, has this written out."""
    return APPEND_HEAD + b64encode(audio) + APPEND_TAIL


def session_update(session: dict[str, Any], event_id: str) -> bytes:
    return encode({"type": "session.update", "event_id": event_id, "session": {"type": "realtime", **session}})


def buffer_commit(event_id: str) -> bytes:
    return encode({"type": "input_audio_buffer.commit", "event_id": event_id})


def buffer_clear() -> bytes:
    return encode({"type": "input_audio_buffer.clear"})


def item_create(item: dict[str, Any], event_id: str) -> bytes:
    return encode({"type": "conversation.item.create", "event_id": event_id, "item": item})


def item_truncate(item_id: str, content_index: int, audio_end_ms: int, event_id: str) -> bytes:
    assert audio_end_ms > 0, "the server refuses a truncation to nothing: delete the item instead"
    return encode(
        {
            "type": "conversation.item.truncate",
            "event_id": event_id,
            "item_id": item_id,
            "content_index": content_index,
            "audio_end_ms": audio_end_ms,
        }
    )


def item_delete(item_id: str, event_id: str) -> bytes:
    return encode({"type": "conversation.item.delete", "event_id": event_id, "item_id": item_id})


def response_create(instructions: str | None, event_id: str) -> bytes:
    event: dict[str, Any] = {"type": "response.create", "event_id": event_id}
    if instructions is not None:
        event["response"] = {"instructions": instructions}
    return encode(event)


def response_cancel(response_id: str | None, event_id: str) -> bytes:
    """None: whichever is active."""
    event = {"type": "response.cancel", "event_id": event_id}
    return encode(event if response_id is None else {**event, "response_id": response_id})


def output_clear(event_id: str) -> bytes:
    """WebRTC: what the server has not played yet."""
    return encode({"type": "output_audio_buffer.clear", "event_id": event_id})


# -------------------------------------------------------------------------------------------------------------- items


def user_text(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def assistant_text(text: str) -> dict[str, Any]:
    """What the model is told that it said: text only, its audio cannot be put back."""
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def user_image(image: bytes, mime_type: str) -> dict[str, Any]:
    url = f"data:{mime_type};base64,{b64encode(image).decode()}"
    return {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": url}]}


def function_output(call_id: str, output: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}
