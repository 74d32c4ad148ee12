"""OpenAI Realtime over WebRTC as events and frames: the protocol, with the voice on a track of its own.

What differs from the WebSocket: the microphone is a stream that never ends, so that silence needs no message and
`input_audio_buffer.append` is never sent; the model's voice comes at the speed of sound, and `HeardAudio` says whose
it is; the server keeps its own playback clock, so that it is not told what was heard (`Truncation.SERVER`); and a
message has a size limit.

Audio and messages do not share one order. A commit therefore waits until the audio before it has gone out and had time
to arrive; a clear goes at once, and what still waited to be sent is dropped by the link.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from providers.contract import (
    Capabilities,
    Closed,
    HistoryItem,
    Interrupted,
    SessionEvent,
    SpeechChunk,
    WarningReported,
)
from providers.errors import ProviderError, ProviderUnavailable, SettingRefused
from providers.openai import messages, wire
from providers.openai.heard_audio import HeardAudio
from providers.openai.protocol import OpenAIProtocol
from providers.openai.requests import CREATED_WITHIN_S
from providers.openai.settings import OpenAISettings
from providers.openai.tools import output_text
from providers.settings import SpeechSettings
from providers.signal.formats import AudioFormat

__all__ = ["OpenAICallProtocol"]

_log = logging.getLogger("providers.openai.call_protocol")

_ARRIVES_S = 0.15
"""From the sender to the service's ear: the network and its jitter buffer."""
_UNCLAIMED_MS = 2000.0
"""So much speech, and no message about it or anything else: the data channel is dead."""
_SMALLER = "make it smaller, or set providers.openai.sideband = true: a WebSocket takes 15 MiB"


class OpenAICallProtocol(OpenAIProtocol):
    """One call's protocol; a `providers.driver.AudioCore`. Args: as `OpenAIProtocol`; `max_message_bytes` bounds one
    message over the data channel (SCTP), None where messages travel over a WebSocket."""

    def __init__(
        self,
        number: int,
        speech: SpeechSettings,
        own: OpenAISettings,
        capabilities: Capabilities,
        *,
        history: Sequence[HistoryItem] = (),
        acknowledged: bool = True,
        max_message_bytes: int | None = 262_144,
    ) -> None:
        super().__init__(number, speech, own, capabilities, history=history, acknowledged=acknowledged)
        self._heard = HeardAudio(number)
        self._max_message_bytes = max_message_bytes
        self._audio_until = 0.0
        """When the audio given so far will have been sent, at the speed of sound."""
        self._commit_at: float | None = None
        self._message_at = 0.0

    # ----------------------------------------------------------------------------------------------------------- state

    @property
    def speaking(self) -> bool:
        return self._heard.speaking

    @property
    def sounded_at(self) -> float:
        """See `providers.driver.AudioCore`."""
        return self._heard.sounded_at

    # ------------------------------------------------------------------------------------------------------------ time

    def deadline(self) -> float | None:
        times = (super().deadline(), self._heard.deadline(), self._commit_at)
        return min((at for at in times if at is not None), default=None)

    def handle_timeout(self, now: float) -> list[SessionEvent]:
        self._now = now
        if self._commit_at is not None and now >= self._commit_at:
            self._commit_at = None
            self._commit()
        events = self._heard.told(super().handle_timeout(now), now)
        events += self._fenced(self._heard.expire(now))
        if self._heard.stats.unstopped:
            events += self._notices.once(
                "audio_not_stopped", "a reply's audio ended without output_audio_buffer.stopped"
            )
        in_vain = any(isinstance(event, WarningReported) and event.code == "response_not_created" for event in events)
        if in_vain and now - self._message_at >= CREATED_WITHIN_S:
            events.append(self._dead_channel("a request was not answered, nor did anything else come"))
        return events

    # --------------------------------------------------------------------------------------------------------- receive

    def receive(self, message: str | bytes, now: float) -> list[SessionEvent]:
        self._now = self._message_at = now
        self._heard.message_came()
        if self._ended:
            return []
        event = wire.decode(message)
        fence = self._heard
        match event:
            case wire.OutputAudioDelta():
                return []  # the track brings it
            case wire.PartAdded() if event.part.type == "audio":
                fence.expect(self._reader.reply(event.response_id).id)
                events: list[SessionEvent] = []
            case wire.OutputBufferStarted():
                reply = self._reader.reply(event.response_id)
                events = [*self._reader.announce(reply), *fence.started(reply.id, now)]
            case wire.OutputBufferStopped():
                events = fence.stopped(event.response_id or fence.sounding or "", now)
            case wire.OutputBufferCleared():
                events = fence.cleared(event.response_id or fence.sounding or "", now)
            case wire.SpeechStarted():
                for reply_id in fence.unfinished:
                    known = self._reader.replies.get(reply_id)
                    if known is not None:  # however long ago it was generated
                        known.plays_until = max(known.plays_until, now)
                events = fence.told(self._read(event, now), now)
            case _:
                events = fence.told(self._read(event, now), now)
        return [*self._notices.take(), *self._fenced(events)]

    def receive_audio(self, pcm: bytes, now: float) -> list[SessionEvent]:
        """One 20 ms frame of the model's track. Hot path."""
        self._now = now
        if self._ended:
            return []
        events = self._heard.frame(pcm, now)
        if not events:
            if self._heard.unclaimed_ms >= _UNCLAIMED_MS and self._ready:
                return [self._dead_channel("the model speaks, and nothing tells of it")]
            return events
        if self._heard.stats.untold_starts:
            return self._fenced(events) + self._notices.once(
                "audio_not_started", "a reply's audio came without output_audio_buffer.started"
            )
        return self._fenced(events)

    def _fenced(self, events: list[SessionEvent]) -> list[SessionEvent]:
        """What the fence said on its own: the replies know it too."""
        for event in events:
            if isinstance(event, SpeechChunk):
                self._reader.spoke = True
                reply = self._reader.replies.get(event.reply_id)
                if reply is not None:
                    reply.plays_until = self._now
            elif isinstance(event, Interrupted) and event.reply_id is not None:
                reply = self._reader.replies.get(event.reply_id)
                if reply is not None:
                    reply.interrupted = True
        return events

    def _end(self, code: int, reason: str, error: ProviderError) -> Closed:
        """Also tells what became of the received speech, in one line: nobody else looks at these counters."""
        heard = self._heard.stats
        if heard.dropped_frames or heard.untold_starts or heard.unstopped:
            _log.info(
                "speech of a call's track session=%d dropped_frames=%d untold_starts=%d unstopped=%d",
                self._number,
                heard.dropped_frames,
                heard.untold_starts,
                heard.unstopped,
            )
        return super()._end(code, reason, error)

    def _dead_channel(self, said: str) -> Closed:
        return self._end(1006, said, ProviderUnavailable(f"the call's messages have stopped: {said}", code=1006))

    # ------------------------------------------------------------------------------------------------- commands: input

    def encode_audio(self, audio: bytes, format: AudioFormat) -> bytes:
        """The audio itself: it goes onto the track. Raises SettingRefused when `format` is not the session's."""
        if format is not self._input_format and format != self._input_format:
            raise SettingRefused("format", format, f"this session takes {self._input_format}")
        self._input.uncommitted_bytes += len(audio)
        self._audio_until = max(self._audio_until, self._now) + format.duration_ms(len(audio)) / 1000
        return audio

    def end_input(self) -> None:
        """Silence goes out on the track by itself; without turn detection, commits."""
        if not self._input.detects:
            self.commit_input()
        else:
            self._input.uncommitted_bytes = 0

    def commit_input(self) -> None:
        """As over WebSocket, once the audio has arrived."""
        if self._commit_at is not None:
            return  # one turn for all that was said until it goes out
        if not self._input.can_commit():
            super().commit_input()  # says why not
            return
        self._commit_at = max(self._audio_until, self._now) + _ARRIVES_S

    def clear_input(self) -> None:
        self._audio_until = 0.0
        self._commit_at = None
        super().clear_input()

    def send_image(self, image: bytes, mime_type: str) -> None:
        """Raises SettingRefused also for an image that does not fit into one message."""
        self._must_fit("image", 4 * len(image) / 3 + 300, f"an image of {len(image)} bytes")
        super().send_image(image, mime_type)

    def send_text(self, text: str, *, respond: bool = True) -> None:
        """Raises SettingRefused for a text that does not fit into one message."""
        self._must_fit("text", len(messages.encode(text)) + 200, f"{len(text)} characters")
        super().send_text(text, respond=respond)

    # ----------------------------------------------------------------------------------------- commands: replies, tools

    def interrupt(self, now: float) -> None:
        """Also empties the server's own queue, and drops what is on its way."""
        active = self._reader.replies.active()
        if active is not None and self._speech.modality == "audio":
            self._heard.expect(active.id)  # it may be about to speak
        super().interrupt(now)
        if self._heard.silence(self._now):
            self._outgoing.append(messages.output_clear(self._event_id()))

    def truncate(self, reply_id: str, heard_ms: int) -> None:
        """The server knows how much it has played: there is nothing to tell it."""

    def send_tool_result(
        self, call_id: str, name: str, result: dict[str, Any] | str, *, error: bool = False, respond: bool = True
    ) -> None:
        """A result that does not fit into one message is replaced: the model must have an answer."""
        size = len(messages.encode(output_text(result, error=error))) + 300
        if self._max_message_bytes is not None and size > self._max_message_bytes:
            said = f"the result of {name or 'a tool'} is {size} bytes long; WebRTC takes {self._max_message_bytes}"
            self._notices.later("result_too_long", f"{said}: {_SMALLER}")
            result, error = "the result was too long to be passed on", True
        super().send_tool_result(call_id, name, result, error=error, respond=respond)

    def _must_fit(self, field: str, size: float, value: str) -> None:
        if self._max_message_bytes is not None and size > self._max_message_bytes:
            raise SettingRefused(
                field, value, f"a message over WebRTC holds {self._max_message_bytes} bytes: {_SMALLER}"
            )
