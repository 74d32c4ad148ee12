"""What ends or prevents a call, by what the operator should do.

BridgeError
├── ConfigError          a key, value or file is wrong: names field, value and mend; nothing was opened
├── RoomError            the room could not be joined or was lost for good
│   ├── RoomRejected     token, room name or permission refused: do not retry
│   └── RoomInUse        this object serves or has served a call: make a new one
└── ModelFailed          the model could not be reached or gave up; `__cause__` is the provider's error
"""

from __future__ import annotations

from collections.abc import Sequence

from providers.errors import shown

__all__ = ["BridgeError", "ConfigError", "ModelFailed", "RoomError", "RoomInUse", "RoomRejected"]


class BridgeError(Exception):
    """Base of everything that a call raises."""


class ConfigError(BridgeError):
    """A setting is wrong. Found before anything is opened."""

    def __init__(self, field: str, value: object, mend: str, others: Sequence[ConfigError] = ()) -> None:
        super().__init__("\n".join([f"{field} = {shown(value)}: {mend}", *(str(other) for other in others)]))
        self.field = field
        """Path of the key as the file spells it, such as `speech.voice`, or the name of an environment variable."""
        self.value = value
        self.mend = mend
        self.others = tuple(others)
        """Further problems found in the same reading."""


class RoomError(BridgeError):
    """The room could not be joined in time, or was lost for good. Names the setting to change where there is one."""

    def __init__(self, message: str, *, field: str = "", value: object = None, mend: str = "") -> None:
        super().__init__(f"{field} = {value!r}: {message}; {mend}" if field else message)
        self.field = field
        self.value = value
        self.mend = mend


class RoomRejected(RoomError):
    """Token, room name or permission refused. Do not retry; tell the operator."""


class RoomInUse(RoomError):
    """One transport object is one call, and this one has had its own. Whoever gets this must not close it."""


class ModelFailed(BridgeError):
    """The model could not be reached or gave up; `__cause__` is the provider's error."""
