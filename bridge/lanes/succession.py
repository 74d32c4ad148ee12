"""Which model a call is led by, which one stands in for it, and how long either is asked."""

from __future__ import annotations

import random
from collections.abc import Sequence

from bridge.lanes.settings import CallSettings
from providers.contract import SpeechModel
from providers.errors import ProviderError, ProviderUnavailable
from providers.health import EndpointHealth, HealthBook
from providers.retry import Backoff

__all__ = ["Succession"]

_LONGEST_WISH_S = 60.0
"""Whatever a provider asks for: a planned change is looked at again after this long."""


class Succession:
    """The models of one call in the order of preference, and what is known of their endpoints. No I/O."""

    def __init__(
        self, models: Sequence[SpeechModel], settings: CallSettings, health: HealthBook, rng: random.Random
    ) -> None:
        self.model = models[0]
        """Of the session that leads, or leads next."""
        self._models = tuple(models)
        self._settings = settings
        self._health = health
        self._rng = rng
        self._given_up: dict[str, float] = {}
        """Endpoint to the time from which this call may ask it again."""
        self.backoff = self._patience()

    def health_of(self, model: SpeechModel) -> EndpointHealth:
        """What all calls of the process know of its endpoint."""
        return self._health.of(model.endpoint)

    def others(self, model: SpeechModel, now: float) -> list[SpeechModel]:
        """Who else of the list may be asked now."""
        rested = [other for other in self._models if now >= self._given_up.get(other.endpoint, now)]
        return [other for other in rested if other is not model and self.health_of(other).allows(now) == 0]

    def led_by(self, model: SpeechModel) -> None:
        """The call goes on with this one. Another one than before has all our patience."""
        if model is not self.model:
            self.model = model
            self.backoff = self._patience()

    def give_up(self, problem: ProviderError, now: float) -> SpeechModel:
        """The model is given up: the next healthy one of the list takes its place. Returns the one given up.

        Raises: `problem` where there is no other.
        """
        given_up = self.model
        self._given_up[given_up.endpoint] = now + self._settings.cool_down_s
        others = self.others(given_up, now)
        if not others:
            raise problem
        self.led_by(others[0])
        return given_up

    @property
    def longest_wait_s(self) -> float:
        """No wait of our own is longer."""
        return self._settings.retry.longest_s

    def pause_s(self, failures: int, problem: ProviderError | None = None) -> float:
        """Seconds until a planned change may be tried again that has failed `failures` times before, now for `problem`:
        longer each time, for the leader still serves."""
        pause_s = min(self.longest_wait_s, 2.0 ** min(failures, 64)) * self._rng.uniform(0.5, 1.5)
        wish_s = problem.retry_after_s if isinstance(problem, ProviderUnavailable) else None
        return max(pause_s, min(wish_s or 0.0, _LONGEST_WISH_S))

    def _patience(self) -> Backoff:
        return Backoff(self._settings.retry, self._rng, self.health_of(self.model))
