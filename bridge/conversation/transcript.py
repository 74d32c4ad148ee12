"""Captions of the agent, in step with his speech.

The text of a reply may lead its speech by seconds. Each piece is laid onto the speech: never before the position that
had been generated when the piece came, and never faster than the voice speaks. Once all of the speech is there, the
whole text is spread over its true length. Nobody is shown a word that nobody heard.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from bridge.conversation.stats import ConversationStats
from bridge.core.words import Caption

__all__ = ["AgentCaptions", "ClosedReply", "SpeechPosition"]

_WORDLESS_S = 3.0  # after its speech a reply without words is put on record as it is
_STEP_S = 0.1  # captions follow the speech this closely
_GRACE_S = 1.0  # text may come this much after the end of its speech
_MS_PER_CHAR = 65.0  # until the call's own voice is known
_MS_PER_IDEOGRAPH = 200.0
_FIRST_IDEOGRAPH = 0x2E80
_LEADS_MS = 30_000.0  # no text leads its speech by more: in a long reply a wrong guess of its pace stays this small
_PART_CHARS = 2000  # a reply that goes on longer than this does so in a segment of its own
_AHEAD_CHARS = 20_000  # text that may wait to be heard: half an hour of speech
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
    began_at: float | None = None
    """When it began to sound, s; None: it never did."""
    ended_at: float | None = None
    """When its last sound was heard, s; None: now."""
    lost: bool = False
    """Its session ended before it did."""


class _Segment:
    __slots__ = (
        "base_ms",
        "began_at",
        "ends_at",
        "first_id",
        "generated",
        "id",
        "lost",
        "part",
        "pieces",
        "reply_id",
        "shown",
        "text",
        "text_done",
        "written",
    )

    def __init__(self, segment_id: str, reply_id: str) -> None:
        self.id = self.first_id = segment_id
        self.part = 1
        self.base_ms = 0.0  # of the reply's speech: where this part of it begins
        self.began_at: float | None = None
        self.lost = False  # more of it was to come: its text may say more than its speech
        self.reply_id = reply_id
        self.text = ""
        self.pieces: list[tuple[int, float]] = []  # where each piece of text ends, and the speech it may not precede
        self.shown = 0
        self.written = False  # no speech belongs to it
        self.generated = False  # all of its speech has come
        self.text_done = False
        self.ends_at: float | None = None  # its speech has been heard: late text has until then

    @property
    def ended(self) -> bool:
        """Nothing of it will sound any more."""
        return self.written or self.ends_at is not None


class AgentCaptions:
    """The segments of the model's replies. Each is opened by its first word and closed exactly once."""

    def __init__(self, speech: SpeechPosition, stats: ConversationStats) -> None:
        self._stats = stats
        self._speech = speech
        self._open: dict[str, _Segment] = {}
        self._closed: dict[str, None] = {}
        self._heard: dict[str, float] = {}  # replies heard to their end, and until when their words may come
        self._wordless: dict[str, float] = {}  # of these: those that have no words yet, and when they ended
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
            self._wordless.pop(reply_id, None)
            segment.ends_at = self._heard.get(reply_id)
        if len(segment.text) - segment.shown + len(delta) > _AHEAD_CHARS:
            self._stats.dropped_text += 1
        elif delta:
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

    def lost(self, reply_id: str) -> None:
        """The reply's session has ended: no more text, no more speech. What it has not spoken of its text will never be
        heard."""
        segment = self._open.get(reply_id)
        if segment is None:
            return
        segment.lost = segment.text_done = True
        if not segment.written and self._speech.generated_ms(reply_id) == 0:
            del self._open[reply_id]
            self._remember(reply_id)

    def heard(self, reply_id: str, now: float) -> None:
        """The reply's speech has been heard to its end."""
        self._heard.pop(reply_id, None)
        self._heard[reply_id] = now + _GRACE_S
        if len(self._heard) > _REMEMBERED:
            del self._heard[next(iter(self._heard))]
        segment = self._open.get(reply_id)
        if segment is not None:
            segment.ends_at = now + _GRACE_S
        elif reply_id not in self._closed:
            self._wordless[reply_id] = now
            if len(self._wordless) > _REMEMBERED:
                self._record_wordless(next(iter(self._wordless)), now)

    def cut(self, reply_id: str, heard_ms: float) -> list[Caption]:
        """The reply was interrupted: show the last word that was heard and close."""
        segment = self._open.get(reply_id)
        if segment is None:
            self._remember(reply_id)
            self.closed.append(ClosedReply(reply_id, "", heard_ms, True))
            return []
        return self._close(segment, self._heard_chars(segment, heard_ms), heard_ms, interrupted=True)

    def release(self, now: float) -> list[Caption]:
        """What may be shown now, in order."""
        captions: list[Caption] = []
        self._stepped_at = now
        for segment in tuple(self._open.values()):
            heard_ms = self._speech.heard_ms(segment.reply_id, now)
            if segment.began_at is None and (heard_ms > segment.base_ms or segment.written):
                segment.began_at = now - (heard_ms - segment.base_ms) / 1000
            upto = self._heard_chars(segment, heard_ms)
            # Late text of what was heard to its end is still waited for.
            if segment.ended and (segment.text_done or (segment.ends_at is not None and now >= segment.ends_at)):
                self._learn(segment, heard_ms)
                captions += self._close(segment, upto, heard_ms, interrupted=False)
                continue
            captions += self._show(segment, upto)
            if segment.shown > _PART_CHARS:
                captions += self._next_part(segment, heard_ms, now)
        for reply_id, ended_at in tuple(self._wordless.items()):
            if now >= ended_at + _WORDLESS_S:
                self._record_wordless(reply_id, now)
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
            upto = self._heard_chars(segment, heard_ms)
            captions += self._close(segment, upto, heard_ms, interrupted=not segment.ended)
        for reply_id in tuple(self._wordless):
            self._record_wordless(reply_id, now)
        return captions

    def so_far(self, now: float, *, ahead: bool = False) -> list[ClosedReply]:
        """The replies that go on, as far as they were heard by now. Those of which nothing was heard are not there.

        With `ahead`, a reply that was lost is there as far as it will be heard if nobody interrupts.
        """
        found: list[ClosedReply] = []
        for segment in self._open.values():
            heard_ms = self._speech.heard_ms(segment.reply_id, now)
            if ahead and segment.lost:
                heard_ms = max(heard_ms, self._speech.generated_ms(segment.reply_id))
            text = segment.text[: self._heard_chars(segment, heard_ms)]
            spoken_ms = max(0.0, heard_ms - segment.base_ms)
            if text.strip():
                began_at = now - spoken_ms / 1000 if segment.began_at is None else segment.began_at
                reply = ClosedReply(segment.reply_id, text, spoken_ms, False, began_at, None, segment.lost)
                found.append(reply)
        return found

    def deadline(self, now_sounding: bool) -> float | None:
        """When to call `release` next."""
        soonest = min((ended_at + _WORDLESS_S for ended_at in self._wordless.values()), default=None)
        for segment in self._open.values():
            at: float | None = None
            if segment.ended and (segment.text_done or segment.shown < len(segment.text)):
                at = self._stepped_at + _STEP_S
            elif segment.ends_at is not None:
                at = segment.ends_at
            elif now_sounding and segment.shown < len(segment.text):
                at = self._stepped_at + _STEP_S
            if at is not None and (soonest is None or at < soonest):
                soonest = at
        return soonest

    def _heard_chars(self, segment: _Segment, heard_ms: float) -> int:
        """How much of the text has been heard: all that is known of it, where all of its speech has come and was heard.

        A reply that only ran dry may have been given up in its midst, with text that nobody spoke.
        """
        if segment.written or (segment.ends_at is not None and segment.generated):
            return len(segment.text)
        return max(segment.shown, self._audible_chars(segment, heard_ms))

    def _audible_chars(self, segment: _Segment, heard_ms: float) -> int:
        """How much of the text has been spoken after `heard_ms`, at a word's end."""
        text = segment.text
        generated_ms = self._speech.generated_ms(segment.reply_id) - segment.base_ms
        heard_ms -= segment.base_ms
        if heard_ms <= 0:
            return 0
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
            if not_before_ms > heard_ms + segment.base_ms:
                break
            limit = end
            if not_before_ms + _LEADS_MS <= heard_ms + segment.base_ms:
                spoken = max(spoken, end)
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
        ended_at = None if segment.ends_at is None else segment.ends_at - _GRACE_S
        self.closed.append(self._record(segment, upto, heard_ms, interrupted, ended_at))
        if not piece and not opened:
            return []
        return [Caption(segment_id=segment.id, speaker=None, text=piece, final=True, interrupted=interrupted)]

    def _next_part(self, segment: _Segment, heard_ms: float, now: float) -> list[Caption]:
        """Close what was shown of a reply that goes on and on; the rest of it follows in the next segment."""
        self._stats.split_segments += 1
        self.closed.append(self._record(segment, segment.shown, heard_ms, False, now))
        closing = Caption(segment_id=segment.id, speaker=None, text="", final=True)
        rest = segment.text[segment.shown :].lstrip()
        gone = len(segment.text) - len(rest)
        if not segment.written:
            came = max((end for end, not_before_ms in segment.pieces if not_before_ms <= heard_ms), default=0)
            self._see_pace(heard_ms - segment.base_ms, max(1, came))
        segment.text = rest
        segment.pieces = [(end - gone, not_before) for end, not_before in segment.pieces if end > gone]
        segment.shown = 0
        segment.base_ms, segment.began_at = heard_ms, now
        segment.part += 1
        segment.id = f"{segment.first_id}-{segment.part}"
        return [closing]

    def _record(
        self, segment: _Segment, upto: int, heard_ms: float, interrupted: bool, ended_at: float | None
    ) -> ClosedReply:
        return ClosedReply(
            segment.reply_id,
            segment.text[:upto],
            max(0.0, heard_ms - segment.base_ms),
            interrupted,
            segment.began_at,
            ended_at,
            segment.lost,
        )

    def _record_wordless(self, reply_id: str, now: float) -> None:
        """It was spoken, and nobody says in which words."""
        ended_at = self._wordless.pop(reply_id)
        heard_ms = self._speech.heard_ms(reply_id, now)
        began_at = ended_at - heard_ms / 1000
        self.closed.append(ClosedReply(reply_id, "", heard_ms, False, began_at, ended_at))

    def _remember(self, reply_id: str) -> None:
        self._closed[reply_id] = None
        if len(self._closed) > _REMEMBERED:
            del self._closed[next(iter(self._closed))]

    def _learn(self, segment: _Segment, heard_ms: float) -> None:
        heard_ms -= segment.base_ms
        if heard_ms < 500 or len(segment.text) < 5 or not segment.generated:
            return
        self._see_pace(heard_ms, len(segment.text))

    def _see_pace(self, heard_ms: float, chars: int) -> None:
        seen = min(400.0, max(20.0, heard_ms / chars))
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
