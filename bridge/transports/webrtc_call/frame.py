"""A frame of a caller's video, as PyAV holds it, for whoever makes a picture of it."""

from __future__ import annotations

from typing import Any

from bridge.video.picture import Picture, Plane

__all__ = ["AvFrame"]

_FULL_RANGE = 2
"""FFmpeg's AVCOL_RANGE_JPEG."""


class AvFrame:
    """Holds the decoder's memory until it is released."""

    __slots__ = ("_frame",)

    def __init__(self, frame: Any) -> None:
        self._frame: Any | None = frame

    def picture(self) -> Picture:
        """In a thread: a frame of another pixel format is converted. Raises: ValueError after `release`."""
        frame = self._frame
        if frame is None:
            raise ValueError("a video frame that was given back")
        if frame.format.name not in ("yuv420p", "yuvj420p"):
            frame = self._frame = frame.reformat(format="yuv420p")
        y, u, v = (Plane(memoryview(plane).cast("B"), plane.line_size) for plane in frame.planes)
        full_range = frame.format.name == "yuvj420p" or frame.color_range == _FULL_RANGE
        return Picture(frame.width, frame.height, y, u, v, full_range=full_range)

    def release(self) -> None:
        self._frame = None
