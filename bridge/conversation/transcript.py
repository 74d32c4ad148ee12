"""Captions of both sides: the agent's in step with his speech, the user's as they grow.

The text of a reply may lead its speech by seconds. Each piece is laid onto the speech: never before the position that
had been generated when the piece came, and never faster than the voice speaks. Once all of the speech is there, the
whole text is spread over its true length. Nobody is shown a word that nobody heard.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from bridge.conversation.stats import ConversationStats
from bridge.core.words import Caption, ParticipantId

__all__ = ["AgentCaptions", "ClosedReply", "ClosedTurn", "SpeechPosition", "UserCaptions"]

_STEP_S = 0.1  # captions follow the speech this closely
_GRACE_S = 1.0  # text may come this much after the end of its speech
_STALE_TURN_S = 12.0  # a user's turn without news for this long is closed as it stands
_MS_PER_CHAR = 65.0  # until the call's own voice is known
_MS_PER_IDEOGRAPH = 200.0
_FIRST_IDEOGRAPH = 0x2E80
_MAX_OPEN = 8
_REMEMBERED = 64


class SpeechPosition(Protocol):
    """What captions need to know of the playout."""

    def heard_ms(self, reply_id: str, now: float) -> float: ...
    def generated_ms(self, reply_id: str) -> float: ...
    def sounding(self, now: float) -> str | None: ...
    def drained(self, now: float) -> bool: ...


class ClosedReply(msgspec.Struct, frozen=True):
    """A reply's segment has ended: what was shown of it is what was heard."""

    reply_id: str
    text: str
    heard_ms: float
    interrupted: bool


class ClosedTurn(msgspec.Struct, frozen=True):
    """A user's segment has ended."""

    speaker: ParticipantId
    text: str


class _Segment:
    __slots__ = ("ends_at", "generated", "id", "pieces", "reply_id", "shown", "text", "text_done", "written")

    def __init__(self, segment_id: str, reply_id: str) -> None:
        self.id = segment_id
        self.reply_id = reply_id
        self.text = ""
        self.pieces: list[tuple[int, float]] = []  # where each piece of text ends, and the speech it may not precede
        self.shown = 0
        self.written = False  # no speech belongs to it
        self.generated = False  # all of its speech has come
        self.text_done = False
        self.ends_at: float | None = None  # its speech has been heard: late text has until then


class AgentCaptions:
    """The segments of the model's replies. Each is opened by its first word and closed exactly once."""

    def __init__(self, speech: SpeechPosition, stats: ConversationStats) -> None:
        self._stats = stats
        self._speech = speech
        self._open: dict[str, _Segment] = {}
        self._closed: dict[str, None] = {}
        self._heard: dict[str, float] = {}  # replies heard to their end, and until when their words may come
        self._ms_per_char = 0.0
        self._stepped_at = float("-inf")
        self.closed: list[ClosedReply] = []
        """Segments closed since the caller last emptied this list."""

    def add(self, session: int, reply_id: str, delta: str, *, final: bool, written: bool = False) -> None:
        """A further piece of a reply's text. `written`: it has no speech and is shown at once."""
        segment = self._open.get(reply_id)
        if segment is None:
            if reply_id in self._closed:
                if delta:
                    self._stats.late_text += 1
                return
            if not delta:
                return
            segment = self._open[reply_id] = _Segment(f"agent-{session}-{reply_id}", reply_id)
            segment.ends_at = self._heard.get(reply_id)
        if delta:
            segment.text += delta
            segment.pieces.append((len(segment.text), self._speech.generated_ms(reply_id)))
        segment.written = segment.written or written
        segment.text_done = segment.text_done or final

    def generated(self, reply_id: str) -> None:
        """All of the reply's speech has come."""
        if reply_id in self._open:
            self._open[reply_id].generated = True

    def turn_done(self, reply_id: str, now: float) -> None:
        """The provider closed the turn: no more text. Without any speech, what was written is shown."""
        segment = self._open.get(reply_id)
        if segment is not None:
            segment.generated = segment.text_done = True
            segment.written = segment.written or self._speech.generated_ms(reply_id) == 0

    def heard(self, reply_id: str, now: float) -> None:
        """The reply's speech has been heard to its end."""
        self._heard.pop(reply_id, None)
        self._heard[reply_id] = now + _GRACE_S
        if len(self._heard) > _REMEMBERED:
            del self._heard[next(iter(self._heard))]
        segment = self._open.get(reply_id)
        if segment is not None:
            segment.generated = True
            segment.ends_at = now + _GRACE_S

    def cut(self, reply_id: str, heard_ms: float) -> list[Caption]:
        """The reply was interrupted: show the last word that was heard and close."""
        segment = self._open.get(reply_id)
        if segment is None:
            self._remember(reply_id)
            self.closed.append(ClosedReply(reply_id, "", heard_ms, True))
            return []
        upto = max(segment.shown, self._audible_chars(segment, heard_ms))
        return self._close(segment, upto, heard_ms, interrupted=True)

    def release(self, now: float) -> list[Caption]:
        """What may be shown now, in order."""
        captions: list[Caption] = []
        self._stepped_at = now
        for segment in tuple(self._open.values()):
            if segment.written or segment.ends_at is not None:
                # Heard to the end: all that is known of it may be read.
                if segment.text_done or (segment.ends_at is not None and now >= segment.ends_at):
                    heard_ms = self._speech.heard_ms(segment.reply_id, now)
                    self._learn(segment, heard_ms)
                    captions += self._close(segment, len(segment.text), heard_ms, interrupted=False)
                else:
                    captions += self._show(segment, len(segment.text))
            else:
                heard_ms = self._speech.heard_ms(segment.reply_id, now)
                if heard_ms > 0:
                    captions += self._show(segment, self._audible_chars(segment, heard_ms))
        while len(self._open) > _MAX_OPEN:
            oldest = next(iter(self._open.values()))
            self._stats.abandoned_segments += 1
            captions += self._close(oldest, oldest.shown, self._speech.heard_ms(oldest.reply_id, now), interrupted=True)
        return captions

    def end(self, now: float) -> list[Caption]:
        """The call is over: close what is open where the speech stands."""
        captions: list[Caption] = []
        for segment in tuple(self._open.values()):
            heard_ms = self._speech.heard_ms(segment.reply_id, now)
            whole = segment.written or segment.ends_at is not None
            upto = len(segment.text) if whole else max(segment.shown, self._audible_chars(segment, heard_ms))
            captions += self._close(segment, upto, heard_ms, interrupted=not whole)
        return captions

    def deadline(self, now_sounding: bool) -> float | None:
        """When to call `release` next."""
        soonest: float | None = None
        for segment in self._open.values():
            at: float | None = None
            ended = segment.written or segment.ends_at is not None
            if ended and (segment.text_done or segment.shown < len(segment.text)):
                at = self._stepped_at + _STEP_S
            elif segment.ends_at is not None:
                at = segment.ends_at
            elif now_sounding and segment.shown < len(segment.text):
                at = self._stepped_at + _STEP_S
            if at is not None and (soonest is None or at < soonest):
                soonest = at
        return soonest

    def _audible_chars(self, segment: _Segment, heard_ms: float) -> int:
        """How much of the text has been spoken after `heard_ms`, at a word's end."""
        text = segment.text
        generated_ms = self._speech.generated_ms(segment.reply_id)
        if segment.generated and heard_ms >= generated_ms > 0:
            return len(text)
        if segment.generated and generated_ms > 0:
            ms_per_char = generated_ms / max(1, len(text))
        elif self._ms_per_char:
            ms_per_char = self._ms_per_char
        else:
            ms_per_char = _MS_PER_IDEOGRAPH if any(ord(c) >= _FIRST_IDEOGRAPH for c in text[:8]) else _MS_PER_CHAR
        spoken = int(heard_ms / ms_per_char)
        limit = 0
        for end, not_before_ms in segment.pieces:
            if not_before_ms > heard_ms:
                break
            limit = end
        return _word_end(text, min(spoken, limit), open_end=not segment.text_done)

    def _show(self, segment: _Segment, upto: int) -> list[Caption]:
        if upto <= segment.shown:
            return []
        piece = segment.text[segment.shown : upto]
        segment.shown = upto
        return [Caption(segment_id=segment.id, speaker=None, text=piece, final=False)]

    def _close(self, segment: _Segment, upto: int, heard_ms: float, *, interrupted: bool) -> list[Caption]:
        piece = segment.text[segment.shown : upto]
        opened = segment.shown > 0
        del self._open[segment.reply_id]
        self._remember(segment.reply_id)
        self.closed.append(ClosedReply(segment.reply_id, segment.text[:upto], heard_ms, interrupted))
        if not piece and not opened:
            return []
        return [Caption(segment_id=segment.id, speaker=None, text=piece, final=True, interrupted=interrupted)]

    def _remember(self, reply_id: str) -> None:
        self._closed[reply_id] = None
        if len(self._closed) > _REMEMBERED:
            del self._closed[next(iter(self._closed))]

    def _learn(self, segment: _Segment, heard_ms: float) -> None:
        if heard_ms < 500 or len(segment.text) < 5:
            return
        seen = min(400.0, max(20.0, heard_ms / len(segment.text)))
        self._ms_per_char = seen if not self._ms_per_char else 0.7 * self._ms_per_char + 0.3 * seen


def _word_end(text: str, spoken: int, *, open_end: bool) -> int:
    """The end of the last word of which at least half has been spoken. Ideographs are words of their own."""
    if spoken <= 0:
        return 0
    if spoken >= len(text):
        return len(text)
    start = spoken
    while start > 0 and not _breaks(text[start - 1]):
        start -= 1
    end = spoken
    while end < len(text) and not _breaks(text[end]):
        end += 1
    if end == len(text) and open_end:
        end = start  # the word may still be growing
    elif spoken * 2 < start + end:
        end = start
    while end > 0 and text[end - 1].isspace():
        end -= 1  # a space belongs to the word that follows
    return end


def _breaks(char: str) -> bool:
    return char.isspace() or ord(char) >= _FIRST_IDEOGRAPH


class _Turn:
    __slots__ = ("fresh_at", "id", "speaker", "text")

    def __init__(self, segment_id: str, speaker: ParticipantId) -> None:
        self.id = segment_id
        self.speaker = speaker
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
        self, session: int, turn_id: str, text: str, *, final: bool, speaker: ParticipantId | None, now: float
    ) -> list[Caption]:
        """The turn's whole text so far. `speaker` is needed with the first words of a turn only."""
        key = f"user-{session}-{turn_id}"
        if key in self._closed:
            self._stats.late_text += 1
            return []
        turn = self._open.get(key)
        if turn is None:
            if not text.strip() or speaker is None:
                return []
            turn = self._open[key] = _Turn(key, speaker)
        turn.fresh_at = now
        changed = bool(text) and text != turn.text
        turn.text = text or turn.text
        if final:
            return self._close(turn)
        captions = [Caption(segment_id=key, speaker=turn.speaker, text=turn.text, final=False)] if changed else []
        if len(self._open) > _MAX_OPEN:
            self._stats.abandoned_segments += 1
            captions += self._close(next(iter(self._open.values())))
        return captions

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

    def _close(self, turn: _Turn) -> list[Caption]:
        del self._open[turn.id]
        self._closed[turn.id] = None
        if len(self._closed) > _REMEMBERED:
            del self._closed[next(iter(self._closed))]
        self.closed.append(ClosedTurn(turn.speaker, turn.text))
        return [Caption(segment_id=turn.id, speaker=turn.speaker, text=turn.text, final=True)]
