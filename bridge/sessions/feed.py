"""What one model session is fed with: bus frames in its own format, and its speech back in the room's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from bridge.audio.convert import converter
from providers.contract import ModelSession
from providers.signal.formats import AudioFormat

__all__ = ["SessionFeed"]


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
        self.resumed = False
        """It goes on by the handle of an earlier session, with what that one remembered."""
        self.ended = False
        """The conversation knows that nothing more will come of it."""
        self.format = accepted[0]
        self._bus = bus
        self._quality = quality
        self._to_model = converter(bus, self.format, quality)
        self._sample = session.capabilities.output_format.bytes_per_sample
        self._reply_id = ""
        self._torn = b""
        self._to_room = converter(session.capabilities.output_format, room, quality)
        self.stop_listening: Callable[[], None] | None = None

    def hear(self, frame: bytes) -> None:
        """One bus frame to the model, now."""
        self.session.send_audio(frame if self._to_model is None else self._to_model(frame), self.format)

    def take_over(self, previous: SessionFeed, before: Iterable[bytes]) -> None:
        """Go on where `previous` was left: the two received streams joined are one, to the sample.

        Where the formats differ the filter cannot be handed on: it is warmed up with the bus frames from just before
        instead, which nobody hears again. What `previous` hears from now on begins anew.
        """
        if previous is self:
            return
        if (previous._bus, previous.format, previous._quality) == (self._bus, self.format, self._quality):
            self._to_model = previous._to_model
            previous.start_anew()
        else:
            self.start_anew()
            if self._to_model is not None:
                for frame in before:
                    self._to_model(frame)

    def start_anew(self) -> None:
        """What is heard next does not follow on what was heard last."""
        self._to_model = converter(self._bus, self.format, self._quality)

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
