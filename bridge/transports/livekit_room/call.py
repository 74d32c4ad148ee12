"""All asyncio choreography of one LiveKit call: join, hear, speak, come back, leave. The decisions are in `membership`.

A lost connection is mended by the SDK where it can, mostly unheard: for the signal connection alone it takes 3 s, and
media flows meanwhile. Where it has not come back for `rejoin_after_s`, or gives up, we join anew ourselves, with a
token of our own where we may sign one, and go on: same voice, same audience, same captions.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any

from livekit import rtc

from bridge.core.errors import RoomError, RoomRejected
from bridge.core.words import (
    Activity,
    AgentState,
    Caption,
    EndReason,
    ParticipantId,
    RoomEnded,
    RoomEvent,
    RoomReconnected,
    RoomReconnecting,
    StillHeard,
    VoiceHeard,
)
from bridge.transports.contract import TransportListener
from bridge.transports.livekit_room import ffi
from bridge.transports.livekit_room.audience import Audience, kind_name, reason_name
from bridge.transports.livekit_room.connection import Connection
from bridge.transports.livekit_room.held import HeldSpeech
from bridge.transports.livekit_room.incoming import Incoming
from bridge.transports.livekit_room.membership import end_reason
from bridge.transports.livekit_room.settings import LiveKitSettings
from bridge.transports.livekit_room.sight import Sight
from bridge.transports.livekit_room.text import TextWriter
from bridge.transports.livekit_room.tracks import Voice, open_voice
from bridge.transports.livekit_room.way_back import WayBack
from bridge.video.picture import RawFrame

__all__ = ["RoomCall"]

_log = logging.getLogger(__name__)
_PROOF_S = 0.1
"""Between two looks at whether we are still heard, while we are away."""
_NO_PROOF_S = 0.3
_LEGACY_PROTOCOL = 3
"""Clients below this protocol read transcripts from packets only."""


class RoomCall:
    """One stay in one room, over as many connections as it takes. A root task owns all others, `open` to `close`."""

    def __init__(
        self,
        settings: LiveKitSettings,
        token: Callable[[str], str],
        listener: TransportListener,
        *,
        credential: str,
        may_show_state: bool,
    ) -> None:
        """Args: token gives one to join with, from the newest that the server has sent (empty at first), and raises
        RoomRejected where none is good any more; credential is where it comes from, as an error should name it."""
        self._settings = settings
        self._token = token
        self._credential = credential
        self._listener = listener
        self._may_show_state = may_show_state
        self._loop = asyncio.get_running_loop()
        self._hub = ffi.hub() if settings.ffi == "auto" else None
        self._held = HeldSpeech(listener.on_audio, self._tell, rate_hz=settings.input_rate_hz)
        self._audience = Audience(
            settings, self._hub, self._held.hear, spawn=self._spawn, tell=self._tell, end=self._end
        )
        self._sight = Sight(settings.room, self._hub, admits=self._audience.admits, spawn=self._spawn, tell=self._tell)
        self._incoming = Incoming(settings, self._admits, self._spawn, self._tell, self._held)
        self._text = TextWriter(track_of=self._track_of, wants_legacy=self._wants_legacy)
        self._connection: Connection | None = None
        self._voice: Voice | None = None
        self._writing: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._children: set[asyncio.Task[None]] = set()
        self._root: asyncio.Task[None] | None = None
        self._rejoining: asyncio.Task[None] | None = None
        self._joined: asyncio.Future[None] = self._loop.create_future()
        self._closing = False
        self._turn = asyncio.Event()
        """Set when `_live` has something to do: a connection is given up, or the call is closed."""
        self._given_up = False
        self._joining = False
        self._away_since: float | None = None
        self._renewed = False
        self._proved_at = 0.0
        self._timers: list[asyncio.TimerHandle] = []
        self._newest_token = ""
        self._ended = False
        self._reconnects = 0
        self._rejoins = 0
        self._rejoin_failures = 0
        self._ghosts_before = self._ghosts
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
            self._close()
            raise RoomError(
                f"not joined within {timeout_s:g} s",
                field="livekit.url",
                value=self._settings.url,
                mend="check that UDP or TCP media ports of the server are reachable, or raise connect_timeout_s",
            ) from None
        except BaseException:
            self._close()
            raise

    async def close(self) -> None:
        """Leave and release everything, bounded. Safe to call twice, and from two tasks."""
        self._ended = True  # nothing is told from here on
        self._close()
        root = self._root
        if root is not None and not root.done():
            if not self._joined.done():
                root.cancel()  # nobody waits for it any more
            _, pending = await asyncio.wait((root,), timeout=self._settings.close_timeout_s + 1)
            if pending:
                _log.warning("room %s was not left in time", self._settings.room)
                root.cancel()
                await asyncio.wait((root,), timeout=1)
        self._release()

    def _close(self) -> None:
        self._closing = True
        self._turn.set()
        if self._rejoining is not None:
            self._rejoining.cancel()

    def _release(self) -> None:
        # The garbage collector is off while calls speak: native objects have to go by reference count alone.
        self._counted = self.counters()
        self._incoming.forget()
        self._held.forget()
        self._audience.forget()
        self._sight.forget()
        self._text.forget()
        self._stop_timers()
        self._root = self._group = self._voice = self._writing = self._connection = self._rejoining = None

    async def _live(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    self._voice = open_voice(self._hub, group, self._settings)
                    await self._join()
                    self._writing = group.create_task(self._text.run(), name=f"livekit:{self._settings.room}:text")
                    if not self._joined.done():
                        self._joined.set_result(None)
                    while await self._must_come_back():
                        self._rejoining = group.create_task(
                            self._come_back(), name=f"livekit:{self._settings.room}:rejoin"
                        )
                        await asyncio.wait((self._rejoining,))
                        self._rejoining = None
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

    async def _join(self) -> None:
        assert self._group is not None and self._voice is not None, "set by `_live`"
        token = self._token(self._newest_token)
        handlers: list[tuple[Any, Callable[..., None]]] = [
            ("reconnecting", self._on_reconnecting),
            ("reconnected", self._on_reconnected),
            ("disconnected", self._on_disconnected),
            ("local_track_republished", self._on_republished),
            ("local_track_subscribed", self._on_heard),
        ]
        connection = self._connection = Connection(self._settings, self._hub, handlers)
        self._audience.listen(connection.room, self._group)
        self._sight.listen(connection.room, self._group)
        self._incoming.register(connection.room)
        await connection.join(token, self._credential)
        self._audience.greet()
        self._sight.review()
        await connection.speak(self._voice)
        self._text.attach(connection.room)

    async def _must_come_back(self) -> bool:
        """Wait until the connection is given up. False: the call is closed instead."""
        while not self._closing and (self._ended or not self._given_up):
            await self._turn.wait()
            self._turn.clear()
        return not self._closing

    async def _come_back(self) -> None:
        """Join anew until that holds, or it is too late. The old connection says its goodbye meanwhile."""
        since = self._away_since
        assert since is not None, "a connection is given up while we are away"
        way = WayBack(since + self._settings.reconnect_timeout_s, random.Random())
        while not self._ended:
            self._part()
            problem = await self._join_again()
            if problem is None:
                self._rejoins += 1
                self._came_back(renewed=True)
                return
            self._rejoin_failures += 1
            delay_s = None if isinstance(problem, RoomRejected) else way.delay_s(self._loop.time())
            if delay_s is None:
                self._end(EndReason.DISCONNECTED, str(problem))
                return
            _log.info("room %s: not back yet, retry_in_s=%.2f: %s", self._settings.room, delay_s, problem)
            await asyncio.sleep(delay_s)

    async def _join_again(self) -> RoomError | None:
        """One attempt. Returns what it failed for."""
        timeout_s = self._settings.connect_timeout_s
        self._given_up = False
        self._joining = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._join()
        except TimeoutError:
            return RoomError(f"not joined within {timeout_s:g} s")
        except RoomError as error:
            return error
        finally:
            self._joining = False
        return RoomError("lost again while joining") if self._given_up else None

    def _part(self) -> None:
        """Give the connection up: whatever it still has to tell is of the past."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._newest_token = connection.newest_token or self._newest_token
        self._text.detach()
        self._audience.lose()
        self._sight.lose()
        self._incoming.unregister(connection.room)
        connection.unhook()
        self._spawn(connection.leave(self._settings.close_timeout_s / 2), "goodbye")

    async def _leave(self) -> None:
        connection, self._connection = self._connection, None
        until = self._loop.time() + self._settings.close_timeout_s
        try:
            if connection is not None:
                await self._finish_text(connection)
            elif self._writing is not None:
                self._writing.cancel()
            await self._audience.close_ears()
            await self._sight.close()
            if self._voice is not None:
                await self._voice.aclose()
        finally:
            self._stop_timers()
            self._audience.forget()
            self._sight.forget()
            if connection is not None:
                self._incoming.unregister(connection.room)
                await connection.leave(until - self._loop.time())

    async def _finish_text(self, connection: Connection) -> None:
        if self._writing is None:
            return
        if connection.room.isconnected() and self._away_since is None:
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
        if not self._closing:
            self._text.show_caption(caption)

    def show_state(self, state: AgentState) -> None:
        if self._may_show_state and not self._closing:
            self._text.show_state(state)

    def show_activity(self, activity: Activity) -> None:
        if not self._closing:
            self._text.show_activity(activity)

    def look_at(self, track_id: str | None) -> None:
        if not self._closing:
            self._sight.look_at(track_id)

    def take_frame(self) -> RawFrame | None:
        return self._sight.take_frame()

    def _track_of(self, speaker: ParticipantId | None) -> str:
        if speaker is not None:
            return self._audience.track_of(speaker)
        publication = self._connection.publication if self._connection is not None else None
        return publication.sid if publication is not None else ""

    def _wants_legacy(self) -> bool:
        if self._settings.legacy_captions != "auto":
            return self._settings.legacy_captions == "always"
        others = self._connection.room.remote_participants.values() if self._connection is not None else ()
        for participant in others:
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
            "captions_dropped": text.dropped,
            "activities_dropped": text.dropped_activities,
            "text_failed": text.failed,
            "segments_forced_closed": text.forced_closes,
            "states_unconfirmed": text.states_unconfirmed,
            "chat_refused": incoming.chat_refused,
            "chat_cut": incoming.chat_cut,
            "commands_refused": incoming.commands_refused,
            "early_audio_refused": incoming.early_refused,
            "early_audio_cut": incoming.early_cut,
            "early_audio_late": self._held.late,
            "reconnects": self._reconnects,
            "rejoins": self._rejoins,
            "rejoin_failures": self._rejoin_failures,
            "ghosts_left": self._ghosts - self._ghosts_before,
            "failed_subscriptions": self._audience.failed_subscriptions,
            "repeated_subscriptions": self._audience.repeated_subscriptions + self._sight.repeated_subscriptions,
            "video_frames_unseen": self._sight.replaced_frames,
        }

    @property
    def _ghosts(self) -> int:
        return 0 if self._hub is None else self._hub.orphans

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

    def _on_heard(self, _: rtc.LocalTrackPublication) -> None:
        self._tell(VoiceHeard())

    def _on_reconnecting(self) -> None:
        if self._away_since is None:
            self._reconnects += 1
            self._away_since = self._proved_at = self._loop.time()
            self._renewed = False
            self._audience.away = True
            self._tell(RoomReconnecting())
            self._timers = [
                self._loop.call_later(self._settings.rejoin_after_s, self._on_too_long),
                self._loop.call_later(self._settings.reconnect_timeout_s, self._on_lost),
            ]
            if self._connection is not None:
                self._spawn(self._watch_voice(self._connection), "voice-watch")

    async def _watch_voice(self, connection: Connection) -> None:
        """Tell as long as the room still hears us. Once it does not, captions wait too."""
        before = await connection.answers()
        while self._away_since is not None and connection is self._connection:
            await asyncio.sleep(_PROOF_S)
            answers, before = before, await connection.answers()
            if before > answers >= 0 and self._away_since is not None:
                self._proved_at = self._loop.time()
                self._tell(StillHeard())
            elif self._away_since is not None and not self._is_heard():
                self._text.detach()

    def _is_heard(self) -> bool:
        return self._loop.time() - self._proved_at < _NO_PROOF_S

    def _on_too_long(self) -> None:
        assert self._away_since is not None, "the timer lives as long as the absence"
        patience_s = 3 * self._settings.rejoin_after_s
        if self._is_heard() and self._loop.time() - self._away_since < patience_s:
            self._timers[0] = self._loop.call_later(_NO_PROOF_S, self._on_too_long)
        else:
            self._give_up()

    def _on_republished(self, *_: Any) -> None:
        self._renewed = True

    def _on_reconnected(self) -> None:
        if self._connection is None or self._joining or self._given_up:
            return  # too late, or not yet: we are joining anew
        if self._away_since is not None:
            self._text.attach(self._connection.room)
            self._audience.returned()
            self._sight.returned()
            self._came_back(self._renewed)

    def _came_back(self, renewed: bool) -> None:
        self._away_since = None
        self._stop_timers()
        self._tell(RoomReconnected(renewed))

    def _give_up(self) -> None:
        self._given_up = True
        self._turn.set()

    def _on_lost(self) -> None:
        self._end(EndReason.DISCONNECTED, f"no way back in {self._settings.reconnect_timeout_s:g} s")
        if self._rejoining is not None:
            self._rejoining.cancel()

    def _stop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _on_disconnected(self, reason: Any = None) -> None:
        name = reason_name(reason)
        ends = end_reason(name)
        if ends is EndReason.DISCONNECTED and self._joined.done() and not self._ended:
            _log.warning("room %s: the connection is over (%s), joining anew", self._settings.room, name or "no reason")
            self._on_reconnecting()
            self._give_up()
        else:
            self._end(ends, name)
