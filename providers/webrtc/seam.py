"""The one module that touches aiortc and aioice, their private parts too: ICE, DTLS, SRTP and the data channel.

aiortc's peer connection, RTP senders and receivers are left out: they loop over every sample in Python, hop to another
thread for each packet, start a thread for each track, and leave tasks behind. Its transports are used one by one.
Audio packets take a short way, from the socket's callback through SRTP to the user, and back to the socket.

Loaded on first use only. What is used of the private parts is looked for when this module loads, so that another
version is refused with a sentence instead of failing in a call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from importlib import metadata
from typing import Any, Protocol, cast

import aioice
import aioice.ice
import aioice.stun
import pylibsrtp
from aiortc import (
    RTCCertificate,
    RTCDataChannel,
    RTCDataChannelParameters,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCSctpCapabilities,
    RTCSctpTransport,
)

from providers.webrtc import ice, sdp
from providers.webrtc.settings import PeerSettings, ResolvedIceServer
from providers.webrtc.video import Video

__all__ = ["Wire", "WireUser"]

_log = logging.getLogger(__name__)
for _noisy in ("aioice", "aiortc"):  # each address pair that they try, at INFO
    logging.getLogger(_noisy).setLevel(logging.WARNING)

_GATHER_S = 3.0
"""For STUN and TURN servers to answer. Without them the machine's own addresses are offered."""
_CLOSE_S = 1.5
_MAX_WAITING = 512
"""Datagrams of DTLS and RTCP between the socket and their reader. Full: new ones are dropped."""
_MAX_BUFFERED = 1 << 20
"""Bytes that wait in the data channel before messages are dropped."""
_MAX_CANDIDATES = 64
"""Addresses that the other side may be known by. Full: checks from further ones are not answered by checks."""
_LEAST_WINDOW = 131_072
"""Bytes of unfinished messages that are kept at least; else twice the longest message."""
_MAX_STREAMS, _MAX_GAPS = 64, 4_096
_OPEN_WAITS_TURNS = 3

_SHAPE: dict[Any, tuple[str, ...]] = {
    aioice.Connection: ("build_request", "check_incoming", "data_received", "get_component_candidates"),
    aioice.ice.StunProtocol: ("datagram_received", "send_stun"),
    aioice.ice: ("get_host_addresses", "relayed_candidate", "server_reflexive_candidate"),
    RTCDtlsTransport: ("_handle_rtcp_data", "_handle_rtp_data", "_recv_next", "_register_data_receiver", "_set_role"),
    RTCSctpTransport: ("_handle_data", "_data_channel_flush"),
}  # fmt: skip


def _check_shape() -> None:
    missing = [
        f"{owner.__name__}.{name}" for owner, names in _SHAPE.items() for name in names if not hasattr(owner, name)
    ]
    if missing:
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("aiortc", "aioice"))
        raise RuntimeError(f"{versions}: {', '.join(missing)} is gone; install aiortc>=1.16,<1.17")


_check_shape()


class WireUser(Protocol):
    """Called in the event loop's own turn; must not raise."""

    def rtp_received(self, data: bytes) -> None:
        """A decrypted audio packet."""

    def rtcp_received(self, data: bytes) -> None:
        """A decrypted compound packet."""

    def wire_channel_open(self) -> None: ...

    def wire_message(self, message: str | bytes) -> None: ...

    def wire_video(self, track: Any) -> None: ...

    def wire_lost(self, reason: str) -> None:
        """The connection ended, or never came about. May come more than once."""


class _Ice(aioice.Connection):
    """aioice with our choice of addresses, our own bounds, and a short way for audio."""

    def __init__(self, wire: Wire, addresses: Sequence[str], servers: Sequence[ResolvedIceServer]) -> None:
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

    def __init__(self, wire: Wire) -> None:
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


class _Dtls(RTCDtlsTransport):
    """aiortc's DTLS, with what leaves it upwards in our hands."""

    def __init__(self, transport: _Ice, certificate: RTCCertificate, wire: Wire) -> None:
        super().__init__(cast(Any, transport), [certificate])
        self._wire = wire
        for name in ("_rx_srtp", "_tx_srtp", "_task", "_ssl"):
            if not hasattr(self, name):
                raise RuntimeError(f"aiortc {metadata.version('aiortc')}: no {name}; install aiortc>=1.16,<1.17")

    async def _handle_rtcp_data(self, data: bytes) -> None:
        self._wire.user.rtcp_received(data)
        if self._wire.video is not None:
            await super()._handle_rtcp_data(data)

    async def _handle_rtp_data(self, data: bytes, arrival_time_ms: int) -> None:
        if self._wire.video is not None and self._wire.video.has_room():
            await super()._handle_rtp_data(data, arrival_time_ms)

    def _register_data_receiver(self, receiver: Any) -> None:
        super()._register_data_receiver(_Guard(receiver, self._wire))

    def _unregister_data_receiver(self, receiver: Any) -> None:
        self._data_receiver = None


class _Guard:
    """Between DTLS and SCTP: what the other side sends must neither raise out of the reader nor fill the memory."""

    def __init__(self, sctp: Any, wire: Wire) -> None:
        self._sctp = sctp
        self._wire = wire

    async def _handle_data(self, data: bytes) -> None:
        sctp = self._sctp
        try:
            await sctp._handle_data(data)
        except ConnectionError:
            return  # the way down is gone: DTLS tells
        except Exception as error:  # aiortc asserts and unpacks what the other side wrote: any error may come of it
            self._wire.lost(f"channel: broken SCTP ({type(error).__name__})")
            return
        # Read anew each time: aiortc replaces some of them.
        if (
            sctp._advertised_rwnd < 0
            or len(sctp._inbound_streams) > _MAX_STREAMS
            or len(sctp._data_channels) > _MAX_STREAMS
            or len(sctp._sack_misordered) > _MAX_GAPS
        ):
            self._wire.lost("channel: more unfinished messages or streams than there is room for")


class Wire:
    """One encrypted connection: an audio stream each way and one data channel. Full queues drop the newest, counted."""

    def __init__(self, user: WireUser, settings: PeerSettings, servers: Sequence[ResolvedIceServer], name: str) -> None:
        self.user = user
        self.name = name
        self.heard = 0
        """Grows with everything that came from the other side."""
        self.bad_packets = 0
        """Datagrams that SRTP refused."""
        self.dropped_datagrams = 0
        self.dropped_messages = 0
        """Longer than the settings allow, or of a channel that nobody asked for."""
        self.video: Video | None = None
        self._settings = settings
        self._ice = _Ice(self, settings.addresses, servers)
        self._certificate = RTCCertificate.generateCertificate()
        self._dtls = _Dtls(self._ice, self._certificate, self)
        self._sctp: RTCSctpTransport | None = None
        self._channel: RTCDataChannel | None = None
        self._payload_type = -1
        self._unprotect: Callable[[bytes], bytes] | None = None
        self._protect: Callable[[bytes], bytes] | None = None
        self._reader: asyncio.Future[Any] | None = None
        self._ended = False
        self._ssrc = 0
        self._dtls.on("statechange", self._dtls_changed)

    async def gather(self, *, controlling: bool) -> None:
        """Open the sockets. Raises OSError when there is no address to listen on.

        The role is settled before anybody can ask: whoever answers may check our addresses before his answer is here,
        and a role that changed then would leave both sides waiting for the other to choose a path.
        """
        self._ice.ice_controlling = controlling
        await self._ice.gather_candidates()

    def local(self, *, ssrc: int, cname: str, session: int) -> sdp.Local:
        """What the description of this side says; `gather` comes first."""
        self._ssrc = ssrc
        found = {one.algorithm: one.value for one in self._certificate.getFingerprints()}
        return sdp.Local(
            ufrag=self._ice.local_username,
            password=self._ice.local_password,
            fingerprint=f"sha-256 {found['sha-256']}",
            candidates=tuple(candidate.to_sdp() for candidate in self._ice.local_candidates),
            ssrc=ssrc,
            cname=cname,
            max_message_bytes=self._settings.max_message_bytes,
            session=session,
        )

    def take_video(self, remote: sdp.Remote) -> list[str]:
        """What the answer says of the offered video: none is taken when it has none, or no codec that is known."""
        if remote.video is None or not self._settings.video:
            return []
        try:
            self.video = Video(remote)
        except ValueError as error:
            _log.info("video is refused: %s", error)
            return []
        return self.video.lines()

    async def connect(self, remote: sdp.Remote, *, controlling: bool, role: str, channel: str | None) -> None:
        """Until media may flow. Args: `role` is this side's of DTLS; `channel` is the label to open, None to wait for
        the other side's. Raises ConnectionError, saying which layer failed."""
        ice_side = self._ice
        ice_side.ice_controlling = controlling or remote.lite
        ice_side.remote_is_lite = remote.lite
        ice_side.remote_username, ice_side.remote_password = remote.ufrag, remote.password
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
                await ice_side.add_remote_candidate(candidate)
        try:
            await ice_side.connect()
        except ConnectionError as error:
            raise ConnectionError(f"ice: {error}") from None
        dtls = self._dtls
        dtls._set_role(role)
        await dtls.start(
            RTCDtlsParameters([RTCDtlsFingerprint(algorithm=name, value=value) for name, value in remote.fingerprints])
        )
        self._reader = dtls._task
        if dtls.state != "connected":
            raise ConnectionError(f"dtls: {dtls.state}")
        self._unprotect, self._protect = dtls._rx_srtp.unprotect, dtls._tx_srtp.protect
        self._payload_type = remote.opus
        if self.video is not None:
            await self.video.start(dtls, self._ssrc)
            self.user.wire_video(self.video.track)
        await self._start_channel(remote, channel)

    async def _start_channel(self, remote: sdp.Remote, label: str | None) -> None:
        sctp = RTCSctpTransport(self._dtls)
        sctp._advertised_rwnd = max(_LEAST_WINDOW, 2 * self._settings.max_message_bytes)
        self._sctp = sctp
        if label is not None:
            self._take(RTCDataChannel(sctp, RTCDataChannelParameters(label=label)))
        sctp.on("datachannel", self._offered)
        limit = remote.max_message_bytes
        await sctp.start(RTCSctpCapabilities(maxMessageSize=limit), remote.sctp_port)

    def _offered(self, channel: RTCDataChannel) -> None:
        if self._channel is None:
            self._take(channel)
            self.user.wire_channel_open()
        else:
            channel.close()

    def _take(self, channel: RTCDataChannel) -> None:
        self._channel = channel
        channel.on("open", self.user.wire_channel_open)
        channel.on("close", lambda: self.lost("channel: closed by the other side"))
        channel.on("message", self._message)

    def _message(self, message: str | bytes) -> None:
        size = len(message.encode()) if isinstance(message, str) else len(message)
        if size > self._settings.max_message_bytes:
            self.dropped_messages += 1
            return
        self.user.wire_message(message)

    def _dtls_changed(self) -> None:
        if self._dtls.state in ("closed", "failed"):
            self.lost(f"dtls: {self._dtls.state}")

    def lost(self, reason: str) -> None:
        if not self._ended:
            self.user.wire_lost(reason)

    def datagram(self, data: bytes) -> None:
        """From the socket's own callback: audio takes the short way, all else waits for DTLS's reader."""
        if 127 < data[0] < 192 and data[1] & 0x7F == self._payload_type and self._unprotect is not None:
            try:
                packet = self._unprotect(data)
            except pylibsrtp.Error:
                self.bad_packets += 1
                return
            self.heard += 1
            self.user.rtp_received(packet)
            return
        self.heard += 1
        self._ice.put(data)

    def send_rtp(self, packet: bytes) -> bool:
        """Encrypt and send. False: there is no way just now."""
        return self._protect is not None and self._send(self._protect(packet))

    def send_rtcp(self, packet: bytes) -> bool:
        """Encrypt and send. False: there is no way just now."""
        return self._protect is not None and self._send(self._dtls._tx_srtp.protect_rtcp(packet))

    def _send(self, data: bytes) -> bool:
        path = self._ice.path()
        if path is None or self._ended:
            return False
        protocol, address = path
        protocol.transport.sendto(data, address)
        return True

    def send_message(self, message: str) -> bool:
        """False: the channel is not open, has too much to send already, or the other side takes no message as long."""
        channel = self._channel
        if channel is None or channel.readyState != "open" or channel.bufferedAmount > _MAX_BUFFERED:
            return False
        try:
            channel.send(message)
        except ValueError:
            return False
        return True

    def mute(self, muted: bool) -> None:
        """Whatever this side wants to send is lost."""
        for protocol in self._ice._protocols:
            transport = protocol.transport
            inner = transport.inner if isinstance(transport, _Muted) else transport
            protocol.transport = cast(Any, _Muted(inner)) if muted else inner

    def probe(self) -> None:
        """Ask for a sign of life."""
        self._ice.probe()

    async def close(self) -> None:
        """Say goodbye and end every task and socket of this connection, within `_CLOSE_S` or so."""
        self._ended = True
        self._unprotect = self._protect = None
        try:
            async with asyncio.timeout(_CLOSE_S):
                if self.video is not None:
                    await self.video.stop()
                if self._sctp is not None:
                    await self._sctp.stop()
                reader = self._dtls._task or self._reader
                await self._dtls.stop()
                if reader is not None:
                    await asyncio.gather(reader, return_exceptions=True)
                await self._ice.close()
        except TimeoutError:
            _log.warning("a WebRTC connection took too long to close: its sockets are cut")
            for protocol in self._ice._protocols:
                protocol.transport.abort()
        self._dtls.remove_all_listeners()
        for _ in range(_OPEN_WAITS_TURNS):
            await asyncio.sleep(0)  # the loop takes the sockets' descriptors back in its next turn
