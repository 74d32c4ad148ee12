"""The last seconds of the bus, frame by frame, each with its number for the whole call. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from itertools import islice

import msgspec
import numpy as np
import numpy.typing as npt

from providers.signal.formats import AudioFormat
from providers.signal.vad import VadSettings

__all__ = ["Tape", "TapeStats"]

_CELL_MS = 10
"""Loudness is judged in pieces of this length, as `EnergyVad` does."""
_KEPT_MS = 500
"""Kept before the oldest frame that somebody needs: for the filter of a new converter, and for the onset of speech."""
_PRE_ROLL_MS = 300
"""Speech begins softly: so much before its first loud frame belongs to it."""
_READ_MS = 60_000
_LOOK_MS = 500
_LOOK_BACK_MS = 1000
_FULL_SCALE_SQUARED = 32768.0 * 32768.0


class TapeStats(msgspec.Struct):
    first_words_kept_frames: int = 0
    """Had to wait: nobody led, or the leader was still catching up."""
    first_words_dropped_frames: int = 0
    """No leading session has heard them: nobody led for longer than `first_words_s`, or the socket fell a minute
    behind. The oldest went."""
    unsettled_dropped_frames: int = 0
    """Heard, unanswered for longer than `first_words_s`, and gone: if that session were lost now, another could not
    hear them again."""
    beside_dropped_frames: int = 0
    """A session that hears beside the leader fell a minute behind: the oldest went."""
    replayed_frames: int = 0
    """Given to a second leading session because the first had not answered them."""


class Tape:
    """Bus frames that somebody may still need, and half a second before them. Full: the oldest goes and is counted.

    `cursor`: the leading session has heard everything before it. `settled`: everything before it has been answered and
    is not needed again. What waits for a leader is bounded by `keep_ms`; by a minute, or `keep_ms` if that is longer,
    while one is catching up. What was heard but is not settled is bounded by `keep_ms`, to half a second.
    """

    def __init__(
        self, keep_ms: float, format: AudioFormat, *, frame_ms: int = 20, vad: VadSettings | None = None
    ) -> None:
        vad = vad or VadSettings()
        self.stats = TapeStats()
        self.start = 0
        """Number of the oldest frame that is still here."""
        self.end = 0
        """Number that the next frame will get."""
        self.cursor = 0
        self.settled = 0
        self.held: int | None = None
        """Somebody beside the leader is still reading from here."""
        self.frame_ms = frame_ms
        self._frames: deque[bytes] = deque()
        self._keep = int(keep_ms / frame_ms)
        self._minute = _READ_MS // frame_ms
        self._waiting = self._keep
        self._kept = _KEPT_MS // frame_ms
        self._look_after = _LOOK_MS // frame_ms
        self._look_at = 0
        self._pre_roll = _PRE_ROLL_MS // frame_ms
        self._cell = format.rate_hz * _CELL_MS // 1000
        self._cells = frame_ms // _CELL_MS
        self._loud_from = 10 ** (vad.threshold_dbfs / 10) * self._cell * _FULL_SCALE_SQUARED
        self._onset = max(1, vad.onset_ms // _CELL_MS)
        self._judged = 0  # frames before it are quiet or settled, ...
        self._speech = False  # ... and the next is where speech begins

    def __len__(self) -> int:
        return len(self._frames)

    # ----------------------------------------------------------------------------------------------------- frames

    def write(self, frame: bytes) -> int:
        """Add the next frame; returns its number."""
        number = self.end
        self.end = number + 1
        self._frames.append(frame)
        if number >= self._look_at:
            self._let_go()
        return number

    def read(self, number: int) -> bytes:
        """The frame of this number, `start` to `end` - 1. Raises IndexError for one that is gone or still to come."""
        if not self.start <= number < self.end:
            raise IndexError(f"frame {number} is not on the tape ({self.start} to {self.end - 1})")
        return self._frames[number - self.start]

    def before(self, number: int, at_most: int) -> list[bytes]:
        """The last frames before this one, oldest first; fewer when they are gone."""
        until = max(0, min(number, self.end) - self.start)
        return list(islice(self._frames, max(0, until - at_most), until))

    # ------------------------------------------------------------------------------------------------ who needs them

    def awaited(self, by_leader: bool) -> None:
        """A leader is there to take what waits, or nobody is."""
        self._waiting = max(self._keep, self._minute) if by_leader else self._keep
        self._let_go()

    def rewind(self, number: int) -> None:
        """The cursor goes back to this frame: never forward, and not before `start`."""
        before, self.cursor = self.cursor, max(self.start, min(number, self.cursor))
        self.stats.replayed_frames += before - self.cursor
        self._let_go()

    def settle(self, before: int) -> None:
        """Frames before this number have been answered; what nobody has heard is never settled."""
        before = min(before, self.cursor)
        if before > self.settled:
            self.settled = before
            if before > self._judged:
                self._judged, self._speech = before, False
            self._let_go()

    def settle_silence(self) -> None:
        """What was heard and holds no speech needs no answer. Cheap: each frame is judged once."""
        since = max(self.settled, self._judged)
        if since >= self.cursor or (self._speech and since == self._judged):
            return
        loud = self._first_run(since, self.cursor)
        # A sound that has only begun may be a click: it is judged again.
        self._judged, self._speech = loud or (self.cursor, False)
        self.settle(self._judged - self._pre_roll)

    def skip_silence(self) -> bool:
        """Of what nobody has heard: leave out the silence before the first speech. Returns whether there is speech."""
        loud = self._first_run(self.cursor, self.end)
        place = self.end if loud is None else loud[0]
        self.cursor = self.settled = max(self.cursor, place - self._pre_roll)
        self._judged, self._speech = self.cursor, False
        self._let_go()
        return loud is not None

    def first_loud(self, since: int) -> int | None:
        """Where the first speech at or after this frame begins, less 300 ms; None if there is none. Speech that has
        only begun counts. At most 2 ms for 30 s."""
        loud = self._first_run(max(since, self.start), self.end)
        return None if loud is None else max(self.start, loud[0] - self._pre_roll)

    def holds_turn(self, since: int, until: int, *, speech_ms: int, pause_ms: int) -> bool:
        """Whether between these frames there is so much speech in all, and a pause of that length after it. A second is
        looked at in 0.1 ms."""
        since, until = max(since, self.start), min(until, self.end)
        if since >= until:
            return False
        loud = self._loud_cells(since, until)
        heard = np.cumsum(loud)
        pause = max(1, pause_ms // _CELL_MS)
        begins = int(np.searchsorted(heard, max(1, speech_ms // _CELL_MS)))
        # A pause lies where the count stands still.
        later = heard[begins:]
        return bool(len(later) > pause and (later[pause:] == later[:-pause]).any())

    def last_loud(self, since: int = 0) -> int | None:
        """The frame after the last sound that is long enough for speech; None if there is none on the tape, from this
        frame on. A second is looked at in 0.1 ms, the newest first."""
        oldest = max(since, self.start)
        step, until = _LOOK_BACK_MS // self.frame_ms, self.end
        # A sound across the border of two looks is seen whole by one of them.
        overlap = self._onset // self._cells + 1
        while until > oldest:
            since = max(oldest, until - step)
            loud = self._loud_cells(since, min(self.end, until + overlap))
            if self._onset > 1:
                # A cell counts where it ends a run of loud ones.
                sums = np.concatenate(([0], np.cumsum(loud)))
                loud[self._onset - 1 :] = sums[self._onset :] - sums[: -self._onset] == self._onset
                loud[: self._onset - 1] = False
            if loud.any():
                return since + int(np.flatnonzero(loud)[-1]) // self._cells + 1
            until = since
        return None

    # ---------------------------------------------------------------------------------------------------- workings

    def _loud_cells(self, since: int, until: int) -> npt.NDArray[np.bool_]:
        sound = b"".join(islice(self._frames, since - self.start, until - self.start))
        cells = np.frombuffer(sound, np.int16).reshape(-1, self._cell).astype(np.float32)
        loud: npt.NDArray[np.bool_] = np.vecdot(cells, cells) > self._loud_from
        return loud

    def _first_run(self, since: int, until: int) -> tuple[int, bool] | None:
        """The first frame of the first sound that lasts as long as an onset, and whether it does: the last one may
        still grow."""
        if since >= until:
            return None
        loud = self._loud_cells(since, until)
        if not loud.any():
            return None
        onset = self._onset
        # Runs are found as sums over a sliding window. Whatever comes after the end may be loud.
        sums = np.concatenate(([0], np.cumsum(np.concatenate((loud, np.ones(onset - 1, bool))))))
        runs = sums[onset:] - sums[:-onset] == onset
        first = int(runs.argmax())
        if not runs[first]:
            return None
        return since + first // self._cells, first + onset <= len(loud)

    def _let_go(self) -> None:
        """Drop what nobody needs, and the oldest of what is beyond the bounds."""
        end = self.end
        lost = end - self._waiting - self.cursor
        if lost > 0:
            self.cursor += lost
            self.stats.first_words_dropped_frames += lost
        lost = min(end - self._keep, self.cursor) - self.settled
        if lost > 0:
            self.settled += lost
            if self._keep:  # else nobody asked for it
                self.stats.unsettled_dropped_frames += lost
        needed = min(self.cursor, self.settled)
        if self.held is not None:
            lost = end - self._minute - self.held
            if lost > 0:
                self.held += lost
                self.stats.beside_dropped_frames += lost
            needed = min(needed, self.held)
        for _ in range(needed - self._kept - self.start):
            self._frames.popleft()
            self.start += 1
        self._look_at = min(end + self._look_after, self.cursor + self._waiting)
