"""One reply at a time, said piece by piece."""

from __future__ import annotations

from typing import Literal

import numpy as np

from providers.scripted.acts import Act, Cut, GenerationDone, ReplyBegan, Resumable, Say, TurnDone, Words
from providers.scripted.agenda import Agenda
from providers.scripted.hearing import Hearing
from providers.scripted.memory import Memory
from providers.scripted.mouth import Mouth, Turn
from providers.scripted.scenario import Pace, Scenario, ServerVad, Tone

NOTHING = np.zeros(0, dtype=np.int16)


class Speaking:
    def __init__(self, turn_done: Literal["playback", "generation"] = "generation", late_chunks: int = 0) -> None:
        self.open_calls: dict[int, object] = {}
        self.memory = Memory()
        scenario = Scenario(pace=Pace(speed=2.0, latency_ms=0), late_chunks=late_chunks)
        self.agenda = Agenda((), 1)
        hearing = Hearing(24_000, ServerVad(), 1.0)
        self.mouth = Mouth(
            scenario, self.agenda, self.memory, hearing, self.open_calls, written=False, turn_done=turn_done
        )

    def say(self, duration_ms: int, now: float) -> None:
        def begin(at: float) -> None:
            reply = self.mouth.open(1, (), at)
            tone = Tone(duration_ms=duration_ms, transcript="")
            self.mouth.speak(reply, Turn(1, NOTHING, ""), tone, at, {})

        self.mouth.when_free(begin, now)

    def kinds(self) -> list[type[Act]]:
        return [type(act) for act in self.agenda.take()]


def test_a_second_reply_waits_for_the_first() -> None:
    speaking = Speaking()
    speaking.say(80, 0.0)
    speaking.say(40, 0.0)
    speaking.agenda.advance(9.0)
    whole = [Resumable, ReplyBegan, Say, Say, GenerationDone, TurnDone, Resumable, ReplyBegan, Say, GenerationDone]
    assert speaking.kinds() == [*whole, TurnDone, Resumable]


def test_a_cut_forgets_what_waits_too() -> None:
    speaking = Speaking()
    speaking.say(80, 0.0)
    speaking.say(40, 0.0)
    speaking.agenda.advance(0.0)
    speaking.mouth.cut("client")
    speaking.agenda.advance(9.0)
    assert speaking.kinds() == [Resumable, ReplyBegan, Say, Cut, TurnDone, Resumable]
    assert speaking.mouth.reply is None


def test_the_turn_ends_with_playback_where_that_is_asked() -> None:
    speaking = Speaking("playback")
    speaking.say(1000, 0.0)
    speaking.agenda.advance(0.6)
    assert speaking.kinds()[-1] is GenerationDone and speaking.agenda.deadline() == 1.0


def test_the_memory_holds_what_was_said_and_no_more() -> None:
    speaking = Speaking(late_chunks=5)
    speaking.say(1000, 0.0)
    speaking.agenda.advance(0.1)
    speaking.mouth.cut("speech")
    assert speaking.memory.lines[0].said_ms == 240, "0.1 s at double speed; late speech does not count"
    acts = speaking.agenda.take()
    assert len([act for act in acts if isinstance(act, Say) and act.late]) == 5
    assert not [act for act in acts if isinstance(act, Words)]


def test_nothing_is_resumable_while_calls_are_open() -> None:
    speaking = Speaking()
    speaking.open_calls[1] = object()
    speaking.say(40, 0.0)
    speaking.agenda.advance(9.0)
    assert speaking.kinds()[-1] is TurnDone
