"""The speech models by name. Nothing of a provider is imported before it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from providers.contract import Capabilities, SpeechModel
from providers.errors import SettingRefused
from providers.settings import ConnectionSettings, SpeechSettings

__all__ = ["PROVIDERS", "Provider"]


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """Where one provider's parts are, each as `module:name`."""

    name: str
    title: str
    settings: str
    """The Struct of `[providers.NAME]`."""
    model: str
    """The `SpeechModel` class, with `from_config(speech, own, connection, environ)`."""
    checks: str = ""
    """`(speech, own, environ) -> list[SettingRefused]`: all that it would refuse. Empty: the model's own check."""
    emulator: str = ""
    """The vendor of `providers.emulators`; empty when there is nothing to emulate."""
    secrets: tuple[str, ...] = ()
    """Environment variables that hold its key, where the settings name no other; one is enough."""

    def settings_type(self) -> type[msgspec.Struct]:
        """The type of `[providers.NAME]`."""
        found = _imported(self.settings)
        assert isinstance(found, type) and issubclass(found, msgspec.Struct), f"{self.settings} is no Struct"
        return found

    def secrets_for(self, own: msgspec.Struct) -> tuple[str, ...]:
        """Environment variables that hold its key with these settings (`api_key_env` names another); one is enough."""
        named = getattr(own, "api_key_env", None)
        return (named,) if named else self.secrets

    def problems(
        self,
        speech: SpeechSettings,
        own: msgspec.Struct,
        environ: Mapping[str, str],
        connection: ConnectionSettings | None = None,
    ) -> list[SettingRefused]:
        """Everything that the model would refuse, missing keys, and a `connection` that cannot be dialled with.

        Nothing is opened. A provider without a network has no use for the connection, and does not look at it.
        """
        found = list(_imported(self.checks)(speech, own, environ)) if self.checks else []
        if not self.checks:
            try:
                self.connector(speech, own, ConnectionSettings(), environ)
            except SettingRefused as refused:
                found.append(refused)
        if connection is not None and self.name in _ADDRESS:
            try:
                _imported("providers.link:check_connection")(connection)
            except SettingRefused as refused:
                found.append(refused)
        return found

    def connector(
        self, speech: SpeechSettings, own: msgspec.Struct, connection: ConnectionSettings, environ: Mapping[str, str]
    ) -> SpeechModel:
        """The configured model. Raises: `SettingRefused`."""
        return cast(SpeechModel, _imported(self.model).from_config(speech, own, connection, environ))

    def capabilities(self, speech: SpeechSettings, own: msgspec.Struct, environ: Mapping[str, str]) -> Capabilities:
        """What the configured model can do; needs no key."""
        return cast(Capabilities, _CAPABILITIES[self.name](speech, own, environ))

    def address(self, own: msgspec.Struct, environ: Mapping[str, str]) -> str:
        """Where a session would be opened; empty when it needs no network."""
        return cast(str, _ADDRESS[self.name](own, environ)) if self.name in _ADDRESS else ""

    def emulated(self) -> Any:
        """The vendor that `providers.emulators.server` serves."""
        assert self.emulator, f"{self.name} has no emulator"
        return _imported(self.emulator)()


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _gemini_capabilities(speech: SpeechSettings, own: Any, environ: Mapping[str, str]) -> Capabilities:
    from providers.gemini.endpoint import chosen_backend
    from providers.gemini.setup import capabilities

    return capabilities(speech, own, chosen_backend(own, environ))


def _gemini_address(own: Any, environ: Mapping[str, str]) -> str:
    from providers.gemini.endpoint import endpoint

    return endpoint(own, environ).url


def _openai_address(own: Any, environ: Mapping[str, str]) -> str:
    from providers.openai.endpoint import calls_url, find_base_url, websocket_url

    base_url = find_base_url(own.base_url, environ)
    return calls_url(base_url) if own.transport == "webrtc" else websocket_url(base_url, own.model)


_CAPABILITIES: Mapping[str, Any] = {
    "gemini": _gemini_capabilities,
    "openai": lambda *given: _imported("providers.openai.setup:capabilities_of")(*given),
    "scripted": lambda speech, own, environ: (
        PROVIDERS["scripted"].connector(speech, own, ConnectionSettings(), environ).capabilities
    ),
}
_ADDRESS: Mapping[str, Any] = {"gemini": _gemini_address, "openai": _openai_address}

PROVIDERS: Mapping[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(
            name="scripted",
            title="offline: repeats what it hears, or follows a script",
            settings="providers.scripted.settings:ScriptedSettings",
            model="providers.scripted.model:ScriptedModel",
        ),
        Provider(
            name="gemini",
            title="Gemini Live",
            settings="providers.gemini.settings:GeminiSettings",
            model="providers.gemini.model:GeminiModel",
            checks="providers.gemini.checks:problems",
            emulator="providers.emulators.gemini:GeminiVendor",
            secrets=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        ),
        Provider(
            name="openai",
            title="OpenAI Realtime",
            settings="providers.openai.settings:OpenAISettings",
            model="providers.openai.model:OpenAIModel",
            checks="providers.openai.setup:problems",
            emulator="providers.emulators.openai:OpenAIVendor",
            secrets=("OPENAI_API_KEY",),
        ),
    )
}
