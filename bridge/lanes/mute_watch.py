"""Notices a session that is spoken to and says nothing at all, where no event tells that it was spoken to. No I/O."""

from __future__ import annotations

import math

from bridge.sessions.hearing import Hearing

__all__ = ["MuteWatch"]

_LOOK_EVERY_S = 1.0
_SPEECH_MS = 1000
"""Less than this may be a door, or a cough."""


class MuteWatch:
    """Some providers have no event for speech. What they were told is on the tape, until it has been answered."""

    def __init__(self, hearing: Hearing, patience_s: float) -> None:
        self._hearing = hearing
        self._patience_s = patience_s
        self._look_at = -math.inf

    def due(self, news_at: float, now: float) -> bool:
        """True: the leading session has told us nothing since `news_at`, though somebody spoke to it and has finished
        `patience_s` ago. Looks once a second."""
        if now < self._look_at or now - news_at < self._patience_s:
            return False
        self._look_at = now + _LOOK_EVERY_S
        tape = self._hearing.tape
        finished = tape.end - int(self._patience_s * 1000) // tape.frame_ms
        return self._hearing.first_loud(finished) is None and self._hearing.unanswered_speech_ms() >= _SPEECH_MS
