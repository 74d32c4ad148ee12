"""From the start of the command to the joined room, and from there to the published voice, as others in the room see
it; beside a bare SDK program."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import msgspec

from bench.crew import CACHE, ROOT, Worker
from bench.figures import Measure, Table, Verdict, spread
from bench.host import HostClock
from bench.stage import BRIDGE, Plan, Stage

__all__ = ["measure"]

_BARE = "bare"
_TARGET_S = 1.5
_GOODBYE_S = 10.0


class _Start(msgspec.Struct):
    joined_s: float
    published_s: float
    """After it had joined."""
    steal_percent: float


async def measure(stage: Stage, plan: Plan) -> Measure:
    """Start each program `rounds` + 1 times; the first, with cold files, is reported beside the others."""
    starts: dict[str, list[_Start]] = {kind: [] for kind in (_BARE, *plan.providers)}
    for _ in range(plan.rounds + 1):
        for kind, found in starts.items():
            found.append(await _start(stage, kind))
    table = Table(
        "Start of a process, s (median; first start apart)",
        ("program", "to joined", "joined to published", "together", "first"),
    )
    verdicts = []
    results: dict[str, object] = {"starts": starts}
    for kind, found in starts.items():
        first, warm = found[0].joined_s + found[0].published_s, found[1:]
        joined = spread([each.joined_s for each in warm]).p50
        published = spread([each.published_s for each in warm]).p50
        whole = spread([each.joined_s + each.published_s for each in warm]).p50
        table.rows.append((kind, f"{joined:.2f}", f"{published:.2f}", f"{whole:.2f}", f"{first:.2f}"))
        if kind != _BARE:
            verdicts.append(Verdict(f"{kind} process start to published voice", whole, "s", _TARGET_S))
    return Measure("start", [table], verdicts, results)


async def _start(stage: Stage, kind: str) -> _Start:
    room = stage.rooms(1)[0]
    async with Worker("bare", name="start-watcher") as watcher:
        await watcher.ask("join", rooms=[stage.seat(room, "watcher")], publish_hz=0)
        host = HostClock()
        if kind == _BARE:
            async with Worker(_BARE, name="start-bare") as bare:
                await bare.ask("join", rooms=[stage.seat(room, BRIDGE)], publish_hz=24_000)
                seen = await watcher.ask("sees", identity=BRIDGE)
                began = bare.started_at
                await bare.ask("leave")
        else:
            async with Worker("emulator", name="start-emulator") as emulator:
                environ = (await emulator.ask("start", provider=kind))["environ"]
                began = time.monotonic()
                process = await _command(room, kind, {**stage.environ, **environ})
                try:
                    seen = await watcher.ask("sees", identity=BRIDGE)
                finally:
                    await _end(process)
        return _Start(seen["joined"] - began, seen["published"] - seen["joined"], host.load().steal_percent)


async def _command(room: str, provider: str, environ: dict[str, str]) -> asyncio.subprocess.Process:
    """The command itself, as anybody starts it."""
    log = CACHE / "logs" / "start-bridge.log"
    with log.open("wb") as out:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from bridge.cli import main; main()",
            "join",
            "--room",
            room,
            "--provider",
            provider,
            stdout=out,
            stderr=out,
            cwd=ROOT,
            env={**os.environ, **environ},
        )


async def _end(process: asyncio.subprocess.Process) -> None:
    for stop in (process.terminate, process.kill):
        if process.returncode is None:
            stop()
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await process.wait()
                return
        except TimeoutError:
            continue
