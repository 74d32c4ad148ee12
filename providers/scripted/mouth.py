"""The mouth of a scripted mind: one reply at a time, said piece by piece, cut when somebody interrupts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import msgspec

from providers.scripted.acts import (
    Cause,
    Cut,
    GenerationDone,
    ReplyBegan,
    Resumable,
    Say,
    Think,
    TurnDone,
    TurnUsage,
    Words,
    Written,
)
from providers.scripted.agenda import Agenda
from providers.scripted.hearing import OUTPUT_HZ, Hearing
from providers.scripted.memory import Line, Memory
from providers.scripted.scenario import Answer, Scenario
from providers.scripted.voice import Piece, Utterance, schedule, schedule_written, utter
from providers.signal.resample import Int16Array

__all__ = ["Mouth", "Reply", "Turn"]

_INPUT_TOKENS_PER_S = 10
_OUTPUT_TOKENS_PER_S = 20


class Turn(msgspec.Struct, frozen=True):
    """A complete user turn."""

    number: int
    audio: Int16Array
    """At 24 kHz; empty when it was typed."""
    text: str


class Reply:
    """A reply that is open: being generated, waiting for tools, or believed to be playing."""

    __slots__ = ("alive", "generating", "line", "number", "pieces", "said_ms", "started_at", "turn", "utterance")

    def __init__(self, number: int, turn: int, line: Line, now: float) -> None:
        self.number = number
        self.turn = turn
        self.line = line
        self.alive = True
        self.generating = True
        self.said_ms = 0
        self.started_at = now
        self.utterance: Utterance | None = None
        self.pieces: list[Piece] = []


class Mouth:
    """Says what it is given, by the scenario's pace.

    It shares the agenda, the memory and the hearing with its mind, and the tool calls that are open there: while there
    are any, a handle would lose them.
    """

    def __init__(
        self,
        scenario: Scenario,
        agenda: Agenda,
        memory: Memory,
        hearing: Hearing,
        open_calls: Mapping[int, object],
        *,
        written: bool,
        turn_done: Literal["playback", "generation"],
    ) -> None:
        self.reply: Reply | None = None
        self.written = written
        """Replies from here on are text."""
        self._scenario = scenario
        self._agenda = agenda
        self._memory = memory
        self._waits_for_playback = turn_done == "playback" and scenario.mode != "duplex"
        # Shared objects, not callbacks into the mind: those would be a cycle, which only the collector frees.
        self._hearing = hearing
        self._open_calls = open_calls
        self._waiting: list[Callable[[float], None]] = []
        self._counted_ms = 0.0

    def when_free(self, begin: Callable[[float], None], now: float) -> None:
        """One reply at a time: the next one waits for the open one."""
        if self.reply is None:
            begin(now)
        else:
            self._waiting.append(begin)

    def open(self, turn: int, thoughts: tuple[str, ...], now: float) -> Reply:
        """A reply begins."""
        self._memory.replies += 1
        number = self._memory.replies
        reply = Reply(number, turn, self._memory.add(Line(role="assistant", number=number)), now)
        self.reply = reply
        if self._scenario.session.resumption:
            self._agenda.did(Resumable(False))
        self._agenda.did(ReplyBegan(number, turn))
        for text in (*self._scenario.thoughts, *thoughts):
            self._agenda.did(Think(number, text))
        return reply

    def speak(self, reply: Reply, turn: Turn, answer: Answer, at: float, results: dict[str, object]) -> None:
        """Plan all parts of the reply from `at` on."""
        scenario = self._scenario
        number, prompted = reply.number, scenario.prompted
        utterance = utter(
            answer, heard=turn.audio, heard_text=turn.text, prompted=prompted, reply=number, results=results
        )
        reply.utterance = utterance
        reply.started_at = at
        if self.written:
            reply.pieces = schedule_written(utterance.text, scenario.pace)
        else:
            words = scenario.transcripts.output and bool(utterance.text)
            pieces = scenario.transcripts.pieces
            reply.pieces = schedule(utterance, scenario.pace, reply=number, words=words, pieces=pieces)
        reply.pieces.reverse()
        self._agenda.strike_where(lambda fault: fault.reply == number and not fault.speech_ms)
        self._agenda.at(at, partial(self._say, reply))

    def sound(self, reply: Reply, pcm: bytes, speech_ms: int, *, late: bool = False) -> None:
        """Say this at once."""
        self._agenda.did(Say(reply.number, pcm, speech_ms, late))
        if late:
            return
        reply.said_ms = speech_ms + len(pcm) // 2 * 1000 // OUTPUT_HZ
        reply.line.said_ms = reply.said_ms
        self._agenda.strike_where(lambda fault: fault.reply == reply.number and 0 < fault.speech_ms <= reply.said_ms)

    def end_generation(self, reply: Reply, now: float) -> None:
        """All of the reply was said."""
        if not reply.alive:
            return
        reply.generating = False
        if self.written:
            self._agenda.did(Written(reply.number, "", True))
        elif reply.line.text:
            self._agenda.did(Words(reply.number, "", True))
        self._agenda.did(GenerationDone(reply.number))
        played_at = reply.started_at + reply.said_ms / 1000
        if self._waits_for_playback and played_at > now:
            self._agenda.at(played_at, partial(self._end_turn, reply))
        else:
            self._end_turn(reply, now)

    def cut(self, cause: Cause) -> None:
        """The open reply is dead, and so is everything that waits behind it."""
        self._waiting.clear()
        reply = self.reply
        if reply is None:
            return
        reply.alive = False
        self.reply = None
        self._agenda.did(Cut(reply.number, reply.said_ms, cause, reply.generating))
        late = [piece for piece in reversed(reply.pieces) if not piece.delta][: self._scenario.late_chunks]
        for piece in late:
            self._say_piece(reply, piece, late=True)
        if self._scenario.mode != "duplex":
            self._agenda.did(TurnDone(reply.number, "interrupted", self._usage(reply), cause))
        self._resumable()

    def _say(self, reply: Reply, now: float) -> None:
        """Every part that is due, then the timer for the next one."""
        if not reply.alive:
            return
        while reply.pieces and reply.started_at + reply.pieces[-1].due_s <= now + 1e-9:
            self._say_piece(reply, reply.pieces.pop())
        if reply.pieces:
            self._agenda.at(reply.started_at + reply.pieces[-1].due_s, partial(self._say, reply))
        else:
            self.end_generation(reply, now)

    def _say_piece(self, reply: Reply, piece: Piece, *, late: bool = False) -> None:
        assert reply.utterance is not None, "a reply has parts only once it has an utterance"
        if piece.delta:
            reply.line.text += piece.delta
            self._agenda.did((Written if self.written else Words)(reply.number, piece.delta))
            return
        pcm = reply.utterance.pcm[piece.first : piece.last].tobytes()
        self.sound(reply, pcm, piece.speech_ms, late=late)

    def _end_turn(self, reply: Reply, now: float) -> None:
        if not reply.alive:
            return
        reply.alive = False
        self.reply = None
        if self._scenario.mode != "duplex":
            self._agenda.did(TurnDone(reply.number, "completed", self._usage(reply)))
        if self._waiting:
            self._waiting.pop(0)(now)
        else:
            self._resumable()

    def _resumable(self) -> None:
        if self._scenario.session.resumption and not self._open_calls:
            self._agenda.did(Resumable(True))

    def _usage(self, reply: Reply) -> TurnUsage:
        given = self._scenario.usage
        heard_ms = self._hearing.now_ms
        counted_ms, self._counted_ms = heard_ms - self._counted_ms, heard_ms
        audio_in = round(counted_ms * _INPUT_TOKENS_PER_S / 1000)
        audio_out = round(reply.said_ms * _OUTPUT_TOKENS_PER_S / 1000)
        return TurnUsage(
            input_tokens=audio_in if given.input_tokens is None else given.input_tokens,
            output_tokens=audio_out if given.output_tokens is None else given.output_tokens,
            cached_tokens=given.cached_tokens,
            thought_tokens=given.thought_tokens,
            input_audio_tokens=audio_in if given.input_tokens is None else given.input_tokens,
            output_audio_tokens=audio_out if given.output_tokens is None else given.output_tokens,
        )
