"""The record: bounded, in order, tools closed by id or by name."""

from __future__ import annotations

from bridge.conversation.ledger import Ledger, Line, ToolUse
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
