"""A video frame as it comes from a decoder, and what holds it. Plain values: no library of images, no transport."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

__all__ = ["Picture", "Plane", "RawFrame", "Rotation"]

Rotation = Literal[0, 90, 180, 270]


class Plane(msgspec.Struct, frozen=True):
    """One plane of 8-bit samples."""

    data: bytes | bytearray | memoryview
    """At least `stride` bytes for each row but the last, which may end with its last sample."""
    stride: int


class Picture(msgspec.Struct, frozen=True):
    """A frame in I420: luma in full, both chroma planes of half the width and height, rounded up."""

    width: int
    """Of the luma plane, before rotation, px."""
    height: int
    y: Plane
    u: Plane
    v: Plane
    rotation: Rotation = 0
    """To be turned so far clockwise before it is looked at, degrees."""
    full_range: bool = False
    """Samples from 0 to 255; else luma from 16 to 235 and chroma from 16 to 240, as video mostly is."""


class RawFrame(Protocol):
    """A frame still held by whoever decoded it. One thread after the other uses it; any of them releases it."""

    def picture(self) -> Picture:
        """What is in it. Its planes are good until `release`. Raises ValueError for one that cannot be used."""
        ...

    def release(self) -> None:
        """Give it back. Safe to call twice."""
        ...
