"""The video lane: one track is watched, and now and then a still of it goes to the model. Never in the way of a frame
of audio: it takes the newest picture when one is due, and a thread makes the JPEG."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from bridge.core.commands import Command
from bridge.core.words import ImageCaptured, VideoOffered, VideoSource
from bridge.transports.contract import VideoTransport
from bridge.video.jpeg import MIME_TYPE, Jpeg, encode
from bridge.video.picture import RawFrame
from bridge.video.settings import VideoSettings
from bridge.video.watching import Watching
from providers.contract import ModelSession

__all__ = ["Model", "VideoLane", "VideoStats"]

log = logging.getLogger(__name__)

_SLOW_MS = 200.0
"""Audio that waits for the provider's socket: an image would stand in the way of what follows."""


class Model(Protocol):
    """Who leads, and how to give it something: the fast lane."""

    @property
    def leading(self) -> ModelSession | None: ...
    def do(self, command: Command) -> None:
        """Returns at once."""
        ...


class VideoStats(msgspec.Struct):
    images: int = 0
    """Stills that the model was shown."""
    image_bytes: int = 0
    unseen_images: int = 0
    """Made, and not sent: switched off meanwhile, the track gone, or no session led any more."""
    skipped_busy: int = 0
    """Frames left out because the one before was still being encoded."""
    skipped_slow: int = 0
    """Frames left out because the provider's socket does not take the audio in time."""
    unusable_frames: int = 0
    """Frames that made no JPEG. The first is logged."""
    worst_encode_ms: int = 0


class VideoLane:
    """One call's way from a video track to the model. Holds one frame at a time: the newest, and none that waits."""

    def __init__(
        self,
        name: str,
        *,
        room: VideoTransport,
        settings: VideoSettings,
        watching: Watching,
        model: Model,
        user_speaks: Callable[[float], bool],
    ) -> None:
        self.stats = VideoStats()
        self._name = name
        self._room = room
        self._settings = settings
        self._watching = watching
        self._model = model
        self._user_speaks = user_speaks
        self._watched: str | None = None
        self._encoding: asyncio.Future[Jpeg] | None = None

    def switch(self, sources: Iterable[VideoSource]) -> None:
        """See these from now on, and no others. What is being encoded of others is not sent any more."""
        self._watching.switch(sources)
        self._look(self._model.leading)

    def beat(self, now: float) -> None:
        """Every 20 ms: a comparison, unless there is something to see."""
        leading = self._model.leading
        sees = leading is None or leading.capabilities.video
        self._look(leading)
        if self._watched is None or leading is None or not sees:
            return
        if not self._watching.due(now, leading.number, lambda: self._user_speaks(now)):
            return
        if self._encoding is not None:
            self.stats.skipped_busy += 1
            self._watching.taken(now)
        elif leading.outbox.waiting_audio_ms > _SLOW_MS:
            self.stats.skipped_slow += 1
            self._watching.taken(now)
        else:
            self._take(now)

    def close(self) -> None:
        """The call is over: watch nothing."""
        self._watching.switch(())
        self._encoding = None  # its thread ends by itself, and gives its frame back
        if self._watched is not None:
            self._watched = None
            self._room.look_at(None)

    # ------------------------------------------------------------------------------------------------------ workings

    def _look(self, leading: ModelSession | None) -> None:
        """Receive what is to be seen. While no session leads, what was received still is; a blind one sees nothing."""
        target = self._watching.target
        if target is not None and leading is not None and not leading.capabilities.video:
            target = None
        track_id = None if target is None else target.track_id
        if track_id != self._watched:
            self._watched = track_id
            self._room.look_at(track_id)

    def _take(self, now: float) -> None:
        target = self._watching.target
        frame = self._room.take_frame()
        if frame is None:
            return
        assert target is not None, "asked only while there is something to see"
        self._watching.taken(now)
        # No task: what a thread has been given it always ends, and so the frame is always given back.
        self._encoding = asyncio.get_running_loop().run_in_executor(None, _still, frame, self._settings)
        self._encoding.add_done_callback(functools.partial(self._made, target, now))

    def _made(self, of: VideoOffered, taken_at: float, made: asyncio.Future[Jpeg]) -> None:
        if made is not self._encoding:
            return  # the call is over
        self._encoding = None
        error = made.exception()
        if error is not None:  # a decoder's torn frame, a library's refusal: the next one may do
            self.stats.unusable_frames += 1
            if self.stats.unusable_frames == 1:
                log.warning("a video frame made no still call=%s: %s", self._name, error)
            return
        jpeg, now = made.result(), asyncio.get_running_loop().time()
        self.stats.worst_encode_ms = max(self.stats.worst_encode_ms, round((now - taken_at) * 1000))
        image = ImageCaptured(of.participant, of.source, of.track_id, jpeg.data, MIME_TYPE, jpeg.width, jpeg.height)
        leading = self._model.leading
        commands = self._watching.captured(image, now, None if leading is None else leading.number)
        for command in commands:
            self._model.do(command)
        if commands:
            self.stats.images += 1
            self.stats.image_bytes += len(jpeg.data)
        else:
            self.stats.unseen_images += 1


def _still(frame: RawFrame, settings: VideoSettings) -> Jpeg:
    """In a thread."""
    try:
        return encode(
            frame.picture(),
            max_side_px=settings.max_side_px,
            quality=settings.jpeg_quality,
            max_bytes=settings.max_bytes,
        )
    finally:
        frame.release()
