"""The call of `near_room` with a bad network between its caller and everybody else."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.crew import Worker
from bench.markers import Capture
from tests.e2e.audio import write_wav
from tests.e2e.bad_lines import Line, impaired
from tests.e2e.programme import said
from tests.fakes.tun_line import TunLine

__all__ = ["room_call"]

_HZ = 48_000


@asynccontextmanager
async def room_call() -> AsyncIterator[Line]:
    """Someone calls the bridge through a LiveKit room."""
    with tempfile.TemporaryDirectory() as folder:
        wav = write_wav(Path(folder, "said.wav"), said(_HZ), _HZ)
        async with (
            TunLine(*impaired(3)) as line,
            Worker("tests.e2e.near_room", name="bad-room", through=line.near.through) as room,
        ):
            await room.ask("open", host=line.near.address, through=line.far.through, wav=str(wav), timeout_s=90.0)
            harvest: dict[str, str] = {}

            async def say() -> None:
                await room.ask("say")

            async def at_the_model() -> Capture:
                harvest.update(await room.ask("harvest", folder=folder))
                return Capture.load(harvest["model"])

            async def at_the_caller() -> Capture:
                return Capture.load(harvest["caller"])

            yield Line(
                say=say,
                ears={"LiveKit, to the model": at_the_model, "LiveKit, to the caller": at_the_caller},
                network=line,
                told=lambda: f"{line.up.stats} {line.down.stats} {harvest['told']}",
            )
            await room.ask("close")
