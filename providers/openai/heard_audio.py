"""Whose speech it is that a media track brings: received frames and buffer events become the chunks of replies.

Over WebRTC the model's voice comes as one endless stream of frames beside the events. `output_audio_buffer.started`
and `.stopped` say whose voice it is; both overtake the frames, which wait in the jitter buffer. So a reply's speech
ends a little after `stopped`, and what is loud just before `started` belongs to it. Once a reply is cut, whatever is
still on its way is dropped. The end of a reply (`GenerationComplete`, `TurnComplete`) is held back until its speech is
whole.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

import msgspec
import numpy as np

from providers.contract import (
    GenerationComplete,
    Interrupted,
    OutputTranscript,
    SessionEvent,
    SpeechChunk,
    TurnComplete,
)

__all__ = ["FRAME_MS", "HeardAudio", "HeardStats"]

FRAME_MS = 20.0

_LOUD_PEAK = 96
"""int16. Decoded silence stays far below (-51 dBFS); the softest voice begins above."""
_EARLY_FRAMES = 10
"""200 ms: how far speech may run ahead of `started`."""
_ONSET_FRAMES = 2
"""Quiet frames in front of the first loud one: speech begins softly."""
_TAIL_S = 0.4
"""After `stopped`: the deepest jitter buffer, and the network. While it is loud, up to twice as long."""
_TAIL_QUIET_FRAMES = 8
"""So much quiet after `stopped` ends it earlier: longer than the quiet inside a word."""
_STALE_S = 0.25
"""After a cut, frames are of the dead reply for so long, or until two of them are quiet."""
_UNTOLD_FRAMES = 10
"""So much loud speech while a reply is being made is its own, even if nobody says `started`."""
_START_WITHIN_S = 2.0
"""Speech that is announced and has not begun so long after `response.done` will not come."""
_UNSTOPPED_S = 5.0
"""All was generated and it has been quiet for so long: `stopped` got lost."""
_NEVER_TOLD_S = 1.0
"""The same for a server that never says `started`."""
_CUT_WITHIN_S = 1.0
"""After our own order to stop: if the server does not confirm it, the reply is over all the same."""
_KEPT = 64


class HeardStats(msgspec.Struct):
    """What became of the received frames."""

    dropped_frames: int = 0
    """Loud frames of no reply, or of one that was cut."""
    untold_starts: int = 0
    """Replies whose speech came without `started`."""
    unstopped: int = 0
    """Replies that ended because it had been quiet for long."""


class _Reply:
    __slots__ = ("done_at", "held", "id", "quiet", "silenced_until", "sounded_at", "sounds", "stopped_at")

    def __init__(self, reply_id: str) -> None:
        self.id = reply_id
        self.held: list[SessionEvent] = []  # its end, as far as it has been told
        self.done_at: float | None = None
        self.sounded_at = 0.0
        self.sounds = False  # it has begun: a loud frame came
        self.stopped_at: float | None = None
        self.quiet: list[bytes] = []  # since `stopped`: passed on only if more follows
        self.silenced_until: float | None = None  # we ordered it to stop


class HeardAudio:
    """The speech fence of one session. Full (64 replies whose end is not known): the oldest is ended.

    Every method returns the events that are due, in order. Frames are int16 mono of 20 ms.
    """

    def __init__(self, session: int) -> None:
        self.stats = HeardStats()
        self.sounded_at = 0.0
        """When speech of a reply last came, on the clock of `now`."""
        self.unclaimed_ms = 0.0
        """Loud frames since the last message that belong to no reply: somebody speaks, and no event says so."""
        self._session = session
        self._replies: OrderedDict[str, _Reply] = OrderedDict()  # speech is expected of these, or sounds
        self._open: _Reply | None = None
        self._over: OrderedDict[str, bool] = OrderedDict()  # ids, and whether they were cut
        self._early: deque[tuple[bytes, bool]] = deque(maxlen=_EARLY_FRAMES)
        self._loud_run = 0
        self._quiet_run = 0
        self._stale_until = float("-inf")
        self._told = False  # this server says `started`

    # ----------------------------------------------------------------------------------------------------------- state

    @property
    def sounding(self) -> str | None:
        """The reply whose speech is coming."""
        return None if self._open is None else self._open.id

    @property
    def speaking(self) -> bool:
        """Speech was announced or has begun, and its end was not told: a long silence now is no thinking."""
        return self._open is not None and self._open.stopped_at is None

    @property
    def unfinished(self) -> Sequence[str]:
        """Replies of which speech is expected or coming."""
        return tuple(self._replies)

    # ---------------------------------------------------------------------------------------------------------- frames

    def frame(self, pcm: bytes, now: float) -> list[SessionEvent]:
        """One received frame. Hot path."""
        samples = np.frombuffer(pcm, dtype="<i2")
        loud = bool(len(samples)) and (int(samples.max()) > _LOUD_PEAK or int(samples.min()) < -_LOUD_PEAK)
        reply = self._open
        if reply is None:
            return self._unowned(pcm, loud, now)
        if reply.silenced_until is not None:
            self.stats.dropped_frames += loud
            return []
        if loud:
            reply.sounded_at = now
        if not reply.sounds:
            return [] if self._is_stale(loud, now) else self._onset(reply, pcm, loud)
        if loud:
            self.sounded_at = now
        if reply.stopped_at is None:
            return [SpeechChunk(self._session, reply.id, pcm)]
        if loud:
            held = b"".join(reply.quiet)
            reply.quiet.clear()
            return [SpeechChunk(self._session, reply.id, held + pcm)]
        reply.quiet.append(pcm)
        return self._complete(reply) if len(reply.quiet) >= _TAIL_QUIET_FRAMES else []

    # ---------------------------------------------------------------------------------------------------------- events

    def message_came(self) -> None:
        """The events' own way is alive."""
        self.unclaimed_ms = 0.0

    def expect(self, reply_id: str) -> None:
        """This reply will be spoken."""
        if reply_id not in self._over and reply_id not in self._replies:
            self._replies[reply_id] = _Reply(reply_id)

    def started(self, reply_id: str, now: float) -> list[SessionEvent]:
        """`output_audio_buffer.started`."""
        self._told = True
        return self._begin(reply_id, now)

    def stopped(self, reply_id: str, now: float) -> list[SessionEvent]:
        """`output_audio_buffer.stopped`: the server has sent all of it."""
        reply = self._replies.get(reply_id)
        if reply is None:
            return []
        if reply is not self._open:
            return self._complete(reply)
        reply.stopped_at = now
        return []

    def cleared(self, reply_id: str, now: float) -> list[SessionEvent]:
        """`output_audio_buffer.cleared`: what the server had not sent of it is gone."""
        return self._cut(reply_id, now)

    def told(self, events: Sequence[SessionEvent], now: float) -> list[SessionEvent]:
        """The session's events on their way out: ends of spoken replies wait, an interruption ends what sounds."""
        passed: list[SessionEvent] = []
        for event in events:
            match event:
                case OutputTranscript(_, reply_id, delta) if delta:
                    self.expect(reply_id)
                    passed.append(event)
                case Interrupted(_, reply_id):
                    passed += self._interrupted(event, reply_id, now)
                case GenerationComplete(_, reply_id) if self._over.get(reply_id):
                    pass  # it was cut before the server knew that it was complete
                case TurnComplete(_, reply_id, reason) if reply_id is not None and self._over.get(reply_id):
                    passed.append(event if reason == "interrupted" else _as_interrupted(event))
                case TurnComplete(_, reply_id, "interrupted") if (reply_id or "") in self._replies:
                    passed += [*self._cut(reply_id, now), event]
                case GenerationComplete(_, reply_id) | TurnComplete(_, reply_id) if (reply_id or "") in self._replies:
                    reply = self._replies[reply_id or ""]
                    reply.held.append(event)
                    reply.done_at = now
                case TurnComplete(_, str() as reply_id, reason):
                    self._remember(reply_id, cut=reason == "interrupted")  # what is told of it from now on is late
                    passed.append(event)
                case _:
                    passed.append(event)
        while len(self._replies) > _KEPT:
            passed += self._complete(next(iter(self._replies.values())))
        return passed

    def silence(self, now: float) -> bool:
        """We order the server to stop: nothing more is passed on of what sounds or is to come. False: nothing is."""
        for reply in self._replies.values():
            if reply.silenced_until is None:
                reply.silenced_until = now + _CUT_WITHIN_S
        return bool(self._replies)

    # ------------------------------------------------------------------------------------------------------------ time

    def deadline(self) -> float | None:
        """When to call `expire`."""
        return min((at for at in map(self._due, self._replies.values()) if at is not None), default=None)

    def expire(self, now: float) -> list[SessionEvent]:
        """Ends that nobody told."""
        events: list[SessionEvent] = []
        for reply in tuple(self._replies.values()):
            due = self._due(reply)
            if due is None or now < due or reply.id not in self._replies:
                continue
            if reply.silenced_until is not None:
                events += self._cut(reply.id, now)
                continue
            self.stats.unstopped += reply.sounds and reply.stopped_at is None
            events += self._complete(reply)
        return events

    def _due(self, reply: _Reply) -> float | None:
        if reply.silenced_until is not None:
            return reply.silenced_until
        if reply.stopped_at is not None:
            return max(reply.stopped_at + _TAIL_S, min(reply.sounded_at + 0.1, reply.stopped_at + 2 * _TAIL_S))
        if reply.done_at is None:
            return None
        if not reply.sounds:
            return reply.done_at + _START_WITHIN_S
        return max(reply.done_at, reply.sounded_at) + (_UNSTOPPED_S if self._told else _NEVER_TOLD_S)

    # ---------------------------------------------------------------------------------------------------------- inside

    def _unowned(self, pcm: bytes, loud: bool, now: float) -> list[SessionEvent]:
        if self._is_stale(loud, now):
            return []
        if len(self._early) == _EARLY_FRAMES and self._early[0][1]:
            self.stats.dropped_frames += 1
        self._early.append((pcm, loud))
        if not loud:
            self._loud_run = max(0, self._loud_run - 2)
            return []
        self.unclaimed_ms += FRAME_MS
        self._loud_run += 1
        if self._loud_run >= _UNTOLD_FRAMES:
            waiting = next((reply for reply in self._replies.values() if reply.silenced_until is None), None)
            if waiting is not None:
                self.stats.untold_starts += 1
                return self._begin(waiting.id, now)
        return []

    def _is_stale(self, loud: bool, now: float) -> bool:
        """Is this frame of a reply that was cut a moment ago?"""
        if now >= self._stale_until:
            return False
        self._quiet_run = 0 if loud else self._quiet_run + 1
        if self._quiet_run >= 2:
            self._stale_until = float("-inf")
        self.stats.dropped_frames += loud
        return True

    def _onset(self, reply: _Reply, pcm: bytes, loud: bool) -> list[SessionEvent]:
        """Before its first sound: silence is none of the reply's, but for what leads into the sound."""
        if not loud:
            self._early.append((pcm, False))
            if reply.stopped_at is not None:
                reply.quiet.append(pcm)
                if len(reply.quiet) >= 2 * _TAIL_QUIET_FRAMES:
                    return self._complete(reply)
            return []
        reply.sounds = True
        self.sounded_at = reply.sounded_at
        reply.quiet.clear()
        lead = b"".join(frame for frame, _ in list(self._early)[-_ONSET_FRAMES:])
        self._early.clear()
        return [SpeechChunk(self._session, reply.id, lead + pcm)]

    def _begin(self, reply_id: str, now: float) -> list[SessionEvent]:
        if self._over.get(reply_id):
            return []
        events: list[SessionEvent] = []
        before = self._open
        if before is not None:
            if before.id == reply_id:
                before.stopped_at = None
                return [SpeechChunk(self._session, reply_id, b"".join(before.quiet))] if before.quiet else []
            events += self._complete(before)
        ended = self._over.pop(reply_id, None) is not None  # a server may let its buffer run dry in mid-reply
        reply = self._replies.get(reply_id)
        if reply is None:
            reply = self._replies[reply_id] = _Reply(reply_id)
            reply.done_at = now if ended else None
        self._open = reply
        self._loud_run = 0
        reply.sounded_at = self.sounded_at = now
        if now < self._stale_until or reply.silenced_until is not None:
            self._early.clear()
            return events
        early = list(self._early)
        first = next((place for place, (_, loud) in enumerate(early) if loud), None)
        if first is not None:
            reply.sounds = True
            self._early.clear()
            lead = b"".join(frame for frame, _ in early[max(0, first - _ONSET_FRAMES) :])
            events.append(SpeechChunk(self._session, reply_id, lead))
        return events

    def _complete(self, reply: _Reply) -> list[SessionEvent]:
        """All of its speech has come: what was held back of its end is due."""
        self._forget(reply, cut=False)
        return reply.held

    def _interrupted(self, event: SessionEvent, reply_id: str | None, now: float) -> list[SessionEvent]:
        """The user cut in: what was to sound before that reply is as dead."""
        if reply_id is not None and self._over.get(reply_id):
            return []  # told already
        events: list[SessionEvent] = []
        held: list[SessionEvent] = []
        for reply in tuple(self._replies.values()):
            held += self._bury(reply, now)
            if reply.id == reply_id:
                break
        else:
            if reply_id is not None and reply_id not in self._over:
                self._remember(reply_id, cut=True)
        if reply_id is not None and reply_id in self._over:
            self._over[reply_id] = True
        events.append(event)
        return [*events, *held]

    def _cut(self, reply_id: str | None, now: float) -> list[SessionEvent]:
        reply = self._replies.get(reply_id or "")
        if reply is None:
            return []
        ends = self._bury(reply, now)
        return [Interrupted(self._session, reply.id), *ends]

    def _bury(self, reply: _Reply, now: float) -> list[SessionEvent]:
        """Nothing more of it is passed on. Returns its end, where that was held back."""
        if reply is self._open:
            self._stale_until = now + _STALE_S
            self._quiet_run = 0
        self._forget(reply, cut=True)
        return [_as_interrupted(event) for event in reply.held if isinstance(event, TurnComplete)]

    def _forget(self, reply: _Reply, *, cut: bool) -> None:
        del self._replies[reply.id]
        if reply is self._open:
            self._open = None
            self._early.clear()
            self._loud_run = 0
        self._remember(reply.id, cut=cut)

    def _remember(self, reply_id: str, *, cut: bool) -> None:
        self._over[reply_id] = cut
        self._over.move_to_end(reply_id)
        if len(self._over) > _KEPT:
            self._over.popitem(last=False)


def _as_interrupted(event: TurnComplete) -> TurnComplete:
    return msgspec.structs.replace(event, reason="interrupted")
