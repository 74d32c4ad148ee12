"""Tool calls and turn timelines waiting for LiveKit's wire: each is one text stream of one JSON object."""

from __future__ import annotations

from collections import deque

from bridge.core.words import Activity

__all__ = ["TOPIC", "ActivityQueue"]

TOPIC = "roombridge.events"


class ActivityQueue:
    """Activities in order. Full: the oldest goes, `dropped` counts it."""

    def __init__(self, limit: int = 256) -> None:
        self._waiting: deque[Activity] = deque()
        self._limit = limit
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, activity: Activity) -> None:
        if len(self._waiting) >= self._limit:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(activity)

    def put_back(self, activity: Activity) -> None:
        """One that could not be sent is the next again."""
        self._waiting.appendleft(activity)

    def get(self) -> Activity:
        return self._waiting.popleft()
