"""A clock that drifts is seen to drift, and one that does not is not."""

from __future__ import annotations

import struct

import pytest

from bench.rtp_clock import RtpClock


def clock(seconds: int, *, rate: float = 1.0, lost: int = -1) -> RtpClock:
    """Packets each 20 ms whose clock runs `rate` times as fast as time, from near the wraps of both counters."""
    made = RtpClock()
    for number in range(seconds * 50):
        if number != lost:
            stamp = (2**32 - 48_000 + int(number * 960 * rate)) % 2**32
            head = struct.pack("!BBHLL", 0x80, 111, (65_500 + number) % 2**16, stamp, 7)
            made.saw(head, 100.0 + number / 50)
    return made


def test_a_true_clock_does_not_drift_over_the_wraps_of_its_counters() -> None:
    report = clock(600).report(100.0, 700.0)
    assert report.drift_ms == pytest.approx(0.0, abs=0.03)
    assert (report.packets, report.missing) == (30_000, 0)
    assert report.longest_gap_ms == pytest.approx(20.0)


def test_a_quick_clock_drifts_by_what_it_is_quicker() -> None:
    report = clock(600, rate=1.0001).report(100.0, 700.0)
    assert report.drift_ms == pytest.approx(-59.0, abs=1.0)
    assert report.widest_ms == pytest.approx(-59.0, abs=1.0)


def test_a_lost_packet_is_missed_once() -> None:
    report = clock(60, lost=500).report(100.0, 160.0)
    assert (report.missing, report.packets) == (1, 2999)
    assert report.longest_gap_ms == pytest.approx(40.0)


def test_a_stream_too_short_to_judge_says_nothing() -> None:
    assert clock(5).report(100.0, 160.0).drift_ms == 0.0
    assert RtpClock().report(0.0, 1.0).packets == 0
