"""May the user take the floor? A policy for each reply, and the patience that local voice activity detection needs."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from bridge.conversation.stats import ConversationStats

__all__ = ["BargeIn", "BargeInPolicy", "BargeInSettings"]

_KEPT_POLICIES = 64
_NEXT_REPLY_WITHIN_S = 20.0
_BELIEVED_FOR_S = 10.0  # a start whose end got lost must not cut every reply that follows


class BargeInPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether one reply may be interrupted."""

    mode: Literal["allow", "never", "after"] = "allow"
    """allow: at any time. never: it is heard to its end. after: once `after_ms` of it have been heard."""
    after_ms: Annotated[int, Meta(ge=0, le=600_000)] = 0
    """With mode after, and only then: speech that must be heard first, ms."""

    def __post_init__(self) -> None:
        if self.after_ms and self.mode != "after":
            raise ValueError(f"after_ms = {self.after_ms} counts with mode = 'after' only: set it, or remove after_ms")


class BargeInSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may interrupt the model's speech, and how soon."""

    policy: BargeInPolicy = BargeInPolicy()
    """Of every reply that has no policy of its own."""
    greeting: BargeInPolicy = BargeInPolicy()
    """Of the greeting."""
    local: bool = False
    """Our own voice activity detection may interrupt too, not only the provider."""
    min_speech_ms: Annotated[int, Meta(ge=0, le=5000)] = 200
    """Local detection: a breath is no interruption; speech must last this long, ms."""
    away_min_speech_ms: Annotated[int, Meta(ge=0, le=5000)] = 60
    """While no model session hears the room, or what sounds was said by an earlier one, local detection interrupts even
    without `local`, or nobody would: speech must have lasted this long, ms. A detector needs `vad.onset_ms` of it in
    any case."""
    greeting_guard_ms: Annotated[int, Meta(ge=0, le=10_000)] = 400
    """Local detection: not in the first part of the first reply, until the caller's echo canceller has settled, ms."""
    text: bool = True
    """A typed message interrupts too."""


class BargeIn:
    """Keeps the policy of each reply, and the local speech that has not yet lasted long enough."""

    def __init__(self, settings: BargeInSettings, stats: ConversationStats) -> None:
        self.settings = settings
        self._stats = stats
        self._policies: dict[str, BargeInPolicy] = {}
        self._next: tuple[BargeInPolicy, float] | None = None
        self._guard_until: float | None = None
        self._heard_a_reply = False
        self._armed_at: float | None = None
        self._speaking_since: float | None = None

    def next_reply(self, policy: BargeInPolicy, now: float) -> None:
        """The reply that begins next (within 20 s) has this policy."""
        self._next = (policy, now + _NEXT_REPLY_WITHIN_S)

    def reply_started(self, reply_id: str, now: float) -> None:
        """Give the reply its policy. Twice is once."""
        if reply_id in self._policies:
            return
        policy = self.settings.policy
        if self._next is not None:
            chosen, until = self._next
            self._next = None
            if now <= until:
                policy = chosen
        self._policies[reply_id] = policy
        if len(self._policies) > _KEPT_POLICIES:
            del self._policies[next(iter(self._policies))]

    def wait_ms(self, reply_id: str, heard_ms: float) -> float | None:
        """How long this reply must sound on before it may be cut: 0 at once, None never."""
        policy = self._policies.get(reply_id, self.settings.policy)
        if policy.mode == "never":
            return None
        return max(0.0, policy.after_ms - heard_ms) if policy.mode == "after" else 0.0

    def reply_audible(self, now: float) -> None:
        """A reply begins to sound; the first one is guarded against its own echo."""
        if not self._heard_a_reply:
            self._heard_a_reply = True
            self._guard_until = now + self.settings.greeting_guard_ms / 1000
        if self._speaking_since is not None and now - self._speaking_since < _BELIEVED_FOR_S:
            self._arm(now)  # somebody speaks already: he is heard out anew

    def speech_started(self, now: float) -> None:
        """Local detection hears somebody. It counts from `deadline()` on, if he goes on till then."""
        self._speaking_since = now
        self._arm(now)

    def speech_while_away(self, now: float, spoken_ms: int) -> None:
        """The same while no session hears him; he has been speaking for so long."""
        self._arm(now, self.settings.away_min_speech_ms - spoken_ms)

    def speech_stopped(self, now: float) -> None:
        """Local detection hears nobody any more."""
        self._speaking_since = None
        if self._armed_at is not None:
            if now < self._armed_at:
                self._stats.short_speech += 1
            self._armed_at = None

    def _arm(self, now: float, wait_ms: float | None = None) -> None:
        start = now if self._guard_until is None else max(now, self._guard_until)
        self._armed_at = start + max(0.0, self.settings.min_speech_ms if wait_ms is None else wait_ms) / 1000

    def speech_counts(self, now: float) -> bool:
        """True once, when local speech has lasted long enough."""
        if self._armed_at is None or now < self._armed_at:
            return False
        self._armed_at = None
        return True

    def deadline(self) -> float | None:
        return self._armed_at
