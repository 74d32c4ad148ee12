"""CPU and memory of one process with many calls of constant talk both ways, beside a bare SDK program with as many.

Callers say the same babble in each room and listen to nobody; what a process sends costs it the same either way. The
bare program receives each caller's track at the bridge's rate and frame length, and publishes the same babble in pieces
of 100 ms. Each block has a fresh process and rooms of its own; bare and bridge alternate in blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.babble import BABBLE_HZ, write_babble
from bench.crew import CACHE, Worker
from bench.figures import Measure, Spread, Table, Verdict, lateness_ms, spread
from bench.host import HostClock, Load, ProcessClock
from bench.stage import Plan, Stage
from bench.talkers import Talkers, build_talker, write_packets

__all__ = ["Callers", "measure"]

_BARE = "bare"
_FRAME_MS = 20
_TALK_S = 120.0
_SETTLE_S = 2.0
_REST_S = 8.0
"""Before memory is read at the smallest and the largest number of calls: what many joins at once have needed is given
back within ten seconds, and is none of an added call's."""
_TARGET_ADDED_MS, _TARGET_GROWTH_PERCENT, _TARGET_CALL_MB = 10.0, 20.0, 6.0
_FLAT_FROM = 4
"""One call alone costs the SDK more: growth is counted from here on."""
_COUNTERS = (
    "loop.late_beats",
    "loop.missed_beats",
    "playout.underruns",
    "playout.stalls",
    "outbox.dropped_audio_messages",
)


class _Block(msgspec.Struct):
    """One process with so many calls, over one window."""

    calls: int
    load: Load
    cpu_ms: float
    """Of the process, for each call-second."""
    threads_ms: dict[str, float]
    """The same by name of thread."""
    resident_mb: float
    threads: int
    wakeups: float
    """Of the event loop's thread, for each call-second."""
    lateness: Spread
    """Of audio frames against a steady beat, ms: at the emulator's socket, or at the bare program."""
    gap_ms: float
    """Longest time between two of them."""
    frames_per_s: float
    others_ms: dict[str, float]
    """CPU of the callers, the server and the emulator, for each call-second."""
    state: dict[str, Any]


async def measure(stage: Stage, plan: Plan) -> Measure:
    """Run all blocks."""
    babble = write_babble(CACHE / "babble.wav", _TALK_S)
    program = await build_talker()
    callers = Callers(str(babble), program, write_packets(babble, CACHE / "babble.opus") if program else None)
    blocks: dict[str, list[_Block]] = {kind: [] for kind in (_BARE, *plan.providers)}
    for _ in range(plan.rounds):
        for calls in plan.calls:
            for kind, found in blocks.items():
                found.append(await _block(stage, plan, kind, calls, callers))
    return _report(blocks, "encoded once, sent by a Go program" if program else "of the SDK, for Go is missing")


class Callers(msgspec.Struct, frozen=True):
    """Who talks to what is measured."""

    babble: str
    program: Path | None
    packets: Path | None

    @asynccontextmanager
    async def enter(self, seats: list[tuple[str, str]]) -> AsyncIterator[int]:
        """One in each room, talking; the process id."""
        if self.program is not None and self.packets is not None:
            async with Talkers(self.program, self.packets, seats) as talkers:
                yield talkers.pid
            return
        async with Worker("bare", name="load-callers") as people:
            await people.ask("join", rooms=seats, publish_hz=BABBLE_HZ, talk=self.babble)
            yield people.pid
            await people.ask("leave")


async def _block(stage: Stage, plan: Plan, kind: str, calls: int, callers: Callers) -> _Block:
    rooms = stage.rooms(calls)
    async with AsyncExitStack() as stack:
        talking = await stack.enter_async_context(callers.enter([stage.seat(room, "caller") for room in rooms]))
        worker = await stack.enter_async_context(Worker(_BARE if kind == _BARE else "bridge", name=f"load-{kind}"))
        if kind == _BARE:
            source = worker
            await worker.ask(
                "join",
                rooms=[stage.seat(room, "bare") for room in rooms],
                publish_hz=BABBLE_HZ,
                hear=["caller"],
                listen_hz=BABBLE_HZ,
                frame_ms=_FRAME_MS,
                talk=callers.babble,
            )
            await worker.ask("hears", identities=["caller"])
        else:
            source = await stack.enter_async_context(Worker("emulator", name=f"load-{kind}-emulator"))
            environ = (await source.ask("start", provider=kind))["environ"]
            await source.ask("scenario", scenario=_talks_for_ever(callers.babble))
            await worker.ask("join", provider=kind, environ={**stage.environ, **environ}, rooms=rooms)
            await source.ask("ready", count=calls)
        await asyncio.sleep(_SETTLE_S)

        pids = {"callers": talking, "server": stage.server_pid}
        if kind != _BARE:
            pids["emulator"] = source.pid
        others = {name: ProcessClock(pid) for name, pid in pids.items()}
        host, process = HostClock(), ProcessClock(worker.pid)
        await asyncio.sleep(plan.seconds)
        call_seconds = process.seconds() * calls
        cpu_s, by_thread, wakeups = process.cpu_s(), process.cpu_s_by_thread(), process.main_wakeups()
        others_ms = {name: 1000 * other.cpu_s() / call_seconds for name, other in others.items()}
        load = host.load()
        threads = process.threads()
        times = (await source.ask("lateness", last_s=plan.seconds))["times"]
        state = {} if kind == _BARE else await worker.ask("state")
        if calls in (min(plan.calls), max(plan.calls)):
            await asyncio.sleep(_REST_S)
        resident_mb = process.resident_mb()
        await worker.ask("leave")
    late = [ms for each in times for ms in lateness_ms(each, _FRAME_MS / 1000)]
    return _Block(
        calls=calls,
        load=load,
        cpu_ms=1000 * cpu_s / call_seconds,
        threads_ms={name: 1000 * spent_s / call_seconds for name, spent_s in by_thread.items()},
        resident_mb=resident_mb,
        threads=threads,
        wakeups=wakeups / call_seconds,
        lateness=spread(late),
        gap_ms=max((1000 * float(np.diff(each).max()) for each in times if len(each) > 1), default=0.0),
        frames_per_s=sum(len(each) for each in times) / calls / plan.seconds,
        others_ms=others_ms,
        state=state,
    )


def _talks_for_ever(babble: str) -> dict[str, Any]:
    """Speech in bursts of one second, a tenth faster than real time, whatever the caller says."""
    return {
        "greeting": {"kind": "wav", "file": babble},
        "pace": {"speed": 1.1, "burst_s": 1.0, "latency_ms": 0},
        "barge_in": False,
        "vad": {"enabled": False},
        "session": {"heard_limit_s": 60.0},
    }


def _report(blocks: dict[str, list[_Block]], callers: str) -> Measure:
    sizes = sorted({block.calls for found in blocks.values() for block in found})
    table = Table(
        "CPU of the process, ms for each call-second of constant talk both ways (median of rounds), and memory",
        ("calls, program", "ms", "added", "rounds", "others", "busy %", "late p99.9", "frames/s", "wakes/s", "MB", ""),
    )
    table.notes.append(f"others: callers ({callers}), livekit-server, emulator")
    verdicts: list[Verdict] = []
    medians: dict[str, dict[int, float]] = {kind: {} for kind in blocks}
    memory: dict[str, dict[int, float]] = {kind: {} for kind in blocks}
    for calls in sizes:
        for kind, found in blocks.items():
            own = [block for block in found if block.calls == calls]
            medians[kind][calls] = float(np.median([block.cpu_ms for block in own]))
            memory[kind][calls] = float(np.median([block.resident_mb for block in own]))
            added = medians[kind][calls] - medians[_BARE][calls]
            table.rows.append(
                (
                    f"{calls} {kind}",
                    f"{medians[kind][calls]:.1f}",
                    "" if kind == _BARE else f"{added:+.1f}",
                    " ".join(f"{block.cpu_ms:.0f}" for block in own),
                    f"{np.median([sum(block.others_ms.values()) for block in own]):.0f}",
                    f"{np.median([block.load.busy_percent for block in own]):.0f}",
                    f"{max(block.lateness.p999 for block in own):.1f}",
                    f"{np.median([block.frames_per_s for block in own]):.1f}",
                    f"{np.median([block.wakeups for block in own]):.0f}",
                    f"{memory[kind][calls]:.0f}",
                    " ".join(block.load.marks or "-" for block in own),
                )
            )
            if kind != _BARE:
                verdicts.append(Verdict(f"{kind} CPU added at {calls} calls", added, "ms/s", _TARGET_ADDED_MS))
    for kind in blocks:
        flat = [medians[kind][calls] for calls in sizes if calls >= _FLAT_FROM]
        grown = 100 * (max(flat) / min(flat) - 1) if flat else 0.0
        first, last = sizes[0], sizes[-1]
        each_mb = (memory[kind][last] - memory[kind][first]) / (last - first) if last > first else 0.0
        table.notes.append(f"{kind}: {grown:.0f} % apart from {_FLAT_FROM} calls on, memory {each_mb:.1f} MB a call")
        if kind == _BARE:
            continue
        if len(flat) > 1:
            verdicts.append(Verdict(f"{kind} CPU apart from {_FLAT_FROM} calls on", grown, "%", _TARGET_GROWTH_PERCENT))
        if last > first:
            verdicts.append(Verdict(f"{kind} memory for each added call", each_mb, "MB", _TARGET_CALL_MB))
        table.notes.append(f"{kind}: {_faults(blocks[kind])}")
    results: dict[str, object] = {"blocks": blocks, "cpu_ms": medians, "resident_mb": memory}
    return Measure("load", [table], verdicts, results)


def _faults(blocks: list[_Block]) -> str:
    """Counters of all blocks, and tasks for each call."""
    counts = {name: sum(block.state["counters"].get(name, 0) for block in blocks) for name in _COUNTERS}
    tasks = float(np.median([block.state["tasks_per_call"] for block in blocks]))
    return ", ".join((*(f"{name} {count:g}" for name, count in counts.items()), f"tasks for each call {tasks:.1f}"))
