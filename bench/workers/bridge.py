"""The bridge as `roombridge join` runs it, with a clock at the seam between bridge and room."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Mapping
from typing import Any

from bench.workers.serve import Handler, main, until
from bridge.app import Process, make_model, make_room
from bridge.config import load
from bridge.core.words import Activity, AgentState, Caption
from bridge.transports.contract import Transport, TransportCapabilities, TransportListener

_STOP_TIMEOUT_S = 10.0
_JOIN_TIMEOUT_S = 30.0


class _Timed:
    """A room that notes when it was told to play and to flush, and how long that took."""

    def __init__(self, room: Transport, plays: list[float], flushes: list[tuple[float, float]]) -> None:
        self._room = room
        self._plays = plays
        self._flushes = flushes

    @property
    def capabilities(self) -> TransportCapabilities:
        return self._room.capabilities

    async def open(self, listener: TransportListener) -> None:
        await self._room.open(listener)

    async def close(self) -> None:
        await self._room.close()

    def play(self, audio: bytes) -> None:
        self._plays.append(time.monotonic())
        self._room.play(audio)

    def flush(self) -> None:
        began = time.monotonic()
        self._room.flush()
        self._flushes.append((began, time.monotonic()))

    def queued_ms(self, now: float) -> float:
        return self._room.queued_ms(now)

    def show_caption(self, caption: Caption) -> None:
        self._room.show_caption(caption)

    def show_activity(self, activity: Activity) -> None:
        self._room.show_activity(activity)

    def show_state(self, state: AgentState) -> None:
        self._room.show_state(state)

    def counters(self) -> dict[str, int]:
        return self._room.counters()


class _Bridges:
    """All calls of this process."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._process = Process()
        self._serving: asyncio.Task[Any] | None = None
        self._plays: list[float] = []
        self._flushes: list[tuple[float, float]] = []
        self._idle_tasks = 0

    def handlers(self) -> Mapping[str, Handler]:
        return {"join": self.join, "played": self.played, "state": self.state, "leave": self.leave}

    async def join(
        self,
        provider: str,
        environ: dict[str, str],
        rooms: list[str],
        settings: dict[str, Any] | None = None,
        timed: bool = False,
    ) -> dict[str, Any]:
        """Join each room with a model of its own; returns once all have joined. `settings` are as in the file."""
        self._plays.clear()
        self._flushes.clear()
        self._idle_tasks = len(asyncio.all_tasks())
        self._process = Process()
        calls: dict[str, Any] = {}
        for name in rooms:
            said: dict[str, Any] = {
                **(settings or {}),
                "provider": provider,
                "livekit": {"room": name, "close_on": "never"},
                "call": {"drain_s": 0.0},
            }
            config = load(None, environ, said)
            room: Transport = make_room(config, environ)
            if timed:
                room = _Timed(room, self._plays, self._flushes)
            calls[name] = (room, make_model(config, environ), config, ())
        self._serving = self._group.create_task(self._process.serve(calls), name="serve")
        process = self._process
        await until(lambda: len(process.bridges) == len(rooms) or bool(process.ended), _JOIN_TIMEOUT_S)
        if process.ended:
            raise RuntimeError(f"a call ended before all had joined: {process.ended[0]}")
        return {"at": time.monotonic()}

    async def played(self) -> dict[str, Any]:
        """When the room was told to play, and when each flush began and returned."""
        return {"plays": self._plays, "flushes": self._flushes}

    async def state(self) -> dict[str, Any]:
        """Counters of all calls together, tasks for each call, and the peak of memory."""
        together: dict[str, float] = {}
        worst: dict[str, float] = {}
        for bridge in self._process.bridges.values():
            for name, value in bridge.snapshot().counters.items():
                if name.endswith("worst_late_ms"):
                    worst[name] = max(worst.get(name, 0.0), float(value))
                else:
                    together[name] = together.get(name, 0.0) + value
        calls = max(1, len(self._process.bridges))
        return {
            "counters": {**together, **worst},
            "calls": len(self._process.bridges),
            "tasks_per_call": (len(asyncio.all_tasks()) - self._idle_tasks) / calls,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
            "pid": os.getpid(),
        }

    async def leave(self) -> None:
        """End every call."""
        self._process.stop()
        if self._serving is not None:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await asyncio.wait((self._serving,))
            self._serving = None


if __name__ == "__main__":
    main(lambda group: _Bridges(group).handlers())
