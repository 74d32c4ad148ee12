"""A room and a model's service that both have a bad day: seeded faults of either, moments apart, on a real
livekit-server that dies, freezes and loses its lines. The caller is answered again, and hears it, or the call says why.

ROOM_FAULTS=40 tries so many seeds, ROOM_FAULT_SEED=17 that one alone. With -s every pair and its outcome is shown.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import msgspec
import pytest
from livekit import rtc

from bridge.core.errors import BridgeError, ModelFailed
from bridge.demo.person import Person, PersonError
from bridge.demo.server import LocalServer
from providers.emulators.chaos import FATAL_KINDS, KINDS, Stroke, stroke
from providers.errors import ProviderError
from providers.scripted.scenario import Marker, Pace, Scenario, ServerVad, Session
from providers.settings import ConnectionSettings
from tests.e2e.audio import speechlike, write_wav
from tests.e2e.calls import EmulatedCall, emulated_call, until
from tests.e2e.ears import heard_by, loud_span
from tests.fakes.relay import Relay

BOUND_S = ConnectionSettings().setup_timeout_s + 15
"""After the later of two faults: by then he is answered again, or the call has ended."""
AT_ONCE = 2
REPLY_MS = 500
ROOM_KINDS = ("signal", "thrown_out", "node", "restart", "long_restart", "freeze", "flap")
SLOW = {"stall", "pause"}
"""A service that falls silent is waited for as long as its settings say; see the seeded faults without a room."""


def seeds() -> list[int]:
    alone = os.environ.get("ROOM_FAULT_SEED", "")
    return [int(alone)] if alone else list(range(int(os.environ.get("ROOM_FAULTS", "4"))))


pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(120 + 40 * len(seeds())),
]


class Outcome(msgspec.Struct):
    """What became of one call."""

    seed: int
    provider: str
    room_fault: str
    stroke: Stroke
    apart_s: float
    """From the room's fault to the service's; below 0: the other way round."""
    answered_s: float | None = None
    """From the later fault to the end of the first answer that he heard, as the bridge knows it."""
    unheard: int = 0
    """Answers before that which he did not hear."""
    ended: str = ""
    typed: bool = True

    def __str__(self) -> str:
        became = "never answered again" if self.answered_s is None else f"answered after {self.answered_s:.1f} s"
        if self.ended:
            became = f"ended: {self.ended}"
        if self.unheard:
            became += f", {self.unheard} unheard before"
        faults = f"room {self.room_fault}, service {self.stroke.kind} {self.apart_s:+.1f} s later"
        return f"seed {self.seed} {self.provider}: {faults}: {became}"


class Through:
    """A livekit-server as it is seen through a relay; the bridge knows nothing else of it."""

    def __init__(self, server: LocalServer, relay: Relay) -> None:
        self.url = f"ws://127.0.0.1:{relay.port}"
        self.api_key, self.api_secret = server.api_key, server.api_secret


def answers(call: EmulatedCall) -> int:
    """Replies that were heard to their end."""
    lines = [line for line in call.bridge.ledger.lines if line.speaker is None]
    return sum(line.ended_at is not None and line.heard_ms > REPLY_MS - 60 for line in lines)


async def befall(kind: str, server: LocalServer, relay: Relay, call: EmulatedCall, chance: random.Random) -> None:
    """Let something happen to the room."""
    match kind:
        case "signal":
            relay.cut()
        case "thrown_out" | "node":
            scenario = "SIMULATE_SERVER_LEAVE" if kind == "thrown_out" else "SIMULATE_NODE_FAILURE"
            assert call.room._call is not None and call.room._call._connection is not None, "the room was joined"
            await call.room._call._connection.room.simulate_scenario(rtc.SimulateScenarioKind.Value(scenario))
        case "restart" | "long_restart":
            await server.kill()
            await server.stop()
            await asyncio.sleep(chance.uniform(0.0, 0.5) if kind == "restart" else chance.uniform(1.5, 4.0))
            await server.start()
        case "freeze":
            os.kill(server.pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(chance.uniform(0.5, 4.0))
            finally:
                os.kill(server.pid, signal.SIGCONT)
        case _:
            raise AssertionError(f"{kind} is the caller's own")


async def suffer(seed: int, folder: Path) -> Outcome:
    """One call, one fault of its room and one of its service."""
    chance = random.Random(f"room {seed}")
    kinds = [kind for kind in KINDS if kind not in SLOW]
    fault = stroke(seed, kinds=FATAL_KINDS if chance.random() < 0.1 else kinds)
    # Each kind of the room's comes by turns.
    room_fault, apart_s = ROOM_KINDS[seed % len(ROOM_KINDS)], chance.uniform(-2.0, 2.0)
    outcome = Outcome(seed, chance.choice(("gemini", "openai")), room_fault, fault, apart_s)
    scenario = Scenario(
        answer=Marker(duration_ms=REPLY_MS, seed=5),
        prompted=Marker(duration_ms=REPLY_MS, seed=77),
        pace=Pace(speed=4, latency_ms=100),
        vad=ServerVad(silence_ms=300, threshold_dbfs=-35),
        session=Session(connect_delay_ms=500, setup_delay_ms=300, limit_s=600),
    )
    name = f"bad-{seed}"
    turn = str(write_wav(folder / f"{seed}.wav", speechlike(seed, 48_000, 0.8), 48_000))
    loop = asyncio.get_running_loop()
    async with LocalServer() as own, Relay(own.port) as relay, asyncio.TaskGroup() as group:
        through: LocalServer = Through(own, relay)  # type: ignore[assignment]
        async with emulated_call(through, name, outcome.provider, scenario) as call:
            running = group.create_task(_run(call, outcome), name="run")
            ann = Person(own.url, own.participant_token(name, "ann"))
            await ann.__aenter__()
            try:
                await ann.do("publish")
                await ann.wait("hears_agent")
                await _is_answered(call, ann, turn, 15)

                async def of_room() -> None:
                    nonlocal ann
                    await asyncio.sleep(max(0.0, -apart_s))
                    if room_fault != "flap":
                        await befall(room_fault, own, relay, call, chance)
                        return
                    await ann.__aexit__(None, None, None)
                    await asyncio.sleep(chance.uniform(0.0, 2.0))
                    ann = Person(own.url, own.participant_token(name, "ann"))
                    await ann.__aenter__()
                    await ann.do("publish")

                async def of_service() -> None:
                    await asyncio.sleep(max(0.0, apart_s))
                    call.emulator.befall(fault)

                await asyncio.gather(of_room(), of_service())
                struck_at = loop.time()
                while loop.time() < struck_at + BOUND_S and not (outcome.ended or outcome.answered_s):
                    began = await _is_answered(call, ann, turn, BOUND_S, lambda: outcome.ended)
                    answered_s = loop.time() - struck_at
                    if began is not None and await _is_heard(ann, folder / str(seed), began):
                        outcome.answered_s = answered_s
                    else:
                        outcome.unheard += 1  # his own line may be the one that is not back yet
            finally:
                await ann.__aexit__(None, None, None)
        running.cancel()
    return outcome


async def _run(call: EmulatedCall, outcome: Outcome) -> None:
    try:
        outcome.ended = str(await call.bridge.run())
        outcome.typed = False
    except BridgeError as failure:
        outcome.ended = str(failure)
        outcome.typed = isinstance(failure, ModelFailed) and isinstance(failure.__cause__, ProviderError)


async def _is_heard(ann: Person, folder: Path, since: float) -> bool:
    """Something has reached her ear."""
    await asyncio.sleep(0.6)  # it is on its way
    ear = await heard_by(ann, folder)
    try:
        loud_span(ear, since, asyncio.get_running_loop().time())
    except ValueError:
        return False
    return True


async def _is_answered(
    call: EmulatedCall, ann: Person, turn: str, within_s: float, ended: object = lambda: ""
) -> float | None:
    """He speaks, again and again, until an answer is heard to its end. Returns when he began to say what was answered;
    None: nobody answered."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    before = answers(call)
    while loop.time() < until_s and not (callable(ended) and ended()):
        began = loop.time()
        try:
            await ann.do("say", wav=turn, timeout_s=5)
            await until(lambda: answers(call) > before, 3.0)
        except (PersonError, TimeoutError):
            continue
        return began
    return None


async def test_room_and_service_in_trouble_together_are_survived(tmp_path: Path) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int) -> Outcome:
        async with room:
            (tmp_path / str(seed)).mkdir()
            outcome = await suffer(seed, tmp_path)
            print(outcome)  # noqa: T201 - for whoever runs it with -s
            return outcome

    for outcome in await asyncio.gather(*(one(seed) for seed in seeds())):
        again = f"have it again with ROOM_FAULT_SEED={outcome.seed}: {outcome.stroke}; {outcome}"
        if outcome.ended:
            assert outcome.typed and outcome.stroke.kind in FATAL_KINDS, again
            continue
        assert outcome.answered_s is not None and outcome.answered_s <= BOUND_S, again
