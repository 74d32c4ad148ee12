"""How an endpoint fares, learned from all calls of the process, so that they do not storm it. No clock, no sleep.

When a circuit opens or closes, that is logged with the endpoint.

    health = book.of(model.endpoint)
    while (wait_s := health.begin(now)) > 0: ...sleep, or give up          # before every attempt, the first one too
    ...connect...                                                          # then one of:
    health.succeeded(now) / health.failed(error, now) / health.abandoned(when it began)
    at = health.reserve(now + backoff_s, latest)                           # before every further attempt; None: give up

A circuit breaker: CLOSED lets everybody try. After many failures in a row it is OPEN, and nobody does. When that time
is over it is HALF_OPEN: one attempt goes ahead, the others wait for what becomes of it.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from providers.errors import (
    NeedsNewSession,
    ProviderRejected,
    ProviderUnavailable,
    ResumeTooSoon,
    SessionEnded,
    SettingRefused,
)
from providers.retry import RetryBudget

__all__ = ["Circuit", "EndpointHealth", "HealthBook", "HealthSettings", "HealthStats"]

log = logging.getLogger(__name__)

_LOOK_S = 0.25
"""How soon those who wait for somebody else's attempt ask again."""
_ENDPOINTS = 256
_WISH_CODES = frozenset({429, 503})
"""HTTP answers whose Retry-After is meant for all of us."""


class HealthSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the calls of a process leave an endpoint of a provider alone that some of them have found to be ill."""

    retries_per_minute: Annotated[int, Meta(ge=1, le=100_000)] = 120
    """Further attempts at one endpoint in any minute, of all calls together. First attempts are not counted."""
    failures_to_open: Annotated[int, Meta(ge=1, le=1000)] = 8
    """After so many failed attempts in a row, of all calls together, nobody tries for a while."""
    open_s: Annotated[float, Meta(gt=0, le=600)] = 5.0
    """How long nobody tries then, s. Doubled each time that the one attempt after it fails too."""
    longest_open_s: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    """It never grows beyond this, s; a Retry-After of the endpoint counts up to this, too."""
    rejected_s: Annotated[float, Meta(gt=0, le=86_400)] = 60.0
    """How long nobody tries after key, quota or model were refused, s."""
    attempt_s: Annotated[float, Meta(gt=0, le=600)] = 25.0
    """An attempt that nothing was heard of for so long counts as given up, s. Longer than dialling and setup take."""


class Circuit(StrEnum):
    CLOSED = "closed"
    """Everybody may try."""
    OPEN = "open"
    """Nobody may."""
    HALF_OPEN = "half_open"
    """One may, and decides for all."""


class HealthStats(msgspec.Struct):
    """Plain counters of one endpoint."""

    attempts: int = 0
    """To connect, connections dialled ahead too."""
    failures: int = 0
    openings: int = 0
    """How often the circuit opened."""
    refused_retries: int = 0
    """Further attempts for which there was no moment in time."""


class EndpointHealth:
    """One endpoint's circuit and retry budget. Any number of calls share it; all times are on their one clock."""

    def __init__(self, settings: HealthSettings, name: str = "") -> None:
        self.stats = HealthStats()
        self._name = name
        self._settings = settings
        self._budget = RetryBudget(settings.retries_per_minute)
        self._failures = 0  # in a row
        self._open_until: float | None = None  # None: closed
        self._open_for_s = 0.0  # the last time that failures opened it
        self._probe_at: float | None = None  # when the one attempt began that the others wait for

    def circuit(self, now: float) -> Circuit:
        """What holds at this moment."""
        if self._open_until is None:
            return Circuit.CLOSED
        return Circuit.OPEN if now < self._open_until else Circuit.HALF_OPEN

    def allows(self, now: float) -> float:
        """Seconds until an attempt may be made, 0: now. Takes nothing: for those who choose among endpoints."""
        match self.circuit(now):
            case Circuit.CLOSED:
                return 0.0
            case Circuit.OPEN:
                assert self._open_until is not None
                return self._open_until - now
            case Circuit.HALF_OPEN:
                if self._probe_at is None or (wait_s := self._probe_at + self._settings.attempt_s - now) <= 0:
                    return 0.0
                return min(_LOOK_S, wait_s)

    def begin(self, now: float) -> float:
        """Ask just before an attempt. 0: make it, and say what became of it. Else seconds after which to ask again."""
        wait_s = self.allows(now)
        if wait_s > 0:
            return wait_s
        self.stats.attempts += 1
        if self._open_until is not None:
            self._probe_at = now
        return 0.0

    def reserve(self, at: float, latest: float = math.inf) -> float | None:
        """Book a moment for a further attempt, from `at` to `latest`; None: there is none, and nothing is booked.

        Not before the circuit may close, and within the budget that all calls share. At that moment ask `begin`.
        """
        if self._open_until is not None:
            at = max(at, self._open_until)
        booked = self._budget.reserve(at, latest)
        if booked is None:
            self.stats.refused_retries += 1
        return booked

    def succeeded(self, now: float) -> None:
        """A session became ready: the endpoint is well."""
        if self._open_until is not None:
            log.info("endpoint is well again endpoint=%s", self._name)
        self._failures = 0
        self._open_until = self._probe_at = None
        self._open_for_s = 0.0

    def failed(self, error: Exception, now: float, *, began: float | None = None) -> None:
        """An attempt failed that began at `began`, or just now. An error that is about one session only (its setup, a
        handle) shows the endpoint well; one of our own, for which nobody was asked, shows nothing."""
        if isinstance(error, SettingRefused | NeedsNewSession | SessionEnded):
            self.abandoned(now if began is None else began)
            return
        self.stats.failures += 1
        settings = self._settings
        if isinstance(error, ProviderRejected) and error.endpoint_wide:
            self._open(now, settings.rejected_s, error)
        elif not isinstance(error, ProviderUnavailable) or isinstance(error, ResumeTooSoon):
            self.succeeded(now)
        elif self.circuit(now) is Circuit.OPEN:
            pass  # it began before the circuit opened, and tells nothing new
        elif error.code in _WISH_CODES and error.retry_after_s:
            self._open(now, min(error.retry_after_s, settings.longest_open_s), error)
        else:
            self._failures += 1
            if self._open_for_s or self._failures >= settings.failures_to_open:
                self._open_for_s = min(settings.longest_open_s, 2 * self._open_for_s or settings.open_s)
                self._open(now, self._open_for_s, error)
            else:
                # The wait that the endpoint asked for is over: what fails after it is one failure, not a proof.
                self._open_until = self._probe_at = None

    def abandoned(self, began: float) -> None:
        """The attempt that `begin` was asked for at this time was cancelled: whoever waits for what becomes of it may
        try. Nobody waits for one that began before the circuit opened."""
        if self._probe_at == began:
            self._probe_at = None

    def _open(self, now: float, for_s: float, error: Exception) -> None:
        opens, before = self.circuit(now) is not Circuit.OPEN, self._open_until or 0.0
        self.stats.openings += opens
        if opens or before < now + for_s / 2:  # else: one of many that failed for the same cause
            log.warning("endpoint is left alone endpoint=%s for_s=%.0f: %s", self._name, for_s, error)
        self._open_until = max(now + for_s, before)
        self._probe_at = None


class HealthBook:
    """The health of every endpoint that a process speaks to, by `SpeechModel.endpoint`. Share one among all calls.

    Full (256): what was asked for longest ago is forgotten, and begins anew when it is asked for again.
    """

    def __init__(self, settings: HealthSettings | None = None) -> None:
        self.forgotten = HealthStats()
        """Of all endpoints that are forgotten."""
        self._settings = settings or HealthSettings()
        self._endpoints: OrderedDict[str, EndpointHealth] = OrderedDict()

    def of(self, endpoint: str) -> EndpointHealth:
        """This endpoint's health, the same object for everybody who asks."""
        health = self._endpoints.get(endpoint)
        if health is None:
            health = self._endpoints[endpoint] = EndpointHealth(self._settings, endpoint)
            if len(self._endpoints) > _ENDPOINTS:
                _, gone = self._endpoints.popitem(last=False)
                _add(self.forgotten, gone.stats)
        self._endpoints.move_to_end(endpoint)
        return health

    def snapshot(self) -> dict[str, HealthStats]:
        """A copy of every endpoint's counters."""
        return {name: msgspec.structs.replace(health.stats) for name, health in self._endpoints.items()}

    def totals(self) -> HealthStats:
        """The counters of all endpoints together, forgotten ones too."""
        total = msgspec.structs.replace(self.forgotten)
        for health in self._endpoints.values():
            _add(total, health.stats)
        return total


def _add(total: HealthStats, stats: HealthStats) -> None:
    for field in HealthStats.__struct_fields__:
        setattr(total, field, getattr(total, field) + getattr(stats, field))
