"""One server message to its events: every field, every part, in the order that a listener needs."""

from __future__ import annotations

from typing import Any

import msgspec

from providers.contract import (
    ErrorReported,
    GoAway,
    ResumptionUpdate,
    SessionEvent,
    SpeechChunk,
    TextChunk,
    Thought,
    Usage,
    UserSpeechStarted,
    UserSpeechStopped,
    WarningReported,
)
from providers.contract import OutputTranscript as SpokenText
from providers.gemini.replies import ReplyTracker
from providers.gemini.setup import SessionPlan
from providers.gemini.template import SpeechTemplate
from providers.gemini.tools import ToolLedger
from providers.gemini.transcripts import UserTranscript
from providers.gemini.wire import (
    Blob,
    Content,
    Part,
    ServerContent,
    ServerMessage,
    TokenCount,
    UsageMetadata,
    decode_base64,
    duration_s,
)

__all__ = ["IN_PROGRESS_SILENCE_S", "Decoder"]

# Extended thinking promises more by IN_PROGRESS and does not always keep it.
IN_PROGRESS_SILENCE_S = 30.0

_SPEECH_TYPE = "audio/pcm;rate=24000"
_BARE_SPEECH_TYPES = frozenset({"audio/pcm", "", None})
_STARTS = frozenset({"ACTIVITY_START", "VAD_SIGNAL_TYPE_SOS", "SPEECH"})
_ENDS = frozenset({"ACTIVITY_END", "VAD_SIGNAL_TYPE_EOS", "NON_SPEECH"})
_REMEMBERED_ODDITIES = 64
_OWN_WORDS = frozenset({"NEED_MORE_INPUT"})


class Decoder:
    """What the messages of one session mean, given those before."""

    def __init__(self, plan: SessionPlan) -> None:
        self._session = plan.number
        self.replies = ReplyTracker(plan.number)
        self.user = UserTranscript(plan.number)
        self.tools = ToolLedger(plan.number, plan.rules, plan.backend, plan.tools, plan.own.tool_scheduling)
        self.silence_at: float | None = None
        """When a promised continuation counts as broken."""
        self._waiting_for_input = False
        self._in_progress = False
        self._vad_source = ""
        self._speaking = False
        self._warned: set[str] = set()
        self._template = SpeechTemplate()

    def more_speech(self, message: bytes) -> SpeechChunk | None:
        """The hot path: a further piece of the reply under way, in a message that holds nothing else. None: decode
        it."""
        replies = self.replies
        if not replies.generating or replies.current is None:
            return None
        audio = self._template.speech(message)
        if audio is None:
            return None
        replies.speaking = True
        return SpeechChunk(self._session, replies.current, audio)

    def decode(
        self, message: ServerMessage, raw: str | bytes, now: float, events: list[SessionEvent]
    ) -> list[dict[str, Any]]:
        """Append the events of one message; returns answers that it sets free."""
        content = message.server_content
        if content is not None:
            self._content(content, now, events)
        answers: list[dict[str, Any]] = []
        if message.voice_activity is not None:
            activity = message.voice_activity
            offset = duration_s(activity.audio_offset)
            self._activity("activity", activity.type or activity.voice_activity_type, offset, events)
        if message.voice_activity_detection_signal is not None:
            self._activity("signal", message.voice_activity_detection_signal.vad_signal_type, None, events)
        if message.tool_call is not None:
            self.replies.new_generation()
            self.replies.speaking = False  # it may wait for the answer
            self.user.answered(now, events)
            self.silence_at = None
            events.extend(self.tools.called(message.tool_call.function_calls or (), self.replies.current))
        if message.tool_call_cancellation is not None:
            cancelled, answers = self.tools.cancelled(message.tool_call_cancellation.ids or ())
            events.extend(cancelled)
        if message.usage_metadata is not None:
            events.append(self._usage(message.usage_metadata))
        if message.session_resumption_update is not None:
            self._resumption(message, events)
        if message.go_away is not None:
            # No figure: act at once, the connection will be aborted.
            left = duration_s(message.go_away.time_left)
            events.append(GoAway(session=self._session, time_left_s=max(0.0, left or 0.0)))
        if not events or message.interaction_status or message.error is not None:
            self._unusual(message, raw, events)
        if content is not None and content.model_turn is not None:
            self._learn(message, content.model_turn, raw)
        return answers

    # ------------------------------------------------------------------------------------------------ serverContent

    def _content(self, content: ServerContent, now: float, events: list[SessionEvent]) -> None:
        interrupted = bool(content.interrupted)
        if interrupted:
            # What the user says into an answer is a turn of its own, and its words may share this message.
            self.user.speech_started(events)
        if content.speech_state is not None:
            self._activity("state", content.speech_state, None, events)
        piece = content.input_transcription
        if piece is not None:
            self.user.piece(piece.text or "", bool(piece.finished), now, events)
        if content.interim_input_transcription is not None:
            self.user.interim(content.interim_input_transcription.text or "", now, events)
        if content.output_transcription is not None:
            self._spoken_text(content.output_transcription.text, content, now, events)
        if content.model_turn is not None:
            self._model_turn(content.model_turn, interrupted, now, events)
        if content.generation_complete:
            self.replies.generation_complete(events)
        if content.waiting_for_input:
            self._waiting_for_input = True
        if interrupted:
            # Last of all content: speech in the same message is stale, and whoever flushes must flush it too.
            self.replies.interrupted(now, events)
        if content.interaction_status is not None:
            self._in_progress = content.interaction_status == "IN_PROGRESS"
            self.silence_at = None
        if content.turn_complete:
            self._turn_complete(content.turn_complete_reason, interrupted, now, events)

    def _model_turn(self, turn: Content, interrupted: bool, now: float, events: list[SessionEvent]) -> None:
        for part in turn.parts or ():
            if part.inline_data is not None:
                self._speech(part.inline_data, interrupted, now, events)
            if part.text:
                if part.thought:
                    self.replies.new_generation()
                    reply = self._reply(now, events)
                    self.replies.speaking = False
                    events.append(Thought(session=self._session, reply_id=reply, text=part.text))
                else:
                    if not self.replies.running:
                        self.user.answered(now, events)
                    self.silence_at = None
                    reply = self.replies.for_text(now, events)
                    events.append(TextChunk(session=self._session, reply_id=reply, delta=part.text))

    def _speech(self, blob: Blob, interrupted: bool, now: float, events: list[SessionEvent]) -> None:
        if blob.mime_type != _SPEECH_TYPE and blob.mime_type not in _BARE_SPEECH_TYPES:
            self._warn_once("unexpected_media", f"media of type {(blob.mime_type or '')[:80]!r} came", events)
            if not (blob.mime_type or "").startswith("audio/pcm"):
                return
        try:
            audio = decode_base64(blob.data)
        except ValueError:
            events.append(self._warning("malformed_message", "speech that is no base64"))
            return
        if len(audio) % 2:
            events.append(self._warning("malformed_message", "speech with half a sample"))
            audio = audio[:-1]
        if not audio:
            return
        replies = self.replies
        if interrupted:
            reply = replies.for_stale_speech(events)
        elif replies.generating and replies.current is not None:
            reply = replies.current  # the hot path: one call less
        else:
            reply = self._reply(now, events)
        replies.speaking = True
        events.append(SpeechChunk(self._session, reply, audio))

    def _learn(self, message: ServerMessage, turn: Content, raw: str | bytes) -> None:
        speech = turn.parts[0].inline_data if turn.parts else None
        if speech is not None and speech.mime_type == _SPEECH_TYPE:
            plain = ServerContent(model_turn=Content(parts=[Part(inline_data=speech)]))
            if message == ServerMessage(server_content=plain):
                self._template.learn(raw, speech.data)

    def _reply(self, now: float, events: list[SessionEvent]) -> str:
        replies = self.replies
        if replies.dead is None:
            # The user's words come before the answer to them.
            self.user.answered(now, events)
        self.silence_at = None
        return replies.for_speech(now, events)

    def _spoken_text(self, text: str | None, content: ServerContent, now: float, events: list[SessionEvent]) -> None:
        if not text:
            return
        if not self.replies.running:
            self.user.answered(now, events)
        reply = self.replies.for_transcript(now, events)
        if reply is None:
            return  # words of a dead reply: nobody will hear them
        finished = bool(content.output_transcription and content.output_transcription.finished)
        events.append(SpokenText(session=self._session, reply_id=reply, delta=text, final=finished))
        if finished:
            self.replies.transcript_finished()

    def _turn_complete(self, why: str | None, interrupted: bool, now: float, events: list[SessionEvent]) -> None:
        cut = interrupted or self.replies.dead is not None
        if not cut:
            self.user.turn_ended(events)
        self.replies.turn_complete(self._reason(why), events)
        self._waiting_for_input = False
        if self._in_progress:
            self.silence_at = now + IN_PROGRESS_SILENCE_S

    def _reason(self, why: str | None) -> str:
        if why and not why.endswith("_UNSPECIFIED"):
            return why.lower() if why in _OWN_WORDS else f"failed:{why.lower()}"
        if self._waiting_for_input:
            return "waiting_for_input"
        return "in_progress" if self._in_progress else "completed"

    # ----------------------------------------------------------------------------------------------- other messages

    def _activity(self, source: str, kind: str | None, offset_s: float | None, events: list[SessionEvent]) -> None:
        """Three messages may tell the same edge; the first kind seen is believed for the rest of the session."""
        self._vad_source = self._vad_source or source
        if source != self._vad_source or kind is None:
            return
        at_ms = None if offset_s is None else round(offset_s * 1000)
        if kind in _STARTS and not (source == "state" and self._speaking):
            self._speaking = True
            self.user.speech_started(events)
            events.append(UserSpeechStarted(session=self._session, at_ms=at_ms))
        elif kind in _ENDS and not (source == "state" and not self._speaking):
            self._speaking = False
            # The user has spoken to the end, so the next content answers that.
            self.replies.new_generation()
            events.append(UserSpeechStopped(session=self._session, at_ms=at_ms))

    def _usage(self, usage: UsageMetadata) -> Usage:
        answered = usage.response_token_count
        details = usage.response_tokens_details
        return Usage(
            session=self._session,
            input_tokens=_number(usage.prompt_token_count) + _number(usage.tool_use_prompt_token_count),
            output_tokens=_number(usage.candidates_token_count if answered is None else answered),
            total_tokens=_number(usage.total_token_count),
            cached_tokens=_number(usage.cached_content_token_count),
            thought_tokens=_number(usage.thoughts_token_count),
            input_audio_tokens=_audio_tokens(usage.prompt_tokens_details),
            output_audio_tokens=_audio_tokens(usage.candidates_tokens_details if details is None else details),
        )

    def _resumption(self, message: ServerMessage, events: list[SessionEvent]) -> None:
        update = message.session_resumption_update
        assert update is not None
        resumable = bool(update.resumable and update.new_handle)
        index = update.last_consumed_client_message_index
        events.append(
            ResumptionUpdate(
                session=self._session,
                handle=update.new_handle or "" if resumable else "",
                resumable=resumable,
                last_consumed_index=None if index is None else _number(index),
                mid_turn=self.replies.running or self.tools.waiting,
            )
        )

    def _unusual(self, message: ServerMessage, raw: str | bytes, events: list[SessionEvent]) -> None:
        if message.interaction_status is not None:
            self._in_progress = message.interaction_status == "IN_PROGRESS"
        if message.error is not None or message.code is not None:
            detail = message.error if isinstance(message.error, dict) else {}
            code = detail.get("status") or detail.get("code") or message.code or "error"
            text = detail.get("message") or (message.error if isinstance(message.error, str) else "no message")
            events.append(ErrorReported(session=self._session, code=str(code), message=str(text)))
        elif not events and message == _EMPTY:
            keys = _keys(raw)
            if keys:
                self._warn_once("unknown_message", f"a message of an unknown kind came: {', '.join(keys)}", events)

    def check_silence(self, now: float, events: list[SessionEvent]) -> None:
        """Report that what IN_PROGRESS promised did not come."""
        if self.silence_at is not None and now >= self.silence_at:
            self.silence_at = None
            events.append(self._warning("in_progress_silent", "the model promised to go on and fell silent"))

    def ended(self, events: list[SessionEvent]) -> None:
        """The connection is gone: close what was open."""
        self.silence_at = None
        self.user.turn_ended(events)

    def _warning(self, code: str, text: str) -> WarningReported:
        return WarningReported(session=self._session, code=code, message=text)

    def _warn_once(self, code: str, text: str, events: list[SessionEvent]) -> None:
        if text not in self._warned and len(self._warned) < _REMEMBERED_ODDITIES:
            self._warned.add(text)
            events.append(self._warning(code, text))


_EMPTY = ServerMessage()


def _keys(raw: str | bytes) -> list[str]:
    try:
        decoded = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except UnicodeDecodeError:
        return ["a name that is not UTF-8"]  # what is read past, as unknown names are, was never looked at so closely
    return [key[:80] for key in sorted(decoded)[:8]]


def _number(value: int | str | None) -> int:
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 0
    return value or 0


def _audio_tokens(details: list[TokenCount] | None) -> int:
    return sum(_number(count.token_count) for count in details or () if count.modality == "AUDIO")
