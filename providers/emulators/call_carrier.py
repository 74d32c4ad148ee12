"""A call over WebRTC as the carrier of a connection: messages by its data channel, sound by its track.

Loads aiortc on first use: `answer` raises ImportError where it is not installed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, Literal

from providers.emulators.carrier import CarrierLost, Ending, Heard
from providers.webrtc.peer import JitterSettings, Peer, PeerSettings

__all__ = ["CallCarrier"]

_OPEN_TIMEOUT_S = 20.0
_LINGER_S = 0.1
"""The last messages are given so long to arrive before the goodbye, which takes what is unsent with it."""
_LIMIT = 4096
_BYTES_PER_MS = 48
"""int16 mono at 24 kHz."""
_BITRATE_BPS = 64_000
"""Plenty: what is lost on the way is to be the network's doing, not the codec's."""
_PATIENCE = JitterSettings(min_delay_ms=60, start_delay_ms=80)
"""More than a call needs: what a busy machine sends late is to be heard, not made up."""


class CallCarrier:
    """What came and was not read yet is bounded. Full (4096): the oldest goes, `dropped` counts it."""

    def __init__(self, host: str, name: str) -> None:
        """Args: host that the server listens on: a call keeps to the same addresses."""
        addresses = () if host in ("", "0.0.0.0", "::") else ("127.0.0.1" if host == "localhost" else host,)
        self.dropped = 0
        self.is_open = False
        """Messages pass, or did."""
        settings = PeerSettings(addresses=addresses, bitrate_bps=_BITRATE_BPS, jitter=_PATIENCE)
        self._peer = Peer(self, settings, name=name)
        self._inbox: deque[tuple[str | bytes | Heard, float]] = deque()
        self._wake = asyncio.Event()
        self._held = False
        self._deaf = False
        self._over = False
        self._given_ms = 0.0
        self._code: int | None = None
        self._reason = ""
        self._said_goodbye: bool | None = None
        """By whom the call was ended: True by the client."""

    async def answer(self, offer_sdp: str) -> str:
        """The SDP to answer with. Raises ValueError for an offer that cannot be used."""
        return await self._peer.answer(offer_sdp)

    async def release(self) -> None:
        """Let go of sockets and tasks. Safe at any time, and twice."""
        await self._peer.close()

    # --------------------------------------------------------------------------------------------- for the connection

    async def opened(self) -> None:
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                await self._peer.connected()
        except (ConnectionError, TimeoutError) as error:
            raise CarrierLost(str(error) or "the call never came about") from error
        self.is_open = True

    async def received(self) -> AsyncGenerator[tuple[str | bytes | Heard, float]]:
        while True:
            while self._inbox and not self._deaf:
                yield self._inbox.popleft()
            if self._over:
                return
            self._wake.clear()
            await self._wake.wait()

    async def send(self, data: bytes, frame: Literal["text", "binary"]) -> None:
        """As text, whatever `frame` says: a data channel's messages are JSON text."""
        if self._over:
            raise CarrierLost(self._reason)
        self._peer.send_message(data.decode())

    def play(self, pcm: bytes) -> None:
        self._given_ms += len(pcm) / _BYTES_PER_MS
        self._peer.send_audio(pcm)

    def hush(self) -> None:
        self._peer.flush_audio()

    def played_ms(self, now: float) -> float:
        return self._given_ms - self._peer.queued_ms(now)

    def hold(self, *, pongs: bool) -> None:
        """Without pongs the network falls silent, too, and what the track brings meanwhile is lost."""
        self._held, self._deaf = True, not pongs
        self._peer.pause_audio(True)
        self._peer.mute(not pongs)

    def go_on(self) -> None:
        self._held = self._deaf = False
        self._peer.mute(False)
        self._peer.pause_audio(False)
        self._wake.set()

    def left(self) -> bool:
        return self._over

    async def close(self, code: int, reason: str = "") -> None:
        """The code does not travel; it is what the record says."""
        if not self._over:
            self._code, self._reason, self._said_goodbye = code, reason, False
            if self._held:
                self.go_on()
            await asyncio.sleep(_LINGER_S)
        await self._peer.close()

    def abort(self) -> None:
        self._peer.mute(True)
        self._end("vanished")

    def ending(self) -> Ending:
        return Ending(self._code, self._reason, self._said_goodbye)

    # ---------------------------------------------------------------------------------------------------- for the peer

    def peer_connected(self) -> None:
        pass

    def channel_open(self) -> None:
        pass

    def audio_received(self, pcm: bytes, now: float) -> None:
        if not self._deaf:
            self._put(Heard(pcm))

    def message_received(self, message: str | bytes) -> None:
        self._put(message)

    def video_track(self, track: Any) -> None:
        pass

    def peer_closed(self, reason: str) -> None:
        if not self._over and self._said_goodbye is None and not reason.startswith(("ice", "bug")):
            self._said_goodbye, self._code = True, 1000
        self._end(reason)

    def _put(self, item: str | bytes | Heard) -> None:
        if len(self._inbox) >= _LIMIT:
            self._inbox.popleft()
            self.dropped += 1
        self._inbox.append((item, time.monotonic()))
        self._wake.set()

    def _end(self, reason: str) -> None:
        if not self._over:
            self._over = True
            self._reason = self._reason or reason
            self._wake.set()
