"""What the application wants of the next session: another model, or other settings. One wish at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from providers.contract import SpeechModel
from providers.errors import ProviderError, SessionEnded

__all__ = ["Wishes"]


class Wishes:
    """The wish that is open, if there is one, and who waits for it."""

    def __init__(self, refused: Callable[[], None]) -> None:
        """Args: refused is called when nobody wants a change any more because it cannot be had."""
        self.model: SpeechModel | None = None
        """To be swapped to."""
        self._granted: asyncio.Future[None] | None = None
        self._refused = refused

    def make(self, model: SpeechModel | None) -> asyncio.Future[None]:
        """A new wish; the one before it, if it is still open, is refused. Returns what tells how it ends."""
        self._refuse(SessionEnded("another change was asked for meanwhile"))
        self.model = model
        self._granted = asyncio.get_running_loop().create_future()
        return self._granted

    def grant(self) -> None:
        """The session that leads is as it was wanted."""
        granted = self._close()
        if granted is not None:
            granted.set_result(None)

    def withdraw(self, granted: asyncio.Future[None]) -> None:
        """Whoever waited for it does not any more."""
        if self._granted is granted:
            self._close()
            self._refused()

    def refuse(self, problem: ProviderError) -> None:
        """It will not be granted; no-op where there is none."""
        if self._refuse(problem):
            self._refused()

    def _refuse(self, problem: ProviderError) -> bool:
        granted = self._close()
        if granted is not None:
            granted.set_exception(problem)
        return granted is not None

    def _close(self) -> asyncio.Future[None] | None:
        self.model = None
        granted, self._granted = self._granted, None
        return None if granted is None or granted.done() else granted
