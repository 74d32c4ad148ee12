"""A `Link` over one WebRTC connection: messages over its data channel, audio on its tracks.

Commands of a link are plain calls and its end is told at once; what takes time (the goodbye, closing sockets) is one
task that the link owns, and `wait_closed` waits for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from providers.contract import OutboxStats
from providers.link import Link, LinkUser
from providers.webrtc.outbox import RealTimeOutbox
from providers.webrtc.punctual import Punctual

__all__ = ["PeerConnection", "PeerLink"]

_log = logging.getLogger("providers.webrtc.link")

_LEAD_MS = 200.0
"""Handed to the sender ahead of time: counts as sent, and hides a loop that stalls. Live speech never fills it."""
_BEAT_S = 0.02
_EARLY_MESSAGES = 64


class PeerConnection(Protocol):
    """What a link needs of `providers.webrtc.peer.Peer`."""

    def send_audio(self, pcm: bytes) -> None: ...
    def flush_audio(self) -> None: ...
    def queued_ms(self, now: float) -> float: ...
    def send_message(self, message: str) -> None: ...
    async def close(self) -> None: ...


class PeerLink:
    """A `Link` over a peer connection; the `PeerUser` of it. Messages that come before `attach` wait: beyond 64 the
    oldest goes, and is logged.

    Args: `goodbye` is awaited at the end, before the connection is closed (a hang-up over HTTP), bounded by
    `close_timeout_s`; `outbox_ms` and `kept_silence_ms` are those of `RealTimeOutbox`.
    """

    def __init__(self, *, name: str, outbox_ms: float, kept_silence_ms: float, close_timeout_s: float) -> None:
        self.name = name
        self.writable = False
        self.goodbye: Callable[[], Awaitable[None]] | None = None
        """Said at the end; assign once there is somebody to say it to."""
        self._outbox_ms = outbox_ms
        self._kept_silence_ms = kept_silence_ms
        self._close_timeout_s = close_timeout_s
        self._loop = asyncio.get_running_loop()
        self._peer: PeerConnection | None = None
        self._messages: Link | None = None  # the way of messages, where it is not the data channel
        self._user: LinkUser | None = None
        self._early: list[str | bytes] = []
        self._outbox: RealTimeOutbox | None = None
        self._punctual: Punctual | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._end: tuple[int, str] | None = None
        self._told = False
        self._closing: asyncio.Task[None] | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()

    def bind(self, peer: PeerConnection) -> None:
        """This is the connection, and the link's own from now on: it closes it."""
        self._peer = peer

    def opened(self, messages: Link | None = None) -> None:
        """The connection stands. `messages`: they travel over this link, and the data channel is not listened to."""
        self._messages = messages
        self.writable = self._end is None
        if messages is not None:
            messages.attach(_Sideband(self))

    # ------------------------------------------------------------------------------------------------------- as a link

    def attach(self, user: LinkUser) -> None:
        """See `Link.attach`."""
        self._user = user
        early, self._early = self._early, []
        for message in early:
            user.message_received(message)
        if self._end is not None:
            self._tell_end()

    def send(self, message: bytes) -> None:
        """See `Link.send`."""
        if self._end is not None:
            return
        if self._messages is not None:
            self._messages.send(message)
        elif self._peer is not None:
            self._peer.send_message(message.decode())

    def carry_audio(self, stats: OutboxStats) -> bool:
        """See `Link.carry_audio`: yes."""
        self._outbox = RealTimeOutbox(self._outbox_ms, stats, kept_silence_ms=self._kept_silence_ms)
        self._punctual = Punctual(stats)
        return True

    def send_audio(self, audio: bytes) -> None:
        """See `Link.send_audio`."""
        if self._outbox is not None and self._end is None:
            self._outbox.push(audio)
            if self._beat is None:
                self._hand_on()

    def drop_audio(self) -> None:
        """See `Link.drop_audio`."""
        if self._outbox is not None and self._peer is not None:
            self._outbox.drop_all()
            self._peer.flush_audio()

    def finish(self, code: int = 1000, reason: str = "") -> None:
        """See `Link.finish`."""
        if self._end is None and self._closing is None:
            self.writable = False
            self._begin_closing((code, reason))

    def abort(self, reason: str = "") -> None:
        """See `Link.abort`."""
        self._ended(1006, reason or "given up")

    async def wait_closed(self) -> None:
        """See `Link.wait_closed`."""
        await asyncio.shield(self._closed)

    # --------------------------------------------------------------------------------------------- called by the peer

    def peer_connected(self) -> None:
        """Media may flow: whoever dialled goes on."""

    def channel_open(self) -> None:
        """Messages may flow: whoever dialled goes on."""

    def audio_received(self, pcm: bytes, now: float) -> None:
        if self._user is not None and self._end is None:
            self._user.audio_received(pcm, now)

    def message_received(self, message: str | bytes) -> None:
        if self._messages is None:
            self.pass_on(message)

    def video_track(self, track: Any) -> None:
        """No provider sends pictures."""

    def peer_closed(self, reason: str) -> None:
        self._ended(1006, reason)

    # --------------------------------------------------------------------------------------------------------- inside

    def pass_on(self, message: str | bytes) -> None:
        """A message to the user, or to the next one."""
        if self._end is not None:
            return
        if self._user is not None:
            self._user.message_received(message)
            return
        self._early.append(message)
        if len(self._early) > _EARLY_MESSAGES:
            _log.warning("%s: more messages than a connection that nobody uses may say", self.name)
            del self._early[0]

    def messages_writable(self) -> None:
        """The sideband takes messages again."""
        self.writable = self._end is None and self._closing is None
        if self.writable and self._user is not None:
            self._user.link_writable()

    def messages_ended(self, code: int, reason: str) -> None:
        """The sideband is gone: a call without events is none."""
        self._ended(code, reason)

    def _hand_on(self) -> None:
        """Keep the sender's own queue a little filled; the rest waits where it can still be dropped."""
        self._beat = None
        outbox, punctual, peer = self._outbox, self._punctual, self._peer
        if outbox is None or punctual is None or peer is None or self._end is not None:
            return
        now = self._loop.time()
        ahead_ms = peer.queued_ms(now)
        while ahead_ms < _LEAD_MS and (taken := outbox.take(ahead_ms)) is not None:
            piece, duration_ms = taken
            peer.send_audio(punctual.hand_on(piece, ahead_ms, now))
            ahead_ms += duration_ms
        if outbox:
            self._beat = self._loop.call_later(_BEAT_S, self._hand_on)

    def _ended(self, code: int, reason: str) -> None:
        """The end came from outside, or without a goodbye: told at once, tidied up behind."""
        if self._end is not None:
            return
        self.writable = False
        if self._closing is None:
            self._end = (code, reason)
            self._begin_closing(None)
            if self._user is not None:
                self._tell_end()

    def _begin_closing(self, end: tuple[int, str] | None) -> None:
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None
        if self._outbox is not None:
            self._outbox.drop_all()
        self._closing = self._loop.create_task(self._close(end), name=f"{self.name}:close")

    async def _close(self, end: tuple[int, str] | None) -> None:
        peer, messages, goodbye = self._peer, self._messages, self.goodbye
        try:
            if messages is not None:
                messages.finish()
            if goodbye is not None:
                await self._say(goodbye)
            if peer is not None:
                await peer.close()
            if messages is not None:
                await messages.wait_closed()
        finally:
            # Whatever went wrong: somebody waits for the end. They know us: no cycle may be left.
            self._peer = self._messages = self.goodbye = None
            if end is not None and self._end is None:
                self._end = end
            if self._user is not None:
                self._tell_end()
            self._closed.set_result(None)

    async def _say(self, goodbye: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(self._close_timeout_s):
                await goodbye()
        except TimeoutError:
            _log.info("%s: the goodbye was not answered in time", self.name)
        except Exception:  # a bug of whoever says it; the connection must be closed all the same
            _log.exception("%s: the goodbye failed", self.name)

    def _tell_end(self) -> None:
        assert self._end is not None
        user, self._user = self._user, None
        if user is not None and not self._told:
            self._told = True
            user.link_closed(*self._end)


class _Sideband:
    """Listens to the link that carries the messages of a call."""

    def __init__(self, link: PeerLink) -> None:
        self._link = link

    def message_received(self, message: str | bytes) -> None:
        self._link.pass_on(message)

    def audio_received(self, audio: bytes, now: float) -> None:
        """It carries none."""

    def link_writable(self) -> None:
        self._link.messages_writable()

    def link_closed(self, code: int, reason: str) -> None:
        self._link.messages_ended(code, reason)
