"""All asyncio choreography of one LiveKit call: join, hear, speak, leave. The decisions are in `membership`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from livekit import rtc
from livekit.rtc.participant import PublishTrackError

from bridge.core.errors import RoomError
from bridge.core.words import (
    AgentState,
    Caption,
    EndReason,
    ParticipantId,
    RoomEnded,
    RoomEvent,
    RoomReconnected,
    RoomReconnecting,
    VoiceHeard,
)
from bridge.transports.contract import TransportListener
from bridge.transports.livekit_room import ffi
from bridge.transports.livekit_room.audience import Audience, kind_name, reason_name
from bridge.transports.livekit_room.held import HeldSpeech
from bridge.transports.livekit_room.incoming import Incoming
from bridge.transports.livekit_room.membership import end_reason
from bridge.transports.livekit_room.refusal import refusal
from bridge.transports.livekit_room.settings import LiveKitSettings
from bridge.transports.livekit_room.text import TextWriter
from bridge.transports.livekit_room.tracks import Voice, open_voice, publish

__all__ = ["RoomCall"]

_log = logging.getLogger(__name__)
_SIGNAL_TIMEOUT_S = 5.0
"""For one attempt at the signal connection; the SDK makes up to four."""
_LEGACY_PROTOCOL = 3
"""Clients below this protocol read transcripts from packets only."""


class RoomCall:
    """One stay in one room. A root task owns all others from `open` to `close`."""

    def __init__(
        self,
        settings: LiveKitSettings,
        token: str,
        listener: TransportListener,
        *,
        credential: str,
        may_show_state: bool,
    ) -> None:
        """Args: credential is where the token came from, as an error should name it."""
        self._settings = settings
        self._token = token
        self._credential = credential
        self._listener = listener
        self._may_show_state = may_show_state
        self._loop = asyncio.get_running_loop()
        self._hub = ffi.hub() if settings.ffi == "auto" else None
        self._room = rtc.Room(self._loop)
        self._held = HeldSpeech(listener.on_audio, self._tell, rate_hz=settings.input_rate_hz)
        self._audience = Audience(
            settings, self._room, self._hub, self._held.hear, spawn=self._spawn, tell=self._tell, end=self._end
        )
        self._incoming = Incoming(settings, self._admits, self._spawn, self._tell, self._held)
        self._voice: Voice | None = None
        self._publication: rtc.LocalTrackPublication | None = None
        self._text: TextWriter | None = None
        self._writing: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._children: set[asyncio.Task[None]] = set()
        self._root: asyncio.Task[None] | None = None
        self._joined: asyncio.Future[None] = self._loop.create_future()
        self._closing = asyncio.Event()
        self._lost: asyncio.TimerHandle | None = None
        self._ended = False
        self._handlers: list[tuple[Any, Callable[..., None]]] = [
            ("reconnecting", self._on_reconnecting),
            ("reconnected", self._on_reconnected),
            ("disconnected", self._on_disconnected),
            ("local_track_subscribed", self._on_heard),
        ]
        self._reconnects = 0
        self._counted: dict[str, int] | None = None

    # Life --------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Join and publish. Raises RoomRejected or RoomError; the rest of the clean-up is `close`'s."""
        self._root = self._loop.create_task(self._live(), name=f"livekit:{self._settings.room}")
        timeout_s = self._settings.connect_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self._joined)
        except TimeoutError:
            self._closing.set()
            raise RoomError(
                f"not joined within {timeout_s:g} s",
                field="livekit.url",
                value=self._settings.url,
                mend="check that UDP or TCP media ports of the server are reachable, or raise connect_timeout_s",
            ) from None
        except BaseException:
            self._closing.set()
            raise

    async def close(self) -> None:
        """Leave and release everything, bounded. Safe to call twice, and from two tasks."""
        self._ended = True  # nothing is told from here on
        self._closing.set()
        root = self._root
        if root is not None and not root.done():
            _, pending = await asyncio.wait((root,), timeout=self._settings.close_timeout_s + 1)
            if pending:
                _log.warning("room %s was not left in time", self._settings.room)
                root.cancel()
                await asyncio.wait((root,), timeout=1)
        self._release()

    def _release(self) -> None:
        # The garbage collector is off while calls speak: native objects have to go by reference count alone.
        self._counted = self.counters()
        self._incoming.forget()
        self._held.forget()
        self._audience.forget()
        self._handlers.clear()
        self._root = self._group = self._text = self._voice = self._writing = self._publication = None
        self._lost = None

    async def _live(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    await self._join(group)
                    self._writing = group.create_task(
                        self._text_writer().run(), name=f"livekit:{self._settings.room}:text"
                    )
                    if not self._joined.done():
                        self._joined.set_result(None)
                    await self._closing.wait()
                except RoomError as error:
                    self._fail(error)
                finally:
                    for child in tuple(self._children):
                        child.cancel()
                    await self._leave()
        except BaseExceptionGroup as failed:
            _log.exception("room %s failed", self._settings.room)
            self._fail(RoomError(f"internal error: {failed.exceptions[0]!r}"))
        except asyncio.CancelledError:
            self._fail(RoomError("cancelled"))
            raise

    def _fail(self, error: RoomError) -> None:
        if self._joined.done():
            self._end(EndReason.DISCONNECTED, str(error))
        else:
            self._joined.set_exception(error)
            self._joined.exception()  # `open` may have given up already

    async def _join(self, group: asyncio.TaskGroup) -> None:
        settings = self._settings
        for event, handler in self._handlers:
            self._room.on(event, handler)
        self._audience.listen(group)
        self._incoming.register(self._room)
        options = rtc.RoomOptions(
            auto_subscribe=False, connect_timeout=min(_SIGNAL_TIMEOUT_S, settings.connect_timeout_s)
        )
        try:
            await self._room.connect(settings.url, self._token, options)
        except rtc.ConnectError as error:
            raise refusal(ffi.redact_tokens(error.message), settings, self._credential) from None
        if self._hub is not None:
            self._hub.bind(self._room)
        self._audience.greet()
        self._voice = open_voice(self._hub, group, settings)
        try:
            self._publication = await publish(self._room, self._voice, settings)
        except PublishTrackError as error:
            raise RoomError(f"the voice could not be published: {error.message}") from None

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(self._settings.close_timeout_s):
                await self._finish_text()
                await self._audience.close_ears()
                if self._voice is not None:
                    await self._voice.aclose()
                await self._room.disconnect()
        except TimeoutError:
            _log.warning("room %s: the goodbye took too long", self._settings.room)
        finally:
            for event, handler in self._handlers:
                self._room.off(event, handler)
            self._handlers.clear()
            if self._lost is not None:
                self._lost.cancel()
            self._audience.forget()
            self._incoming.unregister(self._room)
            if self._hub is not None:
                self._hub.unbind(self._room)

    async def _finish_text(self) -> None:
        if self._writing is None or self._text is None:
            return
        if self._room.isconnected():
            self._text.stop()
            await asyncio.wait((self._writing,), timeout=self._settings.close_timeout_s / 2)
        self._writing.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        assert self._group is not None, "tasks belong to the group of `_live`"
        task = self._group.create_task(work, name=f"livekit:{self._settings.room}:{name}")
        self._children.add(task)
        task.add_done_callback(self._children.discard)

    # Down --------------------------------------------------------------------------------------------------

    def play(self, audio: bytes) -> None:
        if self._voice is not None:
            self._voice.push(audio, self._loop.time())

    def flush(self) -> None:
        if self._voice is not None:
            self._voice.clear()

    def queued_ms(self, now: float) -> float:
        return self._voice.queued_s(now) * 1000 if self._voice is not None else 0.0

    def show_caption(self, caption: Caption) -> None:
        if not self._closing.is_set():
            self._text_writer().show_caption(caption)

    def show_state(self, state: AgentState) -> None:
        if self._may_show_state and not self._closing.is_set():
            self._text_writer().show_state(state)

    def _text_writer(self) -> TextWriter:
        if self._text is None:
            self._text = TextWriter(self._room, track_of=self._track_of, wants_legacy=self._wants_legacy)
        return self._text

    def _track_of(self, speaker: ParticipantId | None) -> str:
        if speaker is None:
            return self._publication.sid if self._publication is not None else ""
        return self._audience.track_of(speaker)

    def _wants_legacy(self) -> bool:
        if self._settings.legacy_captions != "auto":
            return self._settings.legacy_captions == "always"
        for participant in self._room.remote_participants.values():
            if kind_name(participant) == "standard":
                protocol = ffi.client_protocol(participant)
                if protocol is None or protocol < _LEGACY_PROTOCOL:
                    return True
        return False

    def counters(self) -> dict[str, int]:
        if self._counted is not None:
            return self._counted
        voice, text, incoming = self._voice, self._text, self._incoming
        return {
            "input_frames_dropped": self._audience.dropped_frames,
            "voice_dropped_ms": int(voice.dropped_ms) if voice is not None else 0,
            "voice_errors": voice.errors if voice is not None else 0,
            "captions_dropped": text.dropped if text is not None else 0,
            "text_failed": text.failed if text is not None else 0,
            "segments_forced_closed": text.forced_closes if text is not None else 0,
            "states_unconfirmed": text.states_unconfirmed if text is not None else 0,
            "chat_refused": incoming.chat_refused,
            "chat_cut": incoming.chat_cut,
            "early_audio_refused": incoming.early_refused,
            "early_audio_cut": incoming.early_cut,
            "early_audio_late": self._held.late,
            "reconnects": self._reconnects,
            "failed_subscriptions": self._audience.failed_subscriptions,
        }

    # Up ----------------------------------------------------------------------------------------------------

    def _tell(self, event: RoomEvent) -> None:
        if not self._ended:
            self._listener.on_event(event)

    def _end(self, reason: EndReason, detail: str = "") -> None:
        if not self._ended:
            self._listener.on_event(RoomEnded(reason, detail))
            self._ended = True

    def _admits(self, who: ParticipantId) -> bool | None:
        return False if self._ended else self._audience.admits(who)

    def _on_reconnecting(self) -> None:
        self._reconnects += 1
        self._audience.away = True
        self._tell(RoomReconnecting())
        if self._lost is None:
            self._lost = self._loop.call_later(self._settings.reconnect_timeout_s, self._on_lost)

    def _on_heard(self, _: rtc.LocalTrackPublication) -> None:
        self._tell(VoiceHeard())

    def _on_reconnected(self) -> None:
        if self._lost is not None:
            self._lost.cancel()
            self._lost = None
        self._audience.returned()
        self._tell(RoomReconnected())

    def _on_lost(self) -> None:
        self._end(EndReason.DISCONNECTED, f"no way back in {self._settings.reconnect_timeout_s:g} s")

    def _on_disconnected(self, reason: Any = None) -> None:
        name = reason_name(reason)
        self._end(end_reason(name), name)
