"""When somebody was last heard to speak, as our own ears judge it: looked up on the tape when it is asked for."""

from __future__ import annotations

from bridge.sessions.tape import Tape

__all__ = ["LastSpeech"]


class LastSpeech:
    """Call it for the end of the last speech on the bus, s on the clock of `heard_at`; None if the tape holds none.

    As true as the tape's threshold: in a noisy room somebody seems to speak all the time.
    """

    __slots__ = ("_tape", "heard_at")

    def __init__(self, tape: Tape) -> None:
        self.heard_at = float("-inf")
        """When the newest bus frame came; assign."""
        self._tape = tape

    def __call__(self) -> float | None:
        tape = self._tape
        until = tape.last_loud()
        return None if until is None else self.heard_at - (tape.end - until) * tape.frame_ms / 1000

    def within(self, seconds: float, now: float) -> bool:
        """Somebody was heard since so long ago."""
        tape = self._tape
        since = tape.end - int((seconds - (now - self.heard_at)) * 1000 / tape.frame_ms)
        return since < tape.end and tape.last_loud(since) is not None
