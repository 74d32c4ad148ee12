"""A whole call in a LiveKit room, as a program of its own: server, bridge, emulated model here, the caller elsewhere.

Run in a network namespace, by `bench.crew.Worker`; it obeys JSON lines. The caller's client is the bare SDK.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from bench.crew import Worker
from bench.stage import BRIDGE
from bench.workers.serve import Handler, main
from bridge.demo.server import LocalServer
from providers.scripted.scenario import Scenario
from tests.e2e.bad_lines import model_ear, says
from tests.e2e.calls import EmulatedCall, emulated_call, until

_ROOM = "bad-room"
_HZ = 48_000


class _Room:
    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._caller: Worker | None = None
        self._call: EmulatedCall | None = None
        self._wav = ""

    def handlers(self) -> Mapping[str, Handler]:
        return {"open": self.open, "say": self.say, "harvest": self.harvest, "close": self.close}

    async def open(self, host: str, through: list[str], wav: str) -> None:
        """Everybody is there, and hears everybody."""
        enter = self._stack.enter_async_context
        server = await enter(LocalServer(host=host, media_over_tcp=False))
        caller = await enter(Worker("bare", name="bad-room-caller", through=through))
        seat = (server.url, server.participant_token(_ROOM, "caller"))
        await caller.ask("join", rooms=[seat], publish_hz=_HZ, hear=[BRIDGE], keep=True)
        scenario = msgspec.convert(says(wav), Scenario)
        self._call = await enter(emulated_call(server, _ROOM, "openai", scenario))
        await caller.ask("hears", identities=[BRIDGE])
        self._caller, self._wav = caller, wav

    async def say(self) -> None:
        """The model has begun by itself; the caller does as soon as it has."""
        assert self._call is not None and self._caller is not None, "opened before"
        room = self._call.room
        await until(lambda: len(room.played) > 0)
        await self._caller.ask("say", wav_file=self._wav)

    async def harvest(self, folder: str) -> dict[str, Any]:
        """Save what the model and the caller have heard."""
        call, caller = self._call, self._caller
        assert call is not None and caller is not None, "opened before"
        model = os.path.join(folder, "model.npz")
        (await model_ear(lambda: call.emulator.connections[-1])()).save(model)
        files = (await caller.ask("harvest", folder=folder))["files"]
        return {"model": model, "caller": files[BRIDGE], "told": str({k: v for k, v in call.counters().items() if v})}

    async def close(self) -> None:
        await self._stack.aclose()


def _make(_: asyncio.TaskGroup) -> Mapping[str, Handler]:
    return _Room().handlers()


if __name__ == "__main__":
    main(_make)
