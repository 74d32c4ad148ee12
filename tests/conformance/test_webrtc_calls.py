"""A whole bridge that talks to OpenAI over WebRTC: sessions come and go, connections break, and no turn is lost.

Opus keeps no sample as it was, so that sounds are found by their likeness. The service takes 500 ms to accept a call
and 300 ms more for the setup.
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from bridge.core.commands import FlushPlayout
from bridge.facade import CallConfig
from bridge.lanes.settings import CallSettings
from bridge.sessions.rollover import RolloverSettings
from providers.scripted.scenario import Marker, Pace, Scenario, ServerVad, Session, Tone, TurnScript
from providers.scripted.voice import marker
from providers.settings import ConnectionSettings
from providers.signal.formats import PCM16_24K
from providers.signal.resample import Int16Array
from tests.conformance.ears import best_correlation_of_pieces
from tests.conformance.longcall import LongCall, long_call

CYCLE = 150
"""Frames from one of the caller's turns to the next."""
TURN = 30
FIRST = 10
"""Frames before his first turn."""
REPLY_MS, REPLY_DBFS = 400, -12.0
CONNECTION = ConnectionSettings(connect_timeout_s=5, setup_timeout_s=5, close_timeout_s=0.5)
LIKE = 0.8

pytestmark = pytest.mark.timeout(180)


def turn_sound(turn: int) -> Int16Array:
    """His n-th turn: like no other."""
    return marker(TURN * 20, 7000 + turn, -12.0)


def says(number: int) -> bytes:
    turn, place = divmod(number - FIRST, CYCLE)
    if number >= FIRST and place < TURN:
        return turn_sound(turn)[place * 480 : (place + 1) * 480].tobytes()
    return np.random.default_rng(number).integers(-60, 60, 480, np.int16, endpoint=True).tobytes()


def service(number: int) -> Scenario:
    """The n-th connection: its voice is like no other's."""
    return Scenario(
        answer=Marker(
            duration_ms=REPLY_MS, seed=number * 1000, level_dbfs=REPLY_DBFS, transcript=f"answer of {number}"
        ),
        prompted=Tone(duration_ms=REPLY_MS),
        pace=Pace(speed=4, latency_ms=100),
        vad=ServerVad(silence_ms=300),
        session=Session(connect_delay_ms=500, setup_delay_ms=300, limit_s=600),
    )


def recordings(call: LongCall) -> list[Int16Array]:
    """What each connection heard."""
    return [np.frombuffer(each.brain.hearing.recording.heard, "<i2") for each in call.connections]


def lost_turns(call: LongCall) -> list[int]:
    """Turns that no connection heard whole, of those that were over two seconds ago."""
    spoken = max(0, (len(call.caller.frames) - FIRST - TURN - 100) // CYCLE + 1)
    heard = recordings(call)
    return [
        turn
        for turn in range(spoken)
        if not any(best_correlation_of_pieces(each, turn_sound(turn)) > LIKE for each in heard)
    ]


def broken_answers(call: LongCall) -> list[str]:
    """Answers that a session said to their end, and the room did not hear whole."""
    room = np.frombuffer(call.room.heard(), "<i2")
    return [
        f"{line.text}, {line.number}"
        for each in call.connections
        for line in each.brain.memory.lines
        if line.text == f"answer of {each.number}"
        and line.said_ms == REPLY_MS
        and best_correlation_of_pieces(room, marker(REPLY_MS, each.number * 1000 + line.number, REPLY_DBFS)) < LIKE
    ]


def answers(call: LongCall) -> int:
    return sum(line.speaker is None for line in call.bridge.ledger.lines)


async def test_planned_changes_go_unnoticed() -> None:
    rollover = RolloverSettings(max_session_s=23.0, before_cap_s=20.0)
    config = CallConfig(call=CallSettings(rollover=rollover))
    async with long_call("openai-webrtc", service, lambda _: False, config, CONNECTION, sound=says) as call:
        await call.until(lambda: call.counters()["sessions.changes"] >= 3, 60)
        await asyncio.sleep(CYCLE * 0.02 + 2)  # one more exchange
        counters, lines = call.counters(), call.bridge.ledger.lines
    assert counters["sessions.changes_forced"] == counters["sessions.sessions_lost"] == 0
    assert lost_turns(call) == []
    # A machine that stops the whole process for longer than the playout's lead breaks an answer, and that is counted.
    assert len(broken_answers(call)) <= counters["playout.underruns"]
    assert not any(line.interrupted for line in lines)


@pytest.mark.parametrize("fault", ["vanishes", "hangs up"])
async def test_a_broken_call_is_made_again_and_no_turn_is_lost(fault: str) -> None:
    async with long_call("openai-webrtc", service, lambda _: False, None, CONNECTION, sound=says) as call:
        for number in (1, 2):
            had = answers(call)
            await call.until(lambda had=had: answers(call) > had, 20)  # type: ignore[misc]
            await asyncio.sleep(0.9)  # into his next turn, or near it
            struck = call.emulator.live[-1]
            if fault == "vanishes":
                struck.kill()
            else:
                struck.close(1011, "Internal error.")
            lost_at = asyncio.get_running_loop().time()
            await call.until(lambda number=number: call.counters()["sessions.sessions_lost"] >= number, 8)  # type: ignore[misc]
            await call.until(lambda: call.bridge.leader is not None, 8)
            # 3 s to notice that nothing comes any more, 0.8 s for the service's own time; and a busy machine.
            assert asyncio.get_running_loop().time() - lost_at < (4.0 if fault == "vanishes" else 1.0) + 4.0
        had = answers(call)
        await call.until(lambda: answers(call) > had, 20)
        await asyncio.sleep(CYCLE * 0.02)
    assert lost_turns(call) == []


async def test_an_interruption_silences_the_room_and_the_record_holds_what_was_heard() -> None:
    words = " ".join(f"word{number}" for number in range(60))

    def story(number: int) -> Scenario:
        tale = Marker(duration_ms=20_000, seed=3, level_dbfs=REPLY_DBFS, transcript=words)
        return Scenario(
            answer=Marker(duration_ms=REPLY_MS, seed=9, level_dbfs=REPLY_DBFS, transcript="as you wish"),
            turns=(TurnScript(turn=1, answer=tale),),
            pace=Pace(speed=6, latency_ms=100),
            vad=ServerVad(silence_ms=300),
        )

    async with long_call("openai-webrtc", story, lambda _: False, None, CONNECTION, sound=says) as call:
        flushed: list[tuple[float, int]] = []
        clock = asyncio.get_running_loop().time

        def note(command: object) -> None:
            if isinstance(command, FlushPlayout):
                flushed.append((clock(), len(call.room.heard())))

        call.bridge.listen(note)
        await call.until(lambda: any(line.interrupted for line in call.bridge.ledger.lines), 30)
        after = len(call.room.heard())
        await asyncio.sleep(0.3)
        (cut,) = [line for line in call.bridge.ledger.lines if line.interrupted]
        spoken_ms = PCM16_24K.duration_ms(len(call.room.heard()[: flushed[-1][1]]))
    assert words.startswith(cut.text.strip()) and len(cut.text) < len(words) / 2, "no word that nobody heard"
    assert abs(cut.heard_ms - spoken_ms) <= 60
    assert after - flushed[-1][1] <= PCM16_24K.size(60), "silence within a frame or two"
    item = call.connections[0].brain.memory.line("assistant", 1)
    assert item is not None and item.heard_ms is not None, "the service cut its own memory"
    assert abs(item.heard_ms - cut.heard_ms) < 800, "near where the room was: what was on its way is the difference"
