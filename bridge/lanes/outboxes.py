"""What all sessions of a call have sent and dropped, together: no drop is forgotten with its session."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

from providers.contract import ModelSession, OutboxStats, SessionState

__all__ = ["Outboxes"]

_GAUGE = "waiting_audio_ms"
_COUNTERS = tuple(name for name in OutboxStats.__struct_fields__ if name != _GAUGE)
_MOST_LEAVING = 32


class Outboxes:
    """Sums over the sessions of one call; the sums only grow.

    A session that has left is watched until it is closed, for it may still send, or give up, what waits. At most 32 are
    watched: beyond, the oldest is summed as it is.
    """

    def __init__(self) -> None:
        self._closed = OutboxStats()
        self._leaving: deque[ModelSession] = deque()

    def leave(self, session: ModelSession) -> None:
        """It serves the call no longer, and will be closed."""
        self._leaving.append(session)
        if len(self._leaving) > _MOST_LEAVING:
            _add(self._closed, self._leaving.popleft())
        for left in [left for left in self._leaving if left.state is SessionState.CLOSED]:
            self._leaving.remove(left)
            _add(self._closed, left)

    def counters(self, serving: Iterable[ModelSession], leader: ModelSession | None) -> Iterator[tuple[str, float]]:
        """Each sum by its name, and what waits for the leader. Args: serving are those that have not left."""
        total = msgspec.structs.replace(self._closed)
        for session in (*self._leaving, *serving):
            _add(total, session)
        for name in _COUNTERS:
            yield name, getattr(total, name)
        yield f"{_GAUGE}_now", 0.0 if leader is None else leader.outbox.waiting_audio_ms


def _add(total: OutboxStats, session: ModelSession) -> None:
    outbox = session.outbox
    for name in _COUNTERS:
        setattr(total, name, getattr(total, name) + getattr(outbox, name))
