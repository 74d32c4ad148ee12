"""A simulated network in front of a jitter buffer: seeded, in no time at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from providers.signal import wav
from providers.signal.resample import Int16Array
from providers.webrtc.jitter import JitterBuffer, JitterSettings

RATE_HZ = 24_000
FRAME = RATE_HZ // 50
NETWORK_S = 0.05
DATA = Path(__file__).parents[3] / "data"

Arrival = Callable[[int], float | None]
"""When packet number n arrives, in seconds; None: it is lost."""


@cache
def speech() -> Int16Array:
    """14 s of it."""
    return np.concatenate([wav.read(DATA / f"{name}.wav", RATE_HZ) for name in ("hello", "question", "answer")])


def even(number: int) -> float:
    """A network that delays every packet alike."""
    return number * 0.02 + NETWORK_S


class Call:
    """Runs speech through a buffer; `heard` is what came out, sample for sample in real time."""

    def __init__(self, settings: JitterSettings | None = None) -> None:
        self.buffer = JitterBuffer(lambda payload: np.frombuffer(payload, dtype=np.int16), RATE_HZ, settings)
        self.sent: Int16Array = np.zeros(0, dtype=np.int16)
        self.heard: Int16Array = np.zeros(0, dtype=np.int16)
        self.delay_ms: list[float] = []
        self.rested: list[bool] = []

    def run(self, seconds: int, arrival: Arrival, *, packet_ms: int = 20, source: Int16Array | None = None) -> Call:
        samples, per_packet = seconds * RATE_HZ, RATE_HZ * packet_ms // 1000
        self.sent = np.resize(speech() if source is None else source, samples)
        arrivals = sorted(
            (at, number) for number in range(samples // per_packet) if (at := arrival(number)) is not None
        )
        frames = []
        for tick in range(seconds * 50 + 10):
            now = 0.013 + tick * 0.02
            while arrivals and arrivals[0][0] <= now:
                at, number = arrivals.pop(0)
                payload = self.sent[number * per_packet : (number + 1) * per_packet].tobytes()
                # Both numbers wrap within the first second or two.
                self.buffer.push(
                    (number + 65_500) & 0xFFFF, (number * packet_ms * 48 + 0xFFFF_8000) & 0xFFFF_FFFF, payload, at
                )
            frame = self.buffer.pull(now)
            self.rested.append(frame is None)
            frames.append(np.zeros(FRAME, dtype=np.int16) if frame is None else frame)
            self.delay_ms.append(self.buffer.stats.delay_ms_now)
        self.heard = np.concatenate(frames)
        return self

    def alike(self, piece_s: float = 0.5, reach_s: float = 0.4) -> list[float]:
        """For each piece of the speech, how much the best place within reach resembles it, -1 to 1."""
        piece, reach = int(piece_s * RATE_HZ), int(reach_s * RATE_HZ)
        found = []
        for at in range(0, len(self.sent) - piece - reach, piece):
            sent = self.sent[at : at + piece].astype(np.float64)
            if np.sqrt(np.mean(sent**2)) < 300:
                continue
            heard = self.heard[at : at + piece + reach].astype(np.float64)
            size = 1 << (len(heard) + piece).bit_length()
            products = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(sent, size)), size)[: reach + 1]
            sums = np.concatenate([[0.0], np.cumsum(heard**2)])
            found.append(float((products / np.sqrt((sums[piece:] - sums[:-piece]) * np.sum(sent**2) + 1)).max()))
        return found
