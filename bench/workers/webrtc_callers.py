"""People who call directly: voices on a steady beat, ears that keep everything, clocks of what they receive."""

from __future__ import annotations

import asyncio
import os
from array import array
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec
import numpy as np

from bench.markers import Capture
from bench.rtp_clock import WatchedPeer
from bench.workers.serve import Handler, main
from providers.signal import wav
from providers.webrtc.peer import PeerSettings

_HZ = 24_000
_FRAME = _HZ // 50 * 2
_SILENCE = bytes(_FRAME)
_LEAD_MS = 15.0
_SETTINGS = PeerSettings(addresses=("127.0.0.1",))


class _Caller:
    def __init__(self, group: asyncio.TaskGroup, name: str) -> None:
        self.peer = WatchedPeer(self, _SETTINGS, name=name)
        self.began = 0.0
        self.token = ""
        self.location = ""
        self._group = group
        self._task: asyncio.Task[None] | None = None
        self._pieces: list[bytes] = []
        self._times = array("d")

    def talk(self, pcm: bytes) -> None:
        """Say it, from now on."""
        self.began = asyncio.get_running_loop().time()
        self._task = self._group.create_task(self._talk(pcm), name="talk")

    async def _talk(self, pcm: bytes) -> None:
        loop = asyncio.get_running_loop()
        for number in range(len(pcm) // _FRAME):
            await asyncio.sleep(self.began + number / 50 - loop.time())
            frame = pcm[number * _FRAME : (number + 1) * _FRAME]
            # What a late beat of ours has put into the queue is left out again in the next pause.
            if frame != _SILENCE or self.peer.queued_ms(loop.time()) < _LEAD_MS:
                self.peer.send_audio(frame)

    def capture(self) -> Capture:
        positions = np.arange(len(self._pieces), dtype=np.int64) * (_FRAME // 2)
        samples = np.frombuffer(b"".join(self._pieces), dtype="<i2")
        return Capture(_HZ, samples, positions, np.array(self._times))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        await self.peer.close()

    def peer_connected(self) -> None: ...
    def channel_open(self) -> None: ...
    def message_received(self, message: str | bytes) -> None: ...
    def video_track(self, track: Any) -> None: ...
    def peer_closed(self, reason: str) -> None: ...

    def audio_received(self, pcm: bytes, now: float) -> None:
        self._pieces.append(pcm)
        self._times.append(now)


class _Callers:
    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._callers: list[_Caller] = []

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "call": self.call,
            "offer": self.offer,
            "accept": self.accept,
            "ears": self.ears,
            "clocks": self.clocks,
            "leave": self.leave,
        }

    async def call(self, address: str, token: str, count: int, talk: str) -> dict[str, Any]:
        """Call the bridge that serves there, so many times; returns when each began to talk."""
        pcm = wav.read(talk, _HZ).tobytes()
        async with aiohttp.ClientSession() as http:
            for number in range(count):
                caller = _Caller(self._group, f"caller-{number}")
                self._callers.append(caller)
                bearer = {"Authorization": f"Bearer {token}"}
                async with http.post(f"{address}/api/tokens", json={}, headers=bearer) as given:
                    own = (await given.json())["token"]
                headers = {"Authorization": f"Bearer {own}", "Content-Type": "application/sdp"}
                offer = await caller.peer.offer("roombridge")
                async with http.post(f"{address}/api/calls", data=offer, headers=headers) as answered:
                    answer = await answered.text()
                    if answered.status != 201:
                        raise RuntimeError(f"no call: {answered.status} {answer}")
                await caller.peer.accept(answer)
                await caller.peer.connected()
                caller.talk(pcm)
        return {"began": [caller.began for caller in self._callers]}

    async def offer(self, count: int) -> dict[str, Any]:
        """Descriptions for somebody who is not asked over HTTP."""
        self._callers += [_Caller(self._group, f"caller-{number}") for number in range(count)]
        return {"offers": [await caller.peer.offer("words") for caller in self._callers]}

    async def accept(self, answers: list[str], talk: str) -> dict[str, Any]:
        """Their answers, in order; everybody talks."""
        pcm = wav.read(talk, _HZ).tobytes()
        for caller, answer in zip(self._callers, answers, strict=True):
            await caller.peer.accept(answer)
        for caller in self._callers:
            await caller.peer.connected()
            caller.talk(pcm)
        return {"began": [caller.began for caller in self._callers]}

    async def ears(self, folder: str) -> dict[str, Any]:
        """Save what each has heard."""
        files = []
        for number, caller in enumerate(self._callers):
            files.append(os.path.join(folder, f"caller-{number}.npz"))
            caller.capture().save(files[-1])
        concealed = [caller.peer.stats.jitter.concealed_ms for caller in self._callers]
        return {"files": files, "concealed_ms": concealed}

    async def clocks(self, from_at: float, until_at: float) -> dict[str, Any]:
        reports = [caller.peer.clock.report(from_at, until_at) for caller in self._callers]
        return {"clocks": msgspec.to_builtins(reports)}

    async def leave(self) -> None:
        for caller in self._callers:
            await caller.close()
        self._callers.clear()


if __name__ == "__main__":
    main(lambda group: _Callers(group).handlers())
