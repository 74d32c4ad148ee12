from __future__ import annotations

import numpy as np
import pytest

from providers.signal.resample import Int16Array
from providers.webrtc.opus import OpusDecoder, OpusEncoder
from tests.fakes.webrtc import tone


def packets(pcm: bytes, rate_hz: int) -> list[bytes]:
    encoder, size = OpusEncoder(rate_hz), rate_hz // 50 * 2
    return [encoder.encode(pcm[at : at + size]) for at in range(0, len(pcm), size)]


def correlation(one: Int16Array, other: Int16Array) -> float:
    """The best over alignments of up to 30 ms."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    size = min(len(a), len(b)) - 1440
    return max(float(np.corrcoef(a[:size], b[at : at + size])[0, 1]) for at in range(1440))


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 48_000])
def test_what_was_encoded_is_heard_again(rate_hz: int) -> None:
    sent = tone(440, 1000, rate_hz)
    decoder = OpusDecoder(rate_hz)
    heard = [decoder.decode(packet) for packet in packets(sent, rate_hz)]
    assert {len(pcm) for pcm in heard} == {rate_hz // 50}
    assert correlation(np.frombuffer(sent, dtype=np.int16), np.concatenate(heard)) > 0.95


def test_speech_of_32_kbit_fits_its_bitrate() -> None:
    sizes = [len(packet) for packet in packets(tone(200, 1000), 24_000)]
    assert sum(sizes) * 8 < 40_000


@pytest.mark.parametrize("ms", [10, 40, 60])
def test_packets_of_any_length_are_decoded(ms: int) -> None:
    import av
    from av import AudioFrame, CodecContext

    codec = CodecContext.create("libopus", "w")
    assert isinstance(codec, av.audio.codeccontext.AudioCodecContext)
    codec.format, codec.layout, codec.sample_rate = "s16", "stereo", 48_000
    codec.options = {"frame_duration": str(ms)}
    frame = AudioFrame(format="s16", layout="stereo", samples=48 * ms)
    left = np.frombuffer(tone(440, ms, 48_000), dtype=np.int16)
    frame.planes[0].update(np.stack([left, left], axis=1).tobytes())
    frame.sample_rate = 48_000
    [packet] = codec.encode(frame)
    assert len(OpusDecoder(24_000).decode(bytes(packet))) == 24 * ms


@pytest.mark.parametrize("payload", [b"", b"\xff", b"\x0b\x80", bytes([0x03, 0x3F]) + bytes(10)])
def test_what_is_no_opus_packet_is_refused_and_the_decoder_goes_on(payload: bytes) -> None:
    decoder = OpusDecoder(24_000)
    with pytest.raises(ValueError, match="Opus packet"):
        decoder.decode(payload)
    assert len(decoder.decode(packets(tone(440, 20), 24_000)[0])) == 480


def test_a_wrong_length_or_rate_is_named() -> None:
    with pytest.raises(ValueError, match="960"):
        OpusEncoder(24_000).encode(b"\0" * 100)
    with pytest.raises(ValueError, match="rate_hz = 44100"):
        OpusEncoder(44_100)
