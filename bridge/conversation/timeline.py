"""How soon each turn of the user is answered: events in, one timeline for each turn out. No I/O, no clock, no audio."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from bridge.core.words import LocalSpeechStopped, PlayoutFlushed, ReplyAudible, TextReceived, TurnTimeline
from providers.contract import (
    Interrupted,
    ReplyStarted,
    ToolCall,
    TurnComplete,
    UserSpeechStarted,
    UserSpeechStopped,
)

__all__ = ["SpeechEnded", "TimelineStats", "Timelines"]

SpeechEnded = Callable[[], float | None]
"""When the last speech on the bus ended, as our own ears judge it, on the call's clock, s; None if none is known."""

_FORGOTTEN_S = 60.0
"""A turn that nobody has answered for so long is not what a later reply answers."""


class TimelineStats(msgspec.Struct):
    turns: int = 0
    """Turns of the user that were answered, or ended without a sound."""
    soundless_turns: int = 0
    """Those of which nothing was heard: cut before, answered in writing, or not at all."""
    last_audible_ms_now: int = 0
    """From the end of the user's speech to the first sound of the answer, in the last turn that had one."""
    worst_audible_ms: int = 0
    total_audible_ms: int = 0
    """Of all turns with a sound together: divided by their number, the mean."""


class _Turn:
    __slots__ = ("called", "ended_at", "known_at", "replies", "reply_at", "speech_at", "typed")

    def __init__(self, ended_at: float, known_at: float | None, *, typed: bool = False) -> None:
        self.ended_at = ended_at
        self.known_at = known_at
        self.typed = typed
        self.replies: set[str] = set()
        self.reply_at: float | None = None
        self.speech_at: float | None = None
        self.called = False


class Timelines:
    """Follows one turn at a time, from the end of the user's speech to the first sound of the answer.

    Args: speech_ended says when the user was last heard. Where the provider has no event for the end of speech, a
    reply to somebody who was heard since the last one tells of a turn.
    """

    def __init__(self, speech_ended: SpeechEnded = lambda: None) -> None:
        self.stats = TimelineStats()
        self.awaits_speech = False
        """A reply to the turn has begun, and no chunk of its speech has come: call `speech_came` with the next."""
        self._speech_ended = speech_ended
        self._turn: _Turn | None = None
        self._answered_at = float("-inf")  # what was said before is answered, or nobody's turn any more

    def speech_came(self, reply_id: str, now: float) -> None:
        """A chunk of speech of the leading session."""
        turn = self._turn
        if turn is not None and reply_id in turn.replies:
            turn.speech_at = now
            self.awaits_speech = False

    def handle(self, event: object, now: float, *, ends_turns: bool) -> TurnTimeline | None:
        """One event in its order; a timeline when its turn is over. `ends_turns`: our own detection does."""
        turn = self._turn
        match event:
            case UserSpeechStarted():
                if turn is not None and turn.reply_at is None:
                    self._forget()  # he goes on: it was a pause
            case UserSpeechStopped():
                return self._user_stopped(now)
            case LocalSpeechStopped() if ends_turns:
                return self._user_stopped(now)
            case TextReceived(text=text) if text.strip():
                before = self._over(now)
                self._turn = _Turn(now, now, typed=True)
                return before
            case ReplyStarted(reply_id=reply_id):
                self._reply_started(reply_id, now)
            case ReplyAudible(reply_id=reply_id):
                if turn is not None and reply_id in turn.replies:
                    return self._over(now, audible_at=now)
                self._answered_at = now
            case ToolCall() if turn is not None:
                turn.called = True  # the answer is in a reply to come
            case TurnComplete(reply_id=reply_id) | Interrupted(reply_id=reply_id) if turn is not None:
                cut = isinstance(event, Interrupted)
                if reply_id in turn.replies and (cut or not (turn.called or turn.speech_at is not None)):
                    return self._over(now)
            case PlayoutFlushed(heard=heard) if turn is not None:
                if any(reply.reply_id in turn.replies for reply in heard):
                    return self._over(now)
            case _:
                pass
        return None

    def _user_stopped(self, now: float) -> TurnTimeline | None:
        turn = self._turn
        if turn is not None and not turn.typed and turn.known_at is None:
            turn.known_at = now  # told after the reply had begun
            return None
        before = self._over(now)
        ended_at = self._speech_ended()
        if ended_at is None or not self._answered_at < ended_at <= now:
            ended_at = now
        self._turn = _Turn(ended_at, now)
        return before

    def _reply_started(self, reply_id: str, now: float) -> None:
        if self._turn is not None and now - self._turn.ended_at > _FORGOTTEN_S:
            self._forget()
        turn = self._turn
        if turn is None:
            ended_at = self._speech_ended()
            if ended_at is None or ended_at <= self._answered_at or now - ended_at > _FORGOTTEN_S:
                return  # a greeting, or more of an answer
            turn = self._turn = _Turn(min(ended_at, now), None)
        turn.replies.add(reply_id)
        if turn.reply_at is None:
            turn.reply_at = now
        self.awaits_speech = turn.speech_at is None

    def _forget(self) -> None:
        self._turn = None
        self.awaits_speech = False

    def _over(self, now: float, audible_at: float | None = None) -> TurnTimeline | None:
        turn = self._turn
        self._forget()
        if turn is None or turn.reply_at is None:
            return None
        self._answered_at = now

        def since(at: float | None) -> int | None:
            return None if at is None else round((at - turn.ended_at) * 1000)

        stats, audible_ms = self.stats, since(audible_at)
        stats.turns += 1
        if audible_ms is None:
            stats.soundless_turns += 1
        else:
            stats.last_audible_ms_now = audible_ms
            stats.worst_audible_ms = max(stats.worst_audible_ms, audible_ms)
            stats.total_audible_ms += audible_ms
        return TurnTimeline(
            turn=stats.turns,
            speech_ended_at=turn.ended_at,
            turn_known_ms=since(turn.known_at),
            reply_started_ms=since(turn.reply_at),
            first_speech_ms=since(turn.speech_at),
            audible_ms=audible_ms,
            typed=turn.typed,
        )
