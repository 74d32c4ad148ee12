"""Numbered marker sounds, one each 100 ms: whether all of them came, complete, once, in order, and how late.

The caller's microphone says nothing else: loud markers are his speech, quiet ones his silence. A marker is told from
all others by correlation, whatever its level, so none is ever lost in another sound of his. What is judged is the
input of all connections of a call, joined in the order in which it arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import msgspec
import numpy as np

from providers.emulators.heard import HeardInput
from tests.e2e.audio import Samples, from_pcm, noise_marker, resampled

__all__ = [
    "CLEAR",
    "EVERY_MS",
    "LOUD_DBFS",
    "MARKER_MS",
    "QUIET_DBFS",
    "Mark",
    "Report",
    "arrivals",
    "delays_ms",
    "doubled_between",
    "find_markers",
    "judge",
    "judge_input",
    "lateness_ms",
    "lost_between",
    "moved_between",
    "sound",
    "track",
]

EVERY_MS = 100
MARKER_MS = 60
LOUD_DBFS = -18.0
QUIET_DBFS = -46.0
"""RMS of a quiet marker: below what our detector takes for speech (-42), above what a codec leaves out."""
SURE = 0.5
"""Normalised correlation of a marker that is there; another one reaches 0.35 at most."""
CLEAR = 0.6
"""Of one that nobody would miss."""
_MORE_THAN_ONE = 1.3
_JUDGED_HZ = 8000
_BLOCK_S = 3.9
"""With a marker more just below a power of two: what is looked at in one transform."""
_AHEAD = 80
"""Markers looked for beyond the newest that was found: 8 s may be missing."""
_BEHIND = 40


class Mark(msgspec.Struct, frozen=True):
    """One marker in what was heard."""

    number: int
    at_ms: float
    """Where it begins, in the joined stream."""
    likeness: float


class Report(msgspec.Struct):
    """What became of the markers."""

    marks: list[Mark]
    missing: list[int]
    twice: list[int]
    out_of_order: list[int]
    steps_ms: list[float]
    """From each to the next; 100 where nothing was added or left out."""

    @property
    def complete(self) -> bool:
        return not (self.missing or self.twice or self.out_of_order)

    def __str__(self) -> str:
        steps = f"steps {min(self.steps_ms):.0f} to {max(self.steps_ms):.0f} ms" if self.steps_ms else "no steps"
        return (
            f"{len(self.marks)} markers, missing {self.missing[:20]}, twice {self.twice[:20]}, "
            f"out of order {self.out_of_order[:20]}, {steps}"
        )


def sound(number: int, rate_hz: int, level_dbfs: float = LOUD_DBFS) -> Samples:
    """The marker of this number: 60 ms of noise in the band of speech."""
    noise = noise_marker(number, rate_hz, MARKER_MS)
    rms = float(np.sqrt(np.mean(noise**2)))
    return np.asarray(noise * (10 ** (level_dbfs / 20) / rms), dtype=np.float64)


def track(numbers: Iterable[int], rate_hz: int, speaks: Callable[[int], bool] = lambda _: True) -> Samples:
    """What a microphone says: a marker each 100 ms, loud where he speaks."""
    gap = np.zeros(rate_hz * (EVERY_MS - MARKER_MS) // 1000)
    parts = []
    for number in numbers:
        parts += [sound(number, rate_hz, LOUD_DBFS if speaks(number) else QUIET_DBFS), gap]
    return np.concatenate(parts)


def find_markers(heard: Samples, rate_hz: int, numbers: range) -> list[Mark]:
    """Every place at which one of these markers is, in the order of time."""
    samples = resampled(heard, rate_hz, _JUDGED_HZ)
    length = _JUDGED_HZ * MARKER_MS // 1000
    block = int(_BLOCK_S * _JUDGED_HZ)
    found: list[Mark] = []
    newest = numbers.start - 1
    for start in range(0, max(1, len(samples) - length), block):
        part = samples[start : start + block + length]
        if len(part) < length:
            break
        low = max(numbers.start, newest - _BEHIND)
        here = _marks_in(part, range(low, min(numbers.stop, max(newest, low) + _AHEAD)), start)
        # A marker on the seam of two blocks is in both.
        known = {(mark.number, round(mark.at_ms / 5)) for mark in found[-200:]}
        new = [
            mark
            for mark in here
            if not any((mark.number, round(mark.at_ms / 5) + near) in known for near in (-1, 0, 1))
        ]
        found += new
        newest = max((newest, *(mark.number for mark in new)))
    return sorted(found, key=lambda mark: mark.at_ms)


def _marks_in(part: Samples, numbers: range, start: int) -> list[Mark]:
    length = _JUDGED_HZ * MARKER_MS // 1000
    size = 1 << (len(part) + length - 1).bit_length()
    spectrum = np.fft.rfft(part, size)
    squares = np.concatenate(([0.0], np.cumsum(part**2)))
    # Where there is next to nothing, rounding would look like a likeness.
    energy = np.sqrt(np.maximum(squares[length:] - squares[:-length], length * 10 ** (-66.0 / 10)))
    marks: list[Mark] = []
    for number in numbers:
        wanted = sound(number, _JUDGED_HZ)
        wanted /= float(np.sqrt(np.sum(wanted**2)))
        cross = np.fft.irfft(spectrum * np.conj(np.fft.rfft(wanted, size)), size)[: len(energy)]
        alike = cross / energy
        while True:
            best = int(np.argmax(alike))
            if alike[best] < SURE:
                break
            marks.append(Mark(number, (start + best) / _JUDGED_HZ * 1000, float(alike[best])))
            alike[max(0, best - length // 2) : best + length // 2] = 0.0
    return marks


def judge(marks: Sequence[Mark], numbers: range) -> Report:
    """Whether each of these markers is there, once, after the one before."""
    places: dict[int, list[Mark]] = {}
    for mark in marks:
        places.setdefault(mark.number, []).append(mark)
    first = {number: max(found, key=lambda mark: mark.likeness) for number, found in places.items()}
    in_order = [first[number] for number in numbers if number in first]
    pairs = list(pairwise(in_order))
    return Report(
        marks=in_order,
        missing=[number for number in numbers if number not in first],
        twice=[number for number in numbers if _share(places.get(number, ())) > _MORE_THAN_ONE],
        out_of_order=[after.number for before, after in pairs if after.at_ms <= before.at_ms],
        steps_ms=[(b.at_ms - a.at_ms) / (b.number - a.number) for a, b in pairs],
    )


def _share(places: Sequence[Mark]) -> float:
    """How much of a marker is there in all. One that is torn in two by a silence is found twice, and is there once."""
    return sum(mark.likeness**2 for mark in places)


def judge_input(heard: HeardInput, numbers: range) -> Report:
    """As `judge`, of everything that reached a service."""
    return judge(find_markers(from_pcm(heard.pcm), heard.rate_hz, numbers), numbers)


def lost_between(before: Report, after: Report) -> list[int]:
    """Markers that are clearly there in what was handed on, and are not in what arrived."""
    clear = {mark.number for mark in before.marks if mark.likeness >= CLEAR}
    return [number for number in after.missing if number in clear]


def doubled_between(before: Report, after: Report) -> list[int]:
    """Markers that arrived more than once, and were handed on once."""
    return [number for number in after.twice if number not in before.twice]


def moved_between(before: Report, after: Report, by_ms: float) -> list[int]:
    """Markers before which so much was put in, or left out, on the way: silence, or a piece of sound."""
    handed = {mark.number: mark.at_ms for mark in before.marks}
    offsets = [(mark.number, mark.at_ms - handed[mark.number]) for mark in after.marks if mark.number in handed]
    return [number for (_, earlier), (number, now) in pairwise(offsets) if abs(now - earlier) > by_ms]


def delays_ms(before: dict[int, float], after: dict[int, float]) -> dict[int, float]:
    """How much later than usual each marker arrived, after it was handed on."""
    took = {number: after[number] - at for number, at in before.items() if number in after}
    usual = float(np.median(list(took.values())))
    return {number: (at - usual) * 1000 for number, at in took.items()}


def arrivals(heard: HeardInput, marks: Sequence[Mark]) -> dict[int, float]:
    """When the first sound of each marker arrived, `time.monotonic()`: as if each piece came sample by sample, and its
    last one with the message. A marker that begins with a piece, or one sample before, is neither early nor late."""
    return {mark.number: heard.came_at(mark.at_ms) for mark in marks}


def lateness_ms(arrived: dict[int, float]) -> dict[int, float]:
    """How much later each marker came than the quickest did, measured against one each 100 ms."""
    due = {number: at - number * EVERY_MS / 1000 for number, at in arrived.items()}
    # The median as the ordinary way: a jitter buffer that shortens itself makes single ones early.
    usual = float(np.median(list(due.values())))
    return {number: (at - usual) * 1000 for number, at in due.items()}
