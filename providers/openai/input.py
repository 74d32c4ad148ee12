"""The user's side of a session: turn detection as it is in force, uncommitted audio, and what the user said."""

from __future__ import annotations

import math

from msgspec import UNSET

from providers.contract import InputTranscript, WarningReported
from providers.openai import wire
from providers.openai.failures import code_of
from providers.openai.transcripts import InputTranscripts
from providers.settings import TurnDetectionSettings
from providers.signal.formats import AudioFormat, Encoding

__all__ = ["MIN_COMMIT_MS", "TranscriptEvent", "UserInput"]

MIN_COMMIT_MS = 100.0
_SILENCE_BYTE = {Encoding.PCM16: b"\x00", Encoding.PCMU: b"\xff", Encoding.PCMA: b"\xd5"}
_SILENCE_MS = 500.0
_SILENCE_MARGIN_MS = 200.0
_LONGEST_SILENCE_MS = 2000.0

TranscriptEvent = (
    wire.InputTranscriptDelta
    | wire.InputTranscriptSegment
    | wire.InputTranscriptUpdated
    | wire.InputTranscriptCompleted
    | wire.InputTranscriptFailed
)


class UserInput:
    """What the session knows of its input. `uncommitted_bytes` is counted by the hot path itself."""

    def __init__(self, session: int, format: AudioFormat, turns: TurnDetectionSettings) -> None:
        self.detects = turns.mode != "manual"
        """The provider finds the turns."""
        self.interrupts = turns.interrupt_response
        """The provider cuts its reply when the user speaks."""
        self.uncommitted_bytes = 0
        self._session = session
        self._format = format
        self._silence_ms = float(turns.silence_ms or _SILENCE_MS)
        self._heard = InputTranscripts()

    @staticmethod
    def silence_that_ends_a_turn_ms(turns: TurnDetectionSettings) -> float:
        """As far as the settings say."""
        return min(float(turns.silence_ms or _SILENCE_MS) + _SILENCE_MARGIN_MS, _LONGEST_SILENCE_MS)

    def told(self, session: wire.Session, *, created: bool) -> bool:
        """Take over the effective turn detection. True: whether the provider interrupts has changed.

        What `session.created` says of interruption are the defaults that our setup is about to replace.
        """
        told = session.turn_detection
        if told is UNSET and session.audio is not None and session.audio.input is not None:
            told = session.audio.input.turn_detection
        if not isinstance(told, wire.TurnDetection) or not self.detects:
            return False
        if told.silence_duration_ms and math.isfinite(told.silence_duration_ms):
            self._silence_ms = told.silence_duration_ms
        if created or told.interrupt_response is None or told.interrupt_response == self.interrupts:
            return False
        self.interrupts = told.interrupt_response
        return True

    def can_commit(self) -> bool:
        """The service refuses to commit less than 100 ms."""
        return self._format.duration_ms(self.uncommitted_bytes) >= MIN_COMMIT_MS

    def silence(self) -> bytes:
        """As much of it as ends a turn, in the input format."""
        size = self._format.size(min(self._silence_ms + _SILENCE_MARGIN_MS, _LONGEST_SILENCE_MS))
        return _SILENCE_BYTE[self._format.encoding] * size

    def words(self, event: TranscriptEvent) -> list[InputTranscript | WarningReported]:
        """What a transcription event tells."""
        match event:
            case wire.InputTranscriptFailed():
                said = event.error.message or "the user's speech could not be transcribed"
                return [WarningReported(self._session, f"transcription_failed:{code_of(event.error)}", said)]
            case wire.InputTranscriptCompleted():
                if not self._heard.complete(event.item_id):
                    return []
                return [InputTranscript(self._session, event.item_id, event.transcript, final=True)]
            case wire.InputTranscriptDelta():
                text = self._heard.append(event.item_id, event.delta)
            case wire.InputTranscriptSegment():
                text = self._heard.append_segment(event.item_id, event.text)
            case wire.InputTranscriptUpdated():
                text = self._heard.replace(event.item_id, event.transcript)
        return [] if text is None else [InputTranscript(self._session, event.item_id, text)]
