"""Our own ears are open only while somebody needs them, and what they have begun to tell they end."""

from __future__ import annotations

import numpy as np

from bridge.core.words import LocalSpeechStarted, LocalSpeechStopped
from bridge.sessions.hearing import Hearing
from bridge.sessions.speech_watch import SpeechWatch
from bridge.sessions.tape import Tape
from providers.signal.formats import PCM16_24K
from providers.signal.vad import EnergyVad, VadSettings

SETTINGS = VadSettings(threshold_dbfs=-42.0, onset_ms=60, silence_ms=200)
Edges = list[LocalSpeechStarted | LocalSpeechStopped]


class Ears:
    def __init__(self, *, always: bool = False) -> None:
        self.made = 0
        self.hearing = Hearing(Tape(5_000, PCM16_24K, vad=SETTINGS))
        self.watch = SpeechWatch(self._make, self.hearing, always=always)

    def _make(self) -> EnergyVad:
        self.made += 1
        return EnergyVad(24_000, SETTINGS)

    def are_open(self) -> bool:
        return self.watch.vad is not None

    def hear(self, ms: int, level: int, *, tell: bool = False) -> Edges:
        told: Edges = []
        frame = np.full(480, level, np.int16).tobytes()
        for _ in range(ms // 20):
            if self.watch.vad is not None:
                told += self.watch.heard(self.watch.vad, frame, tell=tell)
            self.hearing.hear(frame)
        return told


def test_a_model_that_is_told_the_turns_has_a_detector_all_the_time() -> None:
    ears = Ears(always=True)
    ears.watch.tune()
    assert ears.are_open() and ears.made == 1
    told = ears.hear(400, 8000) + ears.hear(400, 0)
    assert [type(edge) for edge in told] == [LocalSpeechStarted, LocalSpeechStopped]


def test_others_have_one_while_a_change_is_due_and_nobody_is_told_what_it_hears() -> None:
    ears = Ears()
    ears.watch.tune()
    assert not ears.are_open()
    ears.watch.warm = True
    ears.watch.tune()
    assert ears.are_open() and ears.hear(400, 8000) == []
    ears.watch.warm = False
    ears.watch.tune()
    assert ears.are_open(), "what is being said is heard out"
    ears.hear(400, 0)
    assert not ears.are_open()


def test_who_speaks_as_the_session_goes_is_told_at_once_with_how_long_he_has_spoken() -> None:
    ears = Ears()
    ears.watch.warm = True
    ears.watch.tune()
    ears.hear(200, 0)
    ears.hear(300, 8000)
    told = ears.watch.stand_in()
    assert told is not None and told.spoken_ms == 300
    assert ears.hear(100, 8000) == []
    ears.watch.away = False
    assert [type(edge) for edge in ears.hear(400, 0)] == [LocalSpeechStopped], (
        "an end always, where a beginning was told"
    )


def test_a_detector_that_is_made_in_mid_speech_learns_from_the_tape_what_it_missed() -> None:
    ears = Ears()
    ears.hear(1000, 0)
    ears.hear(500, 8000)
    assert not ears.are_open()
    told = ears.watch.stand_in()
    assert told is not None and 440 <= told.spoken_ms <= 500
    assert ears.hearing.first_loud(0) is not None


def test_while_no_session_leads_speech_is_told_and_silence_is_not() -> None:
    ears = Ears()
    assert ears.watch.stand_in() is None and ears.are_open()
    assert ears.hear(400, 10) == []
    told = ears.hear(200, 8000)
    assert [type(edge) for edge in told] == [LocalSpeechStarted]
    assert isinstance(told[0], LocalSpeechStarted) and told[0].spoken_ms == 60
