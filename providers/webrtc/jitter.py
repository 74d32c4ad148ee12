"""Packets in any order in, one 20 ms frame out each 20 ms. No I/O, no clock of its own.

Every packet's transit is its arrival less its timestamp. The smallest one of late is the network at its best; how much
later than that nearly all packets come is the jitter, and the delay that this buffer aims at. A packet plays when it is
that old. Where the delay is not what it should be, speech is played a little faster or slower, one pitch period at a
time; silence is simply cut. A hole is filled by `conceal`. Sources: RFC 3550 (timestamps), RFC 7587 (their 48 kHz).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec
import numpy as np

from providers.signal.resample import Int16Array
from providers.webrtc.conceal import Concealer, lengthened, loudness, shortened
from providers.webrtc.settings import JitterSettings

__all__ = ["JitterBuffer", "JitterSettings", "JitterStats"]

_TICKS_S = 48_000
_MAX_PACKETS = 256
_MAX_PAYLOAD = 4_000
_MOMENT_S = 0.005
"""Packets that come together after a stall are one observation of it, not many."""
_OBSERVATIONS = 250
"""Transits that the jitter is taken from: 5 s of 20 ms packets."""
_KNOWN = 50
"""From so many on the jitter is known; until then `start_delay_ms` holds."""
_NEARLY_ALL = 0.97
_MARGIN_MS = 5.0
"""For our own timers, which are no more even than the network."""
_SPIKE_S = 10.0
"""Stalls within this time that the jitter alone does not cover."""
_ACCIDENTS = 2
"""So many of them are forgiven: the delay covers all others."""
_BEST_S, _BEST_PARTS = 1.0, 10
"""The smallest transit is that of the last ten seconds, so that a drifting clock is followed."""
_JUMP_S = 0.5
"""A timestamp that is so much too young is of another time line."""
_TOLERANCE_MS, _QUIET_TOLERANCE_MS = 15.0, 5.0
"""Deviations from the target that are left alone, in speech and in silence."""
_HASTE_MS, _FORCE_MS = 60.0, 250.0
"""From here on every frame is shortened instead of every fourth; from there on wherever it may be heard too."""


class JitterStats(msgspec.Struct):
    """Counters of one stream. received = played + late + duplicate + dropped + those that wait."""

    received: int = 0
    played: int = 0
    lost: int = 0
    """Packets that were not there when their turn came (some of them come late)."""
    late: int = 0
    """Came after their turn."""
    duplicate: int = 0
    reordered: int = 0
    """Came after a younger one, in time or not."""
    dropped: int = 0
    """Refused: not decodable, too long, of no plausible time, too many at once, flushed."""
    concealed_ms: int = 0
    """Played in place of what was not there, silence included."""
    accelerated_ms: int = 0
    """Left out to make the delay shorter."""
    expanded_ms: int = 0
    """Added to make the delay longer."""
    restarts: int = 0
    """The stream began anew: another time line, or another stream."""
    delay_ms_now: float = 0.0
    """From the best arrival of what is played now to its playing."""
    target_ms_now: float = 0.0


class _Packet(msgspec.Struct):
    sequence: int
    ticks: int
    payload: bytes


class JitterBuffer:
    """At most 256 packets or `max_held_ms` wait. Full: the oldest go, counted. Adapts its delay, conceals holes."""

    def __init__(
        self, decode: Callable[[bytes], Int16Array], rate_hz: int, settings: JitterSettings | None = None
    ) -> None:
        """Args: `decode` turns a payload into int16 mono at `rate_hz`, at most 120 ms, and raises ValueError."""
        self._decode = decode
        self._settings = settings or JitterSettings()
        self._rate_hz = rate_hz
        self._frame = rate_hz // 50
        self._concealer = Concealer(rate_hz)
        self._packets: list[_Packet] = []  # by time
        self._pcm: Int16Array = np.zeros(0, dtype=np.int16)
        self._known: set[int] = set()
        self._order: deque[int] = deque()
        self._began = False
        self._playing = False
        self._highest = 0
        self._newest_ticks = 0
        self._last_arrival = 0.0
        self._head = 0
        """Ticks of the next sample to decode."""
        self._packet_ticks = 960
        self._played_sequence: int | None = None
        self._played_to = 0
        self._best: deque[tuple[float, float]] = deque()
        self._base = 0.0
        self._observed: deque[float] = deque(maxlen=_OBSERVATIONS)
        self._observed_at = -1.0
        self._observations = 0
        self._spikes: deque[tuple[float, float]] = deque(maxlen=16)
        self._jitter_ms = 0.0
        self._odd: tuple[int, float] | None = None
        self._patience = 0
        self._floor = 100.0
        self._concealed = 0
        self.stats = JitterStats(target_ms_now=float(self._settings.start_delay_ms))

    @property
    def waiting(self) -> int:
        """Packets that have not been played yet."""
        return len(self._packets)

    # In

    def push(self, sequence: int, timestamp: int, payload: bytes, now: float) -> None:
        """A packet came. Args: 16 bit `sequence`, 32 bit `timestamp` of the 48 kHz clock, `now` in seconds."""
        stats = self.stats
        stats.received += 1
        if not 0 < len(payload) <= _MAX_PAYLOAD:
            stats.dropped += 1
            return
        if not self._began:
            self._begin(sequence, timestamp)
        elif not self._playing and now - self._last_arrival > _BEST_S * _BEST_PARTS:
            self.flush()  # nobody has asked for it all the while
            self._best.clear()  # clocks drift in a long rest
            self._observed.clear()
        index = self._highest + _signed(sequence - self._highest, 16)
        ticks = self._newest_ticks + _signed(timestamp - self._newest_ticks, 32)
        if index in self._known:
            stats.duplicate += 1
            return
        transit = now - ticks / _TICKS_S
        if not self._plausible(index, transit):
            stats.dropped += 1
            return
        if not self._best:
            self._highest, self._newest_ticks = index, ticks
        if index < self._highest:
            stats.reordered += 1
        self._remember(index)
        self._highest, self._newest_ticks = max(self._highest, index), max(self._newest_ticks, ticks)
        self._last_arrival = now
        self._observe(transit, now)
        if self._playing and ticks + self._packet_ticks <= self._head:
            stats.late += 1
            return
        self._insert(_Packet(index, ticks, payload))

    def flush(self) -> None:
        """Nothing of what has come so far is played. What comes next is."""
        self.stats.dropped += len(self._packets)
        self._packets.clear()
        self._pcm = self._pcm[:0]
        self._concealer.restart()
        self._playing = False

    def restart(self) -> None:
        """Another stream (SSRC) begins: what is known of the old one does not hold for it."""
        self.flush()
        self.stats.restarts += 1
        self._began = False

    def _begin(self, sequence: int, timestamp: int) -> None:
        self._began = True
        self._known.clear()
        self._order.clear()
        self._highest, self._newest_ticks = sequence, timestamp
        self._played_sequence = None
        self._best.clear()
        self._observed.clear()
        self._spikes.clear()
        self._odd = None
        self._jitter_ms = 0.0

    def _plausible(self, index: int, transit: float) -> bool:
        """Whether a packet is of this time line. Two in a row that are not, and fit each other, begin a new one."""
        if not self._best:
            return True
        late_s = transit - self._base
        settings = self._settings
        if -_JUMP_S <= late_s <= (settings.max_held_ms + settings.max_delay_ms) / 1000 + _JUMP_S:
            self._odd = None
            return True
        if not self._playing and not self._packets:
            self._new_line()
            return True
        before, self._odd = self._odd, (index, transit)
        if before is None or not 0 < index - before[0] <= 5 or abs(transit - before[1]) > 0.2:
            return False
        self.flush()
        self._new_line()
        return True

    def _new_line(self) -> None:
        self.stats.restarts += 1
        self._best.clear()
        self._spikes.clear()
        self._observed.clear()
        self._odd = None

    def _remember(self, index: int) -> None:
        self._known.add(index)
        self._order.append(index)
        if len(self._order) > 2 * _MAX_PACKETS:
            self._known.discard(self._order.popleft())

    def _observe(self, transit: float, now: float) -> None:
        best = self._best
        if not best or now - best[-1][0] >= _BEST_S:
            best.append((now, transit))
            while now - best[0][0] > _BEST_S * _BEST_PARTS:
                best.popleft()
            self._base = min(part[1] for part in best)
        elif transit < best[-1][1]:
            best[-1] = (best[-1][0], transit)
            self._base = min(self._base, transit)
        if now - self._observed_at >= _MOMENT_S:
            self._observed_at = now
            self._observed.append(transit)
            self._observations += 1
            if self._observations % 10 == 0:
                late = sorted(self._observed)
                nearly_all = late[int(_NEARLY_ALL * (len(late) - 1))]
                self._jitter_ms = (nearly_all - self._base) * 1000 + _MARGIN_MS
        late_ms = (transit - self._base) * 1000
        if late_ms > self._jitter_ms and len(self._observed) >= _KNOWN:
            self._spike(late_ms, now)
        self._aim(now)

    def _spike(self, late_ms: float, now: float) -> None:
        if self._spikes and now - self._spikes[-1][0] < 0.1:
            before = self._spikes.pop()
            late_ms = max(late_ms, before[1])
        self._spikes.append((now, late_ms))

    def _aim(self, now: float) -> None:
        settings = self._settings
        target = self._jitter_ms if len(self._observed) >= _KNOWN else max(self._jitter_ms, settings.start_delay_ms)
        while self._spikes and now - self._spikes[0][0] > _SPIKE_S:
            self._spikes.popleft()
        if len(self._spikes) > _ACCIDENTS:
            target = max(target, sorted(late for _, late in self._spikes)[-1 - _ACCIDENTS] + _MARGIN_MS)
        self.stats.target_ms_now = float(min(max(target, settings.min_delay_ms), settings.max_delay_ms))

    def _insert(self, packet: _Packet) -> None:
        packets = self._packets
        at = len(packets)
        while at and packets[at - 1].ticks > packet.ticks:
            at -= 1
        packets.insert(at, packet)
        held = self._settings.max_held_ms * _TICKS_S // 1000
        while len(packets) > _MAX_PACKETS or packets[-1].ticks - packets[0].ticks > held:
            del packets[0]
            self.stats.dropped += 1

    # Out

    def pull(self, now: float) -> Int16Array | None:
        """The next 20 ms, shape (rate / 50,). None: the stream rests, or has not begun."""
        if not self._playing and not self._may_start(now):
            return None
        if not self._packets and not len(self._pcm) and self._rests(now):
            return None
        while len(self._pcm) < self._frame:
            self._step(now)
        self._adjust(now)
        frame, self._pcm = self._pcm[: self._frame], self._pcm[self._frame :]
        return frame

    def _may_start(self, now: float) -> bool:
        if not self._packets:
            return False
        first = self._packets[0]
        if self._delay_ms(first.ticks, now) < self.stats.target_ms_now - 1:
            return False
        self._playing = True
        self._head = first.ticks
        self._played_to = first.ticks if self._played_sequence is None else self._played_to
        return True

    def _rests(self, now: float) -> bool:
        if (now - self._last_arrival) * 1000 < self._settings.rest_after_ms:
            return False
        self._playing = False
        self._concealer.restart()
        return True

    def _delay_ms(self, ticks: int, now: float) -> float:
        """How old a moment of the stream is, counted from its best arrival."""
        return (now - ticks / _TICKS_S - self._base) * 1000

    def _step(self, now: float) -> None:
        """Append what comes next: the next packet if it is its turn, else a filling."""
        size = self._frame - len(self._pcm)  # more would push back what comes next
        if self._packets:
            first = self._packets[0]
            gap = first.ticks - self._head
            if gap <= 0 or self._delay_ms(first.ticks, now) >= self.stats.target_ms_now - 10:
                self._play(self._packets.pop(0))
                return
            size = min(gap * self._rate_hz // _TICKS_S or 1, size)
            self._head += min(gap, size * _TICKS_S // self._rate_hz)
        # Else late or lost, nobody knows yet. The stream waits: what comes late is still played, and the delay is made
        # good afterwards.
        self._concealed += size
        self.stats.concealed_ms = self._concealed * 1000 // self._rate_hz
        self._append(self._concealer.conceal(size))

    def _play(self, packet: _Packet) -> None:
        stats = self.stats
        try:
            pcm = self._decode(packet.payload)
        except ValueError:
            stats.dropped += 1
            return
        ticks = len(pcm) * _TICKS_S // self._rate_hz
        if not 0 < ticks <= 6 * 960:
            stats.dropped += 1
            return
        self._packet_ticks = ticks
        over = self._head - packet.ticks
        if over >= ticks:
            stats.late += 1
            return
        stats.played += 1
        leap = packet.ticks - self._played_to
        if self._played_sequence is not None and packet.sequence > self._played_sequence:
            # A gap in time alone is a pause of the sender, one in the numbers alone a new count.
            stats.lost += min(packet.sequence - self._played_sequence - 1, max(0, leap) // ticks)
        self._played_sequence = packet.sequence
        self._played_to = packet.ticks + ticks
        if over > 0:
            pcm = pcm[over * self._rate_hz // _TICKS_S :]
        self._head = packet.ticks + ticks
        if self._concealer.made or leap > 0:
            pcm = self._concealer.join(pcm)
        self._append(pcm)

    def _append(self, pcm: Int16Array) -> None:
        self._concealer.heard(pcm)
        self._pcm = np.concatenate([self._pcm, pcm]) if len(self._pcm) else pcm

    # The delay

    def _adjust(self, now: float) -> None:
        """Towards the target, by playing faster or slower."""
        stats = self.stats
        if self._concealer.made:
            return  # the hole's end decides
        held_ms = len(self._pcm) * 1000 / self._rate_hz
        stats.delay_ms_now = self._delay_ms(self._head, now) + held_ms
        excess = stats.delay_ms_now - stats.target_ms_now
        loud = loudness(self._pcm[: self._frame])
        self._floor = min(max(loud, 1.0), self._floor * 1.01 + 0.1, 300.0)
        quiet = self._is_quiet(loud)
        if abs(excess) <= (_QUIET_TOLERANCE_MS if quiet else _TOLERANCE_MS):
            self._patience = 0
            return
        self._patience += 1
        if excess > 0:
            self._shorten(excess, quiet, now)
        elif quiet or self._patience % 4 == 0:
            self._lengthen(-excess, quiet)

    def _shorten(self, excess: float, quiet: bool, now: float) -> None:
        if not quiet and excess < _HASTE_MS and self._patience % 4:
            return
        before = 0
        while len(self._pcm) < 3 * self._frame and len(self._pcm) != before and self._next_is_here():
            before = len(self._pcm)
            self._play(self._packets.pop(0))
        spare = min(int(excess * self._rate_hz / 1000), len(self._pcm) - self._frame)
        size = len(self._pcm)
        half = self._frame // 2
        if quiet and spare > 0 and self._is_quiet(loudness(self._pcm[half : half + spare])):
            self._pcm = _without(self._pcm, half, spare)
        elif spare > 0:
            self._pcm = shortened(self._pcm, self._rate_hz, spare, force=excess > _FORCE_MS)
        self.stats.accelerated_ms += (size - len(self._pcm)) * 1000 // self._rate_hz

    def _is_quiet(self, loud: float) -> bool:
        return loud < max(60.0, 2 * self._floor)

    def _next_is_here(self) -> bool:
        return bool(self._packets) and self._packets[0].ticks <= self._head

    def _lengthen(self, wanted: float, quiet: bool) -> None:
        size = len(self._pcm)
        most = int(wanted * self._rate_hz / 1000)
        if quiet:
            more = np.tile(self._pcm[: self._frame], 2)
            self._pcm = np.concatenate([more[: min(most, self._frame)], self._pcm])
        else:
            self._pcm = lengthened(self._pcm, self._rate_hz, most)
        self.stats.expanded_ms += (len(self._pcm) - size) * 1000 // self._rate_hz


def _without(pcm: Int16Array, at: int, size: int) -> Int16Array:
    """`pcm` less `size` samples from `at` on, the edges cross-faded over up to 2.5 ms' worth."""
    fade = min(60, at, size, len(pcm) - at - size)
    if fade <= 0:
        return np.concatenate([pcm[:at], pcm[at + size :]])
    rise = (np.arange(fade, dtype=np.float32) + 1) / (fade + 1)
    joint = pcm[at - fade : at] * (1 - rise) + pcm[at + size - fade : at + size] * rise
    return np.concatenate([pcm[: at - fade], np.rint(joint).astype(np.int16), pcm[at + size :]])


def _signed(difference: int, bits: int) -> int:
    half = 1 << (bits - 1)
    return ((difference + half) & ((1 << bits) - 1)) - half
