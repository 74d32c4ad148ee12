"""The one interface behind which every room, call or device stands.

A transport gives microphone audio and events up, in the loop's own turn, and takes speech, captions and state down,
without waiting. It declares what it can do; the bridge adapts.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec

from bridge.core.words import Activity, AgentState, Caption, ParticipantId, RoomEvent
from bridge.video.picture import RawFrame
from providers.signal.formats import PCM16_24K, AudioFormat

__all__ = ["PlayoutReport", "Transport", "TransportCapabilities", "TransportListener", "VideoTransport"]


class PlayoutReport(StrEnum):
    """How a transport knows what has been heard."""

    ESTIMATE = "estimate"
    """Pushed minus `queued_ms()`."""
    MARK = "mark"
    """The far end acknowledges what it has played."""


class TransportCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a transport can do."""

    name: str
    input_format: AudioFormat = PCM16_24K
    """Of every frame given to `TransportListener.on_audio`."""
    output_format: AudioFormat = PCM16_24K
    """Expected by `play`."""
    paces_itself: bool = True
    """It has a queue of its own that plays in real time; else the bridge plays one frame each 20 ms."""
    can_flush: bool = True
    """`flush` silences what is queued there."""
    playout_report: PlayoutReport = PlayoutReport.ESTIMATE
    frame_ms: int = 20
    """Length of input frames."""
    tells_hearers: bool = False
    """It gives `VoiceHeard` when somebody receives the agent's voice; a greeting waits for that, and so does what was
    to be said when a connection was lost and renewed."""
    tail_ms: int = 0
    """How long the last sound is under way to the ear once `queued_ms` has come to 0: who leaves sooner cuts it."""
    captions: bool = False
    states: bool = False
    activities: bool = False
    """It shows tool calls and turn timelines: `show_activity`."""
    video: bool = False
    """It offers video tracks (`VideoOffered`) and can watch one at a time: `look_at`, `take_frame`."""


class TransportListener(Protocol):
    """The bridge's side of a transport. Called in the event loop; returns fast, never raises."""

    def on_audio(self, participant: ParticipantId, pcm: bytes, now: float) -> None:
        """One frame of `TransportCapabilities.input_format` that arrived at `now` (loop time, s)."""
        ...

    def on_event(self, event: RoomEvent) -> None: ...


class Transport(Protocol):
    """A room, a call or a device."""

    @property
    def capabilities(self) -> TransportCapabilities: ...

    async def open(self, listener: TransportListener) -> None:
        """Join, publish the agent's voice, and start giving events. Raises `RoomError`, of which `RoomInUse` when it
        was opened before; bounded."""
        ...

    async def close(self) -> None:
        """Leave and release everything. Bounded; safe to call twice."""
        ...

    def play(self, audio: bytes) -> None:
        """Queue speech in `output_format`, any length. Never waits. Nothing is lost up to one second of queue."""
        ...

    def flush(self) -> None:
        """Drop what is queued: silence at the track at once. No-op where it cannot."""
        ...

    def queued_ms(self, now: float) -> float:
        """Speech that `play` was given and the room has not yet heard, ms."""
        ...

    def show_caption(self, caption: Caption) -> None:
        """Publish one transcript update, in order, without waiting."""
        ...

    def show_state(self, state: AgentState) -> None:
        """Publish the agent's state. Keeps only the newest while busy."""
        ...

    def show_activity(self, activity: Activity) -> None:
        """Publish a tool's progress or a turn's timeline, in order, without waiting. Only asked where it can."""
        ...

    def counters(self) -> dict[str, int]:
        """Named causes of loss and lateness of this transport, as plain integers."""
        ...


class VideoTransport(Transport, Protocol):
    """A transport with `TransportCapabilities.video`."""

    def look_at(self, track_id: str | None) -> None:
        """Receive this video track from now on and no other; None: none at all. Never waits. Only asked where it can.

        A track that is not there, or not any more, is nothing."""
        ...

    def take_frame(self) -> RawFrame | None:
        """The newest frame of the track looked at, once; None if there is no new one. Its taker releases it."""
        ...
