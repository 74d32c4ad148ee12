"""A person in a LiveKit room, as a program of its own: speaks WAVs, records what it hears, types, reads captions.

`python -m bridge.demo.participant --url URL` takes the join token from LIVEKIT_TOKEN, commands as JSON lines on
stdin, and tells what happens as JSON lines on stdout. It uses the bare SDK and nothing of the bridge, so that it
hears what any client would. Times are CLOCK_MONOTONIC seconds, which processes of one machine share.

Commands ({"do": ...}): publish (rate_hz, channels, name), say (wav), mute, unmute, unpublish, chat (text),
early (wav), save (wav: what was heard of the agent so far, with WAV.json for the times), simulate (scenario), leave.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
import wave
from collections import deque
from typing import Any

import numpy as np
from livekit import rtc

__all__ = ["main"]

_HEARD_RATE_HZ = 48_000
_PIECE_MS = 100
_BITRATE_BPS = 96_000
"""Well above what speech needs: what is compared after two encodings should differ by the bridge, not by Opus."""
_FRAMES_PER_S = 15


class _Recording:
    """What was heard of one agent: samples in order, and when each 10 ms of them came."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.arrivals: list[tuple[float, int]] = []
        self.samples = 0

    def add(self, pcm: bytes, now: float) -> None:
        self.arrivals.append((now, self.samples))
        self.pieces.append(pcm)
        self.samples += len(pcm) // 2

    def save(self, path: str) -> None:
        with wave.open(path, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(_HEARD_RATE_HZ)
            out.writeframes(b"".join(self.pieces))
        with open(f"{path}.json", "w") as out_times:
            json.dump({"rate_hz": _HEARD_RATE_HZ, "arrivals": self.arrivals}, out_times)


class _Person:
    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.room = rtc.Room()
        self.tasks = tasks
        self.gone = asyncio.Event()
        self.recording = _Recording()
        self.source: rtc.AudioSource | None = None
        self.publication: rtc.LocalTrackPublication | None = None
        self.format = (0, 0)
        self.listening: set[asyncio.Task[None]] = set()
        self.ears: dict[str, asyncio.Task[None]] = {}
        self.films: dict[str, tuple[rtc.LocalTrackPublication, asyncio.Task[None]]] = {}
        self.activities: deque[tuple[rtc.TextStreamReader, str]] = deque()

    def listen(self) -> None:
        room = self.room
        room.on("track_subscribed", self._on_track)
        room.on("participant_attributes_changed", self._on_attributes)
        room.on("transcription_received", self._on_packet)
        room.on("disconnected", self._on_disconnected)
        room.on("reconnected", lambda: tell("reconnected"))
        room.on("local_track_subscribed", lambda _: tell("heard_by_somebody"))
        room.on("participant_connected", lambda who: tell("joined_by", identity=who.identity, kind=who.kind))
        room.on("participant_disconnected", lambda who: tell("left_by", identity=who.identity))
        room.register_text_stream_handler("lk.transcription", self._on_caption)
        room.register_text_stream_handler("roombridge.events", self._on_activity)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self.tasks.create_task(work, name="participant")
        self.listening.add(task)
        task.add_done_callback(self.listening.discard)
        return task

    def _on_track(self, track: rtc.Track, _: Any, who: rtc.RemoteParticipant) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO and who.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
            tell("hears_agent", identity=who.identity, track=track.sid)
            # A track that was replaced may go on giving silence, which would stand between the sounds of the new one.
            replaced = self.ears.get(who.identity)
            if replaced is not None:
                replaced.cancel()
            self.ears[who.identity] = self._spawn(self._record(track))

    async def _record(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=_HEARD_RATE_HZ, num_channels=1)
        try:
            async for event in stream:
                self.recording.add(event.frame.data.tobytes(), time.monotonic())
        finally:
            await stream.aclose()

    def _on_attributes(self, changed: dict[str, str], who: rtc.Participant) -> None:
        tell("attributes", identity=who.identity, changed=changed)

    def _on_packet(self, segments: list[rtc.TranscriptionSegment], who: Any, track: Any) -> None:
        for segment in segments:
            tell(
                "caption_packet",
                identity=who.identity if who else "",
                track=track.sid if track else "",
                segment=segment.id,
                text=segment.text,
                final=segment.final,
            )

    def _on_caption(self, reader: rtc.TextStreamReader, identity: str) -> None:
        tell("caption_open", stream=reader.info.stream_id, identity=identity, attributes=reader.info.attributes or {})
        self._spawn(self._read_caption(reader, identity))

    async def _read_caption(self, reader: rtc.TextStreamReader, identity: str) -> None:
        stream = reader.info.stream_id
        pieces = []
        try:
            async for piece in reader:
                pieces.append(piece)
                tell("caption_piece", stream=stream, identity=identity, text=piece)
        except rtc.StreamError as error:
            tell("caption_broken", stream=stream, error=str(error))
            return
        tell("caption", stream=stream, identity=identity, text="".join(pieces), attributes=reader.info.attributes or {})

    def _on_activity(self, reader: rtc.TextStreamReader, identity: str) -> None:
        # They are opened in order; read side by side, a later one may be complete before an earlier one.
        self.activities.append((reader, identity))
        if len(self.activities) == 1:
            self._spawn(self._read_activities())

    async def _read_activities(self) -> None:
        while self.activities:
            reader, identity = self.activities[0]
            tell("activity", identity=identity, activity=json.loads(await reader.read_all()))
            self.activities.popleft()

    def _on_disconnected(self, reason: Any) -> None:
        tell("disconnected", reason=rtc.DisconnectReason.Name(reason))
        self.gone.set()

    async def publish(self, rate_hz: int = 48_000, channels: int = 1, name: str = "microphone") -> None:
        self.source = rtc.AudioSource(rate_hz, channels, queue_size_ms=400)
        self.format = (rate_hz, channels)
        track = rtc.LocalAudioTrack.create_audio_track(name, self.source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False)
        options.audio_encoding.max_bitrate = _BITRATE_BPS
        self.publication = await self.room.local_participant.publish_track(track, options)
        tell("published", track=self.publication.sid)

    async def unpublish(self) -> None:
        if self.publication is not None:
            await self.room.local_participant.unpublish_track(self.publication.sid)
            self.publication = None
        tell("unpublished")

    async def say(self, wav: str) -> None:
        if self.source is None:
            raise ValueError("publish first")
        pcm, rate_hz, channels = read_wav(wav)
        if (rate_hz, channels) != self.format:
            raise ValueError(f"{wav} has {rate_hz} Hz, {channels} channels; the track has {self.format}")
        tell("saying", wav=wav)
        samples = np.frombuffer(pcm, dtype="<i2").reshape(-1, channels)
        step = rate_hz * _PIECE_MS // 1000
        for start in range(0, len(samples), step):
            piece = samples[start : start + step]
            await self.source.capture_frame(rtc.AudioFrame(piece.tobytes(), rate_hz, channels, len(piece)))
        await self.source.wait_for_playout()
        tell("said", wav=wav)

    def mute(self, muted: bool) -> None:
        track = self.publication.track if self.publication is not None else None
        if isinstance(track, rtc.LocalAudioTrack):
            track.mute() if muted else track.unmute()

    async def film(self, source: str = "camera", width: int = 640, height: int = 360, turned: int = 0) -> None:
        """Publish a picture of four colours as a `camera` or a `screen`, to be turned by so many degrees clockwise."""
        video = rtc.VideoSource(width, height, is_screencast=source == "screen")
        track = rtc.LocalVideoTrack.create_video_track(source, video)
        shown = {"camera": rtc.TrackSource.SOURCE_CAMERA, "screen": rtc.TrackSource.SOURCE_SCREENSHARE}[source]
        options = rtc.TrackPublishOptions(source=shown, simulcast=False)
        publication = await self.room.local_participant.publish_track(track, options)
        filming = self._spawn(self._film(video, width, height, turned))
        self.films[source] = publication, filming
        tell("films", source=source, track=publication.sid)

    async def _film(self, video: rtc.VideoSource, width: int, height: int, turned: int) -> None:
        frame = rtc.VideoFrame(width, height, rtc.VideoBufferType.RGBA, four_colours(width, height))
        rotation = rtc.VideoRotation.Value(f"VIDEO_ROTATION_{turned}")
        try:
            while True:
                video.capture_frame(frame, rotation=rotation)
                await asyncio.sleep(1 / _FRAMES_PER_S)
        finally:
            await video.aclose()

    async def unfilm(self, source: str = "camera") -> None:
        publication, filming = self.films.pop(source)
        await self.room.local_participant.unpublish_track(publication.sid)
        filming.cancel()
        tell("films_no_more", source=source)

    def cover(self, covered: bool, source: str = "camera") -> None:
        """Switch the camera off or on again, as clients do: the track stays."""
        track = self.films[source][0].track
        if isinstance(track, rtc.LocalVideoTrack):
            track.mute() if covered else track.unmute()

    async def chat(self, text: str) -> None:
        await self.room.local_participant.send_text(text, topic="lk.chat")

    async def early(self, wav: str, attributes: dict[str, str] | None = None) -> None:
        """Send speech as recorded before the agent came."""
        pcm, rate_hz, channels = read_wav(wav)
        told = {"sampleRate": str(rate_hz), "channels": str(channels), "trackId": ""}
        writer = await self.room.local_participant.stream_bytes(
            "early", topic="lk.agent.pre-connect-audio-buffer", attributes={**told, **(attributes or {})}
        )
        await writer.write(pcm)
        await writer.aclose()

    async def obey(self, command: dict[str, Any]) -> None:
        what = command.pop("do")
        if what == "save":
            self.recording.save(command["wav"])
            tell("saved", wav=command["wav"])
        elif what in ("mute", "unmute"):
            self.mute(what == "mute")
        elif what == "simulate":
            await self.room.simulate_scenario(rtc.SimulateScenarioKind.Value(command["scenario"]))
        elif what == "leave":
            self.gone.set()
        elif what in ("cover", "uncover"):
            self.cover(what == "cover", **command)
        elif what in ("publish", "unpublish", "say", "chat", "early", "film", "unfilm"):
            await getattr(self, what)(**command)
        else:
            raise ValueError(f"unknown command {what!r}")


def read_wav(path: str) -> tuple[bytes, int, int]:
    """PCM, rate in Hz and channels of a 16-bit WAV file."""
    with wave.open(path, "rb") as source:
        if source.getsampwidth() != 2:
            raise ValueError(f"{path}: {source.getsampwidth() * 8}-bit samples; a WAV of 16-bit samples is needed")
        return source.readframes(source.getnframes()), source.getframerate(), source.getnchannels()


def four_colours(width: int, height: int) -> bytes:
    """RGBA: red and green above blue and white."""
    picture = np.empty((height, width, 4), np.uint8)
    top, left = height // 2, width // 2
    picture[:top, :left] = 220, 30, 30, 255
    picture[:top, left:] = 30, 200, 30, 255
    picture[top:, :left] = 30, 30, 220, 255
    picture[top:, left:] = 240, 240, 240, 255
    return picture.tobytes()


def tell(event: str, **facts: Any) -> None:
    """One line for whoever runs us."""
    sys.stdout.write(json.dumps({"event": event, "at": time.monotonic(), **facts}) + "\n")
    sys.stdout.flush()


async def run(url: str, token: str) -> int:
    """Join, obey until told to leave or thrown out. Returns the exit code."""
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    async with asyncio.TaskGroup() as tasks:
        person = _Person(tasks)
        person.listen()
        try:
            await person.room.connect(url, token, rtc.RoomOptions(auto_subscribe=True))
        except rtc.ConnectError as error:
            tell("refused", error=error.message)
            return 1
        tell(
            "joined",
            identity=person.room.local_participant.identity,
            others={who.identity: dict(who.attributes) for who in person.room.remote_participants.values()},
        )
        obeying = tasks.create_task(_obey_all(person, commands), name="commands")
        await person.gone.wait()
        obeying.cancel()
        for task in tuple(person.listening):
            task.cancel()
        await person.room.disconnect()
        tell("left")
    return 0


async def _obey_all(person: _Person, commands: asyncio.StreamReader) -> None:
    while line := await commands.readline():
        command = json.loads(line)
        number = command.pop("id", None)
        try:
            await person.obey(command)
        except Exception as error:  # told to whoever gave the command; the next one may be right
            tell("failed", id=number, error=f"{type(error).__name__}: {error}")
        else:
            tell("done", id=number)
    person.gone.set()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="A person in a LiveKit room. The join token is read from LIVEKIT_TOKEN."
    )
    parser.add_argument("--url", required=True)
    args = parser.parse_args()
    token = os.environ.get("LIVEKIT_TOKEN", "")
    if not token:
        parser.error("LIVEKIT_TOKEN is not set")
    code = asyncio.run(run(args.url, token))
    # The SDK's native threads may still log into an interpreter that is being taken down, which aborts the process.
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
