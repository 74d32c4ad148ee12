"""What a direct call needs to be told. Plain values: nothing of WebRTC is imported here."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from providers.webrtc.settings import IceServer, JitterSettings

__all__ = ["DirectCallSettings"]


class DirectCallSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Direct calls: a browser speaks with the bridge itself, over WebRTC, with no media server between."""

    ice_servers: tuple[IceServer, ...] = ()
    """STUN and TURN servers, for both sides. None are needed where callers reach this machine by its own address."""
    max_calls: Annotated[int, Meta(ge=1, le=1_000)] = 10
    """How many direct calls this process takes at once; a model reached over WebRTC counts as one more, a LiveKit room
    as 0.15. Ten use half a core, and leave what timely packets need."""
    addresses: tuple[str, ...] = ()
    """Addresses of this machine to listen on for media, such as "192.0.2.7". Empty: all of them but loopback."""
    bitrate_bps: Annotated[int, Meta(ge=6_000, le=510_000)] = 32_000
    """Opus bitrate of the voice, bit/s."""
    connect_timeout_s: Annotated[float, Meta(ge=1, le=120)] = 15.0
    """From our answer to media, s. A caller who has not come by then does not come."""
    disconnected_timeout_s: Annotated[float, Meta(ge=1, le=60)] = 5.0
    """A caller of whom nothing at all has been received for this long has gone, s."""
    queue_ms: Annotated[int, Meta(ge=1_000, le=10_000)] = 2_000
    """Room in the queue of the voice, ms. What would not fit is dropped, oldest first, and counted."""
    captions: bool = True
    """Send transcripts."""
    states: bool = True
    """Send what the agent is doing."""
    activities: bool = True
    """Send tool calls (name and state only) and how soon each turn was answered."""
    chat: bool = True
    """Take typed messages."""
    chat_limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    """Longest typed message, characters. What follows is cut and counted."""
    messages_per_s: Annotated[float, Meta(gt=0, le=1_000)] = 20.0
    """Messages taken of one caller a second, twice as many at once. Further ones are dropped and counted."""
    jitter: JitterSettings = JitterSettings()
