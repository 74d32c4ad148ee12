"""One response of the emulated service: the events from `response.created` to `response.done`, in their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np
from pybase64 import b64encode

from providers.emulators.openai_items import Conversation, StoredItem
from providers.scripted.acts import PlannedCall, TurnUsage
from providers.signal import g711
from providers.signal.resample import Int16Array, Resampler

__all__ = ["Response", "SpeechEncoder"]

Send = Callable[..., None]
"""`send(type, label=..., **fields)`."""
Play = Callable[[StoredItem, bytes], None]
"""Takes the speech of an item, int16 mono at 24 kHz."""


class SpeechEncoder:
    """The mind's speech (24 kHz int16) in the session's output format; filter state carries over."""

    def __init__(self, format: str) -> None:
        self._encode = {"audio/pcmu": g711.mulaw_encode, "audio/pcma": g711.alaw_encode}.get(format)
        self._resampler = Resampler(24_000, 8_000) if self._encode else None

    def encode(self, pcm: bytes) -> bytes:
        if self._encode is None or self._resampler is None:
            return pcm
        return self._encode(self._resampler.push(np.frombuffer(pcm, dtype="<i2")))

    def rest(self) -> bytes:
        """What the filter still holds."""
        if self._encode is None or self._resampler is None:
            return b""
        tail: Int16Array = self._resampler.flush()
        return self._encode(tail)


class _Message:
    """The message item that is being generated."""

    def __init__(self, stored: StoredItem, index: int, encoder: SpeechEncoder) -> None:
        self.stored = stored
        self.index = index
        self.encoder = encoder
        self.words = ""

    @property
    def id(self) -> str:
        return self.stored.id


class Response:
    """Writes one response. Args: split_ms ends the first message after so much speech, as preambles do."""

    def __init__(
        self,
        response_id: str,
        reply: int,
        session: dict[str, Any],
        conversation: Conversation,
        send: Send,
        *,
        metadata: dict[str, str] | None = None,
        split_ms: int | None = None,
        play: Play | None = None,
    ) -> None:
        """Args: play takes the speech where it does not travel in events."""
        self.id = response_id
        self.reply = reply
        self.spoke = False
        self._session = session
        self._conversation = conversation
        self._send = send
        self._metadata = metadata
        self._split_ms = split_ms
        self._play = play
        self._written = session["output_modalities"] == ["text"]
        self._output: list[dict[str, Any]] = []
        self._message: _Message | None = None

    # --------------------------------------------------------------------------------------------------------- content

    def begin(self) -> None:
        self._send("response.created", response=self._body("in_progress"))

    def say(self, pcm: bytes, speech_ms: int) -> None:
        """Speech that begins `speech_ms` into the reply."""
        if self._split_ms is not None and speech_ms >= self._split_ms and self._message is not None:
            self._split_ms = None
            self._end_message("completed")
        message = self._open(speech_ms)
        message.stored.speech_ms += len(pcm) // 48
        self._send_speech(message, message.encoder.encode(pcm))

    def words(self, delta: str) -> None:
        """A piece of the transcript, or of a written answer."""
        message = self._open(0)
        message.words += delta
        kind = "response.output_text.delta" if self._written else "response.output_audio_transcript.delta"
        self._send(kind, **self._where(message), delta=delta)

    def call(self, planned: PlannedCall) -> None:
        """A complete function call."""
        arguments = msgspec.json.encode(planned.arguments).decode()
        body = {
            "id": self._conversation.mint(),
            "object": "realtime.item",
            "type": "function_call",
            "status": "in_progress",
            "name": planned.name,
            "call_id": planned.call_id,
            "arguments": "",
        }
        index = self._announce(StoredItem(body=body, reply=self.reply))
        where = {"response_id": self.id, "item_id": body["id"], "output_index": index, "call_id": planned.call_id}
        half = len(arguments) // 2
        for piece in (arguments[:half], arguments[half:]):
            if piece:
                self._send("response.function_call_arguments.delta", **where, delta=piece)
        self._send("response.function_call_arguments.done", **where, name=planned.name, arguments=arguments)
        body |= {"arguments": arguments, "status": "completed"}
        self._finish(body, index)

    # ------------------------------------------------------------------------------------------------------------- end

    def end(
        self,
        status: Literal["completed", "cancelled"],
        usage: TurnUsage,
        reason: Literal["turn_detected", "client_cancelled"] | None = None,
    ) -> None:
        self._end_message("completed" if status == "completed" else "incomplete")
        body = self._body(status)
        details: dict[str, Any] | None = None
        if reason is not None:
            details = {"type": "cancelled", "reason": reason}
        body |= {"status_details": details, "usage": _usage(usage)}
        self._send("response.done", label=f"response.done:{reason or status}", response=body)

    # ---------------------------------------------------------------------------------------------------------- inside

    def _body(self, status: str) -> dict[str, Any]:
        output = self._session["audio"]["output"]
        return {
            "id": self.id,
            "object": "realtime.response",
            "status": status,
            "status_details": None,
            "output": list(self._output),
            "conversation_id": self._conversation.id,
            "output_modalities": self._session["output_modalities"],
            "max_output_tokens": self._session["max_output_tokens"],
            "audio": {"output": {"format": output["format"], "voice": output["voice"]}},
            "metadata": self._metadata,
            "usage": None,
        }

    def _open(self, speech_ms: int) -> _Message:
        if self._message is not None:
            return self._message
        body: dict[str, Any] = {
            "id": self._conversation.mint(),
            "object": "realtime.item",
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        stored = StoredItem(body=body, reply=self.reply, reply_from_ms=speech_ms)
        index = self._announce(stored)
        format = "audio/pcm" if self._play is not None else self._session["audio"]["output"]["format"]["type"]
        self._message = _Message(stored, index, SpeechEncoder(format))
        part = {"type": "text", "text": ""} if self._written else {"type": "audio", "transcript": ""}
        self._send("response.content_part.added", **self._where(self._message), part=part)
        return self._message

    def _announce(self, stored: StoredItem) -> int:
        index = len(self._output)
        self._output.append(stored.body)
        shown = _shown(stored.body)
        self._send("response.output_item.added", response_id=self.id, output_index=index, item=shown)
        before = self._conversation.add(stored)
        self._send("conversation.item.added", previous_item_id=before, item=shown)
        return index

    def _finish(self, body: dict[str, Any], index: int) -> None:
        shown = _shown(body)
        self._send("response.output_item.done", response_id=self.id, output_index=index, item=shown)
        self._send("conversation.item.done", item=shown)

    def _end_message(self, status: str) -> None:
        message, self._message = self._message, None
        if message is None:
            return
        where = self._where(message)
        if self._written:
            self._send("response.output_text.done", **where, text=message.words)
            self._send("response.content_part.done", **where, part={"type": "text", "text": message.words})
            content: dict[str, Any] = {"type": "output_text", "text": message.words}
        else:
            if status == "completed":
                self._send_speech(message, message.encoder.rest())
            self._send("response.output_audio.done", **where)
            self._send("response.output_audio_transcript.done", **where, transcript=message.words)
            part = {"type": "audio", "transcript": message.words}
            self._send("response.content_part.done", **where, part=part)
            content = {"type": "output_audio", "transcript": message.words}
            if message.stored.heard_ms is not None:
                del content["transcript"]  # it was truncated while it was generated
        message.stored.body |= {"status": status, "content": [content]}
        self._finish(message.stored.body, message.index)

    def _send_speech(self, message: _Message, audio: bytes) -> None:
        if audio and self._play is not None:
            self.spoke = True
            self._play(message.stored, audio)
        elif audio:
            self.spoke = True
            delta = b64encode(audio).decode()
            self._send("response.output_audio.delta", label="speech", **self._where(message), delta=delta)

    def _where(self, message: _Message) -> dict[str, Any]:
        return {"response_id": self.id, "item_id": message.id, "output_index": message.index, "content_index": 0}


def _shown(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "content": [dict(part) for part in body["content"]]} if "content" in body else dict(body)


def _usage(usage: TurnUsage) -> dict[str, Any]:
    return {
        "total_tokens": usage.total_tokens,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "input_token_details": {
            "text_tokens": usage.input_tokens - usage.input_audio_tokens,
            "audio_tokens": usage.input_audio_tokens,
            "image_tokens": 0,
            "cached_tokens": usage.cached_tokens,
            "cached_tokens_details": {"text_tokens": 0, "audio_tokens": usage.cached_tokens, "image_tokens": 0},
        },
        "output_token_details": {
            "text_tokens": usage.output_tokens - usage.output_audio_tokens,
            "audio_tokens": usage.output_audio_tokens,
        },
    }
