"""The video tracks of the audience: which are offered, and the one that is watched. Nothing else is subscribed to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from livekit import rtc

from bridge.core.words import ParticipantId, RoomEvent, VideoOffered, VideoSource, VideoWithdrawn
from bridge.transports.livekit_room import ffi
from bridge.transports.livekit_room.native_video import NativeEye
from bridge.transports.livekit_room.public_video import PublicEye
from bridge.video.picture import RawFrame

__all__ = ["Eye", "Sight"]

_log = logging.getLogger(__name__)

_ASK_AGAIN_S = 4.0
_SOURCES = {
    rtc.TrackSource.SOURCE_CAMERA: VideoSource.CAMERA,
    rtc.TrackSource.SOURCE_SCREENSHARE: VideoSource.SCREEN,
}


class Eye(Protocol):
    """A remote video track being watched."""

    replaced: int

    def take(self) -> RawFrame | None: ...
    async def aclose(self) -> None: ...


class Sight:
    """Tells what could be watched, and watches one track. `admits` knows the audience, `spawn` owns our tasks.

    A camera that is switched off counts as gone. Full at one frame: see the eyes.
    """

    def __init__(
        self,
        room_name: str,
        hub: ffi.Hub | None,
        *,
        admits: Callable[[ParticipantId], bool | None],
        spawn: Callable[[Coroutine[Any, Any, None], str], None],
        tell: Callable[[RoomEvent], None],
    ) -> None:
        self.repeated_subscriptions = 0
        self._room_name = room_name
        self._hub = hub
        self._admits = admits
        self._spawn = spawn
        self._tell = tell
        self._room: rtc.Room | None = None
        self._group: asyncio.TaskGroup | None = None
        self._offered: dict[str, VideoOffered] = {}
        self._wanted: str | None = None
        self._eye: Eye | None = None
        self._seen_by_closed_eyes = 0
        self._asked: asyncio.TimerHandle | None = None
        self._handlers: list[tuple[Any, Callable[..., None]]] = [
            ("track_subscribed", self._on_subscribed),
            ("track_unsubscribed", self._on_unsubscribed),
            *(
                (event, self._on_change)
                for event in (
                    "participant_connected",
                    "participant_disconnected",
                    "participant_attributes_changed",
                    "track_published",
                    "track_unpublished",
                    "track_muted",
                    "track_unmuted",
                )
            ),
        ]

    @property
    def replaced_frames(self) -> int:
        """Frames that a newer one took the place of before anybody looked."""
        return self._seen_by_closed_eyes + (self._eye.replaced if self._eye is not None else 0)

    # ------------------------------------------------------------------------------------------------- the connection

    def listen(self, room: rtc.Room, group: asyncio.TaskGroup) -> None:
        """Before the room is joined, or joined anew, and after the audience listens: it must know first."""
        self._room = room
        self._group = group
        for event, handler in self._handlers:
            room.on(event, handler)

    def review(self) -> None:
        """Tell what is offered now and was not, and what was and is no more."""
        there = {sid: offer for sid, offer, _ in self._tracks()}
        for sid in [sid for sid in self._offered if sid not in there]:
            del self._offered[sid]
            self._tell(VideoWithdrawn(sid))
        for sid, offer in there.items():
            if sid not in self._offered:
                self._offered[sid] = offer
                self._tell(offer)

    def returned(self) -> None:
        """Our own connection is renewed: wishes uttered before it was are lost."""
        self.review()
        publication = self._publication(self._wanted)
        if publication is not None and not publication.subscribed:
            publication.set_subscribed(False)
            self._ask(publication)

    def lose(self) -> None:
        """The connection is given up, and every track with it."""
        self._unhook()
        self._close_eye()
        self.review()

    async def close(self) -> None:
        """See nothing any more, without a word."""
        self._wanted = None
        self._stop_asking()
        eye, self._eye = self._eye, None
        if eye is not None:
            await self._put_away(eye)

    def forget(self) -> None:
        """Let go of the room and of the call that owns us, so that all can be freed without the collector."""
        self._unhook()
        self._handlers.clear()
        self._offered.clear()
        self._group = None
        self._spawn = lambda work, _: work.close()
        self._admits = lambda _: False
        self._tell = lambda _: None

    # ---------------------------------------------------------------------------------------------------- the watched

    def look_at(self, track_id: str | None) -> None:
        """Subscribe to this track, and to no other."""
        if track_id == self._wanted:
            return
        before, self._wanted = self._publication(self._wanted), track_id
        self._stop_asking()
        self._close_eye()
        if before is not None:
            before.set_subscribed(False)
        publication = self._publication(track_id)
        if publication is not None:
            self._ask(publication)

    def take_frame(self) -> RawFrame | None:
        return self._eye.take() if self._eye is not None else None

    # ------------------------------------------------------------------------------------------------------- workings

    def _tracks(self) -> list[tuple[str, VideoOffered, rtc.RemoteTrackPublication]]:
        """What may be watched, oldest first for each participant."""
        if self._room is None:
            return []
        return [
            (publication.sid, VideoOffered(who, source, publication.sid), publication)
            for remote in self._room.remote_participants.values()
            if self._admits(who := ParticipantId(remote.identity))
            for publication in remote.track_publications.values()
            if publication.kind == rtc.TrackKind.KIND_VIDEO and not publication.muted
            if (source := _SOURCES.get(publication.source)) is not None
        ]

    def _publication(self, track_id: str | None) -> rtc.RemoteTrackPublication | None:
        if track_id is None or self._room is None:
            return None
        for remote in self._room.remote_participants.values():
            publication = remote.track_publications.get(track_id)
            if publication is not None:
                return publication
        return None

    def _ask(self, publication: rtc.RemoteTrackPublication) -> None:
        """For the track; and again, as long as it does not come: see `Audience`."""
        publication.set_subscribed(True)
        self._stop_asking()
        self._asked = asyncio.get_running_loop().call_later(_ASK_AGAIN_S, self._ask_again, publication.sid)

    def _ask_again(self, sid: str) -> None:
        self._asked = None
        publication = self._publication(sid)
        if publication is None or sid != self._wanted or self._eye is not None:
            return
        self.repeated_subscriptions += 1
        _log.warning("%s: video track %s did not come: asked for once more", self._room_name, sid)
        publication.set_subscribed(False)
        self._ask(publication)

    def _stop_asking(self) -> None:
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None

    def _on_change(self, *_: Any) -> None:
        self.review()

    def _on_subscribed(
        self, track: rtc.Track, publication: rtc.RemoteTrackPublication, _: rtc.RemoteParticipant
    ) -> None:
        if track.kind != rtc.TrackKind.KIND_VIDEO:
            return
        if publication.sid != self._wanted or self._group is None:
            publication.set_subscribed(False)
            return
        self._stop_asking()
        self._close_eye()
        self._eye = PublicEye(self._group, track) if self._hub is None else NativeEye(self._hub, track)

    def _on_unsubscribed(
        self, _: rtc.Track, publication: rtc.RemoteTrackPublication, __: rtc.RemoteParticipant
    ) -> None:
        if publication.sid == self._wanted:
            self._close_eye()

    def _close_eye(self) -> None:
        eye, self._eye = self._eye, None
        if eye is not None:
            self._spawn(self._put_away(eye), "unsee")

    async def _put_away(self, eye: Eye) -> None:
        await eye.aclose()
        self._seen_by_closed_eyes += eye.replaced

    def _unhook(self) -> None:
        self._stop_asking()
        room, self._room = self._room, None
        if room is not None:
            for event, handler in self._handlers:
                room.off(event, handler)
