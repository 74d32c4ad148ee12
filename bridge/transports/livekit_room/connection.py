"""One connection to a room: joined, spoken through, left. A call has one after the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from livekit import rtc
from livekit.rtc.participant import PublishTrackError

from bridge.core.errors import RoomError
from bridge.transports.livekit_room import ffi
from bridge.transports.livekit_room.refusal import refusal
from bridge.transports.livekit_room.sdk_log import redact_tokens
from bridge.transports.livekit_room.settings import LiveKitSettings
from bridge.transports.livekit_room.tracks import Voice, publish

__all__ = ["Connection"]

_log = logging.getLogger(__name__)
_SIGNAL_TIMEOUT_S = 5.0
"""For one attempt at the signal connection; the SDK makes up to four."""
_STATS_TIMEOUT_S = 0.3


class Connection:
    """The SDK's room, and what of ours hangs on it. Every wait is bounded; what hangs is let go natively."""

    def __init__(
        self, settings: LiveKitSettings, hub: ffi.Hub | None, handlers: Sequence[tuple[Any, Callable[..., None]]]
    ) -> None:
        """Args: handlers are events of the room and who is told of them, until the connection is left."""
        self.room = rtc.Room(asyncio.get_running_loop())
        self.publication: rtc.LocalTrackPublication | None = None
        self._settings = settings
        self._hub = hub
        self._handlers = list(handlers)
        for event, handler in self._handlers:
            self.room.on(event, handler)

    async def join(self, token: str, credential: str) -> None:
        """Connect. Raises RoomRejected or RoomError; the caller bounds it."""
        settings = self._settings
        options = rtc.RoomOptions(
            auto_subscribe=False, connect_timeout=min(_SIGNAL_TIMEOUT_S, settings.connect_timeout_s)
        )
        try:
            await self.room.connect(settings.url, token, options)
        except rtc.ConnectError as error:
            raise refusal(redact_tokens(error.message), settings, credential) from None
        if self._hub is not None:
            self._hub.bind(self.room)

    async def speak(self, voice: Voice) -> None:
        """Publish the agent's voice. Raises RoomError; the caller bounds it."""
        try:
            self.publication = await publish(self.room, voice, self._settings)
        except PublishTrackError as error:
            raise RoomError(f"the voice could not be published: {error.message}") from None

    @property
    def newest_token(self) -> str:
        """As the server has refreshed it; empty if the SDK does not tell."""
        return ffi.newest_token(self.room)

    async def answers(self) -> int:
        """Packets that the server has sent so far on the way that carries our voice; -1: that way is gone.

        Every few of ours are acknowledged, so that this grows by dozens a second as long as we are heard.
        """
        try:
            async with asyncio.timeout(_STATS_TIMEOUT_S):
                stats = (await self.room.get_rtc_stats()).publisher_stats
        except (TimeoutError, RuntimeError):
            return -1
        ways = (one.transport.transport for one in stats if one.WhichOneof("stats") == "transport")
        return max((way.packets_received for way in ways), default=-1)

    def unhook(self) -> None:
        """Nothing more is told of this connection."""
        for event, handler in self._handlers:
            self.room.off(event, handler)
        self._handlers.clear()

    async def leave(self, timeout_s: float) -> None:
        """Say goodbye, for `timeout_s` at most: the SDK waits for a dead server as long as it takes."""
        self.unhook()
        try:
            async with asyncio.timeout(timeout_s):
                await self.room.disconnect()
        except TimeoutError:
            _log.warning("room %s: the goodbye took too long", self._settings.room)
        finally:
            if self._hub is not None:
                self._hub.unbind(self.room)
            ffi.abandon(self.room)
            self.publication = None
