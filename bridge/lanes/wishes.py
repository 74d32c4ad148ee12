"""What the application wants of the next session: another model, or other settings. One wish at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import msgspec

from bridge.sessions.overrides import Overrides
from providers.contract import SpeechModel
from providers.errors import ProviderError, ProviderUnavailable, SessionEnded

__all__ = ["Wish", "Wishes"]


class Wish(msgspec.Struct, eq=False, kw_only=True):
    """One change that somebody waits for."""

    granted: asyncio.Future[None]
    """Tells how it ends."""
    reason: str
    model: SpeechModel | None = None
    """To be swapped to."""
    overrides: Overrides = Overrides()
    """To be changed; kept for the rest of the call when it is granted."""
    failed_at: float | None = None
    """When it first could not be had."""
    failure: ProviderError | None = None
    """Why it could not be had, the last time."""

    def is_served_by(self, model: SpeechModel, lacks: Collection[str]) -> bool:
        """By a session of `model` that lacks these of what was changed?"""
        return (self.model is None or self.model is model) and not any(name in lacks for name in self.overrides.given())

    def is_past_hope(self, problem: ProviderError, now: float, pause_s: float, patience_s: float) -> bool:
        """After this failure: would another attempt in `pause_s` fail as well, or come too late?"""
        self.failed_at = now if self.failed_at is None else self.failed_at
        self.failure = problem
        return not isinstance(problem, ProviderUnavailable) or now + pause_s > self.failed_at + patience_s


class Wishes:
    """The wish that is open, if there is one, and who waits for it."""

    def __init__(self, refused: Callable[[], None]) -> None:
        """Args: refused is called when nobody wants a change any more because it cannot be had."""
        self.open: Wish | None = None
        self._refused = refused

    @property
    def model(self) -> SpeechModel | None:
        """To be swapped to."""
        return None if self.open is None else self.open.model

    @property
    def overrides(self) -> Overrides:
        """Of the next session, beside those that hold already."""
        return Overrides() if self.open is None else self.open.overrides

    def of(self, model: SpeechModel) -> Wish | None:
        """What a session of `model` is opened for, if it is for a wish."""
        return None if self.open is None or self.open.model not in (None, model) else self.open

    def make(self, reason: str, *, model: SpeechModel | None = None, overrides: Overrides | None = None) -> Wish:
        """A new wish; the one before it, if it is still open, is refused."""
        self._refuse(SessionEnded("another change was asked for meanwhile"))
        granted = asyncio.get_running_loop().create_future()
        self.open = Wish(granted=granted, reason=reason, model=model, overrides=overrides or Overrides())
        return self.open

    def grant(self) -> None:
        """The session that leads is as it was wanted."""
        granted = self._close()
        if granted is not None:
            granted.set_result(None)

    def withdraw(self, wish: Wish) -> None:
        """Whoever waited for it does not any more."""
        if self.open is wish:
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
        wish, self.open = self.open, None
        return None if wish is None or wish.granted.done() else wish.granted
