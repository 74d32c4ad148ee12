"""What transcripts become on LiveKit's wire, and in what order. Decisions only; `text` carries them out.

The agent's words are one long text stream per segment, its pieces written as they are heard and closed with
`lk.transcription_final: true`. A user's words are a new stream per update with the whole text so far.
"""

from __future__ import annotations

from collections import deque

import msgspec

from bridge.core.words import Caption

__all__ = ["FINAL", "SEGMENT_ID", "TOPIC", "TRACK_ID", "CaptionQueue", "SegmentTexts", "stream_attributes"]

TOPIC = "lk.transcription"
SEGMENT_ID = "lk.segment_id"
FINAL = "lk.transcription_final"
TRACK_ID = "lk.transcribed_track_id"


def stream_attributes(segment_id: str, final: bool, track_id: str) -> dict[str, str]:
    """Attributes at the head of a transcription stream."""
    attributes = {SEGMENT_ID: segment_id, FINAL: "true" if final else "false"}
    if track_id:
        attributes[TRACK_ID] = track_id
    return attributes


class CaptionQueue:
    """Transcript updates waiting for the wire. Neighbours of one segment are joined; full: the oldest goes, counted."""

    def __init__(self, limit: int = 256) -> None:
        self._waiting: deque[Caption] = deque()
        self._limit = limit
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, caption: Caption) -> None:
        if self._waiting:
            last = self._waiting[-1]
            if last.segment_id == caption.segment_id and last.speaker == caption.speaker and not last.final:
                # A newer whole text replaces; a further piece of the agent's follows.
                text = caption.text if caption.speaker is not None else last.text + caption.text
                self._waiting[-1] = msgspec.structs.replace(caption, text=text)
                return
        if len(self._waiting) >= self._limit:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(caption)

    def put_back(self, caption: Caption) -> None:
        """One that could not be sent is the next again."""
        self._waiting.appendleft(caption)

    def get(self) -> Caption | None:
        return self._waiting.popleft() if self._waiting else None


class SegmentTexts:
    """The whole text so far of the agent's open segments, for packets that carry no deltas. At most `limit` at once."""

    def __init__(self, limit: int = 16) -> None:
        self._texts: dict[str, str] = {}
        self._limit = limit

    def add(self, caption: Caption) -> str:
        """The segment's text with this caption in it."""
        if caption.speaker is not None:
            return caption.text
        text = self._texts.pop(caption.segment_id, "") + caption.text
        if not caption.final:
            if len(self._texts) >= self._limit:
                self._texts.pop(next(iter(self._texts)))
            self._texts[caption.segment_id] = text
        return text
