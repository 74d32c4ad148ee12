"""What the two sides of a direct call tell each other over the data channel: JSON objects, one a message. No I/O.

`VERSION` goes up when a client that knows the old messages could misread the new; further keys may come at any time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from bridge.core.words import AgentState, Caption, ParticipantId

__all__ = [
    "AGENT_SPEAKER",
    "LONGEST_MESSAGE",
    "VERSION",
    "BadMessage",
    "ClientMessage",
    "HangUp",
    "Interrupt",
    "Mute",
    "Text",
    "Video",
    "caption_message",
    "decode",
    "ended_message",
    "error_message",
    "hello_message",
    "state_message",
]

VERSION = 1
AGENT_SPEAKER = "agent"
"""Who speaks in the model's own captions: no caller goes by this name."""
LONGEST_MESSAGE = 65_536
"""Bytes of a client's message that is looked at at all."""


class Text(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """A typed turn."""

    text: str


class Interrupt(msgspec.Struct, frozen=True, tag_field="type", tag="interrupt"):
    """Silence, please."""


class Mute(msgspec.Struct, frozen=True, tag_field="type", tag="mute"):
    """The microphone is off, or on again."""

    muted: bool


class HangUp(msgspec.Struct, frozen=True, tag_field="type", tag="hang_up"):
    """The caller is done."""


class Video(msgspec.Struct, frozen=True, tag_field="type", tag="video"):
    """What the caller's video track shows from now on; null: nothing. A client that never says so shows a camera."""

    source: Literal["camera", "screen"] | None


ClientMessage = Text | Interrupt | Mute | HangUp | Video
_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)


class BadMessage(Exception):
    """What the client sent is no message. Says why in a word and a sentence, and quotes nothing of it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def decode(message: str | bytes) -> ClientMessage:
    """The client's message. Raises: `BadMessage`."""
    if isinstance(message, bytes):
        raise BadMessage("binary", "messages are JSON texts, not bytes")
    if len(message) > LONGEST_MESSAGE:
        raise BadMessage("too_long", f"a message has {LONGEST_MESSAGE} characters at most")
    try:
        return _decoder.decode(message)
    except (msgspec.DecodeError, ValueError, RecursionError):  # ValueError: a lone surrogate
        known = ", ".join(kind.__struct_config__.tag for kind in (Text, Interrupt, Mute, HangUp, Video))  # type: ignore[misc]
        raise BadMessage("invalid", f"not a JSON object with a type of: {known}") from None


def hello_message(*, call: str, provider: str, model: str, identity: str, video: bool) -> str:
    """The first message of a call."""
    return _json(
        {
            "type": "hello",
            "version": VERSION,
            "call": call,
            "provider": provider,
            "model": model,
            "identity": identity,
            "video": video,
        }
    )


def state_message(state: AgentState) -> str:
    """What the agent is doing, in the words of `lk.agent.state`."""
    return _json({"type": "state", "state": state.value})


def caption_message(caption: Caption) -> str:
    """One update of a transcript segment. The agent's pieces follow each other (`append`), the user's replace."""
    speaker: ParticipantId | None = caption.speaker
    return _json(
        {
            "type": "caption",
            "segment": caption.segment_id,
            "speaker": AGENT_SPEAKER if speaker is None else speaker,
            "text": caption.text,
            "append": speaker is None,
            "final": caption.final,
            "interrupted": caption.interrupted,
        }
    )


def error_message(code: str, message: str) -> str:
    """Something went wrong; the call goes on unless `ended` follows."""
    return _json({"type": "error", "code": code, "message": message[:500]})


def ended_message(reason: str) -> str:
    """The last message of a call."""
    return _json({"type": "ended", "reason": reason})


def _json(value: Mapping[str, Any]) -> str:
    # Half a surrogate pair cannot travel as UTF-8; escaped, it can.
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return json.dumps(dict(value))
