"""From one audio format to another on the live path: rate by the short FIR (or soxr, if asked for), then encoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from providers.signal.formats import AudioFormat, Encoding
from providers.signal.g711 import alaw_decode, alaw_encode, mulaw_decode, mulaw_encode
from providers.signal.resample import Resampler

__all__ = ["Convert", "converter"]

Convert = Callable[[bytes], bytes]
"""One stream's conversion: bytes of any whole number of samples in, bytes out. Keeps filter state between calls."""

_DECODERS = {Encoding.PCMU: mulaw_decode, Encoding.PCMA: alaw_decode}
_ENCODERS = {Encoding.PCMU: mulaw_encode, Encoding.PCMA: alaw_encode}


def converter(source: AudioFormat, target: AudioFormat, quality: Literal["fir", "soxr"] = "fir") -> Convert | None:
    """A fresh conversion from `source` to `target`, or None when bytes may pass untouched (G.711 end to end too).

    Raises: ValueError when a rate is not one of `providers.signal.resample.RATES_HZ`.
    """
    if source == target:
        return None
    decode = _DECODERS.get(source.encoding)
    encode = _ENCODERS.get(target.encoding)
    resample = None if source.rate_hz == target.rate_hz else Resampler(source.rate_hz, target.rate_hz, quality=quality)

    def convert(audio: bytes) -> bytes:
        samples = np.frombuffer(audio, np.int16) if decode is None else decode(audio)
        if resample is not None:
            samples = resample.push(samples)
        return samples.tobytes() if encode is None else encode(samples)

    return convert
