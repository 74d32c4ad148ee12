"""Calls over WebRTC for ten minutes: do clocks drift, does sound have holes, how late is it, and what does it cost?

One process has two direct calls, with a model over a WebSocket behind, and two calls with a model over WebRTC, with an
in-process room before: four connections. Callers and emulated service are processes of their own. Everybody talks, with
a pause of one second in five; a marker in each of these five seconds tells how late. The floor is a program of plain
aiortc alone that says back what it hears, with as many connections, in the same run.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.babble import BABBLE_HZ, write_babble
from bench.crew import CACHE, Worker
from bench.figures import Measure, Spread, Table, Verdict, spread
from bench.host import HostClock, Load, ProcessClock
from bench.markers import Capture, find, sound
from bench.rtp_clock import ClockReport
from bench.stage import Plan
from providers.signal import wav

__all__ = ["holes_ms", "measure", "write_talk"]

_EACH = 2
_CONNECTIONS = 2 * _EACH
_SEED, _SEEDS = 5000, 4
"""So many markers take turns: of the many that there could be, some are hard to know again after 32 kbit/s."""
_FIRST_S, _EVERY_S = 2.0, 5.0
_PAUSE_AT_S, _PAUSE_S = 4.0, 1.0
_WARM_S, _REST_S, _SETTLE_S = 8.0, 10.0, 5.0
_SPARE_S = 20.0
"""Of talk, beyond what is measured: calls begin one after the other."""
_FLOOR_S = 60.0
_SAMPLE_S = 15.0
_LONG_S = 300.0
"""For what takes a worker long: ten minutes of sound are written to a file."""
_TARGET_DRIFT_MS, _TARGET_HOLE_MS = 20.0, 20.0
_QUIET = 10 ** (-50 / 20) * 32768


class _Held(msgspec.Struct, frozen=True):
    """What the process holds, without a call."""

    resident_mb: float
    descriptors: int
    threads: int


class _Way(msgspec.Struct, frozen=True):
    """One call, one way."""

    call: str
    late: Spread
    """Of the markers, ms."""
    said: int
    """Markers that should have been heard."""
    drift_ms: float
    """How much later markers came in the last tenth than in the first, by medians."""
    holes: list[float]
    """Silence within the talk, ms each."""


async def measure(plan: Plan) -> Measure:
    """Both programs, one after the other."""
    seconds = plan.minutes * 60
    talk = write_talk(CACHE / f"webrtc-{seconds:.0f}.wav", seconds + _SPARE_S)
    with tempfile.TemporaryDirectory() as folder:
        ours = await _calls(talk, seconds, folder)
        floor = await _echo(talk, min(_FLOOR_S, seconds), folder)
    return _report(ours, floor)


def write_talk(path: Path, seconds: float) -> Path:
    """Babble with a marker and a pause each five seconds."""
    babble = np.resize(wav.read(write_babble(CACHE / "babble.wav", 120.0), BABBLE_HZ), int(seconds * BABBLE_HZ))
    for number, at_s in enumerate(_marker_times(seconds)):
        marker = sound(_SEED + number % _SEEDS, BABBLE_HZ)
        start = int(at_s * BABBLE_HZ)
        babble[start : start + len(marker)] = marker
    for at_s in np.arange(_PAUSE_AT_S, seconds, _EVERY_S):
        babble[int(at_s * BABBLE_HZ) : int((at_s + _PAUSE_S) * BABBLE_HZ)] = 0
    wav.write(path, babble.tobytes(), BABBLE_HZ)
    return path


def _marker_times(seconds: float) -> list[float]:
    return [float(at_s) for at_s in np.arange(_FIRST_S, seconds - 1.0, _EVERY_S)]


def holes_ms(
    samples: np.ndarray[Any, np.dtype[np.int16]], rate_hz: int, over_ms: float = _TARGET_HOLE_MS
) -> list[float]:
    """Stretches of silence longer than that, but for the pauses of the talk, and what is cut off at its ends."""
    block = rate_hz // 200
    blocks = samples[: len(samples) // block * block].reshape(-1, block).astype(np.float64)
    quiet = np.concatenate(([False], np.sqrt(np.mean(blocks * blocks, axis=1)) < _QUIET, [False]))
    edges = np.flatnonzero(np.diff(quiet.astype(np.int8)))
    runs = zip(edges[::2], edges[1::2], strict=True)
    lengths = [(end - start) * 5.0 for start, end in runs if 0 < start and end < len(blocks)]
    return [float(length) for length in lengths if over_ms < length < _PAUSE_S * 500]


class _Ours(msgspec.Struct):
    load: Load
    cpu_ms: float
    threads_ms: dict[str, float]
    clocks: dict[str, ClockReport]
    ways: list[_Way]
    before: _Held
    after: _Held
    memory_mb: list[float]
    concealed_ms: dict[str, list[float]]
    counters: list[dict[str, float]]


async def _calls(talk: Path, seconds: float, folder: str) -> _Ours:
    async with (
        Worker("emulator", name="webrtc-emulator") as emulator,
        Worker("webrtc_calls", name="webrtc-calls") as calls,
        Worker("webrtc_callers", name="webrtc-callers") as callers,
    ):
        base_url = (await emulator.ask("start", provider="openai"))["environ"]["OPENAI_BASE_URL"]
        await emulator.ask("watch")
        served = await calls.ask("serve", base_url=base_url)

        async def begin() -> list[float]:
            await emulator.ask("scenario", scenario=_scenario(talk, seconds), timeout_s=_LONG_S)
            where: dict[str, Any] = {"count": _EACH, "talk": str(talk)}
            direct = (await callers.ask("call", **served, **where))["began"]
            return [*direct, *(await calls.ask("talk", base_url=base_url, folder=folder, **where))["began"]]

        async def leave() -> None:
            await callers.ask("leave")
            await calls.ask("leave")
            await asyncio.sleep(_REST_S)

        # What is made once in a process, by its first calls, is no growth.
        await begin()
        await asyncio.sleep(_WARM_S)
        await leave()
        before = _held(calls.pid)
        began = await begin()
        await asyncio.sleep(_SETTLE_S)
        host, process, from_at = HostClock(), ProcessClock(calls.pid), time.monotonic()
        memory_mb = []
        while (left_s := from_at + seconds - time.monotonic()) > 0:
            memory_mb.append(process.resident_mb())
            await asyncio.sleep(min(_SAMPLE_S, left_s))
        until_at = time.monotonic()
        call_seconds = (until_at - from_at) * _CONNECTIONS
        cpu_ms = 1000 * process.cpu_s() / call_seconds
        threads_ms = {name: 1000 * spent / call_seconds for name, spent in process.cpu_s_by_thread().items()}
        load = host.load()
        counters = (await calls.ask("state"))["calls"]
        window = {"from_at": from_at, "until_at": until_at}
        sent = {
            "to the caller": (await callers.ask("clocks", **window))["clocks"],
            "to the service": (seen := await emulator.ask("clocks", **window))["clocks"],
        }
        ears = await callers.ask("ears", folder=folder, timeout_s=_LONG_S)
        rooms = (await calls.ask("ears"))["rooms"]
        models = [str(Path(folder, f"model-{number}.npz")) for number in range(_CONNECTIONS)]
        for number, path in enumerate(models):
            await emulator.ask("harvest", path=path, connection=number, timeout_s=_LONG_S)
        spoke: dict[int, float] = {}
        for number, at, what in (await emulator.ask("said", timeout_s=_LONG_S))["said"]:
            if what == "speech":
                spoke.setdefault(number, at)
        await leave()
        after = _held(calls.pid)
    names = [f"direct {n + 1}" for n in range(_EACH)] + [f"OpenAI over WebRTC {n + 1}" for n in range(_EACH)]
    answered = [spoke[number] for number in sorted(spoke)]
    heard = [*(Capture.load(path) for path in ears["files"]), *(_room_ear(**room) for room in rooms)]
    ways = [
        await asyncio.to_thread(_way, f"{name}, {way}", ear, start, (from_at, until_at))
        for way, heard_by, starts in (
            ("to the model", map(Capture.load, models), began),
            ("from the model", heard, answered),
        )
        for name, ear, start in zip(names, heard_by, starts, strict=True)
    ]
    return _Ours(
        load=load,
        cpu_ms=cpu_ms,
        threads_ms=threads_ms,
        clocks={
            f"{where} {number + 1}": msgspec.convert(clock, ClockReport)
            for where, found in sent.items()
            for number, clock in enumerate(found)
        },
        ways=ways,
        before=before,
        after=after,
        memory_mb=memory_mb,
        concealed_ms={"callers": ears["concealed_ms"], "service": seen["concealed_ms"]},
        counters=counters,
    )


def _scenario(talk: Path, seconds: float) -> Mapping[str, Any]:
    """Talks all the time, a little ahead of real time, whatever is said to it."""
    return {
        "greeting": {"kind": "wav", "file": str(talk)},
        "pace": {"speed": 1.02, "burst_s": 1.0, "latency_ms": 0},
        "barge_in": False,
        "vad": {"enabled": False},
        "session": {"heard_limit_s": seconds + 60.0},
    }


def _held(pid: int) -> _Held:
    clock = ProcessClock(pid)
    return _Held(clock.resident_mb(), sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()), clock.threads())


def _room_ear(samples: str, times: str) -> Capture:
    with np.load(times) as kept:
        sizes = kept["sizes"]
        return Capture(BABBLE_HZ, np.fromfile(samples, dtype="<i2"), np.cumsum(sizes) - sizes, kept["times"])


def _way(call: str, ear: Capture, began: float, window: tuple[float, float]) -> _Way:
    """Args: began is when the first sample was said; only what was said within the window counts."""
    from_at, until_at = window
    late: list[float] = []
    said = 0
    for number, at_s in enumerate(_marker_times(until_at - began + 60.0)):
        due = began + at_s
        if not from_at <= due < until_at - 2.0:
            continue
        said += 1
        found = find(ear, _SEED + number % _SEEDS, due - 0.3, due + 1.5)
        if found is not None:
            late.append((ear.moment(found.sample) - due) * 1000)
    part = ear.samples[ear.sample_at(from_at + 1.0) : ear.sample_at(until_at - 1.0)]
    tenth = max(1, len(late) // 10)
    drift_ms = float(np.median(late[-tenth:]) - np.median(late[:tenth])) if late else 0.0
    return _Way(call, spread(late), said, drift_ms, holes_ms(part, ear.rate_hz))


class _Floor(msgspec.Struct):
    load: Load
    cpu_ms: float
    ways: list[_Way]


async def _echo(talk: Path, seconds: float, folder: str) -> _Floor:
    async with (
        Worker("webrtc_echo", name="webrtc-echo") as echo,
        Worker("webrtc_callers", name="webrtc-echo-callers") as callers,
    ):
        offers = (await callers.ask("offer", count=_CONNECTIONS))["offers"]
        answers = (await echo.ask("answer", offers=offers))["answers"]
        began = (await callers.ask("accept", answers=answers, talk=str(talk)))["began"]
        await asyncio.sleep(_SETTLE_S)
        host, process, from_at = HostClock(), ProcessClock(echo.pid), time.monotonic()
        await asyncio.sleep(seconds)
        until_at = time.monotonic()
        cpu_ms = 1000 * process.cpu_s() / (until_at - from_at) / _CONNECTIONS
        load = host.load()
        files = (await callers.ask("ears", folder=folder, timeout_s=_LONG_S))["files"]
        await callers.ask("leave")
        await echo.ask("leave")
    ways = [
        await asyncio.to_thread(_way, f"echo {number + 1}", Capture.load(path), start, (from_at, until_at))
        for number, (path, start) in enumerate(zip(files, began, strict=True))
    ]
    return _Floor(load, cpu_ms, ways)


def _report(ours: _Ours, floor: _Floor) -> Measure:
    clocks = Table(
        "RTP clock of what the process sends, against the monotonic clock",
        ("stream", "drift ms", "widest ms", "packets", "missing", "longest gap ms"),
    )
    clocks.rows = [
        (
            name,
            f"{clock.drift_ms:.2f}",
            f"{clock.widest_ms:.2f}",
            str(clock.packets),
            str(clock.missing),
            f"{clock.longest_gap_ms:.0f}",
        )
        for name, clock in ours.clocks.items()
    ]
    sounds = Table(
        "Markers and holes", ("call", "heard", "p50 ms", "p95 ms", "worst ms", "drift ms", "holes over 20 ms")
    )
    sounds.rows = [_row(way) for way in (*ours.ways, *floor.ways)]
    sounds.notes.append("from the model: from its first speech, or from the start of its playback (WebRTC)")
    sounds.notes.append("echo: there and back")
    concealed = ", ".join(f"{where} {sum(found):.0f}" for where, found in ours.concealed_ms.items())
    sounds.notes.append(f"concealed, ms in all: {concealed}")
    costs = Table("The process", ("", "ours", "aiortc's echo"))
    costs.rows = [
        ("CPU, ms for each connection and second", f"{ours.cpu_ms:.1f}", f"{floor.cpu_ms:.1f}"),
        ("machine busy %", f"{ours.load.busy_percent:.0f}", f"{floor.load.busy_percent:.0f}"),
        ("stolen %", f"{ours.load.steal_percent:.1f}", f"{floor.load.steal_percent:.1f}"),
        ("memory without a call before, after, MB", _pair(ours, "resident_mb"), ""),
        ("descriptors before, after", _pair(ours, "descriptors"), ""),
        ("threads before, after", _pair(ours, "threads"), ""),
    ]
    if ours.memory_mb:
        costs.notes.append(f"memory during the calls: {ours.memory_mb[0]:.0f} to {ours.memory_mb[-1]:.0f} MB")
    clocks_ms = [abs(clock.widest_ms) for clock in ours.clocks.values()]
    sounds_ms = [abs(way.drift_ms) for way in ours.ways]
    verdicts = [
        Verdict("RTP clock against the monotonic clock, worst", max(clocks_ms), "ms", _TARGET_DRIFT_MS),
        Verdict("sound, last tenth against first, worst", max(sounds_ms), "ms", _TARGET_DRIFT_MS),
        Verdict("holes over 20 ms", float(sum(len(way.holes) for way in ours.ways)), "", 0.0),
        Verdict("descriptors more than before", float(ours.after.descriptors - ours.before.descriptors), "", 0.0),
    ]
    return Measure("webrtc", [clocks, sounds, costs], verdicts, {"ours": ours, "floor": floor})


def _row(way: _Way) -> Sequence[str]:
    late = way.late
    return (
        way.call,
        f"{late.count}/{way.said}",
        f"{late.p50:.1f}",
        f"{late.p95:.1f}",
        f"{late.worst:.1f}",
        f"{way.drift_ms:.1f}",
        f"{len(way.holes)}" + (f" ({max(way.holes):.0f} ms)" if way.holes else ""),
    )


def _pair(ours: _Ours, name: str) -> str:
    return f"{getattr(ours.before, name):g}, {getattr(ours.after, name):g}"
