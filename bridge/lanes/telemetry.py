"""The telemetry lane: plain counters of every part of a call, gathered into a snapshot for those who watch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from bridge.lanes.pulse import Pulse

__all__ = ["Snapshot", "Telemetry", "counters_of"]


class Snapshot(msgspec.Struct, frozen=True):
    """One call at one moment. Counters only grow, except those ending in `_now`."""

    call: str
    at_s: float
    """Loop time, s."""
    age_s: float
    """Since the call began, s."""
    counters: dict[str, int | float]


def counters_of(prefix: str, stats: msgspec.Struct) -> Iterable[tuple[str, int | float]]:
    """A stats Struct's numbers, named `prefix.field`."""
    for field in stats.__struct_fields__:
        yield f"{prefix}.{field}", getattr(stats, field)


class _Watcher:
    __slots__ = ("beats", "every_beats", "given")

    def __init__(self, given: Callable[[Snapshot], None], every_beats: int) -> None:
        self.given = given
        self.every_beats = every_beats
        self.beats = 0


class Telemetry:
    """Gives a snapshot to those who watch, when theirs is due; built only then. Whoever wants one now may ask."""

    def __init__(self, call: str, gather: Callable[[], Iterable[tuple[str, int | float]]]) -> None:
        self._watchers: list[_Watcher] = []
        self._call = call
        self._gather = gather
        self._began = 0.0
        self._pulse = Pulse(1.0, self.beat)

    def start(self, now: float) -> None:
        self._began = now
        self._pulse.start()

    def stop(self) -> None:
        self._pulse.stop()

    def snapshot(self, now: float) -> Snapshot:
        return Snapshot(self._call, now, now - self._began, dict(self._gather()))

    def watch(self, watcher: Callable[[Snapshot], None], every_s: float = 1.0) -> Callable[[], None]:
        """Call `watcher` with a snapshot every `every_s` (whole seconds) from now on, in the
        loop's own turn; it must return fast and not raise. Returns the way to stop it."""
        entry = _Watcher(watcher, max(1, round(every_s)))
        self._watchers.append(entry)

        def stop() -> None:
            if entry in self._watchers:
                self._watchers.remove(entry)

        return stop

    def beat(self, now: float) -> None:
        """One second has passed."""
        snapshot: Snapshot | None = None
        for watcher in tuple(self._watchers):
            watcher.beats += 1
            if watcher.beats % watcher.every_beats == 0:
                snapshot = snapshot or self.snapshot(now)
                watcher.given(snapshot)
