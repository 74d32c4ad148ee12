"""Who hears the room: live frames at once, what had to wait in slices that a socket can take, and each his turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil

from bridge.sessions.feed import SessionFeed
from bridge.sessions.tape import Tape
from bridge.sessions.turn_gate import TurnGate
from providers.contract import TurnDetector
from providers.errors import SessionEnded

__all__ = ["Hearing"]

_SLICE_MS = 500
"""What waited, handed on in one go. All at once would overflow the outbox, and its middle would be lost."""
_WARM_UP_MS = 200
_TIDY_MS = 1000
_KEPT_PLACES = 64


class _Ear:
    """One session that hears, and how far it has got."""

    __slots__ = ("behind", "feed", "gate", "hear", "place", "since")

    def __init__(self, feed: SessionFeed, place: int, frame_ms: int) -> None:
        self.feed = feed
        self.gate: TurnGate | None = None
        if feed.session.capabilities.turn_detector is TurnDetector.CLIENT:
            self.gate = TurnGate(feed, frame_ms=frame_ms)
        self.hear: Callable[[bytes], None] = feed.hear if self.gate is None else self.gate.hear
        self.since = place
        """It has heard nothing before this frame."""
        self.place = place
        """The next frame for it, while it is behind."""
        self.behind = False

    def told(self, speaking: bool) -> None:
        """Somebody begins to speak, or nobody does any more."""
        if self.gate is None:
            return
        try:
            if speaking:
                self.gate.speech_started()
            else:
                self.gate.speech_stopped()
        except SessionEnded:
            pass  # its Closed event follows

    def follow(self, previous: _Ear, before: list[bytes]) -> None:
        """Go on where `previous` was left."""
        self.feed.take_over(previous.feed, before)
        if self.gate is not None and previous.gate is not None:
            self.gate.take_over(previous.gate)

    def start_anew(self) -> None:
        """What it hears next does not follow on what it has heard."""
        self.feed.start_anew()
        if self.gate is not None:
            self.gate.forget()


class Hearing:
    """Bus frames to every session that hears, in order.

    The leading session goes on where the one before it was left, so that the conversation hears each frame once: what
    nobody could hear waits on the tape, and as long as anything waits for a session, live frames queue up behind it.
    A session that hears beside the leader gets what is said from then on; while nobody leads, what waits too.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self._slice = max(1, _SLICE_MS // tape.frame_ms)
        self._warm_up = _WARM_UP_MS // tape.frame_ms
        self._tidy = _TIDY_MS // tape.frame_ms
        self._tidy_at = self._tidy
        self._ears: dict[int, _Ear] = {}
        self._leader: _Ear | None = None
        self._left: _Ear | None = None  # led last: where the next leader goes on
        self._rewind_to: int | None = None
        self._jumped = False  # the next leader begins elsewhere
        # Who has heard all there is, and who has not; the leader's place is `tape.cursor`.
        self._live: tuple[Callable[[bytes], None], ...] = ()
        self._behind: tuple[_Ear, ...] = ()
        self._led_live = False
        self._speaking = False  # as our own detector hears it
        self._spoken_until = 0  # what it heard before ended before this frame
        self._flowing = False  # something was sent since the last `end_input`
        self._reply_places: dict[str, int] = {}

    # ------------------------------------------------------------------------------------------------- who hears

    def turn_to(self, feeds: Iterable[SessionFeed], leader: int | None = None) -> None:
        """These sessions hear from now on; the one of this number, if it is among them, leads. A new leader begins
        with what waits: call `catch_up`."""
        before = self._ears
        self._ears = {feed.number: before.get(feed.number) or self._ear(feed) for feed in feeds}
        for number, ear in before.items():
            if number not in self._ears:
                ear.told(False)  # or its turn would never end
        lead = None if leader is None else self._ears.get(leader)
        if lead is not self._leader:
            self._pass_lead(lead)
        self._sort()

    def forget(self, number: int) -> None:
        """This session is gone. If it led, frames wait from now on."""
        ear = self._ears.pop(number, None)
        if ear is None:
            return
        if ear is self._leader:
            self._pass_lead(None)
        self._sort()

    def rewind(self, number: int) -> int:
        """The next leader begins with this frame: not before the oldest that is left, nor after the place where the
        last one was left. Returns the frame. While somebody leads, call it right before the lead is passed on."""
        place = max(self.tape.start, min(number, self.tape.cursor))
        self._jumped = True
        if self._leader is None:
            self.tape.rewind(place)
        else:
            self._rewind_to = place
        return place

    @property
    def is_behind(self) -> bool:
        """Something waits for a session that hears."""
        return bool(self._behind)

    @property
    def marks_turns(self) -> bool:
        """Somebody who hears has to be told of the turns: `mark` is needed."""
        return any(ear.gate is not None for ear in self._ears.values())

    # ---------------------------------------------------------------------------------------------------- frames

    def hear(self, frame: bytes) -> int:
        """One live bus frame. Returns how many frames the leader was given: 0 if it has to wait."""
        tape = self.tape
        end = tape.write(frame) + 1
        self._flowing = True
        for hear in self._live:
            hear(frame)
        if self._led_live:
            tape.cursor = end
            return 1
        tape.stats.first_words_kept_frames += 1
        return 0

    def hear_later(self, frame: bytes) -> None:
        """One bus frame of a recording: it waits for `catch_up`."""
        number = self.tape.write(frame)
        self.tape.stats.first_words_kept_frames += 1
        if self._live:
            for ear in self._ears.values():
                if not ear.behind:
                    ear.behind, ear.place = True, number
            self._sort()

    def mark(self, speaking: bool) -> None:
        """Our own detector heard the edge of speech. The gates open and close, unless older words are still under
        way: those and the edge are then one turn."""
        if self._speaking and not speaking:
            self.spoke()
        self._speaking = speaking
        for ear in self._ears.values():
            if not ear.behind:
                ear.told(speaking)

    def spoke(self) -> None:
        """There is speech in what was heard until now."""
        self._spoken_until = self.tape.end

    def catch_up(self) -> int:
        """Pass on what waits while the sockets take it, `_SLICE_MS` at most. Returns the frames that the leader got."""
        if not self._behind:
            if self.tape.end >= self._tidy_at:
                self._tidy_at = self.tape.end + self._tidy
                self.tape.settle_silence()
            return 0
        leader, passed = self._leader, 0
        for ear in self._behind:
            frames = self._catch_up(ear)
            if ear is leader:
                passed = frames
        self._sort()
        return passed

    def rest(self) -> None:
        """Nobody can speak just now: once, let the providers flush what they hold."""
        if not self._flowing or self._behind:
            return
        self._flowing = False
        for ear in self._ears.values():
            if ear.feed.session.capabilities.needs_continuous_input:
                try:
                    ear.feed.session.end_input()
                except SessionEnded:
                    pass  # its Closed event follows

    def skip_silence(self) -> bool:
        """Nobody leads, on purpose: the silence that waits will not be missed. Returns whether speech waits."""
        assert self._leader is None, "silence is skipped while nobody leads: a leader's turn detection needs it"
        return self.tape.skip_silence()

    # -------------------------------------------------------------------------------------------------- settling

    def reply_started(self, reply_id: str) -> None:
        """The leader answers what it has heard until now; what waits in its outbox it has not."""
        if self._leader is None or reply_id in self._reply_places:
            return
        unsent = ceil(self._leader.feed.session.outbox.waiting_audio_ms / self.tape.frame_ms)
        self._reply_places[reply_id] = max(0, self.tape.cursor - unsent)
        if len(self._reply_places) > _KEPT_PLACES:
            del self._reply_places[next(iter(self._reply_places))]

    def turn_complete(self, reply_id: str | None, reason: str = "completed") -> None:
        """What came before this reply is answered, unless it failed; it need not be heard again."""
        place = self._reply_places.get(reply_id or "")
        if place is not None and not reason.startswith("failed"):
            self.tape.settle(place)

    def reply_place(self, reply_id: str) -> int | None:
        """The frame that was next for the leader when this reply began; None for a reply unknown or long gone."""
        return self._reply_places.get(reply_id)

    def unsettled(self) -> int:
        """The first frame that may hold words which nobody has answered."""
        return min(self.tape.settled, self.tape.cursor)

    def first_loud(self, since: int) -> int | None:
        """See `Tape.first_loud`."""
        return self.tape.first_loud(since)

    def owes_answer(self, before: int, *, speech_ms: int, pause_ms: int) -> bool:
        """Somebody has spoken to the leader for so long, and had paused for so long by this frame; nothing has answered
        that yet. What he has said since does not matter."""
        return self.tape.holds_turn(self.unsettled(), before, speech_ms=speech_ms, pause_ms=pause_ms)

    # --------------------------------------------------------------------------------------------------- workings

    def _ear(self, feed: SessionFeed) -> _Ear:
        ear = _Ear(feed, self.tape.cursor if self._leader is None else self.tape.end, self.tape.frame_ms)
        ear.behind = ear.place < self.tape.end
        return ear

    def _pass_lead(self, lead: _Ear | None) -> None:
        """The lead goes to this session, which hears already or from now on; or to nobody."""
        tape = self.tape
        before, self._leader = self._leader, lead
        if before is not None:
            before.place = tape.cursor
            self._left = before
        if self._rewind_to is not None:
            tape.rewind(self._rewind_to)
            self._rewind_to = None
        tape.awaited(lead is not None)
        if lead is None:
            return
        heard_until = lead.place if lead.behind else tape.end
        if self._jumped:
            lead.start_anew()
        elif lead.since <= tape.cursor <= heard_until and lead.since < heard_until:
            tape.cursor = heard_until  # it listened already when the one before it was left
        elif self._left is not None:
            lead.follow(self._left, tape.before(tape.cursor, self._warm_up))
        elif lead.since < heard_until:
            lead.start_anew()
        self._jumped, self._left = False, None

    def _sort(self) -> None:
        """Who has heard all, and who is behind."""
        tape, leader = self.tape, self._leader
        live: list[_Ear] = []
        behind: list[_Ear] = []
        for ear in self._ears.values():
            if ear is leader:
                ear.place = tape.cursor
            elif not ear.behind:
                ear.place = tape.end
            ear.behind = ear.place < tape.end
            (behind if ear.behind else live).append(ear)
        self._behind = tuple(behind)
        self._live = tuple(ear.hear for ear in live)
        self._led_live = leader is not None and not leader.behind
        tape.held = min((ear.place for ear in behind if ear is not leader), default=None)
        for ear in live:
            if self._speaking:
                ear.told(True)

    def _catch_up(self, ear: _Ear) -> int:
        tape, leads = self.tape, ear is self._leader
        ear.place = tape.cursor if leads else max(ear.place, tape.start)
        if self._speaking or self._spoken_until > ear.place:
            ear.told(True)
        outbox = ear.feed.session.outbox
        passed = 0
        while ear.place < tape.end and passed < self._slice and outbox.waiting_audio_ms <= 0:
            ear.hear(tape.read(ear.place))
            if leads is not (ear is self._leader):
                break  # the session ended over this frame: the next one hears it
            ear.place += 1
            passed += 1
            if leads:
                tape.cursor = ear.place
        if passed:
            self._flowing = True
        if ear.place == tape.end:
            ear.told(self._speaking)
        return passed
