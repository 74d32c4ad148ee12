"""Settings of one WebRTC connection: plain values, so that reading a configuration loads no codec."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["IceServer", "JitterSettings", "PeerSettings", "ResolvedIceServer"]


class IceServer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A STUN or TURN server, as a configuration file names it: the secret stays in the environment."""

    urls: tuple[str, ...]
    """`stun:HOST[:PORT]`, `turn:HOST[:PORT][?transport=udp|tcp]` or `turns:HOST[:PORT]`."""
    username: str = ""
    """For TURN."""
    credential_env: str = ""
    """Name of the environment variable that holds TURN's password."""


class ResolvedIceServer(msgspec.Struct, frozen=True, kw_only=True):
    """An `IceServer` with its secret: never shown, never logged."""

    urls: tuple[str, ...]
    username: str = ""
    credential: str = ""

    def __repr__(self) -> str:
        return f"ResolvedIceServer(urls={self.urls!r})"


class JitterSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much delay is spent on packets that come unevenly. More hides more jitter; every answer comes later by it."""

    min_delay_ms: Annotated[int, Meta(ge=0, le=1_000)] = 20
    """Never less than this, however even the packets come."""
    max_delay_ms: Annotated[int, Meta(ge=20, le=2_000)] = 200
    """Never more than this on purpose: what comes later counts as lost."""
    start_delay_ms: Annotated[int, Meta(ge=0, le=1_000)] = 40
    """Until the jitter is known."""
    max_held_ms: Annotated[int, Meta(ge=0, le=4_000)] = 2_000
    """Speech that a stall of the network delivered late and all at once: so much is kept, and played a little faster
    until the delay is back. The oldest beyond it is dropped."""
    rest_after_ms: Annotated[int, Meta(ge=100, le=10_000)] = 1_000
    """No packet for so long: the stream rests, nothing is played until the next one."""

    def __post_init__(self) -> None:
        if self.min_delay_ms > self.max_delay_ms:
            raise ValueError(f"min_delay_ms = {self.min_delay_ms}: use at most max_delay_ms = {self.max_delay_ms}")


class PeerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One connection. The defaults serve speech over the open internet."""

    send_rate_hz: int = 24_000
    """Rate of what `send_audio` takes: 8, 12, 16, 24 or 48 kHz. On the wire the clock is 48 kHz whatever is sent."""
    receive_rate_hz: int = 24_000
    """Rate of what `audio_received` gives: 8, 12, 16, 24 or 48 kHz."""
    bitrate_bps: int = 32_000
    """Of the Opus that is sent."""
    jitter: JitterSettings = JitterSettings()
    send_queue_ms: int = 2_000
    """Audio that waits for its turn to be sent. Full: the oldest goes, counted."""
    message_queue: int = 256
    """Messages that wait for the data channel to open. Full: new ones are dropped, counted."""
    max_message_bytes: int = 262_144
    """Of one received message: a longer one is dropped, counted."""
    connect_timeout_s: float = 20.0
    """From both descriptions being known to encrypted media; then `peer_closed`."""
    disconnected_timeout_s: float = 3.0
    """Nothing at all received for that long: the connection is lost."""
    addresses: tuple[str, ...] = ()
    """Local addresses to listen on. Empty: all of this machine's but loopback, or loopback if there is no other."""
    video: bool = False
    """Take the other side's video too."""
