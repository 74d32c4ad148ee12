"""The summary rolls on: by our digest, or by the application's own words, and nothing is lost between the two."""

from __future__ import annotations

from bridge.conversation.entries import Line
from bridge.conversation.memory_settings import MemoryWords
from bridge.conversation.names import Names
from bridge.conversation.stats import ConversationStats
from bridge.conversation.summary import RollingSummary
from bridge.core.words import ParticipantId

ANN = ParticipantId("ann")


def line(n: int) -> Line:
    return Line(ANN, f"my number is {n}", float(n), n + 0.5)


def summary(*, application: bool = True, chars: int = 2000) -> RollingSummary:
    made = RollingSummary(chars, MemoryWords(), Names("Assistant"), ConversationStats())
    made.made_by_application = application
    return made


def test_without_an_application_everything_is_digested_at_once() -> None:
    rolling = summary(application=False)
    for n in range(20):
        rolling.fold(line(n))
    assert rolling.work() is None
    assert rolling.text(2000).splitlines()[0] == "ann: my number is 0"


def test_the_application_is_given_the_new_lines_and_the_summary_so_far() -> None:
    rolling = summary()
    for n in range(8):
        rolling.fold(line(n))
    work = rolling.work()
    assert work is not None and work.summary == "" and work.lines[0] == "ann: my number is 0" and len(work.lines) == 8
    rolling.done("Numbers 0 to 7.")
    assert rolling.text(2000) == "Numbers 0 to 7."
    for n in range(8, 16):
        rolling.fold(line(n))
    again = rolling.work()
    assert again is not None and again.summary == "Numbers 0 to 7." and again.lines[0] == "ann: my number is 8"


def test_what_comes_while_it_is_at_work_is_told_until_the_next_time() -> None:
    rolling = summary()
    for n in range(8):
        rolling.fold(line(n))
    rolling.work()
    rolling.fold(line(8))
    assert rolling.work() is None
    assert "ann: my number is 8" in rolling.text(2000) and "ann: my number is 0" in rolling.text(2000)
    rolling.done("Numbers 0 to 7.")
    assert rolling.text(2000) == "Numbers 0 to 7.\nann: my number is 8"


def test_where_the_application_fails_the_digest_takes_its_place() -> None:
    rolling = summary()
    for n in range(8):
        rolling.fold(line(n))
    rolling.work()
    rolling.failed()
    assert rolling.text(2000).splitlines() == [f"ann: my number is {n}" for n in range(8)]
    assert rolling.work() is None


def test_an_application_that_never_comes_back_does_not_make_it_grow_and_loses_nothing() -> None:
    stats = ConversationStats()
    rolling = RollingSummary(100_000, MemoryWords(), Names("Assistant"), stats)
    rolling.made_by_application = True
    for n in range(8):
        rolling.fold(line(n))
    rolling.work()
    for n in range(8, 500):
        rolling.fold(line(n))
    assert stats.folded_entries == 500 - 64
    rolling.done("Numbers 0 to 7.")
    told = rolling.text(100_000).splitlines()
    assert told == ["Numbers 0 to 7.", *(f"ann: my number is {n}" for n in range(8, 500))]


def test_a_summary_that_is_too_long_is_cut_and_leaves_room_for_what_came_since() -> None:
    rolling = summary(chars=200)
    for n in range(8):
        rolling.fold(line(n))
    rolling.work()
    rolling.done("word " * 500)
    rolling.fold(line(8))
    text = rolling.text(200)
    assert len(text) <= 200 and text.endswith("ann: my number is 8") and text.startswith("word word")


def test_entries_that_are_only_asked_about_are_not_kept() -> None:
    rolling = summary(application=False)
    assert rolling.is_empty
    assert rolling.text(2000, [line(1)]) == "ann: my number is 1"
    assert rolling.is_empty and rolling.text(2000) == ""
