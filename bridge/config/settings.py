"""The whole configuration of a call: each package's own settings, put together."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from bridge.facade import CallConfig
from bridge.http_api.settings import ServeSettings
from bridge.transports.livekit_room.settings import LiveKitSettings
from bridge.transports.webrtc_call.settings import DirectCallSettings
from providers.catalog import PROVIDERS
from providers.health import HealthSettings
from providers.settings import ConnectionSettings, SpeechSettings

__all__ = ["Config", "LogSettings"]


class LogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written to standard error. Speech never is; transcripts only when asked."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Nothing less grave is logged."""
    format: Literal["text", "json"] = "text"
    """text: one line of key=value pairs. json: one object a line."""
    transcripts: bool = False
    """Log what is said, as text. Off: nobody's words reach the log."""
    counters_every_s: Annotated[float, Meta(ge=0, le=86_400)] = 60.0
    """How often the counters that have grown are logged during a call, s. 0: at its end only."""


class Config(CallConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One call: which model, which room, and how the two are joined. A changed configuration is a new call.

    `health` and `serve` are the process's: they hold for all its calls.
    """

    provider: str = "scripted"
    """Which of [providers.*] speaks: scripted, gemini or openai. Swapping the model is this one line."""
    failover: tuple[str, ...] = ()
    """Who stands in, in this order, when the provider in use gives up in a call: gemini, openai or scripted. What was
    said is told to the next one. Each needs its key and may have its table in [providers.*]."""
    speech: SpeechSettings = SpeechSettings()
    connection: ConnectionSettings = ConnectionSettings()
    health: HealthSettings = HealthSettings()
    livekit: LiveKitSettings = LiveKitSettings()
    webrtc: DirectCallSettings = DirectCallSettings()
    serve: ServeSettings = ServeSettings()
    log: LogSettings = LogSettings()
    providers: dict[str, Any] = msgspec.field(default_factory=dict)
    """Provider name to its settings Struct, for each table that the file holds and the one in use."""

    def of(self, provider: str) -> Config:
        """The same with another of its providers in use."""
        return msgspec.structs.replace(self, provider=provider)

    def secret_variables(self) -> frozenset[str]:
        """Environment variables that hold the providers' keys, and the passwords of TURN servers."""
        keys = {variable for name, own in self.providers.items() for variable in PROVIDERS[name].secrets_for(own)}
        servers = [*self.webrtc.ice_servers]
        for own in self.providers.values():
            servers += getattr(own, "ice_servers", ())
        return frozenset(keys | {server.credential_env for server in servers if server.credential_env})
