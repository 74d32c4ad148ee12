"""`roombridge check` and `providers`: what would be opened, which keys are there, and who answers."""

from __future__ import annotations

import asyncio
import functools
import http.client
import json
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from bridge.app import make_room, model_problems
from bridge.config import Config, load
from bridge.core.errors import ConfigError
from bridge.http_api.tokens import SECRET_VARIABLE
from bridge.log import Redactor, secrets_of
from bridge.serve import choices, nobody_may_call, serve_problems
from bridge.transports.livekit_room.token import sign
from providers.catalog import PROVIDERS
from providers.errors import SettingRefused
from providers.settings import SpeechSettings

__all__ = ["Diagnosis", "Finding", "diagnose", "what_providers_do"]

_REACH_TIMEOUT_S = 5.0

State = Literal["ok", "wrong", "unreachable", "skipped"]


class Finding(msgspec.Struct, frozen=True):
    """One line of the answer."""

    what: str
    state: State
    detail: str


class Diagnosis(msgspec.Struct):
    """All findings, in the order in which a call would meet them."""

    findings: list[Finding] = []
    problems: list[ConfigError] = []

    @property
    def exit_code(self) -> int:
        """2: a setting or key is wrong. 1: something cannot be reached. 0: a call could start."""
        if self.problems or any(finding.state == "wrong" for finding in self.findings):
            return 2
        return 1 if any(finding.state == "unreachable" for finding in self.findings) else 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "ok": self.exit_code == 0,
            "exit_code": self.exit_code,
            "problems": [
                {"field": problem.field, "value": str(problem.value), "mend": problem.mend} for problem in self.problems
            ],
            "findings": [msgspec.structs.asdict(finding) for finding in self.findings],
        }


def diagnose(
    config_file: Path | None,
    environ: Mapping[str, str],
    *,
    provider: str | None = None,
    room: str | None = None,
    rooms: Sequence[str] = (),
    offline: bool = False,
    serve: bool = False,
) -> Diagnosis:
    """Everything that can be known without opening a session. Raises nothing for what is wrong: it is the answer.

    Args: room, or several rooms: to be joined instead of the configured one; serve: for `roombridge serve`, which needs
    no room and a free port.

    No secret of `environ` is in it, wherever it was set by mistake.
    """
    named: set[str] = set()
    diagnosis = _found(config_file, environ, provider, rooms or ((room,) if room else ()), offline, serve, named)
    redact = Redactor(secrets_of(environ, named))
    return Diagnosis(
        [Finding(finding.what, finding.state, redact(finding.detail)) for finding in diagnosis.findings],
        [_without_secrets(problem, redact) for problem in diagnosis.problems],
    )


def _without_secrets(problem: ConfigError, redact: Redactor) -> ConfigError:
    """The same, alone: the first problem of a reading holds the others too."""
    value = problem.value
    if redact(repr(value)) != repr(value):
        value = redact(str(value))
    return ConfigError(redact(problem.field), value, redact(problem.mend))


def _found(
    config_file: Path | None,
    environ: Mapping[str, str],
    provider: str | None,
    rooms: Sequence[str],
    offline: bool,
    serve: bool,
    named: set[str],
) -> Diagnosis:
    """The diagnosis as it is; the variables that the configuration names for keys are put into `named`."""
    diagnosis = Diagnosis()
    said: dict[str, Any] = {"provider": provider} if provider else {}
    if rooms:
        said["livekit"] = {"room": rooms[0]}
    try:
        config = load(config_file, environ, said)
    except ConfigError as error:
        diagnosis.problems += [error, *error.others]
        return diagnosis
    named |= config.secret_variables()
    add = diagnosis.findings.append
    add(Finding("configuration", "ok", str(config_file) if config_file else "defaults and environment, no file"))
    _check_model(diagnosis, config, environ, "model")
    for name in config.failover:
        _check_model(diagnosis, config.of(name), environ, "stand-in")
    has_server = not serve or any(environ.get(name, "").strip() for name in ("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"))
    if has_server:
        # Rooms of a serving process are named when somebody calls.
        named_room = config if not serve else _with_room(config)
        _check_room(diagnosis, named_room, environ)
        for room in rooms[1:]:
            _check_room(diagnosis, _in_room(config, room), environ)
    _check_serve(diagnosis, config, environ, wanted=serve, offline=offline)
    if not offline:
        diagnosis.findings += asyncio.run(_reach(config, environ, diagnosis.problems, livekit=has_server))
    return diagnosis


def what_providers_do(environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """What each provider's default model can do, and whether its key is there. No key is needed to ask."""
    told: list[dict[str, Any]] = []
    for provider in PROVIDERS.values():
        own = provider.settings_type()()
        can, secrets = provider.capabilities(SpeechSettings(), own, environ), provider.secrets_for(own)
        told.append(
            {
                "provider": provider.name,
                "title": provider.title,
                "model": can.model,
                "input": [f"{form.encoding} {form.rate_hz} Hz" for form in can.input_formats],
                "output": f"{can.output_format.encoding} {can.output_format.rate_hz} Hz",
                "video": can.video,
                "tools": can.tools,
                "async_tools": can.async_tools,
                "turns": str(can.turn_detector),
                "truncation": str(can.truncation),
                "resumption": can.resumption,
                "updates_in_place": sorted(can.in_place_update),
                "max_session_s": can.max_session_s,
                "voices": list(can.voices),
                "emulated": bool(provider.emulator),
                "keys": list(secrets),
                "key_present": not secrets or any(environ.get(name, "").strip() for name in secrets),
            }
        )
    return told


def _check_model(diagnosis: Diagnosis, config: Config, environ: Mapping[str, str], what: str) -> None:
    provider = PROVIDERS[config.provider]
    own = config.providers[config.provider]
    refused = model_problems(config, environ)
    diagnosis.problems += refused
    secrets = provider.secrets_for(own)
    present = [name for name in secrets if environ.get(name, "").strip()]
    keys = f"{' and '.join(present)} set" if present else f"{' or '.join(secrets)} not set"
    if refused:
        return
    try:
        can = provider.capabilities(config.speech, own, environ)
    except SettingRefused as problem:
        diagnosis.problems.append(ConfigError(problem.field, problem.value, problem.mend))
        return
    voice = config.speech.voice_for(config.provider) or "the default voice"
    detail = f"{provider.title}, {can.model}, {voice}, speaks at {can.output_format.rate_hz} Hz"
    diagnosis.findings.append(Finding(what, "ok", f"{detail}; {keys}" if secrets else detail))


def _check_room(diagnosis: Diagnosis, config: Config, environ: Mapping[str, str]) -> None:
    try:
        room = make_room(config, environ).settings.room
    except ConfigError as error:
        diagnosis.problems.append(error)
        return
    access = "LIVEKIT_TOKEN" if environ.get("LIVEKIT_TOKEN", "").strip() else "LIVEKIT_API_KEY and LIVEKIT_API_SECRET"
    settings = config.livekit
    detail = f"{room} at {settings.url}, as {settings.identity}; {access} set"
    diagnosis.findings.append(Finding("room", "ok", detail))


def _in_room(config: Config, room: str) -> Config:
    return msgspec.structs.replace(config, livekit=msgspec.structs.replace(config.livekit, room=room))


def _with_room(config: Config) -> Config:
    livekit = msgspec.structs.replace(config.livekit, room=config.livekit.room or "one for each caller")
    return msgspec.structs.replace(config, livekit=livekit)


def _check_serve(
    diagnosis: Diagnosis, config: Config, environ: Mapping[str, str], *, wanted: bool, offline: bool
) -> None:
    """What `roombridge serve` would do. Where it is not what is asked about, its extra may be missing."""
    add = diagnosis.findings.append
    missing = [name for name in ("aiohttp", "aiortc") if find_spec(name) is None]
    problems = [problem for problem in serve_problems(config, environ) if problem.field not in missing]
    if wanted:
        problems += nobody_may_call(config, environ)
    diagnosis.problems += problems
    if missing:
        detail = f"{' and '.join(missing)} not installed: pip install 'roombridge[webrtc]'"
        add(Finding("serve", "wrong" if wanted else "skipped", detail))
    if missing or problems:
        return
    settings, webrtc = config.serve, config.webrtc
    offered = ", ".join(choice.name + ("" if choice.ready else " (not ready)") for choice in choices(config, environ))
    signs = f"{SECRET_VARIABLE} set" if environ.get(SECRET_VARIABLE, "").strip() else "a secret made at its start"
    relays = sum(len(server.urls) for server in webrtc.ice_servers)
    detail = f"{settings.host}:{settings.port}, {offered}; {webrtc.max_calls} calls; {relays} STUN or TURN; {signs}"
    add(Finding("serve", "ok", detail))
    if wanted and not offline:
        add(_reach_port(settings.host, settings.port))


def _reach_port(host: str, port: int) -> Finding:
    """Could we listen there?"""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return Finding("serve port", "ok", f"{host}:{port} is free" if port else "any free one")
    except (OSError, OverflowError) as error:
        mend = "does roombridge serve run already? Or set serve.host and serve.port"
        return Finding("serve port", "unreachable", f"{host}:{port}: {_plain(error)}; {mend}")


async def _reach(
    config: Config, environ: Mapping[str, str], problems: Sequence[ConfigError], *, livekit: bool
) -> list[Finding]:
    """Knock at both doors; where something is wrong with an address, that is told already and there is no door."""
    jobs: list[Callable[[], Finding]] = []
    if livekit and not any(problem.field == "livekit.url" for problem in problems):
        jobs.append(lambda: _reach_livekit(config.livekit.url, environ))
    if not any(problem.field.startswith("connection.") for problem in problems):
        for name in (config.provider, *config.failover):
            address = _address(name, config, environ)
            if address:
                jobs.append(functools.partial(_reach_host, name, address, config, environ))
    return list(await asyncio.gather(*(asyncio.to_thread(job) for job in jobs)))


def _address(provider: str, config: Config, environ: Mapping[str, str]) -> str:
    """Nothing where there is none, or a wrong one: that is told as a problem of its own."""
    try:
        address = PROVIDERS[provider].address(config.providers[provider], environ)
        urlsplit(address).port  # noqa: B018 - raises where it is none
    except (SettingRefused, ValueError, LookupError):
        return ""
    return address


def _reach_livekit(url: str, environ: Mapping[str, str]) -> Finding:
    """Is a LiveKit server there, and does it know our key?"""
    parts = urlsplit(url)
    base = f"{'https' if parts.scheme in ('wss', 'https') else 'http'}://{parts.netloc}{parts.path.rstrip('/')}"
    began = time.monotonic()
    try:
        with urllib.request.urlopen(f"{base}/", timeout=_REACH_TIMEOUT_S):
            took_ms = (time.monotonic() - began) * 1000
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Finding("livekit server", "unreachable", f"{url}: {_plain(error)}; is the server running there?")
    key, secret = environ.get("LIVEKIT_API_KEY", "").strip(), environ.get("LIVEKIT_API_SECRET", "").strip()
    if not key or not secret:
        return Finding("livekit server", "ok", f"{url} answers in {took_ms:.0f} ms; the token was not tried")
    request = urllib.request.Request(
        f"{base}/twirp/livekit.RoomService/ListRooms",
        json.dumps({}).encode(),
        {
            "Authorization": f"Bearer {sign(key, secret, grants={'roomList': True}, ttl_s=60)}",
            "Content-Type": "application/json",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=_REACH_TIMEOUT_S):
            return Finding("livekit server", "ok", f"{url} answers in {took_ms:.0f} ms and accepts the key")
    except urllib.error.HTTPError as refused:
        with refused:
            if refused.code in (401, 403):
                mend = "check LIVEKIT_API_KEY and LIVEKIT_API_SECRET"
                return Finding("livekit server", "wrong", f"{url} refuses the key: {mend}")
            return Finding("livekit server", "wrong", f"{url} answers HTTP {refused.code}: is it a LiveKit server?")
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Finding("livekit server", "unreachable", f"{url}: {_plain(error)}")


def _reach_host(name: str, address: str, config: Config, environ: Mapping[str, str]) -> Finding:
    """Does the provider's host take connections, with a certificate that we trust? No session is opened."""
    what = f"{name} endpoint"
    parts = urlsplit(address)
    secure = parts.scheme in ("wss", "https")
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    place = f"{parts.scheme}://{parts.netloc}"
    proxy = config.connection.proxy or urllib.request.getproxies().get("https" if secure else "http")
    if proxy and not urllib.request.proxy_bypass(host):
        return Finding(what, "skipped", f"{place}: goes through a proxy; a call will tell")
    began = time.monotonic()
    try:
        with socket.create_connection((host, port), timeout=_REACH_TIMEOUT_S) as plain:
            if secure:
                context = ssl.create_default_context()
                if config.connection.ca_file:
                    context.load_verify_locations(config.connection.ca_file)
                with context.wrap_socket(plain, server_hostname=host):
                    pass
    except (OSError, ValueError) as error:  # ValueError: a host name that IDNA cannot write
        return Finding(what, "unreachable", f"{place}: {_plain(error)}; check the network, HTTPS_PROXY and base_url")
    return Finding(what, "ok", f"{place} answers in {(time.monotonic() - began) * 1000:.0f} ms; the key was not tried")


def _plain(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return str(reason) or type(error).__name__
