"""The smallest protocol that the driver can run: one JSON object per message, and a core that speaks it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from providers.contract import (
    Capabilities,
    Closed,
    ErrorReported,
    SessionEvent,
    SessionReady,
    SpeechChunk,
    TextChunk,
    ToolSpec,
    WarningReported,
)
from providers.errors import NeedsNewSession, ProviderRejected, ProviderUnavailable
from providers.signal.formats import PCM16_16K, PCM16_24K, AudioFormat

__all__ = ["JsonCore"]

_CAPABILITIES = Capabilities(
    provider="json", model="json-1", input_formats=(PCM16_16K,), output_format=PCM16_24K, text_input=True
)


class JsonCore:
    """Says `{"setup": n}`; ready on `{"ready": id}`; `{"audio": base64}` and `{"text": words}` both ways; text ends
    what speech began.

    `{"error": words}` is an error report, `{"refused": words}` the provider's refusal on an open socket,
    `{"in": seconds}` asks for a timeout.
    """

    def __init__(self, number: int = 1) -> None:
        self.number = number
        self.ready = False
        self.session_id = ""
        self.speaking = False
        self.capabilities = _CAPABILITIES
        self.timeouts: list[float] = []
        self.closed_with: tuple[int, str] | None = None
        self.next_deadline: float | None = None
        self._queue: list[bytes] = []

    def _say(self, **message: Any) -> None:
        self._queue.append(msgspec.json.encode(message))

    def start(self, now: float) -> None:
        self._say(setup=self.number)

    def receive(self, message: str | bytes, now: float) -> list[SessionEvent]:
        if message == '"raise"':
            raise ZeroDivisionError
        try:
            value = msgspec.json.decode(message, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return [WarningReported(self.number, "malformed", f"{len(message)} {type(message).__name__}")]
        events: list[SessionEvent] = []
        for key, content in value.items():
            match key:
                case "ready":
                    self.ready, self.session_id = True, content
                    events.append(SessionReady(self.number, content))
                case "audio":
                    self.speaking = True
                    events.append(SpeechChunk(self.number, "r1", base64.b64decode(content)))
                case "text":
                    self.speaking = False
                    events.append(TextChunk(self.number, "r1", content))
                case "error":
                    events.append(ErrorReported(self.number, "bad", content))
                case "refused":
                    events.append(Closed(self.number, 1008, content, ProviderRejected(content)))
                case "in":
                    self.next_deadline = now + content
        return events

    def connection_closed(self, code: int, reason: str, now: float) -> list[SessionEvent]:
        self.closed_with = (code, reason)
        if code == 1008:
            return [Closed(self.number, code, reason, ProviderRejected(reason, code=code))]
        return [Closed(self.number, code, reason, ProviderUnavailable(f"{code} {reason}", code=code))]

    def deadline(self) -> float | None:
        return self.next_deadline

    def handle_timeout(self, now: float) -> list[SessionEvent]:
        self.timeouts.append(now)
        self.next_deadline = None
        self._say(timeout=True)
        return [TextChunk(self.number, "r1", "timeout")]

    def outgoing(self) -> list[bytes]:
        queue, self._queue = self._queue, []
        return queue

    def encode_audio(self, audio: bytes, format: AudioFormat) -> bytes:
        return b'{"audio":"' + base64.b64encode(audio) + b'"}'

    def end_input(self) -> None:
        self._say(end_input=True)

    def commit_input(self) -> None:
        self._say(commit_input=True)

    def clear_input(self) -> None:
        self._say(clear_input=True)

    def start_activity(self) -> None:
        self._say(start_activity=True)

    def end_activity(self) -> None:
        self._say(end_activity=True)

    def send_image(self, image: bytes, mime_type: str) -> None:
        self._say(image=len(image), mime_type=mime_type)

    def send_text(self, text: str, *, respond: bool = True) -> None:
        self._say(text=text, respond=respond)

    def respond(self, instructions: str | None = None) -> None:
        self._say(respond=instructions)

    def interrupt(self, now: float) -> None:
        self._say(interrupt=True)

    def truncate(self, reply_id: str, heard_ms: int) -> None:
        self._say(truncate=reply_id, heard_ms=heard_ms)

    def send_tool_result(
        self, call_id: str, name: str, result: dict[str, Any] | str, *, error: bool = False, respond: bool = True
    ) -> None:
        self._say(tool=call_id, name=name, result=result, error=error, respond=respond)

    def update(
        self,
        *,
        instructions: str | None = None,
        tools: Sequence[ToolSpec] | None = None,
        voice: str | None = None,
    ) -> None:
        if voice is not None:
            raise NeedsNewSession(["voice"])
        self._say(instructions=instructions)

    def send_raw(self, message: dict[str, Any]) -> None:
        self._say(**message)
