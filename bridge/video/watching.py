"""Which video track the model sees, and when it is shown a still of it. Decisions only: no I/O, no clock, no pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bridge.core.commands import Command, SendImage
from bridge.core.words import ImageCaptured, VideoOffered, VideoSource, VideoWithdrawn
from bridge.video.settings import VideoSettings

__all__ = ["Watching"]

_LOOK_EVERY_S = 0.1
_MOST_TRACKS = 64


class Watching:
    """Follows the tracks that a room offers. Full (64 tracks): the oldest is forgotten.

    One track at a time is seen: the newest shared screen if there is one, else the newest camera. A still is due at
    most once in `interval_s` while somebody speaks, and in `idle_interval_s` while nobody does; at once, but never
    sooner than `interval_s`, for a session or a track that is new.
    """

    def __init__(self, settings: VideoSettings | None = None) -> None:
        self.settings = settings or VideoSettings()
        self.sources = frozenset(VideoSource(name) for name in self.settings.sources)
        """What may be seen; `switch` changes it."""
        self._offers: dict[str, VideoOffered] = {}
        self._seen: tuple[int, str] | None = None  # the session and the track of the last still
        self._last_at = float("-inf")
        self._look_at = float("-inf")

    def switch(self, sources: Iterable[VideoSource]) -> None:
        """From now on these may be seen and no others."""
        self.sources = frozenset(sources)

    def handle(self, event: VideoOffered | VideoWithdrawn) -> None:
        """The room offers a track, or does so no longer."""
        self._offers.pop(event.track_id, None)
        if isinstance(event, VideoOffered):
            if len(self._offers) >= _MOST_TRACKS:
                del self._offers[next(iter(self._offers))]
            self._offers[event.track_id] = event

    @property
    def target(self) -> VideoOffered | None:
        """The track to be received; None: none."""
        if not self.sources:
            return None
        best: VideoOffered | None = None
        for offer in self._offers.values():
            if offer.source not in self.sources:
                continue
            if best is None or offer.source is VideoSource.SCREEN or best.source is VideoSource.CAMERA:
                best = offer
        return best

    def due(self, now: float, session: int | None, user_speaks: Callable[[], bool]) -> bool:
        """Whether a still should be taken now for the leading session, which takes images; None: no session leads.

        `user_speaks` is asked ten times a second at most.
        """
        if session is None or now < max(self._look_at, self._last_at + self.settings.interval_s):
            return False
        target = self.target
        if target is None:
            return False
        self._look_at = now + _LOOK_EVERY_S
        if (session, target.track_id) != self._seen or now >= self._last_at + self.settings.idle_interval_s:
            return True
        return user_speaks()

    def taken(self, now: float) -> None:
        """A frame was taken: whatever becomes of it, the next one is due later."""
        self._last_at = now

    def captured(self, image: ImageCaptured, now: float, session: int | None) -> list[Command]:
        """A still is ready. It is sent, unless what it shows may not be seen any more or nobody is there to see it."""
        target = self.target
        if session is None or target is None or target.track_id != image.track_id:
            return []
        self._seen = session, image.track_id
        self._last_at = now
        return [SendImage(image)]
