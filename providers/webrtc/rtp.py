"""RTP and RTCP bytes (RFC 3550): the little that one audio stream each way needs. No I/O, no clock of its own."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from providers.signal.resample import Int16Array

__all__ = [
    "Packet",
    "ReceiverCount",
    "SenderReport",
    "audio_level",
    "goodbye",
    "header",
    "parse",
    "reports",
    "sender_reports",
    "walk",
]

_HEADER = struct.Struct("!BBHLL")
_EPOCH_S = 2_208_988_800
"""From 1900, where NTP's clock begins, to 1970."""


class Packet(NamedTuple):
    """What of an RTP packet matters here."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


class SenderReport(NamedTuple):
    """The other side's clock pair, and who told it."""

    ssrc: int
    ntp: int
    rtp_timestamp: int


def header(*, payload_type: int, marker: bool, sequence: int, timestamp: int, ssrc: int, extension: bytes) -> bytes:
    """Args: `extension` is what follows the profile word (RFC 8285 one-byte elements), empty for none."""
    first = _HEADER.pack(0x90 if extension else 0x80, (0x80 if marker else 0) | payload_type, sequence, timestamp, ssrc)
    if not extension:
        return first
    padded = extension + b"\0" * (-len(extension) % 4)
    return first + struct.pack("!HH", 0xBEDE, len(padded) // 4) + padded


def parse(data: bytes) -> Packet:
    """Raises ValueError for bytes that are no RTP packet. Header extensions are stepped over."""
    if len(data) < 12:
        raise ValueError("an RTP packet has 12 bytes at least")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    start = 12 + 4 * (first & 0x0F)
    if first >> 6 != 2:
        raise ValueError("not version 2 of RTP")
    if first & 0x10:
        if len(data) < start + 4:
            raise ValueError("a cut RTP header extension")
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4])
    end = len(data)
    if first & 0x20:
        if not data[-1]:
            raise ValueError("padding of no length")
        end -= data[-1]
    if start > end:
        raise ValueError("a cut RTP packet")
    return Packet(second & 0x7F, second >= 0x80, sequence, timestamp, ssrc, data[start:end])


def audio_level(pcm: Int16Array) -> int:
    """Of RFC 6464: 0 (full scale) to 127 (silence), in dB below overload."""
    samples = pcm.astype(np.float32)
    power = float(np.dot(samples, samples)) / max(len(samples), 1)
    if power < 1.0:
        return 127
    return min(127, max(0, round(90.31 - 10 * float(np.log10(power)))))


class ReceiverCount:
    """What a receiver reports of one stream (RFC 3550 section 6.4.1 and appendix A.3, A.8)."""

    def __init__(self, ssrc: int, sequence: int) -> None:
        self.ssrc = ssrc
        self.received = 0
        self._base = sequence
        self._highest = sequence
        self._jitter = 0.0
        self._transit: float | None = None
        self._expected_before = 0
        self._received_before = 0
        self.last_report: tuple[int, float] | None = None
        """Middle of the NTP time of the last sender report, and when it came."""

    def add(self, sequence: int, timestamp: int, now: float) -> None:
        self.received += 1
        step = ((sequence - self._highest) & 0xFFFF) ^ 0x8000
        step -= 0x8000
        if step < 0:
            return
        self._highest += step
        # The difference of two transit times is taken modulo the clock's 32 bits, so a wrap does not count as jitter.
        transit = (int(now * 48_000) - timestamp) & 0xFFFFFFFF
        if self._transit is not None and step:
            difference = (((transit - int(self._transit)) & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
            self._jitter += (min(abs(difference), 48_000 * 10) - self._jitter) / 16
        self._transit = transit

    @property
    def expected(self) -> int:
        return self._highest - self._base + 1

    def block(self, now: float) -> bytes:
        """One report block; the fraction lost counts from the last one."""
        expected, received = self.expected - self._expected_before, self.received - self._received_before
        self._expected_before, self._received_before = self.expected, self.received
        fraction = max(0, min(255, (expected - received) * 256 // expected)) if expected > 0 else 0
        lost = max(-(2**23), min(2**23 - 1, self.expected - self.received))
        last, delay = 0, 0
        if self.last_report is not None:
            last, delay = self.last_report[0], max(0, min(0xFFFFFFFF, int((now - self.last_report[1]) * 65_536)))
        return (
            struct.pack("!LB", self.ssrc, fraction)
            + (lost & 0xFFFFFF).to_bytes(3)
            + struct.pack("!LLLL", self._highest & 0xFFFFFFFF, int(self._jitter) & 0xFFFFFFFF, last, delay)
        )


def reports(
    *,
    ssrc: int,
    cname: str,
    wall_s: float,
    rtp_timestamp: int | None,
    packets: int,
    octets: int,
    received: list[bytes],
) -> bytes:
    """A sender report (or a receiver report while nothing was sent: `rtp_timestamp` None) and who we are.

    Args: `wall_s` since 1970 and `rtp_timestamp` name the same moment.
    """
    blocks = b"".join(received[:31])
    if rtp_timestamp is None:
        body = struct.pack("!L", ssrc) + blocks
        kind = 201
    else:
        ntp = int((wall_s + _EPOCH_S) * 2**32) & 0xFFFFFFFFFFFFFFFF
        body = struct.pack("!LQLLL", ssrc, ntp, rtp_timestamp, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF) + blocks
        kind = 200
    name = cname.encode()[:255]
    item = struct.pack("!LBB", ssrc, 1, len(name)) + name + b"\0"
    return _rtcp(kind, len(received[:31]), body) + _rtcp(202, 1, item + b"\0" * (-len(item) % 4))


def goodbye(ssrc: int) -> bytes:
    """RTCP BYE, behind the empty receiver report that a compound packet begins with."""
    return _rtcp(201, 0, struct.pack("!L", ssrc)) + _rtcp(203, 1, struct.pack("!L", ssrc))


def walk(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, count and body of each packet in a compound one; a broken rest is left out."""
    while len(data) >= 4 and data[0] >> 6 == 2:
        end = 4 + 4 * int.from_bytes(data[2:4])
        if end > len(data):
            return
        yield data[1], data[0] & 0x1F, data[4:end]
        data = data[end:]


def sender_reports(data: bytes) -> list[SenderReport]:
    """The sender reports of a compound packet."""
    return [
        SenderReport(*struct.unpack_from("!LQL", body))
        for kind, _, body in walk(data)
        if kind == 200 and len(body) >= 24
    ]


def _rtcp(kind: int, count: int, body: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body
