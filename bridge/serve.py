"""`roombridge serve`: the HTTP API and the page, with the calls that they begin run by this process."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

import msgspec

from bridge.app import GrownCounters, Process, make_model, make_room, model_problems
from bridge.config import Config
from bridge.core.errors import ConfigError
from bridge.http_api.admission import Admission, Leg
from bridge.http_api.desk import CallDesk, Choice, DirectCall, RoomAccess
from bridge.http_api.pages import Pages, find_web
from bridge.http_api.tokens import SECRET_VARIABLE, SHORTEST_SECRET, Caller, Tokens, sign_page
from bridge.lanes.telemetry import Snapshot
from bridge.transports.livekit_room.room import is_address
from bridge.transports.livekit_room.token import sign_participant
from bridge.transports.webrtc_call import WebRtcCall
from bridge.transports.webrtc_call.call import check_offer
from providers.catalog import PROVIDERS
from providers.contract import SpeechModel
from providers.webrtc.ice import resolve
from providers.webrtc.settings import ResolvedIceServer

__all__ = ["Serving", "call_secret", "choices", "nobody_may_call", "page_address", "serve_problems"]

log = logging.getLogger(__name__)

_MEND_EXTRA = "install the extra: pip install 'roombridge[webrtc]'"
_PERSON_TTL_S = 6 * 3600.0
_ROOM_WAIT_S = 60.0
"""A room that was made for somebody who does not come is left again after this."""


def call_secret(environ: Mapping[str, str]) -> str | None:
    """The secret that signs page and call tokens; None where none is set. Raises: `ConfigError` for a short one."""
    secret = environ.get(SECRET_VARIABLE, "").strip()
    if secret and len(secret.encode()) < SHORTEST_SECRET:
        raise ConfigError(
            SECRET_VARIABLE, "(hidden)", f"needs {SHORTEST_SECRET} bytes at least: make one with `openssl rand -hex 32`"
        )
    return secret or None


def choices(config: Config, environ: Mapping[str, str], serves: Collection[str] = ()) -> list[Choice]:
    """The models that a caller may choose, the configured one first. Args: serves as for `make_model`."""
    names = config.serve.providers or tuple(config.providers)
    ordered = sorted(dict.fromkeys((config.provider, *names)), key=lambda name: name != config.provider)
    found = [_choice(config_of(config, name), environ, serves) for name in ordered]
    if not config.video.sources:
        return [msgspec.structs.replace(choice, video=False) for choice in found]
    seeing = {choice.name for choice in found if choice.video}
    ready = {choice.name for choice in found if choice.ready}
    # Whoever stands in must see too: see docs/video.md.
    return [
        msgspec.structs.replace(choice, video=choice.video and ready & set(_stand_ins(config, choice.name)) <= seeing)
        for choice in found
    ]


def _stand_ins(config: Config, provider: str) -> tuple[str, ...]:
    return config_of(config, provider).failover


def config_of(config: Config, provider: str) -> Config:
    """The configuration of a call with this provider: the others of `failover`, and the one configured, stand in."""
    providers = config.providers
    if provider not in providers:
        providers = {**providers, provider: PROVIDERS[provider].settings_type()()}
    stand_ins = config.failover
    if stand_ins and provider != config.provider:
        stand_ins = tuple(name for name in (config.provider, *config.failover) if name != provider)
    # Whether this one may see is for its own capabilities to say, see `choices`; a caller chooses among them.
    video = msgspec.structs.replace(config.video, sources=())
    return msgspec.structs.replace(config, provider=provider, providers=providers, failover=stand_ins, video=video)


def _choice(config: Config, environ: Mapping[str, str], serves: Collection[str]) -> Choice:
    provider, own = PROVIDERS[config.provider], config.providers[config.provider]
    ready = not model_problems(config, environ, serves)
    can = provider.capabilities(config.speech, own, environ) if ready else None
    over_webrtc = getattr(own, "transport", "") == "webrtc"
    return Choice(
        name=provider.name,
        model=getattr(own, "model", "") if can is None else can.model,
        title=provider.title,
        ready=ready,
        video=can is not None and can.video,
        legs=(Leg.MODEL_WEBRTC,) if over_webrtc else (),
    )


def serve_problems(config: Config, environ: Mapping[str, str]) -> list[ConfigError]:
    """What is wrong in [serve] and in the secret; nothing is opened."""
    found: list[ConfigError] = []
    try:
        call_secret(environ)
    except ConfigError as problem:
        found.append(problem)
    for place, name in enumerate(config.serve.providers):
        if name not in PROVIDERS:
            found.append(ConfigError(f"serve.providers[{place}]", name, f"there is: {', '.join(PROVIDERS)}"))
    if config.serve.livekit_url and not is_address(config.serve.livekit_url):
        found.append(ConfigError("serve.livekit_url", config.serve.livekit_url, "give ws://HOST:PORT or wss://HOST"))
    for place, address in enumerate(config.webrtc.addresses):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            mend = "give an IP address of this machine, or leave it out for all"
            found.append(ConfigError(f"webrtc.addresses[{place}]", address, mend))
    try:
        ice_servers(config, environ)
    except ConfigError as problem:
        found.append(problem)
    if find_spec("aiohttp") is None:
        found.append(ConfigError("aiohttp", "", f"not installed: {_MEND_EXTRA}"))
    return found


def nobody_may_call(config: Config, environ: Mapping[str, str]) -> list[ConfigError]:
    """What is wrong where the API is served alone by a command: with a secret that was made up nobody can sign a token.
    An application may serve it so, for it can ask `Serving.address_with_token`."""
    if config.serve.page or environ.get(SECRET_VARIABLE, "").strip():
        return []
    mend = "not set: without the page (serve.page) only its holders can call; make one with `openssl rand -hex 32`"
    return [ConfigError(SECRET_VARIABLE, "", mend)]


def ice_servers(config: Config, environ: Mapping[str, str]) -> tuple[ResolvedIceServer, ...]:
    """The STUN and TURN servers of direct calls, with their passwords. Raises: `ConfigError`."""
    try:
        return resolve(config.webrtc.ice_servers, environ)
    except ValueError as error:
        # It says `ice_servers[0].urls = 'x': what to do`, or leaves the value out.
        what, _, mend = str(error).partition(": ")
        field, _, value = what.partition(" = ")
        raise ConfigError(f"webrtc.{field}", value.strip("'"), mend) from None


def _for_browsers(server: ResolvedIceServer) -> dict[str, Any]:
    """As `RTCIceServer` has it. Whoever may call may use the relay, so its password is told to him."""
    found: dict[str, Any] = {"urls": list(server.urls)}
    if server.credential:
        found |= {"username": server.username, "credential": server.credential}
    return found


def page_address(address: str, token: str) -> str:
    """The page with its token in the fragment, which browsers keep to themselves."""
    return f"{address}/#token={token}"


class Serving:
    """One serving process: `run` until `stop`. The desk's `CallMaker`.

    Raises: `ConfigError` for what is wrong with the configuration, before anything is opened.
    """

    def __init__(
        self, config: Config, environ: Mapping[str, str], process: Process, *, tell: Callable[[str], None]
    ) -> None:
        """Args: tell is given what whoever has started this should read."""
        problems = serve_problems(config, environ)
        if problems:
            first, *others = problems
            raise ConfigError(first.field, first.value, first.mend, others)
        self._config = config
        self._environ = environ
        self._process = process
        self._tell = tell
        self._stopped = asyncio.Event()
        given = call_secret(environ)
        self._secret = given or secrets.token_urlsafe(32)
        self._made_up = given is None
        self.default = config.provider
        self._serves = frozenset(tool.spec.name for tool in process.tools)
        self.choices: Sequence[Choice] = choices(config, environ, self._serves)
        self.direct = find_spec("aiortc") is not None
        self._sources = config.video.sources
        self.video_sources: Sequence[str] = self._sources if any(choice.video for choice in self.choices) else ()
        self._servers = ice_servers(config, environ)
        self.ice_servers: Sequence[Mapping[str, Any]] = [_for_browsers(server) for server in self._servers]
        self.livekit = all(environ.get(name, "").strip() for name in ("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"))
        settings = config.serve
        desk = CallDesk(self, settings, Tokens(self._secret), Admission(config.webrtc.max_calls))
        from bridge.http_api.server import ApiServer

        folder = find_web() if settings.page else None
        self._has_page = folder is not None
        urls = tuple(dict.fromkeys((config.livekit.url, self._livekit_url))) if self.livekit else ()
        pages = Pages(folder)
        self.livekit_client = pages.livekit_client
        self.server = ApiServer(desk, settings, pages, livekit_urls=urls)
        self._grown = GrownCounters("serve")

    @property
    def stopping(self) -> bool:
        return self._process.stopping

    @property
    def _livekit_url(self) -> str:
        return self._config.serve.livekit_url or self._config.livekit.url

    def stop(self) -> None:
        """No further calls; those that run are drained. Safe to call twice."""
        self._process.stop()
        self._stopped.set()

    async def run(self) -> None:
        """Serve until stopped. While calls are drained the API answers, and refuses new ones."""
        async with self.server, self._process.open(), asyncio.TaskGroup() as group:
            counting = group.create_task(self._count(), name="serve:counters")
            self._tell(self.invitation())
            await self._stopped.wait()
            counting.cancel()
        self._log_counters()

    def invitation(self, *, show_token: bool = False) -> str:
        """What to tell whoever has started this. The page's token is shown where nobody else could make one, or where
        it is asked for: output is often kept."""
        address = self.server.address
        if not self._has_page:
            return f"serving calls at {address}/api/calls"
        if not self._made_up and not show_token:
            return f"serving at {address}; `roombridge token --page` prints the page's address with its token"
        return f"open {self.address_with_token()} in a browser, and talk"

    def address_with_token(self) -> str:
        """The page's address with a token of its own."""
        now = datetime.now(UTC).timestamp()
        token = sign_page(self._secret, ttl_s=self._config.serve.page_ttl_s, now=now)
        return page_address(self.server.address, token)

    # ---------------------------------------------------------------------------------------------- for the desk

    def check_offer(self, offer_sdp: str) -> None:
        check_offer(offer_sdp)

    def direct_call(self, call: str, caller: Caller, provider: str) -> DirectCall:
        choice = self._chosen(provider)
        return WebRtcCall(
            self._config.webrtc,
            identity=caller.identity,
            name=caller.name,
            call=call,
            provider=provider,
            model="" if choice is None else choice.model,
            ice_servers=self._servers,
            video=choice is not None and choice.video,
        )

    def _chosen(self, provider: str) -> Choice | None:
        return next((choice for choice in self.choices if choice.name == provider), None)

    def begin(self, call: str, transport: DirectCall, provider: str, ended: Callable[[], None]) -> None:
        model, config, stand_ins = self._model(provider)
        self._process.start(
            call, transport, model, config, stand_ins, ending=transport.ends_because, ended=lambda _: ended()
        )

    def begin_room(self, room: str, caller: Caller, provider: str, ended: Callable[[], None]) -> RoomAccess:
        model, config, stand_ins = self._model(provider)
        # The room is one person's: it ends with him, and does not wait for ever.
        livekit = msgspec.structs.replace(
            config.livekit, room=room, close_on="participant_left", join_timeout_s=_ROOM_WAIT_S
        )
        config = msgspec.structs.replace(config, livekit=livekit)
        environ = {name: value for name, value in self._environ.items() if name != "LIVEKIT_TOKEN"}
        self._process.start(room, make_room(config, environ), model, config, stand_ins, ended=lambda _: ended())
        token = sign_participant(
            environ["LIVEKIT_API_KEY"].strip(),
            environ["LIVEKIT_API_SECRET"].strip(),
            room=room,
            identity=caller.identity,
            name=caller.name,
            ttl_s=_PERSON_TTL_S,
        )
        return RoomAccess(self._livekit_url, token, room, caller.identity)

    def _model(self, provider: str) -> tuple[SpeechModel, Config, list[SpeechModel]]:
        """Raises: `ConfigError`."""
        config = config_of(self._config, provider)
        stand_ins = [
            make_model(config_of(config, name), self._environ, self._serves)
            for name in config.failover
            if any(choice.name == name and choice.ready for choice in self.choices)
        ]
        model = make_model(config, self._environ, self._serves)
        choice = self._chosen(provider)
        sources = self._sources if choice is not None and choice.video else ()
        video = msgspec.structs.replace(config.video, sources=sources)
        return model, msgspec.structs.replace(config, video=video), stand_ins

    # -------------------------------------------------------------------------------------------------- counters

    async def _count(self) -> None:
        every_s = self._config.log.counters_every_s
        loop = asyncio.get_running_loop()
        began = loop.time()
        while every_s:
            await asyncio.sleep(every_s)
            now = loop.time()
            self._grown.tell(Snapshot("serve", now, now - began, self._counters()))

    def _counters(self) -> dict[str, int | float]:
        return {**self.server.counters(), **self._process.counters()}

    def _log_counters(self) -> None:
        told = " ".join(f"{key}={value:g}" for key, value in self._counters().items() if value)
        process = self._process
        log.info("served calls_started=%d calls_failed=%d %s", process.calls_started, process.calls_failed, told)
