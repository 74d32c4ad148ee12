"""`roombridge emulate`: a vendor's realtime protocol on a local port, for trying things without a key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bridge.core.errors import BridgeError, ConfigError
from providers.catalog import PROVIDERS
from providers.emulators.server import EmulatorServer
from providers.errors import SettingRefused
from providers.scripted.scenario import load

__all__ = ["serve"]


def serve(
    vendor: str,
    scenario: str,
    *,
    host: str,
    port: int,
    tls: bool,
    save_certificate: Path | None,
    tell: Callable[[str], None],
) -> None:
    """Serve until the first signal. Raises: `ConfigError` for a wrong scenario, `BridgeError` for a port in use."""
    import asyncio

    from bridge.app import run

    if not host.strip():
        raise ConfigError("--host", host, "name the address to listen on; 0.0.0.0 is every one of this machine")
    try:
        script = load(scenario)
    except SettingRefused as refused:
        raise ConfigError(refused.field, refused.value, refused.mend) from refused
    if save_certificate is not None and not tls:
        raise ConfigError("--save-certificate", str(save_certificate), "there is a certificate only with --tls")
    context = None
    if tls:
        from providers.emulators.tls import make_certificate

        try:
            certificate = make_certificate(host)
        except ImportError as missing:
            raise ConfigError("--tls", True, str(missing)) from missing
        context = certificate.server_context()
        if save_certificate is not None:
            try:
                certificate.save(save_certificate)
            except OSError as error:
                mend = f"cannot be written: {error.strerror or error}"
                raise ConfigError("--save-certificate", str(save_certificate), mend) from error
    server = EmulatorServer(PROVIDERS[vendor].emulated(), script, host=host, port=port, tls=context)
    stopped = asyncio.Event()

    async def until_stopped() -> None:
        try:
            async with server:
                tell(_told(vendor, server, save_certificate))
                await stopped.wait()
        except OSError as error:
            raise BridgeError(
                f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port"
            ) from error

    run(until_stopped, stopped.set)


def _told(vendor: str, server: EmulatorServer, certificate: Path | None) -> str:
    variable, path, key = {
        "gemini": ("GOOGLE_GEMINI_BASE_URL", "", "GOOGLE_API_KEY"),
        "openai": ("OPENAI_BASE_URL", "/v1", "OPENAI_API_KEY"),
    }[vendor]
    lines = [
        f"emulating {PROVIDERS[vendor].title}, scenario {server.scenario.name}: {server.url}",
        "to use it, in another shell:",
        f"  export {variable}={server.base_url}{path} {key}=any-key-will-do",
    ]
    if certificate is not None:
        lines.append(f"  export SSL_CERT_FILE={certificate}")
    return "\n".join([*lines, f"  roombridge join --room demo --provider {vendor}"])
