"""WAV files of every kind become int16 mono at the wanted rate, or an error that names the file."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np
import pytest

from providers.signal import wav
from providers.signal.resample import Int16Array

DATA = Path(__file__).parents[3] / "data"


def sine(rate_hz: int = 24_000, seconds: float = 0.5) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate_hz * seconds)) / rate_hz)


def riff(
    body: bytes, *, encoding: int, bits: int, channels: int = 1, rate_hz: int = 24_000, extra: bytes = b""
) -> bytes:
    block = channels * bits // 8
    header = struct.pack("<HHIIHH", encoding, channels, rate_hz, rate_hz * block, block, bits) + extra
    chunks = b"fmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def encoded(samples: np.ndarray[tuple[int], np.dtype[np.float64]], bits: int) -> bytes:
    if bits == 8:
        return (np.rint(samples * 127) + 128).astype(np.uint8).tobytes()
    wide = np.rint(samples * (2.0 ** (bits - 1) - 1)).astype("<i4")
    return wide.tobytes() if bits == 32 else wide.view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes()


def close_to(found: Int16Array, wanted: np.ndarray[tuple[int], np.dtype[np.float64]], tolerance: int) -> bool:
    return len(found) == len(wanted) and bool(np.abs(found - wanted * 32768).max() <= tolerance)


@pytest.mark.parametrize(("bits", "tolerance"), [(8, 400), (16, 2), (24, 2), (32, 2)])
def test_every_width_is_read(bits: int, tolerance: int) -> None:
    content = riff(encoded(sine(), bits), encoding=1, bits=bits)
    assert close_to(wav.read_bytes(content, 24_000), sine(), tolerance)


@pytest.mark.parametrize("bits", [32, 64])
def test_floating_point_is_read_and_clipped(bits: int) -> None:
    samples = np.concatenate([sine(), [2.0, -2.0]])
    found = wav.read_bytes(riff(samples.astype(f"<f{bits // 8}").tobytes(), encoding=3, bits=bits), 24_000)
    assert close_to(found[:-2], sine(), 1) and found[-2:].tolist() == [32767, -32768]


def test_the_extensible_header_is_read() -> None:
    extra = struct.pack("<HHIH14s", 22, 16, 4, 1, b"\x00" * 14)
    content = riff(encoded(sine(), 16), encoding=0xFFFE, bits=16, extra=extra)
    assert close_to(wav.read_bytes(content, 24_000), sine(), 2)


def test_stereo_is_averaged() -> None:
    both = np.stack([sine(), np.zeros(12_000)], axis=1).reshape(-1)
    content = riff(encoded(both, 16), encoding=1, bits=16, channels=2)
    assert close_to(wav.read_bytes(content, 24_000), sine() / 2, 2)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_every_rate_is_converted(rate_hz: int) -> None:
    content = riff(encoded(sine(rate_hz), 16), encoding=1, bits=16, rate_hz=rate_hz)
    found = wav.read_bytes(content, 24_000)
    assert abs(len(found) - 12_000) <= 1
    assert np.abs(found[1000:11_000] - sine()[1000:11_000] * 32768).max() < 60


def test_unknown_chunks_are_passed_over() -> None:
    content = wav.to_bytes(np.arange(100, dtype=np.int16), 24_000)
    odd = b"LIST" + struct.pack("<I", 3) + b"abc\x00"
    assert wav.read_bytes(content[:12] + odd + content[12:], 24_000).tolist() == list(range(100))


def test_a_recorder_that_left_the_length_open_is_understood() -> None:
    content = bytearray(wav.to_bytes(np.arange(100, dtype=np.int16), 24_000))
    content[40:44] = b"\xff\xff\xff\xff"
    assert len(wav.read_bytes(bytes(content), 24_000)) == 100


def test_what_is_written_can_be_read_by_others(tmp_path: Path) -> None:
    pcm = np.rint(sine() * 32767).astype(np.int16)
    wav.write(tmp_path / "out.wav", pcm, 24_000)
    with wave.open(str(tmp_path / "out.wav")) as other:
        assert (other.getnchannels(), other.getsampwidth(), other.getframerate()) == (1, 2, 24_000)
        assert other.readframes(99_999) == pcm.tobytes()
    assert np.array_equal(wav.read(tmp_path / "out.wav", 24_000), pcm)


GOOD = wav.to_bytes(np.arange(100, dtype=np.int16), 24_000)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"ID3\x03 not a wave", "not a WAV file"),
        (b"", "not a WAV file"),
        (GOOD[:12], "no format chunk"),
        (GOOD[:36], "no sound"),
        (GOOD[:-50], "cut short: 200 bytes of sound announced, 150 there"),
        (riff(b"", encoding=1, bits=16), "no sound"),
        (riff(b"\x00" * 64, encoding=2, bits=4), "type 2 with 4 bit"),
        (riff(b"\x00" * 64, encoding=1, bits=12), "type 1 with 12 bit"),
        (riff(b"\x00" * 64, encoding=1, bits=16, channels=0), "0 channels"),
        (riff(b"\x00" * 64, encoding=1, bits=16, rate_hz=0), "rate of 0 Hz"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_mend(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    path.write_bytes(content)
    with pytest.raises(wav.WavError, match=problem) as refused:
        wav.read(path, 24_000)
    assert refused.value.name == str(path)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(wav.WavError, match=r"/nowhere/x\.wav: cannot be read \(No such file"):
        wav.read("/nowhere/x.wav", 24_000)


def test_a_place_that_cannot_be_written_is_named() -> None:
    with pytest.raises(wav.WavError, match="cannot be written"):
        wav.write("/nowhere/x.wav", b"", 24_000)


@pytest.mark.parametrize("name", ["hello", "question", "answer"])
def test_the_speech_of_the_tests_is_there(name: str) -> None:
    pcm = wav.read(DATA / f"{name}.wav", 24_000)
    assert 2 * 24_000 < len(pcm) < 5 * 24_000 and np.abs(pcm).max() > 10_000
