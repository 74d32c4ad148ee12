"""Our own ears: local speech detection for those who need it, and in place of a model while none hears the room."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bridge.core.words import LocalSpeechStarted, LocalSpeechStopped
from bridge.sessions.hearing import Hearing
from providers.signal.vad import EnergyVad

__all__ = ["SpeechWatch"]

_WARM_UP_MS = 2000
"""What a new detector is given of the past, if it is still there. Less than a millisecond of work."""


class SpeechWatch:
    """Runs a detector only while it is needed: always, for models that are told the turns, while no session leads, or
    while that is about to happen. What it hears marks the turns in `hearing`."""

    def __init__(self, make_vad: Callable[[], EnergyVad], hearing: Hearing, *, always: bool) -> None:
        self.always = always
        self.vad = make_vad() if always else None
        self.away = False
        """The session that led is gone, and no other leads yet or what it has said still sounds; then call `tune`."""
        self.warm = False
        """That is about to happen."""
        self._make_vad = make_vad
        self._hearing = hearing
        self._warm_up = _WARM_UP_MS // hearing.tape.frame_ms
        self._spoke_from_ms = 0  # on the detector's own clock
        self._told = False  # of speech, and not yet of its end

    def heard(
        self, vad: EnergyVad, frame: bytes, *, tell: bool = False
    ) -> list[LocalSpeechStarted | LocalSpeechStopped]:
        """One bus frame, before `Hearing` gets it. Returns what to tell the conversation: the edges, if somebody must
        know them or with `tell`; an end always, where the beginning was told."""
        edges = vad.push(np.frombuffer(frame, np.int16))
        events: list[LocalSpeechStarted | LocalSpeechStopped] = []
        for edge in edges:
            self._hearing.mark(edge.speaking)
            if edge.speaking:
                self._spoke_from_ms = edge.at_ms
            if not (tell or self.always or self.away or self._told):
                continue
            self._told = edge.speaking
            spoken_ms = edge.noticed_ms - edge.at_ms
            events.append(LocalSpeechStarted(spoken_ms=spoken_ms) if edge.speaking else LocalSpeechStopped())
        if edges:
            self.tune()
        return events

    def stand_in(self) -> LocalSpeechStarted | None:
        """No session hears the room from now on. Returns the speech that is under way."""
        self.away = True
        self.tune()
        vad = self.vad
        if vad is None or not vad.speaking:
            return None
        self._told = True
        return LocalSpeechStarted(spoken_ms=vad.heard_ms - self._spoke_from_ms)

    def tune(self) -> None:
        """Have a detector if one is needed; else let it hear out the speech that is under way. Call it when `away`,
        `warm` or those who hear have changed."""
        vad = self.vad
        if not (self.always or self.warm or self.away or self._hearing.marks_turns):
            if vad is not None and not vad.speaking:
                self.vad = None
        elif vad is None:
            self.vad = vad = self._make_vad()
            tape = self._hearing.tape
            edges = vad.learn(np.frombuffer(b"".join(tape.before(tape.end, self._warm_up)), np.int16))
            if edges:
                self._spoke_from_ms = edges[-1].at_ms
                self._hearing.spoke()
            if vad.speaking:
                self._hearing.mark(True)
