"""`roombridge emulate`: a vendor's realtime protocol on a local port, for trying things without a key."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import msgspec

from bridge.core.errors import BridgeError, ConfigError
from providers.catalog import PROVIDERS
from providers.emulators.capture import CaptureError, read_captures
from providers.emulators.chaos import ChaosSchedule
from providers.emulators.recorder import Recorder
from providers.emulators.replay import ReplayVendor
from providers.emulators.server import EmulatorServer
from providers.errors import SettingRefused
from providers.scripted.scenario import Scenario, load

__all__ = ["Listening", "Vendor", "emulate", "planned", "play", "proxy"]

Vendor = Literal["gemini", "openai"]

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
    async def __aenter__(self) -> object: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def planned(scenario: str, *, connect_ms: int | None, setup_ms: int | None, overlap: bool) -> Scenario:
    """The scenario, with what the command line says instead of its own. Raises ConfigError."""
    try:
        script = load(scenario)
    except SettingRefused as refused:
        raise ConfigError(refused.field, refused.value, refused.mend) from refused
    said: dict[str, Any] = {"connect_delay_ms": connect_ms, "setup_delay_ms": setup_ms, "overlap": overlap or None}
    return script.with_session(**{name: value for name, value in said.items() if value is not None})


def emulate(
    vendor: Vendor,
    script: Scenario,
    listening: Listening,
    *,
    chaos: int | None,
    chaos_every_s: float,
    record: Path | None,
    tell: Callable[[str], None],
) -> None:
    """Serve until the first signal. Raises: `ConfigError` for a wrong option, `BridgeError` for a port in use."""
    context = listening.context()
    server = EmulatorServer(PROVIDERS[vendor].emulated(), script, host=listening.host, port=listening.port, tls=context)
    if record is not None:
        server.watchers.append(_recorder(record, vendor, f"emulator, scenario {script.name}", tell))
    schedule = None if chaos is None else ChaosSchedule(chaos, every_s=chaos_every_s)
    beside = None if schedule is None else lambda: server.run_chaos(schedule, tell)
    title = f"emulating {PROVIDERS[vendor].title}, scenario {script.name}"
    _serve(vendor, title, server, listening, tell, beside=beside)


def play(vendor: Vendor, source: Path, listening: Listening, *, speed: float, tell: Callable[[str], None]) -> None:
    """Play captures until the first signal. Raises as `emulate`, and `BridgeError` if a client departed from them."""
    try:
        captures = read_captures(source)
    except CaptureError as error:
        raise ConfigError("--replay", str(source), str(error)) from error
    for capture in captures:
        if capture.head.vendor != vendor:
            mend = f"{capture.name} is of {capture.head.vendor}, not of {vendor}: name the vendor that was recorded"
            raise ConfigError("--replay", str(source), mend)
    replay = ReplayVendor(captures, speed=speed, tell=tell)
    server = EmulatorServer(replay, host=listening.host, port=listening.port, tls=listening.context())
    count = "1 capture" if len(captures) == 1 else f"{len(captures)} captures"
    title = f"replaying {count} of {PROVIDERS[vendor].title}"
    _serve(vendor, title, server, listening, tell)
    if replay.departures:
        raise BridgeError(f"clients departed {len(replay.departures)} times; first: {replay.departures[0]}")


def proxy(
    vendor: Vendor, upstream: str, record: Path | None, listening: Listening, *, tell: Callable[[str], None]
) -> None:
    """Pass everything to the real service and record it, until the first signal. Raises as `emulate`."""
    from providers.emulators.proxy import RecordingProxy, upstream_problem

    problem = upstream_problem(upstream)
    if problem:
        raise ConfigError("--upstream", upstream, problem)
    if record is None:
        raise ConfigError("--upstream", upstream, "needs --record with a folder for the captures")
    recorder = _recorder(record, vendor, upstream, tell)
    server = RecordingProxy(upstream, recorder, host=listening.host, port=listening.port, tls=listening.context())
    _serve(vendor, f"recording {upstream} into {record}", server, listening, tell, key=False)


def _recorder(folder: Path, vendor: Vendor, source: str, tell: Callable[[str], None]) -> Recorder:
    try:
        return Recorder(folder, vendor, source, tell)
    except OSError as error:
        raise ConfigError("--record", str(folder), f"cannot be written: {error.strerror or error}") from error


def _serve(
    vendor: Vendor,
    title: str,
    server: _Server,
    listening: Listening,
    tell: Callable[[str], None],
    *,
    key: bool = True,
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Open it, say how to use it, and wait for a signal. Args: key: any will do; beside runs meanwhile."""
    from bridge.app import run

    stopped = asyncio.Event()

    async def until_stopped() -> None:
        try:
            async with server:
                tell(_told(vendor, title, server, listening.save_certificate, key))
                async with asyncio.TaskGroup() as tasks:
                    running = beside and tasks.create_task(beside(), name=f"{vendor}:chaos")
                    await stopped.wait()
                    if running:
                        running.cancel()
        except OSError as error:
            where = f"{listening.host}:{listening.port}"
            raise BridgeError(f"cannot listen on {where}: {error.strerror or error}; choose another --port") from error

    run(until_stopped, stopped.set)


def _told(vendor: Vendor, title: str, server: _Server, certificate: Path | None, key: bool) -> str:
    variable, path, key_variable = _VARIABLES[vendor]
    lines = [
        f"{title}: {server.url}",
        "to use it, in another shell:",
        f"  export {variable}={server.base_url}{path}" + (f" {key_variable}=any-key-will-do" if key else ""),
    ]
    if certificate is not None:
        lines.append(f"  export SSL_CERT_FILE={certificate}")
    return "\n".join([*lines, f"  roombridge join --room rehearsal --provider {vendor}"])
