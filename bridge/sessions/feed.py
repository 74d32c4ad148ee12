"""What one model session is fed with: bus frames in its own format, and its speech back in the room's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal

import msgspec

from bridge.audio.convert import converter
from providers.contract import ModelSession
from providers.signal.formats import AudioFormat

__all__ = ["FirstWords", "FirstWordsStats", "SessionFeed"]


_QUEUE_MS = 60_000


class SessionFeed:
    """Joins one session to the mix bus and to the playout. Each has converters of its own, so that a change of provider
    touches nothing in the room."""

    def __init__(
        self,
        session: ModelSession,
        *,
        bus: AudioFormat,
        room: AudioFormat,
        quality: Literal["fir", "soxr"] = "fir",
    ) -> None:
        accepted = session.capabilities.input_formats
        self.session = session
        self.number = session.number
        self.format = accepted[0]
        self._to_model = converter(bus, self.format, quality)
        self._sample = session.capabilities.output_format.bytes_per_sample
        self._reply_id = ""
        self._torn = b""
        self._to_room = converter(session.capabilities.output_format, room, quality)
        self.stop_listening: Callable[[], None] | None = None

    def hear(self, frame: bytes) -> None:
        """One bus frame to the model, now."""
        self.session.send_audio(frame if self._to_model is None else self._to_model(frame), self.format)

    def speech(self, reply_id: str, audio: bytes) -> bytes:
        """A chunk of the model's speech in the room's format. A torn last sample waits for the rest of its reply."""
        if self._to_room is None:
            return audio
        if reply_id != self._reply_id:
            self._reply_id, self._torn = reply_id, b""
        if self._torn or len(audio) % self._sample:
            audio = self._torn + audio
            whole = len(audio) - len(audio) % self._sample
            audio, self._torn = audio[:whole], audio[whole:]
        return self._to_room(audio)


class FirstWordsStats(msgspec.Struct):
    first_words_kept_frames: int = 0
    first_words_dropped_frames: int = 0
    """Nobody listened for longer than `first_words_s`, or the socket fell a minute behind: the oldest went."""


class FirstWords:
    """Bus frames that no session could hear yet, taken once, in order. Full: the oldest frame goes and is counted.

    `keep_ms` bounds what is kept for nobody; what is on its way to a session may be a minute long.
    """

    def __init__(self, keep_ms: float, frame_ms: int) -> None:
        self.stats = FirstWordsStats()
        self._keep = max(1, int(keep_ms / frame_ms)) if keep_ms > 0 else 0
        self._queue = max(self._keep, _QUEUE_MS // frame_ms)
        self._frames: deque[bytes] = deque()

    def keep(self, frame: bytes) -> None:
        """Nobody hears it."""
        self._append(frame, self._keep)

    def queue(self, frame: bytes) -> None:
        """A session hears it soon: after what waits here already."""
        self._append(frame, self._queue)

    def pop(self) -> bytes:
        """Take the oldest. Raises IndexError when nothing waits."""
        return self._frames.popleft()

    def __len__(self) -> int:
        return len(self._frames)

    def _append(self, frame: bytes, limit: int) -> None:
        self._frames.append(frame)
        self.stats.first_words_kept_frames += 1
        while len(self._frames) > limit:
            self._frames.popleft()
            self.stats.first_words_dropped_frames += 1
