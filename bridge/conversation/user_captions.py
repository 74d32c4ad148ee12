"""Captions of the people: one segment per turn, as it grows."""

from __future__ import annotations

import msgspec

from bridge.conversation.speakers import Spoken
from bridge.conversation.stats import ConversationStats
from bridge.core.words import Caption, ParticipantId

__all__ = ["ClosedTurn", "UserCaptions"]

_STALE_TURN_S = 12.0  # a turn without news for this long is closed as it stands
_MAX_OPEN = 8
_REMEMBERED = 64


class ClosedTurn(msgspec.Struct, frozen=True):
    """A user's segment has ended, or stands as it is."""

    speaker: ParticipantId
    text: str
    began_at: float
    ended_at: float | None
    """None: it goes on."""


class _Turn:
    __slots__ = ("again", "began_at", "ended_at", "fresh_at", "id", "key", "session", "speaker", "text")

    def __init__(self, key: str, session: int, spoken: Spoken) -> None:
        self.id = self.key = key  # the segment's, which stays, and that of the turn which fills it
        self.session = session
        self.again = False  # the next session hears it once more
        self.speaker = spoken.speaker
        self.began_at = spoken.since
        self.ended_at = spoken.until
        self.text = ""
        self.fresh_at = 0.0


class UserCaptions:
    """One segment per turn of the user, replaced as it grows, closed exactly once."""

    def __init__(self, stats: ConversationStats) -> None:
        self._stats = stats
        self._open: dict[str, _Turn] = {}
        self._closed: dict[str, None] = {}
        self.closed: list[ClosedTurn] = []
        """Turns closed since the caller last emptied this list."""

    def is_new(self, session: int, turn_id: str) -> bool:
        """Has nothing of this turn been shown yet?"""
        key = f"user-{session}-{turn_id}"
        return key not in self._open and key not in self._closed

    def update(
        self, session: int, turn_id: str, text: str, *, final: bool, spoken: Spoken | None, now: float
    ) -> list[Caption]:
        """The turn's whole text so far. `spoken` is needed with the first words of a turn only."""
        key = f"user-{session}-{turn_id}"
        if key in self._closed:
            self._stats.late_text += 1
            return []
        turn = self._open.get(key)
        if turn is None:
            if not text.strip() or spoken is None:
                return []
            turn = self._open[key] = self._heard_again(key, session) or _Turn(key, session, spoken)
        turn.fresh_at = now
        changed = bool(text) and text != turn.text
        turn.text = text or turn.text
        if final:
            return self._close(turn)
        captions = [Caption(segment_id=turn.id, speaker=turn.speaker, text=turn.text, final=False)] if changed else []
        if len(self._open) > _MAX_OPEN:
            self._stats.abandoned_segments += 1
            captions += self._close(next(iter(self._open.values())))
        return captions

    def finished(self, now: float) -> None:
        """The user has stopped speaking; his last words may still be on their way."""
        for turn in self._open.values():
            if turn.ended_at is None:
                turn.ended_at = now

    def will_be_heard_again(self) -> None:
        """The next session hears these turns from their beginning: its words for them take the place of these."""
        for turn in self._open.values():
            turn.again = True

    def so_far(self) -> list[ClosedTurn]:
        """The turns whose words are not final yet, as far as they are known."""
        return [ClosedTurn(turn.speaker, turn.text, turn.began_at, turn.ended_at) for turn in self._open.values()]

    def due(self, now: float) -> list[Caption]:
        """Close the turns that nobody has ended."""
        captions: list[Caption] = []
        for turn in tuple(self._open.values()):
            if now >= turn.fresh_at + _STALE_TURN_S:
                self._stats.abandoned_segments += 1
                captions += self._close(turn)
        return captions

    def end(self) -> list[Caption]:
        """The call is over."""
        return [caption for turn in tuple(self._open.values()) for caption in self._close(turn)]

    def deadline(self) -> float | None:
        return min((turn.fresh_at + _STALE_TURN_S for turn in self._open.values()), default=None)

    def _heard_again(self, key: str, session: int) -> _Turn | None:
        """The turn of a lost session that these words repeat; its segment goes on with them."""
        turn = next((turn for turn in self._open.values() if turn.again and turn.session != session), None)
        if turn is not None:
            del self._open[turn.key]
            turn.key, turn.session, turn.again = key, session, False
        return turn

    def _close(self, turn: _Turn) -> list[Caption]:
        del self._open[turn.key]
        self._closed[turn.key] = None
        if len(self._closed) > _REMEMBERED:
            del self._closed[next(iter(self._closed))]
        ended_at = turn.fresh_at if turn.ended_at is None else turn.ended_at
        self.closed.append(ClosedTurn(turn.speaker, turn.text, turn.began_at, ended_at))
        return [Caption(segment_id=turn.id, speaker=turn.speaker, text=turn.text, final=True)]
