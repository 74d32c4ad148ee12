"""The tap tells a sender that stood still from one that did not."""

from __future__ import annotations

import math
import struct

import pytest

from tests.fakes.rtp_tap import RtpTap


def packet(number: int, *, ssrc: int = 7, first: int = 0, kind: int = 111) -> bytes:
    stamp = (first + number * 960) % 2**32
    return struct.pack("!BBHLL", 0x80, kind, number & 0xFFFF, stamp, ssrc) + b"sound"


def test_a_sender_on_its_beat_is_never_behind_even_where_its_clock_wraps() -> None:
    tap = RtpTap()
    for number in range(500):
        tap.saw(packet(number, first=2**32 - 100_000), 50 + number / 50)
    assert tap.lag_ms(50, 51) == pytest.approx(0, abs=1e-3)
    assert tap.lag_ms(59, 60) == pytest.approx(0, abs=1e-3)


def test_a_sender_that_stood_still_is_behind_from_then_on() -> None:
    tap = RtpTap()
    for number in range(500):
        tap.saw(packet(number), 50 + number / 50 + (0.2 if number >= 250 else 0))
    assert tap.lag_ms(59, 60) == pytest.approx(200, abs=1e-3)


def test_the_busiest_stream_counts_and_rtcp_dtls_and_stun_do_not() -> None:
    tap = RtpTap()
    for number in range(100):
        tap.saw(packet(number), number / 50)
        tap.saw(packet(number, kind=200 & 0x7F), number)
        tap.saw(b"\x16" + bytes(40), number)
        tap.saw(bytes(40), number)
    tap.saw(packet(0, ssrc=8), 5.0)
    assert tap.lag_ms(0, 2) == pytest.approx(0, abs=1e-3)
    assert math.isnan(tap.lag_ms(3, 4))
    assert math.isnan(RtpTap().lag_ms(0, 1))
