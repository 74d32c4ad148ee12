"""One WebRTC connection: speech both ways on a monotonic schedule, and messages over a data channel."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from random import random
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from providers.webrtc import rtp, sdp
from providers.webrtc.jitter import JitterBuffer, JitterSettings, JitterStats
from providers.webrtc.outgoing import OutgoingSpeech
from providers.webrtc.pacer import Pacer
from providers.webrtc.settings import IceServer, PeerSettings, ResolvedIceServer

if TYPE_CHECKING:
    from providers.webrtc.opus import OpusEncoder
    from providers.webrtc.seam import Wire

__all__ = ["IceServer", "JitterSettings", "Peer", "PeerSettings", "PeerStats", "PeerUser", "ResolvedIceServer"]

_log = logging.getLogger(__name__)

_CLOSE_S = 2.0
_PROBE_AFTER_S = 1.0


class PeerUser(Protocol):
    """What a connection tells its owner. Called in the event loop's own turn; must not raise: if it does, that is
    logged and the connection ends."""

    def peer_connected(self) -> None:
        """Media may flow."""

    def channel_open(self) -> None:
        """Messages may flow."""

    def audio_received(self, pcm: bytes, now: float) -> None:
        """One 20 ms frame, int16 mono at `receive_rate_hz`; one each 20 ms while the stream runs."""

    def message_received(self, message: str | bytes) -> None:
        """From the data channel."""

    def video_track(self, track: Any) -> None:
        """An aiortc track began; only with `settings.video`."""

    def peer_closed(self, reason: str) -> None:
        """The end, told exactly once: by the other side, by the network, or by `close`."""


class PeerStats(msgspec.Struct):
    """Counters of one connection."""

    packets_sent: int = 0
    packets_received: int = 0
    bad_packets: int = 0
    """Not decrypted, no RTP, or a stray one of another stream."""
    dropped_datagrams: int = 0
    """Not looked into: from a stranger, or more than wait for DTLS's reader."""
    dropped_video_packets: int = 0
    """The decoder of the other side's video did not keep up."""
    dropped_audio_ms: int = 0
    """The send queue was full: its oldest audio went."""
    dropped_messages: int = 0
    """Not sent: queue full, channel closed, too long."""
    refused_messages: int = 0
    """Not taken: longer than `max_message_bytes`."""
    schedule_restarts: int = 0
    """The event loop stalled for longer than the schedule catches up."""
    skipped_packets: int = 0
    """Never sent because of that."""
    stream_changes: int = 0
    """The other side began a new stream (SSRC)."""
    jitter: JitterStats = msgspec.field(default_factory=JitterStats)


class Peer:
    """Both of its queues are bounded: audio to send (full: the oldest goes) and messages that wait for the channel
    (full: new ones go). Drops are counted in `stats`."""

    def __init__(
        self, user: PeerUser, settings: PeerSettings, ice_servers: Sequence[ResolvedIceServer] = (), *, name: str
    ) -> None:
        self.name = name
        self.settings = settings
        self._user = user
        self._servers = tuple(ice_servers)
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._label: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._reason: str | None = None
        self._open = False
        self._stats = PeerStats()
        self._messages: deque[str] = deque()
        self._speech = OutgoingSpeech(settings.send_rate_hz, settings.send_queue_ms)
        self._pacer: Pacer | None = None
        self._encoder: OpusEncoder | None = None
        self._jitter: JitterBuffer | None = None
        self._stream: rtp.ReceiverCount | None = None
        self._stray: int | None = None
        self._odd_packets = 0
        self._timer: asyncio.TimerHandle | None = None
        self._began_wall_s = datetime.now(UTC).timestamp()
        self._began_at = self._loop.time()
        self._report_at = 0.0
        self._heard = 0
        self._heard_at = 0.0
        self._probe_at = 0.0

    # Descriptions

    async def offer(self, channel: str) -> str:
        """The SDP to send, complete with addresses: audio both ways and one data channel labelled `channel`."""
        assert self._wire is None, "a connection is offered or answered once"
        self._label = channel
        wire = await self._gathered(controlling=True)
        return sdp.offer(self._local(wire))

    async def accept(self, answer_sdp: str) -> None:
        """The other side's answer; connecting goes on by itself. Raises ValueError for SDP that cannot be used."""
        assert self._wire is not None, "offer first"
        remote = sdp.parse(answer_sdp, is_answer=True)
        self._start(remote, controlling=True, role="server" if remote.role == "client" else "client")

    async def answer(self, offer_sdp: str) -> str:
        """The SDP to answer with; connecting begins. Raises ValueError for an offer that cannot be used."""
        assert self._wire is None, "a connection is offered or answered once"
        remote = sdp.parse(offer_sdp, is_answer=False)
        wire = await self._gathered(controlling=False)
        role = "server" if remote.role == "client" else "client"
        local = self._local(wire)
        video = wire.take_video(remote)
        self._start(remote, controlling=False, role=role)
        return sdp.answer(local, remote, role=role, video=video)

    async def _gathered(self, *, controlling: bool) -> Wire:
        from providers.webrtc.seam import Wire  # aiortc, on first use

        self._wire = Wire(self, self.settings, self._servers, self.name)
        await self._wire.gather(controlling=controlling)
        return self._wire

    def _local(self, wire: Wire) -> sdp.Local:
        return wire.local(ssrc=self._speech.ssrc, cname=self._speech.cname, session=secrets.randbits(62))

    def _start(self, remote: sdp.Remote, *, controlling: bool, role: str) -> None:
        self._speech.agreed(remote)
        self._spawn(self._connect(remote, controlling, role), "connect")

    def _spawn(self, work: Any, what: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(work, name=f"{self.name}:{what}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _connect(self, remote: sdp.Remote, controlling: bool, role: str) -> None:
        assert self._wire is not None
        try:
            async with asyncio.timeout(self.settings.connect_timeout_s):
                await self._wire.connect(remote, controlling=controlling, role=role, channel=self._label)
        except TimeoutError:
            self.wire_lost(f"ice: no connection within {self.settings.connect_timeout_s:g} s")
        except ConnectionError as error:
            self.wire_lost(str(error))
        except Exception as error:  # aiortc asserts what the other side wrote; nobody else would learn of the end
            _log.exception("%s: the connection could not be made", self.name)
            self.wire_lost(f"webrtc: {type(error).__name__}")
        else:
            self._guarded(self._media_flows)

    def _media_flows(self) -> None:
        from providers.webrtc.opus import OpusDecoder, OpusEncoder

        if self._reason is not None:
            return
        settings = self.settings
        self._encoder = OpusEncoder(settings.send_rate_hz, bitrate_bps=settings.bitrate_bps)
        self._jitter = JitterBuffer(
            OpusDecoder(settings.receive_rate_hz).decode, settings.receive_rate_hz, settings.jitter
        )
        now = self._loop.time()
        self._heard_at = self._probe_at = now
        self._report_at = now + 0.5
        self._pacer = Pacer(now, secrets.randbits(32))
        self._user.peer_connected()
        self._tick()

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        """A bug in here, ours or the user's, ends the connection: nobody would wind up the schedule again, and a call
        that is silent for ever looks sound from outside."""
        try:
            work(*arguments)
        except Exception as error:
            _log.exception("%s: a bug ends the connection", self.name)
            self.wire_lost(f"bug: {type(error).__name__} in {work.__name__.strip('_')}")

    async def connected(self) -> None:
        """Until media flows both ways is possible and the channel is open. The caller bounds it.
        Raises ConnectionError, with the reason, if the connection ends instead."""
        await asyncio.shield(self._ready)
        if self._reason is not None:
            raise ConnectionError(self._reason)

    # Out

    def send_audio(self, pcm: bytes) -> None:
        """Any length of int16 mono at `send_rate_hz`, to be heard after what was given before."""
        if pcm and self._reason is None:
            self._speech.push(pcm)

    def flush_audio(self) -> None:
        """Silence from the next packet on."""
        self._speech.clear()

    def pause_audio(self, paused: bool) -> None:
        """Send no packet at all, not even silence; what is queued waits. For what plays a stalled service."""
        self._speech.paused = paused

    def mute(self, muted: bool) -> None:
        """Nothing leaves this machine any more, no answer and no goodbye either, as if it were switched off. For what
        plays a service that vanishes."""
        if self._wire is not None:
            self._wire.mute(muted)

    def queued_ms(self, now: float) -> float:
        """Audio that was given and not yet sent."""
        return self._speech.waiting_ms

    def send_message(self, message: str) -> None:
        """Over the data channel. Before it opens: `message_queue` messages wait."""
        if self._reason is None and not self._open:
            if len(self._messages) < self.settings.message_queue:
                self._messages.append(message)
                return
        elif self._reason is None and self._wire is not None and self._wire.send_message(message):
            return
        self._stats.dropped_messages += 1

    def watch_video(self, watched: bool) -> None:
        """Decode the other side's video, or drop its packets as they come."""
        if self._wire is not None and self._wire.video is not None:
            self._wire.video.watched = watched

    def take_video(self, at_most_s: float) -> Any | None:
        """The newest frame of the other side's video, once; see `providers.webrtc.video.Video.take`."""
        if self._wire is None or self._wire.video is None:
            return None
        return self._wire.video.take(at_most_s)

    # The schedule

    def _tick(self) -> None:
        self._guarded(self._turn)

    def _turn(self) -> None:
        pacer, encoder, wire, jitter = self._pacer, self._encoder, self._wire, self._jitter
        assert pacer is not None and encoder is not None and wire is not None and jitter is not None
        now = self._loop.time()
        for _ in range(pacer.due(now)):
            due_at = pacer.next_at()  # what is received plays on the schedule too, not when we woke up
            self._speech.send_packet(pacer, encoder, wire)
            frame = jitter.pull(due_at)
            if frame is not None:
                self._user.audio_received(frame.tobytes(), now)
            if self._reason is not None:
                return
        if now >= self._report_at:
            self._report_at = now + 0.5 + random()
            self._send_report(now, pacer, wire)
        self._watch(now, wire)
        if self._reason is None:
            self._timer = self._loop.call_at(pacer.next_at(), self._tick)

    def _send_report(self, now: float, pacer: Pacer, wire: Wire) -> None:
        wire.send_rtcp(
            self._speech.report(
                wall_s=self._began_wall_s + now - self._began_at,
                rtp_timestamp=pacer.timestamp_at(now),
                received=[self._stream.block(now)] if self._stream is not None else [],
            )
        )

    def _watch(self, now: float, wire: Wire) -> None:
        if wire.heard != self._heard:
            self._heard = wire.heard
            self._heard_at = now
        silent_s = now - self._heard_at
        if silent_s > self.settings.disconnected_timeout_s:
            self.wire_lost(f"ice: nothing received for {self.settings.disconnected_timeout_s:g} s")
        elif silent_s > min(_PROBE_AFTER_S, self.settings.disconnected_timeout_s / 3) and now - self._probe_at > 0.5:
            self._probe_at = now
            wire.probe()

    # In: called by the wire

    def rtp_received(self, data: bytes) -> None:
        """A decrypted audio packet."""
        now = self._loop.time()
        try:
            packet = rtp.parse(data)
        except ValueError:
            self._odd_packets += 1
            return
        stream = self._stream
        if stream is not None and stream.ssrc != packet.ssrc:
            # One stray packet changes nothing; two in a row are a new stream, and the old one is over.
            before, self._stray = self._stray, packet.ssrc
            if before != packet.ssrc:
                self._odd_packets += 1
                return
            self._stats.stream_changes += 1
            if self._jitter is not None:
                self._jitter.restart()
            stream = None
        self._stray = None
        self._stats.packets_received += 1
        if stream is None:
            stream = self._stream = rtp.ReceiverCount(packet.ssrc, packet.sequence)
        stream.add(packet.sequence, packet.timestamp, now)
        if self._jitter is not None and packet.payload:
            self._jitter.push(packet.sequence, packet.timestamp, packet.payload, now)

    def rtcp_received(self, data: bytes) -> None:
        """A decrypted compound packet."""
        stream = self._stream
        for report in rtp.sender_reports(data):
            if stream is not None and report.ssrc == stream.ssrc:
                stream.last_report = ((report.ntp >> 16) & 0xFFFFFFFF, self._loop.time())

    def wire_channel_open(self) -> None:
        """The data channel is open."""
        if self._open or self._reason is not None:
            return
        self._open = True
        if not self._ready.done():
            self._ready.set_result(None)
        self._guarded(self._user.channel_open)
        while self._messages:
            self.send_message(self._messages.popleft())

    def wire_message(self, message: str | bytes) -> None:
        """From the data channel."""
        if self._reason is None:
            self._guarded(self._user.message_received, message)

    def wire_video(self, track: Any) -> None:
        """The other side's video began."""
        self._guarded(self._user.video_track, track)

    def wire_lost(self, reason: str) -> None:
        """The end. The owner still closes."""
        if self._reason is not None:
            return
        self._reason = reason
        if self._timer is not None:
            self._timer.cancel()
        self._stats.dropped_messages += len(self._messages)
        self._messages.clear()
        self.flush_audio()
        if not self._ready.done():
            self._ready.set_exception(ConnectionError(reason))
            self._ready.exception()  # nobody may be waiting
        try:
            self._user.peer_closed(reason)
        except Exception:  # its bug must not keep the sockets open: `close` comes by here
            _log.exception("%s: the end could not be told", self.name)

    @property
    def stats(self) -> PeerStats:
        """The counters now."""
        stats = self._stats
        stats.packets_sent, stats.dropped_audio_ms = self._speech.packets_sent, self._speech.dropped_ms
        if self._pacer is not None:
            stats.schedule_restarts, stats.skipped_packets = self._pacer.restarts, self._pacer.skipped
        if self._jitter is not None:
            stats.jitter = self._jitter.stats
        if self._wire is not None:
            stats.refused_messages = self._wire.dropped_messages
            stats.bad_packets = self._odd_packets + self._wire.bad_packets
            stats.dropped_datagrams = self._wire.dropped_datagrams
            if self._wire.video is not None:
                stats.dropped_video_packets = self._wire.video.dropped_packets
        return stats

    async def close(self) -> None:
        """Say goodbye and end everything of this connection, within two seconds or so. Safe twice."""
        if self._closing is None:
            self._closing = self._spawn(self._close(), "close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self.wire_lost("closed")
        others = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=_CLOSE_S)
        if self._wire is not None:
            self._wire.send_rtcp(rtp.goodbye(self._speech.ssrc))
            await self._wire.close()
        self._encoder = None
        self._tell()

    def _tell(self) -> None:
        """What became of it, in one line: nobody else may have looked at the counters."""
        if self._pacer is None:
            return
        stats = self.stats
        jitter = stats.jitter
        _log.info(
            "webrtc connection over name=%s sent=%d received=%d lost=%d late=%d bad=%d concealed_ms=%d delay_ms=%.0f"
            " dropped_audio_ms=%d dropped_messages=%d restarts=%d",
            self.name,
            stats.packets_sent,
            stats.packets_received,
            jitter.lost,
            jitter.late,
            stats.bad_packets,
            jitter.concealed_ms,
            jitter.delay_ms_now,
            stats.dropped_audio_ms,
            stats.dropped_messages,
            stats.schedule_restarts,
        )
