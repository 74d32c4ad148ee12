"""A conversation with the protocol core, written as a transcript: what the server says, what we send."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from providers.contract import SessionEvent
from providers.openai.protocol import OpenAIProtocol
from providers.openai.settings import OpenAISettings
from providers.openai.setup import capabilities_of
from providers.settings import SpeechSettings, TurnDetectionSettings
from tests.fakes.openai_types import check_client_frame

__all__ = ["MANUAL", "NO_INTERRUPT", "Call", "pcm"]

MANUAL = SpeechSettings(turn_detection=TurnDetectionSettings(mode="manual"))
NO_INTERRUPT = SpeechSettings(turn_detection=TurnDetectionSettings(interrupt_response=False))


def pcm(ms: float) -> bytes:
    """Speech of this length at 24 kHz."""
    return b"\x01\x02" * int(24 * ms)


class Call:
    """A protocol core and the server's side of its conversation. Every frame that we send is checked by the SDK."""

    def __init__(
        self,
        speech: SpeechSettings | None = None,
        own: OpenAISettings | None = None,
        *,
        ready: bool = True,
        **options: Any,
    ) -> None:
        speech, own = speech or SpeechSettings(), own or OpenAISettings()
        self.core = OpenAIProtocol(1, speech, own, capabilities_of(speech, own, {}), **options)
        self.now = 100.0
        self.core.start(self.now)
        if ready:
            self.says("session.created", session={"id": "sess_1"})
            self.says("session.updated", session={"id": "sess_1"})
            self.sent()

    def says(self, kind: str, **fields: Any) -> list[SessionEvent]:
        """The server's event, and what it means."""
        return self.core.receive(json.dumps({"type": kind, "event_id": "event_1", **fields}), self.now)

    def sent(self) -> list[dict[str, Any]]:
        """What we sent since the last look, without event ids."""
        frames = [check_client_frame(frame) for frame in self.core.outgoing()]
        return [{key: value for key, value in frame.items() if key != "event_id"} for frame in frames]

    def sent_types(self) -> list[str]:
        return [frame["type"] for frame in self.sent()]

    # ------------------------------------------------------------------------------------------- the server's replies

    def begins(self, reply: str = "resp_1") -> list[SessionEvent]:
        return self.says("response.created", response={"id": reply, "status": "in_progress", "output": []})

    def adds(self, item: str, reply: str = "resp_1", index: int = 0, *, exists: bool = True) -> None:
        body = {"id": item, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        self.says("response.output_item.added", response_id=reply, output_index=index, item=body)
        if exists:
            self.says("conversation.item.added", item=body)

    def speaks(self, ms: float, item: str = "item_1", reply: str = "resp_1", index: int = 0) -> list[SessionEvent]:
        return self.says(
            "response.output_audio.delta",
            response_id=reply,
            item_id=item,
            output_index=index,
            content_index=0,
            delta=b64encode(pcm(ms)).decode(),
        )

    def finishes_item(self, item: str = "item_1", reply: str = "resp_1", index: int = 0) -> None:
        self.says("response.output_audio.done", response_id=reply, item_id=item, output_index=index, content_index=0)

    def calls_tool(
        self, call_id: str, name: str = "f", arguments: str = "{}", reply: str = "resp_1"
    ) -> list[SessionEvent]:
        return self.says(
            "response.function_call_arguments.done",
            response_id=reply,
            item_id=f"item_{call_id}",
            output_index=0,
            call_id=call_id,
            name="f",
            arguments=arguments,
        )

    def ends(self, reply: str = "resp_1", status: str = "completed", **details: Any) -> list[SessionEvent]:
        response: dict[str, Any] = {"id": reply, "status": status, "output": []}
        if details:
            response["status_details"] = {"type": status, **details}
        return self.says("response.done", response=response)

    def refuses(
        self, code: str, event_id: str | None = None, kind: str = "invalid_request_error"
    ) -> list[SessionEvent]:
        return self.says("error", error={"type": kind, "code": code, "message": "no", "event_id": event_id})
