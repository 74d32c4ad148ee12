"""A seeded schedule of faults: the same seed is the same list, on any machine. No I/O, no clock.

    schedule = ChaosSchedule(seed=7, every_s=20)
    schedule.start(now)
    schedule.deadline(), schedule.due(now)      # for whoever lets them happen: `EmulatorServer.run_chaos`
    stroke(seed=7, number=3)                    # the third alone, without the two before it

A stroke depends on the seed and its own number alone, so that one that does harm can be repeated without the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import TypeVar

import msgspec

from providers.scripted.faults import (
    Abort,
    Close,
    Drop,
    Duplicate,
    Empty,
    EndSession,
    ExpireHandles,
    GoAway,
    Malformed,
    NoSetup,
    Quota,
    Refuse,
    Stall,
    TimedFault,
    Unknown,
    UpgradeFault,
)

__all__ = ["FATAL_KINDS", "KINDS", "LASTING_KINDS", "ChaosSchedule", "Stroke", "stroke"]

_PASSING_CLOSES = (
    (1001, ""),
    (1011, "Internal error encountered."),
    (1011, "Deadline expired before operation could complete."),
    (1011, "The service is currently unavailable."),
    (1013, "Try again later."),
)
_MOST_STROKES_AT_ONCE = 100
_FOR_GOOD = 200
"""Connects that come to nothing: more than any call has the patience for."""
_TOLD = 4


class Stroke(msgspec.Struct, frozen=True, kw_only=True):
    """What befalls one connection, and those that come after it."""

    seed: int
    number: int
    """From 1."""
    at_s: float
    """After the start of the schedule."""
    kind: str
    pick: float
    """0 to 1: which of the open connections it befalls, oldest first."""
    now: tuple[TimedFault, ...] = ()
    """On that connection, at once."""
    instead: tuple[UpgradeFault, ...] = ()
    """What the next upgrades meet, one each."""
    afterwards: tuple[TimedFault, ...] = ()
    """What the next connections suffer once they are set up, one each."""

    def __str__(self) -> str:
        parts = [_told(fault) for fault in self.now]
        parts += [f"next connect {_told(fault)}" for fault in self.instead[:_TOLD]]
        parts += [f"and {len(self.instead) - _TOLD} more"] * (len(self.instead) > _TOLD)
        parts += [f"next session {_told(fault)}" for fault in self.afterwards]
        return f"chaos seed={self.seed} fault={self.number} at_s={self.at_s:.1f} {self.kind}: {', '.join(parts)}"

    def of(self, count: int) -> int:
        """Index of the one that it befalls, of so many."""
        return min(count - 1, int(self.pick * count))


class ChaosSchedule:
    """Strokes of one seed in the order of time, one in each stretch of `every_s`, without end."""

    def __init__(self, seed: int, *, every_s: float = 20.0, kinds: Collection[str] | None = None) -> None:
        """Args: kinds to choose from, of `KINDS`, `FATAL_KINDS` and `LASTING_KINDS`; None: `KINDS`, which a call can
        survive.

        Raises ValueError for an unknown kind, or an `every_s` that is not above 0.
        """
        if not every_s > 0:
            raise ValueError(f"every_s = {every_s}: must be above 0")
        self.seed = seed
        self.every_s = every_s
        self._kinds = _known(kinds)
        self._next = 1
        self._started_at: float | None = None

    def start(self, now: float) -> None:
        """Times run from here."""
        self._started_at = now

    def deadline(self) -> float | None:
        """When the next one is due; None before the start."""
        return None if self._started_at is None else self._started_at + self._stroke(self._next).at_s

    def due(self, now: float) -> list[Stroke]:
        """Those that are due until `now`, each once. After a long sleep the newest hundred; older ones are left out."""
        if self._started_at is None:
            return []
        passed = int((now - self._started_at) / self.every_s)
        self._next = max(self._next, passed - _MOST_STROKES_AT_ONCE)
        found = []
        while (one := self._stroke(self._next)).at_s <= now - self._started_at:
            found.append(one)
            self._next += 1
        return found

    def first(self, count: int) -> list[Stroke]:
        """The first so many, whether they were due or not."""
        return [self._stroke(number) for number in range(1, count + 1)]

    def _stroke(self, number: int) -> Stroke:
        return stroke(self.seed, number, every_s=self.every_s, kinds=self._kinds)


def stroke(seed: int, number: int = 1, *, every_s: float = 20.0, kinds: Collection[str] | None = None) -> Stroke:
    """The n-th stroke of a seed. Arguments as those of `ChaosSchedule`."""
    names = _known(kinds)
    # Seeding by a string is the same in every version of Python; of what follows only random() promises to be.
    random = Random(f"roombridge {seed} {number}")
    at_s = every_s * (number - 1 + random.random())
    pick = random.random()
    kind = _one(random, names)
    now, instead, afterwards = (_MAKERS | _FATAL_MAKERS | _LASTING_MAKERS)[kind](random)
    return Stroke(
        seed=seed, number=number, at_s=at_s, kind=kind, pick=pick, now=now, instead=instead, afterwards=afterwards
    )


# ---------------------------------------------------------------------------------------------------------- kinds

_Parts = tuple[tuple[TimedFault, ...], tuple[UpgradeFault, ...], tuple[TimedFault, ...]]


_T = TypeVar("_T")


def _one(random: Random, among: Sequence[_T]) -> _T:
    return among[int(random.random() * len(among))]


def _between(random: Random, low: float, high: float) -> float:
    return round(low + (high - low) * random.random(), 3)


def _close(random: Random) -> _Parts:
    code, reason = _one(random, _PASSING_CLOSES)
    return (Close(code=code, reason=reason),), (), ()


def _outage(random: Random) -> _Parts:
    among: tuple[UpgradeFault, ...] = (Refuse(status=503), Refuse(status=429, retry_after_s=1), Drop())
    return (Abort(),), tuple(_one(random, among) for _ in range(1 + int(random.random() * 3))), ()


def _away(random: Random) -> _Parts:
    among: tuple[UpgradeFault, ...] = (Refuse(status=503), Drop(), NoSetup())
    return (Abort(),), tuple(_one(random, among) for _ in range(_FOR_GOOD)), ()


def _storm(random: Random) -> _Parts:
    again = [
        GoAway(at_s=_between(random, 0, 0.5), time_left_s=_between(random, 1, 3))
        for _ in range(2 + int(random.random() * 2))
    ]
    return (GoAway(time_left_s=_between(random, 1, 3)),), (), tuple(again)


_MAKERS: dict[str, Callable[[Random], _Parts]] = {
    "kill": lambda random: ((Abort(),), (), ()),
    "close": _close,
    "stall": lambda random: ((Stall(pongs=random.random() < 0.5),), (), ()),
    "pause": lambda random: ((Stall(duration_s=_between(random, 0.1, 2.0), pongs=random.random() < 0.5),), (), ()),
    "outage": _outage,
    "deaf": lambda random: ((Abort(),), (NoSetup(),), ()),
    "go_away": lambda random: ((GoAway(time_left_s=_between(random, 1, 10)),), (), ()),
    "storm": _storm,
    "end": lambda random: ((EndSession(),), (), ()),
    "expired": lambda random: ((ExpireHandles(), Abort()), (), ()),
    "malformed": lambda random: ((Malformed(text=_one(random, ('{"broken": ', "[]", "\u0000", "null"))),), (), ()),
    "empty": lambda random: ((Empty(text="{}" if random.random() < 0.5 else ""),), (), ()),
    "unknown": lambda random: ((Unknown(),), (), ()),
    "duplicate": lambda random: ((Duplicate(),), (), ()),
}
_FATAL_MAKERS: dict[str, Callable[[Random], _Parts]] = {
    "quota": lambda random: ((Quota(),), (), ()),
    "rejected": lambda random: ((Close(code=1007, reason="Request contains an invalid argument."),), (), ()),
    "forbidden": lambda random: ((Close(code=1008, reason="Permission denied."),), (), ()),
}
_LASTING_MAKERS: dict[str, Callable[[Random], _Parts]] = {"away": _away}

KINDS = tuple(_MAKERS)
"""A call survives these, if its service comes back."""
FATAL_KINDS = tuple(_FATAL_MAKERS)
"""The service says that trying again cannot help. A call may end with these, or go on with another provider."""
LASTING_KINDS = tuple(_LASTING_MAKERS)
"""The service does not come back. A call ends when its patience is over, or goes on with another provider."""
_ALL_KINDS = (*KINDS, *FATAL_KINDS, *LASTING_KINDS)


def _known(kinds: Collection[str] | None) -> tuple[str, ...]:
    if kinds is None:
        return KINDS
    unknown = set(kinds) - set(_ALL_KINDS)
    if unknown or not kinds:
        raise ValueError(f"kinds = {sorted(kinds)}: choose from {', '.join(_ALL_KINDS)}")
    return tuple(name for name in _ALL_KINDS if name in kinds)


def _told(fault: TimedFault | UpgradeFault) -> str:
    """A fault as a scenario file would spell it, without what is default."""
    raw = msgspec.to_builtins(fault)
    plain = msgspec.to_builtins(type(fault)())
    changed = " ".join(f"{key}={value}" for key, value in raw.items() if plain.get(key) != value and key != "kind")
    return f"{raw['kind']} {changed}".rstrip()
