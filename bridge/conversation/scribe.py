"""What the room reads and what is put on record: both sides' captions in order, and the ledger that they end in."""

from __future__ import annotations

from bridge.conversation.entries import Line
from bridge.conversation.ledger import Ledger
from bridge.conversation.speakers import Spoken
from bridge.conversation.stats import ConversationStats
from bridge.conversation.transcript import AgentCaptions, ClosedReply, SpeechPosition
from bridge.conversation.user_captions import ClosedTurn, UserCaptions
from bridge.core.commands import Command, ShowCaption
from bridge.core.words import Caption, Heard, ParticipantId

__all__ = ["Scribe"]


class Scribe:
    """Captions of an answer wait a little for the words that it answers; a typed line follows the reply that it cut."""

    def __init__(self, speech: SpeechPosition, ledger: Ledger, wait_ms: int, stats: ConversationStats) -> None:
        self.ledger = ledger
        self.agent = AgentCaptions(speech, stats)
        self.user = UserCaptions(stats)
        self._wait_s = wait_ms / 1000
        self._awaited_until: float | None = None
        self._transcripts_come = False
        self._typed: list[Line] = []
        # An object of its own: the ledger must not hold the scribe who holds it, or only the collector would free them.
        ledger.still_open = _OpenLines(self.agent, self.user, self._typed)

    # ----------------------------------------------------------------------------------------------------- the user

    def user_finished(self, now: float) -> None:
        """His words may still be on their way."""
        self.user.finished(now)
        if self._transcripts_come:
            self._awaited_until = now + self._wait_s

    def user_goes_on(self) -> None:
        """Nobody waits for words that are still being spoken."""
        self._awaited_until = None

    def user_words(
        self,
        session: int,
        turn_id: str,
        text: str,
        *,
        final: bool,
        spoken: Spoken | None,
        now: float,
        commands: list[Command],
    ) -> None:
        """The whole text so far of one turn; see `UserCaptions.update`."""
        self._transcripts_come = True
        if text.strip() or final:
            self._awaited_until = None
        _show(self.user.update(session, turn_id, text, final=final, spoken=spoken, now=now), commands)

    def will_be_heard_again(self) -> None:
        """The next session hears what the user said since the model's last words: it is not said twice."""
        self.user.will_be_heard_again()
        self.ledger.will_be_heard_again()

    def user_typed(self, participant: ParticipantId, text: str, now: float, *, cuts: bool) -> None:
        """`cuts`: how much was heard of what it cut is told by the next event, and comes first in the record."""
        line = Line(speaker=participant, text=text, at=now, ended_at=now, typed=True)
        if cuts:
            self._typed.append(line)
        else:
            self.ledger.said(line)

    def take_typed(self) -> list[Line]:
        """Typed lines that wait for the cut they made."""
        typed = list(self._typed)
        self._typed.clear()
        return typed

    # ----------------------------------------------------------------------------------------------------- the agent

    def cut(self, reply: Heard, commands: list[Command]) -> ClosedReply:
        """The reply was silenced. Returns what was heard of it."""
        _show(self.agent.cut(reply.reply_id, reply.heard_ms), commands)
        return self.agent.closed[-1]

    def release(self, now: float, commands: list[Command]) -> None:
        """Show what has been heard by now, unless the user's words come first."""
        if self._awaited_until is None or now >= self._awaited_until:
            _show(self.agent.release(now), commands)

    # ---------------------------------------------------------------------------------------------------------- time

    def due(self, now: float, commands: list[Command], *, sounding: bool) -> None:
        _show(self.user.due(now), commands)
        at = self.agent.deadline(sounding)
        if at is not None and now >= at:
            self.release(now, commands)

    def deadline(self, *, sounding: bool) -> float | None:
        agent_at, user_at = self.agent.deadline(sounding), self.user.deadline()
        if agent_at is not None and self._awaited_until is not None:
            agent_at = max(agent_at, self._awaited_until)
        return min((at for at in (agent_at, user_at) if at is not None), default=None)

    def end(self, now: float, commands: list[Command]) -> None:
        """The call is over: close every segment, write down everything."""
        _show(self.user.end(), commands)
        _show(self.agent.end(now), commands)
        self.record(now)
        for line in self.take_typed():
            self.ledger.said(line)

    def record(self, now: float) -> None:
        """Write down the segments that were closed."""
        if not self.user.closed and not self.agent.closed:
            return
        for turn in self.user.closed:
            self.ledger.said(_line_of_turn(turn))
        for reply in self.agent.closed:
            if reply.text or reply.heard_ms:
                self.ledger.said(_line_of_reply(reply, now if reply.ended_at is None else reply.ended_at, now))
        self.user.closed.clear()
        self.agent.closed.clear()


class _OpenLines:
    """What is being said, as far as it was heard or understood by now."""

    def __init__(self, agent: AgentCaptions, user: UserCaptions, typed: list[Line]) -> None:
        self._agent = agent
        self._user = user
        self._typed = typed

    def __call__(self, now: float, *, ahead: bool = False) -> list[Line]:
        turns = [_line_of_turn(turn) for turn in self._user.so_far()]
        replies = self._agent.so_far(now, ahead=ahead)
        return [*turns, *(_line_of_reply(reply, None, now) for reply in replies), *self._typed]


def _show(captions: list[Caption], commands: list[Command]) -> None:
    commands.extend(ShowCaption(caption) for caption in captions)


def _line_of_turn(turn: ClosedTurn) -> Line:
    return Line(speaker=turn.speaker, text=turn.text, at=turn.began_at, ended_at=turn.ended_at)


def _line_of_reply(reply: ClosedReply, ended_at: float | None, now: float) -> Line:
    began_at = now - reply.heard_ms / 1000 if reply.began_at is None else reply.began_at
    return Line(
        speaker=None,
        text=reply.text,
        at=began_at,
        ended_at=ended_at,
        heard_ms=reply.heard_ms,
        interrupted=reply.interrupted,
        lost=reply.lost,
    )
