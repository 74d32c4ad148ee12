"""The provider's memory: when it is wrong, when it may be put right, and what it is told then."""

from __future__ import annotations

import pytest

from bridge.conversation.memory import ProviderMemory
from bridge.conversation.memory_settings import MemorySettings, MemoryWords
from bridge.conversation.stats import ConversationStats

SETTINGS = MemorySettings(words=MemoryWords(heard_in_part="heard: {heard}", heard_not_at_all="heard nothing"))


def wrong() -> ProviderMemory:
    """A reply was cut after half of it, and whoever cut it was answered."""
    memory = ProviderMemory(SETTINGS, ConversationStats())
    memory.session_began(resumed=False)
    memory.cut("r1", "one two", 900.0, 4000.0, 10.0)
    memory.turn_complete("r1")
    memory.turn_complete("r2")
    return memory


def test_a_reply_that_was_heard_to_its_end_leaves_the_memory_right() -> None:
    memory = ProviderMemory(SETTINGS, ConversationStats())
    memory.cut("r1", "one two", 3900.0, 4000.0, 10.0)
    assert not memory.is_wrong


def test_the_note_comes_after_a_quiet_moment_and_once() -> None:
    assert wrong().is_wrong
    memory = wrong()
    assert memory.due(11.0, idle=True, repairable=True) == ""
    assert memory.deadline() == 11.5
    assert memory.due(11.5, idle=True, repairable=True) == "heard: one two"
    assert not memory.is_wrong
    assert memory.due(20.0, idle=True, repairable=True) == "" and memory.deadline() is None


def test_anything_that_happens_starts_the_quiet_anew() -> None:
    memory = wrong()
    memory.due(11.0, idle=True, repairable=True)
    memory.due(11.3, idle=False, repairable=True)
    assert memory.deadline() is None
    memory.due(11.4, idle=True, repairable=True)
    assert memory.due(11.6, idle=True, repairable=True) == ""
    assert memory.due(11.9, idle=True, repairable=True) != ""


def test_whoever_interrupted_is_answered_first_but_not_waited_for_without_end() -> None:
    memory = ProviderMemory(SETTINGS, ConversationStats())
    memory.session_began(resumed=False)
    memory.cut("r1", "", 0.0, 4000.0, 10.0)
    memory.turn_complete("r1")
    memory.turn_complete(None)
    assert memory.due(11.0, idle=True, repairable=True) == ""
    assert memory.deadline() == 20.0
    assert memory.due(20.0, idle=True, repairable=True) == "heard nothing"


def test_a_memory_that_may_not_be_repaired_stays_wrong_until_the_next_seed() -> None:
    memory = wrong()
    for seconds in range(11, 100):
        assert memory.due(float(seconds), idle=True, repairable=False) == ""
    memory.session_ended()
    memory.session_began(resumed=True)
    assert memory.is_wrong
    memory.session_began(resumed=False)
    assert not memory.is_wrong


def test_nobody_is_told_while_there_is_no_session() -> None:
    memory = wrong()
    memory.due(11.0, idle=True, repairable=True)
    memory.session_ended()
    assert memory.deadline() is None
    assert memory.due(12.0, idle=True, repairable=True) == ""


def test_a_resumed_session_is_told_what_the_one_before_it_was_not() -> None:
    memory = wrong()
    memory.session_ended()
    memory.session_began(resumed=True)
    memory.due(30.0, idle=True, repairable=True)
    assert memory.due(31.0, idle=True, repairable=True) == "heard: one two"


def test_several_cuts_are_told_together_and_too_many_are_left_to_the_next_seed() -> None:
    memory = wrong()
    memory.cut("r3", "three", 300.0, 4000.0, 12.0)
    memory.turn_complete("r4")
    memory.due(13.0, idle=True, repairable=True)
    assert memory.due(13.5, idle=True, repairable=True) == "heard: one two\nheard: three"
    for n in range(10):
        memory.cut(f"s{n}", str(n), 300.0, 4000.0, 14.0)
    memory.turn_complete("t")
    memory.due(15.0, idle=True, repairable=True)
    assert memory.due(16.0, idle=True, repairable=True).count("heard: ") == 4
    assert memory.is_wrong


@pytest.mark.parametrize("resumed", [True, False])
def test_repairs_are_counted(resumed: bool) -> None:
    stats = ConversationStats()
    memory = ProviderMemory(SETTINGS, stats)
    memory.session_began(resumed=resumed)
    memory.cut("r", "", 0.0, 1000.0, 0.0)
    memory.due(20.0, idle=True, repairable=True)
    memory.due(21.0, idle=True, repairable=True)
    assert (stats.unheard_replies, stats.memory_repairs) == (1, 1)
