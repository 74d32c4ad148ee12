"""The record: bounded, in order, tools closed by id or by name."""

from __future__ import annotations

from bridge.conversation.entries import Line, ToolUse, TranscriptLine
from bridge.conversation.ledger import Ledger
from bridge.conversation.memory_settings import MemorySettings
from bridge.conversation.stats import ConversationStats
from bridge.core.words import ParticipantId

ANN = ParticipantId("ann")


def test_the_oldest_entry_goes_and_is_counted() -> None:
    stats = ConversationStats()
    ledger = Ledger(3, stats)
    for n in range(5):
        ledger.said(Line(speaker=ANN, text=str(n), at=float(n)))
    assert [line.text for line in ledger.lines] == ["2", "3", "4"]
    assert stats.forgotten_entries == 2


def test_a_tool_call_is_closed_by_its_id() -> None:
    ledger = Ledger(10, ConversationStats())
    ledger.tool_called("a", "f", {"x": 1}, 1.0)
    ledger.tool_called("b", "f", {"x": 2}, 1.0)
    ledger.tool_ended("a", "f", 2.0, result="one")
    first, second = ledger.entries
    assert isinstance(first, ToolUse)
    assert isinstance(second, ToolUse)
    assert (first.result, first.ended_at) == ("one", 2.0)
    assert second.ended_at is None


def test_a_tool_call_without_an_id_is_closed_by_its_name() -> None:
    ledger = Ledger(10, ConversationStats())
    ledger.tool_called("", "f", {}, 1.0)
    ledger.tool_called("", "g", {}, 1.0)
    ledger.tool_ended("", "f", 2.0, cancelled=True)
    first, second = ledger.entries
    assert isinstance(first, ToolUse)
    assert isinstance(second, ToolUse)
    assert first.cancelled
    assert second.ended_at is None


def test_an_answer_to_an_unknown_call_changes_nothing() -> None:
    ledger = Ledger(10, ConversationStats())
    ledger.tool_ended("ghost", "f", 2.0, result="boo")
    assert ledger.entries == ()


def ledger_of(*entries: Line, turns: int = 40, capacity: int = 1000) -> tuple[Ledger, ConversationStats]:
    stats = ConversationStats()
    ledger = Ledger(capacity, stats, MemorySettings(turns=turns))
    for entry in entries:
        ledger.said(entry)
    return ledger, stats


def line(n: int, speaker: ParticipantId | None = ANN) -> Line:
    return Line(speaker, f"my number is {n}", float(n), n + 0.5)


def test_lines_leave_the_last_turns_for_the_summary() -> None:
    ledger, stats = ledger_of(*(line(n) for n in range(10)), turns=4)
    assert [entry.at for entry in ledger.recent(99.0)] == [6.0, 7.0, 8.0, 9.0]
    assert ledger.summary.text(2000).splitlines() == [f"ann: my number is {n}" for n in range(6)]
    assert (stats.folded_entries, stats.forgotten_entries) == (6, 0)


def test_what_a_full_record_forgets_is_in_the_summary_first() -> None:
    ledger, stats = ledger_of(*(line(n) for n in range(20)), turns=40, capacity=10)
    assert len(ledger.entries) == len(ledger.recent(99.0)) == 10
    assert ledger.summary.text(2000).splitlines() == [f"ann: my number is {n}" for n in range(10)]
    assert (stats.folded_entries, stats.forgotten_entries) == (10, 10)


def test_a_tool_that_ends_after_it_left_the_last_turns_is_folded_with_its_result() -> None:
    ledger, _ = ledger_of(turns=4)
    ledger.tool_called("c", "dig", {}, 0.0)
    for n in range(1, 10):
        ledger.said(line(n))
    ledger.tool_ended("c", "dig", 10.0, result="water at 30 m")
    assert "water at 30 m" in ledger.summary.text(2000)


def test_words_that_came_late_stand_where_they_were_spoken() -> None:
    question = Line(ANN, "and now?", 1.0, 2.0)
    answer = Line(None, "Now you wait.", 2.5, 4.0)
    ledger, _ = ledger_of(answer, question)
    assert ledger.recent(9.0) == [question, answer]
    assert [said.text for said in ledger.transcript()] == ["and now?", "Now you wait."]


def test_what_is_being_said_is_readable_at_once() -> None:
    ledger, _ = ledger_of(line(1))
    going_on = Line(None, "so far", 5.0)
    ledger.still_open = lambda now, *, ahead=False: [going_on] if now >= 5.0 else []
    assert ledger.open_lines(4.0) == ()
    assert ledger.recent(6.0)[-1] is going_on
    assert [said.ended_s for said in ledger.transcript(0.0, 6.0)] == [1.5, None]
    assert len(ledger.transcript()) == 1


def test_the_version_grows_with_all_that_becomes_known() -> None:
    ledger, _ = ledger_of()
    seen = [ledger.version]
    ledger.said(line(1))
    seen.append(ledger.version)
    ledger.tool_called("c", "dig", {}, 2.0)
    seen.append(ledger.version)
    ledger.tool_ended("c", "dig", 3.0, result="water")
    seen.append(ledger.version)
    assert seen == sorted(set(seen))


def test_the_transcript_names_everybody_and_counts_from_the_beginning_of_the_call() -> None:
    ledger, _ = ledger_of()
    ledger.names.know(ANN, "Ann Smith")
    ledger.said(Line(ANN, "hello", 101.0, 102.0))
    ledger.tool_called("c", "dig", {"deep": True}, 103.0)
    ledger.tool_ended("c", "dig", 104.0, result="rock", error=True)
    ledger.said(Line(None, " Only rock", 105.0, 106.0, heard_ms=1000.0, interrupted=True))
    assert ledger.transcript(100.0) == [
        TranscriptLine(role="user", speaker="ann", name="Ann Smith", text="hello", began_s=1.0, ended_s=2.0),
        TranscriptLine(
            role="tool",
            speaker="dig",
            name="dig",
            text="rock",
            began_s=3.0,
            ended_s=4.0,
            arguments={"deep": True},
            failed=True,
        ),
        TranscriptLine(
            role="assistant",
            speaker="",
            name="Assistant",
            text="Only rock",
            began_s=5.0,
            ended_s=6.0,
            interrupted=True,
        ),
    ]


def test_a_record_of_few_but_endless_entries_stays_bounded_too() -> None:
    ledger, stats = ledger_of()
    for n in range(50):
        ledger.said(Line(ANN, f"my number is {n} " + "x" * 100_000, float(n), n + 0.5))
        ledger.tool_called(str(n), "dig", {"text": "y" * 100_000}, n + 0.6)
    assert sum(len(entry.text) for entry in ledger.lines) <= 2_000_000
    assert stats.forgotten_entries == 100 - len(ledger.entries) > 50
    assert stats.folded_entries >= stats.forgotten_entries


def test_what_is_heard_again_is_on_record_once() -> None:
    answered, typed = line(1), Line(ANN, "typed", 4.0, 4.0, typed=True)
    ledger, _ = ledger_of(answered, line(2, None), line(3), typed, line(5))
    ledger.will_be_heard_again()
    before = len(ledger.lines)
    assert ledger.heard_again() == line(3)
    after = [entry.at for entry in ledger.lines]
    assert (before, after) == (5, [1.0, 2.0, 4.0]), "until its words come again they are all there is"
    assert ledger.heard_again() is None
    ledger.said(line(6))
    assert [entry.at for entry in ledger.recent(99.0)] == [1.0, 2.0, 4.0, 6.0]


def test_what_was_taken_out_takes_no_room() -> None:
    ledger, stats = ledger_of()
    for n in range(30):
        ledger.said(Line(ANN, "x" * 100_000, float(n), n + 0.5))
        ledger.will_be_heard_again()
        ledger.heard_again()
    ledger.said(line(40))
    ledger.said(line(41))
    assert (len(ledger.entries), stats.forgotten_entries) == (2, 0)


def test_what_the_summary_holds_already_is_not_taken_out() -> None:
    ledger, _ = ledger_of(line(1), line(2), line(3), turns=1)
    ledger.will_be_heard_again()
    ledger.heard_again()
    assert [entry.at for entry in ledger.lines] == [1.0, 2.0]
    assert ledger.recent(99.0) == []
