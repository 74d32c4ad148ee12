"""What a LiveKit room needs to be told. Plain values: nothing of LiveKit is imported here."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = ["CloseOn", "FfiMode", "LiveKitSettings", "ParticipantKindName"]

ParticipantKindName = Literal["standard", "ingress", "sip", "connector", "bridge"]
"""LiveKit's participant kinds by name, for their numbers differ between the protocol and the Python SDK. Agents and
recorders are left out: two agents that hear each other never stop talking."""

FfiMode = Literal["auto", "public"]
CloseOn = Literal["room_empty", "participant_left", "never"]


class LiveKitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One room of a LiveKit server. Key, secret and token are no settings: they come from the environment."""

    url: str = "ws://127.0.0.1:7880"
    """Address of the server: ws, wss, http or https."""
    room: str = ""
    """Name of the room to join."""
    identity: str = "roombridge"
    """Who we are in the room; unique there, for the server throws out the older of two with the same."""
    name: str = "roombridge"
    """What people see."""
    audience: tuple[ParticipantKindName, ...] = ("standard", "sip", "connector")
    """Kinds of participants that the model may hear; other agents never. A phone is heard once it is answered."""
    identities: tuple[str, ...] = ()
    """Only these identities are heard. Empty: everyone of the audience."""
    close_on: CloseOn = "room_empty"
    """room_empty: when the last of the audience has been gone for empty_timeout_s. participant_left: also at once
    when the first of the audience hangs up. never: only when the room is deleted or we are removed."""
    empty_timeout_s: Annotated[float, Meta(ge=0, le=86_400)] = 20.0
    """How long a room without audience is kept after the last one left, s. A dropped phone may come back."""
    join_timeout_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    """How long to wait for the first of the audience, s. 0: for ever."""
    connect_timeout_s: Annotated[float, Meta(ge=0.5, le=120)] = 10.0
    """For joining and publishing the voice, s."""
    rejoin_after_s: Annotated[float, Meta(ge=0.5, le=120)] = 3.0
    """A lost server that LiveKit's own client has not found again by then is joined anew, s: with a token of our own
    if there are key and secret, else with the newest that the server has sent. As long as media still flows it is
    given three times as long."""
    reconnect_timeout_s: Annotated[float, Meta(ge=1, le=600)] = 30.0
    """A lost server that does not come back for this long, one way or the other, ends the call, s."""
    close_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 3.0
    """For the goodbye, s."""
    input_rate_hz: Literal[8000, 16000, 24000, 48000] = 24_000
    """Rate of the frames given to the listener; converted natively, Hz."""
    output_rate_hz: Literal[8000, 16000, 24000, 48000] = 24_000
    """Rate of the speech given to us, Hz."""
    frame_ms: Literal[10, 20, 40, 60] = 20
    """Length of the frames given to the listener, ms."""
    queue_ms: Annotated[int, Meta(ge=1_000, le=10_000)] = 1_500
    """Room in the native queue of the voice, ms. What would not fit is dropped and counted; `playout.lead_ms` and
    `playout.piece_ms` together always fit."""
    track_name: str = "roomio_audio"
    """Name of the published voice; LiveKit's own agents use this one."""
    bitrate_bps: Annotated[int, Meta(ge=6_000, le=510_000)] = 48_000
    """Opus bitrate of the voice, bit/s."""
    dtx: bool = False
    """Stop sending packets in silence. Off: pauses of a synthetic voice stay exact."""
    red: bool = True
    """Send each packet twice against loss."""
    captions: bool = True
    """Publish transcripts (`lk.transcription`)."""
    legacy_captions: Literal["auto", "always", "never"] = "auto"
    """Transcripts also as the older packet: auto while somebody's client needs it."""
    states: bool = True
    """Publish `lk.agent.state`."""
    activities: bool = True
    """Publish tool calls (name and state only) and how soon each turn was answered (`roombridge.events`)."""
    chat: bool = True
    """Hear typed messages (`lk.chat`)."""
    commands: bool = True
    """Obey the buttons of a page (`roombridge.commands`): whoever is heard may silence the agent."""
    chat_limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    """Longest typed message, characters. What follows is cut and counted."""
    pre_connect_audio: bool = True
    """Hear what was recorded before we came (`lk.agent.pre-connect-audio-buffer`)."""
    pre_connect_limit_s: Annotated[float, Meta(gt=0, le=120)] = 30.0
    """Longest recording taken, s. The newest is kept."""
    ffi: FfiMode = "auto"
    """auto: our own dispatch where the installed SDK has the known shape. public: only the SDK's public parts."""
