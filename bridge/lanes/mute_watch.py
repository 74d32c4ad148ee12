"""Notices a session that is spoken to and says nothing at all, where no event tells that it was spoken to. No I/O."""

from __future__ import annotations

import math

from bridge.sessions.hearing import Hearing

__all__ = ["MuteWatch"]

_LOOK_EVERY_S = 0.5
_SPEECH_MS = 500
"""Less than this may be a door, or a cough."""
_PAUSE_MS = 1000
"""After a pause like this a service that has told of no speech takes the turn for finished."""
_LONG_PAUSE_MS = 5000
"""After a pause like this one that has told that he speaks, and detects by meaning when he has finished."""


class MuteWatch:
    """Some providers have no event for speech. What they were told is on the tape, until it has been answered."""

    def __init__(self, hearing: Hearing, patience_s: float) -> None:
        self._hearing = hearing
        self._patience_s = patience_s
        self._look_at = -math.inf

    def due(self, news_at: float, now: float, *, speaks: bool = False) -> bool:
        """True: the leading session has told us nothing since `news_at`, though somebody spoke to it and paused for an
        answer `patience_s` ago, whether or not he has gone on since. `speaks`: the session has told that he began, and
        not that he stopped. Looks twice a second."""
        if now < self._look_at or now - news_at < self._patience_s:
            return False
        self._look_at = now + _LOOK_EVERY_S
        tape = self._hearing.tape
        pause_ms = _LONG_PAUSE_MS if speaks else _PAUSE_MS
        paused = tape.end - (int(self._patience_s * 1000) - pause_ms) // tape.frame_ms
        return self._hearing.owes_answer(paused, speech_ms=_SPEECH_MS, pause_ms=pause_ms)
