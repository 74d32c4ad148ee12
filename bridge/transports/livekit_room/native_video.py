"""Frames of one video track from the native side, by the hub of `ffi`: only the newest is kept, and nobody is woken."""

from __future__ import annotations

import ctypes
import threading

from livekit import rtc
from livekit.rtc._proto import ffi_pb2, video_frame_pb2

from bridge.transports.livekit_room.ffi import Hub
from bridge.video.picture import Picture, Plane, Rotation

__all__ = ["NativeEye", "NativeFrame"]

_ROTATIONS: dict[int, Rotation] = {0: 0, 1: 90, 2: 180, 3: 270}


class NativeFrame:
    """One frame in native memory, as long as its handle lives."""

    __slots__ = ("_handle", "_hub", "_info", "_lock", "_rotation")

    def __init__(self, hub: Hub, received: video_frame_pb2.VideoFrameReceived) -> None:
        self._hub = hub
        self._handle: int | None = received.buffer.handle.id
        self._info = received.buffer.info
        self._rotation = received.rotation
        self._lock = threading.Lock()

    def picture(self) -> Picture:
        """Raises: ValueError for anything but I420, or after `release`."""
        info = self._info
        if self._handle is None or info.type != video_frame_pb2.VideoBufferType.I420 or len(info.components) != 3:
            raise ValueError(f"a video frame of type {info.type} with {len(info.components)} planes")
        half = (info.height + 1) // 2
        y, u, v = (_plane(part, rows) for part, rows in zip(info.components, (info.height, half, half), strict=True))
        return Picture(info.width, info.height, y, u, v, rotation=_ROTATIONS.get(self._rotation, 0))

    def release(self) -> None:
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            self._hub.drop(handle)


def _plane(part: video_frame_pb2.VideoBufferInfo.ComponentInfo, rows: int) -> Plane:
    size = min(part.size, part.stride * rows)
    return Plane(memoryview((ctypes.c_uint8 * size).from_address(part.data_ptr)).cast("B"), part.stride)


class NativeEye:
    """The newest frame of one remote video track. Full at one frame: the older goes, `replaced` counts it."""

    def __init__(self, hub: Hub, track: rtc.Track) -> None:
        self.replaced = 0
        self._hub = hub
        self._lock = threading.Lock()
        self._newest: NativeFrame | None = None
        self._closed = False
        # A native stream ends when the handle of its track goes.
        self._track: rtc.Track | None = track
        request = ffi_pb2.FfiRequest()
        look = request.new_video_stream
        look.track_handle = track._ffi_handle.handle
        look.type = video_frame_pb2.VideoStreamType.VIDEO_STREAM_NATIVE
        look.format = video_frame_pb2.VideoBufferType.I420
        look.normalize_stride = True
        look.queue_size_frames = 1
        self._handle: int | None = hub.open_eye(self, request)

    def arrived(self, frame: video_frame_pb2.VideoFrameReceived) -> None:
        """On a native thread: kept for whoever takes it, in the place of the one before."""
        newest = NativeFrame(self._hub, frame)
        with self._lock:
            older, self._newest = (newest, None) if self._closed else (self._newest, newest)
            self.replaced += older is not None
        if older is not None:
            older.release()

    def take(self) -> NativeFrame | None:
        """The newest frame, once. Its taker releases it, also after `aclose`."""
        with self._lock:
            newest, self._newest = self._newest, None
        return newest

    async def aclose(self) -> None:
        """Stop the stream, then let the track go. Safe to call twice."""
        with self._lock:
            self._closed = True
            newest, self._newest = self._newest, None
        handle, self._handle = self._handle, None
        if handle is not None:
            self._hub.close_eye(handle)
        if newest is not None:
            newest.release()
        self._track = None
