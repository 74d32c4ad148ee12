"""G.711, the codec of the telephone: one byte a sample, by table. Source: ITU-T G.711 (11/88), tables 1 and 2."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from providers.signal.resample import Int16Array

__all__ = ["alaw_decode", "alaw_encode", "mulaw_decode", "mulaw_encode"]

_UInt8Array = npt.NDArray[np.uint8]


def mulaw_decode(code: bytes) -> Int16Array:
    """Mu-law bytes to int16, shape (len(code),)."""
    return _mulaw()[0][np.frombuffer(code, np.uint8)]


def mulaw_encode(pcm: Int16Array) -> bytes:
    """int16 to mu-law, one byte a sample."""
    return _mulaw()[1][pcm.view(np.uint16)].tobytes()


def alaw_decode(code: bytes) -> Int16Array:
    """A-law bytes to int16, shape (len(code),)."""
    return _alaw()[0][np.frombuffer(code, np.uint8)]


def alaw_encode(pcm: Int16Array) -> bytes:
    """int16 to A-law, one byte a sample."""
    return _alaw()[1][pcm.view(np.uint16)].tobytes()


@lru_cache(maxsize=1)
def _mulaw() -> tuple[Int16Array, _UInt8Array]:
    code = ~np.arange(256, dtype=np.uint8)
    step, segment = (code & 0x0F).astype(np.int32), ((code >> 4) & 7).astype(np.int32)
    size = (((step << 3) + 0x84) << segment) - 0x84
    decode = np.where(code & 0x80, -size, size).astype(np.int16)

    # The 14-bit magnitude plus a bias of 33 has its highest bit where the segment begins.
    sample = _samples()
    magnitude = np.minimum(np.abs(sample >> 2), 8158) + 33
    segment = np.floor(np.log2(magnitude)).astype(np.int32) - 5
    mantissa = (magnitude >> (segment + 1)) & 0x0F
    sign = np.where(sample < 0, 0x80, 0)
    return decode, (~(sign | segment << 4 | mantissa) & 0xFF).astype(np.uint8)


@lru_cache(maxsize=1)
def _alaw() -> tuple[Int16Array, _UInt8Array]:
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    step, segment = (code & 0x0F).astype(np.int32), ((code >> 4) & 7).astype(np.int32)
    size = np.where(segment == 0, (step << 4) + 8, ((step << 4) + 0x108) << np.maximum(segment - 1, 0))
    decode = np.where(code & 0x80, size, -size).astype(np.int16)

    # The 13-bit magnitude: the two lowest segments share one slope.
    sample = _samples()
    magnitude = np.where(sample < 0, ~sample, sample) >> 3
    segment = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 4, 0)
    mantissa = (magnitude >> np.maximum(segment, 1)) & 0x0F
    sign = np.where(sample < 0, 0, 0x80)
    return decode, ((sign | segment << 4 | mantissa) ^ 0x55).astype(np.uint8)


def _samples() -> npt.NDArray[np.int32]:
    """Every int16 in the order of its unsigned bit pattern, the encoders' index."""
    return np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int32)
