"""Realtime speech models behind one interface. Knows nothing of rooms: imports nothing from `bridge`.

The names below are the public ones; everything else may change without notice. `providers.contract` holds the events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from providers.contract import (
        Capabilities,
        HistoryItem,
        ModelSession,
        SessionEvent,
        SessionStart,
        SpeechModel,
        Standby,
        ToolSpec,
    )
    from providers.errors import (
        NeedsNewSession,
        ProviderError,
        ProviderRejected,
        ProviderUnavailable,
        ResumeRefused,
        ResumeTooSoon,
        SessionEnded,
        SettingRefused,
        SetupTimeout,
    )
    from providers.gemini.model import GeminiModel
    from providers.health import HealthBook, HealthSettings
    from providers.openai.model import OpenAIModel
    from providers.scripted.model import ScriptedModel
    from providers.settings import ConnectionSettings, SpeechSettings

__all__ = [
    "Capabilities",
    "ConnectionSettings",
    "GeminiModel",
    "HealthBook",
    "HealthSettings",
    "HistoryItem",
    "ModelSession",
    "NeedsNewSession",
    "OpenAIModel",
    "ProviderError",
    "ProviderRejected",
    "ProviderUnavailable",
    "ResumeRefused",
    "ResumeTooSoon",
    "ScriptedModel",
    "SessionEnded",
    "SessionEvent",
    "SessionStart",
    "SettingRefused",
    "SetupTimeout",
    "SpeechModel",
    "SpeechSettings",
    "Standby",
    "ToolSpec",
]

_HOMES = {
    "providers.contract": "Capabilities HistoryItem ModelSession SessionEvent SessionStart SpeechModel Standby "
    "ToolSpec",
    "providers.errors": "NeedsNewSession ProviderError ProviderRejected ProviderUnavailable ResumeRefused "
    "ResumeTooSoon SessionEnded SettingRefused SetupTimeout",
    "providers.gemini.model": "GeminiModel",
    "providers.health": "HealthBook HealthSettings",
    "providers.openai.model": "OpenAIModel",
    "providers.scripted.model": "ScriptedModel",
    "providers.settings": "ConnectionSettings SpeechSettings",
}
"""Where each name lives. It is loaded when it is first asked for, so that importing this package costs nothing."""

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
