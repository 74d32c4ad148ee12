"""What a scripted mind has still to do and when, and what it has done since it was last asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush

from providers.scripted.acts import Act, FaultDue
from providers.scripted.faults import Fault, TimedFault, UpgradeFault, is_timed

__all__ = ["Agenda"]


class Agenda:
    """Timers and faults of one mind, and its acts in order."""

    def __init__(self, faults: Sequence[Fault], connection: int) -> None:
        self._acts: list[Act] = []
        self._timers: list[tuple[float, int, Callable[[float], None]]] = []
        self._sequence = 0
        self._faults: list[TimedFault] = [
            fault for fault in faults if not isinstance(fault, UpgradeFault) and fault.connection in (None, connection)
        ]
        self._started_at: float | None = None

    def did(self, act: Act) -> None:
        """Note what happened."""
        self._acts.append(act)

    def take(self) -> list[Act]:
        """All acts since the last call."""
        acts, self._acts = self._acts, []
        return acts

    def at(self, when: float, action: Callable[[float], None]) -> None:
        """Call `action(when)` then, those of the same moment in the order in which they were asked for."""
        self._sequence += 1
        heappush(self._timers, (when, self._sequence, action))

    def deadline(self) -> float | None:
        """When `advance` has something to do."""
        return self._timers[0][0] if self._timers else None

    def advance(self, now: float) -> None:
        """Do everything that is due until `now`."""
        while self._timers and self._timers[0][0] <= now:
            when, _, action = heappop(self._timers)
            # An action happens at its own time: a late wake-up must not shift what follows from it.
            action(when)

    def clear(self) -> None:
        """Nothing falls due any more."""
        self._timers.clear()

    def start_faults(self, now: float) -> None:
        """Faults at a time run from here."""
        self._started_at = now
        for fault in self._faults:
            if fault.at_s is not None:
                self.at(now + fault.at_s, partial(self._strike, fault))

    def plan(self, fault: TimedFault, now: float) -> None:
        """One fault more, when it says; at once if it says nothing, or its time after the start has passed."""
        if not is_timed(fault):
            self.did(FaultDue(fault))
        elif fault.at_s is None or self._started_at is None:
            self._faults.append(fault)
        else:
            self.at(max(now, self._started_at + fault.at_s), partial(self._strike, fault))

    def strike_where(self, applies: Callable[[TimedFault], bool]) -> None:
        """The faults that apply strike now, each once."""
        for fault in [fault for fault in self._faults if applies(fault)]:
            self._faults.remove(fault)
            self.did(FaultDue(fault))

    def _strike(self, fault: TimedFault, now: float) -> None:
        self.did(FaultDue(fault))
