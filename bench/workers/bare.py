"""Bare LiveKit SDK, nothing of the bridge: a person with ear and voice, or as many of them as rooms are given.

It is the caller of every measurement and, as the other participant, its floor.
"""

from __future__ import annotations

import asyncio
import os
import time
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from livekit import rtc
from livekit.rtc._proto.room_pb2 import AudioEncoding

from bench.markers import Capture, sound
from bench.workers.serve import Handler, main, until
from providers.signal import wav

_PIECE_MS = 100
_QUEUE_MS = 200
_CONNECT_TIMEOUT_S = 15.0


class _Ear:
    """All audio of one track. Only times and sizes where the samples are not wanted."""

    def __init__(self, track: rtc.Track, rate_hz: int, frame_ms: int, keep: bool) -> None:
        self.rate_hz = rate_hz
        self.times = array("d")
        self._sizes = array("q")
        self._keep = keep
        self._pieces: list[bytes] = []
        self._stream = rtc.AudioStream(track, sample_rate=rate_hz, num_channels=1, frame_size_ms=frame_ms)

    async def run(self) -> None:
        try:
            async for event in self._stream:
                self.times.append(time.monotonic())
                if self._keep:
                    piece = bytes(event.frame.data)
                    self._pieces.append(piece)
                    self._sizes.append(len(piece) // 2)
        finally:
            await self._stream.aclose()

    def capture(self) -> Capture:
        sizes = np.array(self._sizes, dtype=np.int64)
        positions = np.cumsum(sizes) - sizes
        samples = np.frombuffer(b"".join(self._pieces), dtype="<i2")
        return Capture(self.rate_hz, samples, positions, np.array(self.times, dtype=np.float64))


def _frames(pcm: bytes, rate_hz: int) -> list[rtc.AudioFrame]:
    """In pieces of 100 ms, shared by all stays."""
    size = rate_hz * _PIECE_MS // 1000 * 2
    starts = range(0, len(pcm) - size + 1, size)
    return [rtc.AudioFrame(pcm[start : start + size], rate_hz, 1, size // 2) for start in starts]


class _Stay:
    """One participant in one room."""

    def __init__(self, group: asyncio.TaskGroup, hear: list[str], listen_hz: int, frame_ms: int, keep: bool) -> None:
        self.room = rtc.Room()
        self.source: rtc.AudioSource | None = None
        self.rate_hz = 0
        self.ears: dict[str, _Ear] = {}
        self.seen: dict[str, dict[str, float]] = {}
        """When each other participant joined and when it published its voice."""
        self._group = group
        self._hear = frozenset(hear)
        self._listen_hz = listen_hz
        self._frame_ms = frame_ms
        self._keep = keep
        self._tasks: list[asyncio.Task[None]] = []
        self._speaking: asyncio.Task[None] | None = None

    async def join(self, url: str, token: str, publish_hz: int) -> None:
        room = self.room
        room.on("participant_connected", lambda who: self._note(who.identity, "joined"))
        room.on("track_published", self._on_published)
        room.on("track_subscribed", self._on_track)
        await room.connect(url, token, rtc.RoomOptions(auto_subscribe=False, connect_timeout=_CONNECT_TIMEOUT_S))
        for who in tuple(room.remote_participants.values()):
            for publication in tuple(who.track_publications.values()):
                self._on_published(publication, who)
        self.rate_hz = publish_hz
        if publish_hz:
            self.source = rtc.AudioSource(publish_hz, 1, queue_size_ms=_QUEUE_MS)
            track = rtc.LocalAudioTrack.create_audio_track("voice", self.source)
            # As the bridge publishes its own: the encoder and the packets are to cost the same.
            wanted = rtc.TrackPublishOptions(
                source=rtc.TrackSource.SOURCE_MICROPHONE,
                dtx=False,
                red=True,
                audio_encoding=AudioEncoding(max_bitrate=48_000),
            )
            await room.local_participant.publish_track(track, wanted)

    def start(self, work: Any, name: str) -> None:
        self._tasks.append(self._group.create_task(work, name=name))

    async def talk(self, frames: Sequence[rtc.AudioFrame]) -> None:
        """Say them over and over. The source's own clock sets the pace."""
        source = self.source
        assert source is not None, "joined with a voice"
        while True:
            for frame in frames:
                await source.capture_frame(frame)

    def speak(self, pcm: bytes) -> float:
        """Say it once, from now on, until `hush`. Returns when it began, CLOCK_MONOTONIC s."""
        self.stop_speaking()
        self._speaking = self._group.create_task(self._speak(pcm), name="speak")
        return time.monotonic()

    async def _speak(self, pcm: bytes) -> None:
        source, piece = self.source, self.rate_hz * _PIECE_MS // 1000 * 2
        assert source is not None, "joined with a voice"
        for start in range(0, len(pcm), piece):
            part = pcm[start : start + piece]
            await source.capture_frame(rtc.AudioFrame(part, self.rate_hz, 1, len(part) // 2))

    def stop_speaking(self) -> None:
        """Feed no more; what is queued still sounds."""
        if self._speaking is not None:
            self._speaking.cancel()
            self._speaking = None

    def hush(self) -> float:
        """Silence now. Returns the moment before the SDK was told."""
        assert self.source is not None, "joined with a voice"
        at = time.monotonic()
        self.stop_speaking()
        self.source.clear_queue()
        return at

    async def leave(self) -> None:
        self.stop_speaking()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.source is not None:
            await self.source.aclose()
        await self.room.disconnect()

    def _note(self, identity: str, what: str) -> None:
        self.seen.setdefault(identity, {}).setdefault(what, time.monotonic())

    def _on_published(self, publication: rtc.RemoteTrackPublication, who: rtc.RemoteParticipant) -> None:
        self._note(who.identity, "published")
        if who.identity in self._hear:
            publication.set_subscribed(True)

    def _on_track(self, track: rtc.Track, _: Any, who: rtc.RemoteParticipant) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO and who.identity not in self.ears:
            ear = _Ear(track, self._listen_hz, self._frame_ms, self._keep)
            self.ears[who.identity] = ear
            self._note(who.identity, "subscribed")
            self.start(ear.run(), f"ear:{who.identity}")


class _People:
    """All stays of this process."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._stays: list[_Stay] = []

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "join": self.join,
            "hears": self.hears,
            "sees": self.sees,
            "mark": self.mark,
            "speak": self.speak,
            "say": self.say,
            "hush": self.hush,
            "lateness": self.lateness,
            "harvest": self.harvest,
            "leave": self.leave,
        }

    async def join(
        self,
        rooms: list[tuple[str, str]],
        publish_hz: int = 48_000,
        hear: Sequence[str] = (),
        listen_hz: int = 48_000,
        frame_ms: int = 10,
        keep: bool = False,
        talk: str = "",
    ) -> dict[str, Any]:
        """Join each (url, token). Subscribes to those named in `hear` alone; `talk` is a WAV to say for ever."""
        frames = _frames(wav.read(talk, publish_hz).tobytes(), publish_hz) if talk else []
        for url, token in rooms:
            stay = _Stay(self._group, list(hear), listen_hz, frame_ms, keep)
            await stay.join(url, token, publish_hz)
            self._stays.append(stay)
            if frames:
                stay.start(stay.talk(frames), "talk")
        return {"at": time.monotonic()}

    async def hears(self, identities: list[str], timeout_s: float = 10.0) -> None:
        """Wait until each of these is heard, in each room."""
        wanted = [(stay, who) for stay in self._stays for who in identities]
        await until(lambda: all(who in stay.ears and stay.ears[who].times for stay, who in wanted), timeout_s)

    async def sees(self, identity: str, timeout_s: float = 20.0) -> dict[str, Any]:
        """Wait until this one has joined and published; returns when it did."""
        seen = self._stays[0].seen.setdefault(identity, {})
        await until(lambda: "published" in seen, timeout_s, 0.002)
        return dict(seen)

    async def mark(self, seed: int) -> dict[str, Any]:
        """Say one marker now; returns when."""
        stay = self._stays[0]
        assert stay.source is not None, "joined with a voice"
        samples = sound(seed, stay.rate_hz)
        frame = rtc.AudioFrame(samples.tobytes(), stay.rate_hz, 1, len(samples))
        at = time.monotonic()
        await stay.source.capture_frame(frame)
        return {"at": at}

    async def speak(self, seed: int, duration_ms: float) -> dict[str, Any]:
        """Begin a noise of this seed and length; returns when."""
        stay = self._stays[0]
        return {"at": stay.speak(sound(seed, stay.rate_hz, duration_ms).tobytes())}

    async def say(self, wav_file: str) -> dict[str, Any]:
        """Begin to say a WAV; returns when."""
        stay = self._stays[0]
        return {"at": stay.speak(wav.read(wav_file, stay.rate_hz).tobytes())}

    async def hush(self) -> dict[str, Any]:
        """Be silent at once; returns the moment before the SDK was told."""
        return {"at": self._stays[0].hush()}

    async def lateness(self, last_s: float) -> dict[str, Any]:
        """Arrival times of the frames of the last seconds, one list for each room's first ear."""
        since = time.monotonic() - last_s
        ears = [next(iter(stay.ears.values()), None) for stay in self._stays]
        return {"times": [[at for at in ear.times if at >= since] if ear else [] for ear in ears]}

    async def harvest(self, folder: str) -> dict[str, Any]:
        """Save what was heard of each participant."""
        files = {}
        for identity, ear in self._stays[0].ears.items():
            files[identity] = os.path.join(folder, f"{identity}.npz")
            ear.capture().save(files[identity])
        return {"files": files}

    async def leave(self) -> None:
        """Leave every room."""
        for stay in self._stays:
            await stay.leave()
        self._stays.clear()


if __name__ == "__main__":
    main(lambda group: _People(group).handlers())
