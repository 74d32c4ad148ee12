"""Many microphones, one bus: what the model hears, in frames of exactly 20 ms, at the pace of real time.

One active speaker's frames pass through at once and unchanged. Several are summed slot by slot; nobody waits longer
than the slack for anybody else. Where people are silent, silence keeps the model's voice activity detection going;
where nobody is, nothing is sent.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from bridge.core.words import ParticipantId
from providers.signal.formats import PCM16_24K, AudioFormat, Encoding

__all__ = ["Mixer", "MixerSettings", "MixerStats"]

_KNEE = 26_000  # -2 dBFS: where the soft limit begins
_FULL_SCALE = 32_767
_LEVEL_BIN_S = 0.1
_LEVEL_BINS = 600  # one minute of levels for each participant
_MAX_CATCH_UP = 10  # frames of silence in one go; a longer sleep of ours is skipped, not replayed
_EPSILON_S = 1e-6  # deadlines are sums of floats


class MixerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How several microphones become one."""

    slack_ms: Annotated[float, Meta(ge=5, le=200)] = 30.0
    """With several speakers: how long a frame waits for the frames of the others, ms."""
    hold_ms: Annotated[float, Meta(ge=20, le=1000)] = 60.0
    """Without a frame for this long a participant counts as silent, and a silent bus is filled, ms."""
    late_frames: Annotated[int, Meta(ge=1, le=50)] = 3
    """Frames of one participant that may lag behind the others. Full: the oldest goes and is counted."""
    rest_after_s: Annotated[float, Meta(ge=0.5, le=60)] = 2.0
    """Silence goes on for this long after the last one has muted or left, so that the model hears the end of his turn;
    then nothing is sent until somebody can be heard again, s."""
    surplus_ms: Annotated[float, Meta(ge=20, le=2000)] = 120.0
    """How far the bus may run ahead of or behind the wall clock before a silent frame is left out or doubled, ms."""
    silence_peak: Annotated[int, Meta(ge=0, le=2000)] = 33
    """A frame whose loudest sample is at most this is silent (33 is -60 dBFS)."""


class MixerStats(msgspec.Struct):
    """What the mixer did. Plain integers; read a copy."""

    frames: int = 0
    """Frames given to the bus, silence included."""
    filled_frames: int = 0
    """Frames of silence because nobody sent anything."""
    skipped_frames: int = 0
    """Silence not made good after a long sleep of ours."""
    mixed_frames: int = 0
    """Sums of two or more participants."""
    limited_frames: int = 0
    """Sums that reached the soft limit."""
    incomplete_slots: int = 0
    """Slots that went out without an active participant's frame."""
    late_dropped_frames: int = 0
    """Frames that lagged too far behind the others."""
    silent_dropped_frames: int = 0
    """Silent frames left out to take back a lead or a lag."""
    silent_inserted_frames: int = 0
    """Silent frames doubled because the speaker's clock is slow."""
    padded_frames: int = 0
    """Last frames of a participant, filled up with silence."""
    unknown_frames: int = 0
    """Audio of somebody who was not added."""


class _Voice:
    __slots__ = ("arrivals", "energies", "frames", "heard_at", "leaving", "partial", "stamps")

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.arrivals: deque[float] = deque()
        self.partial = bytearray()
        self.heard_at = float("-inf")
        self.leaving = False
        self.energies = array("d", bytes(8 * _LEVEL_BINS))
        self.stamps = array("q", [-1]) * _LEVEL_BINS

    def measure(self, samples: npt.NDArray[np.int16], now: float) -> None:
        floats = samples.astype(np.float32)
        stamp = int(now / _LEVEL_BIN_S)
        place = stamp % _LEVEL_BINS
        if self.stamps[place] != stamp:
            self.stamps[place] = stamp
            self.energies[place] = 0.0
        self.energies[place] += float(np.dot(floats, floats))

    def energy(self, since: float, until: float) -> float:
        first, last = int(since / _LEVEL_BIN_S), int(until / _LEVEL_BIN_S)
        total = 0.0
        for stamp in range(max(first, last - _LEVEL_BINS + 1), last + 1):
            place = stamp % _LEVEL_BINS
            if self.stamps[place] == stamp:
                total += self.energies[place]
        return total


class Mixer:
    """Per-participant frames in, bus frames out. A participant's lag is bounded: full, his oldest frame goes."""

    def __init__(
        self, format: AudioFormat = PCM16_24K, *, frame_ms: int = 20, settings: MixerSettings | None = None
    ) -> None:
        assert format.encoding is Encoding.PCM16, "the bus carries int16: decode companded audio before it"
        self.settings = settings or MixerSettings()
        self.stats = MixerStats()
        self.format = format
        self._size = format.size(frame_ms)
        self._frame_s = frame_ms / 1000
        self._slack_s = self.settings.slack_ms / 1000
        self._hold_s = self.settings.hold_ms / 1000
        self._surplus_s = self.settings.surplus_ms / 1000
        self._silence = bytes(self._size)
        self._sum = np.zeros(self._size // 2, np.int32)
        self._voices: dict[ParticipantId, _Voice] = {}
        self._until: float | None = None  # wall-clock time up to which the bus has been given audio
        self._heard_at = float("-inf")  # anybody's newest frame
        self._called_at = float("-inf")
        self._filling = False
        self._deserted_at: float | None = float("-inf")

    # ------------------------------------------------------------------------------------------------------- members

    def add(self, participant: ParticipantId) -> None:
        """Frames of this participant may follow. Adding twice (a replaced track) starts the frames anew."""
        self._deserted_at = None
        voice = self._voices.get(participant)
        if voice is None:
            self._voices[participant] = _Voice()
        else:
            voice.leaving = False
            voice.partial.clear()

    def remove(self, participant: ParticipantId) -> None:
        """Muted or gone: nobody waits for him any more. What he said before still goes out."""
        voice = self._voices.get(participant)
        if voice is None:
            return
        voice.leaving = True
        size = len(voice.partial) - len(voice.partial) % 2
        if size:
            voice.frames.append(bytes(voice.partial[:size]) + self._silence[size:])
            voice.arrivals.append(voice.heard_at)
            self.stats.padded_frames += 1
        voice.partial.clear()
        voice.heard_at = float("-inf")
        if not voice.frames:
            del self._voices[participant]

    @property
    def participants(self) -> tuple[ParticipantId, ...]:
        """Who may be heard now."""
        return tuple(p for p, voice in self._voices.items() if not voice.leaving)

    # ---------------------------------------------------------------------------------------------------------- flow

    def push(self, participant: ParticipantId, pcm: bytes, now: float) -> list[bytes]:
        """Take audio of any length in the bus format. Returns the bus frames that are now due, in order."""
        voice = self._voices.get(participant)
        if voice is None or voice.leaving:
            self.stats.unknown_frames += 1
            return []
        if self._until is None:
            self._until = now
        self._notice_stall(now)
        voice.heard_at = self._heard_at = now
        if len(self._voices) == 1:
            if len(pcm) == self._size and not voice.partial and not voice.frames:
                return self._emit(pcm, now)
            self._cut(voice, pcm, now)
            return self._pass(voice, now)
        self._cut(voice, pcm, now)
        return self._mix_due(now)

    def due(self, now: float) -> list[bytes]:
        """The bus frames that time alone makes due. Call at `deadline()`."""
        if self._until is None:
            self._until = now
            return []
        self._notice_stall(now)
        resting = self.resting(now)
        out = self._mix_due(now) if len(self._voices) > 1 else self._drain_last(now)
        if not self._filling and now - self._heard_at < self._hold_s - _EPSILON_S:
            return out
        owed = int((now - self._until) / self._frame_s + _EPSILON_S)
        if resting:
            self._until += max(0, owed) * self._frame_s
            return out
        if owed > _MAX_CATCH_UP:
            self.stats.skipped_frames += owed - _MAX_CATCH_UP
            self._until += (owed - _MAX_CATCH_UP) * self._frame_s
            owed = _MAX_CATCH_UP
        for _ in range(owed):
            self._count()
            self.stats.filled_frames += 1
            self._filling = True
            out.append(self._silence)
        return out

    def resting(self, now: float) -> bool:
        """Nobody can be heard, and has not been for `rest_after_s`: no silence is made."""
        for voice in self._voices.values():
            if not voice.leaving:
                self._deserted_at = None
                return False
        if self._deserted_at is None:
            self._deserted_at = now
        return now - self._deserted_at >= self.settings.rest_after_s

    def deadline(self) -> float | None:
        """When to call `due` next, on the same clock as `now`. None before the first `push` or `due`."""
        if self._until is None:
            return None
        soonest = self._until + self._frame_s
        if not self._filling:
            soonest = max(soonest, self._heard_at + self._hold_s)
        for voice in self._voices.values():
            if voice.frames:
                soonest = min(soonest, voice.arrivals[0] + self._slack_s)
        return soonest

    # -------------------------------------------------------------------------------------------------------- levels

    def loudest(self, since: float, until: float) -> ParticipantId | None:
        """Who gave the most energy between these times (bins of 100 ms, one minute kept). A lone participant is it."""
        if len(self._voices) == 1:
            return next(iter(self._voices))
        best, most = None, 0.0
        for participant, voice in self._voices.items():
            energy = voice.energy(since, until)
            if energy > most:
                best, most = participant, energy
        return best

    def level_dbfs(self, participant: ParticipantId, since: float, until: float) -> float:
        """Mean level of one of several participants between these times, dBFS; -100 for silence or when alone."""
        voice = self._voices.get(participant)
        energy = voice.energy(since, until) if voice else 0.0
        samples = max(until - since, _LEVEL_BIN_S) * self.format.rate_hz
        return float(max(-100.0, 10 * np.log10(energy / samples / _FULL_SCALE**2 + 1e-10)))

    # ------------------------------------------------------------------------------------------------------ workings

    def _notice_stall(self, now: float) -> None:
        """Nobody called for longer than the hold: the silence was ours, and those who spoke before still count."""
        asleep_s = now - self._called_at
        if asleep_s >= self._hold_s:
            for voice in self._voices.values():
                if self._called_at - voice.heard_at < self._hold_s:
                    voice.heard_at += asleep_s
        self._called_at = now

    def _cut(self, voice: _Voice, pcm: bytes, now: float) -> None:
        """Whole frames into the queue, the rest is kept for the next piece."""
        size = self._size
        if len(pcm) == size and not voice.partial:
            voice.frames.append(pcm)
            voice.arrivals.append(now)
            return
        voice.partial += pcm
        whole = len(voice.partial) - len(voice.partial) % size
        for start in range(0, whole, size):
            voice.frames.append(bytes(voice.partial[start : start + size]))
            voice.arrivals.append(now)
        del voice.partial[:whole]

    def _pass(self, voice: _Voice, now: float) -> list[bytes]:
        out: list[bytes] = []
        while voice.frames:
            voice.arrivals.popleft()
            out += self._emit(voice.frames.popleft(), now)
        return out

    def _drain_last(self, now: float) -> list[bytes]:
        for participant, voice in list(self._voices.items()):
            out = self._pass(voice, now)
            if voice.leaving:
                del self._voices[participant]
            return out
        return []

    def _mix_due(self, now: float) -> list[bytes]:
        out: list[bytes] = []
        while True:
            ready = [voice for voice in self._voices.values() if voice.frames]
            if not ready:
                break
            missing = sum(
                1 for voice in self._voices.values() if not voice.frames and now - voice.heard_at < self._hold_s
            )
            if missing:
                if now - min(voice.arrivals[0] for voice in ready) < self._slack_s - _EPSILON_S:
                    break
                self.stats.incomplete_slots += 1
            out += self._emit(self._slot(ready, now), now)
        self._bound(now)
        for participant in [p for p, voice in self._voices.items() if voice.leaving and not voice.frames]:
            del self._voices[participant]
        return out

    def _bound(self, now: float) -> None:
        """Drop what lags behind. After a stall of ours the slots are still to come, and the frames are not late."""
        until = self._until if self._until is not None else now
        limit = self.settings.late_frames + max(0, int((now - until) / self._frame_s))
        for voice in self._voices.values():
            while len(voice.frames) > limit:
                voice.frames.popleft()
                voice.arrivals.popleft()
                self.stats.late_dropped_frames += 1

    def _slot(self, ready: list[_Voice], now: float) -> bytes:
        heard: list[tuple[bytes, npt.NDArray[np.int16]]] = []
        for voice in ready:
            frame = voice.frames.popleft()
            voice.arrivals.popleft()
            samples = np.frombuffer(frame, np.int16)
            if voice.frames and self._is_silent(samples):
                # Two frames wait where one should: he lags. Silence is where to catch up.
                frame = voice.frames.popleft()
                voice.arrivals.popleft()
                samples = np.frombuffer(frame, np.int16)
                self.stats.silent_dropped_frames += 1
            voice.measure(samples, now)
            heard.append((frame, samples))
        if len(heard) > 1:
            heard = [item for item in heard if item[0] != self._silence] or heard[:1]
        if len(heard) == 1:
            return heard[0][0]
        self.stats.mixed_frames += 1
        total = self._sum
        np.add(heard[0][1], heard[1][1], out=total, dtype=np.int32)
        for _, samples in heard[2:]:
            np.add(total, samples, out=total)
        return self._limited(total)

    def _limited(self, total: npt.NDArray[np.int32]) -> bytes:
        peak = max(int(total.max()), -int(total.min()))
        if peak > _KNEE:
            # A curve without memory: it bends the tips of waves, never the level of what is below the knee.
            self.stats.limited_frames += 1
            size = np.abs(total).astype(np.float32)
            span = np.float32(_FULL_SCALE - _KNEE)
            bent = _KNEE + span * np.tanh(np.maximum(size - _KNEE, 0) / span)
            return (np.sign(total) * np.where(size > _KNEE, bent, size)).astype(np.int16).tobytes()
        return total.astype(np.int16).tobytes()

    def _is_silent(self, samples: npt.NDArray[np.int16]) -> bool:
        peak = self.settings.silence_peak
        return int(samples.max()) <= peak and int(samples.min()) >= -peak

    def _emit(self, frame: bytes, now: float) -> list[bytes]:
        assert self._until is not None
        self._filling = False
        ahead_s = self._until - now
        if abs(ahead_s) > self._surplus_s and self._is_silent(np.frombuffer(frame, np.int16)):
            if ahead_s > 0:
                self.stats.silent_dropped_frames += 1
                return []
            self.stats.silent_inserted_frames += 1
            self._count()
            self._count()
            return [frame, frame]
        self._count()
        return [frame]

    def _count(self) -> None:
        assert self._until is not None
        self._until += self._frame_s
        self.stats.frames += 1
