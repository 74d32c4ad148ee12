"""The stream that this side sends: bounded, in order, never resting, and cheap while nobody speaks."""

from __future__ import annotations

import struct

import msgspec
import numpy as np
import pytest

from providers.webrtc import rtp, sdp
from providers.webrtc.outgoing import OutgoingSpeech
from providers.webrtc.pacer import Pacer
from tests.fakes.webrtc import tone

QUIET = bytes(960)


class Stage:
    """A stream, its schedule, an encoder that writes down what it is given, and a wire that keeps packets."""

    def __init__(self, limit_ms: int = 2_000) -> None:
        self.speech = OutgoingSpeech(24_000, limit_ms)
        self.pacer = Pacer(0.0, 1_000)
        self.encoded: list[bytes] = []
        self.sent: list[bytes] = []
        self.has_way = True

    def encode(self, pcm: bytes) -> bytes:
        self.encoded.append(pcm)
        return b"opus%d" % len(self.encoded)

    def send_rtp(self, packet: bytes) -> bool:
        if self.has_way:
            self.sent.append(packet)
        return self.has_way

    def packets(self, count: int) -> list[rtp.Packet]:
        """The next ones."""
        before = len(self.sent)
        for _ in range(count):
            self.speech.send_packet(self.pacer, self, self)
        return [rtp.parse(packet) for packet in self.sent[before:]]


def described(*extensions: tuple[str, int], mid: str = "0") -> sdp.Remote:
    """The other side takes Opus as 96, and these header extensions."""
    local = sdp.Local(
        ufrag="abcd",
        password="p" * 24,
        fingerprint="sha-256 " + ":".join(["AB"] * 32),
        candidates=(),
        ssrc=7,
        cname="other",
        max_message_bytes=1_000,
    )
    text = sdp.offer(local).replace("a=mid:0", f"a=mid:{mid}").replace("BUNDLE 0", f"BUNDLE {mid}")
    return msgspec.structs.replace(sdp.parse(text, is_answer=False), opus=96, extensions=extensions)


def test_what_does_not_fit_goes_oldest_first() -> None:
    speech = OutgoingSpeech(24_000, 100)
    for number in range(10):
        speech.push(bytes([number, 0]) * 480)
    assert speech.waiting_ms == 100 and speech.dropped_ms == 100
    assert speech.next_frame() == b"\x05\0" * 480
    speech.push(b"\x01")
    assert speech.waiting_ms == pytest.approx(80, abs=0.1)
    speech.clear()
    assert speech.waiting_ms == 0 and speech.next_frame() == QUIET


def test_what_is_left_of_a_piece_that_did_not_fit_begins_with_a_whole_sample() -> None:
    speech = OutgoingSpeech(24_000, 20)
    speech.push(b"\x01\x02" * 480)
    speech.push(b"\x01")
    assert speech.next_frame() == QUIET, "one sample less than a packet waits for its rest"
    assert speech.next_frame() == b"\x01\x02" * 479 + b"\x01\0"


def test_the_first_numbers_are_far_from_their_end() -> None:
    assert all(OutgoingSpeech(24_000, 20).sequence < 1 << 15 for _ in range(50))


def test_a_piece_shorter_than_a_packet_waits_once_for_its_rest() -> None:
    speech = OutgoingSpeech(24_000, 2_000)
    speech.push(b"\x01\0" * 100)
    assert speech.next_frame() == QUIET
    speech.push(b"\x02\0" * 380)
    assert speech.next_frame() == b"\x01\0" * 100 + b"\x02\0" * 380
    speech.push(b"\x03\0" * 100)
    assert speech.next_frame() == QUIET
    assert speech.next_frame() == b"\x03\0" * 100 + bytes(760)


def test_packets_are_of_one_stream_in_order_and_keep_the_clock_of_the_schedule() -> None:
    stage = Stage()
    stage.speech.sequence = 0xFFFF
    stage.speech.push(tone(440, 60))
    packets = stage.packets(4)
    assert [packet.sequence for packet in packets] == [0xFFFF, 0, 1, 2]
    assert [packet.timestamp for packet in packets] == [1_000, 1_960, 2_920, 3_880]
    assert [packet.marker for packet in packets] == [True, False, False, False]
    assert {packet.ssrc for packet in packets} == {stage.speech.ssrc}
    assert [packet.payload for packet in packets] == [b"opus1", b"opus2", b"opus3", b"opus4"]
    assert b"".join(stage.encoded) == tone(440, 60) + QUIET
    assert stage.speech.packets_sent == 4


def test_a_long_silence_is_encoded_only_until_the_encoder_has_settled() -> None:
    stage = Stage()
    packets = stage.packets(30)
    assert len(stage.encoded) == 10 and {packet.payload for packet in packets[10:]} == {b"opus10"}
    stage.speech.push(tone(440, 20))
    assert stage.packets(2)[0].payload == b"opus11" and len(stage.encoded) == 12, "and from then on anew"


def test_a_paused_stream_sends_nothing_keeps_what_waits_and_time_goes_on() -> None:
    stage = Stage()
    stage.speech.push(tone(440, 20))
    stage.speech.paused = True
    assert stage.packets(3) == [] and stage.speech.waiting_ms == 20
    stage.speech.paused = False
    [packet] = stage.packets(1)
    assert packet.timestamp == 1_000 + 3 * 960 and stage.speech.waiting_ms == 0


def test_a_packet_without_a_way_is_not_counted_and_its_number_is_gone() -> None:
    stage = Stage()
    [before] = stage.packets(1)
    stage.has_way = False
    stage.packets(1)
    stage.has_way = True
    [after] = stage.packets(1)
    assert after.sequence == (before.sequence + 2) & 0xFFFF and stage.speech.packets_sent == 2


def test_packets_are_marked_as_the_other_side_wants_them() -> None:
    stage = Stage()
    stage.speech.agreed(described((sdp.AUDIO_LEVEL, 3), (sdp.MID, 5), mid="voice"))
    stage.speech.push(np.full(480, 32_767, np.int16).tobytes())
    loud, quiet = stage.packets(1), stage.packets(1)
    assert loud[0].payload_type == quiet[0].payload_type == 96
    levels = [packet[16:18] for packet in stage.sent]
    assert levels == [bytes([3 << 4, 0]), bytes([3 << 4, 127])]
    assert all(packet[18:24] == bytes([5 << 4 | 4]) + b"voice" for packet in stage.sent)


def test_a_name_that_fits_no_packet_is_left_out() -> None:
    stage = Stage()
    stage.speech.agreed(described((sdp.AUDIO_LEVEL, 3), (sdp.MID, 5), mid="a" * 17))
    stage.packets(1)
    assert stage.sent[0][16:20] == bytes([3 << 4, 127, 0, 0])


def test_nothing_is_added_to_packets_for_a_side_that_wants_nothing() -> None:
    stage = Stage()
    stage.speech.agreed(described())
    [packet] = stage.packets(1)
    assert stage.sent[0] == stage.sent[0][:12] + packet.payload


def test_a_report_tells_what_was_sent_and_before_that_only_who_we_are() -> None:
    stage = Stage()
    before = stage.speech.report(wall_s=0.0, rtp_timestamp=5, received=[])
    assert [kind for kind, _, _ in rtp.walk(before)] == [201, 202] and not rtp.sender_reports(before)
    stage.packets(3)
    report = stage.speech.report(wall_s=0.0, rtp_timestamp=5, received=[])
    [told] = rtp.sender_reports(report)
    assert (told.ssrc, told.rtp_timestamp) == (stage.speech.ssrc, 5)
    body = next(body for kind, _, body in rtp.walk(report) if kind == 200)
    assert struct.unpack_from("!LL", body, 16) == (3, len(b"opus1") * 3)
    assert stage.speech.cname.encode() in report
