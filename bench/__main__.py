"""`make bench`: measure, print tables with what keeps its target, and leave everything in `.cache/bench/`.

make bench                                              about twenty minutes
make bench ARGS="micro"                                 one part: micro, media, start, latency, barge-in, load
make bench ARGS="latency --provider gemini --rounds 2"  a quick look
make bench ARGS="barge-in --provider gemini"
make bench ARGS="load --calls 1,5 --seconds 4"
make bench ARGS="webrtc --minutes 10"                    only if asked for: ten minutes of calls over WebRTC
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import click
import msgspec

from bench import barge_in, latency, load, media, micro, start, webrtc
from bench.crew import CACHE, WorkerFailed
from bench.figures import Measure
from bench.host import HostClock, Load, machine
from bench.stage import Plan, Stage
from bridge.demo.server import LocalServer, ServerNotFound, ServerNotReady

__all__ = ["main"]

_PARTS = ("micro", "media", "start", "latency", "barge-in", "load")
_IN_A_ROOM = {"start": start.measure, "latency": latency.measure, "barge-in": barge_in.measure, "load": load.measure}
_LONG = ("webrtc",)
"""Not among those that are measured by default."""
_PROVIDERS = ("gemini", "openai")


def _numbers(_: click.Context, __: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        numbers = tuple(sorted({int(part) for part in value.split(",")}))
    except ValueError:
        numbers = ()
    if not numbers or numbers[0] < 1:
        raise click.BadParameter(f"{value!r}: give numbers of calls such as 1,5,10")
    return numbers


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("parts", nargs=-1, type=click.Choice((*_PARTS, *_LONG)))
@click.option("--provider", "providers", multiple=True, type=click.Choice(_PROVIDERS), help="Only this.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 20), help="Whole runs.")
@click.option("--sessions", default=4, show_default=True, type=click.IntRange(1, 100), help="latency: for each round.")
@click.option("--markers", default=8, show_default=True, type=click.IntRange(1, 100), help="latency: in each session.")
@click.option(
    "--interruptions", default=50, show_default=True, type=click.IntRange(1, 1000), help="barge-in: of each provider."
)
@click.option("--calls", default="1,5,10,20", show_default=True, callback=_numbers, help="load: calls in one process.")
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(1, 60), help="load: of one window.")
@click.option("--minutes", default=10.0, show_default=True, type=click.FloatRange(0.5, 600), help="webrtc: of talk.")
def main(
    parts: tuple[str, ...],
    providers: tuple[str, ...],
    rounds: int,
    sessions: int,
    markers: int,
    interruptions: int,
    calls: tuple[int, ...],
    seconds: float,
    minutes: float,
) -> None:
    """Measure what the bridge costs beside the bare LiveKit SDK. PARTS: micro, media, start, latency, barge-in,
    load, webrtc. Default: all but webrtc."""
    plan = Plan(
        providers=providers or _PROVIDERS,
        rounds=rounds,
        sessions=sessions,
        markers=markers,
        interruptions=interruptions,
        calls=calls,
        seconds=seconds,
        minutes=minutes,
    )
    began, clock = time.monotonic(), HostClock()
    try:
        measures, broken = asyncio.run(_measure(parts or _PARTS, plan))
    except (ServerNotFound, ServerNotReady) as error:
        raise click.ClickException(str(error)) from None
    load_of_all = clock.load()
    _tell(measures, load_of_all, time.monotonic() - began)
    _keep(measures, plan, load_of_all)
    if broken:
        raise click.ClickException("\n".join(broken))


async def _measure(parts: Sequence[str], plan: Plan) -> tuple[list[Measure], list[str]]:
    """What was measured, and which parts broke off: they cost only their own figures."""
    measures: list[Measure] = []
    broken: list[str] = []
    if "micro" in parts:
        click.echo("micro ...")
        measures.append(micro.measure(plan))
    if "media" in parts:
        click.echo("media ...")
        measures.append(await media.measure(plan))
    if "webrtc" in parts:
        click.echo("webrtc ...")
        try:
            measures.append(await webrtc.measure(plan))
        except WorkerFailed as error:
            broken.append(f"webrtc broke off: {error}")
    wanted = [part for part in _IN_A_ROOM if part in parts]
    if wanted:
        async with LocalServer() as server:
            stage = Stage(server)
            for part in wanted:
                click.echo(f"{part} ...")
                try:
                    measures.append(await _IN_A_ROOM[part](stage, plan))
                except WorkerFailed as error:
                    broken.append(f"{part} broke off: {error}")
    return measures, broken


def _tell(measures: Sequence[Measure], load_of_all: Load, wall_s: float) -> None:
    for name, value in machine().items():
        click.echo(f"{name}: {value}")
    click.echo(f"took {wall_s:.0f} s; stolen {load_of_all.steal_percent:.1f} %, busy {load_of_all.busy_percent:.0f} %")
    click.echo("S: the host took more than 3 % of the time. F: the machine was full; such rows say little.")
    for measure in measures:
        for table in measure.tables:
            click.echo(table.text())
        click.echo("")
        for verdict in measure.verdicts:
            click.echo(verdict.line())


def _keep(measures: Sequence[Measure], plan: Plan, load_of_all: Load) -> None:
    now = datetime.now(UTC)
    path = CACHE / f"{now:%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"at": now.isoformat(), "machine": machine(), "plan": plan, "load": load_of_all, "measures": measures}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1))
    click.echo(f"\nall figures: {path}")


if __name__ == "__main__":
    main()
