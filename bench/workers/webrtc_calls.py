"""The process that is measured: direct calls with a model behind, and models over WebRTC with a room of its own."""

from __future__ import annotations

import asyncio
import os
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.workers.serve import Handler, main, until
from bridge.app import Process, make_model
from bridge.config import read
from bridge.facade import RoomBridge
from bridge.serve import Serving
from bridge.transports.loopback import LoopbackRoom
from providers.signal import wav

_HZ = 24_000
_FRAME = _HZ // 50 * 2
_KEY = {"OPENAI_API_KEY": "bench"}


class _Room(LoopbackRoom):
    """Writes what sounds to a file, and keeps only when: its memory would be taken for the bridge's."""

    def __init__(self, path: str) -> None:
        super().__init__(keep_heard_s=1.0)
        self.path = path
        self.file = open(path, "wb", buffering=1 << 16)
        self._times = array("d")
        self._sizes = array("q")

    def play(self, audio: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self._times.append(now + self.queued_ms(now) / 1000)
        self._sizes.append(len(audio) // 2)
        self.file.write(audio)
        super().play(audio)

    def save(self) -> dict[str, str]:
        """Where its sound is, and where when."""
        self.file.flush()
        times = f"{self.path}.npz"
        np.savez(times, times=np.array(self._times), sizes=np.array(self._sizes, dtype=np.int64))
        return {"samples": self.path, "times": times}


class _Calls:
    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._process = Process()
        self._serving: Serving | None = None
        self._rooms: list[_Room] = []
        self._bridges: list[RoomBridge] = []
        self._tasks: list[asyncio.Task[Any]] = []

    def handlers(self) -> Mapping[str, Handler]:
        return {"serve": self.serve, "talk": self.talk, "ears": self.ears, "state": self.state, "leave": self.leave}

    async def serve(self, base_url: str) -> dict[str, Any]:
        """Take direct calls, with OpenAI over its WebSocket behind them."""
        told: dict[str, Any] = {
            "provider": "openai",
            "providers": {"openai": {"base_url": base_url}},
            "webrtc": {"addresses": ["127.0.0.1"]},
            "serve": {"port": 0, "page": False},
        }
        self._serving = serving = Serving(read(told, {}), _KEY, self._process, tell=lambda _: None)
        self._group.create_task(serving.run(), name="serving")
        await until(lambda: bool(serving.server.port), 10.0)
        await asyncio.sleep(0.1)
        return {"address": serving.server.address, "token": serving.address_with_token().partition("#token=")[2]}

    async def talk(self, base_url: str, count: int, talk: str, folder: str) -> dict[str, Any]:
        """Begin calls with OpenAI over WebRTC; returns when each caller began to talk."""
        told: dict[str, Any] = {
            "provider": "openai",
            "providers": {"openai": {"base_url": base_url, "transport": "webrtc"}},
        }
        pcm = wav.read(talk, _HZ).tobytes()
        began = []
        loop = asyncio.get_running_loop()
        for number in range(count):
            room = _Room(os.path.join(folder, f"room-{number}.pcm"))
            bridge = RoomBridge(room, make_model(read(told, {}), _KEY), name=f"loop-{number}")
            await bridge.__aenter__()
            self._tasks.append(self._group.create_task(bridge.run(), name=f"loop-{number}"))
            room.join("caller")
            await _led(bridge)
            began.append(loop.time())
            self._tasks.append(self._group.create_task(self._speak(room, pcm, began[-1]), name="speak"))
            self._rooms.append(room)
            self._bridges.append(bridge)
        return {"began": began}

    async def _speak(self, room: _Room, pcm: bytes, began: float) -> None:
        loop = asyncio.get_running_loop()
        for number in range(len(pcm) // _FRAME):
            await asyncio.sleep(began + number / 50 - loop.time())
            room.speak("caller", pcm[number * _FRAME : (number + 1) * _FRAME])

    async def ears(self) -> dict[str, Any]:
        """What sounded in each in-process room, and when."""
        return {"rooms": [room.save() for room in self._rooms]}

    async def state(self) -> dict[str, Any]:
        """Counters of each call, and tasks of the process."""
        bridges = [*self._process.bridges.values(), *self._bridges]
        return {"calls": [bridge.snapshot().counters for bridge in bridges], "tasks": len(asyncio.all_tasks())}

    async def leave(self) -> None:
        """End every call; go on serving."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for bridge in self._bridges:
            await bridge.__aexit__(None, None, None)
        for room in self._rooms:
            room.file.close()
        self._tasks.clear()
        self._rooms.clear()
        self._bridges.clear()
        await until(lambda: not self._process.bridges, 15.0)


async def _led(bridge: RoomBridge) -> None:
    await until(lambda: bridge.leader is not None, 20.0)


if __name__ == "__main__":
    main(lambda group: _Calls(group).handlers())
