"""The order of what is shown and written down."""

from __future__ import annotations

from bridge.audio.playout import Playout
from bridge.conversation.ledger import Ledger
from bridge.conversation.scribe import Scribe
from bridge.conversation.speakers import Spoken
from bridge.conversation.stats import ConversationStats
from bridge.core.commands import Command
from bridge.core.words import Heard, ParticipantId
from tests.fakes.sink import FakeSink

ANN = ParticipantId("ann")


def scribe() -> Scribe:
    stats = ConversationStats()
    made = Scribe(Playout(FakeSink()), Ledger(100, stats), 600, stats)
    made.user_words(1, "t0", "hi", final=True, spoken=Spoken(ANN, 0.0), now=0.0, commands=[])
    return made


def test_an_answer_waits_for_the_words_that_it_answers_but_not_for_long() -> None:
    made = scribe()
    made.user_finished(10.0)
    made.agent.add(1, "r", "noon", final=True, written=True)
    commands: list[Command] = []
    made.release(10.5, commands)
    assert not commands
    assert made.deadline(sounding=True) == 10.6
    made.release(10.6, commands)
    assert len(commands) == 1


def test_words_that_came_to_nothing_are_not_waited_for() -> None:
    made = scribe()
    made.user_finished(10.0)
    made.user_words(1, "t1", "", final=True, spoken=Spoken(ANN, 0.0), now=10.1, commands=[])
    made.agent.add(1, "r", "noon", final=True, written=True)
    commands: list[Command] = []
    made.release(10.1, commands)
    assert len(commands) == 1


def test_a_typed_line_follows_the_reply_that_it_cut() -> None:
    made = scribe()
    made.record(0.0)
    made.user_typed(ANN, "stop", 1.0, cuts=True)
    typed = made.take_typed()
    made.cut(Heard("r", 500.0, 900.0), [])
    made.record(1.0)
    for line in typed:
        made.ledger.said(line)
    assert [(line.speaker, line.typed) for line in made.ledger.lines] == [(ANN, False), (None, False), (ANN, True)]


def test_a_typed_line_that_cut_nothing_is_on_record_at_once() -> None:
    made = scribe()
    made.user_typed(ANN, "hello", 1.0, cuts=False)
    assert made.ledger.lines[-1].typed


def test_the_record_shows_what_is_being_said_before_it_is_closed() -> None:
    made = scribe()
    made.record(0.0)
    made.user_words(1, "t1", "tell me", final=False, spoken=Spoken(ANN, 3.0), now=4.0, commands=[])
    made.user_typed(ANN, "now", 5.0, cuts=True)
    assert [(line.text, line.at, line.ended_at) for line in made.ledger.open_lines(6.0)] == [
        ("tell me", 3.0, None),
        ("now", 5.0, 5.0),
    ]
    made.take_typed()
    made.end(7.0, [])
    assert made.ledger.open_lines(8.0) == ()
    assert made.ledger.lines[-1].text == "tell me"
