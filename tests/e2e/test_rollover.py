"""Sessions are replaced while somebody speaks in a real room: each of his marker sounds reaches the service once, in
order and in time, and he hears every answer without a hole. ROLLOVERS=100 makes the call long."""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from bridge.demo.server import LocalServer
from bridge.facade import CallConfig
from bridge.lanes.settings import CallSettings
from bridge.sessions.rollover import RolloverSettings
from providers.scripted.scenario import Marker, Pace, Scenario, ServerVad, Session
from providers.scripted.voice import marker
from tests.conformance.longcall import SHORT_SESSIONS
from tests.e2e.audio import Samples, find, from_pcm, gaps, resampled, write_wav
from tests.e2e.calls import EmulatedCall, emulated_call, until
from tests.e2e.conftest import PersonFactory
from tests.e2e.ears import heard_by
from tests.e2e.markers import (
    EVERY_MS,
    arrivals,
    delays_ms,
    doubled_between,
    judge_input,
    lateness_ms,
    lost_between,
    moved_between,
    track,
)

ROLLOVERS = int(os.environ.get("ROLLOVERS", "3"))
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(90 + 8 * ROLLOVERS),
]

SETUP_MS = 300
CYCLE, TURN = 30, 8
"""Markers from one of his turns to the next, and in a turn: 0.8 s in 3 s."""
REPLY_MS = 800
ANSWER_EVERY_S = CYCLE * EVERY_MS / 1000
"""From one answer to the next."""
MACHINE_MS = 200
"""What a machine busy with other things may add."""
STEP_MS = 80
"""What a receiver's jitter buffer may add or leave out between two markers, and ..."""
CONCEALED = 0.01
"""... how many it may spoil when the machine keeps it waiting. The frames of a lost change would be missing in a row:
their place would be, too."""
ON_TIME_MS = 10
BUSY = 0.05
"""Markers that may come later because the machine has other things to do."""
RECOGNISED = 0.9
"""Answers found at the listener: one that his jitter buffer has shortened or drawn out in its middle is not judged."""
NOTICE_S = 20.0
SETTLE = 10
"""Markers before the first that is judged: by then the receiver's jitter buffer has found its delay."""


def scenario(provider: str) -> Scenario:
    return Scenario(
        answer=Marker(duration_ms=REPLY_MS, seed=500),
        prompted=Marker(duration_ms=REPLY_MS, seed=900),
        pace=Pace(speed=4, latency_ms=100),
        # Quiet markers are no speech to any detector.
        vad=ServerVad(threshold_dbfs=-32, silence_ms=300),
        session=Session(
            connect_delay_ms=500,
            setup_delay_ms=SETUP_MS,
            go_away_s=1.0 if provider == "gemini" else None,
            time_left_s=NOTICE_S,
            limit_s=600,
        ),
    )


def config(provider: str) -> CallConfig:
    """OpenAI announces nothing: there the change comes from the session's known cap."""
    if provider == "gemini":
        return CallConfig(call=CallSettings(retry=SHORT_SESSIONS))
    rollover = RolloverSettings(max_session_s=1.0 + NOTICE_S, before_cap_s=NOTICE_S)
    return CallConfig(call=CallSettings(rollover=rollover))


def speaks(number: int) -> bool:
    return number % CYCLE < TURN


def changes(call: EmulatedCall) -> int:
    counters = call.counters()
    return int(counters["sessions.changes"] + counters["sessions.changes_forced"])


def replies_in(heard: Samples, rate_hz: int, numbers: Iterable[int]) -> tuple[int, list[float]]:
    """How many of the replies with these numbers are there, in this order, and the lengths of the holes in them, ms."""
    found, holes = 0, []
    begin, end = 0, rate_hz
    for number in numbers:
        wanted = resampled(from_pcm(marker(REPLY_MS, 500 + number, -12.0).tobytes()), 24_000, rate_hz)
        # Not in the whole: the same number comes again, and in a long call each search would take seconds.
        end += int(ANSWER_EVERY_S * rate_hz)
        place = find(wanted, heard[begin : end + len(wanted)], rate_hz)
        if place.correlation < 0.5:
            continue
        found += 1
        at = begin + int(place.at_s * rate_hz)
        holes += [length for _, length in gaps(heard[at : at + len(wanted)], rate_hz, source=wanted)]
        begin = end = at + len(wanted)
    return found, holes


@pytest.mark.parametrize("provider", ["gemini", "openai"])
async def test_markers_and_answers_are_whole_across_changes(
    provider: str, server: LocalServer, room_name: str, person: PersonFactory, tmp_path: Path
) -> None:
    seconds = 8 + 4.5 * ROLLOVERS
    numbers = range(int(seconds * 1000 / EVERY_MS))
    async with (
        emulated_call(server, room_name, provider, scenario(provider), config=config(provider)) as call,
        person("ann") as ann,
    ):
        await ann.wait("hears_agent")
        wav = str(write_wav(tmp_path / "markers.wav", track(numbers, 48_000, speaks), 48_000))
        await ann.do("say", wav=wav, timeout_s=seconds + 20)
        await until(lambda: call.bridge.state == "listening")
        await asyncio.sleep(0.5)
        heard, counters, raw = call.emulator.heard(), call.counters(), call.raw_input("ann")
        ear = await heard_by(ann, tmp_path)
        lines = [line for line in call.bridge.ledger.lines if line.speaker is None]
    assert counters["sessions.changes"] >= ROLLOVERS
    assert counters["sessions.changes_forced"] == counters["sessions.sessions_lost"] == 0
    report, handed = judge_input(heard, numbers[SETTLE:]), judge_input(raw, numbers[SETTLE:])
    came, arrived = arrivals(raw, handed.marks), arrivals(heard, report.marks)
    late = lateness_ms(arrived)
    ours = delays_ms(came, arrived)
    waited = {number for number, by in ours.items() if by > ON_TIME_MS}
    worst = max(ours.values())
    lost, doubled = lost_between(handed, report), doubled_between(handed, report)
    moved = moved_between(handed, report, by_ms=5)
    mouth = statistics.median(np.abs(list(late.values())))
    print(  # noqa: T201 - figures for whoever runs it with -s
        f"\n{provider}: {counters['sessions.changes']} changes\n  handed on by the room: {handed}\n"
        f"  heard by the service: {report}\n"
        f"  between them: lost {lost}, doubled {doubled}, moved {moved}, late by {worst:.0f} ms at most, "
        f"{len(waited)} of {len(ours)} by more than {ON_TIME_MS} ms\n"
        f"  from the mouth on: late by {max(late.values()):.0f} ms at most, {mouth:.0f} ms in the median"
    )
    assert counters["first_words.first_words_dropped_frames"] == counters["first_words.replayed_frames"] == 0
    # What the bridge makes of what the room hands to it: nothing is lost, doubled or misplaced.
    assert not lost and not doubled, str(report)
    assert len(moved) <= len(numbers) * CONCEALED, moved
    assert not set(report.out_of_order) - set(handed.out_of_order), str(report)
    assert worst <= (SETUP_MS if provider == "gemini" else 0) + MACHINE_MS
    # Those that came while no session heard the room waited for the next one; all others are on time.
    replayed = counters["sessions.changes"] * (SETUP_MS / EVERY_MS + 1) if provider == "gemini" else 0
    assert len(waited) <= replayed + BUSY * len(ours), sorted(waited)
    # And what the room makes of his microphone: next to nothing.
    assert len(report.missing) + len(report.twice) <= len(numbers) * CONCEALED, str(report)
    assert sum(abs(step - EVERY_MS) > STEP_MS for step in report.steps_ms) <= len(numbers) * CONCEALED, str(report)
    assert len(lines) >= ROLLOVERS and not any(line.interrupted for line in lines)
    # A session that is not resumed begins again with number 1; the words of an answer tell its number.
    spoken = [int(line.text.split("marker ")[1].split()[0]) for line in lines]
    found, holes = replies_in(from_pcm(ear.samples.tobytes()), ear.rate_hz, spoken)
    print(  # noqa: T201 - as above
        f"  {found} of {len(lines)} answers at the listener, their longest hole {max(holes, default=0.0):.0f} ms"
    )
    assert found >= len(lines) * RECOGNISED
    assert max(holes, default=0.0) <= 40
