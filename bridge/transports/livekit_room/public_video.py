"""Frames of one video track by the SDK's public way: it copies each frame, and its own queue holds one."""

from __future__ import annotations

import asyncio
from typing import Any

from livekit import rtc

from bridge.video.picture import Picture, Plane, Rotation

__all__ = ["PublicEye", "PublicFrame"]

_ROTATIONS: dict[Any, Rotation] = {0: 0, 1: 90, 2: 180, 3: 270}


class PublicFrame:
    """A frame that Python holds."""

    __slots__ = ("_event",)

    def __init__(self, event: rtc.VideoFrameEvent) -> None:
        self._event: rtc.VideoFrameEvent | None = event

    def picture(self) -> Picture:
        """Raises: ValueError for anything but I420, or after `release`."""
        if self._event is None or self._event.frame.type != rtc.VideoBufferType.I420:
            raise ValueError("a video frame that is not I420")
        frame = self._event.frame
        width, height, data = frame.width, frame.height, frame.data
        half = (width + 1) // 2
        luma, chroma = width * height, half * ((height + 1) // 2)
        return Picture(
            width,
            height,
            Plane(data[:luma], width),
            Plane(data[luma : luma + chroma], half),
            Plane(data[luma + chroma : luma + 2 * chroma], half),
            rotation=_ROTATIONS.get(self._event.rotation, 0),
        )

    def release(self) -> None:
        self._event = None


class PublicEye:
    """The newest frame of one remote video track. Full at one frame: the older goes, `replaced` counts it."""

    def __init__(self, tasks: asyncio.TaskGroup, track: rtc.Track) -> None:
        self.replaced = 0
        self._newest: PublicFrame | None = None
        self._stream = rtc.VideoStream(track, capacity=1, format=rtc.VideoBufferType.I420)
        self._reader: asyncio.Task[None] | None = tasks.create_task(self._read(), name=f"livekit:eye:{track.sid}")

    async def _read(self) -> None:
        async for event in self._stream:
            self.replaced += self._newest is not None
            self._newest = PublicFrame(event)

    def take(self) -> PublicFrame | None:
        newest, self._newest = self._newest, None
        return newest

    async def aclose(self) -> None:
        """Stop the stream. Safe to call twice."""
        reader, self._reader = self._reader, None  # a cancelled task holds its frame, and that holds us
        if reader is not None:
            reader.cancel()
            await asyncio.wait((reader,))
            await self._stream.aclose()
        self._newest = None
