"""What the people of a call are called."""

from __future__ import annotations

from bridge.core.words import ParticipantId

__all__ = ["Names"]

_KEPT = 1000


class Names:
    """Names by identity. Full: the oldest is forgotten, and the identity stands for it."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._names: dict[ParticipantId, str] = {}

    def know(self, participant: ParticipantId, name: str) -> None:
        """He is called so from now on."""
        self._names.pop(participant, None)
        if name and name != participant:
            self._names[participant] = name
        if len(self._names) > _KEPT:
            del self._names[next(iter(self._names))]

    def of(self, speaker: ParticipantId | None) -> str:
        """His name in the room, else his identity; of the model (None) what the settings call it."""
        return self._model if speaker is None else self._names.get(speaker, speaker)
