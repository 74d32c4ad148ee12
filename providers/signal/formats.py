"""What a run of audio bytes means: its encoding and rate."""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["PCM16_16K", "PCM16_24K", "PCMA_8K", "PCMU_8K", "AudioFormat", "Encoding"]


class Encoding(StrEnum):
    """How one sample is written."""

    PCM16 = "pcm16"
    """int16 little-endian."""
    PCMU = "pcmu"
    """G.711 mu-law, one byte a sample."""
    PCMA = "pcma"
    """G.711 A-law, one byte a sample."""


class AudioFormat(msgspec.Struct, frozen=True):
    """Mono audio of one encoding and rate. Everything in this project is mono."""

    encoding: Encoding
    rate_hz: int

    @property
    def bytes_per_sample(self) -> int:
        return 2 if self.encoding is Encoding.PCM16 else 1

    def duration_ms(self, size: int) -> float:
        """Milliseconds that `size` bytes last."""
        return size * 1000 / (self.rate_hz * self.bytes_per_sample)

    def size(self, duration_ms: float) -> int:
        """Bytes of `duration_ms`, rounded down to a whole sample."""
        return int(self.rate_hz * duration_ms / 1000) * self.bytes_per_sample


PCM16_16K = AudioFormat(Encoding.PCM16, 16_000)
PCM16_24K = AudioFormat(Encoding.PCM16, 24_000)
PCMU_8K = AudioFormat(Encoding.PCMU, 8_000)
PCMA_8K = AudioFormat(Encoding.PCMA, 8_000)
