"""The mind behind the scripted model and both emulators: sound, text and time in, acts out. No I/O, no clock.

Every method that takes `now` returns the acts that follow at once, in order, those that fell due before included.
Call `due(now)` at `deadline()` for the rest. All times of one mind are on one clock, in seconds.

What its two users need in between:

- `hear` takes int16 mono at `input_rate_hz` in chunks of any length and speed; the VAD runs on the audio, not on `now`.
- `configure` applies what a client sets up (turn detection, barge-in, whether a turn is answered by itself).
- `Manners` are the differences between vendors that a scenario should not have to know.
- `open_reply` and `expects_result` answer what a vendor's own checks ask.
- `memory` is what a resumption handle stands for: snapshot it at `Resumable(True)`, pass it to the next mind.
- `hearing.recording` holds what was heard, with arrival times, for tests.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import msgspec
import numpy as np

from providers.scripted.acts import (
    Act,
    CallTools,
    CancelCalls,
    Cause,
    GoingAway,
    InputWords,
    LimitReached,
    PlannedCall,
    Resumable,
    SpeechStarted,
    SpeechStopped,
    TurnHeard,
)
from providers.scripted.agenda import Agenda
from providers.scripted.faults import TimedFault
from providers.scripted.hearing import OUTPUT_HZ, Hearing
from providers.scripted.memory import Line, Memory
from providers.scripted.mouth import Mouth, Reply, Turn
from providers.scripted.scenario import Answer, Repeat, Scenario, ServerVad, TurnScript
from providers.signal.resample import Int16Array, Resampler
from providers.signal.vad import SpeechEdge

__all__ = ["Brain", "Manners"]

_NOTHING = np.zeros(0, dtype=np.int16)


class Manners(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between vendors."""

    turn_done: Literal["playback", "generation"] = "generation"
    """When a turn is over, unless the scenario says."""
    tools_end_turn: bool = False
    """A turn that calls tools ends with the calls; the answer is a reply of its own."""
    answers_results: bool = True
    """The last result of a batch is answered by itself. False: after `respond`."""
    cancels_calls: bool = True
    """Blocking calls that wait are called off when the user speaks."""


class _Batch:
    """Tool calls that belong together."""

    __slots__ = ("calls", "number", "reply", "results", "script", "turn")

    def __init__(self, number: int, calls: tuple[PlannedCall, ...], script: TurnScript, turn: Turn) -> None:
        self.number = number
        self.calls = calls
        self.script = script
        self.turn = turn
        self.reply: Reply | None = None
        self.results: dict[str, dict[str, Any]] = {}

    def open_ids(self) -> tuple[str, ...]:
        return tuple(call.call_id for call in self.calls if call.call_id not in self.results)


class Brain:
    """One mind in one connection."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        input_rate_hz: int,
        manners: Manners | None = None,
        modality: Literal["audio", "text"] = "audio",
        connection: int = 1,
        memory: Memory | None = None,
    ) -> None:
        """Args: connection counts the connections to this server, for faults of one of them; memory of the session
        that is resumed, if one is."""
        self.scenario = scenario
        self.manners = manners or Manners()
        self.memory = memory or Memory()
        self.hearing = Hearing(input_rate_hz, scenario.vad, scenario.session.heard_limit_s)
        self.barge_in = scenario.barge_in
        self.create_response = True
        self._duplex = scenario.mode == "duplex"
        self._batches: dict[int, _Batch] = {}
        self._agenda = Agenda(scenario.faults, connection)
        turn_done = self.manners.turn_done if scenario.turn_done == "vendor" else scenario.turn_done
        self._mouth = Mouth(
            scenario,
            self._agenda,
            self.memory,
            self.hearing,
            self._batches,
            written=modality == "text",
            turn_done=turn_done,
        )
        self._echo: tuple[Reply, Resampler, float] | None = None
        self._unanswered: Turn | None = None
        self._last_turn: Turn | None = None

    # ------------------------------------------------------------------------------------------------------ state

    @property
    def modality(self) -> Literal["audio", "text"]:
        """Of the replies from here on."""
        return "text" if self._mouth.written else "audio"

    @modality.setter
    def modality(self, modality: Literal["audio", "text"]) -> None:
        self._mouth.written = modality == "text"

    @property
    def open_reply(self) -> int | None:
        """Number of the reply that is being generated, or whose turn is not over."""
        return self._mouth.reply.number if self._mouth.reply else None

    @property
    def generating(self) -> bool:
        """Speech, words or tool results of a reply are still outstanding."""
        return self._mouth.reply is not None and self._mouth.reply.generating

    def expects_result(self, call_id: str) -> bool:
        """Was this tool call made, and neither answered nor called off?"""
        return any(call_id in batch.open_ids() for batch in self._batches.values())

    def deadline(self) -> float | None:
        """When `due` has something to do."""
        return self._agenda.deadline()

    def due(self, now: float) -> list[Act]:
        """Everything that falls due until `now`."""
        self._agenda.advance(now)
        return self._agenda.take()

    def plan(self, fault: TimedFault, now: float) -> list[Act]:
        """A fault more than the scenario has: when it says, or now."""
        self._agenda.advance(now)
        self._agenda.plan(fault, now)
        return self._agenda.take()

    def go_away(self, time_left_s: float, now: float) -> list[Act]:
        """Announce the end of the session, which then comes."""
        self._agenda.advance(now)
        self._announce_end(time_left_s, now)
        return self._agenda.take()

    def end(self) -> None:
        """The connection is over: nothing falls due any more, and the mind can be freed without a collector."""
        self._agenda.clear()

    # ------------------------------------------------------------------------------------------------------ input

    def start(self, now: float) -> list[Act]:
        """The session is set up: greeting, go-away, limits and timed faults run from here."""
        session = self.scenario.session
        if session.resumption:
            self._agenda.did(Resumable(True))
        if session.go_away_s is not None:
            self._agenda.at(now + session.go_away_s, partial(self._announce_end, session.time_left_s))
        if session.limit_s is not None:
            self._agenda.at(now + session.limit_s, partial(self._limit, False))
        self._agenda.start_faults(now)
        if self.scenario.greeting is not None and not self.memory.replies:
            self._answer(Turn(0, _NOTHING, ""), self.scenario.greeting, now)
        return self._agenda.take()

    def configure(
        self, *, vad: ServerVad | None = None, barge_in: bool | None = None, create_response: bool | None = None
    ) -> None:
        """What the client sets up takes the place of the scenario's own."""
        if vad is not None:
            self.hearing.configure(vad)
        self.barge_in = self.barge_in if barge_in is None else barge_in
        self.create_response = self.create_response if create_response is None else create_response

    def hear(self, pcm: bytes, now: float) -> list[Act]:
        """The user's sound, in order."""
        self._agenda.advance(now)
        for edge in self.hearing.push(pcm, now):
            if edge.speaking:
                self._speech_started(edge, now)
            else:
                self._speech_stopped(edge, now)
        self._say_echo(now)
        return self._agenda.take()

    def input_ended(self, now: float) -> list[Act]:
        """The microphone is gone: a turn under way ends here."""
        self._agenda.advance(now)
        edge = self.hearing.abandon()
        if edge is not None:
            self._speech_stopped(edge, now)
        return self._agenda.take()

    def start_activity(self, now: float) -> list[Act]:
        """Manual turns: the user begins to speak."""
        self._agenda.advance(now)
        self.hearing.begin(self.hearing.now_ms)
        if self.barge_in:
            self._interrupt("activity")
        return self._agenda.take()

    def end_activity(self, now: float) -> list[Act]:
        """Manual turns: the user has finished."""
        self._agenda.advance(now)
        if self.hearing.turn_from_ms is not None:
            self._turn_heard(self.hearing.end(self.hearing.now_ms), now, respond=self.create_response)
        return self._agenda.take()

    def commit(self, now: float, *, respond: bool = False) -> list[Act]:
        """All sound since the turn before is the user's turn."""
        self._agenda.advance(now)
        self._turn_heard(self.hearing.end(self.hearing.now_ms), now, respond=respond)
        return self._agenda.take()

    def clear_input(self, now: float) -> list[Act]:
        """Forget sound that belongs to no turn yet."""
        self._agenda.advance(now)
        self.hearing.clear()
        return self._agenda.take()

    def read(self, text: str, now: float, *, respond: bool = True) -> list[Act]:
        """A typed user turn. With `respond` it cuts an open reply and is answered."""
        self._agenda.advance(now)
        self.memory.turns += 1
        turn = Turn(self.memory.turns, _NOTHING, text)
        self.memory.add(Line(role="user", number=turn.number, text=text))
        self._last_turn = self._unanswered = turn
        if respond:
            self._interrupt("text")
            self._answer_turn(turn, now)
        return self._agenda.take()

    def respond(self, now: float, instructions: str | None = None) -> list[Act]:
        """Speak now: the answer to complete tool results, else to the newest unanswered turn, else what the scenario
        says when it is prompted (`{heard}` being the instructions)."""
        self._agenda.advance(now)
        batch = next((batch for batch in self._batches.values() if not batch.open_ids()), None)
        if batch is not None:
            self._answer_results(batch, now)
        elif instructions is None and self._unanswered is not None:
            self._answer_turn(self._unanswered, now)
        elif instructions is None and self._last_turn is not None:
            self._answer(self._last_turn, self.scenario.answer, now)
        else:
            self._answer(Turn(self.memory.turns, _NOTHING, instructions or ""), self.scenario.prompted, now)
        return self._agenda.take()

    def interrupt(self, now: float) -> list[Act]:
        """The client cuts the open reply. Nothing happens when none is open."""
        self._agenda.advance(now)
        self._interrupt("client")
        return self._agenda.take()

    def tool_result(self, call_id: str, name: str, result: object, now: float, *, respond: bool = True) -> list[Act]:
        """One result; `call_id` may be empty where the vendor gives none. Unknown and dead calls are ignored: ask
        `expects_result` first where the vendor complains."""
        self._agenda.advance(now)
        for batch in list(self._batches.values()):
            for call in batch.calls:
                named = call.call_id == call_id if call_id else call.name == name
                if not named or call.call_id in batch.results:
                    continue
                batch.results[call.call_id] = result if isinstance(result, dict) else {"result": result}
                self.memory.add(Line(role="tool", number=batch.number, text=f"{call.name}: {result}"))
                if not batch.open_ids() and respond and self.manners.answers_results:
                    self._answer_results(batch, now)
                return self._agenda.take()
        return self._agenda.take()

    def truncate(self, reply: int, heard_ms: int) -> bool:
        """The client says how much of a reply was heard. False: no such reply."""
        return self.memory.truncate(reply, heard_ms)

    # --------------------------------------------------------------------------------------------- the user's turn

    def _speech_started(self, edge: SpeechEdge, now: float) -> None:
        begun_ms = self.hearing.begin(edge.at_ms, self.hearing.settings.prefix_padding_ms)
        if self._duplex:
            self._listen_and_speak(begun_ms, now)
            return
        self._agenda.did(SpeechStarted(self.memory.turns + 1, round(begun_ms)))
        if self.barge_in:
            self._interrupt("speech")

    def _speech_stopped(self, edge: SpeechEdge, now: float) -> None:
        audio = self.hearing.end(edge.at_ms, self.hearing.settings.silence_ms)
        if not self._duplex:
            self._agenda.did(SpeechStopped(self.memory.turns + 1, edge.noticed_ms))
        self._turn_heard(audio, now, respond=self.create_response and not self._duplex)
        if self._echo is not None:
            reply, echo = self._echo[0], self._echo[1]
            self._echo = None
            tail = echo.flush()
            self._agenda.at(now + self.scenario.pace.latency_ms / 1000, partial(self._say_echoed, reply, tail))
            self._agenda.at(now + self.scenario.pace.latency_ms / 1000, partial(self._mouth.end_generation, reply))

    def _turn_heard(self, audio: Int16Array, now: float, *, respond: bool) -> None:
        self.memory.turns += 1
        number = self.memory.turns
        script = self.scenario.turn_script(number)
        given = script.input_transcript if script and script.input_transcript is not None else None
        given = self.scenario.transcripts.input if given is None else given
        text = f"I heard {len(audio) / OUTPUT_HZ:.1f} s of speech." if given is None else given
        turn = Turn(number, audio, text)
        audio_ms = len(audio) * 1000 // OUTPUT_HZ
        self.memory.add(Line(role="user", number=number, text=text, said_ms=audio_ms))
        self._last_turn = self._unanswered = turn
        if not self._duplex:
            self._agenda.did(TurnHeard(number, audio_ms))
        if text:
            self._agenda.did(InputWords(number, text))
        if respond:
            self._answer_turn(turn, now)

    # ------------------------------------------------------------------------------------------------------ answers

    def _interrupt(self, cause: Cause) -> None:
        """Cut the open reply, and call off the tools that it waits for."""
        if self.manners.cancels_calls:
            for batch in [batch for batch in self._batches.values() if batch.script.blocking and batch.open_ids()]:
                self._agenda.did(CancelCalls(batch.open_ids()))
                del self._batches[batch.number]
        self._mouth.cut(cause)

    def _answer_turn(self, turn: Turn, now: float) -> None:
        self._unanswered = None
        self._agenda.strike_where(lambda fault: fault.turn == turn.number)
        script = self.scenario.turn_script(turn.number)
        if script is None or not script.calls:
            answer = script.answer if script and script.answer is not None else self.scenario.answer
            self._answer(turn, answer, now, thoughts=script.thoughts if script else ())
            return
        self._mouth.when_free(partial(self._call_tools, turn, script), now)

    def _call_tools(self, turn: Turn, script: TurnScript, now: float) -> None:
        self.memory.batches += 1
        number = self.memory.batches
        calls = tuple(
            PlannedCall(call.id or f"call_{number}_{index}", call.name, dict(call.arguments))
            for index, call in enumerate(script.calls, start=1)
        )
        batch = _Batch(number, calls, script, turn)
        reply = self._mouth.open(turn.number, script.thoughts, now)
        batch.reply = reply
        self._agenda.at(now + self.scenario.pace.latency_ms / 1000, partial(self._send_calls, batch, reply))

    def _send_calls(self, batch: _Batch, reply: Reply, now: float) -> None:
        if not reply.alive:
            return
        self._batches[batch.number] = batch
        self._agenda.did(CallTools(reply.number, batch.number, batch.calls, batch.script.blocking))
        if not batch.script.blocking:
            batch.reply = None
            self._mouth.speak(reply, batch.turn, self.scenario.answer, now, {})
        elif self.manners.tools_end_turn:
            batch.reply = None
            self._mouth.end_generation(reply, now)

    def _answer_results(self, batch: _Batch, now: float) -> None:
        del self._batches[batch.number]
        answer = batch.script.answer if batch.script.answer is not None else self.scenario.answer
        results: dict[str, object] = {}
        for result in batch.results.values():
            results.update(result)
        if batch.reply is not None and batch.reply.alive:
            self._mouth.speak(batch.reply, batch.turn, answer, now + self.scenario.pace.latency_ms / 1000, results)
        else:
            self._answer(batch.turn, answer, now, results=results)

    def _answer(
        self, turn: Turn, answer: Answer, now: float, *, thoughts: tuple[str, ...] = (),
        results: dict[str, object] | None = None,
    ) -> None:  # fmt: skip
        def begin(now: float) -> None:
            reply = self._mouth.open(turn.number, thoughts, now)
            self._mouth.speak(reply, turn, answer, now + self.scenario.pace.latency_ms / 1000, results or {})

        self._unanswered = None
        self._mouth.when_free(begin, now)

    # -------------------------------------------------------------------------------------------------------- duplex

    def _listen_and_speak(self, begun_ms: float, now: float) -> None:
        """Speak while the user does: an echo some latency behind, or the whole answer."""
        turn = Turn(self.memory.turns + 1, _NOTHING, "")
        if not isinstance(self.scenario.answer, Repeat) or self.modality == "text":
            self._answer(turn, self.scenario.answer, now)
        elif self._mouth.reply is None:
            reply = self._mouth.open(turn.number, (), now)
            reply.started_at = now + self.scenario.pace.latency_ms / 1000
            self._echo = (reply, Resampler(self.hearing.recording.rate_hz, OUTPUT_HZ), begun_ms)

    def _say_echo(self, now: float) -> None:
        if self._echo is None:
            return
        reply, resampler, position_ms = self._echo
        if not reply.alive:
            self._echo = None
            return
        heard = self.hearing.recording.part(position_ms, self.hearing.now_ms)
        self._echo = (reply, resampler, self.hearing.now_ms)
        pcm = resampler.push(heard)
        self._agenda.at(now + self.scenario.pace.latency_ms / 1000, partial(self._say_echoed, reply, pcm))

    def _say_echoed(self, reply: Reply, pcm: Int16Array, now: float) -> None:
        if reply.alive and len(pcm):
            self._mouth.sound(reply, pcm.tobytes(), reply.said_ms)

    # -------------------------------------------------------------------------------------------- time and accounts

    def _announce_end(self, left_s: float, now: float) -> None:
        self._agenda.did(GoingAway(left_s))
        self._agenda.at(now + left_s, partial(self._limit, True))

    def _limit(self, after_go_away: bool, now: float) -> None:
        self._agenda.did(LimitReached(after_go_away))
