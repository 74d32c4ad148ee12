"""A LiveKit room as a transport. Light to import: the SDK is loaded when a room is opened."""

from __future__ import annotations

import asyncio
import importlib
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from bridge.core.errors import ConfigError, RoomInUse, RoomRejected
from bridge.core.words import Activity, AgentState, Caption
from bridge.transports.contract import TransportCapabilities, TransportListener
from bridge.transports.livekit_room.settings import LiveKitSettings
from bridge.transports.livekit_room.token import TokenClaims, read_claims, sign_agent
from bridge.video.picture import RawFrame
from providers.signal.formats import AudioFormat, Encoding

if TYPE_CHECKING:
    from bridge.transports.livekit_room.call import RoomCall

__all__ = ["LiveKitRoom"]

_TOKEN = "LIVEKIT_TOKEN"
_KEYS = "LIVEKIT_API_KEY, LIVEKIT_API_SECRET"
_TAIL_MS = 300
"""From our native queue to a loudspeaker: encoder, network, and a jitter buffer that has seen some loss. On loopback it
is 50."""
_CALL = "bridge.transports.livekit_room.call"


class LiveKitRoom:
    """Joins a room as an agent, hears its audience and speaks on one microphone track.

    Give either a `token`, or `api_key` and `api_secret` to sign one. Raises ConfigError at once for what is wrong
    without asking the server, RoomRejected or RoomError from `open` for the rest. One object is one call.
    """

    def __init__(
        self,
        settings: LiveKitSettings,
        *,
        token: str | None = None,
        api_key: str | None = None,
        api_secret: str | None = None,
    ) -> None:
        if not is_address(settings.url):
            raise ConfigError("livekit.url", settings.url, "give ws://HOST:PORT or wss://HOST")
        self._claims: TokenClaims | None = None
        if token is not None:
            try:
                self._claims = read_claims(token)
            except ValueError as error:
                raise ConfigError(_TOKEN, "[token]", f"{error}; make one with `roombridge token`") from None
            settings = _as_granted(settings, self._claims)
        elif not settings.room:
            raise ConfigError("livekit.room", "", "name the room to join")
        elif not (api_key and api_secret):
            raise ConfigError(_KEYS, "", "set both in the environment, or give a join token")
        self.settings = settings
        """As given, and with the name of the token's room where none was."""
        self._token = token
        self._api_key, self._api_secret = api_key, api_secret
        self._call: RoomCall | None = None
        self._opened = False
        self._last_counters: dict[str, int] = {}
        self._capabilities = TransportCapabilities(
            name="livekit",
            input_format=AudioFormat(Encoding.PCM16, settings.input_rate_hz),
            output_format=AudioFormat(Encoding.PCM16, settings.output_rate_hz),
            frame_ms=settings.frame_ms,
            tells_hearers=True,
            tail_ms=_TAIL_MS,
            captions=settings.captions,
            states=settings.states,
            activities=settings.activities,
            video=True,
        )

    def __repr__(self) -> str:
        return f"LiveKitRoom(url={self.settings.url!r}, room={self.settings.room!r})"

    @property
    def capabilities(self) -> TransportCapabilities:
        return self._capabilities

    async def open(self, listener: TransportListener) -> None:
        """Join and publish the voice, within `connect_timeout_s`. Events and frames may come before it returns.

        Raises RoomRejected where another try cannot help (token, room, permission), else RoomError.
        """
        if self._opened:
            raise RoomInUse("a LiveKitRoom serves one call: make a new one")
        self._opened = True
        self._join_token("")  # one that cannot be good is refused before anything is loaded
        if _CALL not in sys.modules:
            # The SDK takes a quarter of a second to import: other calls of this loop must not hear it.
            await asyncio.to_thread(importlib.import_module, _CALL)
        from bridge.transports.livekit_room.call import RoomCall

        self._call = RoomCall(
            self.settings,
            self._join_token,
            listener,
            credential=_KEYS if self._token is None else _TOKEN,
            may_show_state=self._may_show_state(),
        )
        await self._call.open()

    async def close(self) -> None:
        """Leave: captions that wait are sent, the room is left, everything released, within `close_timeout_s`."""
        call = self._call
        if call is not None:
            await call.close()
            # Whoever keeps this object for its counters keeps no native handles and threads with it.
            self._last_counters = call.counters()
            self._call = None

    def play(self, audio: bytes) -> None:
        if self._call is not None:
            self._call.play(audio)

    def flush(self) -> None:
        if self._call is not None:
            self._call.flush()

    def queued_ms(self, now: float) -> float:
        return self._call.queued_ms(now) if self._call is not None else 0.0

    def show_caption(self, caption: Caption) -> None:
        if self._call is not None and self.settings.captions:
            self._call.show_caption(caption)

    def show_state(self, state: AgentState) -> None:
        if self._call is not None and self.settings.states:
            self._call.show_state(state)

    def show_activity(self, activity: Activity) -> None:
        if self._call is not None and self.settings.activities:
            self._call.show_activity(activity)

    def look_at(self, track_id: str | None) -> None:
        if self._call is not None:
            self._call.look_at(track_id)

    def take_frame(self) -> RawFrame | None:
        return self._call.take_frame() if self._call is not None else None

    def counters(self) -> dict[str, int]:
        return self._call.counters() if self._call is not None else self._last_counters

    def _join_token(self, newest: str) -> str:
        """A token to join with, or to come back with: of our own, else the newest that the server has sent."""
        if self._token is None:
            assert self._api_key and self._api_secret, "checked in __init__"
            settings = self.settings
            return sign_agent(
                self._api_key, self._api_secret, room=settings.room, identity=settings.identity, name=settings.name
            )
        claims = read_claims(newest) if newest else self._claims
        assert claims is not None, "read in __init__"
        if claims.exp and claims.exp < datetime.now(UTC).timestamp() - 60:
            ended = datetime.fromtimestamp(claims.exp, UTC).isoformat()
            raise RoomRejected("expired", field=_TOKEN, value=f"exp {ended}", mend="sign a new token")
        return newest or self._token

    def _may_show_state(self) -> bool:
        return self._claims is None or bool(self._claims.video.get("canUpdateOwnMetadata"))


def _as_granted(settings: LiveKitSettings, claims: TokenClaims) -> LiveKitSettings:
    """The settings with the room that the token opens. Raises: `ConfigError` if it does not open what is asked."""
    room = str(claims.video.get("room", ""))
    if not (room or settings.room):
        raise ConfigError(_TOKEN, "[token]", "it names no room: sign one with the claim video.room")
    if settings.room and room and room != settings.room:
        mend = f"is for another room than {settings.room!r}: sign one for that room, or name none"
        raise ConfigError(_TOKEN, f"video.room {room}", mend)
    if claims.video.get("canPublish") is False:
        raise ConfigError(_TOKEN, "video.canPublish false", "sign one that may publish: an agent has a voice")
    return settings if settings.room else msgspec.structs.replace(settings, room=room)


def is_address(url: str) -> bool:
    """A LiveKit server may be there."""
    try:
        address = urlsplit(url)
        return address.scheme in ("ws", "wss", "http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:  # a torn IPv6 host, a port beyond 65535
        return False
