"""OpenAI Realtime as bytes to events and back. No socket, no task, no clock: see `providers.driver.ProtocolCore`.

Interruption: with `interrupt_response` the server cuts its reply when speech starts, so `Interrupted` is reported at
`speech_started`, before the server's own word (`response.done`, cancelled). Without it nothing is cut, here or there,
until somebody calls `interrupt()`.

Mute: OpenAI hears the end of a turn only in further audio. `end_input()` therefore sends the silence that ends a turn,
in one piece; the caller goes on sending silence (`Capabilities.needs_continuous_input`). Without turn detection it
commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from pybase64 import b64encode

from providers.contract import (
    Capabilities,
    Closed,
    ErrorReported,
    GoAway,
    HistoryItem,
    SessionEvent,
    SessionReady,
    ToolSpec,
    UserSpeechStarted,
    UserSpeechStopped,
)
from providers.errors import NeedsNewSession, ProviderError, SettingRefused
from providers.openai import messages, wire
from providers.openai.failures import (
    closing_error,
    code_of,
    is_harmless,
    is_of_setup,
    session_ending_error,
    setup_error,
)
from providers.openai.input import MIN_COMMIT_MS, UserInput
from providers.openai.notices import Notices
from providers.openai.output import ResponseReader, other_rate_hz, rate_limits
from providers.openai.replies import Cut
from providers.openai.requests import ResponseRequests
from providers.openai.settings import OpenAISettings
from providers.openai.setup import function_tools, session_body, setting_of, tool_problems, voice_body
from providers.openai.tools import output_text
from providers.seeding import seed
from providers.settings import SpeechSettings
from providers.signal.formats import AudioFormat

__all__ = ["OpenAIProtocol"]

_SETUP_ID = "rb_setup"
_UNACKNOWLEDGED_S = 1.0
"""How long a compatible server may take to acknowledge the setup before the session counts as ready all the same."""
_IMAGE_TYPES = ("image/jpeg", "image/png")


class OpenAIProtocol:
    """One session's protocol.

    Args: `number` is carried by every event; `speech` and `own` have passed `setup.problems`; `history` seeds the
    conversation; `acknowledged` is False for servers that may never send `session.updated`.
    """

    def __init__(
        self,
        number: int,
        speech: SpeechSettings,
        own: OpenAISettings,
        capabilities: Capabilities,
        *,
        history: Sequence[HistoryItem] = (),
        acknowledged: bool = True,
    ) -> None:
        self._number = number
        self._speech = speech
        self._own = own
        self._capabilities = capabilities
        self._seed = seed(history, capabilities)
        self._acknowledged = acknowledged
        self._input_format = own.input_audio_format()
        self._output_format = own.output_audio_format()
        self._reader = ResponseReader(number, self._output_format, transcribe=speech.transcription.output)
        self._requests = ResponseRequests()
        self._outgoing: list[bytes] = []
        self._notices = Notices(number)
        self._session_id = ""
        self._ready = False
        self._ended = False
        self._events_sent = 0
        self._now = 0.0
        self._ready_at: float | None = None
        self._go_away_at: float | None = None
        self._ends_at = 0.0
        self._input = UserInput(number, self._input_format, speech.turn_detection)
        self._outside_default = False
        self._served = False

    # ----------------------------------------------------------------------------------------------------------- state

    @property
    def ready(self) -> bool:
        return self._ready

    @property
    def session_id(self) -> str:
        return self._session_id

    @property
    def speaking(self) -> bool:
        return self._reader.speaking is not None

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def start(self, now: float) -> None:
        """Sends the whole setup and the history at once: a round trip less than waiting for `session.created`."""
        self._now = now
        self._ends_at = now + self._own.max_session_s
        self._go_away_at = self._ends_at - min(60.0, self._own.max_session_s / 10)
        self._outgoing.append(messages.session_update(session_body(self._speech, self._own), _SETUP_ID))
        for line in self._seed.items:
            item = messages.user_text(line.text) if line.role == "user" else messages.assistant_text(line.text)
            self._outgoing.append(messages.item_create(item, self._event_id()))

    def outgoing(self) -> list[bytes]:
        taken, self._outgoing = self._outgoing, []
        return taken

    # ------------------------------------------------------------------------------------------------------------ time

    def deadline(self) -> float | None:
        due = [at for at in (self._ready_at, self._go_away_at, self._requests.deadline()) if at is not None]
        if self._notices.waiting:
            due.append(self._now)
        return min(due, default=None)

    def handle_timeout(self, now: float) -> list[SessionEvent]:
        self._now = now
        events = self._notices.take()
        if self._ready_at is not None and now >= self._ready_at:
            events += self._become_ready()
        if self._go_away_at is not None and now >= self._go_away_at:
            self._go_away_at = None
            events.append(GoAway(self._number, max(0.0, self._ends_at - now)))
        vain = self._requests.expire(now)
        if vain == "request":
            events.append(self._notices.now("response_not_created", "a request for a response was not answered"))
        elif vain == "response":
            events.append(self._notices.now("response_not_done", "the end of a response was not told; asking again"))
        self._request_due()
        return events

    # --------------------------------------------------------------------------------------------------------- receive

    def receive(self, message: str | bytes, now: float) -> list[SessionEvent]:
        self._now = now
        event = wire.decode(message)
        if isinstance(event, wire.OutputAudioDelta):
            events = self._reader.audio(event, now)
        elif self._ended:
            return []
        else:
            events = self._read(event, now)
        return [*self._notices.take(), *events] if self._notices.waiting else events

    def _read(self, event: wire.ServerEvent, now: float) -> list[SessionEvent]:
        reader = self._reader
        match event:
            case wire.OutputTranscriptDelta():
                return reader.transcript(event)
            case wire.OutputTextDelta():
                return reader.text(event)
            case wire.ResponseCreated():
                return self._response_created(event.response)
            case wire.ResponseDone():
                return self._response_done(event.response)
            case wire.OutputItemAdded():
                reader.item_added(event)
            case wire.OutputItemDone():
                events = reader.item_done(event)
                self._answer_unreadable_calls()
                return events
            case wire.OutputAudioDone():
                reader.audio_done(event)
            case wire.OutputTranscriptDone():
                return reader.transcript_done(event)
            case wire.OutputTextDone():
                return reader.text_done(event)
            case wire.FunctionArgumentsDone():
                events = reader.arguments_done(event)
                self._answer_unreadable_calls()
                return events
            case wire.SpeechStarted():
                self._requests.user_started(now)
                started = UserSpeechStarted(self._number, wire.whole_ms(event.audio_start_ms))
                return [started, *(reader.interrupted_by_user(now) if self._input.interrupts else ())]
            case wire.SpeechStopped():
                self._requests.user_stopped(now, answered=self._speech.turn_detection.create_response)
                self._request_due()
                return [UserSpeechStopped(self._number, wire.whole_ms(event.audio_end_ms))]
            case wire.BufferCommitted() | wire.BufferCleared():
                self._input.uncommitted_bytes = 0
            case wire.ItemAdded() | wire.ItemDone():
                if event.item.type == "function_call_output":
                    self._requests.result_known(event.item.call_id)
                self._order(reader.replies.exists_now(event.item.id))
            case (
                wire.InputTranscriptDelta()
                | wire.InputTranscriptSegment()
                | wire.InputTranscriptUpdated()
                | wire.InputTranscriptCompleted()
                | wire.InputTranscriptFailed()
            ):
                return list(self._input.words(event))
            case wire.SessionCreated():
                return self._session_told(event.session, created=True)
            case wire.SessionUpdated():
                return self._session_told(event.session, created=False)
            case wire.RateLimitsUpdated():
                return [rate_limits(self._number, event)]
            case wire.ErrorEvent():
                return self._error(event.error)
            case wire.DtmfReceived():
                return [self._notices.now("dtmf_ignored", "a phone key was pressed; this transport has no use for it")]
            case wire.McpCallFailed() | wire.McpListToolsFailed():
                return [self._notices.now("mcp_failed", "a tool run by OpenAI failed")]
            case wire.Unknown():
                return self._notices.once(
                    f"unknown_event:{event.type[:80]}", f"an event of unknown type {event.type[:80]!r}"
                )
            case wire.Malformed():
                return [
                    self._notices.now("malformed_message", f"{event.type[:80] or 'a message'}: {event.reason[:200]}")
                ]
            case _:
                pass  # known, and says nothing that a session event has a word for
        return []

    def connection_closed(self, code: int, reason: str, now: float) -> list[SessionEvent]:
        self._now = now
        if self._ended:
            return []
        return [*self._notices.take(), self._end(code, reason, closing_error(code, reason, served=self._served))]

    # ----------------------------------------------------------------------------------------------------------- setup

    def _session_told(self, session: wire.Session, *, created: bool) -> list[SessionEvent]:
        self._session_id = session.id or self._session_id
        if self._input.told(session, created=created):
            interrupts = self._input.interrupts
            self._capabilities = msgspec.structs.replace(self._capabilities, interrupts_on_speech=interrupts)
        if created:
            if not self._acknowledged and not self._ready:
                self._ready_at = self._now + _UNACKNOWLEDGED_S
            return []
        rate_hz = other_rate_hz(session, self._output_format)
        said = f"speech comes at {rate_hz} Hz: set providers.openai.output_rate_hz to it"
        events = [] if rate_hz is None else self._notices.once("output_rate", said)
        return events if self._ready else [*events, *self._become_ready()]

    def _become_ready(self) -> list[SessionEvent]:
        self._ready_at = None
        self._ready = True
        self._request_due()
        ready: list[SessionEvent] = [SessionReady(self._number, self._session_id)]
        return [*ready, self._notices.now("history_cut", self._seed.cut)] if self._seed.cut else ready

    # ------------------------------------------------------------------------------------------------------- responses

    def _response_created(self, response: wire.Response) -> list[SessionEvent]:
        # Only responses that were asked for so stand outside the conversation; some servers always write null.
        default = not (self._outside_default and response.conversation_id is None)
        self._served = True
        events = self._reader.created(response, default=default)
        if default and self._requests.created():
            self.interrupt(self._now)
        return events

    def _response_done(self, response: wire.Response) -> list[SessionEvent]:
        reply = self._reader.reply(response.id)
        if reply.default and not reply.announced:
            self._requests.created(begun=False)  # cut before it began: its `response.created` will not come
        events = self._reader.done(response, reply)
        self._answer_unreadable_calls()
        if reply.default:
            self._requests.ended()
        answered = self._reader.tools.response_ended(reply.id)
        details = response.status_details
        if details is not None and details.error is not None:
            ending = session_ending_error(details.error)
            if ending is not None:
                return [*events, self._end(1008, details.error.message, ending)]
        if answered is not None:
            self._ask(None, answered)
        self._request_due()
        return events

    def _request_due(self) -> None:
        if self._ready and self._requests.due(self._now, active=self._reader.replies.active() is not None):
            event_id = self._event_id()
            instructions = self._requests.send(event_id, self._now)
            self._outgoing.append(messages.response_create(instructions, event_id))

    def _ask(self, instructions: str | None, call_id: str = "") -> None:
        if not self._requests.ask(instructions, call_id):
            self._notices.later("response_not_asked", "too many requests for a response are waiting")
        self._request_due()

    def _answer_unreadable_calls(self) -> None:
        calls, self._reader.unreadable_calls = self._reader.unreadable_calls, []
        for call_id in calls:
            self.send_tool_result(call_id, "", "the arguments were not a JSON object", error=True)

    def _order(self, cuts: list[Cut]) -> None:
        for cut in cuts:
            event_id = self._event_id()
            if cut.audio_end_ms is None:
                self._outgoing.append(messages.item_delete(cut.item_id, event_id))
            else:
                self._outgoing.append(
                    messages.item_truncate(cut.item_id, cut.content_index, cut.audio_end_ms, event_id)
                )

    # ---------------------------------------------------------------------------------------------------------- errors

    def _error(self, error: wire.ErrorBody) -> list[SessionEvent]:
        code, call_id = code_of(error), self._reader.tools.refused(error.event_id)
        reported = ErrorReported(self._number, code, error.message, error.param or "", call_id)
        ending = session_ending_error(error)
        if ending is None and not self._ready and is_of_setup(error, _SETUP_ID):
            ending = setup_error(error, setting_of(error.param or ""))
        if ending is not None:
            closing = 1001 if code == "session_expired" else 1008
            return [reported, self._end(closing, error.message or code, ending)]
        if error.code == "conversation_already_has_active_response":
            again = self._requests.refused(error.event_id, self._now)
            self._request_due()
            return [
                self._notices.now(code, f"a response was active: {'asked again after it' if again else 'given up'}")
            ]
        self._requests.failed(error.event_id)
        self._request_due()
        return [self._notices.now(code, error.message) if is_harmless(error) else reported]

    def _end(self, code: int, reason: str, error: ProviderError) -> Closed:
        self._ended = True
        self._ready_at = self._go_away_at = None
        return Closed(self._number, code, reason, error)

    def _event_id(self) -> str:
        self._events_sent += 1
        return f"rb_{self._events_sent}"

    # ------------------------------------------------------------------------------------------------- commands: input

    def encode_audio(self, audio: bytes, format: AudioFormat) -> bytes:
        """Raises SettingRefused when `format` is not the session's input format."""
        if format is not self._input_format and format != self._input_format:
            raise SettingRefused("format", format, f"this session takes {self._input_format}")
        self._input.uncommitted_bytes += len(audio)
        return messages.APPEND_HEAD + b64encode(audio) + messages.APPEND_TAIL

    def end_input(self) -> None:
        """See the module: silence that ends a turn, or a commit when nobody listens for one."""
        if not self._input.detects:
            self.commit_input()
            return
        if not self._input.uncommitted_bytes:
            return
        self._outgoing.append(messages.append_audio(self._input.silence()))
        self._input.uncommitted_bytes = 0

    def commit_input(self) -> None:
        """Commits, and asks for the answer (a commit makes none) unless `create_response` is false."""
        if not self._input.can_commit():
            said = f"less than {MIN_COMMIT_MS:g} ms of audio since the last turn: nothing to commit"
            self._notices.later("input_audio_buffer_commit_empty", said)
            return
        self._commit()

    def _commit(self) -> None:
        self._input.uncommitted_bytes = 0
        self._outgoing.append(messages.buffer_commit(self._event_id()))
        if self._speech.turn_detection.create_response:
            self._ask(None)

    def clear_input(self) -> None:
        self._input.uncommitted_bytes = 0
        self._outgoing.append(messages.buffer_clear())

    def start_activity(self) -> None:
        """OpenAI has no such message. With `interrupt_response` the reply is cut, as its own detector would."""
        if not self._input.detects and self._speech.turn_detection.interrupt_response:
            self.interrupt(self._now)

    def end_activity(self) -> None:
        """Without turn detection: commit."""
        if not self._input.detects:
            self.commit_input()

    def send_image(self, image: bytes, mime_type: str) -> None:
        """Raises SettingRefused: the model takes no images, or not of this type."""
        if not self._capabilities.video:
            raise SettingRefused("providers.openai.model", self._own.model, "takes no images: use gpt-realtime-2.1")
        if mime_type not in _IMAGE_TYPES:
            raise SettingRefused("mime_type", mime_type, f"must be {' or '.join(_IMAGE_TYPES)}")
        self._outgoing.append(messages.item_create(messages.user_image(image, mime_type), self._event_id()))

    def send_text(self, text: str, *, respond: bool = True) -> None:
        self._outgoing.append(messages.item_create(messages.user_text(text), self._event_id()))
        if respond:
            self._ask(None)

    # ----------------------------------------------------------------------------------------------- commands: replies

    def respond(self, instructions: str | None = None) -> None:
        """Asks now, or after the response that is active."""
        self._ask(instructions)

    def interrupt(self, now: float) -> None:
        """Cancels the active response, or the one that was just asked for as soon as it exists."""
        self._now = max(self._now, now)
        reply = self._reader.replies.active()
        if reply is None:
            self._requests.take_back()
        elif not reply.cancel_sent:
            reply.cancel_sent = True
            response_id = None if self._reader.named_here(reply.id) else reply.id
            self._outgoing.append(messages.response_cancel(response_id, self._event_id()))

    def truncate(self, reply_id: str, heard_ms: int) -> None:
        if self._speech.modality == "audio":
            self._order(self._reader.replies.cut(reply_id, heard_ms))

    def send_tool_result(
        self, call_id: str, name: str, result: dict[str, Any] | str, *, error: bool = False, respond: bool = True
    ) -> None:
        tools = self._reader.tools
        if tools.is_answered(call_id):
            said = f"{name or 'a tool'} was answered twice; the first answer stands"
            self._notices.later("tool_answered_twice", said)
            return
        item, event_id = messages.function_output(call_id, output_text(result, error=error)), self._event_id()
        self._outgoing.append(messages.item_create(item, event_id))
        if tools.answered(call_id, event_id, respond=respond):
            self._ask(None, call_id)

    # ----------------------------------------------------------------------------------------------- commands: session

    def update(
        self,
        *,
        instructions: str | None = None,
        tools: Sequence[ToolSpec] | None = None,
        voice: str | None = None,
    ) -> None:
        """In place. Raises NeedsNewSession for a voice after the first speech, SettingRefused for a bad tool."""
        if voice is not None and self._reader.spoke:
            raise NeedsNewSession(["voice"])
        changes: dict[str, Any] = {}
        if instructions is not None:
            changes["instructions"] = instructions
        if tools is not None:
            for problem in tool_problems(tools):
                raise problem
            changes["tools"] = function_tools(tools)
        if voice is not None:
            changes["audio"] = {"output": {"voice": voice_body(voice)}}
        if changes:
            self._outgoing.append(messages.session_update(changes, self._event_id()))

    def send_raw(self, message: dict[str, Any]) -> None:
        """Raises SettingRefused without a `type`."""
        kind = message.get("type")
        if not isinstance(kind, str) or not kind:
            raise SettingRefused("type", kind, "every client event has one, such as 'response.create'")
        self._outgoing.append(messages.encode(message))
        if kind == "response.create":
            response = message.get("response")
            if isinstance(response, dict) and response.get("conversation") == "none":
                self._outside_default = True
            else:
                self._requests.sent_raw(str(message.get("event_id") or "raw"), self._now)
