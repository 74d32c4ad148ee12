"""Sessions are replaced again and again in one call, and nobody notices: nothing is lost, nothing comes twice.

The services take 500 ms to accept a connection and 300 ms more for the setup, as real ones do; the emulated Gemini
refuses to resume beside the earlier connection. ROLLOVERS=100 makes the calls long.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from itertools import pairwise

import pytest

from bridge.facade import CallConfig
from bridge.lanes.settings import CallSettings
from bridge.sessions.rollover import RolloverSettings
from providers.emulators.connection import Connection
from providers.scripted.brain import Brain
from providers.scripted.scenario import Marker, Pace, Scenario, ServerVad, Session, Tone, TurnScript
from tests.conformance.longcall import FRAME_MS, SHORT_SESSIONS, LongCall, Stretch, long_call, surviving

ROLLOVERS = int(os.environ.get("ROLLOVERS", "4"))
BOTH = pytest.mark.parametrize("provider", ["gemini", "openai"])
SETUP_MS = 300
CYCLE = 110
"""Frames from one of the caller's turns to the next."""
TURN = 25
"""Frames of a turn."""
REPLY_MS, REPLY_DBFS = 400, -12.0
TOLD_LINES = 20
MACHINE_MS = 250
"""What a machine busy with other things may add."""

pytestmark = pytest.mark.timeout(60 + 5 * ROLLOVERS)


def service(number: int, *, go_away_s: float, time_left_s: float) -> Scenario:
    """The n-th connection: its words and its voice are like no other's."""
    return Scenario(
        answer=Marker(
            duration_ms=REPLY_MS, seed=number * 1000, level_dbfs=REPLY_DBFS, transcript=f"answer of {number}"
        ),
        prompted=Tone(duration_ms=REPLY_MS),
        pace=Pace(speed=4, latency_ms=100),
        vad=ServerVad(silence_ms=300),
        turns=tuple(
            TurnScript(turn=turn, input_transcript=f"turn {turn} heard by {number}")
            for turn in range(1, 4 * ROLLOVERS + 40)
        ),
        session=Session(
            connect_delay_ms=500, setup_delay_ms=SETUP_MS, go_away_s=go_away_s, time_left_s=time_left_s, limit_s=600
        ),
    )


def config(provider: str, *, notice_s: float, after_s: float = 1.0) -> CallConfig:
    """OpenAI announces nothing: there the change comes from the session's known cap."""
    if provider == "gemini":
        return CallConfig(call=CallSettings(retry=SHORT_SESSIONS))
    rollover = RolloverSettings(max_session_s=after_s + notice_s, before_cap_s=notice_s)
    return CallConfig(call=CallSettings(rollover=rollover))


def changes(call: LongCall) -> int:
    counters = call.counters()
    return int(counters["sessions.changes"] + counters["sessions.changes_forced"])


def heard_again(stretches: list[Stretch]) -> int:
    """Frames that a second session heard because the first had not answered them."""
    return sum(max(0, before.numbers[-1] + 1 - after.numbers[0]) for before, after in pairwise(stretches))


def brain_of(connection: Connection) -> Brain:
    brain = connection.wire.brain
    assert brain is not None, "it was set up"
    return brain


def report(provider: str, call: LongCall, stretches: list[Stretch]) -> None:
    deaf = [after.arrivals[0] - before.arrivals[-1] for before, after in pairwise(stretches)]
    late = sorted(late for stretch in stretches for late in call.lateness_ms(stretch))
    print(  # noqa: T201 - figures for whoever runs it with -s
        f"\n{provider}: {len(deaf)} changes, {heard_again(stretches)} frames heard again, "
        f"without an ear {max(deaf, default=0) * 1000:.0f} ms at most, frames late by {late[len(late) // 2]:.0f} ms "
        f"(median), {late[int(len(late) * 0.99)]:.0f} ms (99 %), {late[-1]:.0f} ms (most)"
    )


def whole_answers(call: LongCall) -> dict[str, int]:
    """How often the room heard each answer that a session said to its end, by the name of the answer."""
    found: dict[str, int] = {}
    for connection in call.connections:
        for line in brain_of(connection).memory.lines:
            if line.text == f"answer of {connection.number}" and line.said_ms == REPLY_MS:
                seed = connection.number * 1000 + line.number
                found[f"{line.text}, {line.number}"] = call.times_heard(REPLY_MS, seed, REPLY_DBFS)
    return found


def check_input(call: LongCall, stretches: list[Stretch]) -> None:
    """Every frame from the first to the last is in the memory of the last session, or in one that was handed on."""
    numbers = surviving(stretches)
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    # He began before the first session had its first frame, and is heard to this moment but for what is on its way.
    assert numbers[0] == 0 and numbers[-1] > len(call.caller.frames) - 2 * MACHINE_MS / FRAME_MS
    counters = call.counters()
    assert heard_again(stretches) == counters["first_words.replayed_frames"]
    assert counters["first_words.first_words_dropped_frames"] == counters.get("outbox.dropped_audio_messages", 0) == 0


def check_context(call: LongCall, *, exchanges: int) -> None:
    """The last session knows every exchange of the record, once, in its order."""
    said = [line.text for line in call.bridge.ledger.lines]
    assert len(said) >= 2 * exchanges
    heard = [connection for connection in call.connections if brain_of(connection).hearing.recording.arrivals]
    lines = brain_of(heard[-1]).memory.lines  # one that is dialled in advance knows nothing yet
    told = "\n".join(line.text for line in lines)
    # What is older than a seed may be long, a new session is told in few words.
    places = [told.find(text) for text in said[-TOLD_LINES:] if text.startswith("turn")]
    assert -1 not in places and places == sorted(places), (said, told)
    once = Counter(line.text for line in lines)
    assert max(count for text, count in once.items() if text.startswith("turn")) == 1


@BOTH
async def test_planned_changes_go_unnoticed(provider: str) -> None:
    chance = random.Random(provider)
    phases = [round(0.3 + chance.random(), 2) for _ in range(1000)]

    def scenario(number: int) -> Scenario:
        return service(number, go_away_s=phases[number], time_left_s=20.0)

    def speaks(number: int) -> bool:
        return number % CYCLE < TURN

    async with long_call(provider, scenario, speaks, config(provider, notice_s=20.0)) as call:
        await call.until(lambda: changes(call) >= ROLLOVERS, 30 + 4 * ROLLOVERS)
        await asyncio.sleep(CYCLE * FRAME_MS / 1000)  # one more exchange
        stretches, counters = call.stretches(), call.counters()
        report(provider, call, stretches)
        check_input(call, stretches)
        check_context(call, exchanges=ROLLOVERS)
        answers = whole_answers(call)
        lines = call.bridge.ledger.lines
    assert counters["sessions.changes_forced"] == counters["sessions.sessions_lost"] == heard_again(stretches) == 0
    # Two streams joined are one: no filter begins anew.
    assert not any(stretch.anew for stretch in stretches[1:])
    late = sorted(late for stretch in stretches for late in call.lateness_ms(stretch))
    assert late[int(len(late) * 0.95)] < (SETUP_MS if provider == "gemini" else 0) + MACHINE_MS
    # A machine that stops the whole process for longer than the playout's lead breaks an answer, and that is counted.
    broken = [name for name, times in answers.items() if times != 1]
    assert len(answers) >= ROLLOVERS and len(broken) <= counters["playout.underruns"], answers
    assert not any(line.interrupted for line in lines)


@BOTH
async def test_a_change_at_the_last_moment_loses_no_word_of_who_speaks(provider: str) -> None:
    def scenario(number: int) -> Scenario:
        return service(number, go_away_s=0.5, time_left_s=2.5)

    def speaks(number: int) -> bool:
        return number % 300 < 240

    async with long_call(provider, scenario, speaks, config(provider, notice_s=2.5, after_s=0.5)) as call:
        forced = max(2, ROLLOVERS // 2)
        await call.until(lambda: call.counters()["sessions.changes_forced"] >= forced, 30 + 4 * ROLLOVERS)
        await asyncio.sleep(1.0)
        stretches, counters = call.stretches(), call.counters()
        report(provider, call, stretches)
        check_input(call, stretches)
    assert counters["sessions.sessions_lost"] == 0
