"""Conversions on the live path: none where none is needed, and no lost samples."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio.convert import converter
from providers.signal.formats import PCM16_16K, PCM16_24K, PCMA_8K, PCMU_8K, AudioFormat, Encoding


@pytest.mark.parametrize("format", [PCM16_24K, PCMU_8K, PCMA_8K])
def test_equal_formats_pass_untouched(format: AudioFormat) -> None:
    assert converter(format, format) is None


def test_a_tone_keeps_level_and_length_through_a_phone_codec_and_back() -> None:
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000)).astype(np.int16).tobytes()
    there, back = converter(PCM16_24K, PCMU_8K), converter(PCMU_8K, PCM16_24K)
    assert there is not None and back is not None
    frames = [back(there(tone[start : start + 960])) for start in range(0, len(tone), 960)]
    heard = np.frombuffer(b"".join(frames), np.int16)
    assert heard.size == 24_000
    rms = float(np.sqrt(np.mean(heard[2400:].astype(float) ** 2)))
    assert abs(rms - 8000 / np.sqrt(2)) < 0.05 * 8000


def test_between_companded_formats_no_sample_is_lost() -> None:
    convert = converter(PCMU_8K, PCMA_8K)
    assert convert is not None
    assert len(convert(bytes(range(160)))) == 160


def test_streams_do_not_share_filter_state() -> None:
    one, other = converter(PCM16_24K, PCM16_16K), converter(PCM16_24K, PCM16_16K)
    assert one is not None and other is not None
    loud = np.full(480, 20_000, np.int16).tobytes()
    one(loud)
    assert other(bytes(960)) == bytes(640)


def test_rates_without_a_filter_are_refused() -> None:
    with pytest.raises(ValueError, match="44100"):
        converter(AudioFormat(Encoding.PCM16, 44_100), PCM16_24K)
