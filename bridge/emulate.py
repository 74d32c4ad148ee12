"""`roombridge emulate`: a vendor's realtime protocol on a local port, for trying things without a key."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from bridge.core.errors import BridgeError, ConfigError
from providers.catalog import PROVIDERS
from providers.emulators.chaos import ChaosSchedule
from providers.emulators.server import EmulatorServer
from providers.errors import SettingRefused
from providers.scripted.scenario import Scenario, load

__all__ = ["Listening", "emulate", "planned"]

_VARIABLES = {
    "gemini": ("GOOGLE_GEMINI_BASE_URL", "", "GOOGLE_API_KEY"),
    "openai": ("OPENAI_BASE_URL", "/v1", "OPENAI_API_KEY"),
}


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """Where clients connect to."""

    host: str
    port: int
    tls: bool
    save_certificate: Path | None

    def context(self) -> ssl.SSLContext | None:
        """For the server. Raises ConfigError; saves the certificate if that was asked for."""
        if not self.host.strip():
            raise ConfigError(
                "--host", self.host, "name the address to listen on; 0.0.0.0 is every one of this machine"
            )
        if not self.tls:
            if self.save_certificate is None:
                return None
            mend = "there is a certificate only with --tls"
            raise ConfigError("--save-certificate", str(self.save_certificate), mend)
        from providers.emulators.tls import make_certificate

        try:
            certificate = make_certificate(self.host)
        except ImportError as missing:
            raise ConfigError("--tls", True, str(missing)) from missing
        if self.save_certificate is not None:
            try:
                certificate.save(self.save_certificate)
            except OSError as error:
                mend = f"cannot be written: {error.strerror or error}"
                raise ConfigError("--save-certificate", str(self.save_certificate), mend) from error
        return certificate.server_context()


class _Server(Protocol):
    @property
    def url(self) -> str: ...
    @property
    def base_url(self) -> str: ...


def planned(scenario: str, *, connect_ms: int | None, setup_ms: int | None, overlap: bool) -> Scenario:
    """The scenario, with what the command line says instead of its own. Raises ConfigError."""
    try:
        script = load(scenario)
    except SettingRefused as refused:
        raise ConfigError(refused.field, refused.value, refused.mend) from refused
    said: dict[str, Any] = {"connect_delay_ms": connect_ms, "setup_delay_ms": setup_ms, "overlap": overlap or None}
    return script.with_session(**{name: value for name, value in said.items() if value is not None})


def emulate(
    vendor: str,
    script: Scenario,
    listening: Listening,
    *,
    chaos: int | None,
    chaos_every_s: float,
    tell: Callable[[str], None],
) -> None:
    """Serve until the first signal. Raises: `ConfigError` for a wrong option, `BridgeError` for a port in use."""
    context = listening.context()
    server = EmulatorServer(PROVIDERS[vendor].emulated(), script, host=listening.host, port=listening.port, tls=context)
    schedule = None if chaos is None else ChaosSchedule(chaos, every_s=chaos_every_s)
    beside = None if schedule is None else lambda: server.run_chaos(schedule, tell)
    title = f"emulating {PROVIDERS[vendor].title}, scenario {script.name}"
    _serve(vendor, title, server, server, listening, beside, tell)


def _serve(
    vendor: str,
    title: str,
    server: _Server,
    opened: AbstractAsyncContextManager[Any],
    listening: Listening,
    beside: Callable[[], Coroutine[Any, Any, None]] | None,
    tell: Callable[[str], None],
) -> None:
    """Open it, say how to use it, and wait for a signal. `beside` runs meanwhile."""
    from bridge.app import run

    stopped = asyncio.Event()

    async def until_stopped() -> None:
        try:
            async with opened:
                tell(_told(vendor, title, server, listening.save_certificate))
                async with asyncio.TaskGroup() as tasks:
                    running = beside and tasks.create_task(beside(), name=f"{vendor}:chaos")
                    await stopped.wait()
                    if running:
                        running.cancel()
        except OSError as error:
            where = f"{listening.host}:{listening.port}"
            raise BridgeError(f"cannot listen on {where}: {error.strerror or error}; choose another --port") from error

    run(until_stopped, stopped.set)


def _told(vendor: str, title: str, server: _Server, certificate: Path | None) -> str:
    variable, path, key = _VARIABLES[vendor]
    lines = [
        f"{title}: {server.url}",
        "to use it, in another shell:",
        f"  export {variable}={server.base_url}{path} {key}=any-key-will-do",
    ]
    if certificate is not None:
        lines.append(f"  export SSL_CERT_FILE={certificate}")
    return "\n".join([*lines, f"  roombridge join --room demo --provider {vendor}"])
