"""Which calls this process has room for: a table of costs against a budget. No I/O, no clock.

A direct call is the unit. Ten of them (0.4 s of CPU a second, with an offline model) leave one core the room that
timely packets need; a LiveKit room, whose media runs in native threads, takes a seventh of one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import StrEnum

import msgspec

__all__ = ["COSTS", "Admission", "AdmissionStats", "Leg", "Refusal"]


class Leg(StrEnum):
    """What a call is made of, as far as it costs."""

    DIRECT = "direct"
    """A browser on our own WebRTC."""
    MODEL_WEBRTC = "model_webrtc"
    """A model reached over WebRTC."""
    LIVEKIT = "livekit"
    """A LiveKit room."""


COSTS: Mapping[Leg, float] = {Leg.DIRECT: 1.0, Leg.MODEL_WEBRTC: 1.0, Leg.LIVEKIT: 0.15}

_LATE_MS = 250.0
"""A loop that is this late, again and again, has no room for more, whatever the table says."""
_SAMPLES = 8


class Refusal(StrEnum):
    FULL = "full"
    BUSY = "busy"


class AdmissionStats(msgspec.Struct):
    admitted: int = 0
    refused_full: int = 0
    """The budget would not hold it."""
    refused_busy: int = 0
    """The event loop was late."""


class Admission:
    """Charges calls against a budget. Full: the call is refused, counted; nothing waits."""

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.stats = AdmissionStats()
        self._charged: dict[str, float] = {}
        self._late_ms: deque[float] = deque(maxlen=_SAMPLES)

    @property
    def load(self) -> float:
        """Sum of what is charged."""
        return sum(self._charged.values())

    @property
    def late_ms(self) -> float:
        """How late the loop is: the median of the last samples."""
        samples = sorted(self._late_ms)
        return samples[len(samples) // 2] if samples else 0.0

    def note_lateness(self, late_ms: float) -> None:
        """One measurement of how late the event loop woke somebody up."""
        self._late_ms.append(late_ms)

    def admit(self, call: str, legs: tuple[Leg, ...]) -> Refusal | None:
        """Charge this call, or say why there is no room for it."""
        assert call not in self._charged, "each call is charged once"
        cost = sum(COSTS[leg] for leg in legs)
        if self.load + cost > self.budget + 1e-9:
            self.stats.refused_full += 1
            return Refusal.FULL
        if self._charged and self.late_ms > _LATE_MS:
            self.stats.refused_busy += 1
            return Refusal.BUSY
        self._charged[call] = cost
        self.stats.admitted += 1
        return None

    def release(self, call: str) -> None:
        """This call is over. Safe to call twice."""
        self._charged.pop(call, None)
