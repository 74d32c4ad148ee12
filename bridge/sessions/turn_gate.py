"""Marks the user's turns for a model that does not detect them: speech with a little of what came before it."""

from __future__ import annotations

from collections import deque

from bridge.sessions.feed import SessionFeed

__all__ = ["TurnGate"]


class TurnGate:
    """Lets bus frames through to a session only while somebody speaks, between activity start and end.

    The last `pre_roll_ms` before the detected start go first: a detector needs 20 ms and more to be sure, and Gemini
    throws away audio that comes before `activityStart`.
    """

    def __init__(self, feed: SessionFeed, *, frame_ms: int = 20, pre_roll_ms: int = 300) -> None:
        self.open = False
        self._feed = feed
        self._recent: deque[bytes] = deque(maxlen=max(1, pre_roll_ms // frame_ms))

    def hear(self, frame: bytes) -> None:
        """One bus frame: to the model during speech, else only remembered."""
        if self.open:
            self._feed.hear(frame)
        else:
            self._recent.append(frame)

    def take_over(self, previous: TurnGate) -> None:
        """Go on where `previous` was left: what it remembered and its model has not heard may be an onset."""
        self._recent.extend(previous._recent)

    def forget(self) -> None:
        """What is heard next does not follow on what was heard last."""
        self._recent.clear()

    def speech_started(self) -> None:
        if self.open:
            return
        self.open = True
        self._feed.session.start_activity()
        for frame in self._recent:
            self._feed.hear(frame)
        self._recent.clear()

    def speech_stopped(self) -> None:
        if self.open:
            self.open = False
            self._feed.session.end_activity()
