"""`make soak`: calls on a real livekit-server whose model sessions meet a fault every 20 s. Does anything grow?

make soak                                 a simulated day (about a quarter of an hour), then half an hour of five calls
make soak SOAK_HOURS=1 SOAK_MINUTES=2     shorter
make soak ARGS="--calls 2 --seed 7"

Bridges run in this process, and nothing else does: callers, server and emulated services are processes of their own.
Every fault is one of a seeded schedule: `roombridge emulate --chaos SEED` lets the same ones happen.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar

import click
import msgspec
import numpy as np
import psutil

from bench.babble import write_turns
from bench.crew import CACHE, Worker, WorkerFailed
from bench.figures import Table, Verdict
from bench.load import Callers
from bench.stage import Stage
from bench.vendors import VENDORS
from bridge.core.errors import BridgeError
from bridge.demo.server import LocalServer, ServerNotFound, ServerNotReady
from bridge.facade import RoomBridge
from bridge.transports.livekit_room import LiveKitRoom, LiveKitSettings
from providers.catalog import PROVIDERS
from providers.settings import ConnectionSettings, SpeechSettings, TurnDetectionSettings

__all__ = ["Sample", "descriptors", "heap_mb", "main", "slope_mb"]

_WARM_UP_S = 600.0
"""The allocator's heap has its size once every call has met its longest outage, in which it keeps the most speech."""
_EVERY_S = 5.0
_SETTLE_S = 20.0
"""Name look-ups of libwebrtc outlive a call by some seconds."""
_TARGET_SLOPE_MB = 1.0
_SCENARIO: dict[str, Any] = {
    "answer": {"kind": "repeat"},
    "pace": {"speed": 2.0, "latency_ms": 300},
    "session": {
        "connect_delay_ms": 500,
        "setup_delay_ms": 300,
        "go_away_s": 110.0,
        "time_left_s": 10.0,
        "heard_limit_s": 15.0,
    },
}
_PROVIDERS = ("gemini", "openai")
_COUNTERS = (
    "sessions.sessions_opened",
    "sessions.sessions_lost",
    "sessions.changes",
    "sessions.changes_forced",
    "sessions.resumes_refused",
    "conversation.replies",
    "first_words.first_words_dropped_frames",
    "first_words.replayed_frames",
    "outbox.dropped_audio_messages",
    "playout.underruns",
)


def descriptors() -> Counter[str]:
    """What each open file descriptor of this process is: files by name, sockets by kind, ends and state."""
    ends = {}
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            ends[fields[9]] = f"{kind} {_port(fields[1])} to {_port(fields[2])} state {fields[3]}"
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        ends[fields[6]] = f"unix type {fields[4]} state {fields[5]} {' '.join(fields[7:])}".rstrip()
    found: Counter[str] = Counter()
    for entry in os.scandir("/proc/self/fd"):
        try:
            target = os.readlink(entry.path)
        except OSError:
            continue  # the listing's own
        inode = target.removeprefix("socket:[").removesuffix("]")
        found[ends.get(inode, "socket of another kind") if target.startswith("socket:") else target] += 1
    return found


def _port(end: str) -> int:
    return int(end.rpartition(":")[2], 16)


class Sample(msgspec.Struct, frozen=True):
    """What this process holds at one moment."""

    at_s: float
    resident_mb: float
    heap_mb: float
    """In use, of what the C library's allocator has given out; small Python objects are not in it. 0: not known."""
    tasks: int
    fds: int
    threads: int
    handles: int
    """Native objects of the LiveKit SDK, and what our dispatcher has registered."""


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def heap_mb() -> float:
    """What is in use of the allocator's arenas and mappings, MB; 0 where the C library does not tell."""
    told = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if told is None:
        return 0.0
    told.restype = _MallInfo
    info = told()
    return float(info.uordblks + info.hblkhd) / 1e6


def slope_mb(samples: Sequence[Sample], *, after_s: float, each_s: float = 600.0, of: str = "resident_mb") -> float:
    """By how much resident memory grows in `each_s`, MB, by the line that fits best. 0 with fewer than three."""
    used = [sample for sample in samples if sample.at_s >= after_s]
    if len(used) < 3:
        return 0.0
    line = np.polyfit([sample.at_s for sample in used], [getattr(sample, of) for sample in used], 1)
    return float(line[0]) * each_s


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", default=30.0, show_default=True, envvar="SOAK_MINUTES", type=click.FloatRange(0.5, 10_000))
@click.option("--calls", default=5, show_default=True, type=click.IntRange(1, 50), help="At once.")
@click.option("--every-s", default=20.0, show_default=True, type=click.FloatRange(1, 3600), help="From fault to fault.")
@click.option("--seed", default=1, show_default=True, help="Of the faults.")
def main(minutes: float, calls: int, every_s: float, seed: int) -> None:
    """Keep calls up through faults, and tell what grew."""
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            kept = runner.run(_soak(minutes * 60, calls, every_s, seed))
    except (ServerNotFound, ServerNotReady, WorkerFailed) as error:
        raise click.ClickException(str(error)) from None
    sys.exit(0 if kept else 1)


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _soak(seconds: float, calls: int, every_s: float, seed: int) -> bool:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(LocalServer())
        stage = Stage(server)
        urls: dict[str, str] = {}
        emulators = []
        for provider in _PROVIDERS:
            worker = await stack.enter_async_context(Worker("emulator", name=f"soak-{provider}"))
            environ = (await worker.ask("start", provider=provider))["environ"]
            await worker.ask("scenario", scenario=_SCENARIO)
            urls[provider] = environ[VENDORS[provider].base_url]
            emulators.append(worker)
        turns = write_turns(CACHE / "turns.wav")
        # Callers of the SDK: the light ones of the load test are made for windows of some seconds, and a livekit-server
        # puts them out after a minute.
        callers = Callers(str(turns), None, None)
        # What is made once in a process, by its first calls, is no growth. Somebody must speak in them: with the first
        # voice that it hears libwebrtc keeps five threads, a pipe and an epoll, in a program of the bare SDK too.
        rooms = stage.rooms(calls)
        async with callers.enter([stage.seat(room, "caller") for room in rooms]):
            warm = [_call(stage, _PROVIDERS[place % 2], urls, room) for place, room in enumerate(rooms)]
            await asyncio.gather(*(_talk(bridge, 10.0) for bridge in warm))
        await asyncio.sleep(_SETTLE_S)
        before, open_before = _sample(0.0), descriptors()
        rooms = stage.rooms(calls)
        bridges = [_call(stage, _PROVIDERS[place % 2], urls, room) for place, room in enumerate(rooms)]
        samples: list[Sample] = []
        counters: Counter[str] = Counter()
        async with callers.enter([stage.seat(room, "caller") for room in rooms]):
            for place, worker in enumerate(emulators):
                await worker.ask("chaos", seed=seed + place, every_s=every_s * len(emulators))
            async with asyncio.TaskGroup() as group:
                group.create_task(_watch(samples, seconds), name="watch")
                talking = [group.create_task(_talk(bridge, seconds, counters), name=bridge.name) for bridge in bridges]
            ended = [task.result() for task in talking]
        strokes = [line for worker in emulators for line in (await worker.ask("strokes"))["strokes"]]
        await asyncio.sleep(_SETTLE_S)
        after = _sample(seconds)
        for name, count in (descriptors() - open_before).items():
            click.echo(f"open now, and not before: {count} of {name}")
    return _tell(samples, before, after, counters, strokes, [reason for reason in ended if reason])


def _call(stage: Stage, provider: str, urls: Mapping[str, str], room: str) -> RoomBridge:
    entry, environ = PROVIDERS[provider], stage.environ
    speech = SpeechSettings(turn_detection=TurnDetectionSettings(silence_ms=500))
    keys = {VENDORS[provider].key: "soak"}
    own = entry.settings_type()(base_url=urls[provider])
    model = entry.connector(speech, own, ConnectionSettings(), keys)
    transport = LiveKitRoom(
        LiveKitSettings(url=environ["LIVEKIT_URL"], room=room),
        api_key=environ["LIVEKIT_API_KEY"],
        api_secret=environ["LIVEKIT_API_SECRET"],
    )
    return RoomBridge(transport, model, name=f"{room}-{provider}")


async def _talk(bridge: RoomBridge, seconds: float, counters: Counter[str] | None = None) -> str:
    """One call, for so long. Returns why it ended before its time, empty if it did not."""
    try:
        async with bridge:
            try:
                async with asyncio.timeout(seconds):
                    reason = await bridge.run()
                click.echo(f"ended early: {bridge.name}: {reason}")
                return f"{bridge.name}: {reason}"
            except TimeoutError:
                return ""
            finally:
                if counters is not None:
                    counters.update({name: int(bridge.snapshot().counters.get(name, 0)) for name in _COUNTERS})
    except BridgeError as error:
        click.echo(f"ended early: {bridge.name}: {error}")
        return f"{bridge.name}: {error}"


async def _watch(samples: list[Sample], seconds: float) -> None:
    began = time.monotonic()
    while (at_s := time.monotonic() - began) < seconds - _EVERY_S:
        samples.append(_sample(at_s))
        if len(samples) % 12 == 0:
            newest = samples[-1]
            held = f"{newest.resident_mb:.1f} MB, heap {newest.heap_mb:.1f} MB, {newest.tasks} tasks"
            click.echo(f"{at_s / 60:.0f} min: {held}")
        await asyncio.sleep(_EVERY_S)


def _sample(at_s: float) -> Sample:
    from bridge.transports.livekit_room import ffi

    gc.collect()
    hub = ffi.hub()
    registered = sum(hub.in_use().values()) if hub is not None else 0
    process = psutil.Process(os.getpid())
    return Sample(
        at_s=at_s,
        resident_mb=process.memory_info().rss / 1e6,
        heap_mb=heap_mb(),
        tasks=len(asyncio.all_tasks()),
        fds=process.num_fds(),
        threads=process.num_threads(),
        handles=ffi.live_handles() + registered,
    )


def _tell(
    samples: Sequence[Sample],
    before: Sample,
    after: Sample,
    counters: Mapping[str, int],
    strokes: Sequence[str],
    ended: Sequence[str],
) -> bool:
    warm_s = min(_WARM_UP_S, samples[-1].at_s / 3) if samples else 0.0
    held = Table("What the process holds, without a call", ("", "before", "after"))
    held.rows = [
        (name, f"{getattr(before, name):g}", f"{getattr(after, name):g}")
        for name in ("resident_mb", "heap_mb", "tasks", "fds", "threads", "handles")
    ]
    held.notes = [f"the heap in use grew by {slope_mb(samples, after_s=warm_s, of='heap_mb'):.2f} MB in 10 min"]
    happened = Table("What happened, all calls together", ("", "times"))
    kinds = Counter(line.split(" at_s=")[1].split()[1].rstrip(":") for line in strokes)
    happened.rows = [(f"fault {kind}", str(count)) for kind, count in sorted(kinds.items())]
    happened.rows += [(name, str(counters[name])) for name in _COUNTERS if name in counters]
    happened.notes = [f"ended early: {reason}" for reason in ended]
    verdicts = [
        Verdict(
            "resident memory, growth after warm-up", slope_mb(samples, after_s=warm_s), "MB/10 min", _TARGET_SLOPE_MB
        ),
        *(
            Verdict(f"{name} more than before", getattr(after, name) - getattr(before, name), "", 0)
            for name in ("tasks", "fds", "handles")
        ),
        Verdict("calls that ended early", len(ended), "", 0),
    ]
    for table in (held, happened):
        click.echo(table.text())
    click.echo("")
    for verdict in verdicts:
        click.echo(verdict.line())
    return all(verdict.kept for verdict in verdicts)


if __name__ == "__main__":
    main()
