"""From bursts of model speech to what the room has heard, to the millisecond, per reply.

The sink's own queue is kept `lead_ms` deep; the rest waits here, so that a flush is one fence and two clears. Replies
sound one after the other in the order in which their first speech came. Nobody waits for an event that may never come:
a reply that nobody finished ends when a newer one is ready to sound, or when it has been dry for `dry_end_ms`.

A sink whose far end has gone silent is doubted (`suspend`): for a moment speech goes on, since it may well be heard,
and nothing is credited; then the rest waits here. When the sink is back (`resume`) what was in doubt is credited, or
put back and sounds again from where the doubt began.

Where speech is about to run dry, its last few milliseconds are played once more, backwards and fading. No sample of
the speech itself is held back or altered for that, and if more comes in time the echo is a little more lead: speech
that arrives at exactly real time finds its cushion after two or three of them, instead of fading at every chunk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Annotated, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from bridge.audio.reply_speech import ReplySpeech
from bridge.core.words import Heard, PlayoutEvent, ReplyAudible, ReplyHeard, Underrun
from providers.signal.formats import PCM16_24K, AudioFormat, Encoding

__all__ = ["Playout", "PlayoutSettings", "PlayoutStats", "Sink"]

_KEPT_REPLIES = 32  # ended replies whose positions can still be asked for
_DEAD_REPLIES = 256
# A model that never mints a new reply id (full duplex) must not stay mute for ever after one flush. Stale speech of an
# interrupted reply follows within seconds and without pauses of this length.
_DEAD_FOR_S = 10.0
_DOUBT_S = 1.0  # so long a sink in doubt is fed: a lost signal connection alone silences nothing
_PROOF_MS = 100.0  # so far ahead of real time is no jitter: the model is faster
_CUSHION_MARGIN_MS = 10.0
_CUSHION_MEMORY = 4  # replies


class Sink(Protocol):
    """Where speech goes: a transport that paces itself, or a `PacedSink`."""

    def play(self, audio: bytes) -> None: ...
    def flush(self) -> None: ...
    def queued_ms(self, now: float) -> float: ...


class PlayoutSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How speech is handed to the transport."""

    lead_ms: Annotated[float, Meta(ge=20, le=800)] = 200.0
    """The transport's own queue is kept at least this deep: loop stalls shorter than this make no gap, ms."""
    piece_ms: Annotated[float, Meta(ge=20, le=200)] = 100.0
    """Speech is handed on in pieces of this length once the lead is filled, ms. Each costs about 0.5 ms of CPU."""
    fade_ms: Annotated[float, Meta(ge=0, le=40)] = 10.0
    """Where speech runs dry in mid-reply its last sound fades away over this long, and the next fades in, ms.
    0 clicks."""
    dry_guard_ms: Annotated[float, Meta(ge=5, le=60)] = 20.0
    """Running dry is foreseen when this little is queued, ms: not less than the time between two `feed` calls."""
    cushion_ms: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    """How long a reply that comes no faster than real time waits before it sounds, ms. 0: it sounds at once."""
    max_cushion_ms: Annotated[float, Meta(ge=0, le=1000)] = 250.0
    """The cushion grows up to this where earlier replies came late in mid-sentence, ms. 0: it never grows."""
    first_cushion_ms: Annotated[float, Meta(ge=0, le=1000)] = 150.0
    """The same for the first reply of a call, until it is known how the model's speech comes, ms. A model that runs
    ahead of real time is known after a few chunks."""
    dry_end_ms: Annotated[float, Meta(ge=200, le=60_000)] = 4000.0
    """A reply that nobody finished and that has been dry this long has ended, ms."""
    max_waiting_s: Annotated[float, Meta(ge=1, le=3600)] = 120.0
    """Speech that may wait here, s. Full: the newest is refused and counted."""


class PlayoutStats(msgspec.Struct):
    """What the playout did. Plain numbers; read a copy."""

    replies: int = 0
    pieces: int = 0
    """Calls of `Sink.play`."""
    flushes: int = 0
    stale_chunks: int = 0
    """Speech of dead replies, refused."""
    refused_chunks: int = 0
    """Speech refused because too much was waiting."""
    underruns: int = 0
    """Times that the model's speech ran dry in mid-reply."""
    fades: int = 0
    """Times that running dry was foreseen and bridged with a fading echo of the last sound."""
    stalls: int = 0
    """Times that the sink ran dry although speech was waiting here: our own loop was late."""
    unfinished_replies: int = 0
    """Replies that ended without anybody saying so."""
    revived_replies: int = 0
    """Replies that went on after their end."""
    repeated_ms: float = 0.0
    """Speech given to a sink in doubt, and again when it was back."""


class Playout:
    """Speech between model and room. Waiting speech is bounded: full, the newest is refused, `stats` counts it."""

    def __init__(self, sink: Sink, format: AudioFormat = PCM16_24K, settings: PlayoutSettings | None = None) -> None:
        self.settings = settings or PlayoutSettings()
        self.stats = PlayoutStats()
        self._sink = sink
        self._format = format
        self._sample = format.bytes_per_sample
        self._bytes_per_ms = format.rate_hz * self._sample / 1000
        self._lead = format.size(self.settings.lead_ms)
        self._piece = format.size(self.settings.piece_ms)
        self._guard = format.size(self.settings.dry_guard_ms)
        self._max_waiting = format.size(self.settings.max_waiting_s * 1000)
        # Companded samples cannot be scaled; G.711 is played as it is.
        self._fade = format.size(self.settings.fade_ms) if format.encoding is Encoding.PCM16 else 0
        self._live: dict[str, ReplySpeech] = {}
        self._ended: dict[str, ReplySpeech] = {}
        self._dead: dict[str, float] = {}
        # What is in the sink: whose speech (None: an echo), where it ends in `_pushed`, and the speech itself.
        self._runs: deque[tuple[ReplySpeech | None, int, bytes]] = deque()
        self._doubted_at: float | None = None
        self._pushed = 0
        self._played = 0
        self._waiting = 0
        self._fresh = 0  # of the waiting speech: what came since the last feed
        self._lateness: deque[float] = deque(maxlen=_CUSHION_MEMORY)
        self._events: list[PlayoutEvent] = []

    # ------------------------------------------------------------------------------------------------- speech comes

    def push(self, reply_id: str, audio: bytes, now: float) -> bool:
        """Take speech of any length. Call `feed` next. False, and counted, if the reply is dead or too much waits."""
        if reply_id in self._dead and not self._forgive(reply_id, now):
            self.stats.stale_chunks += 1
            return False
        if self._waiting + len(audio) > self._max_waiting:
            self.stats.refused_chunks += 1
            return False
        if not audio:
            return True
        reply = self._live.get(reply_id) or self._begin(reply_id, now)
        late_ms = (now - reply.first_at) * 1000 - reply.generated / self._bytes_per_ms
        reply.late_ms = max(reply.late_ms, late_ms)
        reply.longest = max(reply.longest, len(audio))
        reply.waiting.append(audio)
        reply.waiting_bytes += len(audio)
        reply.generated += len(audio)
        self._waiting += len(audio)
        self._fresh += len(audio)
        return True

    def finish(self, reply_id: str, now: float) -> None:
        """No more speech of this reply will come. Call `feed` next. No-op for a reply that has no speech."""
        reply = self._live.get(reply_id)
        if reply is not None:
            reply.finished = True

    def feed(self, now: float) -> list[PlayoutEvent]:
        """Keep the sink filled; returns what happened since the last call, in order.

        Call after `push` and `finish`, at `deadline(now)`, and every 20 ms while something sounds.
        """
        queued = self._advance(now)
        if self._live and (self._doubted_at is None or now - self._doubted_at < _DOUBT_S):
            self._supply(now, queued)
            self._retire(now)
        self._fresh = 0
        if not self._events:
            return []
        events, self._events = self._events, []
        return events

    def flush(self, now: float, dead: Iterable[str] = ()) -> tuple[Heard, ...]:
        """Silence at once. No reply known until now, nor one named in `dead`, will ever sound again.

        Returns what had been heard of every reply that was sounding or waiting, in order.
        """
        self._advance(now)
        self._retire(now)
        cut = tuple(Heard(r.id, self._ms(r.heard), self._ms(r.generated)) for r in self._live.values())
        for reply in self._live.values():
            self._bury(reply.id, now)
            reply.waiting.clear()
            reply.waiting_bytes = reply.head = 0
            self._keep(reply)
        for reply_id in dead:
            self._bury(reply_id, now)
        self._live.clear()
        self._runs.clear()
        self._waiting = self._fresh = 0
        self._played = self._pushed
        self._sink.flush()
        self.stats.flushes += 1
        return cut

    def suspend(self, now: float) -> None:
        """Until now the sink was heard; from now on it may not be. Nothing more counts as heard until `resume`, or
        until this is called again: then what sounded between was heard after all."""
        self._doubted_at = None
        self._advance(now)
        self._doubted_at = now

    def resume(self, now: float, *, lost: bool) -> None:
        """The sink is heard again. Call `feed` next. What it was given since `suspend`, and a little before, counts as
        heard; if it is `lost`, or the doubt lasted too long for that, it will sound again. No-op if nothing was in
        doubt."""
        since, self._doubted_at = self._doubted_at, None
        if since is not None and (lost or now - since >= _DOUBT_S):
            self._put_back()

    # ------------------------------------------------------------------------------------------- what has been heard

    def heard_ms(self, reply_id: str, now: float) -> float:
        """Speech of this reply that has reached the room, ms. 0 for a reply long gone or never met."""
        self._advance(now)
        reply = self._live.get(reply_id) or self._ended.get(reply_id)
        return self._ms(reply.heard) if reply else 0.0

    def generated_ms(self, reply_id: str) -> float:
        """Speech accepted for this reply, heard or not, ms."""
        reply = self._live.get(reply_id) or self._ended.get(reply_id)
        return self._ms(reply.generated) if reply else 0.0

    def sounding(self, now: float) -> str | None:
        """The reply that the room is hearing: begun and not yet ended, gaps included."""
        self._advance(now)
        if self._runs and self._runs[0][0] is not None:
            return self._runs[0][0].id
        for reply in self._live.values():
            if reply.audible and not (reply.finished and reply.heard >= reply.pushed and not reply.waiting_bytes):
                return reply.id
        return None

    def drained(self, now: float) -> bool:
        """Everything that came has been heard; nothing waits."""
        self._advance(now)
        return not self._runs and not self._waiting

    @property
    def waiting_ms(self) -> float:
        """Speech that waits on our side, ms."""
        return self._ms(self._waiting)

    def deadline(self, now: float) -> float | None:
        """When to call `feed` at the latest; None while nothing waits or sounds."""
        if not self._live:
            return None
        reply = next(iter(self._live.values()))
        if self._runs:
            return now + max(0.0, self._sink.queued_ms(now) - self.settings.dry_guard_ms) / 1000
        if reply.dry_since is not None:
            return reply.dry_since + self.settings.dry_end_ms / 1000
        cushion_ms = self._cushion_ms() if self._lateness else max(self._cushion_ms(), self.settings.first_cushion_ms)
        return reply.first_at + cushion_ms / 1000

    # ------------------------------------------------------------------------------------------------------ workings

    def _ms(self, size: int) -> float:
        return size / self._bytes_per_ms

    def _begin(self, reply_id: str, now: float) -> ReplySpeech:
        reply = self._ended.pop(reply_id, None)
        if reply is None:
            reply = ReplySpeech(reply_id, now)
            self.stats.replies += 1
        else:
            # Speech after the end (a provider that said "complete" too early): better heard late than lost.
            self.stats.revived_replies += 1
            reply.finished = reply.audible = reply.fade_in = False
            reply.dry_since = None
            reply.first_at = now - reply.generated / self._bytes_per_ms / 1000
        self._live[reply_id] = reply
        return reply

    def _bury(self, reply_id: str, now: float) -> None:
        self._dead.pop(reply_id, None)
        self._dead[reply_id] = now
        if len(self._dead) > _DEAD_REPLIES:
            del self._dead[next(iter(self._dead))]

    def _forgive(self, reply_id: str, now: float) -> bool:
        """May a dead reply speak again? Only after a long silence of its own."""
        if now - self._dead[reply_id] < _DEAD_FOR_S:
            self._dead[reply_id] = now
            return False
        del self._dead[reply_id]
        return True

    def _keep(self, reply: ReplySpeech) -> None:
        self._ended[reply.id] = reply
        if len(self._ended) > _KEPT_REPLIES:
            del self._ended[next(iter(self._ended))]

    def _advance(self, now: float) -> int:
        """Credit what the sink has played since the last look. Returns the bytes that it still holds."""
        if not self._runs:
            return 0
        queued = int(self._sink.queued_ms(now) * self._bytes_per_ms)
        if self._doubted_at is not None:
            return min(queued, self._pushed - self._played)
        played = max(self._played, self._pushed - queued)  # a sink's estimate may jitter; time does not go back
        while self._runs:
            reply, end, _ = self._runs[0]
            step = min(end, played) - self._played
            if reply is not None:
                reply.heard += step
            self._played += step
            if self._played < end:
                break
            self._runs.popleft()
            self._sound_next()
        return self._pushed - self._played

    def _sound_next(self) -> None:
        if self._runs:
            reply = self._runs[0][0]
            if reply is not None and not reply.audible:
                reply.audible = True
                self._events.append(ReplyAudible(reply.id))

    def _supply(self, now: float, queued: int) -> None:
        for reply in tuple(self._live.values()):
            if queued == 0 and reply.audible and not reply.finished and reply.dry_since is None:
                self._run_dry(reply, now)
            queued = self._supply_from(reply, now, queued)
            if not reply.finished and reply.waiting_bytes < self._sample and self._has_newer(reply):
                reply.finished = True  # its end was never told, and a newer one wants to be heard
                self.stats.unfinished_replies += 1
            if not reply.finished or reply.waiting_bytes >= self._sample:
                return

    def _has_newer(self, reply: ReplySpeech) -> bool:
        return next(reversed(self._live.values())) is not reply

    def _supply_from(self, reply: ReplySpeech, now: float, queued: int) -> int:
        ready = reply.waiting_bytes - reply.waiting_bytes % self._sample
        room = self._lead + self._piece - queued
        if ready > 0 and room >= self._piece and not self._holds_back(reply, now):
            size = min(ready, room - room % self._sample)
            # With the lead half full a whole piece is worth waiting for.
            if size >= self._piece or queued * 2 < self._lead or reply.finished or reply.pushed == 0:
                self._play(reply, reply.take(size))
                queued += size
        elif (
            ready == 0
            and 0 < queued <= self._guard
            and not reply.finished
            and reply.end
            and reply.heard < reply.pushed
            and not self._has_newer(reply)
        ):
            queued += self._echo(reply)
        return queued

    def _echo(self, reply: ReplySpeech) -> int:
        """Let the last sound fade away in place of the speech that has not come yet. Nobody's speech, so not counted
        as heard."""
        echo = _faded(np.frombuffer(reply.end, np.int16)[::-1], out=True)
        reply.end = b""
        reply.fade_in = True
        self._pushed += len(echo)
        self._runs.append((None, self._pushed, echo))
        self._sink.play(echo)
        self.stats.fades += 1
        return len(echo)

    def _holds_back(self, reply: ReplySpeech, now: float) -> bool:
        if reply.pushed or reply.finished:
            return False
        elapsed_ms = (now - reply.first_at) * 1000
        # A reply that runs ahead of real time needs no cushion; its newest chunk alone does not prove that it does.
        ahead_ms = self._ms(reply.generated - reply.longest) - elapsed_ms
        cushion_ms = self._cushion_ms()
        first_ms = self.settings.first_cushion_ms
        if not self._lateness and cushion_ms < first_ms:
            kept_ms = self._ms(reply.generated) - elapsed_ms
            return elapsed_ms < first_ms - 1e-6 and ahead_ms < min(first_ms, _PROOF_MS) and kept_ms < first_ms
        return elapsed_ms < cushion_ms - 1e-6 and ahead_ms < cushion_ms

    def _cushion_ms(self) -> float:
        """Twice bitten: the worst lateness of the last few replies, so that the next one does not stutter."""
        late_ms = max(self._lateness, default=0.0)
        learned_ms = late_ms + _CUSHION_MARGIN_MS if late_ms > _CUSHION_MARGIN_MS else 0.0
        return max(self.settings.cushion_ms, min(learned_ms, self.settings.max_cushion_ms))

    def _run_dry(self, reply: ReplySpeech, now: float) -> None:
        reply.dry_since = now
        reply.fade_in = self._fade > 0
        if reply.waiting_bytes - self._fresh >= self._sample:
            self.stats.stalls += 1
        else:
            self.stats.underruns += 1
            self._events.append(Underrun(reply.id))

    def _play(self, reply: ReplySpeech, audio: bytes) -> None:
        if reply.fade_in:
            audio = _faded(np.frombuffer(audio[: self._fade], np.int16), out=False) + audio[self._fade :]
            reply.fade_in = False
        reply.end = audio[len(audio) - min(len(audio), self._fade) :]
        size = len(audio)
        self._waiting -= size
        self._pushed += size
        reply.pushed += size
        reply.dry_since = None
        self._runs.append((reply, self._pushed, audio))
        self._sink.play(audio)
        self.stats.pieces += 1
        self._sound_next()

    def _put_back(self) -> None:
        """What is in the sink has not been heard: it waits here again, before all else."""
        if self._runs:
            # Half a sample cannot be put back; the whole one had not been heard either.
            reply, end, _ = self._runs[0]
            half = (self._played - end) % self._sample
            self._played -= half
            if reply is not None:
                reply.heard -= half
        for reply, end, audio in reversed(self._runs):
            if reply is None:
                continue
            rest = audio[max(0, len(audio) - (end - self._played)) :]
            reply.put_back(rest)
            reply.pushed -= len(rest)
            self._waiting += len(rest)
            reply.dry_since = None
            reply.end = b""
            reply.fade_in = self._fade > 0
            self.stats.repeated_ms += self._ms(len(rest))
        self._runs.clear()
        self._pushed = self._played
        self._sink.flush()

    def _retire(self, now: float) -> None:
        """Let go of replies that have been heard to their end."""
        while self._live:
            reply = next(iter(self._live.values()))
            if reply.heard < reply.pushed:
                return
            if not reply.finished:
                if reply.dry_since is None or (now - reply.dry_since) * 1000 < self.settings.dry_end_ms:
                    return
                self.stats.unfinished_replies += 1
            if reply.waiting_bytes >= self._sample:
                return
            self._waiting -= reply.waiting_bytes  # half a sample that never became whole
            reply.waiting.clear()
            reply.waiting_bytes = reply.head = 0
            reply.finished = True
            del self._live[reply.id]
            self._keep(reply)
            if reply.late_ms <= self.settings.max_cushion_ms:
                self._lateness.append(reply.late_ms)  # longer silences are pauses of the model, not jitter
            if reply.audible:
                self._events.append(ReplyHeard(reply.id, self._ms(reply.heard)))


def _faded(samples: npt.NDArray[np.int16], *, out: bool) -> bytes:
    ramp = np.linspace(1.0, 0.0, samples.size, dtype=np.float32)
    return (samples * (ramp if out else ramp[::-1])).astype(np.int16).tobytes()
