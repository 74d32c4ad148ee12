"""Who may silence the model now, and what must be done for it. A refusal is remembered where it is only "not yet"."""

from __future__ import annotations

import msgspec

from bridge.conversation.barge_in import BargeIn
from bridge.conversation.replies import Replies
from bridge.conversation.stats import ConversationStats
from bridge.conversation.transcript import SpeechPosition
from bridge.core.commands import Command, FinishSpeech, FlushPlayout, FlushReason, InterruptModel

__all__ = ["Interruption"]


class _Postponed(msgspec.Struct, frozen=True, gc=False):
    reply_id: str
    at: float
    reason: FlushReason


class Interruption:
    """Turns a wish for silence into commands, if the policy of the sounding reply allows."""

    def __init__(self, barge_in: BargeIn, speech: SpeechPosition, replies: Replies, stats: ConversationStats) -> None:
        self._barge_in = barge_in
        self._speech = speech
        self._replies = replies
        self._stats = stats
        self._postponed: _Postponed | None = None

    def ask(self, reason: FlushReason, now: float, commands: list[Command]) -> None:
        """Somebody wants silence. The application gets it always; nobody else against a reply's policy."""
        sounding = self._speech.sounding(now)
        if reason is not FlushReason.APPLICATION and sounding is not None and not self._allowed(sounding, reason, now):
            return
        if reason is FlushReason.PROVIDER:
            self._flush(reason, (), commands)
            return
        self._flush(reason, tuple(self._replies.generating), commands)
        self._replies.generating.clear()
        commands.append(InterruptModel())

    def provider_cut(self, reply_id: str | None, now: float, commands: list[Command]) -> list[str]:
        """The provider stopped generating because of the user. A protected reply sounds on as far as it got; its ids
        are returned: no more speech of them will come."""
        if reply_id is not None:
            self._replies.generating.pop(reply_id, None)
        sounding = self._speech.sounding(now)
        if reply_id in self._replies.cut and sounding != reply_id:
            return []  # old news: we were faster, and what sounds now is the answer
        if sounding is not None and not self._allowed(sounding, FlushReason.PROVIDER, now):
            if reply_id is None:
                return []
            commands.append(FinishSpeech(reply_id))
            return [reply_id]
        if reply_id is None and sounding is None and self._speech.drained(now):
            return []
        self._flush(FlushReason.PROVIDER, (reply_id,) if reply_id is not None else (), commands)
        return []

    def due(self, now: float, commands: list[Command], *, user_speaks: bool) -> None:
        """Carry out what was postponed, if the same reply still sounds and the user still wants to be heard."""
        postponed = self._postponed
        if postponed is None or now < postponed.at:
            return
        self._postponed = None
        if user_speaks and postponed.reply_id == self._speech.sounding(now):
            self.ask(postponed.reason, now, commands)

    def reply_started(self, reply_id: str) -> None:
        """The user has been answered: what he wanted to cut then is no more in his way than the answer itself."""
        if self._postponed is not None and self._postponed.reply_id != reply_id:
            self._postponed = None

    def deadline(self) -> float | None:
        return self._postponed.at if self._postponed else None

    def _allowed(self, reply_id: str, reason: FlushReason, now: float) -> bool:
        wait_ms = self._barge_in.wait_ms(reply_id, self._speech.heard_ms(reply_id, now))
        if wait_ms == 0:
            return True
        self._stats.protected += 1
        if wait_ms is not None:
            self._postponed = _Postponed(reply_id, now + wait_ms / 1000, reason)
        return False

    def _flush(self, reason: FlushReason, dead: tuple[str, ...], commands: list[Command]) -> None:
        self._postponed = None
        commands.append(FlushPlayout(reason, dead))
