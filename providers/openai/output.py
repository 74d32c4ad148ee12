"""What the model says and does: the server's response events, as session events."""

from __future__ import annotations

import binascii
import math

from pybase64 import b64decode

from providers.contract import (
    ErrorReported,
    GenerationComplete,
    Interrupted,
    OutputTranscript,
    RateLimit,
    RateLimits,
    ReplyStarted,
    SessionEvent,
    SpeechChunk,
    TextChunk,
    ToolCall,
    TurnComplete,
    Usage,
    WarningReported,
)
from providers.openai.failures import code_of
from providers.openai.replies import Replies, Reply, ReplyItem
from providers.openai.tools import ToolLedger, parse_arguments
from providers.openai.transcripts import missing_tail
from providers.openai.wire import (
    AudioFormatBody,
    FunctionArgumentsDone,
    Item,
    OutputAudioDelta,
    OutputAudioDone,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    OutputTextDone,
    OutputTranscriptDelta,
    OutputTranscriptDone,
    RateLimitsUpdated,
    Response,
    Session,
    UsageTokens,
)
from providers.signal.formats import AudioFormat, Encoding

__all__ = ["ResponseReader", "other_rate_hz", "rate_limits"]


_NAMELESS = "nameless"


class ResponseReader:
    """Follows the responses of one session. Every method returns the events of one message, in order."""

    def __init__(self, session: int, output_format: AudioFormat, *, transcribe: bool) -> None:
        self.replies = Replies(output_format)
        self.tools = ToolLedger()
        self.spoke = False
        """The model's voice has been heard: it cannot be changed any more."""
        self.speaking: ReplyItem | None = None
        """The message whose speech has begun to come and is not whole."""
        self.unreadable_calls: list[str] = []
        """Ids of calls whose arguments are no JSON object: to be answered with an error."""
        self._session = session
        self._pairs = output_format.encoding is Encoding.PCM16
        self._transcribe = transcribe
        self._nameless = 0

    # -------------------------------------------------------------------------------------------- begin of a response

    def created(self, response: Response, *, default: bool) -> list[SessionEvent]:
        """`response.created`."""
        reply = self.reply(response.id)
        reply.default = default
        if default:
            self.replies.begins(reply)
        return self.announce(reply)

    def item_added(self, event: OutputItemAdded) -> None:
        """`response.output_item.added`: a message, or a function call with its name and call id."""
        self._describe(self.reply(event.response_id), event.item, event.output_index)

    # --------------------------------------------------------------------------------------------------------- content

    def audio(self, event: OutputAudioDelta, now: float) -> list[SessionEvent]:
        """Speech. Hot path. Late speech of a finished or cancelled response keeps that response's id."""
        reply = self.replies.get(event.response_id) or self.reply(event.response_id)
        item = reply.items.get(event.item_id) or self.replies.item(reply, event.item_id, event.output_index)
        try:
            audio: bytes = b64decode(event.delta, validate=True)
        except (binascii.Error, ValueError):
            return [WarningReported(self._session, "malformed_audio", "a piece of speech was not base64")]
        if self._pairs and (item.odd_byte or len(audio) & 1):
            audio = item.odd_byte + audio
            whole = len(audio) & ~1
            item.odd_byte = audio[whole:]
            audio = audio[:whole]
        if not audio:
            return []
        item.content_index = event.content_index
        self.replies.audio_came(reply, item, len(audio), now)
        self.spoke = True
        if not reply.ended:
            self.speaking = item
        chunk = SpeechChunk(self._session, reply.id, audio)
        return [chunk] if reply.announced else [*self.announce(reply), chunk]

    def audio_done(self, event: OutputAudioDone) -> None:
        """All speech of this item has come."""
        item = self._item(event.response_id, event.item_id, event.output_index)[1]
        item.audio_done = True
        self._spoken(item)

    def transcript(self, event: OutputTranscriptDelta) -> list[SessionEvent]:
        return self._said(event.response_id, event.item_id, event.output_index, event.delta)

    def transcript_done(self, event: OutputTranscriptDone) -> list[SessionEvent]:
        """The whole transcript of an item: tells what the deltas left out, which is all of it with some servers."""
        _, item = self._item(event.response_id, event.item_id, event.output_index)
        rest = missing_tail(item.transcript, event.transcript)
        return self._said(event.response_id, event.item_id, event.output_index, rest)

    def text(self, event: OutputTextDelta) -> list[SessionEvent]:
        return self._wrote(event.response_id, event.item_id, event.output_index, event.delta)

    def text_done(self, event: OutputTextDone) -> list[SessionEvent]:
        _, item = self._item(event.response_id, event.item_id, event.output_index)
        rest = missing_tail(item.transcript, event.text)
        return self._wrote(event.response_id, event.item_id, event.output_index, rest)

    # ----------------------------------------------------------------------------------------------------------- tools

    def arguments_done(self, event: FunctionArgumentsDone) -> list[SessionEvent]:
        """`response.function_call_arguments.done`: the call can be run."""
        reply, item = self._item(event.response_id, event.item_id, event.output_index)
        item.is_message = False
        return self._called(reply, event.call_id or item.call_id, event.name or item.name, event.arguments)

    def item_done(self, event: OutputItemDone) -> list[SessionEvent]:
        """`response.output_item.done`: stands in for a missing `arguments.done`."""
        reply = self.reply(event.response_id)
        self._describe(reply, event.item, event.output_index)
        self._spoken(self.replies.item(reply, event.item.id, event.output_index))
        return self._calls_in(reply, [event.item])

    # ---------------------------------------------------------------------------------------------- end of a response

    def done(self, response: Response, reply: Reply) -> list[SessionEvent]:
        """`response.done` of this reply, which may never have been announced."""
        events: list[SessionEvent] = []
        for item in reply.items.values():
            self._spoken(item)
        if response.status != "cancelled":
            events += self._calls_in(reply, response.output)
        if reply.spoken and self._transcribe:
            events.append(OutputTranscript(self._session, reply.id, "", final=True))
        if reply.text:
            events.append(TextChunk(self._session, reply.id, "", final=True))
        if response.usage is not None:
            events.append(self._usage(response.usage))
        for body in response.output:
            if body.status == "incomplete" and body.id in reply.items:
                reply.items[body.id].cut_short = True
        reason = self._reason(response)
        if reason == "interrupted":
            if reply.announced and not reply.interrupted:
                events.append(Interrupted(self._session, reply.id))
            reply.interrupted = True
        else:
            for item in reply.items.values():
                item.audio_done = True
            if response.status == "failed":
                events.append(self._failure(response))
            events.append(GenerationComplete(self._session, reply.id))
        reply.active = False
        reply.ended = True
        reply.announced = True
        events.append(TurnComplete(self._session, reply.id, reason))
        return events

    def interrupted_by_user(self, now: float) -> list[SessionEvent]:
        """The user began to speak and the server cuts: tells the newest reply that may still be heard."""
        reply = self.replies.interrupted(now)
        return [] if reply is None else [Interrupted(self._session, reply.id)]

    # ---------------------------------------------------------------------------------------------------------- inside

    def reply(self, reply_id: str) -> Reply:
        """The reply of this id, made when it is new."""
        if not reply_id:  # a server that leaves the id out: it must mean the response that runs
            running = self.replies.active()
            if running is not None:
                return running
            self._nameless += 1
            reply_id = f"{_NAMELESS}-{self._session}-{self._nameless}"
        return self.replies.open(reply_id)

    def named_here(self, reply_id: str) -> bool:
        """The id is ours, because the server gave none: it means nothing to it."""
        return reply_id.startswith(_NAMELESS)

    def _spoken(self, item: ReplyItem) -> None:
        if self.speaking is item:
            self.speaking = None

    def _item(self, reply_id: str, item_id: str, output_index: int) -> tuple[Reply, ReplyItem]:
        reply = self.reply(reply_id)
        return reply, self.replies.item(reply, item_id, output_index)

    def _describe(self, reply: Reply, body: Item, output_index: int) -> None:
        item = self.replies.item(reply, body.id, output_index)
        item.is_message = body.type in ("message", "")
        item.cut_short = item.cut_short or body.status == "incomplete"
        item.name = body.name or item.name
        item.call_id = body.call_id or item.call_id

    def announce(self, reply: Reply) -> list[SessionEvent]:
        """`ReplyStarted`, once."""
        if reply.announced:
            return []
        reply.announced = True
        return [ReplyStarted(self._session, reply.id)]

    def _said(self, reply_id: str, item_id: str, output_index: int, delta: str) -> list[SessionEvent]:
        if not delta:
            return []
        reply, item = self._item(reply_id, item_id, output_index)
        if reply.ended:
            return []  # late words of a cancelled response: the last ones have been told
        # Two messages of one reply come without a space between them.
        joint = " " if not item.transcript and reply.spoken.strip() and not delta[0].isspace() else ""
        item.transcript += delta
        reply.spoken = delta[-1]
        events = self.announce(reply)
        if self._transcribe:
            events.append(OutputTranscript(self._session, reply.id, joint + delta))
        return events

    def _wrote(self, reply_id: str, item_id: str, output_index: int, delta: str) -> list[SessionEvent]:
        if not delta:
            return []
        reply, item = self._item(reply_id, item_id, output_index)
        if reply.ended:
            return []
        item.transcript += delta
        item.written = reply.text = True
        return [*self.announce(reply), TextChunk(self._session, reply.id, delta)]

    def _calls_in(self, reply: Reply, items: list[Item]) -> list[SessionEvent]:
        events: list[SessionEvent] = []
        for item in items:
            if item.type == "function_call" and item.status in ("completed", "") and item.call_id:
                events += self._called(reply, item.call_id, item.name, item.arguments)
        return events

    def _called(self, reply: Reply, call_id: str, name: str, arguments: str) -> list[SessionEvent]:
        if not self.tools.called(reply.id, call_id):
            return []
        parsed = parse_arguments(arguments)
        if parsed is None:
            self.unreadable_calls.append(call_id)
            said = f"the model called {name} with arguments that are no JSON object"
            return [WarningReported(self._session, "malformed_arguments", said)]
        return [ToolCall(self._session, call_id, name, parsed, reply.id, reply.id)]

    def _reason(self, response: Response) -> str:
        details = response.status_details
        if response.status == "cancelled":
            return "interrupted"
        if response.status == "failed":
            return f"failed:{code_of(details.error) if details and details.error else 'unknown_error'}"
        if response.status == "incomplete":
            return f"incomplete:{(details.reason if details else None) or 'unknown'}"
        return response.status.lower() or "completed"

    def _failure(self, response: Response) -> ErrorReported:
        error = response.status_details.error if response.status_details else None
        if error is None:
            return ErrorReported(self._session, "unknown_error", "the response failed; the server does not say why")
        return ErrorReported(self._session, code_of(error), error.message, error.param or "")

    def _usage(self, usage: UsageTokens) -> Usage:
        taken, made = usage.input_token_details, usage.output_token_details
        return Usage(
            self._session,
            input_tokens=usage.input_tokens or 0,
            output_tokens=usage.output_tokens or 0,
            total_tokens=usage.total_tokens or 0,
            cached_tokens=(taken.cached_tokens or 0) if taken else 0,
            thought_tokens=(made.reasoning_tokens or 0) if made else 0,
            input_audio_tokens=(taken.audio_tokens or 0) if taken else 0,
            output_audio_tokens=(made.audio_tokens or 0) if made else 0,
        )


def rate_limits(session: int, event: RateLimitsUpdated) -> RateLimits:
    """`rate_limits.updated`."""
    limits = (
        RateLimit(limit.name, limit.limit or 0, limit.remaining or 0, _finite(limit.reset_seconds))
        for limit in event.rate_limits
    )
    return RateLimits(session, tuple(limits))


def _finite(seconds: float | None) -> float:
    return seconds if seconds is not None and math.isfinite(seconds) else 0.0


def other_rate_hz(session: Session, wanted: AudioFormat) -> int | None:
    """The rate that the server will speak at, if it ignored the one we asked for: it would sound at the wrong pitch."""
    output = session.audio.output if session.audio is not None else None
    told = output.format if output is not None else None
    if not isinstance(told, AudioFormatBody) or wanted.encoding is not Encoding.PCM16:
        return None
    return told.rate if told.rate not in (None, wanted.rate_hz) else None
