"""Where we touch aioice, its private parts too: which addresses are offered and tried, and the way datagrams take.

Loaded on first use only, by `seam`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from importlib import metadata
from typing import Any, Protocol, cast

import aioice
import aioice.ice
import aioice.stun

from providers.webrtc import ice, sdp
from providers.webrtc.settings import ResolvedIceServer

__all__ = ["Ice", "IceUser", "Shape", "check_shape"]

_log = logging.getLogger(__name__)
logging.getLogger("aioice").setLevel(logging.WARNING)  # each address pair that it tries, at INFO

_GATHER_S = 3.0
"""For STUN and TURN servers to answer. Without them the machine's own addresses are offered."""
_MAX_WAITING = 512
"""Datagrams of DTLS and RTCP between the socket and their reader. Full: new ones are dropped."""
_MAX_CANDIDATES = 64
"""Addresses that the other side may be known by. Full: checks from further ones are not answered by checks."""

Shape = Mapping[Any, Sequence[str]]
"""What must have which attributes."""


def check_shape(shape: Shape) -> None:
    """Raises RuntimeError, with the mend, where aiortc or aioice is not of the shape that we know."""
    missing = [
        f"{owner.__name__}.{name}" for owner, names in shape.items() for name in names if not hasattr(owner, name)
    ]
    if missing:
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("aiortc", "aioice"))
        raise RuntimeError(f"{versions}: {', '.join(missing)} is gone; install aiortc>=1.16,<1.17")


check_shape(
    {
        aioice.Connection: ("build_request", "check_incoming", "data_received", "get_component_candidates"),
        aioice.ice.StunProtocol: ("datagram_received", "send_stun"),
        aioice.ice: ("get_host_addresses", "relayed_candidate", "server_reflexive_candidate"),
    }
)


class IceUser(Protocol):
    """Whose datagrams these are."""

    heard: int
    """Grows with everything that came from the other side."""
    dropped_datagrams: int

    def datagram(self, data: bytes) -> None:
        """No STUN, and from an address that has proved itself."""


class Ice(aioice.Connection):
    """aioice with our choice of addresses, our own bounds, and a short way for audio."""

    def __init__(self, wire: IceUser, addresses: Sequence[str], servers: Sequence[ResolvedIceServer]) -> None:
        super().__init__(ice_controlling=False)
        self._wire = wire
        self._addresses = tuple(addresses)
        self._servers = tuple(servers)
        self._known: tuple[str, int] | None = None
        if not hasattr(self, "_nominated") or not isinstance(getattr(self, "_queue", None), asyncio.Queue):
            raise RuntimeError(
                f"aioice {metadata.version('aioice')}: not of the known shape; install aiortc>=1.16,<1.17"
            )

    @property
    def role(self) -> str:
        """As DTLS asks its transport."""
        return "controlling" if self.ice_controlling else "controlled"

    async def get_component_candidates(
        self, component: int, addresses: list[str], timeout: int = 5
    ) -> list[aioice.Candidate]:
        """aioice's own leaves its STUN and TURN questions running when it is cancelled, and knows one server."""
        chosen = list(self._addresses) or addresses or ["127.0.0.1"]
        candidates = await super().get_component_candidates(component, chosen, timeout)
        if not candidates:
            raise OSError(f"no address to listen on: tried {', '.join(chosen)}")
        for protocol in self._protocols:
            self._take_over(protocol)
        questions: list[Coroutine[Any, Any, tuple[aioice.Candidate, Any]]] = []
        for server in ice.stun_servers(self._servers)[:4]:
            questions += [
                aioice.ice.server_reflexive_candidate(protocol, server)
                for protocol in self._protocols
                if ":" not in protocol.local_candidate.host
            ]
        turn = ice.turn_server(self._servers)
        if turn is not None:
            questions.append(
                aioice.ice.relayed_candidate(
                    component=component, hide_related_address=False,
                    protocol_factory=lambda: aioice.ice.StunProtocol(self),
                    turn_server=turn.address, turn_username=turn.username, turn_password=turn.credential,
                    turn_ssl=turn.tls, turn_transport=turn.transport,
                )
            )  # fmt: skip

        async def ask(question: Coroutine[Any, Any, tuple[aioice.Candidate, Any]]) -> None:
            try:
                async with asyncio.timeout(_GATHER_S):
                    candidate, relay = await question
            except (OSError, TimeoutError, ValueError, KeyError, aioice.stun.TransactionError) as error:
                _log.info("an ICE server gave no address: %s", type(error).__name__)
                return
            if relay is not None:
                self._take_over(relay)
                self._protocols.append(relay)
            if all((candidate.host, candidate.port) != (other.host, other.port) for other in candidates):
                candidates.append(candidate)

        async with asyncio.TaskGroup() as asking:
            for number, question in enumerate(questions):
                asking.create_task(ask(question), name=f"webrtc:gather:{number}")
        return candidates

    def _take_over(self, protocol: Any) -> None:
        """What is no STUN goes our way, and only from an address that has proved itself by STUN: a datagram of a
        stranger could end a DTLS handshake. The first byte tells the kinds apart (RFC 7983)."""
        stun = protocol.datagram_received

        def received(data: bytes, address: tuple[Any, ...]) -> None:
            if len(data) < 2:
                return  # aiortc's reader would end at an empty one
            if data[0] < 4:
                stun(data, address)
            elif self._knows((address[0], address[1])):
                self._wire.datagram(data)
            else:
                self._wire.dropped_datagrams += 1

        protocol.datagram_received = received

    def _knows(self, address: tuple[str, int]) -> bool:
        if address != self._known:
            if all((other._network_host, other.port) != address for other in self._remote_candidates):
                return False
            self._known = address
        return True

    def data_received(self, data: bytes, component: int) -> None:
        self._wire.dropped_datagrams += 1  # looked like STUN and is none

    def check_incoming(self, message: Any, addr: tuple[str, int], protocol: Any) -> None:
        """A connectivity check with the right password."""
        if len(self._remote_candidates) < _MAX_CANDIDATES or self._knows(addr):
            self._wire.heard += 1
            super().check_incoming(message, addr, protocol)

    def put(self, data: bytes) -> None:
        """To the slow way: DTLS, RTCP, video."""
        if self._queue.qsize() < _MAX_WAITING:
            self._queue.put_nowait((data, 1))
        else:
            self._wire.dropped_datagrams += 1

    def _recv(self) -> Coroutine[Any, Any, bytes]:
        return self.recv()

    def _send(self, data: bytes) -> Coroutine[Any, Any, None]:
        return self.send(data)

    async def find_path(self, remote: sdp.Remote, *, controlling: bool) -> None:
        """Until datagrams flow. Raises ConnectionError."""
        self.ice_controlling = controlling or remote.lite
        self.remote_is_lite = remote.lite
        self.remote_username, self.remote_password = remote.ufrag, remote.password
        for line in remote.candidates:
            try:
                candidate = aioice.Candidate.from_sdp(line)
            except (ValueError, IndexError):
                continue
            # Names (mDNS) are not looked up for a stranger: his own checks tell us the address. The end of candidates
            # is never told to aioice, so that it waits for them.
            if (
                candidate.transport.lower() == "udp"
                and candidate.component == 1
                and not candidate.host.endswith(".local")
            ):
                await self.add_remote_candidate(candidate)
        try:
            await self.connect()
        except ConnectionError as error:
            raise ConnectionError(f"ice: {error}") from None

    def mute(self, muted: bool) -> None:
        """Whatever this side wants to send is lost."""
        for protocol in self._protocols:
            transport = protocol.transport
            inner = transport.inner if isinstance(transport, _Muted) else transport
            protocol.transport = cast(Any, _Muted(inner)) if muted else inner

    def cut(self) -> None:
        """Give the sockets back at once, without a goodbye."""
        for protocol in self._protocols:
            protocol.transport.abort()

    async def close(self) -> None:
        """aioice's own leaves its consent checks running when it is closed in the moment in which it connects."""
        await super().close()
        left = self._query_consent_task
        if left is not None and not left.done():
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)

    def path(self) -> tuple[Any, tuple[str, int]] | None:
        """The protocol and the remote address that carry data."""
        pair = self._nominated.get(1)
        return None if pair is None else (pair.protocol, pair.remote_addr)

    def probe(self) -> None:
        """Ask the other side for a sign of life (RFC 7675); the answer counts as heard."""
        pair = self._nominated.get(1)
        if pair is None or self.remote_password is None:
            return
        request = self.build_request(pair, nominate=False)
        request.add_message_integrity(self.remote_password.encode())
        waiting = pair.protocol.transactions
        for stale in [key for key, asked in waiting.items() if isinstance(asked, _Probe)]:
            del waiting[stale]
        waiting[request.transaction_id] = cast(Any, _Probe(self._wire))
        pair.protocol.send_stun(request, pair.remote_addr)


class _Probe:
    """Stands in the place of a STUN transaction: nobody waits for it."""

    def __init__(self, wire: IceUser) -> None:
        self._wire = wire

    def response_received(self, message: Any, addr: tuple[str, int]) -> None:
        self._wire.heard += 1


class _Muted:
    """In the place of a socket: takes everything, sends nothing."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def sendto(self, data: bytes, address: Any = None) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)
