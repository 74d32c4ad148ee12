"""The playback buffer of a call's service: speech comes in as fast as it is generated, and is heard in real time.

Sans-IO. What the carrier has let out (`sent_ms`, of all that it was ever given) is the clock: whatever stalls the
carrier stalls the playback, and nothing is believed to have been heard that never left.

    playback.add("resp_1", item, pcm)
    for step in playback.due(sent_ms): ...      # Started, then Played for the carrier, Stopped when all has left
    playback.wait_s(sent_ms)                    # when to ask again
    playback.end("resp_1")                      # the response is complete
    playback.clear(sent_ms)                     # silence: what was heard of each item
"""

from __future__ import annotations

from collections import deque

import msgspec

from providers.emulators.openai_items import StoredItem

__all__ = ["Cleared", "Playback", "Played", "Started", "Stopped"]

_BYTES_PER_MS = 48
"""int16 mono at 24 kHz."""
_LEAD_MS = 160.0
"""Given to the carrier ahead of time, so that a late wake-up makes no gap. What it still holds can be hushed."""
_PIECE_MS = 40
_FIRST_MS = 80
"""A response starts to play when so much of it is there, or all of it."""
_SOONEST_S = 0.005
_LIMIT_MS = 600_000


class Started(msgspec.Struct, frozen=True):
    """The first sound of this response goes out."""

    response_id: str


class Played(msgspec.Struct, frozen=True, gc=False):
    """Speech for the carrier."""

    pcm: bytes


class Stopped(msgspec.Struct, frozen=True):
    """All of this response has been heard."""

    response_id: str


class Cleared(msgspec.Struct, frozen=True):
    """What was thrown away."""

    response_id: str | None
    """The response that was playing; None: none had started."""
    cut: tuple[tuple[StoredItem, int], ...]
    """Items that were not heard to their end, in order, and how many ms of each were."""


class _Part:
    """What was generated of one item."""

    __slots__ = ("item", "size")

    def __init__(self, item: StoredItem) -> None:
        self.item = item
        self.size = 0


class _Reply:
    """One response in the buffer."""

    __slots__ = ("begun_ms", "complete", "given", "id", "parts", "waiting")

    def __init__(self, response_id: str) -> None:
        self.id = response_id
        self.parts: list[_Part] = []
        self.waiting = bytearray()
        self.complete = False
        self.given = 0
        self.begun_ms: float | None = None
        """Where it begins in all that was ever given; None: it has not started."""


class Playback:
    """Generated speech that waits to be heard. Full (10 min): what is generated next goes, `dropped_ms` counts it."""

    def __init__(self) -> None:
        self.dropped_ms = 0
        self._replies: deque[_Reply] = deque()
        self._given_ms = 0.0
        self._silenced: set[str] = set()
        """Responses that were cleared while they were generated: the rest of them is never heard."""

    @property
    def busy(self) -> bool:
        """Something plays, or waits to."""
        return bool(self._replies)

    def holds(self, response_id: str) -> bool:
        """Speech of this response plays, or waits to."""
        return any(reply.id == response_id for reply in self._replies)

    def heard_ms(self, response_id: str, sent_ms: float) -> float | None:
        """How much of this response has been heard; None: nothing of it is left to be heard."""
        for reply in self._replies:
            if reply.id == response_id:
                return 0.0 if reply.begun_ms is None else min(sent_ms - reply.begun_ms, reply.given / _BYTES_PER_MS)
        return None

    def add(self, response_id: str, item: StoredItem, pcm: bytes) -> None:
        """More speech of this response."""
        if response_id in self._silenced:
            return
        if sum(len(reply.waiting) for reply in self._replies) > _LIMIT_MS * _BYTES_PER_MS:
            self.dropped_ms += len(pcm) // _BYTES_PER_MS
            return
        if not self._replies or self._replies[-1].id != response_id:
            self._replies.append(_Reply(response_id))
        reply = self._replies[-1]
        if not reply.parts or reply.parts[-1].item is not item:
            reply.parts.append(_Part(item))
        reply.parts[-1].size += len(pcm)
        reply.waiting += pcm

    def end(self, response_id: str) -> None:
        """The response is complete: nothing more of it comes."""
        self._silenced.discard(response_id)
        for reply in self._replies:
            if reply.id == response_id:
                reply.complete = True

    def due(self, sent_ms: float) -> list[Started | Played | Stopped]:
        """What happens now."""
        steps: list[Started | Played | Stopped] = []
        while self._replies:
            reply = self._replies[0]
            if reply.begun_ms is None:
                # One response at a time: the end of the one before is heard first.
                if self._given_ms > sent_ms or not (reply.complete or len(reply.waiting) >= _FIRST_MS * _BYTES_PER_MS):
                    return steps
                reply.begun_ms = self._given_ms
                steps.append(Started(reply.id))
            while self._given_ms - sent_ms < _LEAD_MS and self._may_give(reply):
                piece = bytes(reply.waiting[: _PIECE_MS * _BYTES_PER_MS])
                del reply.waiting[: len(piece)]
                reply.given += len(piece)
                self._given_ms += len(piece) / _BYTES_PER_MS
                steps.append(Played(piece))
            if reply.waiting or not reply.complete or self._given_ms > sent_ms:
                return steps
            steps.append(Stopped(reply.id))
            self._replies.popleft()
        return steps

    def wait_s(self, sent_ms: float) -> float | None:
        """How long until `due` has something to do; None: until something else happens."""
        if not self._replies:
            return None
        reply = self._replies[0]
        ahead_ms = self._given_ms - sent_ms
        if reply.begun_ms is None:
            return max(_SOONEST_S, ahead_ms / 1000) if ahead_ms > 0 else None
        if self._may_give(reply):
            return max(_SOONEST_S, (ahead_ms - _LEAD_MS) / 1000)
        return max(_SOONEST_S, ahead_ms / 1000) if reply.complete else None

    def clear(self, sent_ms: float) -> Cleared | None:
        """Throw everything away. None: nothing was there."""
        if not self._replies:
            return None
        playing = self._replies[0]
        cut: list[tuple[StoredItem, int]] = []
        for reply in self._replies:
            left_ms = self.heard_ms(reply.id, sent_ms) or 0.0
            for part in reply.parts:
                heard_ms = int(min(max(0.0, left_ms), part.size / _BYTES_PER_MS))
                left_ms -= part.size / _BYTES_PER_MS
                # Of an item that is still being generated more would have come.
                if heard_ms < part.size // _BYTES_PER_MS or (not reply.complete and part is reply.parts[-1]):
                    cut.append((part.item, heard_ms))
            if not reply.complete:
                self._silenced.add(reply.id)
        self._replies.clear()
        return Cleared(None if playing.begun_ms is None else playing.id, tuple(cut))

    def _may_give(self, reply: _Reply) -> bool:
        """Whole pieces while more is to come: a carrier fills a broken packet with silence."""
        return len(reply.waiting) >= (1 if reply.complete else _PIECE_MS * _BYTES_PER_MS)
