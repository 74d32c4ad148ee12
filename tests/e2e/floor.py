"""The bare SDK beside the bridge, in the same room at the same time: how well anybody at all would be heard there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.crew import Worker
from bench.markers import Capture, sound
from bench.stage import BRIDGE
from bridge.demo.server import LocalServer
from tests.e2e.audio import Samples, from_pcm

__all__ = ["VOICE_HZ", "Floor", "bare_floor"]

VOICE_HZ = 24_000
_VOICE, _EAR = "floor", "listener"


class Floor:
    """A bare voice, and an ear that hears it and the bridge. Neither is of the bridge's audience: name that."""

    def __init__(self, ear: Worker, voice: Worker, folder: Path) -> None:
        self._ear = ear
        self._voice = voice
        self._folder = folder

    async def speak(self, seed: int, duration_ms: float) -> float:
        """Begin a sound like the bridge's own, through a queue as deep. Returns when, CLOCK_MONOTONIC s."""
        return float((await self._voice.ask("speak", seed=seed, duration_ms=duration_ms))["at"])

    async def hush(self) -> float:
        """`clear_queue()` now. Returns the moment before."""
        return float((await self._voice.ask("hush"))["at"])

    async def heard(self) -> tuple[Capture, Capture]:
        """What the ear has heard of the bridge and of the bare voice."""
        files = (await self._ear.ask("harvest", folder=str(self._folder)))["files"]
        return Capture.load(files[BRIDGE]), Capture.load(files[_VOICE])

    @staticmethod
    def sound(seed: int, duration_ms: float) -> Samples:
        """What `speak` says, at VOICE_HZ."""
        return from_pcm(sound(seed, VOICE_HZ, duration_ms).tobytes())


@asynccontextmanager
async def bare_floor(server: LocalServer, room: str, folder: Path) -> AsyncIterator[Floor]:
    """Both joined, and the ear hears the bare voice and the bridge, which has to be there."""
    async with Worker("bare", name=f"{room}-{_EAR}") as ear, Worker("bare", name=f"{room}-{_VOICE}") as voice:

        async def join(worker: Worker, identity: str, publish_hz: int, hear: tuple[str, ...]) -> None:
            seat = (server.url, server.participant_token(room, identity))
            await worker.ask("join", rooms=[seat], publish_hz=publish_hz, hear=hear, keep=True)

        await join(voice, _VOICE, VOICE_HZ, ())
        await join(ear, _EAR, 0, (BRIDGE, _VOICE))
        await ear.ask("hears", identities=[BRIDGE, _VOICE])
        yield Floor(ear, voice, folder)
