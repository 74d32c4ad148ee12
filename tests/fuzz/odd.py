"""Odd values, odd frames, and seeds for them: what a broken service, file or network might send.

`make test` runs the same few seeds every time. `FUZZ=50` runs fifty times as many, `FUZZ_SEED=17` that one alone.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

__all__ = ["ODD_TEXTS", "Odd", "seeds"]

_DIGITS, _FAR, _NAN, _DEEP = "@digits", "@far", "@nan", "@deep"
_LITERALS = {f'"{_DIGITS}"': "9" * 5000, f'"{_FAR}"': "1e999", f'"{_NAN}"': "NaN", f'"{_DEEP}"': "[" * 50_000}
"""What JSON can hold and Python's own writer cannot make."""

_NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 7, 1000, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400),
    *(0.5, -0.0, 1e-320, 1e15, 1e19, 1e300, 1.7976931348623157e308, -1e308),
)
ODD_TEXTS: tuple[str, ...] = (
    *("", " ", "a", "0", "1", "-1", "1.5", "true", "null", "nan", "inf", "-inf", "Infinity", "1e308", "1e999", "0x10"),
    *("0x" + "f" * 5000, "[" * 5000),
    *(
        "s",
        "0s",
        "50s",
        "-5s",
        "1e308s",
        "nans",
        "9" * 30,
        "9" * 4999,
        "١٢",
        "²",
        "AAAA",
        "AAA",
        "A",
        "====",
        "%%%",
        "-_-_",
    ),
    *("\x00", "\ud800", "\U0001f600", "é" * 50, "x" * 5000, "audio/pcm;rate=24000", "audio/pcm;rate=99999999999999"),
    *(
        "$",
        "$.a",
        "$.a[0]",
        "$.a[9999]",
        "$.a[-1]",
        "$['a']['b']",
        "$" + "[9999]" * 50,
        "$" + ".a" * 2000,
        "completed",
        "cancelled",
    ),
)
_LITERAL_NAMES = (_DIGITS, _FAR, _NAN, _DEEP)


def seeds(count: int) -> list[int]:
    """Seeds to run: `count` in a usual run."""
    alone = os.environ.get("FUZZ_SEED", "")
    return [int(alone)] if alone else list(range(count * int(os.environ.get("FUZZ", "1"))))


class Odd:
    """Oddities of one seed.

    with Odd("gemini", seed) as odd: an error that leaves the block says how to have it again.
    """

    def __init__(self, what: str, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(f"{what}:{seed}")

    def __enter__(self) -> Odd:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and not isinstance(error, pytest.skip.Exception):
            error.add_note(f"have it again with FUZZ_SEED={self.seed}")

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    # ------------------------------------------------------------------------------------------------------- values

    def atom(self) -> Any:
        """Something that holds nothing else."""
        kind = self.rng.random()
        if kind < 0.15:
            return self.rng.choice((None, True, False))
        if kind < 0.45:
            return self.rng.choice(_NUMBERS)
        return self.rng.choice(ODD_TEXTS)

    def value(self, words: Sequence[str] = (), depth: int = 3) -> Any:
        """Any JSON value; the keys of objects are mostly of `words`."""
        kind = self.rng.random() if depth else 1.0
        if kind < 0.2:
            return [self.value(words, depth - 1) for _ in range(self.rng.choice((0, 1, 1, 2, 5)))]
        if kind < 0.5:
            return {self._key(words): self.value(words, depth - 1) for _ in range(self.rng.choice((0, 1, 2, 4)))}
        return self.atom()

    def mutated(self, value: Any, words: Sequence[str] = (), *, literals: bool = True) -> Any:
        """A copy with a few things wrong."""
        root = [copy.deepcopy(value)]
        for _ in range(self.rng.choice((0, 1, 1, 2, 3, 8))):
            places = list(_places(root))
            holder, key = self.rng.choice(places)
            kind = self.rng.random()
            if kind < 0.45:
                holder[key] = self.rng.choice(_LITERAL_NAMES) if literals and self.chance(0.05) else self.atom()
            elif kind < 0.6:
                holder[key] = self.value(words)
            elif kind < 0.7:
                other, at = self.rng.choice(places)
                holder[key] = copy.deepcopy(other[at])  # the right thing in the wrong place
            elif kind < 0.8 and holder is not root:
                del holder[key]
            elif kind < 0.9 and isinstance(holder, dict):
                holder[self._key(words)] = holder.pop(key)
            else:
                holder[key] = [holder[key]] * self.rng.choice((1, 2, 20))
        return root[0]

    @staticmethod
    def everywhere(message: Any) -> Iterator[Any]:
        """The message with each of the odd values in each of its places, one after the other: the same object."""
        for holder, key in list(_places(message)):
            right = holder[key]
            for odd in (None, True, False, [], {}, [None], [{}], *_NUMBERS, *ODD_TEXTS, *_LITERAL_NAMES):
                holder[key] = odd
                yield message
            holder[key] = right

    def holding(self, table: Any, thing: Any) -> Any:
        """A copy of this table that holds `thing` somewhere: in the place of something, or under a name of its own."""
        table = copy.deepcopy(table)
        holder, key = self.rng.choice(list(_places(table)))
        holder[self._key(()) if isinstance(holder, dict) and self.chance(0.3) else key] = thing
        return table

    def _key(self, words: Sequence[str]) -> str:
        return self.rng.choice(words) if words and self.chance(0.85) else self.rng.choice(ODD_TEXTS)

    # ------------------------------------------------------------------------------------------------------- frames

    @staticmethod
    def whole(value: Any) -> bytes:
        """A message on the wire as it should be."""
        return _with_literals(json.dumps(value)).encode()

    def frame(self, value: Any) -> str | bytes:
        """A message on the wire: as text or binary, now and then cut, doubled or with bytes turned over."""
        text = json.dumps(value, ensure_ascii=self.chance(0.5), separators=(",", ":") if self.chance(0.7) else None)
        text = _with_literals(text)
        data = bytearray(text.encode("utf-8", "surrogatepass"))
        kind = self.rng.random()
        if kind < 0.2 and text.isprintable():
            return text  # no WebSocket hands over a text frame that is not UTF-8
        if kind < 0.3:
            return bytes(data[: self.rng.randrange(len(data) + 1)])
        if kind < 0.4:
            for _ in range(self.rng.choice((1, 2, 10))):
                data[self.rng.randrange(len(data))] = self.rng.randrange(256)
        elif kind < 0.45:
            at = self.rng.randrange(len(data) + 1)
            data[at:at] = self.rng.choice((b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\x00", b"\xef\xbb\xbf", b",", b"}"))
        elif kind < 0.48:
            data *= 2
        return bytes(data)


def _with_literals(text: str) -> str:
    for name, literal in _LITERALS.items():
        text = text.replace(name, literal)
    return text


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    keys = range(len(holder)) if isinstance(holder, list) else list(holder)
    for key in keys:
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key])
