"""The commands. Nothing heavy is imported before a command needs it.

Exit codes: 0 done; 1 a call, a server or a connection failed; 2 the command line or the configuration is wrong;
130 ended by a second signal.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge.core.errors import BridgeError, ConfigError

if TYPE_CHECKING:
    from bridge.config import Config
    from bridge.emulate import Vendor

__all__ = ["main", "run_and_leave"]

FAILED, WRONG, INTERRUPTED = 1, 2, 130
_LONGEST_TTL_H = 24 * 366 * 10

_SECRETS = "roombridge.secrets"
"""Of this command's context: the variables that hold keys, once a configuration has named them."""

_config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="ROOMBRIDGE_CONFIG",
    help="TOML file; see docs/configuration.md. Also ROOMBRIDGE_CONFIG.",
)
_provider_option = click.option("--provider", metavar="NAME", help="scripted, gemini or openai, instead of the file's.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="roombridge", prog_name="roombridge")
def main() -> None:
    """Puts a realtime speech-to-speech model into a LiveKit room."""


def _told(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turn what a command returns or raises into an exit code and one clear message."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            code = command(*args, **kwargs) or 0
        except ConfigError as error:
            _complain(error)
            code = WRONG
        except BridgeError as error:
            _complain(error)
            code = FAILED
        except KeyboardInterrupt:
            code = INTERRUPTED
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click's own affairs
        except Exception as error:
            # A bug of ours, or of a library: people get a sentence, and the log at level debug the rest.
            logging.getLogger(__name__).debug("internal error", exc_info=True)
            _complain(BridgeError(f"internal error: {type(error).__name__}: {error}; log.level = debug shows where"))
            code = FAILED
        sys.exit(code)

    return run


def _complain(error: BridgeError) -> None:
    from bridge.log import Redactor, secrets_of

    text = str(error)
    if error.__cause__ is not None and str(error.__cause__) not in text:
        text += f"\n  {error.__cause__}"
    named = click.get_current_context().meta.get(_SECRETS, frozenset())
    click.echo(f"roombridge: {Redactor(secrets_of(os.environ, named))(text)}", err=True)


def _read(
    config_file: Path | None,
    provider: str | None,
    room: str | None = None,
    log_format: str | None = None,
    serve: dict[str, Any] | None = None,
) -> Config:
    from bridge.config import load
    from bridge.log import start_logging

    said: dict[str, Any] = {"provider": provider} if provider else {}
    if room:
        said["livekit"] = {"room": room}
    if log_format:
        said["log"] = {"format": log_format}
    said["serve"] = {key: value for key, value in (serve or {}).items() if value is not None}
    config = load(config_file, os.environ, said)
    meta = click.get_current_context().meta
    meta[_SECRETS] = meta.get(_SECRETS, frozenset()) | config.secret_variables()
    start_logging(config.log.level, config.log.format, os.environ, named=meta[_SECRETS])
    return config


def _must_be_joinable(rooms: tuple[str, ...]) -> None:
    """Raises ConfigError for rooms that one process cannot join."""
    if len(set(rooms)) < len(rooms):
        raise ConfigError("--room", " ".join(rooms), "name each room once")
    if len(rooms) > 1 and os.environ.get("LIVEKIT_TOKEN", "").strip():
        mend = (
            "LIVEKIT_TOKEN opens one room: name that one, or set LIVEKIT_API_KEY and LIVEKIT_API_SECRET instead of it"
        )
        raise ConfigError("--room", " ".join(rooms), mend)


@main.command()
@click.option("--room", "rooms", metavar="NAME", multiple=True, help="Room to join; may be given several times.")
@_config_option
@_provider_option
@_told
def join(rooms: tuple[str, ...], config_file: Path | None, provider: str | None) -> int:
    """Put the model into one room or several, until their calls end.

    Needs LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET (or LIVEKIT_TOKEN). Ctrl-C lets what is being said be
    heard and leaves; a second one ends at once.
    """
    from bridge.app import Process, make_model, make_room, make_stand_ins, run
    from bridge.core.words import EndReason

    _must_be_joinable(rooms)
    calls = {}
    for room in rooms or (None,):
        config = _read(config_file, provider, room)
        transport = make_room(config, os.environ)
        calls[transport.settings.room] = (
            transport,
            make_model(config, os.environ),
            config,
            make_stand_ins(config, os.environ),
        )
    process = Process(health=config.health)  # the same for all: it is one file
    ended = run(lambda: process.serve(calls), process.stop)
    for call in ended:
        if call.error is not None:
            click.echo(f"room {call.room}: ", err=True, nl=False)
            _complain(call.error)
        else:
            click.echo(f"room {call.room}: ended, {call.reason}")
    lost = any(call.error is not None or call.reason is EndReason.DISCONNECTED for call in ended)
    return FAILED if lost else 0


main.add_command(join, name="connect")


@main.command()
@click.option("--host", metavar="ADDRESS", help="Address to listen on, instead of the file's.")
@click.option("--port", type=click.IntRange(0, 65535), help="TCP port, instead of the file's; 0: any.")
@_config_option
@_provider_option
@_told
def serve(host: str | None, port: int | None, config_file: Path | None, provider: str | None) -> int:
    """Let browsers call the model: a page, and an API for pages of your own; no media server is needed.

    Call tokens are signed with ROOMBRIDGE_CALL_SECRET; without one an address with a token is printed. Ctrl-C lets what
    is being said be heard and ends; a second one ends at once.
    """
    from bridge.app import Process, run
    from bridge.serve import Serving, nobody_may_call

    config = _read(config_file, provider, serve={"host": host, "port": port})
    for problem in nobody_may_call(config, os.environ):
        raise problem
    serving = Serving(config, os.environ, Process(health=config.health), tell=click.echo)
    run(serving.run, serving.stop)
    return 0


@main.command()
@click.option("--say", type=click.Path(dir_okay=False, path_type=Path), help="WAV to speak into the room, then leave.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="WAV to write what was heard to.")
@click.option("--room", default="demo", show_default=True, help="Name of the room.")
@click.option("--port", type=click.IntRange(0, 65535), default=7880, show_default=True, help="Of the server; 0: any.")
@click.option(
    "--page-port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Of the page; 0: any."
)
@click.option("--direct", is_flag=True, help="Without a livekit-server: the page's direct call alone.")
@_config_option
@_provider_option
@_told
def demo(
    say: Path | None,
    save: Path | None,
    room: str,
    port: int,
    page_port: int,
    direct: bool,
    config_file: Path | None,
    provider: str | None,
) -> int:
    """Open a page to talk with the model, and put it into a room of a livekit-server, too.

    Where there is no livekit-server, the page calls directly. With --say or --save a participant in a process of its
    own talks instead, and the command ends when the answer has been heard. The offline model answers unless the
    configuration or --provider names another.
    """
    from bridge.app import run
    from bridge.demo.run import Demo

    config = _read(config_file, provider, room)
    show = Demo(config, os.environ, port=port, page_port=page_port, direct=direct, say=say, save=save, tell=click.echo)
    run(show.run, show.stop)
    return 0


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.option("--offline", is_flag=True, help="Look at the configuration only; connect to nothing.")
@click.option("--room", "rooms", metavar="NAME", multiple=True, help="As for join; may be given several times.")
@click.option("--serve", is_flag=True, help="For `roombridge serve`: no room is needed, and a port.")
@_config_option
@_provider_option
@_told
def check(
    as_json: bool, offline: bool, rooms: tuple[str, ...], serve: bool, config_file: Path | None, provider: str | None
) -> int:
    """Say what would be opened with this configuration, and whether it could be.

    Exits with 0 when a call could start, 1 when something cannot be reached, 2 when a setting or key is wrong.
    Shows which keys are set, never what they are.
    """
    from bridge.diagnosis import diagnose

    _must_be_joinable(rooms)
    diagnosis = diagnose(config_file, os.environ, provider=provider, rooms=rooms, offline=offline, serve=serve)
    if as_json:
        click.echo(json.dumps(diagnosis.as_dict(), indent=2))
    else:
        from bridge.tables import show_diagnosis

        show_diagnosis(diagnosis)
    return diagnosis.exit_code


@main.command()
@click.option("--room", help="Room of a LiveKit server that the token opens.")
@click.option("--call", is_flag=True, help="For one direct call instead of a room.")
@click.option("--page", is_flag=True, help="The page's address with its token, instead of a room.")
@click.option("--identity", help="Who joins or calls with it; unique in the room.")
@click.option("--name", default="", help="What people see.")
@click.option("--agent", is_flag=True, help="For an agent instead of a person.")
@click.option("--ttl-h", type=click.FloatRange(min=0, min_open=True), help="Hours; 6 unless given, 1 for a call.")
@_config_option
@_told
def token(
    room: str | None,
    call: bool,
    page: bool,
    identity: str | None,
    name: str,
    agent: bool,
    ttl_h: float | None,
    config_file: Path | None,
) -> None:
    """Print a join token for any LiveKit client, signed with LIVEKIT_API_KEY and LIVEKIT_API_SECRET.

    With --call one for a direct call, with --page the address of the served page; both are signed with
    ROOMBRIDGE_CALL_SECRET.
    """
    if sum((room is not None, call, page)) != 1:
        raise ConfigError("--room, --call, --page", "", "give one of the three")
    if ttl_h is not None and (not math.isfinite(ttl_h) or ttl_h > _LONGEST_TTL_H):
        raise ConfigError("--ttl-h", ttl_h, f"give hours, {_LONGEST_TTL_H} at most")
    named = (("--room", room), ("--identity", identity))
    for option, value in named if room is not None else named[1:] if call else ():
        if not (value or "").strip():
            raise ConfigError(option, value or "", "must not be empty")
    if room is None:
        _alone("--call and --page", {"--agent": agent or None})
        if page:
            _alone("--page", {"--identity": identity, "--name": name or None})
        click.echo(_call_token(identity or "", name, ttl_h) if call else _page_address(_read(config_file, None), ttl_h))
        return
    from bridge.transports.livekit_room.token import sign_agent, sign_participant

    key, secret = (os.environ.get(variable, "").strip() for variable in ("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"))
    if not key or not secret:
        missing = "LIVEKIT_API_SECRET" if key else "LIVEKIT_API_KEY"
        raise ConfigError(missing, "", "not set: put the server's key and secret into the environment")
    sign = sign_agent if agent else sign_participant
    click.echo(sign(key, secret, room=room, identity=identity or "", name=name, ttl_s=(ttl_h or 6.0) * 3600))


def _call_token(identity: str, name: str, ttl_h: float | None) -> str:
    from bridge.http_api.tokens import sign_call

    ttl_h = ttl_h or 1.0
    if ttl_h > 24:
        raise ConfigError("--ttl-h", ttl_h, "a call token holds for a day at most")
    return sign_call(_call_secret(), identity=identity, name=name, ttl_s=ttl_h * 3600, now=_wall_clock())


def _page_address(config: Config, ttl_h: float | None) -> str:
    from bridge.http_api.tokens import sign_page
    from bridge.serve import page_address

    settings = config.serve
    if not settings.port:
        raise ConfigError("serve.port", 0, "is any free one, and nobody knows yet which: name the port")
    ttl_s = settings.page_ttl_s if ttl_h is None else ttl_h * 3600
    page = sign_page(_call_secret(), ttl_s=ttl_s, now=_wall_clock())
    return page_address(settings.address(settings.port), page)


def _call_secret() -> str:
    from bridge.serve import call_secret

    secret = call_secret(os.environ)
    if secret is None:
        raise ConfigError("ROOMBRIDGE_CALL_SECRET", "", "not set: put the secret of the server into the environment")
    return secret


def _wall_clock() -> float:
    from datetime import UTC, datetime

    return datetime.now(UTC).timestamp()


@main.command()
@click.argument("vendor", type=click.Choice(["gemini", "openai"]))
@click.option("--scenario", help="TOML file, or the name of a ready one; echo unless given.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0: any free one.")
@click.option("--tls", is_flag=True, help="With a self-made certificate (google-genai insists on it).")
@click.option("--save-certificate", type=click.Path(dir_okay=False, path_type=Path), help="PEM for clients to trust.")
@click.option("--connect-ms", type=click.IntRange(0, 60_000), help="Before an upgrade is answered; really about 500.")
@click.option("--setup-ms", type=click.IntRange(0, 60_000), help="Before a set-up is answered; really about 300.")
@click.option("--overlap", is_flag=True, help="Let sessions be resumed while their earlier connection is open.")
@click.option("--chaos", type=int, metavar="SEED", help="Faults by a seeded schedule, printed as they happen.")
@click.option("--chaos-every", type=click.FloatRange(min=0.1), default=20.0, show_default=True, help="Seconds.")
@click.option("--record", type=click.Path(file_okay=False, path_type=Path), help="Folder for captures.")
@click.option("--upstream", metavar="URL", help="With --record: pass everything to the real service (wss://...).")
@click.option("--replay", type=click.Path(path_type=Path), help="Play a capture, or a folder of them, instead.")
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), help="Multiple of the recorded pace.")
@_told
def emulate(
    vendor: Vendor,
    scenario: str | None,
    host: str,
    port: int,
    tls: bool,
    save_certificate: Path | None,
    connect_ms: int | None,
    setup_ms: int | None,
    overlap: bool,
    chaos: int | None,
    chaos_every: float,
    record: Path | None,
    upstream: str | None,
    replay: Path | None,
    speed: float | None,
) -> None:
    """Serve a local copy of a vendor's realtime protocol, until Ctrl-C.

    With --record what passes is written down, with --upstream what passes to the real service; with --replay it is
    played again, and the command ends with 1 if a client did something else than the recorded one.
    """
    from bridge.emulate import Listening, emulate, planned, play, proxy

    listening = Listening(host=host, port=port, tls=tls, save_certificate=save_certificate)
    own = {
        "--scenario": scenario,
        "--connect-ms": connect_ms,
        "--setup-ms": setup_ms,
        "--overlap": overlap or None,
        "--chaos": chaos,
    }
    if replay is not None:
        _alone("--replay", {**own, "--record": record, "--upstream": upstream})
        play(vendor, replay, listening, speed=speed or 1.0, tell=click.echo)
        return
    _alone("a scenario", {"--speed": speed})
    if upstream is not None:
        _alone("--upstream", own)
        proxy(vendor, upstream, record, listening, tell=click.echo)
        return
    script = planned(scenario or "echo", connect_ms=connect_ms, setup_ms=setup_ms, overlap=overlap)
    emulate(vendor, script, listening, chaos=chaos, chaos_every_s=chaos_every, record=record, tell=click.echo)


def _alone(what: str, others: dict[str, Any]) -> None:
    """Refuse options that mean nothing beside this one."""
    for option, value in others.items():
        if value is not None:
            raise ConfigError(option, str(value), f"means nothing with {what}: leave one of them out")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@_told
def providers(as_json: bool) -> None:
    """Say what each provider can do, with its default model."""
    from bridge.diagnosis import what_providers_do

    told = what_providers_do(os.environ)
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        from bridge.tables import show_providers

        show_providers(told)


def run_and_leave() -> None:
    """The command of a process of its own.

    Once the LiveKit SDK is loaded, the interpreter is not taken down: its native threads abort one in forty then, and
    the shell would see that instead of our exit code.
    """
    code = 1
    try:
        main()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            click.echo(ended.code, err=True)
        else:
            code = ended.code or 0
    if "livekit.rtc" not in sys.modules:
        sys.exit(code)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            pass  # whoever read it has gone
    os._exit(code)


if __name__ == "__main__":
    run_and_leave()
