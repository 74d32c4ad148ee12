"""What is wrong with a configuration, in words that say how to mend it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import inspect as kinds

__all__ = ["UNITS", "describe", "did_you_mean", "looks_secret", "unit_of", "without_secrets"]

UNITS = {
    "ms": "milliseconds",
    "s": "seconds",
    "hz": "hertz",
    "db": "decibels",
    "dbfs": "decibels below full scale",
    "bps": "bits per second",
    "kbps": "kilobits per second",
    "percent": "percent",
    "usd": "US dollars",
    "px": "pixels",
    "fps": "frames per second",
    "bytes": "bytes",
}
"""The last word of a key is its unit."""

_SECRET_KEY = re.compile(r"(^|_)(key|keys|secret|secrets|token|password|passwd|credential|credentials|authorization)$")
_SECRET_VALUE = re.compile(
    r"^(sk-[\w-]{16,}|ek_\w{16,}|AIza[\w-]{30,}|AQ\.[\w-]{30,}|auth_tokens/\S{16,}|eyJ[\w-]+\.[\w-]+\.[\w-]*)$"
)
_LEVELS = 6
"""An error shows fewer."""
_WITH_UNIT = re.compile(r"^\s*(-?\d+(?:\.\d+)?)\s*([a-zA-Zµ%]+)\s*$")


def unit_of(key: str) -> str:
    """The unit that the key's name carries, empty when it has none."""
    return UNITS.get(key.rpartition("_")[2], "") if "_" in key else ""


def looks_secret(key: str, value: object) -> bool:
    """Is this a key, token or password that must not stand in a file?"""
    return bool(_SECRET_KEY.search(key)) or (isinstance(value, str) and bool(_SECRET_VALUE.match(value)))


def without_secrets(value: object, levels: int = _LEVELS) -> object:
    """What an error may show of a value: keys, tokens and passwords in it are ***, however it holds them."""
    if not levels:
        return "..."
    if isinstance(value, Mapping):
        return {
            key: "***" if looks_secret(str(key), inner) else without_secrets(inner, levels - 1)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(inner, levels - 1) for inner in value]
    return "***" if looks_secret("", value) else value


def did_you_mean(word: str, known: Iterable[str], noun: str = "key") -> str:
    """Says which known word is close, or lists them all."""
    words = sorted(known)
    stem = word.rpartition("_")[0]
    if stem and (unit := unit_of(word)):
        # The right name with another unit is further away for difflib than a neighbour of equal length.
        for candidate in words:
            if candidate.rpartition("_")[0] == stem and unit_of(candidate):
                return f"no such {noun}; did you mean {candidate}, in {unit_of(candidate)} instead of {unit}?"
    with_unit = [candidate for candidate in words if candidate.rpartition("_")[0] == word and unit_of(candidate)]
    close = with_unit or difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f"no such {noun}; did you mean {close[0]}?"
    return f"no such {noun}; there is: {', '.join(words)}" if words else f"no such {noun}"


def describe(kind: kinds.Type, key: str, value: object) -> str:
    """What the key takes, and why this value is not it."""
    wanted = _wanted(kind)
    unit = unit_of(key)
    if unit:
        wanted += f", in {unit}"
    if isinstance(value, str) and _takes_number(kind):
        match = _WITH_UNIT.match(value)
        if match:
            return f"write a number without its unit and without quotes, it takes {wanted}"
        return f"takes {wanted}, without quotes"
    if isinstance(value, str) and (names := _names(kind)):
        close = difflib.get_close_matches(value, names, n=1, cutoff=0.6)
        if close:
            return f"takes {wanted}; did you mean {close[0]}?"
    return f"takes {wanted}"


def _takes_number(kind: kinds.Type) -> bool:
    parts = kind.types if isinstance(kind, kinds.UnionType) else (kind,)
    return any(isinstance(part, kinds.IntType | kinds.FloatType) for part in parts) and not any(
        isinstance(part, kinds.StrType) for part in parts
    )


def _names(kind: kinds.Type) -> list[str]:
    if isinstance(kind, kinds.UnionType):
        return [name for part in kind.types for name in _names(part)]
    if isinstance(kind, kinds.LiteralType):
        return [str(value) for value in kind.values]
    if isinstance(kind, kinds.EnumType):
        return [str(member.value) for member in kind.cls]
    return []


def _wanted(kind: kinds.Type) -> str:
    match kind:
        case kinds.UnionType():
            # None is how a key that is left out reads; TOML has no word for it.
            return " or ".join(_wanted(part) for part in kind.types if not isinstance(part, kinds.NoneType))
        case kinds.BoolType():
            return "true or false"
        case kinds.IntType():
            return "a whole number" + _range(kind)
        case kinds.FloatType():
            return "a number" + _range(kind)
        case kinds.StrType(min_length=int() as least) if least > 0:
            return "a text that is not empty"
        case kinds.StrType(pattern=str() as pattern):
            return f"a text of the form {pattern}"
        case kinds.StrType():
            return "a text"
        case kinds.LiteralType() | kinds.EnumType():
            return "one of " + ", ".join(_names(kind))
        case kinds.ListType() | kinds.VarTupleType() | kinds.SetType() | kinds.FrozenSetType():
            return f"a list of {_wanted(kind.item_type)}"
        case kinds.DictType():
            return f"a table of {_wanted(kind.value_type)}"
        case kinds.StructType():
            return "a table"
        case kinds.Metadata():
            return _wanted(kind.type)
    return "any value"


def _range(kind: kinds.IntType | kinds.FloatType) -> str:
    low, high = (kind.ge if kind.ge is not None else kind.gt), (kind.le if kind.le is not None else kind.lt)
    above, below = kind.gt is not None, kind.lt is not None
    parts: list[str] = []
    if low is not None and high is not None and not above and not below:
        return f" from {_plain(low)} to {_plain(high)}"
    if low is not None:
        parts.append(f"above {_plain(low)}" if above else f"at least {_plain(low)}")
    if high is not None:
        parts.append(f"below {_plain(high)}" if below else f"at most {_plain(high)}")
    return f" {' and '.join(parts)}" if parts else ""


def _plain(number: Any) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)
