"""Opus both ways through libopus, one packet at a time, in the caller's own thread: 0.1 ms a packet each way."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av import AudioFrame, CodecContext, Packet
from av.audio.codeccontext import AudioCodecContext

from providers.signal.resample import RATES_HZ, Int16Array, Resampler

__all__ = ["OpusDecoder", "OpusEncoder"]

_WIRE_HZ = 48_000
_AMPLE_BPS, _PLAIN, _THOROUGH = 32_000, 1, 5
"""From 32 kbit/s on, searching longer changes the spectrum of speech by a quarter of a decibel and costs 0.12 ms a
packet more; below, it is the difference between a voice and a narrow one."""
_EXPECTED_LOSS_PERCENT = 10
"""Decides how much in-band repair data (FEC) the packets carry."""
_LONGEST_SAMPLES = 5_760
"""120 ms at 48 kHz: the longest packet there is (RFC 6716 section 2)."""


class OpusEncoder:
    """20 ms of int16 mono to one Opus packet, straight from the caller's rate: no resampling in Python."""

    def __init__(self, rate_hz: int = 24_000, *, bitrate_bps: int = 32_000) -> None:
        """Args: `rate_hz` of `RATES_HZ`. Raises ValueError for another one."""
        if rate_hz not in RATES_HZ:
            raise ValueError(f"rate_hz = {rate_hz}: use one of {', '.join(map(str, RATES_HZ))}")
        codec = CodecContext.create("libopus", "w")
        assert isinstance(codec, AudioCodecContext)
        codec.bit_rate = bitrate_bps
        codec.format = "s16"
        codec.layout = "mono"
        codec.sample_rate = rate_hz
        codec.time_base = Fraction(1, rate_hz)
        codec.options = {
            "application": "voip",
            "compression_level": str(_PLAIN if bitrate_bps >= _AMPLE_BPS else _THOROUGH),
            "fec": "1",
            "frame_duration": "20",
            "packet_loss": str(_EXPECTED_LOSS_PERCENT),
            "vbr": "on",
        }
        self._codec = codec
        self._rate_hz = rate_hz
        self._samples = rate_hz // 50
        self._next_sample = 0

    def encode(self, pcm: bytes) -> bytes:
        """One packet. Args: exactly 20 ms of int16 mono. Raises ValueError for another length."""
        if len(pcm) != self._samples * 2:
            raise ValueError(f"{len(pcm)} bytes of audio: an Opus packet takes {self._samples * 2} at this rate")
        frame = AudioFrame(format="s16", layout="mono", samples=self._samples)
        frame.planes[0].update(pcm)
        frame.sample_rate = self._rate_hz
        frame.pts = self._next_sample
        self._next_sample += self._samples
        packets = self._codec.encode(frame)
        assert len(packets) == 1, "libopus answers each 20 ms with one packet"
        return bytes(packets[0])


class OpusDecoder:
    """Opus packets of any frame length, mono or stereo, to int16 mono at one rate."""

    def __init__(self, rate_hz: int = 24_000) -> None:
        """Raises ValueError for a rate outside `RATES_HZ`."""
        self._resampler = Resampler(_WIRE_HZ, rate_hz)
        codec = CodecContext.create("libopus", "r")
        assert isinstance(codec, AudioCodecContext)
        codec.sample_rate = _WIRE_HZ  # FFmpeg's libopus decodes to 48 kHz only
        codec.layout = "mono"  # libopus itself mixes a stereo packet down
        codec.format = "s16"
        self._codec = codec

    def decode(self, payload: bytes) -> Int16Array:
        """What the packet holds, shape (n,). Raises ValueError for a payload that is no Opus packet."""
        if not payload:
            raise ValueError("an empty payload is no Opus packet")  # libopus would take it for a flush
        try:
            frames = self._codec.decode(Packet(payload))
        except (av.FFmpegError, OSError) as error:
            raise ValueError(f"no Opus packet: {error}") from None
        if len(frames) != 1 or not 0 < frames[0].samples <= _LONGEST_SAMPLES:
            raise ValueError(f"an Opus packet that decodes to {len(frames)} frames")
        frame = frames[0]
        assert isinstance(frame, AudioFrame)
        pcm: Int16Array = np.frombuffer(cast(Any, frame.planes[0]), dtype=np.int16, count=frame.samples)
        return self._resampler.push(pcm)
