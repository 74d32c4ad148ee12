"""One conversation with the offline model: the mind's acts as session events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from providers.contract import (
    Capabilities,
    Closed,
    EventReader,
    GenerationComplete,
    GoAway,
    InputTranscript,
    Interrupted,
    Listener,
    OutboxStats,
    OutputTranscript,
    ReplyStarted,
    ResumptionUpdate,
    SessionEvent,
    SessionReady,
    SessionStart,
    SessionState,
    SpeechChunk,
    TextChunk,
    Thought,
    ToolCall,
    ToolCallCancelled,
    ToolSpec,
    TurnComplete,
    Usage,
    UserSpeechStarted,
    UserSpeechStopped,
    WarningReported,
)
from providers.errors import (
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
    ResumeRefused,
    SessionEnded,
    SettingRefused,
)
from providers.events import EventFanout
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
from providers.scripted.brain import Brain
from providers.scripted.faults import (
    Abort,
    Close,
    Duplicate,
    Empty,
    EndSession,
    ExpireHandles,
    Malformed,
    Quota,
    Stall,
    TimedFault,
    Unknown,
)
from providers.scripted.faults import GoAway as GoAwayFault
from providers.scripted.memory import Memory
from providers.scripted.scenario import Scenario
from providers.settings import ConnectionSettings, SpeechSettings
from providers.signal.formats import PCM16_24K, AudioFormat

__all__ = ["ScriptedSession"]

_HELD_LIMIT = 10_000
"""Events that a stall may hold back. Full: the oldest goes, `held_dropped` counts it."""
_PLAYOUT_SLACK_S = 1.0
"""A reply counts as perhaps still sounding this long after its speech would have ended in real time."""
_REJECTING = frozenset({1002, 1003, 1007, 1008})
"""Close codes that say our own messages were wrong: before the first reply that was the setup, and trying again cannot
help."""


class ScriptedSession:
    """A `ModelSession`. `brain` is open to tests: what was heard, and what the model believes was heard of it."""

    def __init__(
        self,
        scenario: Scenario,
        start: SessionStart,
        *,
        speech: SpeechSettings,
        capabilities: Capabilities,
        connection: int,
        memory: Memory,
        issue_handle: Callable[[ScriptedSession, Memory], str],
        expire_handles: Callable[[ScriptedSession], None],
        connection_settings: ConnectionSettings,
    ) -> None:
        self.connection = connection
        self.instructions = speech.instructions if start.instructions is None else start.instructions
        self.tools: tuple[ToolSpec, ...] = speech.tools_with(start.tools)
        self.voice = speech.voice_for("scripted") if start.voice is None else start.voice
        self.held_dropped = 0
        self.brain = Brain(
            scenario,
            input_rate_hz=capabilities.input_formats[0].rate_hz,
            modality=speech.modality,
            connection=connection,
            memory=memory,
        )
        self.brain.configure(create_response=speech.turn_detection.create_response)
        self._capabilities = capabilities
        self._number = start.number
        self._sounding = 0
        self._sounds_until = 0.0
        """When the speech told so far ends for a listener who began at once."""
        self._resumed = bool(start.resume)
        self._served = False
        self._interrupted = 0
        """Newest reply that was told to be cut."""
        self._input_words = speech.transcription.input
        self._issue_handle = issue_handle
        self._connection = connection_settings
        self._expire_handles = expire_handles
        self._loop = asyncio.get_running_loop()
        self._state = SessionState.READY
        self._events = EventFanout()
        self._stats = OutboxStats()
        self._pending: deque[SessionEvent] = deque()
        self._held: deque[SessionEvent] | None = None
        self._release: asyncio.TimerHandle | None = None
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0  # kept here: uvloop's handle of a moment that has passed does not know it

    # ------------------------------------------------------------------------------------------------------- state

    @property
    def number(self) -> int:
        return self._number

    @property
    def id(self) -> str:
        return f"scripted-{self.connection}"

    @property
    def state(self) -> SessionState:
        return self._state

    @property
    def ended(self) -> bool:
        return self._state is SessionState.CLOSED

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def outbox(self) -> OutboxStats:
        """A copy of the counters."""
        return msgspec.structs.replace(self._stats)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """See `ModelSession.listen`."""
        return self._events.listen(listener)

    def read(self, capacity: int = 256) -> EventReader:
        """See `ModelSession.read`."""
        return self._events.read(capacity)

    def begin(self, ready: SessionReady, notice: str = "") -> None:
        """Called once by the model: the session is set up. `notice`: what of the history was too much."""
        self._events.emit(ready)
        if notice:
            self._events.emit(WarningReported(self._number, "history_cut", notice))
        self._perform(self.brain.start(self._loop.time()))

    # ---------------------------------------------------------------------------------------------------- commands

    def send_audio(self, audio: bytes, format: AudioFormat) -> None:
        """See `ModelSession.send_audio`. Raises ValueError for a format that the capabilities do not list."""
        if self._state is not SessionState.READY:
            self._stats.dropped_after_end += 1
            return
        if format not in self._capabilities.input_formats:
            raise ValueError(f"format = {format}: this model takes {self._capabilities.input_formats[0]}")
        self._stats.sent_messages += 1
        self._stats.sent_audio_ms += format.duration_ms(len(audio))
        self._perform(self.brain.hear(audio, self._loop.time()))

    def end_input(self) -> None:
        self._perform(self._open().input_ended(self._loop.time()))

    def commit_input(self) -> None:
        self._perform(self._open().commit(self._loop.time(), respond=self.brain.create_response))

    def clear_input(self) -> None:
        self._perform(self._open().clear_input(self._loop.time()))

    def start_activity(self) -> None:
        self._perform(self._open().start_activity(self._loop.time()))

    def end_activity(self) -> None:
        self._perform(self._open().end_activity(self._loop.time()))

    def send_image(self, image: bytes, mime_type: str) -> None:
        self._open()
        raise SettingRefused("image", mime_type, "the scripted model takes no images: see Capabilities.video")

    def send_text(self, text: str, *, respond: bool = True) -> None:
        self._perform(self._open().read(text, self._loop.time(), respond=respond))

    def respond(self, instructions: str | None = None) -> None:
        self._perform(self._open().respond(self._loop.time(), instructions))

    def interrupt(self) -> None:
        self._perform(self._open().interrupt(self._loop.time()))

    def truncate(self, reply_id: str, heard_ms: int) -> None:
        """See `ModelSession.truncate`. `brain.memory` shows what is then believed."""
        brain = self._open()
        prefix = self._reply_id("")
        number = reply_id.removeprefix(prefix)
        if reply_id.startswith(prefix) and number.isdigit():
            if heard_ms > 0:
                brain.truncate(int(number), heard_ms)
            else:
                brain.memory.forget(int(number))

    def send_tool_result(
        self, call_id: str, name: str, result: dict[str, Any] | str, *, error: bool = False, respond: bool = True
    ) -> None:
        answer = {"error": result} if error and isinstance(result, str) else result
        self._perform(self._open().tool_result(call_id, name, answer, self._loop.time(), respond=respond))

    def update(
        self,
        *,
        instructions: str | None = None,
        tools: Sequence[ToolSpec] | None = None,
        voice: str | None = None,
    ) -> None:
        """See `ModelSession.update`: all of it in place."""
        self._open()
        self.instructions = self.instructions if instructions is None else instructions
        self.tools = self.tools if tools is None else tuple(tools)
        self.voice = self.voice if voice is None else voice

    def send_raw(self, message: dict[str, Any]) -> None:
        self._open()
        raise SettingRefused("message", "...", "the scripted model has no wire of its own")

    async def close(self) -> None:
        """See `ModelSession.close`. Listeners have heard `Closed` when it returns."""
        if self._state is SessionState.READY:
            self._end(1000, "", None)
        self._emit_pending()

    # ------------------------------------------------------------------------------------------------------ inside

    def _open(self) -> Brain:
        if self._state is not SessionState.READY:
            raise SessionEnded(f"session {self._number} is {self._state}")
        return self.brain

    def _reply_id(self, reply: int | str) -> str:
        return f"{self.id}-reply-{reply}"

    def _perform(self, acts: list[Act]) -> None:
        """Queue what the acts say, and set the timer by the mind's deadline."""
        for act in acts:
            if self._state is not SessionState.READY:
                break
            self._render(act)
        if self._pending and self._soon is None:
            self._soon = self._loop.call_soon(self._emit_pending)
        if self._state is SessionState.READY:
            due = self.brain.deadline()
            if due is not None and (self._timer is None or due < self._timer_due):
                self._disarm()
                self._timer_due = due
                self._timer = self._loop.call_at(due, self._deadline_reached)

    def _deadline_reached(self) -> None:
        assert self._timer is not None, "only an armed timer calls"
        # The loop may call a hair early: what was due at that moment is due.
        now = max(self._loop.time(), self._timer_due)
        self._timer = None
        self._perform(self.brain.due(now))

    def _emit_pending(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        while self._pending:
            self._events.emit(self._pending.popleft())

    def _tell(self, event: SessionEvent) -> None:
        if self._held is None:
            self._pending.append(event)
            return
        if len(self._held) >= _HELD_LIMIT:
            self._held.popleft()
            self.held_dropped += 1
        self._held.append(event)

    def _render(self, act: Act) -> None:
        number = self._number
        match act:
            case Say():
                self._tell(SpeechChunk(number, self._reply_id(act.reply), act.pcm))
                if not act.late:
                    lasts_s = PCM16_24K.duration_ms(len(act.pcm)) / 1000
                    self._sounds_until = max(self._sounds_until, self._loop.time()) + lasts_s
                    self._sounding = act.reply
            case Words():
                self._tell(OutputTranscript(number, self._reply_id(act.reply), act.delta, act.final))
            case Written():
                self._tell(TextChunk(number, self._reply_id(act.reply), act.delta, act.final))
            case SpeechStarted():
                self._tell(UserSpeechStarted(number, act.at_ms))
                # A reply that came faster than real time is complete, and still sounds: it is cut all the same.
                if self._sounding and self.brain.barge_in and self._loop.time() < self._sounds_until + _PLAYOUT_SLACK_S:
                    self._tell_interrupted(self._sounding)
            case SpeechStopped():
                self._tell(UserSpeechStopped(number, act.at_ms))
            case InputWords():
                if self._input_words:
                    self._tell(InputTranscript(number, f"{self.id}-turn-{act.turn}", act.text, act.final))
            case ReplyBegan():
                self._served = True
                self._tell(ReplyStarted(number, self._reply_id(act.reply)))
            case Think():
                self._tell(Thought(number, self._reply_id(act.reply), act.text))
            case CallTools():
                batch = f"{self.id}-batch-{act.batch}"
                for call in act.calls:
                    reply_id = self._reply_id(act.reply)
                    self._tell(ToolCall(number, call.call_id, call.name, dict(call.arguments), reply_id, batch))
            case CancelCalls():
                self._tell(ToolCallCancelled(number, act.call_ids))
            case GenerationDone():
                self._tell(GenerationComplete(number, self._reply_id(act.reply)))
            case Cut():
                self._tell_interrupted(act.reply)
            case TurnDone():
                self._tell_end_of_turn(act)
            case Resumable():
                handle = self._issue_handle(self, self.brain.memory) if act.resumable else ""
                self._tell(ResumptionUpdate(number, handle, act.resumable))
            case GoingAway():
                self._tell(GoAway(number, act.time_left_s))
            case LimitReached():
                self._time_over()
            case FaultDue():
                self._suffer(act.fault)
            case TurnHeard():
                pass  # the contract has no word for it: the reply that follows says enough

    def _tell_interrupted(self, reply: int) -> None:
        """Once for each reply."""
        if reply > self._interrupted:
            self._interrupted = reply
            self._tell(Interrupted(self._number, self._reply_id(reply)))

    def _tell_end_of_turn(self, act: TurnDone) -> None:
        used = act.usage
        self._tell(
            Usage(
                self._number,
                input_tokens=used.input_tokens,
                output_tokens=used.output_tokens,
                total_tokens=used.total_tokens,
                cached_tokens=used.cached_tokens,
                thought_tokens=used.thought_tokens,
                input_audio_tokens=used.input_audio_tokens,
                output_audio_tokens=used.output_audio_tokens,
            )
        )
        self._tell(TurnComplete(self._number, self._reply_id(act.reply), act.reason))

    def _suffer(self, fault: TimedFault) -> None:
        """A fault as a client behind a socket would know it."""
        match fault:
            case Close():
                why = f"the connection ended with {fault.code}: {fault.reason or 'no reason'}"
                error: ProviderError = ProviderUnavailable(why, code=fault.code)
                if fault.code in _REJECTING and not self._served:
                    error = ResumeRefused(why) if self._resumed else ProviderRejected(why, code=fault.code)
                self._end(fault.code, fault.reason, error)
            case Abort():
                self._end(1006, "", ProviderUnavailable("the connection vanished", code=1006))
            case Stall():
                self._held = deque() if self._held is None else self._held
                if self._release is not None:
                    self._release.cancel()
                mid_reply = fault.reply is not None
                patience_s = self._connection.speech_stall_s if mid_reply else self._connection.stall_timeout_s
                if fault.duration_s is not None and fault.duration_s < patience_s:
                    self._release = self._loop.call_later(fault.duration_s, self._go_on)
                else:
                    self._release = self._loop.call_later(patience_s, self._give_up, patience_s)
            case GoAwayFault():
                for act in self.brain.go_away(fault.time_left_s, self._loop.time()):
                    self._render(act)
            case EndSession():
                self._time_over()
            case Quota():
                said = "the quota is used up"
                self._end(
                    1011, said, ProviderRejected(said, code=1011, mend="the scenario says so", endpoint_wide=True)
                )
            case ExpireHandles():
                self._expire_handles(self)
            case Malformed() | Empty() | Unknown() | Duplicate():
                kind = type(fault).__name__.lower()
                self._tell(WarningReported(self._number, "scripted_fault", f"{kind} frame"))

    def _time_over(self) -> None:
        said = "the session's time is over"
        self._end(1011, said, ProviderUnavailable(said, code=1011))

    def _give_up(self, patience_s: float) -> None:
        said = f"silent for {patience_s:g} s"
        self._end(1006, said, ProviderUnavailable(said, code=1006))
        self._emit_pending()

    def _go_on(self) -> None:
        held, self._held, self._release = self._held, None, None
        if held is not None and self._state is SessionState.READY:
            self._pending.extend(held)
            self._emit_pending()

    def _end(self, code: int, reason: str, error: ProviderError | None) -> None:
        self._state = SessionState.CLOSED
        self._disarm()
        self.brain.end()
        self._held = None
        if self._release is not None:
            self._release.cancel()
            self._release = None
        self._pending.append(Closed(self._number, code, reason, error))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
