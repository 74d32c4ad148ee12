"""What a conversation decides: a closed union of orders that the lane carries out, in order, without waiting."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from bridge.core.words import Activity, AgentState, Caption, EndReason, ImageCaptured, ParticipantId
from providers.contract import ToolCall

__all__ = [
    "CancelTools",
    "Command",
    "EndCall",
    "FinishSpeech",
    "FlushPlayout",
    "FlushReason",
    "InterruptModel",
    "Respond",
    "RunTool",
    "SendImage",
    "SendText",
    "ShowActivity",
    "ShowCaption",
    "ShowState",
    "TruncateReply",
]


class FlushReason(StrEnum):
    """Who took the floor."""

    PROVIDER = "provider"
    LOCAL_SPEECH = "local_speech"
    APPLICATION = "application"
    TEXT = "text"


class FlushPlayout(msgspec.Struct, frozen=True, gc=False):
    """Silence now: `playout.flush(now, dead)`, then `handle(PlayoutFlushed(...))` before anything else."""

    reason: FlushReason
    dead: tuple[str, ...] = ()
    """Replies that must never sound, even those of which no speech has come yet."""


class FinishSpeech(msgspec.Struct, frozen=True, gc=False):
    """No more speech of this reply will come: `playout.finish(reply_id, now)`."""

    reply_id: str


class TruncateReply(msgspec.Struct, frozen=True, gc=False):
    """Make the model forget what nobody heard: `session.truncate(reply_id, heard_ms)`."""

    reply_id: str
    heard_ms: int
    """0: nothing of it was heard."""


class InterruptModel(msgspec.Struct, frozen=True, gc=False):
    """Stop the reply that is being generated: `session.interrupt()`. Not sent when the provider did it itself."""


class ShowCaption(msgspec.Struct, frozen=True, gc=False):
    """Publish one transcript update, in order."""

    caption: Caption


class ShowState(msgspec.Struct, frozen=True, gc=False):
    """Publish the agent's state. Only sent when it changed."""

    state: AgentState


class ShowActivity(msgspec.Struct, frozen=True, gc=False):
    """Publish a tool's progress or a turn's timeline, in order."""

    activity: Activity


class RunTool(msgspec.Struct, frozen=True):
    """Run this function in the control lane and answer the call."""

    call: ToolCall


class CancelTools(msgspec.Struct, frozen=True, gc=False):
    """Stop these calls; never answer them."""

    call_ids: tuple[str, ...]


class Respond(msgspec.Struct, frozen=True, gc=False):
    """Make the model speak: `session.respond(instructions)`."""

    instructions: str | None = None


class SendText(msgspec.Struct, frozen=True, gc=False):
    """A typed user turn: `session.send_text(text, respond=respond)`."""

    text: str
    participant: ParticipantId | None = None
    respond: bool = True


class SendImage(msgspec.Struct, frozen=True, gc=False):
    """Let the model see this still: `session.send_image(image, mime_type)`. Without a leading session it is dropped."""

    captured: ImageCaptured


class EndCall(msgspec.Struct, frozen=True, gc=False):
    """The call is over."""

    reason: EndReason
    detail: str = ""


Command = (
    FlushPlayout
    | FinishSpeech
    | TruncateReply
    | InterruptModel
    | ShowCaption
    | ShowState
    | ShowActivity
    | RunTool
    | CancelTools
    | Respond
    | SendText
    | SendImage
    | EndCall
)
