"""Where we touch aiortc, its private parts too: DTLS, SRTP and the data channel, over the ICE of `seam_ice`.

aiortc's peer connection, RTP senders and receivers are left out: they loop over every sample in Python, hop to another
thread for each packet, start a thread for each track, and leave tasks behind. Its transports are used one by one.
Audio packets take a short way, from the socket's callback through SRTP to the user, and back to the socket.

Loaded on first use only. What is used of the private parts is looked for when this module loads, so that another
version is refused with a sentence instead of failing in a call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, Protocol, cast

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

from providers.webrtc import sdp
from providers.webrtc.seam_ice import Ice, check_shape
from providers.webrtc.settings import PeerSettings, ResolvedIceServer
from providers.webrtc.video import Video

__all__ = ["Wire", "WireUser"]

_log = logging.getLogger(__name__)
logging.getLogger("aiortc").setLevel(logging.WARNING)  # each state of each connection, at INFO

_CLOSE_S = 1.5
_MAX_BUFFERED = 1 << 20
"""Bytes that wait in the data channel before messages are dropped."""
_LEAST_WINDOW = 131_072
"""Bytes of unfinished messages that are kept at least; else twice the longest message."""
_MAX_STREAMS, _MAX_GAPS = 64, 4_096
_OPEN_WAITS_TURNS = 3

check_shape(
    {
        RTCDtlsTransport: (
            "_handle_rtcp_data",
            "_handle_rtp_data",
            "_recv_next",
            "_register_data_receiver",
            "_set_role",
        ),
        RTCSctpTransport: ("_handle_data", "_data_channel_flush"),
    }
)


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


class _Dtls(RTCDtlsTransport):
    """aiortc's DTLS, with what leaves it upwards in our hands."""

    def __init__(self, transport: Ice, certificate: RTCCertificate, wire: Wire) -> None:
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
        self._ice = Ice(self, settings.addresses, servers)
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
        await self._ice.find_path(remote, controlling=controlling)
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
        self._ice.mute(muted)

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
            self._ice.cut()
        self._dtls.remove_all_listeners()
        for _ in range(_OPEN_WAITS_TURNS):
            await asyncio.sleep(0)  # the loop takes the sockets' descriptors back in its next turn
