"""Who hears the room: live frames at once, the first words in slices that a socket can take, and each his turns."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.sessions.feed import FirstWords, SessionFeed
from bridge.sessions.turn_gate import TurnGate
from providers.contract import TurnDetector
from providers.errors import SessionEnded

__all__ = ["Hearing"]

_SLICE_MS = 500
"""First words handed on in one go. All at once would overflow the outbox, and its middle would be lost."""


class Hearing:
    """Bus frames to every session that hears, in order. What nobody hears yet waits in `FirstWords`, and as long as
    anything waits there, live frames queue up behind it."""

    def __init__(self, first_words: FirstWords, *, frame_ms: int) -> None:
        self._words = first_words
        self._frame_ms = frame_ms
        self._slice = max(1, _SLICE_MS // frame_ms)
        self._feeds: tuple[SessionFeed, ...] = ()
        self._ears: tuple[SessionFeed | TurnGate, ...] = ()
        self._gates: dict[int, TurnGate] = {}
        self._speaking = False  # as our own detector hears it
        self._spoken = False  # some of what waits is speech
        self._flowing = False  # something was sent since the last `end_input`

    def turn_to(self, feeds: Iterable[SessionFeed]) -> None:
        """These sessions hear from now on, the first of them sets the pace of the first words."""
        self._feeds = tuple(feeds)
        numbers = [feed.number for feed in self._feeds]
        for number in [number for number in self._gates if number not in numbers]:
            _tell(self._gates.pop(number), False)  # or its turn would never end
        for feed in self._feeds:
            if feed.session.capabilities.turn_detector is TurnDetector.CLIENT and feed.number not in self._gates:
                self._gates[feed.number] = TurnGate(feed, frame_ms=self._frame_ms)
        self._ears = tuple(self._gates.get(feed.number, feed) for feed in self._feeds)
        if self._speaking and not self._words:
            self._tell_all(True)

    def forget(self, number: int) -> None:
        """This session is gone."""
        self._gates.pop(number, None)
        self.turn_to(feed for feed in self._feeds if feed.number != number)

    def hear(self, frame: bytes) -> int:
        """One live bus frame. Returns how many frames were passed on: 0 if it has to wait."""
        if not self._ears:
            self._words.keep(frame)
        elif self._words:
            self._words.queue(frame)
        else:
            self._pass_on(frame)
            return 1
        self._spoken = self._spoken or self._speaking
        return 0

    def hear_later(self, frame: bytes) -> None:
        """One bus frame of a recording: it waits for `catch_up`."""
        if self._ears:
            self._words.queue(frame)
        else:
            self._words.keep(frame)
        self._spoken = self._spoken or self._speaking

    def mark(self, speaking: bool) -> None:
        """Our own detector heard the edge of speech. The gates open and close, unless older words are still under
        way: those and the edge are then one turn."""
        self._speaking = speaking
        if not self._words:
            self._tell_all(speaking)

    def catch_up(self) -> int:
        """Pass on first words while the socket takes them, `_SLICE_MS` at most. Returns the number of frames."""
        words = self._words
        if not words or not self._ears:
            return 0
        if self._spoken:
            self._tell_all(True)
        outbox = self._feeds[0].session.outbox
        passed = 0
        while words and passed < self._slice and outbox.waiting_audio_ms <= 0:
            self._pass_on(words.pop())
            passed += 1
        if not words:
            self._spoken = False
            self._tell_all(self._speaking)
        return passed

    def rest(self) -> None:
        """Nobody can speak just now: once, let the providers flush what they hold."""
        if not self._flowing or self._words:
            return
        self._flowing = False
        for feed in self._feeds:
            if feed.session.capabilities.needs_continuous_input:
                try:
                    feed.session.end_input()
                except SessionEnded:
                    pass  # its Closed event follows

    def _pass_on(self, frame: bytes) -> None:
        self._flowing = True
        for ear in self._ears:
            ear.hear(frame)

    def _tell_all(self, speaking: bool) -> None:
        for gate in self._gates.values():
            _tell(gate, speaking)


def _tell(gate: TurnGate, speaking: bool) -> None:
    try:
        if speaking:
            gate.speech_started()
        else:
            gate.speech_stopped()
    except SessionEnded:
        pass  # its Closed event follows
