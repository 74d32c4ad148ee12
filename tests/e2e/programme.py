"""What is said over a bad network, when the network is how bad, and what an ear at the other end makes of it.

Numbered markers, one each 100 ms, tell delay and holes; three sentences between them tell how speech comes through.
All times are of the stream that is said: second 0 is its first sample.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec
import numpy as np

from bench.markers import Capture
from tests.e2e.audio import Samples, find, from_pcm, likeness, read_wav, resampled
from tests.e2e.markers import EVERY_MS, Mark, find_markers, track
from tests.fakes.netem import CLEAN, Conditions
from tests.fakes.rtp_tap import RtpTap

__all__ = [
    "BAD",
    "CUT_S",
    "HEAD",
    "TOTAL_S",
    "Report",
    "Weather",
    "judge",
    "said",
]

BAD = Conditions(loss=0.05, delay_ms=20, jitter_ms=40)
CUT_S = 2.0
_BAD_AT_S, _SPEECH_AT_S, _CUT_AT_S, _CLEAR_AT_S, TOTAL_S = 6.0, 10.0, 21.0, 34.0, 46.0
_DATA = Path(__file__).parents[1] / "data"
_SENTENCES = ("hello", "question", "answer")
_PHRASE_S = 1.0
_SEARCHED_S = 1.0
"""A phrase may come so much earlier or later than the markers before it say."""
HEAD = (
    "| | alike | lost, % | back after, s | delay, ms | ten seconds after the cut | on a clean line again |\n"
    "|---|---|---|---|---|---|---|"
)
_STEADY = 5
"""Audio is back with the first of so many markers in a row, one of which may be missing."""


def _speech(rate_hz: int) -> Samples:
    """The sentences, with 100 ms between them; as long as the place for them."""
    gap = np.zeros(rate_hz // 10)
    parts: list[Samples] = []
    for name in _SENTENCES:
        samples, own_hz = read_wav(_DATA / f"{name}.wav")
        parts += [resampled(samples, own_hz, rate_hz), gap]
    spoken = np.concatenate(parts)
    place = np.zeros(int((_CUT_AT_S - _SPEECH_AT_S) * rate_hz))
    place[: len(spoken)] = spoken[: len(place)]
    return place


@cache
def said(rate_hz: int) -> Samples:
    """All of it, mono: markers by number of 100 ms, the sentences in their place. Made once: it takes a second."""
    whole = track(range(round(TOTAL_S * 10)), rate_hz)
    speech = _speech(rate_hz)
    start = int(_SPEECH_AT_S * rate_hz)
    whole[start : start + len(speech)] = speech
    return whole


class Weather:
    """Changes the network while the programme is said. `cut_ends_at` is of the loop's clock, once the cut began."""

    def __init__(
        self, change: Callable[[Conditions], None], cut: Callable[[float], None], conditions: Conditions = BAD
    ) -> None:
        self.cut_ends_at = 0.0
        self._change = change
        self._cut = cut
        self._conditions = conditions

    async def run(self) -> None:
        """Returns when the programme is over. Call it as the programme begins."""
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def until(at_s: float) -> None:
            await asyncio.sleep(began + at_s - loop.time())

        await until(_BAD_AT_S)
        self._change(self._conditions)
        await until(_CUT_AT_S)
        self._cut(CUT_S)
        self.cut_ends_at = loop.time() + CUT_S
        await until(_CLEAR_AT_S)
        self._change(CLEAN)
        await until(TOTAL_S)


class Report(msgspec.Struct, frozen=True):
    """How the programme came through, one way."""

    name: str
    bad_ms: float
    """Delay in the bad weather before the cut, more than on the clean line before it."""
    bad_again_ms: float
    """The same, nine to eleven seconds after the cut."""
    clean_again_ms: float
    """The same, ten seconds after the line is clean again."""
    likeness: float
    """Of the sentences, in phrases of a second, each 100 ms aligned by itself."""
    lost_percent: float
    """Of the markers said in the bad weather, those that were not heard."""
    told: str
    """Counters of the line, for a reader of a failure."""
    back_s: float
    """From the end of the cut to the first of five markers in a row, one of which may be missing."""

    def row(self) -> str:
        return (
            f"| {self.name} | {self.likeness:.2f} | {self.lost_percent:.0f} | {self.back_s:.2f} | {self.bad_ms:+.0f} "
            f"| {self.bad_again_ms - self.bad_ms:+.0f} | {self.clean_again_ms:+.0f} |"
        )


def judge(name: str, ear: Capture, cut_ends_at: float, tap: RtpTap | None = None, told: str = "") -> Report:
    """What an ear has heard of the programme. Raises ValueError if it has heard too little of it to tell.

    Args: tap saw the stream on its way: where the sender itself stood still (on a machine that did), what it says later
    is later by no fault of the network's nor of the receiver's.
    """
    heard = from_pcm(ear.samples.tobytes())
    speech = range(round(_SPEECH_AT_S * 10), round(_CUT_AT_S * 10))
    marks = _marks(heard, ear.rate_hz, speech)
    came = {number: ear.moment(_sample(mark, ear.rate_hz)) for number, mark in marks.items()}

    def delay_ms(from_s: float, until_s: float) -> float:
        numbers = [number for number in sorted(came) if from_s * 10 <= number < until_s * 10]
        if not numbers:
            raise ValueError(f"{name}: none of the markers from {from_s:g} to {until_s:g} s was heard; {told}")
        late_ms = float(np.median([came[number] * 1000 - number * EVERY_MS for number in numbers]))
        return late_ms - (tap.lag_ms(came[numbers[0]], came[numbers[-1]]) if tap is not None else 0.0)

    clean = delay_ms(2.0, _BAD_AT_S - 0.5)
    cut_end_s = _CUT_AT_S + CUT_S
    weather = [*range(round(_BAD_AT_S * 10) + 5, speech.start - 1)]
    weather += range(round(cut_end_s * 10) + 30, round(_CLEAR_AT_S * 10) - 5)
    return Report(
        name=name,
        told=told,
        bad_ms=delay_ms(_SPEECH_AT_S - 2.5, _SPEECH_AT_S) - clean,
        bad_again_ms=delay_ms(cut_end_s + 9.0, _CLEAR_AT_S - 0.2) - clean,
        clean_again_ms=delay_ms(TOTAL_S - 2.5, TOTAL_S - 0.5) - clean,
        likeness=_likeness(heard, ear.rate_hz, marks),
        lost_percent=100 * (1 - sum(number in came for number in weather) / len(weather)),
        back_s=_back_at(came, cut_ends_at) - cut_ends_at,
    )


def _marks(heard: Samples, rate_hz: int, speech: range) -> dict[int, Mark]:
    """The best place of each marker that was heard, before the sentences and after them."""
    before = find_markers(heard, rate_hz, range(speech.start))
    if not before:
        return {}
    # The second part is looked for where it can be: its first markers fall into the cut.
    skipped = int((before[-1].at_ms / 1000 + speech.stop / 10 - before[-1].number / 10 - _SEARCHED_S) * rate_hz)
    after = find_markers(heard[skipped:], rate_hz, range(speech.stop, round(TOTAL_S * 10)))
    best: dict[int, Mark] = {}
    for mark in (
        *before,
        *(msgspec.structs.replace(mark, at_ms=mark.at_ms + skipped / rate_hz * 1000) for mark in after),
    ):
        if mark.number not in best or mark.likeness > best[mark.number].likeness:
            best[mark.number] = mark
    return best


def _sample(mark: Mark, rate_hz: int) -> int:
    return round(mark.at_ms * rate_hz / 1000)


def _back_at(came: dict[int, float], cut_ends_at: float) -> float:
    """When the first of the markers came with which the stream is steady again. Infinity: it never was."""
    for number in sorted(number for number, at in came.items() if at > cut_ends_at):
        following = range(number, number + _STEADY)
        if sum(one in came for one in following) >= _STEADY - 1:
            return came[number]
    return float("inf")


def _likeness(heard: Samples, rate_hz: int, marks: dict[int, Mark]) -> float:
    before = [number for number in marks if number < _SPEECH_AT_S * 10]
    anchor = marks[max(before)]
    starts_at_s = anchor.at_ms / 1000 + _SPEECH_AT_S - anchor.number * EVERY_MS / 1000
    speech = _speech(rate_hz)
    length = int(_PHRASE_S * rate_hz)
    total = weights = 0.0
    for start in range(0, len(speech) - length + 1, length):
        phrase = speech[start : start + length]
        low = max(0, int((starts_at_s - _SEARCHED_S) * rate_hz) + start)
        around = heard[low : low + length + int(2 * _SEARCHED_S * rate_hz)]
        weight = float(np.sum(phrase**2))
        if weight == 0.0:
            continue
        # The phrase as a whole first: its pieces are looked for near where it is.
        at = int(find(phrase, around, rate_hz).at_s * rate_hz)
        slack = int(0.2 * rate_hz)
        total += weight * likeness(phrase, around[max(0, at - slack) : at + length + slack], rate_hz, slack_ms=100.0)
        weights += weight
    return total / weights
