"""The connection of the next session, dialled while the present one still serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from providers.contract import SpeechModel, Standby
from providers.errors import ProviderError
from providers.health import EndpointHealth

__all__ = ["Understudy"]

log = logging.getLogger(__name__)


_BUDGET_S = 5.0
"""So long a further attempt waits when the calls of the process have made all that they may: those without a leader
come first."""


class Understudy:
    """At most one connection that waits. Dialled in a task of its own, taken once, and only where the calls of the
    process may ask the endpoint."""

    def __init__(
        self,
        name: str,
        health_of: Callable[[SpeechModel], EndpointHealth],
        failed: Callable[[SpeechModel, ProviderError], None],
    ) -> None:
        """Args: failed is told why a model could not be dialled; its endpoint's health knows by then."""
        self._name = name
        self._health_of = health_of
        self._failed = failed
        self._standby: Standby | None = None
        self._model: SpeechModel | None = None
        self._dialling: asyncio.Task[None] | None = None

    @property
    def is_gone(self) -> bool:
        """Nothing waits, and nothing is being dialled."""
        return self._dialling is None and (self._standby is None or not self._standby.alive)

    @property
    def is_dialling(self) -> bool:
        return self._dialling is not None

    def dial(self, model: SpeechModel, group: asyncio.TaskGroup, *, again: bool = False) -> float:
        """Begin to dial, unless this model's connection waits already or is on its way.

        Args: again says that the attempt before this one failed. Returns 0, or seconds for which nobody may dial.
        """
        if self._model is model and not self.is_gone:
            return 0.0
        health, now = self._health_of(model), asyncio.get_running_loop().time()
        if (wait_s := health.allows(now)) > 0:
            return wait_s
        if again and health.reserve(now, now) is None:
            return _BUDGET_S
        health.begin(now)
        self._stop()
        self._model = model
        before, self._standby = self._standby, None
        self._dialling = group.create_task(self._dial(model, health, before), name=f"{self._name}:dial-successor")
        # However it ends (a connection proves nothing), and also when it was cancelled before its first step.
        self._dialling.add_done_callback(lambda _: health.abandoned(now))
        return 0.0

    async def take(self, model: SpeechModel, wait_s: float) -> Standby | None:
        """The connection that waits for `model`, with at most `wait_s` more to be dialled in. None: there is none."""
        if self._model is not model:
            return None
        if self._dialling is not None:
            await asyncio.wait([self._dialling], timeout=wait_s)
            self._stop()
        standby, self._standby = self._standby, None
        return standby

    async def close(self) -> None:
        """Nobody needs it any more."""
        self._stop()
        standby, self._standby = self._standby, None
        if standby is not None:
            await standby.close()

    def _stop(self) -> None:
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()

    async def _dial(self, model: SpeechModel, health: EndpointHealth, before: Standby | None) -> None:
        if before is not None:
            await before.close()
        try:
            # No success yet: whether the endpoint is well, the setup tells.
            self._standby = await model.stand_by()
        except ProviderError as problem:
            health.failed(problem, asyncio.get_running_loop().time())
            log.warning("successor not reached call=%s: %s", self._name, problem)
            self._failed(model, problem)
        finally:
            if self._dialling is asyncio.current_task():
                self._dialling = None
