"""Audio of one track to and from the native side, by the hub of `ffi`: ears and a voice that wake nobody else."""

from __future__ import annotations

import asyncio
import ctypes
from collections import deque
from collections.abc import Callable

from livekit import rtc
from livekit.rtc._proto import audio_frame_pb2, ffi_pb2

from bridge.transports.livekit_room.ffi import EAR_LIMIT, Hub, Inbox
from bridge.transports.livekit_room.playclock import PlayClock

__all__ = ["FrameSink", "NativeEar", "NativeVoice"]

FrameSink = Callable[[bytes, float], None]
"""Called in the event loop with one frame (int16 mono) and the loop's time."""

_NATIVE_HEADROOM_MS = 500
"""The native queue is this much larger than we fill it, for its clock may be behind ours."""


class NativeEar:
    """Frames of one remote track, converted natively to mono at one rate and length."""

    def __init__(self, hub: Hub, track: rtc.Track, *, rate_hz: int, frame_ms: int, sink: FrameSink) -> None:
        self.loop = asyncio.get_running_loop()
        self.inbox: Inbox | None = None
        self.dropped_frames = 0
        self._hub = hub
        self._sink: FrameSink | None = sink
        self._frames: deque[tuple[int, int, int]] = deque()
        # A native stream ends when the handle of its track goes.
        self._track: rtc.Track | None = track
        request = ffi_pb2.FfiRequest()
        request.new_audio_stream.track_handle = track._ffi_handle.handle
        request.new_audio_stream.type = audio_frame_pb2.AudioStreamType.AUDIO_STREAM_NATIVE
        request.new_audio_stream.sample_rate = rate_hz
        request.new_audio_stream.num_channels = 1
        request.new_audio_stream.frame_size_ms = frame_ms
        request.new_audio_stream.queue_size_frames = 0
        self._handle: int | None = hub.open_ear(self, request)

    def arrived(self, frame: audio_frame_pb2.OwnedAudioFrameBuffer) -> None:
        """On a native thread: only noted here; copied and released in the loop."""
        if len(self._frames) >= EAR_LIMIT:
            self.dropped_frames += 1
            try:
                self._hub.drop(self._frames.popleft()[2])
            except IndexError:  # the loop was quicker
                pass
        info = frame.info
        self._frames.append((info.data_ptr, info.samples_per_channel * info.num_channels * 2, frame.handle.id))
        inbox = self.inbox
        if inbox is not None:
            inbox.put(self)

    def deliver(self, now: float) -> None:
        """In the loop: hand the oldest frame to the sink."""
        try:
            address, size, handle = self._frames.popleft()
        except IndexError:  # dropped or closed meanwhile
            return
        pcm = ctypes.string_at(address, size)
        self._hub.drop(handle)
        if self._sink is not None:
            self._sink(pcm, now)

    def discard(self) -> None:
        """Release what waits."""
        while True:
            try:
                _, _, handle = self._frames.popleft()
            except IndexError:
                return
            self._hub.drop(handle)

    async def aclose(self) -> None:
        """Stop the stream. Safe to call twice."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            self._sink = None
            self._hub.close_ear(self, handle)
            self.discard()
            self._track = None


class NativeVoice:
    """Speech into a native queue without waiting: a capture is sent off and its completion noted by id.

    Full: what would not fit is dropped, `dropped_ms` counts it.
    """

    def __init__(self, hub: Hub, *, rate_hz: int, queue_ms: int) -> None:
        self.source = rtc.AudioSource(rate_hz, 1, queue_size_ms=queue_ms + _NATIVE_HEADROOM_MS)
        self.dropped_ms = 0.0
        self.errors = 0
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._bytes_per_s = rate_hz * 2
        self._clock = PlayClock(queue_ms / 1000)
        self._pending: set[int] = set()
        self._fence: frozenset[int] | None = None
        self._held: list[bytes] = []
        self._closed = False
        self._request = ffi_pb2.FfiRequest()
        self._capture = self._request.capture_audio_frame
        self._capture.source_handle = self.source._ffi_handle.handle
        self._capture.buffer.sample_rate = rate_hz
        self._capture.buffer.num_channels = 1

    def push(self, pcm: bytes, now: float) -> None:
        """Queue int16 mono speech of any length."""
        if self._closed or len(pcm) < 2:
            return
        duration_s = len(pcm) / self._bytes_per_s
        if not self._clock.push(duration_s, now):
            self.dropped_ms += duration_s * 1000
            return
        if self._fence is not None:
            self._held.append(pcm)
        else:
            self._send(pcm)

    def _send(self, pcm: bytes) -> None:
        capture_id = self._hub.expect_capture(self)
        self._pending.add(capture_id)
        buffer = self._capture.buffer
        buffer.samples_per_channel = len(pcm) // 2
        # The native side copies before the request returns, so the bytes need not live longer than this call.
        buffer.data_ptr = ctypes.cast(ctypes.c_char_p(pcm), ctypes.c_void_p).value or 0
        self._capture.request_async_id = capture_id
        answer = self._hub.client.request(self._request)
        if answer.capture_audio_frame.async_id != capture_id:  # an SDK that picks its own ids
            self._hub.forget_capture(capture_id)
            self._pending.discard(capture_id)

    def captured(self, capture_id: int, error: str) -> None:
        """On a native thread: a capture has reached the queue, or failed."""
        self._pending.discard(capture_id)
        if error:
            self.errors += 1
        fence = self._fence
        if fence is not None and fence.isdisjoint(self._pending):
            try:
                self._loop.call_soon_threadsafe(self._lift)
            except RuntimeError:  # the loop is closed, so the call is over
                pass

    def clear(self) -> None:
        """Silence at once. Captures still on their way to the queue are waited for, and cleared too."""
        self._clock.clear()
        self._held.clear()
        if self._closed:
            return
        self.source.clear_queue()
        if self._pending:
            # What was sent off a moment ago may reach the queue after it was cleared. Later speech is held back,
            # for less than a millisecond as a rule, until that has happened and been cleared again.
            self._fence = frozenset(self._pending)
            self._lift()

    def _lift(self) -> None:
        if self._fence is None or not self._fence.isdisjoint(self._pending):
            return
        self._fence = None
        if self._closed:
            return
        self.source.clear_queue()
        held, self._held = self._held, []
        for pcm in held:
            self._send(pcm)

    def queued_s(self, now: float) -> float:
        """Pushed and not yet played, s."""
        return self._clock.queued_s(now)

    async def aclose(self) -> None:
        """Release the source. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self._fence = None
            for capture_id in tuple(self._pending):
                self._hub.forget_capture(capture_id)
            self._pending.clear()
            await self.source.aclose()
