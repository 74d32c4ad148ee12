"""The agent's voice and the tracks it hears: the interface, the SDK's public way to both, and which way to go."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from livekit import rtc

from bridge.transports.livekit_room import ffi
from bridge.transports.livekit_room.native_audio import FrameSink, NativeEar, NativeVoice
from bridge.transports.livekit_room.playclock import PlayClock
from bridge.transports.livekit_room.settings import LiveKitSettings

__all__ = ["Ear", "PublicEar", "PublicVoice", "Voice", "open_ear", "open_voice", "publish"]


class Voice(Protocol):
    """Where the agent's speech goes."""

    dropped_ms: float
    errors: int

    @property
    def source(self) -> rtc.AudioSource: ...

    def push(self, pcm: bytes, now: float) -> None: ...

    def clear(self) -> None: ...

    def queued_s(self, now: float) -> float: ...

    async def aclose(self) -> None: ...


class Ear(Protocol):
    """A remote track being heard."""

    dropped_frames: int

    async def aclose(self) -> None: ...


class PublicVoice:
    """Speech through `AudioSource.capture_frame`, awaited by one ordered writer.

    Full: what would not fit is dropped, `dropped_ms` counts it.
    """

    def __init__(self, tasks: asyncio.TaskGroup, *, rate_hz: int, queue_ms: int) -> None:
        self.source = rtc.AudioSource(rate_hz, 1, queue_size_ms=queue_ms)
        self.dropped_ms = 0.0
        self.errors = 0
        self._rate_hz = rate_hz
        self._clock = PlayClock(queue_ms / 1000)
        self._waiting: deque[bytes] = deque()
        self._more = asyncio.Event()
        self._generation = 0
        self._closed = False
        self._writer: asyncio.Task[None] | None = tasks.create_task(self._write(), name="livekit:voice")

    def push(self, pcm: bytes, now: float) -> None:
        if self._closed or len(pcm) < 2:
            return
        duration_s = len(pcm) / (self._rate_hz * 2)
        if not self._clock.push(duration_s, now):
            self.dropped_ms += duration_s * 1000
            return
        self._waiting.append(pcm)
        self._more.set()

    def clear(self) -> None:
        self._generation += 1
        self._waiting.clear()
        self._clock.clear()
        if not self._closed:
            self.source.clear_queue()

    def queued_s(self, now: float) -> float:
        return self._clock.queued_s(now)

    async def aclose(self) -> None:
        self._closed = True
        self._waiting.clear()
        writer, self._writer = self._writer, None  # a cancelled task holds its frame, and that holds us
        if writer is not None:
            writer.cancel()
            await asyncio.wait((writer,))
            await self.source.aclose()

    async def _write(self) -> None:
        while True:
            while not self._waiting:
                self._more.clear()
                await self._more.wait()
            pcm = self._waiting.popleft()
            generation = self._generation
            try:
                await self.source.capture_frame(rtc.AudioFrame(pcm, self._rate_hz, 1, len(pcm) // 2))
            except Exception:  # the SDK raises plain Exception for a refused frame
                self.errors += 1
            if generation != self._generation:
                # It was on its way to the native queue when that was cleared, and may have landed after.
                self.source.clear_queue()


class PublicEar:
    """Frames of one remote track from `AudioStream`. Full: the SDK drops the oldest silently."""

    def __init__(
        self, tasks: asyncio.TaskGroup, track: rtc.Track, *, rate_hz: int, frame_ms: int, sink: FrameSink
    ) -> None:
        self.dropped_frames = 0
        self._stream = rtc.AudioStream(
            track, sample_rate=rate_hz, num_channels=1, frame_size_ms=frame_ms, capacity=5000 // frame_ms
        )
        self._sink: FrameSink | None = sink
        self._loop = asyncio.get_running_loop()
        self._reader: asyncio.Task[None] | None = tasks.create_task(self._read(), name=f"livekit:ear:{track.sid}")

    async def _read(self) -> None:
        async for event in self._stream:
            if self._sink is not None:
                self._sink(event.frame.data.tobytes(), self._loop.time())

    async def aclose(self) -> None:
        self._sink = None
        reader, self._reader = self._reader, None  # as in PublicVoice
        if reader is not None:
            reader.cancel()
            await asyncio.wait((reader,))
            await self._stream.aclose()


def open_voice(hub: ffi.Hub | None, tasks: asyncio.TaskGroup, settings: LiveKitSettings) -> Voice:
    """The voice of one call. It drains in real time from the first push on, published or not."""
    if hub is not None:
        return NativeVoice(hub, rate_hz=settings.output_rate_hz, queue_ms=settings.queue_ms)
    return PublicVoice(tasks, rate_hz=settings.output_rate_hz, queue_ms=settings.queue_ms)


def open_ear(
    hub: ffi.Hub | None, tasks: asyncio.TaskGroup, track: rtc.Track, settings: LiveKitSettings, sink: FrameSink
) -> Ear:
    """Hear a subscribed track: stereo is mixed and any rate converted natively."""
    if hub is not None:
        return NativeEar(hub, track, rate_hz=settings.input_rate_hz, frame_ms=settings.frame_ms, sink=sink)
    return PublicEar(tasks, track, rate_hz=settings.input_rate_hz, frame_ms=settings.frame_ms, sink=sink)


async def publish(room: rtc.Room, voice: Voice, settings: LiveKitSettings) -> rtc.LocalTrackPublication:
    """Publish the voice as a microphone, which is where LiveKit's frontends look for it."""
    track = rtc.LocalAudioTrack.create_audio_track(settings.track_name, voice.source)
    options = rtc.TrackPublishOptions(
        source=rtc.TrackSource.SOURCE_MICROPHONE,
        dtx=settings.dtx,
        red=settings.red,
    )
    options.audio_encoding.max_bitrate = settings.bitrate_bps
    return await room.local_participant.publish_track(track, options)
