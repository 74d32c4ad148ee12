"""Silence at the caller's ear after an interruption, beside the bare SDK's `clear_queue()` in the same room.

The caller speaks while the model's answer sounds; the emulator notices and writes its stop at a known moment. In turn
with that, the bare participant plays the same kind of sound through a queue as deep as the bridge's, and clears it at a
known moment. Both silences are found in what the caller hears, in a third process. What is cut is noise that is
nowhere like itself, so that its last sound before the silence tells how far the reply was heard.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec
import numpy as np
import numpy.typing as npt

from bench.crew import CACHE, Worker
from bench.figures import Measure, Spread, Table, Verdict, spread
from bench.host import HostClock, Load
from bench.markers import LEVEL_DBFS, Capture, sound
from bench.stage import BRIDGE, Plan, Stage

__all__ = ["ended_at_ms", "loudest_dbfs", "measure", "silence_after"]

_CALLER, _FLOOR = "caller", "floor"
_CALLER_SEED, _FLOOR_SEED, _REPLY_SEED = 10_000, 20_000, 30_000
_IN_A_SESSION = 10
"""Interruptions of each kind; phase and jitter buffer settle anew in the next session."""
_SILENCE_MS = 100
"""The emulator's: silence that ends a turn."""
_REPLY_MS = 10_000
_OPENING_MS = 300
_TALK_MS = 2400
"""The interrupting speech: longer than the silence that is judged, so that nothing is answered in it."""
_SOUNDS_S, _SOUNDS_MORE_S = 0.8, 0.4
"""How long a sound has been heard when it is cut, and what chance adds."""
_FLOOR_AFTER_S = 0.4
_QUIET_S = 2.0
_QUIET_DBFS = -50.0
_HELD_MS = 100
_STEP_MS = 1
_LONGEST_S = 1.0
_SETTLE_S = 0.8
_LIKE = 0.6
_TAIL_MS = 120
_TARGET_P50_MS, _TARGET_WORST_MS, _TARGET_POSITION_MS = 15.0, 40.0, 40.0


class _Cut(msgspec.Struct, frozen=True):
    """One interruption."""

    silent_ms: float
    """From the moment to silence at the ear."""
    after_dbfs: float
    """The loudest 10 ms of the 2 s that follow."""
    position_error_ms: float | None = None
    """Where the model was told that its reply ended, minus where it ended at the ear. None: it was not told."""


class _Session(msgspec.Struct):
    load: Load
    bridge: list[_Cut]
    floor: list[_Cut]
    flush_ms: list[float]
    """From the emulator's socket to `Transport.flush`."""
    lost: int = 0
    """Interruptions that did not happen, or never became silent."""


class _Crew(msgspec.Struct, frozen=True):
    caller: Worker
    floor: Worker
    bridge: Worker
    emulator: Worker
    environ: dict[str, str]


async def measure(stage: Stage, plan: Plan) -> Measure:
    """All sessions, providers in turn."""
    count = -(-plan.interruptions // _IN_A_SESSION)
    sizes = [len(part) for part in np.array_split(np.arange(plan.interruptions), count)]
    sessions: dict[str, list[_Session]] = {provider: [] for provider in plan.providers}
    async with AsyncExitStack() as stack:
        crews = {}
        caller = await stack.enter_async_context(Worker("bare", name="barge-in-caller"))
        floor = await stack.enter_async_context(Worker("bare", name="barge-in-floor"))
        for provider in plan.providers:
            emulator = await stack.enter_async_context(Worker("emulator", name=f"barge-in-{provider}-emulator"))
            bridge = await stack.enter_async_context(Worker("bridge", name=f"barge-in-{provider}-bridge"))
            started = await emulator.ask("start", provider=provider)
            crews[provider] = _Crew(caller, floor, bridge, emulator, {**stage.environ, **started["environ"]})
        for size in sizes:
            for provider in plan.providers:
                sessions[provider].append(await _session(stage, crews[provider], provider, size))
    return _report(sessions)


async def _session(stage: Stage, crew: _Crew, provider: str, count: int) -> _Session:
    room = stage.rooms(1)[0]
    folder = CACHE / "captures"
    folder.mkdir(parents=True, exist_ok=True)
    answer = {"kind": "marker", "duration_ms": _REPLY_MS, "seed": _REPLY_SEED, "level_dbfs": LEVEL_DBFS}
    vad = {"silence_ms": _SILENCE_MS, "prefix_padding_ms": 0}
    await crew.emulator.ask("scenario", scenario={"answer": answer, "vad": vad, "pace": {"latency_ms": 0}})
    await crew.caller.ask("join", rooms=[stage.seat(room, _CALLER)], hear=[BRIDGE, _FLOOR], keep=True)
    await crew.floor.ask("join", rooms=[stage.seat(room, _FLOOR)], publish_hz=24_000, listen_hz=24_000)
    await crew.bridge.ask(
        "join",
        provider=provider,
        environ=crew.environ,
        rooms=[room],
        # The floor's own sounds are not meant for the model.
        settings={
            "speech": {"turn_detection": {"silence_ms": _SILENCE_MS}},
            "livekit": {"identities": [_CALLER]},
        },
        timed=True,
    )
    await crew.caller.ask("hears", identities=[BRIDGE, _FLOOR])
    await crew.emulator.ask("ready", count=1)
    await asyncio.sleep(_SETTLE_S)

    clock = HostClock()
    spoken: list[float] = []
    hushed: list[float] = []
    await crew.caller.ask("speak", seed=_CALLER_SEED, duration_ms=_OPENING_MS)
    await asyncio.sleep((_OPENING_MS + _SILENCE_MS) / 1000)
    for number in range(1, count + 1):
        await asyncio.sleep(_SOUNDS_S + random.uniform(0, _SOUNDS_MORE_S))
        spoken.append((await crew.caller.ask("speak", seed=_CALLER_SEED + number, duration_ms=_TALK_MS))["at"])
        # The reply to this speech begins when it is over: time for the floor meanwhile.
        await asyncio.sleep(_FLOOR_AFTER_S)
        await crew.floor.ask("speak", seed=_FLOOR_SEED + number, duration_ms=_REPLY_MS)
        await asyncio.sleep(_SOUNDS_S + random.uniform(0, _SOUNDS_MORE_S))
        hushed.append((await crew.floor.ask("hush"))["at"])
        answered_at = spoken[-1] + (_TALK_MS + _SILENCE_MS) / 1000
        await asyncio.sleep(max(0.0, answered_at - time.monotonic()))
    await asyncio.sleep(0.2)
    load = clock.load()

    said = (await crew.emulator.ask("said"))["said"]
    told = dict((await crew.emulator.ask("truncated"))["truncated"])
    flushes = [began for began, _ in (await crew.bridge.ask("played"))["flushes"]]
    ear = (await crew.caller.ask("harvest", folder=str(folder)))["files"]
    for worker in (crew.bridge, crew.floor, crew.caller):
        await worker.ask("leave")
    stops = [at for _, at, what in said if what == "stop"]
    return _evaluate(load, stops, spoken, hushed, flushes, told, Capture.load(ear[BRIDGE]), Capture.load(ear[_FLOOR]))


def _evaluate(
    load: Load,
    stops: Sequence[float],
    spoken: Sequence[float],
    hushed: Sequence[float],
    flushes: Sequence[float],
    told: dict[int, int],
    ear_of_bridge: Capture,
    ear_of_floor: Capture,
) -> _Session:
    session = _Session(load, [], [], [])
    for reply, asked in enumerate(spoken, 1):
        at = next((stop for stop in stops if asked <= stop <= asked + _LONGEST_S), None)
        silence = None if at is None else silence_after(ear_of_bridge, at)
        if at is None or silence is None:
            session.lost += 1
            continue
        error = None
        if reply in told:
            ended = ended_at_ms(ear_of_bridge, silence, sound(_REPLY_SEED + reply, ear_of_bridge.rate_hz, _REPLY_MS))
            session.lost += ended is None
            error = None if ended is None else told[reply] - ended
        session.bridge.append(_cut(ear_of_bridge, at, silence, error))
        flush = next((flush for flush in flushes if flush >= at - 0.005), None)
        if flush is not None and flush - at < _LONGEST_S:
            session.flush_ms.append(max(0.0, (flush - at) * 1000))
    for at in hushed:
        silence = silence_after(ear_of_floor, at)
        if silence is None:
            session.lost += 1
        else:
            session.floor.append(_cut(ear_of_floor, at, silence, None))
    return session


def _cut(ear: Capture, at: float, silence: int, error: float | None) -> _Cut:
    return _Cut((ear.moment(silence) - at) * 1000, loudest_dbfs(ear, silence, ear.sample_at(at + _QUIET_S)), error)


def _power(samples: npt.NDArray[np.int16], window: int) -> npt.NDArray[np.float64]:
    blocks = samples[: len(samples) // window * window].reshape(-1, window).astype(np.float64) / 32768
    return np.asarray(np.mean(blocks * blocks, axis=1), dtype=np.float64)


def silence_after(ear: Capture, at: float) -> int | None:
    """The sample at which the first 100 ms below -50 dBFS begin among what came after `at`. None: it went on."""
    first = ear.sample_at(at)
    step = ear.rate_hz * _STEP_MS // 1000
    until = ear.sample_at(at + _LONGEST_S) + _HELD_MS * step
    loud = _power(ear.samples[first:until], step) >= 10 ** (_QUIET_DBFS / 10)
    held = _HELD_MS // _STEP_MS
    if len(loud) < held:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(loud, held).any(axis=1)
    quiet = np.flatnonzero(~windows)
    return first + int(quiet[0]) * step if len(quiet) else None


def loudest_dbfs(ear: Capture, first: int, last: int) -> float:
    """The loudest 10 ms between two samples."""
    power = _power(ear.samples[first:last], ear.rate_hz // 100)
    return float(10 * np.log10(max(float(power.max(initial=0.0)), 1e-12)))


def ended_at_ms(ear: Capture, silence: int, reply: npt.NDArray[np.int16]) -> float | None:
    """How far into the reply (at the ear's rate) the sound before this silence is. None: it is something else."""
    tail = _TAIL_MS * ear.rate_hz // 1000
    last = silence - ear.rate_hz // 200  # a codec rings a little
    wanted = ear.samples[last - tail : last].astype(np.float64)
    source = reply.astype(np.float64)
    size = 1 << (len(source) + tail).bit_length()
    alike = np.fft.irfft(np.fft.rfft(source, size) * np.conj(np.fft.rfft(wanted, size)), size)
    alike = alike[: len(source) - tail + 1]
    energy = np.concatenate(([0.0], np.cumsum(source * source)))
    score = alike / np.sqrt(np.maximum(energy[tail:] - energy[:-tail], 1e4) * max(float(np.dot(wanted, wanted)), 1.0))
    best = int(np.argmax(score))
    return None if score[best] < _LIKE else (best + tail + silence - last) * 1000 / ear.rate_hz


def _report(sessions: dict[str, list[_Session]]) -> Measure:
    table = Table(
        "Barge-in, ms from the moment to silence at the ear: bridge beside a bare SDK `clear_queue()`",
        (
            "provider",
            "n",
            "bare p50",
            "bridge p50",
            "bare worst",
            "bridge worst",
            "loudest after",
            "position off by",
            "",
        ),
    )
    results: dict[str, object] = {}
    verdicts: list[Verdict] = []
    for provider, each in sessions.items():
        bridge, floor = _of([session.bridge for session in each]), _of([session.floor for session in each])
        cuts = [cut for session in each for cut in session.bridge]
        loudest = max((cut.after_dbfs for cut in cuts), default=0.0)
        errors = [abs(cut.position_error_ms) for cut in cuts if cut.position_error_ms is not None]
        flush = spread([ms for session in each for ms in session.flush_ms])
        lost = sum(session.lost for session in each)
        load = Load(
            float(np.mean([session.load.steal_percent for session in each])),
            float(np.mean([session.load.busy_percent for session in each])),
        )
        table.rows.append(
            (
                provider,
                str(bridge.count),
                *(f"{value:.1f}" for value in (floor.p50, bridge.p50, floor.worst, bridge.worst)),
                f"{loudest:.0f} dBFS",
                f"{max(errors):.1f}" if errors else "not told",
                load.marks,
            )
        )
        table.notes.append(
            f"{provider}: stop on the wire to flush: p50 {flush.p50:.2f}, worst {flush.worst:.2f}; not judged: {lost}"
        )
        verdicts.append(Verdict(f"{provider} silence p50 over bare", bridge.p50 - floor.p50, "ms", _TARGET_P50_MS))
        verdicts.append(
            Verdict(f"{provider} silence worst over bare worst", bridge.worst - floor.worst, "ms", _TARGET_WORST_MS)
        )
        verdicts.append(Verdict(f"{provider} loudest in the 2 s after", loudest, "dBFS", _QUIET_DBFS))
        verdicts.append(Verdict(f"{provider} interruptions not judged", float(lost), "", 0.0))
        if errors:
            verdicts.append(Verdict(f"{provider} truncate position off by", max(errors), "ms", _TARGET_POSITION_MS))
        results[provider] = {"sessions": each, "bridge": bridge, "floor": floor, "flush": flush, "lost": lost}
    return Measure("barge-in", [table], verdicts, results)


def _of(cuts: Sequence[Sequence[_Cut]]) -> Spread:
    return spread([cut.silent_ms for session in cuts for cut in session])
