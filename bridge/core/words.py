"""The nouns of a call: who is there, what happened in the room, what state the agent shows."""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

import msgspec

__all__ = [
    "Activity",
    "AgentState",
    "AudioEnded",
    "AudioMuted",
    "AudioStarted",
    "AudioUnmuted",
    "Caption",
    "EarlyAudio",
    "EndReason",
    "Heard",
    "ImageCaptured",
    "InterruptRequested",
    "LocalSpeechStarted",
    "LocalSpeechStopped",
    "Participant",
    "ParticipantId",
    "ParticipantJoined",
    "ParticipantLeft",
    "PlayoutEvent",
    "PlayoutFlushed",
    "ReplyAudible",
    "ReplyHeard",
    "RoomEnded",
    "RoomEvent",
    "RoomReconnected",
    "RoomReconnecting",
    "StillHeard",
    "TextReceived",
    "ToolActivity",
    "ToolAnswered",
    "ToolState",
    "TurnTimeline",
    "Underrun",
    "VideoOffered",
    "VideoSource",
    "VideoWithdrawn",
    "VoiceHeard",
]

ParticipantId = NewType("ParticipantId", str)
"""Unique in one call: the identity in a LiveKit room."""


class Participant(msgspec.Struct, frozen=True):
    """A person (or a phone line) in the room that the model may hear."""

    id: ParticipantId
    name: str = ""
    kind: str = "standard"
    """LiveKit's kind in lower case (`standard`, `sip`, `connector`, ...), or the transport's own word."""
    attributes: dict[str, str] = {}


class AgentState(StrEnum):
    """`lk.agent.state`, true to the ear: SPEAKING lasts until the room has heard the end."""

    INITIALIZING = "initializing"
    IDLE = "idle"
    """The model is ready and nobody is in the room."""
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"


class EndReason(StrEnum):
    """Why a call ended."""

    ROOM_EMPTY = "room_empty"
    PARTICIPANT_LEFT = "participant_left"
    ROOM_DELETED = "room_deleted"
    REMOVED = "removed"
    DISCONNECTED = "disconnected"
    REQUESTED = "requested"
    PROVIDER_FAILED = "provider_failed"


class ParticipantJoined(msgspec.Struct, frozen=True):
    participant: Participant


class ParticipantLeft(msgspec.Struct, frozen=True):
    participant: ParticipantId
    reason: str = ""


class AudioStarted(msgspec.Struct, frozen=True):
    """Frames of this participant may follow. A replaced track starts anew without an end between."""

    participant: ParticipantId
    track_id: str = ""


class AudioEnded(msgspec.Struct, frozen=True):
    """No more frames of this participant: unpublished, unsubscribed, or gone."""

    participant: ParticipantId


class AudioMuted(msgspec.Struct, frozen=True):
    participant: ParticipantId


class AudioUnmuted(msgspec.Struct, frozen=True):
    participant: ParticipantId


class EarlyAudio(msgspec.Struct, frozen=True):
    """Speech recorded before we were there (`lk.agent.pre-connect-audio-buffer`), at the transport's input rate, and
    what was said while it was on its way. Later frames of this participant follow it."""

    participant: ParticipantId
    pcm: bytes


class TextReceived(msgspec.Struct, frozen=True):
    """A typed message to the agent (`lk.chat`)."""

    participant: ParticipantId
    text: str


class InterruptRequested(msgspec.Struct, frozen=True, gc=False):
    """The application, or the caller by a button, wants silence now, whatever the reply's policy says."""


class VideoSource(StrEnum):
    """What a video track shows."""

    CAMERA = "camera"
    SCREEN = "screen"


class VideoOffered(msgspec.Struct, frozen=True):
    """A video track of this participant could be watched. Nothing of it is received before `Transport.look_at`."""

    participant: ParticipantId
    source: VideoSource
    track_id: str


class VideoWithdrawn(msgspec.Struct, frozen=True):
    """It can be watched no more: unpublished, switched off, or its owner is gone. Telling it twice does no harm."""

    track_id: str


class VoiceHeard(msgspec.Struct, frozen=True):
    """Somebody's client receives the agent's voice: what is said from now on is heard."""


class RoomReconnecting(msgspec.Struct, frozen=True):
    """The transport lost its server and is trying to come back by itself. Whether it is still heard is not known."""


class StillHeard(msgspec.Struct, frozen=True):
    """While the transport is trying to come back: its voice arrives all the same. What has sounded until now was
    heard."""


class RoomReconnected(msgspec.Struct, frozen=True):
    """The transport is back. Frames may have been lost between."""

    renewed: bool = False
    """By a connection of its own: what the old one had still to play is lost, and whoever heard us has to find the
    new one first (`VoiceHeard`)."""


class RoomEnded(msgspec.Struct, frozen=True):
    """The transport is over and will not come back by itself."""

    reason: EndReason
    detail: str = ""


RoomEvent = (
    ParticipantJoined
    | ParticipantLeft
    | AudioStarted
    | AudioEnded
    | AudioMuted
    | AudioUnmuted
    | EarlyAudio
    | TextReceived
    | InterruptRequested
    | VideoOffered
    | VideoWithdrawn
    | VoiceHeard
    | RoomReconnecting
    | StillHeard
    | RoomReconnected
    | RoomEnded
)


class Caption(msgspec.Struct, frozen=True, gc=False):
    """One update of a transcript segment, ready to be shown."""

    segment_id: str
    speaker: ParticipantId | None
    """Whose words; None: the agent's own."""
    text: str
    """Agent: the piece that follows what was shown before. User: the whole segment so far, replacing it."""
    final: bool
    interrupted: bool = False
    """The agent was cut here; the segment holds only what was heard."""


class ImageCaptured(msgspec.Struct, frozen=True, gc=False):
    """One frame of the track that is watched, as a still that a model takes."""

    participant: ParticipantId
    source: VideoSource
    track_id: str
    image: bytes
    mime_type: str
    width: int
    """As encoded, px."""
    height: int


class ToolState(StrEnum):
    """How far a tool call has come."""

    STARTED = "started"
    ANSWERED = "answered"
    """Its result went to the model."""
    FAILED = "failed"
    """It ended with an error, or no session took its result."""
    CANCELLED = "cancelled"
    """The model took it back, or the call ended first."""


class ToolActivity(msgspec.Struct, frozen=True, gc=False):
    """A tool call, for those who watch. Arguments and results are not in it: they may be private."""

    call_id: str
    name: str
    state: ToolState
    ms: int = 0
    """Since it started."""


class TurnTimeline(msgspec.Struct, frozen=True, gc=False):
    """How soon the model answered one turn of the user, as we hear both: all ms since the end of his speech.

    None where it is not known, or did not happen: a turn that ended without a sound has no `audible_ms`.
    """

    turn: int
    """Counts from 1 in each call."""
    speech_ended_at: float
    """The end of the user's speech on the loop's clock, s; of a typed turn, its arrival."""
    turn_known_ms: int | None = None
    """It was told that the user had stopped: by the provider, or by our own detection where that ends the turns."""
    reply_started_ms: int | None = None
    """The provider began to answer."""
    first_speech_ms: int | None = None
    """The first chunk of speech arrived."""
    audible_ms: int | None = None
    """The first sound left for the room."""
    typed: bool = False


Activity = ToolActivity | TurnTimeline
"""What a call shows of its workings to those who watch."""


class LocalSpeechStarted(msgspec.Struct, frozen=True, gc=False):
    """Our own voice activity detection heard somebody begin."""

    participant: ParticipantId | None = None
    """None: heard on the mixed bus, by whoever is loudest there."""
    spoken_ms: int = 0
    """How long he has been speaking by now, ms: a detector is sure only after a while."""


class LocalSpeechStopped(msgspec.Struct, frozen=True, gc=False):
    """Our own voice activity detection heard the end."""

    participant: ParticipantId | None = None


class ToolAnswered(msgspec.Struct, frozen=True):
    """A tool call ended, and its result went to the model."""

    call_id: str
    name: str
    result: str
    """As text, for the record."""
    error: bool = False
    session: int = 1
    """The one that made the call; it need not be the one that was told."""
    told: bool = True
    """False: no session took the result in time; the model never learnt it."""


class ReplyAudible(msgspec.Struct, frozen=True, gc=False):
    """The first sound of this reply leaves now."""

    reply_id: str


class ReplyHeard(msgspec.Struct, frozen=True, gc=False):
    """The room has heard this reply to its end."""

    reply_id: str
    heard_ms: float


class Underrun(msgspec.Struct, frozen=True, gc=False):
    """The speech ran dry in the middle of this reply; it goes on when more arrives."""

    reply_id: str


class Heard(msgspec.Struct, frozen=True, gc=False):
    """How much of one reply had reached the room when it was cut."""

    reply_id: str
    heard_ms: float
    generated_ms: float
    """Speech accepted for this reply until then, heard or not."""


class PlayoutFlushed(msgspec.Struct, frozen=True):
    """The speech was cut; `heard` holds every reply that was sounding or waiting, in order."""

    heard: tuple[Heard, ...]


PlayoutEvent = ReplyAudible | ReplyHeard | Underrun | PlayoutFlushed
