"""The connection of the next session, dialled while the present one still serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from providers.contract import SpeechModel, Standby
from providers.errors import ProviderError

__all__ = ["Understudy"]

log = logging.getLogger(__name__)


class Understudy:
    """At most one connection that waits. Dialled in a task of its own, taken once."""

    def __init__(self, name: str, failed: Callable[[SpeechModel, ProviderError], None]) -> None:
        """Args: failed is told why a model could not be dialled."""
        self._name = name
        self._failed = failed
        self._standby: Standby | None = None
        self._model: SpeechModel | None = None
        self._dialling: asyncio.Task[None] | None = None

    @property
    def is_gone(self) -> bool:
        """Nothing waits, and nothing is being dialled."""
        return self._dialling is None and (self._standby is None or not self._standby.alive)

    def dial(self, model: SpeechModel, group: asyncio.TaskGroup) -> None:
        """Begin to dial, unless this model's connection waits already or is on its way."""
        if self._model is model and not self.is_gone:
            return
        self._stop()
        self._model = model
        before, self._standby = self._standby, None
        self._dialling = group.create_task(self._dial(model, before), name=f"{self._name}:dial-successor")

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

    async def _dial(self, model: SpeechModel, before: Standby | None) -> None:
        if before is not None:
            await before.close()
        try:
            self._standby = await model.stand_by()
        except ProviderError as problem:
            log.warning("successor not reached call=%s: %s", self._name, problem)
            self._failed(model, problem)
        finally:
            if self._dialling is asyncio.current_task():
                self._dialling = None
