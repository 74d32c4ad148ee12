"""The audio stream that this side sends: speech of any length in, one RTP packet each 20 ms out. No I/O, no clock."""

from __future__ import annotations

import secrets
from collections import deque
from typing import Protocol

import numpy as np

from providers.webrtc import rtp, sdp
from providers.webrtc.pacer import Pacer

__all__ = ["Encoder", "OutgoingSpeech", "RtpSender"]

_SETTLED_SILENCE = 10
"""Silent packets after which the encoder is quiet: the last packet is then sent again instead of encoding nothing."""


class Encoder(Protocol):
    """What is needed of `providers.webrtc.opus.OpusEncoder`."""

    def encode(self, pcm: bytes) -> bytes: ...


class RtpSender(Protocol):
    """What is needed of `providers.webrtc.seam.Wire`."""

    def send_rtp(self, packet: bytes) -> bool: ...


class OutgoingSpeech:
    """Speech that waits to be sent, and the stream that carries it. Full: the oldest goes, `dropped_ms` counts it.

    Silence is sent where nothing waits: the stream never rests, so that the other side's clock keeps to ours.
    """

    def __init__(self, rate_hz: int, limit_ms: int) -> None:
        """Args: rate_hz of the speech; limit_ms of it may wait."""
        self.ssrc = secrets.randbits(32)
        self.cname = secrets.token_hex(8)
        self.payload_type = 111
        """As `agreed` says."""
        self.paused = False
        """No packet at all is sent, not even silence; what waits waits."""
        self.packets_sent = 0
        self.dropped_ms = 0
        # In the lower half: a wrap among the first packets would break SRTP if they are lost (RFC 3711 section 3.3.1).
        self.sequence = secrets.randbits(15)
        self._octets = 0
        self._rate_hz = rate_hz
        self._most = limit_ms * rate_hz // 1000 * 2
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._waited = False
        self._frame_bytes = rate_hz // 50 * 2
        self._silence = bytes(self._frame_bytes)
        self._silent = 0
        self._silent_packet = b""
        self._extension = b""
        self._level_at = -1

    def agreed(self, remote: sdp.Remote) -> None:
        """The other side's description says how packets are marked."""
        self.payload_type = remote.opus
        known = dict(remote.extensions)
        mid = remote.sections[remote.audio].mid.encode()
        if sdp.AUDIO_LEVEL in known:
            self._extension += bytes([known[sdp.AUDIO_LEVEL] << 4, 0])
            self._level_at = 1
        if sdp.MID in known and 0 < len(mid) <= 16:
            self._extension += bytes([known[sdp.MID] << 4 | len(mid) - 1]) + mid

    # What waits

    def push(self, pcm: bytes) -> None:
        """Any length of int16 mono, to be heard after what was given before."""
        self._waiting.append(pcm)
        self._size += len(pcm)
        over = self._size - self._most
        if over > 0:
            self._take(over + over % 2)
            self.dropped_ms += over * 500 // self._rate_hz

    def clear(self) -> None:
        """Silence from the next packet on."""
        self._waiting.clear()
        self._size = 0

    @property
    def waiting_ms(self) -> float:
        """Given and not yet sent."""
        return self._size * 500 / self._rate_hz

    def next_frame(self) -> bytes:
        """20 ms to send. A piece shorter than a packet waits one packet long for its rest."""
        if self._size >= self._frame_bytes:
            self._waited = False
            return self._take(self._frame_bytes)
        if self._size and self._waited:
            self._waited = False
            return self._take(self._size).ljust(self._frame_bytes, b"\0")
        self._waited = self._size > 0
        return self._silence

    def _take(self, size: int) -> bytes:
        """Up to `size` bytes of what waits."""
        pieces = []
        while size and self._waiting:
            piece = self._waiting.popleft()
            if len(piece) > size:
                self._waiting.appendleft(piece[size:])
                piece = piece[:size]
            pieces.append(piece)
            size -= len(piece)
            self._size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # What is sent

    def send_packet(self, pacer: Pacer, encoder: Encoder, wire: RtpSender) -> None:
        """The packet that `pacer` says is due. Hot path."""
        if self.paused:
            pacer.next_timestamp()
            return
        frame = self.next_frame()
        extension = self._extension
        if frame is self._silence:
            self._silent += 1
            if self._silent <= _SETTLED_SILENCE:
                self._silent_packet = encoder.encode(frame)
            payload = self._silent_packet
            level = 127
        else:
            self._silent = 0
            payload = encoder.encode(frame)
            level = rtp.audio_level(np.frombuffer(frame, dtype=np.int16)) if self._level_at >= 0 else 127
        if self._level_at >= 0:
            extension = extension[: self._level_at] + bytes([level]) + extension[self._level_at + 1 :]
        marker = pacer.resumed
        head = rtp.header(
            payload_type=self.payload_type,
            marker=marker,
            sequence=self.sequence,
            timestamp=pacer.next_timestamp(),
            ssrc=self.ssrc,
            extension=extension,
        )
        self.sequence = (self.sequence + 1) & 0xFFFF
        if wire.send_rtp(head + payload):
            self.packets_sent += 1
            self._octets += len(payload)

    def report(self, *, wall_s: float, rtp_timestamp: int, received: list[bytes]) -> bytes:
        """The RTCP that tells the other side what was sent. Args as `rtp.reports`."""
        return rtp.reports(
            ssrc=self.ssrc,
            cname=self.cname,
            wall_s=wall_s,
            rtp_timestamp=rtp_timestamp if self.packets_sent else None,
            packets=self.packets_sent,
            octets=self._octets,
            received=received,
        )
