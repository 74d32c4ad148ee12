from __future__ import annotations

import numpy as np
import pytest

from bridge.transports.livekit_room.early import EarlyAudioError, EarlyFormat, mono


def test_rate_and_channels_come_from_the_attributes() -> None:
    audio = EarlyFormat({"sampleRate": "48000", "channels": "2"})
    assert (audio.rate_hz, audio.channels) == (48_000, 2)
    assert audio.limit_bytes(0.5) == 96_000


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"sampleRate": "48000"},
        {"sampleRate": "-1", "channels": "1"},
        {"sampleRate": "1e9", "channels": "1"},
        {"sampleRate": "999999999", "channels": "1"},
        {"sampleRate": "48000", "channels": "0"},
        {"sampleRate": "48000", "channels": "two"},
    ],
)
def test_wrong_attributes_are_refused_by_name(attributes: dict[str, str]) -> None:
    with pytest.raises(EarlyAudioError, match=r"attribute (sampleRate|channels)"):
        EarlyFormat(attributes)


def test_compressed_recordings_are_refused() -> None:
    with pytest.raises(EarlyAudioError, match="audio/webm"):
        EarlyFormat({"sampleRate": "48000", "channels": "1"}, "audio/webm;codecs=opus")


def test_stereo_becomes_its_mean_without_wrapping() -> None:
    stereo = np.array([[32767, 32767], [100, 300], [-32768, -32768]], dtype="<i2").tobytes()
    assert mono(stereo, 2).tolist() == [32767, 200, -32768]


def test_a_torn_sample_is_left_out() -> None:
    assert mono(b"\x01\x00\x02\x00\x03", 2).tolist() == [1]
    assert mono(b"\x01", 1).tolist() == []
