"""Our packets as aiortc reads them, and aiortc's as we do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.webrtc import rtp
from tests.fakes.webrtc import tone


def test_a_packet_reads_back_with_aiortc_and_with_us() -> None:
    from aiortc import rtp as theirs

    head = rtp.header(
        payload_type=111, marker=True, sequence=65_535, timestamp=0xFFFFFFFF, ssrc=7, extension=b"\x10\x25\x200"
    )
    packet = theirs.RtpPacket.parse(head + b"payload")
    assert (packet.payload_type, packet.marker, packet.sequence_number) == (111, 1, 65_535)
    assert (packet.timestamp, packet.ssrc, packet.payload) == (0xFFFFFFFF, 7, b"payload")
    assert rtp.parse(head + b"payload") == rtp.Packet(111, True, 65_535, 0xFFFFFFFF, 7, b"payload")


def test_padding_contributors_and_extensions_are_stepped_over() -> None:
    from aiortc import rtp as theirs

    packet = theirs.RtpPacket(payload_type=96, sequence_number=1, timestamp=2, ssrc=3, payload=b"abc")
    packet.csrc = [9, 8]
    packet.padding_size = 5
    assert rtp.parse(packet.serialize()).payload == b"abc"


@given(st.binary(max_size=64))
def test_any_bytes_are_a_packet_or_a_value_error(data: bytes) -> None:
    try:
        packet = rtp.parse(data)
    except ValueError:
        return
    assert len(packet.payload) <= len(data) - 12


@given(st.binary(max_size=200))
def test_any_bytes_are_walked_to_their_end(data: bytes) -> None:
    assert len(list(rtp.walk(data))) <= len(data) // 4
    rtp.sender_reports(data)


def test_reports_read_back_with_aiortc() -> None:
    from aiortc import rtp as theirs
    from aiortc.clock import datetime_from_ntp

    count = rtp.ReceiverCount(5, 65_530)
    for number in range(20):
        if number not in (3, 4):
            count.add((65_530 + number) & 0xFFFF, number * 960, number * 0.02)
    count.last_report = (0x12345678, 1.0)
    sender, names = theirs.RtcpPacket.parse(
        rtp.reports(
            ssrc=9, cname="ada", wall_s=1_700_000_000.5, rtp_timestamp=4_800, packets=10, octets=700,
            received=[count.block(1.5)],
        )
    )  # fmt: skip
    assert isinstance(sender, theirs.RtcpSrPacket) and isinstance(names, theirs.RtcpSdesPacket)
    assert sender.ssrc == 9 and sender.sender_info.rtp_timestamp == 4_800
    assert (sender.sender_info.packet_count, sender.sender_info.octet_count) == (10, 700)
    assert datetime_from_ntp(sender.sender_info.ntp_timestamp).timestamp() == pytest.approx(1_700_000_000.5, abs=1e-3)
    [block] = sender.reports
    assert (block.ssrc, block.packets_lost, block.highest_sequence) == (5, 2, 65_549)
    assert block.fraction_lost == 2 * 256 // 20 and block.jitter < 10
    assert (block.lsr, block.dlsr) == (0x12345678, 32_768)
    assert names.chunks[0].items == [(1, b"ada")]
    assert count.block(2.0)[4] == 0, "the fraction counts from the last report"


def test_a_side_that_sent_nothing_reports_as_a_receiver_and_says_goodbye() -> None:
    from aiortc import rtp as theirs

    first, _ = theirs.RtcpPacket.parse(
        rtp.reports(ssrc=9, cname="ada", wall_s=0.0, rtp_timestamp=None, packets=0, octets=0, received=[])
    )
    assert isinstance(first, theirs.RtcpRrPacket)
    _, bye = theirs.RtcpPacket.parse(rtp.goodbye(9))
    assert isinstance(bye, theirs.RtcpByePacket) and bye.sources == [9]


def test_jitter_is_that_of_the_rfc() -> None:
    count = rtp.ReceiverCount(1, 0)
    for number in range(400):
        late = 0.01 if number % 2 else 0.0
        count.add(number, (number * 960 + 0xFFFFFF00) & 0xFFFFFFFF, number * 0.02 + late)
    jitter = int.from_bytes(count.block(9.0)[12:16])
    assert jitter == pytest.approx(480, rel=0.05)


@pytest.mark.parametrize(("peak", "level"), [(32_767, 3), (3_277, 23), (328, 43), (0, 127)])
def test_the_audio_level_is_decibels_below_overload(peak: int, level: int) -> None:
    pcm = np.frombuffer(tone(400, 20, 24_000, peak), dtype=np.int16)
    assert rtp.audio_level(pcm) == level
