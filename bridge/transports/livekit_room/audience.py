"""The people of a room: who is admitted, whose tracks are heard, and what of that the listener is told."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from livekit import rtc

from bridge.core.words import (
    AudioEnded,
    AudioMuted,
    AudioStarted,
    AudioUnmuted,
    EndReason,
    Participant,
    ParticipantId,
    ParticipantJoined,
    ParticipantLeft,
    RoomEvent,
)
from bridge.transports.livekit_room import ffi
from bridge.transports.livekit_room.membership import Membership, TrackOffer, TrackWish
from bridge.transports.livekit_room.settings import LiveKitSettings
from bridge.transports.livekit_room.tracks import Ear, open_ear

__all__ = ["Audience", "kind_name", "reason_name"]

_log = logging.getLogger(__name__)
_ASK_AGAIN_S = (2.0, 4.0, 8.0, 15.0)
_RETURN_S = 10.0
"""Who seems to leave while we reconnect, or so soon after, is waited for at least so long: when a server restarts,
everybody has to find it again, and most clients look for it every few seconds."""


class Audience:
    """Carries out what `Membership` decides. `hear`, `tell` and `end` are for the listener; `spawn` owns our tasks."""

    def __init__(
        self,
        settings: LiveKitSettings,
        hub: ffi.Hub | None,
        hear: Callable[[ParticipantId, bytes, float], None],
        *,
        spawn: Callable[[Coroutine[Any, Any, None], str], None],
        tell: Callable[[RoomEvent], None],
        end: Callable[[EndReason, str], None],
    ) -> None:
        self.failed_subscriptions = 0
        self.repeated_subscriptions = 0
        """Tracks asked for once more, since nothing had come of it."""
        self.away = False
        """We are reconnecting ourselves, so nobody is seen and nobody can be missed."""
        self._settings = settings
        self._room: rtc.Room | None = None
        self._hub = hub
        self._hear = hear
        self._spawn = spawn
        self._tell = tell
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._members = Membership(settings, self._loop.time())
        self._group: asyncio.TaskGroup | None = None
        self._ears: dict[ParticipantId, tuple[str, Ear]] = {}
        self._retiring: dict[ParticipantId, str] = {}
        self._deadline: asyncio.TimerHandle | None = None
        self._back_at = float("-inf")
        self._closed_ears_dropped = 0
        self._asked: dict[str, asyncio.TimerHandle] = {}
        """Tracks that were asked for and have not come: when to ask again."""
        self._handlers: list[tuple[Any, Callable[..., None]]] = [
            ("participant_connected", self._on_participant),
            ("participant_disconnected", self._on_left),
            ("participant_attributes_changed", self._on_attributes),
            ("track_published", self._on_published),
            ("track_unpublished", self._on_unpublished),
            ("track_subscribed", self._on_subscribed),
            ("track_unsubscribed", self._on_unsubscribed),
            ("track_subscription_failed", self._on_subscription_failed),
            ("track_muted", self._on_muted),
            ("track_unmuted", self._on_unmuted),
        ]

    def listen(self, room: rtc.Room, group: asyncio.TaskGroup) -> None:
        """Before the room is joined, or joined anew."""
        self._room = room
        self._group = group
        for event, handler in self._handlers:
            room.on(event, handler)

    def greet(self) -> None:
        """Once joined: who was there before us, and who is there no more since we were here last."""
        assert self._room is not None, "listening since before the room was joined"
        self._is_back()
        there = self._room.remote_participants
        for who in self._members.present:
            if who not in there:
                self._gone(who, "")
        for remote in tuple(there.values()):
            self._on_participant(remote)
            for publication in remote.track_publications.values():
                self._on_published(publication, remote)
        self._arm()

    def lose(self) -> None:
        """The connection is given up: nobody is heard. Who was there is remembered, since most will be there again."""
        self.away = True
        self._unhook()
        self._members.disconnected()
        self._retiring.clear()
        for who in tuple(self._ears):
            self._stop_hearing(who)

    def returned(self) -> None:
        """Our own connection is renewed: ask again for every track, since wishes uttered before it was are lost."""
        assert self._room is not None, "listening since before the room was joined"
        self._is_back()
        for remote in self._room.remote_participants.values():
            for publication in remote.track_publications.values():
                if self._members.wants(ParticipantId(remote.identity), publication.sid) and not publication.subscribed:
                    publication.set_subscribed(False)
                    self._ask(publication, remote)
        self._arm()

    def admits(self, who: ParticipantId) -> bool | None:
        """Whether this participant is of the audience; None while it is not there."""
        return self._members.is_admitted(who)

    def track_of(self, who: ParticipantId) -> str:
        """The track that is heard of a participant, or nothing."""
        heard = self._ears.get(who)
        return heard[0] if heard is not None else ""

    @property
    def dropped_frames(self) -> int:
        return self._closed_ears_dropped + sum(ear.dropped_frames for _, ear in self._ears.values())

    async def close_ears(self) -> None:
        """Stop hearing everybody, without a word."""
        while self._ears:
            _, (_, ear) = self._ears.popitem()
            await self._close_ear(ear)

    def forget(self) -> None:
        """Let go of the room and of the call that owns us, so that all can be freed without the collector."""
        self._unhook()
        self._handlers.clear()
        # Last, for what was told while we said goodbye may have set one.
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._group = None
        self._spawn = lambda work, _: work.close()
        self._tell = lambda _: None
        self._end = lambda *_: None

    def _unhook(self) -> None:
        for sid in tuple(self._asked):
            self._forget_wish(sid)
        room, self._room = self._room, None
        if room is not None:
            for event, handler in self._handlers:
                room.off(event, handler)

    def _is_back(self) -> None:
        self.away = False
        self._back_at = self._loop.time()

    def _arm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._members.deadline is not None:
            self._deadline = self._loop.call_at(self._members.deadline, self._on_deadline)

    def _on_deadline(self) -> None:
        self._deadline = None
        if self.away:
            return
        detail = self._members.expired(self._loop.time())
        if detail is None:
            self._arm()
        else:
            self._end(EndReason.ROOM_EMPTY, detail)

    def _on_participant(self, remote: rtc.RemoteParticipant) -> None:
        participant = _participant(remote)
        before = self._members.is_admitted(participant.id)
        admitted = self._members.joined(participant)
        if admitted and not before:
            self._tell(ParticipantJoined(participant))
        elif before and not admitted:
            self._tell(ParticipantLeft(participant.id, "not of the audience any more"))
        self._arm()

    def _on_left(self, remote: rtc.RemoteParticipant) -> None:
        self._gone(ParticipantId(remote.identity), reason_name(remote.disconnect_reason))
        self._arm()

    def _gone(self, who: ParticipantId, reason: str) -> None:
        self._retiring.pop(who, None)
        self._stop_hearing(who)
        now = self._loop.time()
        ours = self.away or now - self._back_at < _RETURN_S
        admitted, ends = self._members.left(who, reason, now, at_least_s=_RETURN_S if ours else 0.0)
        if admitted:
            self._tell(ParticipantLeft(who, reason))
        if ends is not None:
            # The detail is logged for all to read, and the identity of a phone is its number.
            _log.debug("%s: the first of the audience was %s", self._settings.room, who)
            self._end(ends, f"the first of the audience left ({reason})")

    def _on_attributes(self, _: dict[str, str], participant: rtc.Participant) -> None:
        if not isinstance(participant, rtc.RemoteParticipant):
            return
        who = ParticipantId(participant.identity)
        admitted, wishes = self._members.changed(_participant(participant), self._loop.time())
        if admitted is True:
            self._tell(ParticipantJoined(_participant(participant)))
        self._apply(participant, wishes)
        if admitted is False:
            self._stop_hearing(who)
            self._tell(ParticipantLeft(who, "not of the audience any more"))
        self._arm()

    def _on_published(self, publication: rtc.RemoteTrackPublication, remote: rtc.RemoteParticipant) -> None:
        offer = TrackOffer(
            publication.sid,
            is_audio=publication.kind == rtc.TrackKind.KIND_AUDIO,
            is_microphone=publication.source == rtc.TrackSource.SOURCE_MICROPHONE,
        )
        self._apply(remote, self._members.offered(ParticipantId(remote.identity), offer))

    def _on_unpublished(self, publication: rtc.RemoteTrackPublication, remote: rtc.RemoteParticipant) -> None:
        who = ParticipantId(remote.identity)
        self._forget_wish(publication.sid)
        wishes = self._members.withdrawn(who, publication.sid)
        if not any(wish.subscribe for wish in wishes):
            self._stop_hearing(who, publication.sid)
        self._apply(remote, wishes)

    def _apply(self, remote: rtc.RemoteParticipant, wishes: list[TrackWish]) -> None:
        replacing = len(wishes) == 2
        for wish in wishes:
            publication = remote.track_publications.get(wish.sid)
            if publication is None:
                continue
            if replacing and not wish.subscribe:
                # The older track is heard until the newer one has come: a replacement leaves no hole.
                self._retiring[ParticipantId(remote.identity)] = wish.sid
            elif wish.subscribe:
                self._ask(publication, remote)
            else:
                publication.set_subscribed(False)

    def _ask(self, publication: rtc.RemoteTrackPublication, remote: rtc.RemoteParticipant, tries: int = 0) -> None:
        """Ask for a track, and again if it does not come: on a busy server a wish uttered while joining can be lost,
        and a caller would never be heard."""
        publication.set_subscribed(True)
        sid = publication.sid
        self._forget_wish(sid)
        wait_s = _ASK_AGAIN_S[min(tries, len(_ASK_AGAIN_S) - 1)]
        self._asked[sid] = self._loop.call_later(wait_s, self._ask_again, publication, remote, tries + 1)

    def _ask_again(self, publication: rtc.RemoteTrackPublication, remote: rtc.RemoteParticipant, tries: int) -> None:
        who = ParticipantId(remote.identity)
        self._asked.pop(publication.sid, None)
        if self._room is None or not self._members.wants(who, publication.sid) or self.track_of(who) == publication.sid:
            return
        if not self.away:
            self.repeated_subscriptions += 1
            _log.warning("%s: track %s did not come: asked for once more", self._settings.room, publication.sid)
            publication.set_subscribed(False)
        self._ask(publication, remote, tries)

    def _forget_wish(self, sid: str) -> None:
        timer = self._asked.pop(sid, None)
        if timer is not None:
            timer.cancel()

    def _on_subscribed(
        self, track: rtc.Track, publication: rtc.RemoteTrackPublication, remote: rtc.RemoteParticipant
    ) -> None:
        if track.kind != rtc.TrackKind.KIND_AUDIO:
            return  # see `Sight`
        who = ParticipantId(remote.identity)
        if not self._members.wants(who, publication.sid):
            publication.set_subscribed(False)
            return
        self._forget_wish(publication.sid)
        assert self._group is not None, "events come while the room is open"
        sink = functools.partial(self._hear, who)
        before = self._ears.pop(who, None)
        self._ears[who] = (publication.sid, open_ear(self._hub, self._group, track, self._settings, sink))
        if before is not None:
            self._spawn(self._close_ear(before[1]), "unhear")
        retiring = remote.track_publications.get(self._retiring.pop(who, ""))
        if retiring is not None:
            retiring.set_subscribed(False)
        self._tell(AudioStarted(who, publication.sid))
        if publication.muted:
            self._tell(AudioMuted(who))

    def _on_unsubscribed(
        self, _: rtc.Track, publication: rtc.RemoteTrackPublication, remote: rtc.RemoteParticipant
    ) -> None:
        self._stop_hearing(ParticipantId(remote.identity), publication.sid)

    def _on_subscription_failed(self, remote: rtc.RemoteParticipant, sid: str, error: str) -> None:
        self.failed_subscriptions += 1
        _log.warning("%s: track %s cannot be heard: %s", self._settings.room, sid, error)
        _log.debug("%s: track %s is of %s", self._settings.room, sid, remote.identity)

    def _on_muted(self, participant: rtc.Participant, publication: rtc.TrackPublication) -> None:
        if self._hears(participant, publication):
            self._tell(AudioMuted(ParticipantId(participant.identity)))

    def _on_unmuted(self, participant: rtc.Participant, publication: rtc.TrackPublication) -> None:
        if self._hears(participant, publication):
            self._tell(AudioUnmuted(ParticipantId(participant.identity)))

    def _hears(self, participant: rtc.Participant, publication: rtc.TrackPublication) -> bool:
        heard = self._ears.get(ParticipantId(participant.identity))
        return heard is not None and heard[0] == publication.sid

    def _stop_hearing(self, who: ParticipantId, sid: str | None = None) -> None:
        heard = self._ears.get(who)
        if heard is None or (sid is not None and heard[0] != sid):
            return
        del self._ears[who]
        self._spawn(self._close_ear(heard[1]), "unhear")
        self._tell(AudioEnded(who))

    async def _close_ear(self, ear: Ear) -> None:
        dropped = ear.dropped_frames
        self._closed_ears_dropped += dropped
        await ear.aclose()
        self._closed_ears_dropped += ear.dropped_frames - dropped


def kind_name(participant: rtc.Participant) -> str:
    """LiveKit's kind of a participant, by name and in lower case."""
    return str(rtc.ParticipantKind.Name(participant.kind)).removeprefix("PARTICIPANT_KIND_").lower()


def _participant(remote: rtc.RemoteParticipant) -> Participant:
    return Participant(
        id=ParticipantId(remote.identity), name=remote.name, kind=kind_name(remote), attributes=remote.attributes
    )


def reason_name(reason: Any) -> str:
    """LiveKit's disconnect reason, by name and in lower case; nothing if there is none."""
    return str(rtc.DisconnectReason.Name(reason)).lower() if reason is not None else ""
