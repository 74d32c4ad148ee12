"""STUN and TURN servers: checked where they are configured, their secrets taken from the environment, given to ICE."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from providers.webrtc.settings import IceServer, ResolvedIceServer

__all__ = ["IceServer", "ResolvedIceServer", "Turn", "resolve", "shown_url", "stun_servers", "turn_server"]

_URL = re.compile(
    r"(stun|turn|turns):(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::(\d{1,5}))?(?:\?transport=(udp|tcp))?"
)
_USER = re.compile(r":.*@", re.DOTALL)
_MEND = "use stun:HOST[:PORT], turn:HOST[:PORT][?transport=udp|tcp] or turns:HOST[:PORT]"


class Turn(NamedTuple):
    """A TURN server as ICE takes it."""

    address: tuple[str, int]
    tls: bool
    transport: str
    username: str
    credential: str

    def __repr__(self) -> str:
        return f"Turn({self.address!r})"


def resolve(servers: Sequence[IceServer], environment: Mapping[str, str]) -> tuple[ResolvedIceServer, ...]:
    """The servers with their secrets. Raises ValueError, naming the field, for a bad URL or a missing variable."""
    resolved = []
    for number, server in enumerate(servers):
        if not server.urls:
            raise ValueError(f"ice_servers[{number}].urls: name one at least: {_MEND}")  # browsers take no empty list
        for url in server.urls:
            if not _URL.fullmatch(url):
                raise ValueError(f"ice_servers[{number}].urls = {shown_url(url)!r}: {_MEND}")
        relayed = any(url.startswith("turn") for url in server.urls)
        if relayed and not (server.username and server.credential_env):
            raise ValueError(f"ice_servers[{number}]: TURN needs username and credential_env")
        credential = environment.get(server.credential_env, "") if server.credential_env else ""
        if server.credential_env and not credential:
            raise ValueError(f"ice_servers[{number}].credential_env = {server.credential_env!r}: set that variable")
        resolved.append(ResolvedIceServer(urls=server.urls, username=server.username, credential=credential))
    return tuple(resolved)


def shown_url(url: str) -> str:
    """As an error may repeat it: a password that somebody wrote into it, where none belongs, is taken out."""
    if _URL.fullmatch(url):
        return url
    return _USER.sub(":***@", url).partition("?")[0][:200]


def stun_servers(servers: Sequence[ResolvedIceServer]) -> list[tuple[str, int]]:
    """Host and port of each STUN server."""
    return [_address(url)[1] for server in servers for url in server.urls if url.startswith("stun:")]


def turn_server(servers: Sequence[ResolvedIceServer]) -> Turn | None:
    """The first TURN server: a connection has one relay."""
    for server in servers:
        for url in server.urls:
            if url.startswith("turn"):
                scheme, address, transport = _address(url)
                tls = scheme == "turns"
                kind = transport or ("tcp" if tls else "udp")
                return Turn(address, tls, kind, server.username, server.credential)
    return None


def _address(url: str) -> tuple[str, tuple[str, int], str]:
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(f"ice server {shown_url(url)!r}: {_MEND}")
    scheme, host, port, transport = found.groups()
    return scheme, (host.strip("[]"), int(port or (5349 if scheme == "turns" else 3478))), transport or ""
