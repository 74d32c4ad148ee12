"""The bridge's side of a transport, for tests: keeps every frame and event, and waits for what should come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

from bridge.core.words import ParticipantId, RoomEvent
from bridge.demo.server import LocalServer
from bridge.transports.livekit_room import LiveKitRoom, LiveKitSettings

__all__ = ["RoomFactory", "TestListener", "opened_room"]

_E = TypeVar("_E")


class TestListener:
    __test__ = False

    def __init__(self) -> None:
        self.audio: dict[ParticipantId, list[bytes]] = {}
        self.times: dict[ParticipantId, list[float]] = {}
        self.events: list[RoomEvent] = []
        self._news = asyncio.Event()

    def on_audio(self, participant: ParticipantId, pcm: bytes, now: float) -> None:
        self.audio.setdefault(participant, []).append(pcm)
        self.times.setdefault(participant, []).append(now)
        self._news.set()

    def on_event(self, event: RoomEvent) -> None:
        self.events.append(event)
        self._news.set()

    def of(self, kind: type[_E]) -> list[_E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def event(self, kind: type[_E], *, count: int = 1, timeout_s: float = 10.0) -> _E:
        """The `count`-th event of this kind."""
        async with asyncio.timeout(timeout_s):
            while len(self.of(kind)) < count:
                self._news.clear()
                await self._news.wait()
        return self.of(kind)[count - 1]

    async def frames(self, who: str, count: int, *, timeout_s: float = 10.0) -> list[bytes]:
        """The participant's frames, once there are `count`."""
        async with asyncio.timeout(timeout_s):
            while len(self.audio.get(ParticipantId(who), ())) < count:
                self._news.clear()
                await self._news.wait()
        return self.audio[ParticipantId(who)]

    def pcm(self, who: str) -> bytes:
        return b"".join(self.audio.get(ParticipantId(who), ()))


class RoomFactory(Protocol):
    def __call__(self, **settings: Any) -> AbstractAsyncContextManager[tuple[LiveKitRoom, TestListener]]: ...


@asynccontextmanager
async def opened_room(
    server: LocalServer, room: str, *, listener: TestListener | None = None, **settings: Any
) -> AsyncIterator[tuple[LiveKitRoom, TestListener]]:
    chosen = LiveKitSettings(url=server.url, room=room, **settings)
    transport = LiveKitRoom(chosen, api_key=server.api_key, api_secret=server.api_secret)
    listener = listener or TestListener()
    try:
        await transport.open(listener)
        yield transport, listener
    finally:
        await transport.close()
