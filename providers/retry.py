"""When to try again: exponential backoff with full jitter, and a budget that many callers share. No clock, no sleep."""

from __future__ import annotations

import math
import random
from collections import deque
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from providers.errors import ProviderUnavailable

__all__ = ["Backoff", "Budget", "RetryBudget", "RetryPolicy"]


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How patient we are with a provider that is away."""

    base_s: Annotated[float, Meta(gt=0, le=60)] = 0.25
    """The first wait is anything up to this, s; each further one up to twice the one before."""
    longest_s: Annotated[float, Meta(gt=0, le=600)] = 10.0
    """No wait of ours grows beyond this, s. The provider's own wish may."""
    give_up_after_s: Annotated[float, Meta(ge=0, le=3600)] = 25.0
    """From the loss to the moment when the next model is asked, or the call ends, s: waits and attempts included. Only
    the first attempt always has the time that connecting and setup may take. 0: never try again."""


class Budget(Protocol):
    """Moments for further attempts that many callers share: a `RetryBudget`, or a whole `health.EndpointHealth`."""

    def reserve(self, at: float, latest: float = math.inf) -> float | None:
        """Book a moment from `at` to `latest`; None: there is none, and nothing is booked."""
        ...


class RetryBudget:
    """At most `per_minute` attempts in any 60 s, whoever makes them: one budget per endpoint, shared by all calls."""

    WINDOW_S = 60.0

    def __init__(self, per_minute: int) -> None:
        if per_minute < 1:
            raise ValueError(f"per_minute = {per_minute}: a budget allows at least one attempt")
        self._attempts: deque[float] = deque(maxlen=per_minute)

    def reserve(self, at: float, latest: float = math.inf) -> float | None:
        """Book the first free moment from `at` to `latest`, and return it. None: there is none, and nothing is booked.

        Whoever gives up must leave its moment to others, or a crowd of them would book the budget for hours ahead.
        """
        if len(self._attempts) == self._attempts.maxlen:
            at = max(at, self._attempts[0] + self.WINDOW_S)
        # Moments are booked ahead, so that callers who fail together do not all get the same free one.
        if self._attempts:
            at = max(at, self._attempts[-1])
        if at > latest:
            return None
        self._attempts.append(at)
        return at


class Backoff:
    """The waits of one series of attempts.

    `rng` is the caller's, seeded where a run must repeat. After a success call `succeeded`, so that the next trouble
    starts anew.
    """

    def __init__(self, policy: RetryPolicy, rng: random.Random, budget: Budget | None = None) -> None:
        self.failures = 0
        """In a row."""
        self._policy = policy
        self._rng = rng
        self._budget = budget
        self._since: float | None = None

    def begin(self, now: float) -> float:
        """There is trouble, and the patience runs; from the first time that this was said, or from the first failure.
        Returns that time."""
        if self._since is None:
            self._since = now
        return self._since

    @property
    def until(self) -> float:
        """When the patience is over; inf: there is no trouble."""
        return math.inf if self._since is None else self._since + self._policy.give_up_after_s

    def delay_s(self, error: Exception, now: float) -> float | None:
        """Seconds to wait before the next attempt after this failure; None: give up and raise `error`.

        Only ProviderUnavailable is worth another attempt: everything else fails the same way again. Its `retry_after_s`
        is the least that we wait, and our jitter comes on top, because everybody else was told the same figure.
        """
        if not isinstance(error, ProviderUnavailable):
            return None
        latest = self.begin(now) + self._policy.give_up_after_s
        ceiling_s = min(self._policy.longest_s, self._policy.base_s * 2.0 ** min(self.failures, 64))
        self.failures += 1
        at = now + (error.retry_after_s or 0.0) + self._rng.uniform(0.0, ceiling_s)
        if at > latest:
            return None
        if self._budget is not None:
            booked = self._budget.reserve(at, latest)
            return None if booked is None else booked - now
        return at - now

    def succeeded(self) -> None:
        """The attempt held: the next failure is a first one."""
        self.failures = 0
        self._since = None
