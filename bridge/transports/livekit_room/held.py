"""Keeps what somebody says now behind what he said before: live frames wait while his recording is being read."""

from __future__ import annotations

from collections.abc import Callable

from bridge.core.words import EarlyAudio, ParticipantId, RoomEvent

__all__ = ["HeldSpeech"]

_HOLD_S = 3.0


class HeldSpeech:
    """Live speech of those whose recording is on its way. Full (3 s of one): what waited goes on at once, all of it,
    and the recording will come late; `late` counts."""

    def __init__(
        self,
        on_audio: Callable[[ParticipantId, bytes, float], None],
        tell: Callable[[RoomEvent], None],
        *,
        rate_hz: int,
    ) -> None:
        """Args: on_audio takes frames (int16 mono at rate_hz) that need not wait."""
        self.late = 0
        self._on_audio = on_audio
        self._tell = tell
        self._limit = int(_HOLD_S * rate_hz) * 2
        self._held: dict[ParticipantId, bytearray] = {}

    def begin(self, who: ParticipantId) -> None:
        """A recording of this one has been announced."""
        self._held.setdefault(who, bytearray())

    def hear(self, who: ParticipantId, pcm: bytes, now: float) -> None:
        """One live frame: passed on, or held."""
        held = self._held.get(who)
        if held is None:
            self._on_audio(who, pcm, now)
            return
        held += pcm
        if len(held) >= self._limit:
            self.late += 1
            self.end(who)

    def end(self, who: ParticipantId, recording: bytes = b"") -> None:
        """The recording has been read, or never will be (empty). It is told with what was held behind it, as one run:
        a burst of frames would overtake the frames of others."""
        pcm = recording + bytes(self._held.pop(who, b""))
        if pcm:
            self._tell(EarlyAudio(who, pcm))

    def forget(self) -> None:
        """Let go of the call that owns us, so that both can be freed without the collector."""
        self._held.clear()
        self._on_audio = lambda *_: None
        self._tell = lambda _: None
