"""A livekit-server of our own on loopback: found, started, waited for, stopped by its process id."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from bridge.transports.livekit_room.token import sign, sign_participant

__all__ = ["LocalServer", "ServerNotFound", "ServerNotReady", "find_server"]


_ATTEMPTS = 3
_LOOPBACK = "127.0.0.1"
_NOBODY = 9
_PORT_TAKEN = "address already in use"


class ServerNotFound(Exception):
    """There is no livekit-server on this machine. Says what is missing and the mend."""


class ServerNotReady(Exception):
    """The server ended or did not answer in time. Carries the end of its log."""


def find_server() -> Path:
    """The livekit-server binary: LIVEKIT_SERVER_BIN, else `.cache/bin/livekit-server` of the project, else PATH."""
    named = os.environ.get("LIVEKIT_SERVER_BIN", "")
    if named:
        if os.access(named, os.X_OK):
            return Path(named)
        raise ServerNotFound(f"LIVEKIT_SERVER_BIN = {named!r}: no program there; correct or unset it")
    cached = Path(__file__).parents[2] / ".cache" / "bin" / "livekit-server"
    if os.access(cached, os.X_OK):
        return cached
    on_path = shutil.which("livekit-server")
    if on_path:
        return Path(on_path)
    raise ServerNotFound(
        "livekit-server is missing: run `make server` (needs Go), put one on PATH, or set LIVEKIT_SERVER_BIN"
    )


_EMPTY_TIMEOUT_S = 365 * 86_400


class LocalServer:
    """Use as an async context manager: ready on entry, stopped on exit. Ports are free ones unless given.

    Args: host is the address of this machine to listen on; media_over_tcp lets clients go on over TCP where UDP fails.
    """

    def __init__(
        self,
        *,
        host: str = _LOOPBACK,
        port: int = 0,
        auto_create: bool = True,
        api_key: str = "devkey",
        api_secret: str | None = None,
        udp_port: int = 0,
        media_over_tcp: bool = True,
        departure_timeout_s: int = 20,
        ready_timeout_s: float = 15.0,
    ) -> None:
        self.host = host
        self._wanted = port, udp_port
        self.api_key = api_key
        self.api_secret = api_secret or secrets.token_urlsafe(32)
        self._auto_create = auto_create
        self._media_over_tcp = media_over_tcp
        self._departure_timeout_s = departure_timeout_s
        self._ready_timeout_s = ready_timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self._log: Any = None
        self._was_ready = False
        self._choose_ports()

    def _choose_ports(self) -> None:
        port, udp_port = self._wanted
        self.port = port or _free_port(socket.SOCK_STREAM)
        self._udp_port = udp_port or _free_port(socket.SOCK_DGRAM)
        self._tcp_port = _free_port(socket.SOCK_STREAM) if self._media_over_tcp else 0

    @property
    def url(self) -> str:
        return f"ws://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "started before"
        return self._process.pid

    async def __aenter__(self) -> LocalServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start and wait until it answers. Raises ServerNotFound or ServerNotReady."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._start()
            except ServerNotReady as error:
                # A free port is free when it is chosen; by now another program may have it.
                given = any(port and f":{port}: bind" in str(error) for port in self._wanted)
                if self._was_ready or given or attempt == _ATTEMPTS or _PORT_TAKEN not in str(error):
                    raise
                self._choose_ports()
            else:
                self._was_ready = True
                return

    async def _start(self) -> None:
        binary = find_server()
        config = {
            "port": self.port,
            "bind_addresses": [self.host],
            "keys": {self.api_key: self.api_secret},
            "rtc": {
                "node_ip": self.host,
                "use_external_ip": False,
                "enable_loopback_candidate": True,
                "tcp_port": self._tcp_port,
                "allow_tcp_fallback": self._media_over_tcp,
                # Each interface's candidate is given out as `node_ip`, and only one of them is listened to.
                **({"ips": {"includes": [f"{self.host}/32"]}} if self.host != _LOOPBACK else {}),
                "udp_port": self._udp_port,
                # Without any, clients get names of public STUN servers: a machine without a network then waits for its
                # resolver, and libwebrtc keeps a thread for each look-up (37 for each call were seen).
                # Elsewhere a port of nobody's: a client takes all that comes from a STUN server's for its answers.
                "stun_servers": [f"{self.host}:{self._udp_port if self.host == _LOOPBACK else _NOBODY}"],
            },
            "room": {
                "auto_create": self._auto_create,
                "departure_timeout": self._departure_timeout_s,
                # Rooms with agents alone count as empty; ours wait for people as long as the server runs.
                "empty_timeout": _EMPTY_TIMEOUT_S,
            },
            "logging": {"level": "info"},
        }
        self._log = tempfile.TemporaryFile()
        # The keys travel in the environment: arguments can be read by every user of the machine.
        self._process = await asyncio.create_subprocess_exec(
            *_tied_to_us(),
            str(binary),
            "--node-ip",
            self.host,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, "LIVEKIT_CONFIG": json.dumps(config)},
            start_new_session=True,  # Ctrl-C is for us: the server must live until the call has said goodbye
        )
        try:
            async with asyncio.timeout(self._ready_timeout_s):
                while not await asyncio.to_thread(_answers, self.host, self.port):
                    if self._process.returncode is not None:
                        raise ServerNotReady(f"livekit-server ended ({self._process.returncode}): {self.log_tail()}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            tail = self.log_tail()
            await self.stop()
            raise ServerNotReady(f"livekit-server did not answer in {self._ready_timeout_s:g} s: {tail}") from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End it and wait for that. Safe to call twice."""
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(3):
                    await process.wait()
            except TimeoutError:
                process.kill()  # it waits for rooms to empty
                await process.wait()
        if self._log is not None:
            self._log.close()
            self._log = None

    async def ended(self) -> int:
        """Wait until it ends by itself, or is ended by somebody. Returns its exit code, negative for a signal."""
        assert self._process is not None, "started before"
        return await self._process.wait()

    async def kill(self) -> None:
        """End it as a crash would: at once and without a goodbye."""
        assert self._process is not None, "started before"
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def log_tail(self, size: int = 2000) -> str:
        """The end of what the server has logged."""
        if self._log is None:
            return ""
        data: bytes = os.pread(self._log.fileno(), 1 << 20, 0)
        return data[-size:].decode(errors="replace")

    def participant_token(self, room: str, identity: str, name: str = "") -> str:
        """A token for a person."""
        return sign_participant(self.api_key, self.api_secret, room=room, identity=identity, name=name)

    async def ask(self, method: str, request: Mapping[str, object], *, room: str = "") -> dict[str, Any]:
        """Call the server's RoomService, for instance `DeleteRoom` with {"room": NAME}."""
        grants = {"roomCreate": True, "roomList": True, "roomAdmin": True, "room": room}
        token = sign(self.api_key, self.api_secret, grants=grants, ttl_s=60)
        address = f"http://{self.host}:{self.port}/twirp/livekit.RoomService/{method}"
        return await asyncio.to_thread(_post, address, token, json.dumps(request).encode())


def _tied_to_us() -> tuple[str, ...]:
    """Have the kernel end the program behind this with us, even if we are killed; nothing where there is no such tool.
    Not by a `preexec_fn`: between fork and exec of a process with native threads, Python code may hang."""
    tool = shutil.which("setpriv") if sys.platform == "linux" else None
    return (tool, "--pdeathsig", "KILL", "--") if tool else ()


def _post(address: str, token: str, body: bytes) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=10) as answer:
        told: dict[str, Any] = json.load(answer)
        return told


def _answers(host: str, port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
