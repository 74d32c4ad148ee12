"""A summary without a model: who said what, with the numbers, the names and what the tools found. Any language."""

from __future__ import annotations

import re
from itertools import pairwise

import msgspec

from bridge.conversation.entries import Entry, Line
from bridge.conversation.memory_settings import MemoryWords

__all__ = ["Digest"]

_GIST = 160
"""Characters that are kept of one turn."""
_PIECE = 80
_SMALL_TALK = 12
_SENTENCES = re.compile(r"[^.!?;\n。！？；]+[.!?;。！？；]*")  # noqa: RUF001 - these do end sentences

_NUMBER = re.compile(r"\d")
_IDEOGRAPH = re.compile("[\u2e80-\U0010ffff]")


class _Note(msgspec.Struct, frozen=True, gc=False):
    text: str
    worth: int
    """0: small talk; 1: something was said; 2: with a name; 3: with a number, or what a tool found."""


class Digest:
    """Notes of what was said, oldest first. Full: the least telling goes, of these the oldest; `left_out` counts it."""

    def __init__(self, chars: int, words: MemoryWords) -> None:
        self.chars = chars
        self.left_out = 0
        self._words = words
        self._notes: list[_Note] = []
        self._size = 0

    def fold(self, entry: Entry, name: str) -> None:
        """Take in one entry; `name` is what its speaker is called."""
        if isinstance(entry, Line):
            gist, worth = _gist(entry.text)
            if not gist:
                return
            self._add(_Note(f"{name}: {gist}", worth))
        else:
            self._add(_Note(_flat(self._words.fact(entry)), 3))

    def within(self, chars: int) -> Digest:
        """A copy that is no larger than this."""
        copy = Digest(chars, self._words)
        copy.left_out, copy._notes, copy._size = self.left_out, list(self._notes), self._size
        copy._shrink()
        return copy

    @property
    def text(self) -> str:
        """One line per note, at most `chars` in all. Empty when nothing was folded."""
        return "\n".join(note.text for note in self._notes)

    def _add(self, note: _Note) -> None:
        self._notes.append(note)
        self._size += len(note.text) + 1
        self._shrink()

    def _shrink(self) -> None:
        while self._notes and self._size - 1 > self.chars:
            least = min(range(len(self._notes)), key=lambda place: (self._notes[place].worth, place))
            self._size -= len(self._notes.pop(least).text) + 1
            self.left_out += 1


def _gist(text: str) -> tuple[str, int]:
    """The most telling pieces of one turn, in their order, and what they are worth."""
    text = _flat(text)
    if len(text) <= _GIST:
        return text, _worth(text)
    pieces = [piece for sentence in _SENTENCES.findall(text) for piece in _pieces(sentence.strip())]
    # The beginning says what it is about, a question what is wanted.
    ranked = sorted(
        range(len(pieces)),
        key=lambda place: -2 * _worth(pieces[place]) - (place == 0) - ("?" in pieces[place]),
    )
    chosen: list[int] = []
    room = _GIST
    for place in ranked:
        if len(pieces[place]) + 3 <= room:
            chosen.append(place)
            room -= len(pieces[place]) + 3
    gist = " … ".join(pieces[place] for place in sorted(chosen))
    return gist, max((_worth(pieces[place]) for place in chosen), default=0)


def _pieces(sentence: str) -> list[str]:
    """The sentence, cut at spaces where it is long; a text without spaces is cut anywhere."""
    pieces: list[str] = []
    while len(sentence) > _PIECE:
        cut = sentence.rfind(" ", 1, _PIECE + 1)
        cut = cut if cut > 0 else _PIECE
        pieces.append(sentence[:cut].rstrip())
        sentence = sentence[cut:].lstrip()
    return [*pieces, sentence] if sentence else pieces


def _worth(text: str) -> int:
    if _NUMBER.search(text):
        return 3
    words = text.split(" ")
    # The first word of a sentence is large in any case; "I" is nobody's name.
    if any(len(word) > 1 and word[0].isupper() and before[-1:] not in ".!?" for before, word in pairwise(words)):
        return 2
    return 1 if len(text) > _SMALL_TALK or _IDEOGRAPH.search(text) else 0


def _flat(text: str) -> str:
    return " ".join(text.split())
