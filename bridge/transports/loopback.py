"""A room in this process: people are method calls, the ear is a list. For tests, examples and embedding.

It behaves like the LiveKit room where it matters: it paces itself, can flush, and knows what has been heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from bridge.audio.queue_clock import QueueClock
from bridge.core.errors import RoomInUse
from bridge.core.words import (
    Activity,
    AgentState,
    AudioEnded,
    AudioStarted,
    Caption,
    EndReason,
    Participant,
    ParticipantId,
    ParticipantJoined,
    ParticipantLeft,
    RoomEnded,
    RoomEvent,
    TextReceived,
)
from bridge.transports.contract import TransportCapabilities, TransportListener
from bridge.video.picture import RawFrame
from providers.signal.formats import PCM16_24K, AudioFormat

__all__ = ["LoopbackRoom"]


class _Sound(msgspec.Struct):
    """A stretch of speech on the ear's time line; cut short by a flush."""

    starts_at: float
    audio: bytes


class LoopbackRoom:
    """A transport with no network. Everything is synchronous and in the caller's event loop.

    Args: `clock` tells the time in seconds; the running loop's own by default. Without `paces_itself` the bridge plays
    one frame each 20 ms, as for a line that has no queue. `keep_heard_s` bounds what `heard()`
    remembers: older sound is forgotten, so that long calls do not grow.
    """

    def __init__(
        self,
        *,
        input_format: AudioFormat = PCM16_24K,
        output_format: AudioFormat = PCM16_24K,
        clock: Callable[[], float] | None = None,
        paces_itself: bool = True,
        keep_heard_s: float = 600.0,
    ) -> None:
        self.capabilities = TransportCapabilities(
            name="loopback",
            input_format=input_format,
            output_format=output_format,
            captions=True,
            states=True,
            activities=True,
            video=True,
            paces_itself=paces_itself,
        )
        self.captions: list[Caption] = []
        self.states: list[AgentState] = []
        self.activities: list[Activity] = []
        self.watched: str | None = None
        """The video track that the bridge looks at."""
        self._newest: RawFrame | None = None
        self._clock = clock
        self._keep_heard_s = keep_heard_s
        self._listener: TransportListener | None = None
        self._queue = QueueClock()
        self._sounds: list[_Sound] = []
        self._flushes = 0
        self._was_open = False

    # what the bridge does

    async def open(self, listener: TransportListener) -> None:
        if self._was_open:
            raise RoomInUse("a LoopbackRoom serves one call: make a new one")
        self._was_open = True
        self._listener = listener

    async def close(self) -> None:
        self._listener = None
        self.look_at(None)

    def play(self, audio: bytes) -> None:
        now = self._now()
        starts_at = max(now, self._queue.ends_at)
        self._queue.push(self.capabilities.output_format.duration_ms(len(audio)), now)
        self._sounds.append(_Sound(starts_at, audio))
        self._forget_before(now - self._keep_heard_s)

    def flush(self) -> None:
        now = self._now()
        self._queue.clear(now)
        self._flushes += 1
        while self._sounds and self._sounds[-1].starts_at >= now:
            self._sounds.pop()
        if self._sounds:
            last = self._sounds[-1]
            last.audio = last.audio[: self._size_between(last.starts_at, now)]

    def queued_ms(self, now: float) -> float:
        return self._queue.queued_ms(now)

    def show_caption(self, caption: Caption) -> None:
        self.captions.append(caption)

    def show_state(self, state: AgentState) -> None:
        self.states.append(state)

    def show_activity(self, activity: Activity) -> None:
        self.activities.append(activity)

    def look_at(self, track_id: str | None) -> None:
        self.watched = track_id
        self._show(None)

    def take_frame(self) -> RawFrame | None:
        frame, self._newest = self._newest, None
        return frame

    def counters(self) -> dict[str, int]:
        return {"flushes": self._flushes}

    # what people do

    def join(self, participant: str, *, kind: str = "standard") -> None:
        """Someone enters with an open microphone."""
        identity = ParticipantId(participant)
        self._tell(ParticipantJoined(Participant(identity, participant, kind)))
        self._tell(AudioStarted(identity, f"track-{participant}"))

    def leave(self, participant: str) -> None:
        self._tell(AudioEnded(ParticipantId(participant)))
        self._tell(ParticipantLeft(ParticipantId(participant), "client_initiated"))

    def speak(self, participant: str, pcm: bytes) -> None:
        """One frame of microphone audio in `capabilities.input_format`, now."""
        if self._listener is not None:
            self._listener.on_audio(ParticipantId(participant), pcm, self._now())

    def type(self, participant: str, text: str) -> None:
        self._tell(TextReceived(ParticipantId(participant), text))

    def show(self, track_id: str, frame: RawFrame) -> None:
        """A frame of a video track that was told by `tell(VideoOffered(...))`. The newest stays, of the track that is
        watched; any other is released."""
        if track_id == self.watched:
            self._show(frame)
        else:
            frame.release()

    def end(self, reason: EndReason = EndReason.ROOM_DELETED) -> None:
        """The room is over."""
        self._tell(RoomEnded(reason))

    def tell(self, event: RoomEvent) -> None:
        """Any other event, as a real room would give it."""
        self._tell(event)

    # what the ear holds

    def heard(self, *, with_gaps: bool = False) -> bytes:
        """What has sounded so far, in `capabilities.output_format`; `with_gaps` keeps the silence between."""
        now = self._now()
        out = bytearray()
        at: float | None = None
        for sound in self._sounds:
            if with_gaps and at is not None and sound.starts_at > at:
                out += bytes(self._size_between(at, sound.starts_at))
            out += sound.audio[: max(0, self._size_between(sound.starts_at, now))]
            at = sound.starts_at + self.capabilities.output_format.duration_ms(len(sound.audio)) / 1000
        return bytes(out)

    def silent_since(self) -> float:
        """When the last sound ended, on the clock; now, while something sounds; -inf when nothing ever did."""
        now = self._now()
        heard = [sound for sound in self._sounds if sound.starts_at < now]
        if not heard:
            return float("-inf")
        lasts_s = self.capabilities.output_format.duration_ms(len(heard[-1].audio)) / 1000
        return min(now, heard[-1].starts_at + lasts_s)

    # inside

    def _now(self) -> float:
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()

    def _size_between(self, start: float, end: float) -> int:
        format = self.capabilities.output_format
        return round((end - start) * format.rate_hz) * format.bytes_per_sample

    def _forget_before(self, oldest: float) -> None:
        while self._sounds and self._sounds[0].starts_at < oldest:
            del self._sounds[0]

    def _show(self, frame: RawFrame | None) -> None:
        older, self._newest = self._newest, frame
        if older is not None:
            older.release()

    def _tell(self, event: RoomEvent) -> None:
        if self._listener is not None:
            self._listener.on_event(event)
