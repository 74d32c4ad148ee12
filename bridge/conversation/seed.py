"""What a new session is told of the call before it: the last turns word for word, what is older in few words.

Nothing that the room did not hear is in it, never an empty text, and never more than the provider takes.
"""

from __future__ import annotations

import msgspec

from bridge.conversation.entries import Entry, Line, ToolUse
from bridge.conversation.ledger import Ledger
from bridge.conversation.memory_settings import MemorySettings
from providers.contract import HistoryItem

__all__ = ["going_on", "last_exchange", "seed"]

_LEAST_PIECE = 24
"""Fewer characters of a turn than this say nothing."""
_UNWORDED_MS = 500.0
"""A reply without a transcript that was heard for less than this is not mentioned."""
_SUMMARY_SHARE = 4
"""At most one part in so many of a seed is summary."""


class _Piece(msgspec.Struct, frozen=True, gc=False):
    """One entry as the new session reads it."""

    item: HistoryItem
    entry: Entry

    @property
    def size(self) -> int:
        return len(self.item.text)


def seed(
    ledger: Ledger,
    now: float,
    *,
    items: int,
    chars: int,
    settings: MemorySettings | None = None,
    without_last_turn: bool = False,
    undelivered: tuple[str, ...] = (),
) -> tuple[HistoryItem, ...]:
    """The conversation as it stands `now`, oldest first.

    Args: items and chars are what the provider takes at most; without_last_turn leaves out what the user said after the
    model's last words, which the new session will hear; undelivered are typed turns which it will be sent.
    """
    settings = settings or ledger.settings
    chars = min(chars, settings.chars)
    entries = _without(ledger.recent(now), without_last_turn, undelivered)
    pieces = _pieces(entries, ledger)
    if items < 1 or chars < 1:
        return ()
    summary_room = min(settings.summary_chars, chars // _SUMMARY_SHARE) if items > 1 else 0
    whole = sum(piece.size for piece in pieces)
    if ledger.summary.is_empty and len(pieces) <= min(items, settings.turns) and whole <= chars:
        return tuple(piece.item for piece in pieces)
    kept, older = _newest(pieces, min(items - bool(summary_room), settings.turns), chars - summary_room)
    # What the turns left over is the summary's, up to its own bound.
    left = min(settings.summary_chars, chars - sum(piece.size for piece in kept)) if summary_room else 0
    summary = _summary(ledger, settings, [piece.entry for piece in older], left)
    told = tuple(piece.item for piece in kept)
    return (HistoryItem(role="user", text=summary), *told) if summary else told


def going_on(ledger: Ledger, now: float) -> str:
    """What a new session is asked to say at once, in the place of one that was lost: empty if nothing is owed.

    A reply that broke off is gone on with, from what was heard of it: what is on its way to the ear counts as heard, or
    it would be said twice. What the user said or wrote after the model's
    last words is answered, unless he is still speaking: then he will be answered as always.
    """
    entries = ledger.recent(now, ahead=True)
    spoken = [entry for entry in entries if isinstance(entry, Line)]
    reply = next((line for line in reversed(spoken) if line.speaker is None), None)
    heard_until = float("-inf") if reply is None else _end(reply)
    lines = [line for line in spoken if line.text.strip()]
    after = [line for line in lines if line.speaker is not None and _end(line) > heard_until]
    if any(line.ended_at is None for line in lines if line.speaker is not None):
        return ""
    words = ledger.settings.words
    if after:
        said = " ".join(line.text.strip() for line in after)
        return words.answer.format(said=said)
    if reply is not None and reply.lost and reply in lines:
        return words.go_on.format(heard=_whole_reply(lines, reply))
    found = [entry for entry in entries if isinstance(entry, ToolUse) and entry.at >= heard_until]
    return words.answer.format(said="") if found else ""


def last_exchange(ledger: Ledger, now: float) -> str:
    """A note of the last turn and the reply to it, for a session that was resumed from before them. Empty if there is
    neither."""
    entries = [entry for entry in ledger.recent(now) if not isinstance(entry, Line) or entry.text.strip()]
    first = len(entries)
    asked = False
    while first > 0:
        entry = entries[first - 1]
        from_user = isinstance(entry, Line) and entry.speaker is not None
        if asked and not from_user:
            break
        asked = asked or from_user
        first -= 1
    if first == len(entries):
        return ""
    words = ledger.settings.words
    told = (words.told(entry, ledger.names.of(entry.speaker) if isinstance(entry, Line) else "")
            for entry in entries[first:])  # fmt: skip
    return words.exchange.format(lines="\n".join(told))


# ------------------------------------------------------------------------------------------------------------- workings


def _without(entries: list[Entry], without_last_turn: bool, undelivered: tuple[str, ...]) -> list[Entry]:
    kept = list(entries)
    for text in undelivered:
        for place in range(len(kept) - 1, -1, -1):
            entry = kept[place]
            if isinstance(entry, Line) and entry.typed and entry.text == text:
                del kept[place]
                break
    if not without_last_turn:
        return kept
    answered_until = max((_end(line) for line in kept if isinstance(line, Line) and line.speaker is None),
                         default=float("-inf"))  # fmt: skip
    return [
        entry
        for entry in kept
        if not isinstance(entry, Line) or entry.speaker is None or entry.typed or _end(entry) <= answered_until
    ]


def _pieces(entries: list[Entry], ledger: Ledger) -> list[_Piece]:
    speakers = {entry.speaker for entry in entries if isinstance(entry, Line) and entry.speaker is not None}
    labelled = ledger.several_speakers or len(speakers) > 1
    pieces: list[_Piece] = []
    for entry in entries:
        if isinstance(entry, ToolUse):
            pieces.append(_Piece(HistoryItem(role="user", text=ledger.settings.words.fact(entry)), entry))
            continue
        text = entry.text.strip()
        if text and entry.speaker is None:
            pieces.append(_Piece(HistoryItem(role="assistant", text=text), entry))
        elif entry.speaker is None and entry.heard_ms >= _UNWORDED_MS:
            note = ledger.settings.words.unworded.format(seconds=f"{entry.heard_ms / 1000:.0f}")
            pieces.append(_Piece(HistoryItem(role="user", text=note), entry))
        elif text:
            text = f"{ledger.names.of(entry.speaker)}: {text}" if labelled else text
            pieces.append(_Piece(HistoryItem(role="user", text=text), entry))
    return pieces


def _newest(pieces: list[_Piece], items: int, chars: int) -> tuple[list[_Piece], list[_Piece]]:
    """Those that fit, the last user turn among them whatever its place, and those that do not; both in order."""
    last_turn = max((place for place, piece in enumerate(pieces) if _is_turn(piece)), default=None)
    kept: dict[int, _Piece] = {}
    if last_turn is not None:
        after = sum(piece.size for piece in pieces[last_turn + 1 :]) if items > 1 else 0
        kept[last_turn] = _clipped(pieces[last_turn], chars - min(after, chars // 2))
        chars -= kept[last_turn].size
    for place in range(len(pieces) - 1, -1, -1):
        if place in kept:
            continue
        if len(kept) >= items:
            break
        piece = pieces[place]
        if piece.size > chars:
            # Of what came after the user's last words a part is better than nothing.
            if chars >= _LEAST_PIECE and (last_turn is None or place > last_turn):
                kept[place] = _clipped(piece, chars)
            break
        kept[place] = piece
        chars -= piece.size
    return (
        [kept[place] for place in sorted(kept)],
        [piece for place, piece in enumerate(pieces) if place not in kept],
    )


def _is_turn(piece: _Piece) -> bool:
    return isinstance(piece.entry, Line) and piece.entry.speaker is not None


def _clipped(piece: _Piece, chars: int) -> _Piece:
    """Its end, which is what comes next to an answer."""
    if piece.size <= chars:
        return piece
    text = piece.item.text[-chars:]
    space = text.find(" ")
    # No half words, unless the text knows no spaces.
    text = text[space + 1 :] if 0 <= space < len(text) // 2 else text
    return _Piece(HistoryItem(role=piece.item.role, text=text.strip() or piece.item.text.strip()[-1:]), piece.entry)


def _summary(ledger: Ledger, settings: MemorySettings, older: list[Entry], chars: int) -> str:
    template = settings.words.earlier
    around = len(template.format(summary=""))
    summary = ledger.summary.text(chars - around, older).strip()
    return template.format(summary=summary) if summary else ""


def _end(line: Line) -> float:
    return float("inf") if line.ended_at is None else line.ended_at


def _whole_reply(lines: list[Line], last: Line) -> str:
    """What was heard of the reply that ends so; it may fill several lines."""
    parts: list[str] = []
    for line in reversed(lines[: lines.index(last) + 1]):
        if line.speaker is not None:
            break
        parts.append(line.text.strip())
    return " ".join(reversed(parts))
