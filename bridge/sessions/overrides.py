"""What a call has changed of its configuration, and what a session knows of that. No I/O, no clock."""

from __future__ import annotations

from typing import Any

import msgspec

from providers.contract import ToolSpec

__all__ = ["CallOverrides", "Overrides"]


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """What takes the place of the configured values. None: nothing does."""

    instructions: str | None = None
    tools: tuple[ToolSpec, ...] | None = None
    voice: str | None = None

    def given(self) -> dict[str, Any]:
        """Those that are not None, by name."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}

    def over(self, earlier: Overrides) -> Overrides:
        """These, and of the earlier ones what these leave as it was."""
        return msgspec.structs.replace(earlier, **self.given())

    def lacks(self, wanted: Overrides) -> list[str]:
        """Names of what a session that was opened with these would have to change for `wanted`."""
        return [name for name in self.__struct_fields__ if getattr(self, name) != getattr(wanted, name)]


class CallOverrides:
    """What was changed since a call began. A voice is its provider's own: the models of another one keep theirs."""

    def __init__(self) -> None:
        self._common = Overrides()
        self._voices: dict[str, str] = {}

    def of(self, provider: str) -> Overrides:
        """For a session of a model of this provider."""
        return msgspec.structs.replace(self._common, voice=self._voices.get(provider))

    def add(self, changed: Overrides, provider: str) -> None:
        """Asked of a model of this provider."""
        if changed.voice is not None:
            self._voices[provider] = changed.voice
        self._common = msgspec.structs.replace(changed, voice=None).over(self._common)

    def forget_voice(self, provider: str) -> None:
        """It has no such voice."""
        self._voices.pop(provider, None)
