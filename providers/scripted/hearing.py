"""What a scripted mind hears: the recording of its input, and the turns that its energy VAD finds in it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from providers.scripted.scenario import ServerVad
from providers.signal import wav
from providers.signal.resample import Int16Array, resample_whole
from providers.signal.vad import EnergyVad, SpeechEdge, VadSettings

__all__ = ["OUTPUT_HZ", "Arrival", "Hearing", "Recording"]

OUTPUT_HZ = 24_000
"""Rate of everything that a scripted mind says."""
_TAIL_MS = 200
"""Kept after the last loud frame: soft word endings lie below the threshold."""


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """One chunk of input as it came in."""

    at: float
    """On the clock that the mind was given."""
    position_ms: float
    """Where it begins in all that was ever heard."""
    size: int
    """Bytes."""


class Recording:
    """All input audio in order, int16 mono. Full: the oldest goes, in steps of a tenth; `dropped_ms` counts it."""

    def __init__(self, rate_hz: int, limit_s: float) -> None:
        self.rate_hz = rate_hz
        self.dropped_ms = 0.0
        self.arrivals: list[Arrival] = []
        self._limit = int(limit_s * rate_hz) * 2
        self._kept = bytearray()
        self._dropped = 0

    @property
    def heard(self) -> bytes:
        """What is still kept, oldest first."""
        return bytes(self._kept)

    @property
    def total_ms(self) -> float:
        """All that was ever heard."""
        return (self._dropped + len(self._kept)) / 2 / self.rate_hz * 1000

    def add(self, pcm: bytes, now: float) -> None:
        self.arrivals.append(Arrival(now, self.total_ms, len(pcm)))
        self._kept += pcm
        if len(self._kept) > self._limit:
            excess = (len(self._kept) - self._limit + self._limit // 10) // 2 * 2
            del self._kept[:excess]
            self._dropped += excess
            self.dropped_ms = self._dropped / 2 / self.rate_hz * 1000
            first = next((i for i, a in enumerate(self.arrivals) if a.position_ms >= self.dropped_ms), None)
            self.arrivals = [] if first is None else self.arrivals[first:]

    def part(self, from_ms: float, to_ms: float) -> Int16Array:
        """Samples between two positions, as far as they are kept."""
        low = max(0, round(from_ms * self.rate_hz / 1000) * 2 - self._dropped)
        high = max(low, round(to_ms * self.rate_hz / 1000) * 2 - self._dropped)
        return np.frombuffer(bytes(self._kept[low:high]), dtype="<i2")

    def save(self, path: str | Path) -> None:
        """What is still kept, as a WAV file."""
        wav.write(path, self.heard, self.rate_hz)


class Hearing:
    """Recording and turn detection of one connection."""

    def __init__(self, rate_hz: int, settings: ServerVad, limit_s: float) -> None:
        self.recording = Recording(rate_hz, limit_s)
        self.settings = settings
        self.turn_from_ms: float | None = None
        """Where the turn under way begins (padding included); None between turns."""
        self._turn_end_ms = 0.0
        self._base_ms = 0.0
        self._odd = b""
        self._vad = self._detector()

    @property
    def now_ms(self) -> float:
        """Audio heard so far: the input clock."""
        return self.recording.total_ms

    def configure(self, settings: ServerVad) -> None:
        """Detect by these settings from here on. A turn under way goes on, unless detection is now off."""
        if settings == self.settings:
            return
        speaking = self._vad.speaking and settings.enabled
        self.settings = settings
        self._base_ms = self.now_ms
        self._vad = self._detector()
        self._vad.speaking = speaking
        if not speaking:
            self.turn_from_ms = None

    def _detector(self) -> EnergyVad:
        own = self.settings
        settings = VadSettings(threshold_dbfs=own.threshold_dbfs, onset_ms=own.onset_ms, silence_ms=own.silence_ms)
        return EnergyVad(self.recording.rate_hz, settings)

    def push(self, pcm: bytes, now: float) -> list[SpeechEdge]:
        """Record a chunk; returns the edges of turns that the VAD found, on the input clock."""
        if self._odd or len(pcm) % 2:
            pcm = self._odd + pcm
            self._odd = pcm[len(pcm) // 2 * 2 :]
            pcm = pcm[: len(pcm) // 2 * 2]
        self.recording.add(pcm, now)
        if not self.settings.enabled:
            return []
        edges = self._vad.push(np.frombuffer(pcm, dtype="<i2"))
        base = round(self._base_ms)
        return [SpeechEdge(edge.speaking, base + edge.at_ms, base + edge.noticed_ms) for edge in edges]

    def begin(self, at_ms: float, padding_ms: float = 0.0) -> float:
        """A turn begins at `at_ms`, or as early as the padding and the turn before allow. Returns that position."""
        self.turn_from_ms = max(self._turn_end_ms, at_ms - padding_ms)
        return self.turn_from_ms

    def end(self, at_ms: float, tail_ms: float = 0.0) -> Int16Array:
        """The turn's audio at 24 kHz; the next turn begins after it."""
        begun = self._turn_end_ms if self.turn_from_ms is None else self.turn_from_ms
        ended = min(at_ms + min(tail_ms, _TAIL_MS), self.now_ms)
        self.turn_from_ms = None
        self._turn_end_ms = max(begun, ended)
        return resample_whole(self.recording.part(begun, ended), self.recording.rate_hz, OUTPUT_HZ)

    def uncommitted_ms(self) -> float:
        """Audio since the end of the turn before."""
        return self.now_ms - self._turn_end_ms

    def clear(self) -> None:
        """Forget audio that belongs to no turn yet."""
        self._turn_end_ms = self.now_ms
        self.turn_from_ms = None
        self._vad.reset()

    def abandon(self) -> SpeechEdge | None:
        """The microphone is gone: a turn under way ends here."""
        if self.turn_from_ms is None or not self._vad.speaking:
            return None
        self._vad.reset()
        now_ms = round(self.now_ms)
        return SpeechEdge(False, now_ms, now_ms)
