"""WAV files in and out: any PCM file becomes int16 mono at the rate that is wanted."""

from __future__ import annotations

import struct
from math import gcd
from pathlib import Path

import numpy as np

from providers.signal.resample import Int16Array

__all__ = ["WavError", "read", "read_bytes", "to_bytes", "write"]

_PCM = 1
_FLOAT = 3
_EXTENSIBLE = 0xFFFE
_MAX_CHANNELS = 32


class WavError(ValueError):
    """A file that cannot be used as sound: names the file, what is wrong, and what to do."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.problem = problem


def read(path: str | Path, rate_hz: int) -> Int16Array:
    """All of a WAV file as int16 mono at `rate_hz`: channels are averaged, other rates converted by soxr (HQ).

    Takes 8, 16, 24 and 32 bit PCM and 32 and 64 bit float, any rate. Raises WavError naming the file and the mend.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise WavError(str(path), f"cannot be read ({error.strerror or error}): give the path of a WAV file") from error
    return read_bytes(content, rate_hz, name=str(path))


def read_bytes(content: bytes, rate_hz: int, *, name: str = "WAV") -> Int16Array:
    """As `read`, from the file's content; `name` is what errors call it."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise WavError(name, "is not a WAV file (no RIFF/WAVE header): convert it with `sox IN OUT.wav`")
    header: bytes | None = None
    samples: bytes | None = None
    offset = 12
    while offset + 8 <= len(content) and samples is None:
        kind, size = struct.unpack_from("<4sI", content, offset)
        body = content[offset + 8 : offset + 8 + size]
        if kind == b"fmt ":
            header = body
        elif kind == b"data":
            # Recorders that stream write 0 or 0xFFFFFFFF for a length that they did not know yet.
            samples = content[offset + 8 :] if size in (0, 0xFFFF_FFFF) else body
            if size not in (0, 0xFFFF_FFFF) and len(body) < size:
                raise WavError(name, f"is cut short: {size} bytes of sound announced, {len(body)} there: copy it again")
        offset += 8 + size + size % 2
    if header is None or len(header) < 16:
        raise WavError(name, "has no format chunk: convert it with `sox IN OUT.wav`")
    if samples is None:
        raise WavError(name, "has no sound in it (no data chunk): record it again")
    encoding, channels, file_hz, _, _, bits = struct.unpack_from("<HHIIHH", header)
    if encoding == _EXTENSIBLE and len(header) >= 26:
        (encoding,) = struct.unpack_from("<H", header, 24)
    if not 1 <= channels <= _MAX_CHANNELS:
        raise WavError(name, f"has {channels} channels: use a mono or stereo file")
    if not 1000 <= file_hz <= 768_000:
        raise WavError(name, f"has a rate of {file_hz} Hz: use 8000 to 192000 Hz")
    wide = _decode(name, encoding, bits, samples)
    whole = len(wide) // channels * channels
    if not whole:
        raise WavError(name, "has no sound in it (0 samples): record it again")
    mono = wide[:whole].reshape(-1, channels).mean(axis=1) if channels > 1 else wide
    if file_hz != rate_hz:
        import soxr  # on first use: files only

        mono = soxr.resample(mono, file_hz, rate_hz, quality="HQ")
        # soxr rounds the length down; a file must not lose its last part of a millisecond.
        common = gcd(file_hz, rate_hz)
        wanted = -(-(whole // channels) * (rate_hz // common) // (file_hz // common))
        mono = np.pad(mono, (0, max(0, wanted - len(mono))))
    return np.clip(np.rint(mono * 32768.0), -32768, 32767).astype(np.int16)


def _decode(name: str, encoding: int, bits: int, samples: bytes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Samples as float64, 1.0 at full scale, channels interleaved."""
    width = bits // 8
    if bits % 8 == 0 and width:
        samples = samples[: len(samples) // width * width]
    if encoding == _FLOAT and bits in (32, 64):
        return np.nan_to_num(np.frombuffer(samples, dtype=f"<f{width}").astype(np.float64))
    if encoding != _PCM or bits not in (8, 16, 24, 32):
        raise WavError(
            name, f"is encoded as type {encoding} with {bits} bit: convert it with `sox IN -b 16 -e signed OUT.wav`"
        )
    if bits == 8:  # the one width that is unsigned
        return (np.frombuffer(samples, dtype=np.uint8).astype(np.float64) - 128.0) / 128.0
    if bits == 24:
        wide = np.zeros((len(samples) // 3, 4), dtype=np.uint8)
        wide[:, 1:] = np.frombuffer(samples, dtype=np.uint8).reshape(-1, 3)
        return wide.reshape(-1).view("<i4").astype(np.float64) / 2.0**31
    return np.frombuffer(samples, dtype=f"<i{width}").astype(np.float64) / 2.0 ** (bits - 1)


def to_bytes(pcm: Int16Array | bytes, rate_hz: int) -> bytes:
    """A 16-bit mono WAV file's content."""
    data = pcm if isinstance(pcm, bytes) else pcm.astype("<i2").tobytes()
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, _PCM, 1, rate_hz, rate_hz * 2, 2, 16, b"data", len(data),
    )  # fmt: skip
    return header + data


def write(path: str | Path, pcm: Int16Array | bytes, rate_hz: int) -> None:
    """Save int16 mono as a 16-bit WAV file. Raises WavError when the file cannot be written."""
    try:
        Path(path).write_bytes(to_bytes(pcm, rate_hz))
    except OSError as error:
        raise WavError(str(path), f"cannot be written ({error.strerror or error}): choose another path") from error
