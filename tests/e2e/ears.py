"""What a participant in a process of its own has heard, with the time at which each piece came."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np

from bench.markers import Capture
from bridge.demo.person import Person

__all__ = ["heard_by", "loud_span"]


async def heard_by(who: Person, folder: Path) -> Capture:
    """Everything that this person has heard of the agent so far."""
    path = folder / f"{who.identity}-ear.wav"
    await who.do("save", wav=str(path))
    return _capture(path)


def _capture(path: Path) -> Capture:
    times = json.loads(Path(f"{path}.json").read_text())
    with wave.open(str(path), "rb") as source:
        samples = np.frombuffer(source.readframes(source.getnframes()), dtype="<i2")
    arrivals = np.array(times["arrivals"])
    return Capture(times["rate_hz"], samples, arrivals[:, 1].astype(np.int64), arrivals[:, 0])


def loud_span(ear: Capture, after: float, until: float) -> tuple[float, float]:
    """When the first and the last 10 ms above -45 dBFS came, between two times. Raises ValueError: it was silent."""
    first, step = ear.sample_at(after), ear.rate_hz // 100
    part = ear.samples[first : ear.sample_at(until)]
    blocks = part[: len(part) // step * step].reshape(-1, step).astype(np.float64) / 32768
    loud = np.flatnonzero(np.mean(blocks * blocks, axis=1) > 10**-4.5)
    if not len(loud):
        raise ValueError(f"nothing was heard between {after:.3f} and {until:.3f} s")
    return ear.moment(first + int(loud[0]) * step), ear.moment(first + int(loud[-1]) * step)
