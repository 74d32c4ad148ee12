"""Gemini Live without I/O: messages to events, commands to messages, time as an argument."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import pybase64

from providers.contract import Capabilities, Closed, SessionEvent, SessionReady, ToolSpec, WarningReported
from providers.errors import NeedsNewSession, SettingRefused
from providers.gemini.checks import tool_problems
from providers.gemini.closes import close_error
from providers.gemini.decoding import Decoder
from providers.gemini.setup import SessionPlan, instruction_content, tool_list
from providers.gemini.wire import ServerMessage, decode_message
from providers.signal.formats import AudioFormat, Encoding

__all__ = ["INTERRUPT_ANSWER_S", "GeminiProtocol"]

# Our own interrupt is acknowledged by `interrupted` some 70 ms later. Without it the reply is called dead all the same.
INTERRUPT_ANSWER_S = 2.0

_IMAGE_IS_NEWS_MS = 6000.0
"""So long after it was sent an image still shows what a typed turn is about; later the camera may be off."""
_IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
_AUDIO_END = b'"}}}'
_encode = msgspec.json.encode
_log = logging.getLogger(__name__)


def _audio_start(rate_hz: int) -> bytes:
    return b'{"realtimeInput":{"audio":{"mimeType":"audio/pcm;rate=%d","data":"' % rate_hz


class GeminiProtocol:
    """One session's protocol core: a `providers.driver.ProtocolCore`."""

    def __init__(self, plan: SessionPlan) -> None:
        self._plan = plan
        self._number = plan.number
        self._rules = plan.rules
        self._ready = False
        self._session_id = ""
        self._out: list[bytes] = []
        self._held: list[bytes] = []
        self._notes: list[SessionEvent] = []
        self._decoder = Decoder(plan)
        self._format: AudioFormat | None = None
        self._audio_start = b""
        self._stream_open = False
        self._activity_open = False
        self._image: dict[str, str] | None = None
        self._image_age_ms = 0.0  # by the audio sent since
        self._interrupt_by: float | None = None
        self._interrupting: str | None = None

    # ------------------------------------------------------------------------------------------------------- state

    @property
    def ready(self) -> bool:
        return self._ready

    @property
    def session_id(self) -> str:
        return self._session_id

    @property
    def speaking(self) -> bool:
        replies = self._decoder.replies
        return replies.speaking and replies.generating

    @property
    def capabilities(self) -> Capabilities:
        return self._plan.capabilities

    # ---------------------------------------------------------------------------------------------------- messages

    def start(self, now: float) -> None:
        """The setup is the first message; nothing else goes out before it is accepted."""
        self._out.append(_encode({"setup": self._plan.setup}))

    def receive(self, message: str | bytes, now: float) -> list[SessionEvent]:
        """Everything that one message says, in order. Never raises for what a server sends."""
        if type(message) is bytes and not self._notes:
            chunk = self._decoder.more_speech(message)
            if chunk is not None:
                return [chunk]
        events = self._take_notes() if self._notes else []
        try:
            decoded = decode_message(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # The text names the field, not its content.
            events.append(self._warning("malformed_message", f"a message could not be read: {error}"))
            return events
        if decoded.setup_complete is not None and not self._ready:
            self._accepted(decoded, events)
        for answer in self._decoder.decode(decoded, message, now, events):
            self._queue(answer)
        if self._interrupt_by is not None and self._decoder.replies.current != self._interrupting:
            self._interrupt_by = None
        return events

    def connection_closed(self, code: int, reason: str, now: float) -> list[SessionEvent]:
        """The last events, ending with `Closed`."""
        _log.info("session %d closed: %d %s", self._number, code, reason or "(no reason)")
        events = self._take_notes()
        served = self._decoder.replies.last is not None
        error = close_error(code, reason, ready=self._ready, resumed=self._plan.resumed, served=served)
        self._ready = False
        self._decoder.ended(events)
        events.append(Closed(session=self._number, code=code, reason=reason, error=error))
        return events

    def deadline(self) -> float | None:
        """Earliest of: a note to deliver, an unanswered interrupt, a silence that follows IN_PROGRESS."""
        if self._notes:
            return 0.0
        times = [time for time in (self._interrupt_by, self._decoder.silence_at) if time is not None]
        return min(times, default=None)

    def handle_timeout(self, now: float) -> list[SessionEvent]:
        events = self._take_notes()
        if self._interrupt_by is not None and now >= self._interrupt_by:
            self._interrupt_by = None
            if self._decoder.replies.current is not None:
                events.append(self._warning("interrupt_unanswered", "the service did not acknowledge our interrupt"))
                self._decoder.replies.interrupted(now, events)
        self._decoder.check_silence(now, events)
        return events

    def outgoing(self) -> list[bytes]:
        """Take the messages queued since the last call."""
        if not self._out:
            return []
        messages, self._out = self._out, []
        return messages

    def _accepted(self, decoded: ServerMessage, events: list[SessionEvent]) -> None:
        assert decoded.setup_complete is not None
        self._ready = True
        self._session_id = decoded.setup_complete.session_id or ""
        consent = decoded.setup_complete.voice_consent_signature
        ready = SessionReady(
            session=self._number,
            session_id=self._session_id,
            resumed=self._plan.resumed,
            voice_consent=(consent.signature or "") if consent is not None else "",
        )
        events.append(ready)
        if self._plan.history or self._history_announced:
            self._out.append(_encode(self._history()))
        if self._plan.history_cut:
            events.append(self._warning("history_cut", self._plan.history_cut))
        self._out.extend(self._held)
        self._held.clear()

    def _history(self) -> dict[str, Any]:
        roles = {"user": "user", "assistant": "model"}
        turns = [{"role": roles[item.role], "parts": [{"text": item.text}]} for item in self._plan.history]
        announced = self._history_announced
        if not turns:
            # Announced and empty: without this end the first request to speak would be taken for the history.
            return {"clientContent": {"turnComplete": True}}
        if not announced and turns[-1]["role"] == "model":
            # Without historyConfig a seeded history has to end with a user turn.
            turns.append({"role": "user", "parts": [{"text": "."}]})
        # An announced history ends, without an answer, by the first turnComplete.
        return {"clientContent": {"turns": turns, "turnComplete": announced}}

    @property
    def _history_announced(self) -> bool:
        return bool(self._plan.setup.get("historyConfig", {}).get("initialHistoryInClientContent"))

    def _queue(self, message: dict[str, Any]) -> None:
        (self._out if self._ready else self._held).append(_encode(message))

    def _warning(self, code: str, message: str) -> WarningReported:
        return WarningReported(session=self._number, code=code, message=message)

    def _take_notes(self) -> list[SessionEvent]:
        if not self._notes:
            return []
        notes, self._notes = self._notes, []
        return notes

    # ------------------------------------------------------------------------------------------------------- input

    def encode_audio(self, audio: bytes, format: AudioFormat) -> bytes:
        """The message that carries this audio; any PCM16 rate, the service resamples."""
        if format is not self._format:
            if format.encoding is not Encoding.PCM16:
                raise SettingRefused("format", format.encoding.value, "Gemini takes pcm16 only")
            self._format, self._audio_start = format, _audio_start(format.rate_hz)
        self._stream_open = True
        if self._image is not None:
            self._image_age_ms += format.duration_ms(len(audio))
            if self._image_age_ms > _IMAGE_IS_NEWS_MS:
                self._image = None
        return self._audio_start + pybase64.b64encode(audio) + _AUDIO_END

    def end_input(self) -> None:
        """With the service's own turn detection: flush what it holds. Audio reopens the stream."""
        if self._stream_open and not self._plan.manual_turns:
            self._stream_open = False
            self._queue({"realtimeInput": {"audioStreamEnd": True}})

    def commit_input(self) -> None:
        """Manual turns: the user's turn ends here. Else as `end_input`."""
        if self._plan.manual_turns:
            self.end_activity()
        else:
            self.end_input()

    def clear_input(self) -> None:
        """Gemini cannot forget audio once it is sent."""

    def start_activity(self) -> None:
        """Only with manual turns: the service ignores the mark, or refuses it, next to its own detection."""
        if self._plan.manual_turns and not self._activity_open:
            self._activity_open = True
            self._queue({"realtimeInput": {"activityStart": {}}})

    def end_activity(self) -> None:
        if self._plan.manual_turns and self._activity_open:
            self._activity_open = False
            self._queue({"realtimeInput": {"activityEnd": {}}})

    def send_image(self, image: bytes, mime_type: str) -> None:
        """One still. It is kept for a typed turn soon after, too, which would not see it otherwise."""
        if not self._rules.video:
            raise SettingRefused("image", mime_type, f"{self._plan.own.model} takes no images")
        if mime_type not in _IMAGE_TYPES:
            raise SettingRefused("image", mime_type, f"send one of {', '.join(_IMAGE_TYPES)}")
        self._image = {"mimeType": mime_type, "data": pybase64.b64encode(image).decode("ascii")}
        self._image_age_ms = 0.0
        self._queue({"realtimeInput": {"video": self._image}})

    def send_text(self, text: str, *, respond: bool = True) -> None:
        """A typed user turn."""
        if not self._rules.speech:
            raise SettingRefused("text", "...", f"{self._plan.own.model} takes audio only")
        parts: list[dict[str, Any]] = [{"text": text}]
        if self._image is not None and respond:
            parts.insert(0, {"inlineData": self._image})
            self._image = None
        elif respond and self._rules.nudged and text.strip():
            # One message that is both the turn and its start; clientContent plus a nudge can be answered twice.
            self._queue({"realtimeInput": {"text": text}})
            return
        self._ask([{"role": "user", "parts": parts}], respond)

    # ----------------------------------------------------------------------------------------------------- replies

    def respond(self, instructions: str | None = None) -> None:
        """Make the model speak, with `instructions` as a user turn: the roles system and model would not do."""
        self.end_activity()
        if instructions is None and self._rules.nudged:
            self._ask([], True)
        else:
            self._ask([{"role": "user", "parts": [{"text": instructions or "."}]}], True)

    def _ask(self, turns: list[dict[str, Any]], respond: bool) -> None:
        content: dict[str, Any] = {"turns": turns, "turnComplete": respond} if turns else {"turnComplete": respond}
        self._queue({"clientContent": content})
        if respond and self._rules.nudged:
            self._queue({"realtimeInput": {"text": " "}})

    def interrupt(self, now: float) -> None:
        """Stop the reply of the running turn; no new one is asked for."""
        # Also between generationComplete and turnComplete: the service still believes it plays, and must hear that
        # the rest was not heard.
        reply = self._decoder.replies.current
        if reply is None or self._interrupt_by is not None:
            return
        if self._plan.manual_turns:
            self.start_activity()
        else:
            self._queue({"clientContent": {"turnComplete": False}})
        self._interrupt_by, self._interrupting = now + INTERRUPT_ANSWER_S, reply

    def truncate(self, reply_id: str, heard_ms: int) -> None:
        """The service keeps its own playback clock; there is no such message."""

    # ------------------------------------------------------------------------------------------------------- tools

    def send_tool_result(
        self, call_id: str, name: str, result: dict[str, Any] | str, *, error: bool = False, respond: bool = True
    ) -> None:
        """Answer one call; those of a blocking batch go together, once the last is there.

        Raises TypeError for a result that JSON cannot carry: the call is still open then, to be answered otherwise.
        """
        _encode(result)
        messages, refused = self._decoder.tools.answer(call_id, name, result, error=error, respond=respond)
        if refused:
            self._notes.append(self._warning("tool_result_dropped", refused))
        for message in messages:
            self._queue(message)

    # ----------------------------------------------------------------------------------------------------- session

    def update(
        self,
        *,
        instructions: str | None = None,
        tools: Sequence[ToolSpec] | None = None,
        voice: str | None = None,
    ) -> None:
        """Instructions and tools where the model can change them in place; raises `NeedsNewSession` for the rest,
        `SettingRefused` for a bad tool, and then changes nothing."""
        wanted = {"instructions": instructions, "tools": tools, "voice": voice}
        fixed = [field for field, value in wanted.items() if value is not None and field not in self._in_place]
        if fixed:
            raise NeedsNewSession(fixed)
        own = self._plan.own
        refused = tool_problems(tools or (), own, self._rules)
        if refused:
            raise refused[0]
        if own.update_by == "system_turn":
            if instructions is not None:
                turn = {"role": "system", "parts": [{"text": instructions}]}
                self._queue({"clientContent": {"turns": [turn], "turnComplete": False}})
            return
        change: dict[str, Any] = {}
        if instructions is not None:
            change["systemInstruction"] = instruction_content(instructions)
        if tools is not None:
            # The wrapper tells "none" from "as before".
            change["tools"] = {"tools": tool_list(tools, own, self._rules)}
            self._decoder.tools.declare(tools)
        if change:
            self._queue({"contextUpdate": change})

    @property
    def _in_place(self) -> frozenset[str]:
        return self._plan.capabilities.in_place_update

    def send_raw(self, message: dict[str, Any]) -> None:
        """One message in Google's own words."""
        self._queue(message)
