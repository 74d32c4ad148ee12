"""Speech recorded before the agent came: from a byte stream's attributes and bytes to one run of mono PCM."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

__all__ = ["EarlyAudioError", "EarlyFormat", "mono"]


class EarlyAudioError(ValueError):
    """The recording is not what we can read. Says which attribute is wrong."""


class EarlyFormat:
    """Rate and channels of a recording (int16, interleaved), from the attributes of its stream."""

    __slots__ = ("channels", "rate_hz")

    def __init__(self, attributes: Mapping[str, str], mime_type: str = "") -> None:
        if mime_type.startswith("audio/") and "pcm" not in mime_type and "raw" not in mime_type:
            raise EarlyAudioError(f"mime type {mime_type!r}: only raw int16 is read")
        self.rate_hz = _number(attributes, "sampleRate", 8_000, 192_000)
        self.channels = _number(attributes, "channels", 1, 8)

    def limit_bytes(self, limit_s: float) -> int:
        """Bytes that last `limit_s`, whole samples of all channels."""
        return int(self.rate_hz * limit_s) * self.channels * 2


def mono(raw: bytes, channels: int) -> npt.NDArray[np.int16]:
    """The channels' mean, shape (n,). A torn last sample is left out."""
    frame = channels * 2
    samples = np.frombuffer(raw[: len(raw) // frame * frame], dtype="<i2")
    if channels == 1:
        return samples.astype(np.int16, copy=False)
    mixed: npt.NDArray[np.int16] = samples.reshape(-1, channels).astype(np.int32).mean(axis=1).astype(np.int16)
    return mixed


def _number(attributes: Mapping[str, str], name: str, low: int, high: int) -> int:
    text = attributes.get(name, "")
    if not text.isdecimal() or not low <= int(text) <= high:
        raise EarlyAudioError(f"attribute {name} = {text!r}: a number from {low} to {high} is needed")
    return int(text)
