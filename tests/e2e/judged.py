"""How well a sound came through, beside how well it could have: each figure holds its bound, or that of a reference.

A receiver's jitter buffer moves speech by 10 ms here and there when the machine is busy, which is nobody's to mend.
So what we were given is the reference for what we hand on, and a bare voice for what is heard of us.
"""

from __future__ import annotations

import msgspec

from tests.e2e.audio import Samples, find, gaps, likeness, pitch_ratio, resampled, stretch_ms

__all__ = ["PERFECT", "Figures", "assert_as_good", "figures"]

_FINE_HZ = 48_000
"""All is compared at this rate: at that of a speech model, half a sample between two grids would cost 0.05."""


class Figures(msgspec.Struct, frozen=True):
    """Of one sound in one recording."""

    whole: float
    """Correlation with one alignment for all of it. A single step of 10 ms costs up to half."""
    pieces: float
    """The same with each 100 ms aligned by itself."""
    pitch: float
    stretch_ms: float
    gaps: list[tuple[float, float]]
    """Holes that the source has not: start s, length ms."""


PERFECT = Figures(1.0, 1.0, 1.0, 0.0, [])


def figures(source: Samples, source_hz: int, heard: Samples, heard_hz: int) -> Figures:
    """Look for `source` in `heard`."""
    source, heard = resampled(source, source_hz, _FINE_HZ), resampled(heard, heard_hz, _FINE_HZ)
    found = find(source, heard, _FINE_HZ)
    at = int(found.at_s * _FINE_HZ)
    return Figures(
        found.correlation,
        likeness(source, heard, _FINE_HZ),
        pitch_ratio(heard, source, _FINE_HZ),
        stretch_ms(heard, source, _FINE_HZ),
        gaps(heard[at : at + len(source)], _FINE_HZ, source=source),
    )


def assert_as_good(found: Figures, reference: Figures = PERFECT, *, whole: float = 0.9) -> None:
    """Every bound is held, or nothing is worse than in the reference."""
    beside = f"{found}, beside {reference}"
    assert found.whole >= min(whole, reference.whole - 0.02), beside
    assert found.pieces >= min(0.9, reference.pieces - 0.02), beside
    assert abs(found.pitch - 1) < max(0.005, abs(reference.pitch - 1) + 0.001), beside
    assert abs(found.stretch_ms) <= max(40.0, abs(reference.stretch_ms) + 5), beside
    assert len(found.gaps) <= len(reference.gaps), beside
