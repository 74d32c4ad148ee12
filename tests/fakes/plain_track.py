"""What plain aiortc brings: the sound of a track, for other ends that share none of our code."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from providers.signal.resample import Int16Array

__all__ = ["sound_of"]


async def sound_of(track: Any) -> AsyncGenerator[Int16Array]:
    """The frames of an audio track until it ends: int16 at 48 kHz, the left one of the two channels that Opus is
    decoded into."""
    from aiortc.mediastreams import MediaStreamError

    while True:
        try:
            frame = await track.recv()
        except MediaStreamError:
            return
        yield frame.to_ndarray().reshape(-1, 2)[:, 0].copy()
