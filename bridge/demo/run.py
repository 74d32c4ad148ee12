"""`roombridge demo`: the page, a livekit-server with the model in a room, and a person or a WAV to talk with it."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlencode

import msgspec
import numpy as np

from bridge.app import Ended, Process, make_model, make_room, make_stand_ins
from bridge.config import Config
from bridge.core.errors import BridgeError, ConfigError
from bridge.core.words import AgentState
from bridge.demo.person import Person, PersonError
from bridge.demo.server import LocalServer, ServerNotFound, ServerNotReady
from bridge.serve import Serving
from providers.catalog import PROVIDERS
from providers.contract import SpeechModel
from providers.signal import wav

__all__ = ["Demo"]

_PERSON_RATE_HZ = 48_000
_ANSWER_TIMEOUT_S = 45.0
_QUIET_S = 2.5
"""The answer is over when the agent has neither spoken nor thought for this long."""
_LEAD_IN_S = 1.5
"""Silence before the WAV: a new WebRTC sender begins at a low bitrate, and the receiver's jitter buffer stretches the
first second while it settles. People pause before they speak, too."""
_LOUD = 10 ** (-45 / 20) * 32768


class Demo:
    """One demonstration. `run` returns when it is over; `stop` ends it politely.

    Where there is no livekit-server to be had, or none is wanted, the page's direct call is offered alone.

    Raises from `run`: `ConfigError` before anything is started, `BridgeError` for what fails later. Nothing that was
    started is left running, however it ends.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        *,
        port: int,
        page_port: int = 8080,
        direct: bool = False,
        say: Path | None,
        save: Path | None,
        tell: Callable[[str], None],
    ) -> None:
        """Args: port is the livekit-server's; direct wants none."""
        self._config = config
        self._environ = environ
        self._port = port
        self._page_port = page_port
        self._direct = direct
        self._say = say
        self._save = save
        self._tell = tell
        self._process = Process(health=config.health)
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()
        self._process.stop()

    async def run(self) -> None:
        """Serve until stopped, or until the WAV has been answered."""
        self._check_save()
        with tempfile.TemporaryDirectory(prefix="roombridge-") as folder:
            speech = self._speech(Path(folder))
            model = make_model(self._config, self._environ)
            try:
                async with AsyncExitStack() as stack:
                    server = await self._server(stack)
                    if speech is not None or self._save is not None:
                        assert server is not None, "who is to talk needs a room"
                        await self._show(server, model, speech, Path(folder))
                    else:
                        await self._offer(server, model)
            except (ServerNotFound, ServerNotReady) as error:
                raise BridgeError(str(error)) from error
            except BaseExceptionGroup as failed:
                raise _why(failed) from None

    async def _server(self, stack: AsyncExitStack) -> LocalServer | None:
        """A livekit-server, started. None: there is none, and the direct call will do."""
        talks = self._say is not None or self._save is not None
        if self._direct:
            if talks:
                raise ConfigError("--direct", "", "means nothing with --say and --save, which need a room")
            return None
        try:
            return await stack.enter_async_context(LocalServer(port=self._free_port(self._port)))
        except ServerNotFound as error:
            # A server that was named and is not there is a mistake; none at all is not.
            if talks or self._environ.get("LIVEKIT_SERVER_BIN") or _no_page() is not None:
                raise
            self._tell(f"{error}\nno LiveKit rooms, then: the direct call needs no server")
            return None

    async def _show(self, server: LocalServer, model: SpeechModel, speech: Path | None, folder: Path) -> None:
        """A participant talks, and the command ends when it has been answered."""
        async with self._process.open(), asyncio.TaskGroup() as group:
            watch = group.create_task(_watch(server), name="demo:server")
            call = group.create_task(self._call(server, model), name="demo:call")
            await self._talk(server, speech, folder)
            self.stop()
            await call
            watch.cancel()

    async def _offer(self, server: LocalServer | None, model: SpeechModel) -> None:
        """The page and the room, until stopped."""
        async with AsyncExitStack() as stack:
            page = self._page(server)
            if page is not None:
                await stack.enter_async_context(page.server)
            await stack.enter_async_context(self._process.open())
            group = await stack.enter_async_context(asyncio.TaskGroup())
            if page is not None:
                self._tell(page.invitation(show_token=True))
            if server is None:
                self._tell("Ctrl-C ends it")
                await self._stopped.wait()
                return
            watch = group.create_task(_watch(server), name="demo:server")
            call = group.create_task(self._call(server, model), name="demo:call")
            self._invite(server, model)
            await call
            watch.cancel()

    def _page(self, server: LocalServer | None) -> Serving | None:
        """The page and its API. Every model whose key is there may be chosen: this is for whoever has started it."""
        missing = _no_page()
        if missing is not None:
            self._tell(f"without the page: {missing}")
            return None
        config, environ = self._config, dict(self._environ)
        for name in ("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "LIVEKIT_TOKEN"):
            environ.pop(name, None)
        if server is not None:
            livekit = msgspec.structs.replace(config.livekit, url=server.url)
            config = msgspec.structs.replace(config, livekit=livekit)
            environ |= {"LIVEKIT_API_KEY": server.api_key, "LIVEKIT_API_SECRET": server.api_secret}
        with_keys = [
            name
            for name, provider in PROVIDERS.items()
            if not provider.secrets or any(environ.get(secret, "").strip() for secret in provider.secrets)
        ]
        serve = msgspec.structs.replace(
            config.serve,
            host="127.0.0.1",
            port=self._free_port(self._page_port),
            providers=config.serve.providers or tuple(dict.fromkeys((*config.providers, *with_keys))),
        )
        return Serving(msgspec.structs.replace(config, serve=serve), environ, self._process, tell=self._tell)

    async def _call(self, server: LocalServer, model: SpeechModel) -> None:
        # The demo outlives whoever leaves the room.
        livekit = msgspec.structs.replace(self._config.livekit, url=server.url, close_on="never")
        config = msgspec.structs.replace(self._config, livekit=livekit)
        environ = {"LIVEKIT_API_KEY": server.api_key, "LIVEKIT_API_SECRET": server.api_secret}
        room = make_room(config, environ)
        stand_ins = make_stand_ins(config, self._environ)
        over: asyncio.Queue[Ended] = asyncio.Queue(1)
        self._process.start(livekit.room, room, model, config, stand_ins, ended=over.put_nowait)
        ended = await over.get()
        if ended.error is not None:
            raise ended.error
        if not self._stopped.is_set():
            raise BridgeError("the call ended before the demo did; see the log above")

    def _invite(self, server: LocalServer, model: SpeechModel) -> None:
        room = self._config.livekit.room
        token = server.participant_token(room, "guest", "Guest")
        meet = "https://meet.livekit.io/custom?" + urlencode({"liveKitUrl": server.url, "token": token})
        does = "it repeats what it hears" if model.name == "scripted" else model.capabilities.model
        self._tell(
            f"the model {model.name} ({does}) is in room {room}, too; talk to it from any LiveKit client:\n"
            f"  URL    {server.url}\n"
            f"  token  {token}\n"
            f"a browser on this machine: {meet}\n"
            f"LiveKit's command line: lk room join --url {server.url} --api-key {server.api_key} "
            f"--api-secret {server.api_secret} --identity guest {room}\n"
            "Ctrl-C ends it"
        )

    async def _talk(self, server: LocalServer, speech: Path | None, folder: Path) -> None:
        room = self._config.livekit.room
        async with Person(server.url, server.participant_token(room, "guest", "Guest")) as person:
            await person.wait("hears_agent", timeout_s=20)
            said_at = None
            if speech is not None:
                await person.do("publish", rate_hz=_PERSON_RATE_HZ, channels=1)
                await person.wait("heard_by_somebody", timeout_s=20)
                length_s = _length_s(speech)
                self._tell(f"saying {self._say} ({length_s - _LEAD_IN_S:.1f} s) in room {room}")
                await person.do("say", wav=str(speech), timeout_s=length_s + 30)
                said_at = (await person.wait("said"))["at"]
                await self._answered()
            else:
                self._tell(f"listening in room {room}; Ctrl-C saves {self._save}")
                await self._stopped.wait()
            heard = folder / "heard.wav"
            await person.do("save", wav=str(heard))
            self._report(heard, said_at)

    async def _answered(self) -> None:
        """Wait until the agent has answered and then been quiet for a while."""
        quiet_since: float | None = None
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not self._stopped.is_set():
            bridge = self._process.bridges.get(self._config.livekit.room)
            spoke = bridge is not None and bridge.snapshot().counters.get("playout.replies", 0) > 0
            busy = bridge is not None and bridge.state in (AgentState.SPEAKING, AgentState.THINKING)
            if not spoke and loop.time() - began > _ANSWER_TIMEOUT_S:
                raise BridgeError(f"no answer within {_ANSWER_TIMEOUT_S:g} s; is there speech in {self._say}?")
            quiet_since = None if busy or not spoke else quiet_since or loop.time()
            if quiet_since is not None and loop.time() - quiet_since >= _QUIET_S:
                return
            await asyncio.sleep(0.05)

    def _report(self, heard: Path, said_at: float | None) -> None:
        sound = wav.read(heard, _PERSON_RATE_HZ)
        loud = np.flatnonzero(np.abs(sound) > _LOUD)
        if self._save is not None:
            shutil.move(heard, self._save)
            self._tell(f"heard {len(sound) / _PERSON_RATE_HZ:.1f} s of the agent's track, saved as {self._save}")
        if not len(loud):
            self._tell("the agent made no sound")
            return
        spoken_s = (loud[-1] - loud[0]) / _PERSON_RATE_HZ
        self._tell(f"the agent sounded for {spoken_s:.1f} s, from its first to its last sound")
        if said_at is not None:
            arrivals = json.loads(Path(f"{heard}.json").read_text())["arrivals"]
            first = next((at for at, sample in reversed(arrivals) if sample <= loud[0]), None)
            if first is not None and first > said_at:
                self._tell(f"it began {first - said_at:.2f} s after the end of the speech")

    def _check_save(self) -> None:
        if self._save is not None and not self._save.absolute().parent.is_dir():
            raise ConfigError("--save", str(self._save), "its folder does not exist: make it first")

    def _speech(self, folder: Path) -> Path | None:
        """The WAV to say as the participant takes it: 16 bit mono, 48 kHz. Raises: `ConfigError`."""
        if self._say is None:
            return None
        try:
            sound = wav.read(self._say, _PERSON_RATE_HZ)
        except wav.WavError as error:
            raise ConfigError("--say", str(self._say), error.problem) from error
        ready = folder / "say.wav"
        lead_in = np.zeros(int(_LEAD_IN_S * _PERSON_RATE_HZ), dtype=np.int16)
        wav.write(ready, np.concatenate([lead_in, sound]), _PERSON_RATE_HZ)
        return ready

    def _free_port(self, port: int) -> int:
        """This port, or 0 (any) when another program listens there."""
        if port:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    self._tell(f"port {port} is taken; using a free one")
                    return 0
        return port


def _no_page() -> str | None:
    """Why there is no page; None: there is."""
    for name in ("aiohttp", "aiortc"):
        if find_spec(name) is None:
            return f"{name} is not installed; pip install 'roombridge[webrtc]'"
    return None


async def _watch(server: LocalServer) -> None:
    code = await server.ended()
    words = server.log_tail(500)
    raise BridgeError(f"livekit-server ended in the middle of the demo (exit code {code}); its last words:\n{words}")


def _length_s(path: Path) -> float:
    return len(wav.read(path, _PERSON_RATE_HZ)) / _PERSON_RATE_HZ


def _why(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that explains the others: a person who lost the room is the server's fault, not the reason."""
    flat: list[BaseException] = []
    waiting: list[BaseException] = [failed]
    while waiting:
        error = waiting.pop(0)
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(error.exceptions)
        else:
            flat.append(error)
    for error in flat:
        if not isinstance(error, BridgeError | PersonError):
            return failed
    bridge_errors = [error for error in flat if isinstance(error, BridgeError)]
    return bridge_errors[0] if bridge_errors else BridgeError(f"the participant failed: {flat[0]}")
