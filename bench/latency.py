"""Microphone to the provider's wire, and the provider's wire to the ear, beside the bare SDK in the same room.

Up: one sound of the caller is heard by the bridge and by a bare participant; each arrival is that of the piece with the
sound's first sample, at the emulator's socket and at the bare participant's `AudioStream`. Down: the bridge plays what
the emulator writes, the bare participant plays a sound of its own at once by `AudioSource`; both are found in what the
caller hears. Many short sessions, because phase and jitter buffer settle anew in each.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import msgspec
import numpy as np

from bench.crew import CACHE, Worker
from bench.figures import Measure, Spread, Table, Verdict, spread
from bench.host import HostClock, Load
from bench.markers import LEVEL_DBFS, MARKER_MS, Capture, find
from bench.stage import BRIDGE, Plan, Stage
from bench.vendors import VENDORS

__all__ = ["measure"]

_CALLER, _FLOOR = "caller", "floor"
_CALLER_SEED, _FLOOR_SEED, _REPLY_SEED = 10_000, 20_000, 30_000
_SILENCE_MS = 100
_CYCLE_S = 0.75
"""From one sound of the caller to the next: sound, end of the turn, reply."""
_FLOOR_AFTER_S = 0.15
_LONGEST_S = 0.6
"""A sound that takes longer counts as lost."""
_NEW_REPLY_S = 0.2
_SETTLE_S = 0.8
_WAYS = ("up", "down")
_TARGET_P50_MS, _TARGET_P95_MS = 10.0, 25.0


class _Session(msgspec.Struct):
    """Milliseconds of one session, one for each sound that was found."""

    load: Load
    bridge: dict[str, list[float]]
    floor: dict[str, list[float]]
    paired_up: list[float]
    """Bridge minus floor for the same sound."""
    to_source: list[float]
    """Emulator's socket to `Transport.play`."""
    lost: int = 0


class _Crew(msgspec.Struct, frozen=True):
    caller: Worker
    floor: Worker
    bridge: Worker
    emulator: Worker
    environ: dict[str, str]


async def measure(stage: Stage, plan: Plan) -> Measure:
    """Run all sessions, providers in turn."""
    sessions: dict[str, list[list[_Session]]] = {provider: [] for provider in plan.providers}
    async with AsyncExitStack() as stack:
        crews = {}
        caller = await stack.enter_async_context(Worker("bare", name="latency-caller"))
        floor = await stack.enter_async_context(Worker("bare", name="latency-floor"))
        for provider in plan.providers:
            emulator = await stack.enter_async_context(Worker("emulator", name=f"latency-{provider}-emulator"))
            bridge = await stack.enter_async_context(Worker("bridge", name=f"latency-{provider}-bridge"))
            started = await emulator.ask("start", provider=provider)
            environ = {**stage.environ, **started["environ"]}
            crews[provider] = _Crew(caller, floor, bridge, emulator, environ)
        for _ in range(plan.rounds):
            for provider in plan.providers:
                sessions[provider].append([])
            for _ in range(plan.sessions):
                for provider in plan.providers:
                    sessions[provider][-1].append(await _session(stage, crews[provider], provider, plan.markers))
    return _report(sessions)


async def _session(stage: Stage, crew: _Crew, provider: str, count: int) -> _Session:
    room = stage.rooms(1)[0]
    folder = CACHE / "captures"
    folder.mkdir(parents=True, exist_ok=True)
    answer = {"kind": "marker", "duration_ms": MARKER_MS, "seed": _REPLY_SEED, "level_dbfs": LEVEL_DBFS}
    vad = {"silence_ms": _SILENCE_MS, "prefix_padding_ms": 0}
    await crew.emulator.ask("scenario", scenario={"answer": answer, "vad": vad, "pace": {"latency_ms": 0}})
    await crew.caller.ask("join", rooms=[stage.seat(room, _CALLER)], hear=[BRIDGE, _FLOOR], keep=True)
    await crew.floor.ask(
        "join",
        rooms=[stage.seat(room, _FLOOR)],
        publish_hz=24_000,
        hear=[_CALLER],
        listen_hz=VENDORS[provider].wire_hz,
        keep=True,
    )
    # The floor's own sounds are not meant for the model.
    await crew.bridge.ask(
        "join",
        provider=provider,
        environ=crew.environ,
        rooms=[room],
        settings={
            "speech": {"turn_detection": {"silence_ms": _SILENCE_MS}},
            "livekit": {"identities": [_CALLER]},
        },
        timed=True,
    )
    await crew.caller.ask("hears", identities=[BRIDGE, _FLOOR])
    await crew.floor.ask("hears", identities=[_CALLER])
    await crew.emulator.ask("ready", count=1)
    await asyncio.sleep(_SETTLE_S)

    clock = HostClock()
    asked: list[float] = []
    floor_asked: list[float] = []
    for number in range(count):
        asked.append((await crew.caller.ask("mark", seed=_CALLER_SEED + number))["at"])
        await asyncio.sleep(_FLOOR_AFTER_S + random.uniform(0, 0.02))
        floor_asked.append((await crew.floor.ask("mark", seed=_FLOOR_SEED + number))["at"])
        await asyncio.sleep(_CYCLE_S - _FLOOR_AFTER_S + random.uniform(0, 0.02))
    await asyncio.sleep(_LONGEST_S)
    load = clock.load()

    said = (await crew.emulator.ask("said"))["said"]
    plays = (await crew.bridge.ask("played"))["plays"]
    wire = str(folder / "wire.npz")
    await crew.emulator.ask("harvest", path=wire)
    ear = (await crew.caller.ask("harvest", folder=str(folder)))["files"]
    bare = (await crew.floor.ask("harvest", folder=str(folder)))["files"]
    captures = (Capture.load(wire), Capture.load(bare[_CALLER]), Capture.load(ear[BRIDGE]), Capture.load(ear[_FLOOR]))
    for worker in (crew.bridge, crew.floor, crew.caller):
        await worker.ask("leave")
    return _evaluate(load, asked, floor_asked, _reply_starts(said), plays, captures)


def _reply_starts(said: list[tuple[int, float, str]]) -> list[float]:
    """When the first message of each reply passed the emulator's socket."""
    speech = [at for _, at, what in said if what == "speech"]
    return [at for before, at in zip([-1e9, *speech], speech, strict=False) if at - before > _NEW_REPLY_S]


def _evaluate(
    load: Load,
    asked: list[float],
    floor_asked: list[float],
    replied: list[float],
    plays: list[float],
    captures: tuple[Capture, Capture, Capture, Capture],
) -> _Session:
    wire, bare, ear_of_bridge, ear_of_floor = captures
    session = _Session(load, {way: [] for way in _WAYS}, {way: [] for way in _WAYS}, [], [])

    def delay(capture: Capture, seed: int, at: float) -> float | None:
        found = find(capture, seed, at, at + _LONGEST_S)
        if found is None:
            session.lost += 1
        return None if found is None else (found.at - at) * 1000

    for number, at in enumerate(asked):
        by_bridge = delay(wire, _CALLER_SEED + number, at)
        by_floor = delay(bare, _CALLER_SEED + number, at)
        if by_bridge is not None and by_floor is not None:
            session.bridge["up"].append(by_bridge)
            session.floor["up"].append(by_floor)
            session.paired_up.append(by_bridge - by_floor)
    for number, at in enumerate(replied, 1):
        heard = delay(ear_of_bridge, _REPLY_SEED + number, at)
        if heard is not None:
            session.bridge["down"].append(heard)
        first_play = next((play for play in plays if play >= at - 0.005), None)
        if first_play is not None and first_play - at < _LONGEST_S:
            session.to_source.append(max(0.0, (first_play - at) * 1000))
    for number, at in enumerate(floor_asked):
        heard = delay(ear_of_floor, _FLOOR_SEED + number, at)
        if heard is not None:
            session.floor["down"].append(heard)
    return session


def _report(sessions: dict[str, list[list[_Session]]]) -> Measure:
    table = Table(
        "Latency, ms: bridge beside bare SDK in the same room",
        ("provider, way, round", "n", "bare p50", "bridge p50", "added p50", "bare p95", "bridge p95", "added p95", ""),
    )
    results: dict[str, object] = {}
    verdicts: list[Verdict] = []
    for provider, rounds in sessions.items():
        every = [session for each in rounds for session in each]
        for way in _WAYS:
            for number, each in enumerate(rounds, 1):
                table.rows.append(_row(f"{provider} {way} {number}", each, way))
            table.rows.append(_row(f"{provider} {way} all", every, way))
            bridge, floor = _of(every, way, bridge=True), _of(every, way, bridge=False)
            verdicts.append(Verdict(f"{provider} {way} added p50", bridge.p50 - floor.p50, "ms", _TARGET_P50_MS))
            verdicts.append(Verdict(f"{provider} {way} added p95", bridge.p95 - floor.p95, "ms", _TARGET_P95_MS))
        paired = spread([value for session in every for value in session.paired_up])
        to_source = spread([value for session in every for value in session.to_source])
        lost = sum(session.lost for session in every)
        table.notes.append(
            f"{provider}: up, bridge minus bare for the same sound: p50 {paired.p50:.1f}, p95 {paired.p95:.1f}; "
            f"model message to AudioSource: p50 {to_source.p50:.2f}, p95 {to_source.p95:.2f}; not found: {lost}"
        )
        results[provider] = {
            "rounds": rounds,
            "paired_up": paired,
            "message_to_source": to_source,
            "bridge": {way: _of(every, way, bridge=True) for way in _WAYS},
            "floor": {way: _of(every, way, bridge=False) for way in _WAYS},
            "lost": lost,
        }
    return Measure("latency", [table], verdicts, results)


def _of(sessions: list[_Session], way: str, *, bridge: bool) -> Spread:
    return spread([ms for session in sessions for ms in (session.bridge if bridge else session.floor)[way]])


def _row(name: str, sessions: list[_Session], way: str) -> tuple[str, ...]:
    bridge, floor = _of(sessions, way, bridge=True), _of(sessions, way, bridge=False)
    load = Load(
        float(np.mean([session.load.steal_percent for session in sessions])),
        float(np.mean([session.load.busy_percent for session in sessions])),
    )
    figures = (floor.p50, bridge.p50, bridge.p50 - floor.p50, floor.p95, bridge.p95, bridge.p95 - floor.p95)
    return (name, str(bridge.count), *(f"{value:.1f}" for value in figures), load.marks)
