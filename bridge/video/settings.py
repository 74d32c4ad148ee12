"""What of the room's video the model is shown, and how often."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = ["VideoSettings", "VideoSourceName"]

VideoSourceName = Literal["camera", "screen"]


class VideoSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stills of a camera or of a shared screen for a model that takes images. Needs the extra `video`."""

    sources: tuple[VideoSourceName, ...] = ()
    """What the model may see: camera, screen, or both; a shared screen is preferred. Empty: nothing, and no video
    track is received. The model in use and every stand-in must take images."""
    interval_s: Annotated[float, Meta(ge=1.0, le=3600)] = 1.0
    """At most one still in this time while somebody speaks, s."""
    idle_interval_s: Annotated[float, Meta(ge=1.0, le=3600)] = 5.0
    """The same while nobody speaks, s; no less than interval_s counts. Each still costs tokens."""
    max_side_px: Annotated[int, Meta(ge=64, le=1024)] = 1024
    """Longest side of a still, px. Larger frames are scaled down, smaller ones left as they are."""
    jpeg_quality: Annotated[int, Meta(ge=20, le=95)] = 75
    """Quality of the JPEG, as libjpeg counts it."""
    max_bytes: Annotated[int, Meta(ge=8_000, le=1_000_000)] = 150_000
    """Largest still, bytes; one that comes out larger is encoded anew with less quality, then smaller. OpenAI
    over WebRTC takes 195858 at most (195 kB): messages of 256 KiB, base64 included."""
