"""From samples to figures, from figures to a table and a verdict."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

__all__ = ["Measure", "Spread", "Table", "Verdict", "lateness_ms", "spread"]


class Spread(msgspec.Struct, frozen=True):
    """How a figure is spread over its samples."""

    count: int
    p50: float
    p95: float
    p999: float
    worst: float


def spread(samples: Sequence[float]) -> Spread:
    """All zero without samples."""
    if not len(samples):
        return Spread(0, 0.0, 0.0, 0.0, 0.0)
    p50, p95, p999 = (float(value) for value in np.percentile(samples, (50, 95, 99.9)))
    return Spread(len(samples), p50, p95, p999, float(max(samples)))


class Verdict(msgspec.Struct, frozen=True):
    """One figure beside its target."""

    what: str
    value: float
    unit: str
    target: float

    @property
    def kept(self) -> bool:
        return self.value <= self.target

    def line(self) -> str:
        word = "kept" if self.kept else "MISSED"
        return f"  {word:<7} {self.what}: {self.value:.3g} {self.unit} (target: at most {self.target:g})"


class Table(msgspec.Struct):
    """Rows of text under a title; the first column is left-aligned, the others right."""

    title: str
    head: Sequence[str]
    rows: list[Sequence[str]] = []
    notes: list[str] = []

    def text(self) -> str:
        lines = [self.head, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]

        def row(cells: Sequence[str]) -> str:
            first, *others = (
                cell.ljust(width) if index == 0 else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
            )
            return "  " + "  ".join((first, *others)).rstrip()

        rule = "  " + "-" * (sum(widths) + 2 * len(widths) - 2)
        rows = (row(cells) for cells in self.rows)
        return "\n".join(["", self.title, row(self.head), rule, *rows, *(f"  {note}" for note in self.notes)])


class Measure(msgspec.Struct):
    """What one part of the benchmark found."""

    name: str
    tables: list[Table]
    verdicts: list[Verdict]
    results: dict[str, object]
    """Everything, for the JSON file."""


def lateness_ms(times: Sequence[float], period_s: float) -> list[float]:
    """How late each of these is against a steady beat, ms. The beat follows the median of 50 on either side, so that a
    clock that drifts, or a gap that a jitter buffer makes, is not counted for ever. Early ones count as 0."""
    if len(times) < 3:
        return []
    offsets = np.asarray(times) - np.arange(len(times)) * period_s
    padded = np.pad(offsets, 50, mode="edge")
    beat = np.median(np.lib.stride_tricks.sliding_window_view(padded, 101), axis=1)
    return [float(value) for value in np.maximum(0.0, (offsets - beat) * 1000)]
