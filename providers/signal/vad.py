"""Is somebody speaking? By energy over a noise floor, with hangover: no I/O, no clock, a few microseconds a frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from providers.signal.resample import Int16Array

__all__ = ["EnergyVad", "SpeechEdge", "VadSettings"]

_FRAME_MS = 10
_FLOOR_START = 10 ** (-70 / 10)
_FLOOR_MIN = 10 ** (-96 / 10)
_FLOOR_FALL = 0.5
"""Share of the way down to a quieter frame, per frame: the floor falls 15 dB in 50 ms when a noise stops."""
_FLOOR_RISE = 10 ** (0.05 / 10)
"""5 dB a second up: speech of a few seconds does not become the floor, a fan that was switched on does."""
_FULL_SCALE_SQUARED = 32768.0 * 32768.0
_NOTHING = np.zeros(0, dtype=np.int16)


class VadSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What counts as speech, and how long a pause may be."""

    threshold_dbfs: Annotated[float, Meta(ge=-90.0, le=0.0)] = -45.0
    """Quieter than this is never speech."""
    margin_db: Annotated[float, Meta(ge=0.0, le=40.0)] = 0.0
    """Speech is at least so much louder than the noise floor. 0: only the threshold counts."""
    onset_ms: Annotated[int, Meta(ge=10, le=1000)] = 20
    """Loud for so long before it is believed, ms."""
    silence_ms: Annotated[int, Meta(ge=10, le=10_000)] = 500
    """Quiet for so long ends it, ms."""


class SpeechEdge(msgspec.Struct, frozen=True, gc=False):
    """Speech began or ended, in ms of audio pushed since the detector was made."""

    speaking: bool
    at_ms: int
    """Of the edge in the audio itself: the first loud frame, or the end of the last one."""
    noticed_ms: int
    """How much audio had been heard when it became certain."""


class EnergyVad:
    """Follows one stream of int16 mono; `push` returns the edges in the chunk. Any chunk length; frames of 10 ms.

    `confirm` may refuse what energy calls loud: it is given the frame (10 ms of int16 bytes) and the rate, which is the
    signature of `webrtcvad.Vad.is_speech`. It runs only on loud frames.
    """

    def __init__(
        self,
        rate_hz: int,
        settings: VadSettings | None = None,
        *,
        confirm: Callable[[bytes, int], bool] | None = None,
    ) -> None:
        if rate_hz % 100:
            raise ValueError(f"rate_hz = {rate_hz}: use a multiple of 100")
        self.settings = settings or VadSettings()
        self.speaking = False
        self.level = 0.0
        """Mean square of the newest frame, 0.0 to 1.0."""
        self._rate_hz = rate_hz
        self._confirm = confirm
        self._frame = rate_hz // (1000 // _FRAME_MS)
        self._threshold = 10 ** (self.settings.threshold_dbfs / 10)
        self._margin = 10 ** (self.settings.margin_db / 10)
        self._scale = 1.0 / (self._frame * _FULL_SCALE_SQUARED)
        self._floor = _FLOOR_START
        self._rest = _NOTHING
        self._heard_ms = 0
        self._run = 0
        self._loud_until_ms = 0

    @property
    def heard_ms(self) -> int:
        """Audio judged so far, whole frames."""
        return self._heard_ms

    @property
    def noise_floor(self) -> float:
        """Mean square that counts as the room's own noise."""
        return self._floor

    def reset(self) -> None:
        """Forget a speech that is under way; the clock and the noise floor stay."""
        self.speaking = False
        self._run = 0

    def learn(self, pcm: Int16Array) -> list[SpeechEdge]:
        """Begin with what was heard before this detector was made: the quietest tenth of it is taken for the room's own
        noise, which else takes seconds to learn. Judges it too: returns the edges found, as `push`."""
        whole = pcm[: len(pcm) // self._frame * self._frame].astype(np.float32).reshape(-1, self._frame)
        if len(whole):
            levels = np.sort(np.vecdot(whole, whole)) * self._scale
            self._floor = max(_FLOOR_MIN, float(levels[len(levels) // 10]))
        return self.push(pcm)

    def push(self, pcm: Int16Array) -> list[SpeechEdge]:
        """Judge the next chunk, shape (n,). Returns the edges found, in order; nearly always none."""
        if len(self._rest):
            pcm = np.concatenate([self._rest, pcm])
        frame = self._frame
        count = len(pcm) // frame
        whole = pcm[: count * frame].astype(np.float32).reshape(count, frame)
        edges: list[SpeechEdge] = []
        for index, energy in enumerate(np.vecdot(whole, whole).tolist()):
            level = energy * self._scale
            floor = self._floor
            loud = level > self._threshold and level > floor * self._margin
            if level < floor:
                self._floor = max(_FLOOR_MIN, floor + _FLOOR_FALL * (level - floor))
            else:
                self._floor = min(level, floor * _FLOOR_RISE)
            if loud and self._confirm is not None:
                loud = self._confirm(pcm[index * frame : (index + 1) * frame].tobytes(), self._rate_hz)
            self.level = level
            self._heard_ms += _FRAME_MS
            if loud:
                self._step_loud(edges)
            else:
                self._run = 0
                if self.speaking:
                    self._step_quiet(edges)
        self._rest = pcm[count * frame :].copy() if count * frame < len(pcm) else _NOTHING
        return edges

    def _step_loud(self, edges: list[SpeechEdge]) -> None:
        self._run += _FRAME_MS
        self._loud_until_ms = self._heard_ms
        if not self.speaking and self._run >= self.settings.onset_ms:
            self.speaking = True
            edges.append(SpeechEdge(True, self._heard_ms - self._run, self._heard_ms))

    def _step_quiet(self, edges: list[SpeechEdge]) -> None:
        if self._heard_ms - self._loud_until_ms >= self.settings.silence_ms:
            self.speaking = False
            edges.append(SpeechEdge(False, self._loud_until_ms, self._heard_ms))
