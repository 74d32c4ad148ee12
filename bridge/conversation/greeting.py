"""When the model may open the conversation: once, and not before somebody can hear it."""

from __future__ import annotations

__all__ = ["Greeting"]

_UNHEARD_S = 3.0
"""A client that never says that it receives our voice is greeted all the same after this long, s."""


class Greeting:
    """Due when the model is ready, somebody is there, and the voice reaches them (where the transport tells)."""

    def __init__(self, *, wanted: bool, awaits_hearer: bool) -> None:
        self._wanted = wanted
        self._hearer = not awaits_hearer
        self._model_ready = False
        self._somebody = False
        self._latest_at: float | None = None

    def model_ready(self) -> None:
        self._model_ready = True

    def somebody_came(self, now: float) -> None:
        self._somebody = True
        if self._latest_at is None:
            self._latest_at = now + _UNHEARD_S

    def voice_arrives(self) -> None:
        """Somebody's client receives the agent's voice."""
        self._hearer = True

    def due(self, now: float) -> bool:
        """True once, when the greeting should be said."""
        if not self._wanted or not self._model_ready or not self._somebody:
            return False
        if not self._hearer and (self._latest_at is None or now < self._latest_at):
            return False
        self._wanted = False
        return True

    def deadline(self) -> float | None:
        """When `due` may become true by time alone."""
        return self._latest_at if self._wanted and self._model_ready and self._somebody else None
