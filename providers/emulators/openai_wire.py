"""One emulated connection in OpenAI's words: client events in, server events out."""

from __future__ import annotations

import binascii
import secrets
from typing import Any

import msgspec
from pybase64 import b64decode

from providers.emulators.openai_items import Conversation, StoredItem
from providers.emulators.openai_response import Play, Response
from providers.emulators.openai_schema import Problem, check
from providers.emulators.openai_session import EffectiveSession
from providers.emulators.wire import UpgradeRequest, VendorWire
from providers.openai.catalog import model_facts
from providers.scripted.acts import (
    Act,
    CallTools,
    CancelCalls,
    Cut,
    FaultDue,
    GenerationDone,
    GoingAway,
    InputWords,
    LimitReached,
    ReplyBegan,
    Resumable,
    Say,
    SpeechStarted,
    SpeechStopped,
    Think,
    TurnDone,
    TurnHeard,
    Words,
    Written,
)
from providers.scripted.brain import Brain, Manners
from providers.scripted.memory import Line
from providers.scripted.scenario import Scenario
from providers.signal import g711
from providers.signal.resample import Resampler

__all__ = ["MAX_DURATION_TEXT", "OpenAIWire"]

MAX_DURATION_TEXT = "Your session hit the maximum duration of 60 minutes."
_QUOTA_TEXT = "You exceeded your current quota, please check your plan and billing details."
_MANNERS = Manners(turn_done="generation", tools_end_turn=True, answers_results=False, cancels_calls=False)
_MIN_COMMIT_MS = 100.0
_TOKEN_LIMIT = 40_000
_BETA_TEXT = "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API."


class OpenAIWire(VendorWire):
    """See `providers.emulators.wire.VendorWire`."""

    def __init__(
        self,
        scenario: Scenario,
        request: UpgradeRequest,
        number: int,
        split_ms: int | None = None,
        *,
        model: str | None = None,
    ) -> None:
        """Args: split_ms, see `openai_response.Response`; model, unless the request's query says which."""
        super().__init__(scenario, request, number)
        model = request.query.get("model", "") if model is None else model
        self._mark = f"{secrets.token_hex(4)}{number:04}"
        """Part of every id: they differ from connection to connection and server to server, as the service's do."""
        self.session = EffectiveSession(f"sess_{self._mark}", model, scenario.vad)
        self.conversation = Conversation(self._mark)
        self.tool_outputs: dict[str, str] = {}
        """Output of every answered call, by call id."""
        self.updates: list[dict[str, Any]] = []
        """Every accepted `session` of a `session.update`."""
        self.errors: list[dict[str, Any]] = []
        """Every error that was sent."""
        self.mind = Brain(scenario, input_rate_hz=24_000, manners=_MANNERS, connection=number)
        self.mind.configure(vad=self.session.detector())
        self.brain = self.mind
        self._split_ms = split_ms
        self._response: Response | None = None
        self._responses = 0
        self._events = 0
        self._spoke = False
        self._started = False
        self._held: list[str | bytes] | None = None
        """Messages that came while the setup was being taken in."""
        self._turn_items: dict[int, str] = {}
        self._upsampler = Resampler(8_000, 24_000)
        self._metadata: dict[str, str] | None = None
        self._tokens_left = _TOKEN_LIMIT
        self._quiet = 0
        """Counts what ends a silence, so that an idle timer knows whether it still means anything."""

    # ------------------------------------------------------------------------------------------------------- lifecycle

    def on_open(self) -> None:
        if "openai-beta" in self.request.headers:
            self._refuse(Problem("beta_api_shape_disabled", _BETA_TEXT), None)
            self.close(4000, "invalid_request_error.beta_api_shape_disabled")
            return
        self._say("session.created", session=self.session.show())

    def on_message(self, message: str | bytes) -> None:
        if self._held is not None:
            self._held.append(message)
            return
        try:
            event = msgspec.json.decode(message)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            self._refuse(Problem("invalid_json", "We could not parse the JSON body of your request."), None)
            return
        if not isinstance(event, dict):
            self._refuse(Problem("invalid_type", "Expected a JSON object."), None)
            return
        problem = check(event)
        if problem is not None:
            self._refuse(problem, event)
            return
        delay_s = self.scenario.session.setup_delay_ms / 1000
        if event["type"] == "session.update" and not self._started and delay_s:
            self._held = []
            self.later(delay_s, lambda: self._set_up_late(event))
            return
        self._handle(event)
        self._start()

    def _set_up_late(self, event: dict[str, Any]) -> None:
        held, self._held = self._held or [], None
        self._handle(event)
        self._start()
        for message in held:
            self.on_message(message)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self.perform(self.mind.start(self.now))

    # ---------------------------------------------------------------------------------------------------- client events

    def _handle(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "input_audio_buffer.append":
                self._append(event)
            case "session.update":
                self._update(event)
            case "input_audio_buffer.commit":
                self._commit(event)
            case "input_audio_buffer.clear":
                self.perform(self.mind.clear_input(self.now))
                self._say("input_audio_buffer.cleared")
            case "conversation.item.create":
                self._create_item(event)
            case "conversation.item.retrieve":
                self._retrieve(event)
            case "conversation.item.truncate":
                self._truncate(event)
            case "conversation.item.delete":
                self._delete(event)
            case "response.create":
                self._create_response(event)
            case "response.cancel":
                self._cancel(event)
            case "output_audio_buffer.clear":
                self._clear_output(event)

    def _append(self, event: dict[str, Any]) -> None:
        try:
            audio = b64decode(event["audio"], validate=True)
        except (binascii.Error, ValueError):
            said = (
                "Invalid 'audio'. Expected base64-encoded audio bytes (mono PCM16 at 24kHz) but got an invalid value."
            )
            self._refuse(Problem("invalid_value", said, "audio"), event)
            return
        format = self.session.input_format
        if format != "audio/pcm":
            decode = g711.mulaw_decode if format == "audio/pcmu" else g711.alaw_decode
            audio = self._upsampler.push(decode(audio)).astype("<i2").tobytes()
        self._hear(audio)

    def _hear(self, pcm: bytes) -> None:
        self.perform(self.mind.hear(pcm, self.now))

    def _clear_output(self, event: dict[str, Any]) -> None:
        said = "output_audio_buffer.clear is only supported for WebRTC and SIP sessions."
        self._refuse(Problem("invalid_value", said, "type"), event)

    def _update(self, event: dict[str, Any]) -> None:
        update = event["session"]
        problem = self.session.refusal(update, spoke=self._spoke)
        if problem is not None:
            self._refuse(problem, event)
            return
        self._apply(update)
        self.updates.append(update)
        self._say("session.updated", session=self.session.show())

    def _apply(self, update: dict[str, Any]) -> None:
        detection = self.session.turn_detection
        self.session.apply(update)
        effective = self.session.turn_detection
        self.mind.modality = "text" if self.session.written else "audio"
        if effective != detection:
            self.mind.configure(
                vad=self.session.detector(),
                barge_in=bool(effective and effective["interrupt_response"]),
                create_response=bool(effective and effective["create_response"]),
            )

    def _commit(self, event: dict[str, Any]) -> None:
        buffered_ms = self.mind.hearing.uncommitted_ms()
        if buffered_ms < _MIN_COMMIT_MS:
            said = "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
            said += f"but buffer only has {buffered_ms:.2f}ms of audio."
            self._refuse(Problem("input_audio_buffer_commit_empty", said), event)
            return
        self.perform(self.mind.commit(self.now))

    def _create_item(self, event: dict[str, Any]) -> None:
        item, after = event["item"], event.get("previous_item_id")
        problem = self.conversation.creation_refusal(item, after, model_facts(self.session.model).context_tokens)
        if problem is None and item["type"] == "function_call_output":
            call_id = item["call_id"]
            if not self.mind.expects_result(call_id):
                said = f"Tool call ID '{call_id}' not found in conversation."
                problem = Problem("invalid_tool_call_id", said, "item.call_id")
        if problem is not None:
            self._refuse(problem, event)
            return
        body = {"id": self.conversation.mint(), "object": "realtime.item", "status": "completed", **item}
        before = self.conversation.add(StoredItem(body=body), after)
        self._say("conversation.item.added", previous_item_id=before, item=_without_media(body))
        self._say("conversation.item.done", previous_item_id=before, item=_without_media(body))
        if item["type"] == "function_call_output":
            self.tool_outputs[item["call_id"]] = item["output"]
            result = _result(item["output"])
            self.perform(self.mind.tool_result(item["call_id"], "", result, self.now, respond=False))
        elif item.get("role") == "user":
            text = " ".join(part["text"] for part in item["content"] if part["type"] == "input_text" and "text" in part)
            if text:
                self.perform(self.mind.read(text, self.now, respond=False))
        elif item.get("role") == "assistant":
            # Words that an earlier session spoke: part of what the mind knows, no reply of this one.
            text = " ".join(part["text"] for part in item["content"] if "text" in part)
            self.mind.memory.add(Line(role="assistant", number=0, text=text))

    def _retrieve(self, event: dict[str, Any]) -> None:
        item = self.conversation.find(event["item_id"])
        if item is None:
            said = f"Error retrieving item: the item with id '{event['item_id']}' does not exist."
            self._refuse(Problem("item_retrieve_invalid_item_id", said, "item_id"), event)
        else:
            self._say("conversation.item.retrieved", item=item.body)

    def _truncate(self, event: dict[str, Any]) -> None:
        item_id, end_ms = event["item_id"], event["audio_end_ms"]
        problem = self.conversation.truncation_refusal(item_id, end_ms)
        if problem is not None:
            self._refuse(problem, event)
            return
        item = self.conversation.truncate(item_id, end_ms)
        if item.reply is not None:
            self.mind.truncate(item.reply, item.reply_from_ms + end_ms)
        self._say("conversation.item.truncated", item_id=item_id, content_index=0, audio_end_ms=end_ms)

    def _delete(self, event: dict[str, Any]) -> None:
        item = self.conversation.delete(event["item_id"])
        if item is None:
            said = f"Error deleting item: the item with id '{event['item_id']}' does not exist."
            self._refuse(Problem("item_delete_invalid_item_id", said, "item_id"), event)
            return
        if item.reply is not None and not any(other.reply == item.reply for other in self.conversation.items):
            self.mind.memory.forget(item.reply)
        self._say("conversation.item.deleted", item_id=event["item_id"])

    def _create_response(self, event: dict[str, Any]) -> None:
        if self._response is not None:
            said = f"Conversation already has an active response in progress: {self._response.id}. "
            said += "Wait until the response is finished before creating a new one."
            self._refuse(Problem("conversation_already_has_active_response", said), event)
            return
        wanted = event.get("response") or {}
        self._metadata = wanted.get("metadata")
        self.perform(self.mind.respond(self.now, wanted.get("instructions")))

    def _cancel(self, event: dict[str, Any]) -> None:
        wanted = event.get("response_id")
        if self._response is None or wanted not in (None, self._response.id):
            self._refuse(Problem("response_cancel_not_active", "Cancellation failed: no active response found"), event)
        else:
            self.perform(self.mind.interrupt(self.now))

    def quota(self) -> None:
        self._refuse(Problem("insufficient_quota", _QUOTA_TEXT), None, kind="insufficient_quota")
        self.close(1000)

    # ------------------------------------------------------------------------------------------------- acts of the mind

    def render(self, act: Act) -> None:
        match act:
            case Say():
                if self._response is not None:
                    self._response.say(act.pcm, act.speech_ms)
                    self._spoke = True
            case Words() | Written():
                if act.delta and self._response is not None:
                    self._response.words(act.delta)
            case ReplyBegan():
                self._begin_response(act)
            case TurnDone():
                self._end_response(act)
            case CallTools():
                if self._response is not None:
                    for call in act.calls:
                        self._response.call(call)
            case SpeechStarted():
                self._quiet += 1
                item_id = self._turn_items.setdefault(act.turn, self.conversation.mint())
                self._say("input_audio_buffer.speech_started", audio_start_ms=act.at_ms, item_id=item_id)
            case SpeechStopped():
                item_id = self._turn_items.setdefault(act.turn, self.conversation.mint())
                self._say("input_audio_buffer.speech_stopped", audio_end_ms=act.at_ms, item_id=item_id)
            case TurnHeard():
                self._committed(self._turn_items.setdefault(act.turn, self.conversation.mint()))
            case InputWords():
                self._transcribed(act)
            case LimitReached():
                self._refuse(Problem("session_expired", MAX_DURATION_TEXT), None)
                self.close(1001, MAX_DURATION_TEXT)
            case Cut() | GenerationDone() | Think() | Resumable() | GoingAway() | CancelCalls() | FaultDue():
                pass  # OpenAI has no word for these: a cut shows in response.done, and no end is announced

    def _begin_response(self, act: ReplyBegan) -> None:
        self._quiet += 1
        self._responses += 1
        response_id = f"resp_{self._mark}_{self._responses:05}"
        metadata, self._metadata = self._metadata, None
        self._response = Response(
            response_id,
            act.reply,
            self.session.body,
            self.conversation,
            self._say,
            metadata=metadata,
            split_ms=self._split_ms,
            play=self._player(response_id),
        )
        self._response.begin()
        limit = {"name": "tokens", "limit": _TOKEN_LIMIT, "remaining": self._tokens_left, "reset_seconds": 60.0}
        self._say("rate_limits.updated", rate_limits=[limit])

    def _player(self, response_id: str) -> Play | None:
        """Where the speech of this response goes; None: into events."""
        return None

    def _end_response(self, act: TurnDone) -> None:
        response, self._response = self._response, None
        if response is None:
            return
        self._tokens_left = max(0, self._tokens_left - act.usage.total_tokens)
        if act.reason == "completed":
            response.end("completed", act.usage)
        else:
            response.end("cancelled", act.usage, "turn_detected" if act.cause == "speech" else "client_cancelled")
        self._ended(response)

    def _ended(self, response: Response) -> None:
        line = self.mind.memory.line("assistant", response.reply)
        self._watch_silence(line.said_ms if line else 0)

    def _committed(self, item_id: str) -> None:
        self._quiet += 1
        before = self.conversation.last_id()
        self._say("input_audio_buffer.committed", previous_item_id=before, item_id=item_id)
        content = [{"type": "input_audio", "transcript": None}]
        body = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": content,
        }
        self.conversation.add(StoredItem(body=body))
        self._say("conversation.item.added", previous_item_id=before, item=body)
        self._say("conversation.item.done", previous_item_id=before, item=body)

    def _transcribed(self, act: InputWords) -> None:
        item_id = self._turn_items.get(act.turn)
        if item_id is None or not self.session.transcribes:
            return
        kind = "conversation.item.input_audio_transcription"
        where: dict[str, Any] = {"item_id": item_id, "content_index": 0}
        for word in act.text.split(" "):
            self._say(f"{kind}.delta", **where, delta=f"{word} ")
        usage = {"type": "duration", "seconds": 1.0}
        self._say(f"{kind}.completed", **where, transcript=act.text, usage=usage)
        item = self.conversation.find(item_id)
        if item is not None:
            item.body["content"][0]["transcript"] = act.text

    def _watch_silence(self, playing_ms: int) -> None:
        """`idle_timeout_ms`: counts from the end of the reply's playback, which is so far away."""
        detection = self.session.turn_detection
        idle_ms = (detection or {}).get("idle_timeout_ms")
        if idle_ms is None:
            return
        epoch, now_ms = self._quiet, self.mind.hearing.now_ms
        self.later((playing_ms + idle_ms) / 1000, lambda: self._too_quiet(epoch, now_ms))

    def _too_quiet(self, epoch: int, since_ms: float) -> None:
        if epoch != self._quiet or self._response is not None:
            return
        item_id = self.conversation.mint()
        until_ms = round(self.mind.hearing.now_ms)
        self._say(
            "input_audio_buffer.timeout_triggered",
            audio_start_ms=round(since_ms),
            audio_end_ms=until_ms,
            item_id=item_id,
        )
        self.perform(self.mind.clear_input(self.now))
        self._committed(item_id)
        self.perform(self.mind.respond(self.now, ""))

    # ---------------------------------------------------------------------------------------------------------- sending

    def _say(self, kind: str, *, label: str = "", **fields: Any) -> None:
        self.send(self._event(kind, **fields), label or kind)

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        self._events += 1
        return {"type": kind, "event_id": f"event_{self._mark}_{self._events:06}", **fields}

    def _refuse(self, problem: Problem, event: dict[str, Any] | None, *, kind: str = "invalid_request_error") -> None:
        event_id = event.get("event_id") if event is not None else None
        error = {
            "type": kind,
            "code": problem.code,
            "message": problem.message,
            "param": problem.param,
            "event_id": event_id if isinstance(event_id, str) else None,
        }
        self.errors.append(error)
        self._say("error", label=f"error:{problem.code}", error=error)


def _result(output: str) -> object:
    try:
        return msgspec.json.decode(output)
    except msgspec.DecodeError:
        return output


def _without_media(body: dict[str, Any]) -> dict[str, Any]:
    """Items are echoed without their audio."""
    if "content" not in body:
        return body
    content = [{key: value for key, value in part.items() if key != "audio"} for part in body["content"]]
    return {**body, "content": content}
