"""Templates are checked when they are read, and say tools as facts."""

from __future__ import annotations

import pytest

from bridge.config.load import read
from bridge.conversation.entries import Line, ToolUse
from bridge.conversation.memory_settings import MemoryWords
from bridge.core.errors import ConfigError
from bridge.core.words import ParticipantId


def test_words_may_be_translated() -> None:
    config = read({"conversation": {"memory": {"words": {"go_on": "Fahre fort nach: {heard}"}}}}, {})
    assert config.conversation.memory.words.go_on == "Fahre fort nach: {heard}"


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("Go on from {haerd}", "{heard}"),
        ("Go on.", "must hold {heard}"),
        ("Go on from {heard", "is no template"),
        ("Go on from {heard.__class__}", "nothing else in braces"),
        ("Go on from {heard!r}", "nothing else in braces"),
        ("Go on from {heard:>20}", "nothing else in braces"),
        ("Go on from {}", "nothing else in braces"),
    ],
)
def test_a_template_that_would_fail_in_a_call_is_refused_when_it_is_read(template: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=r"conversation\.memory\.words\.go_on") as refused:
        read({"conversation": {"memory": {"words": {"go_on": template}}}}, {})
    assert complaint in str(refused.value)


def test_an_empty_template_is_refused() -> None:
    with pytest.raises(ConfigError, match="may not be empty"):
        MemoryWords(answer="  ")


def test_words_in_braces_that_somebody_said_are_only_words() -> None:
    assert MemoryWords().go_on.format(heard="{secret} {0}").count("{secret} {0}") == 1


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (ToolUse("1", "look", {"city": "Rome"}, 0.0, "21 degrees", ended_at=1.0), 'look({"city":"Rome"}) = 21 degrees'),
        (ToolUse("1", "look", {}, 0.0, "no such city", error=True, ended_at=1.0), "look({}) failed: no such city"),
        (ToolUse("1", "look", {}, 0.0, cancelled=True, ended_at=1.0), "look({}) failed: -"),
        (ToolUse("1", "look", {}, 0.0), "look({}) runs"),
    ],
    ids=["answered", "failed", "cancelled", "running"],
)
def test_a_tool_is_told_as_what_became_of_it(use: ToolUse, told: str) -> None:
    words = MemoryWords(
        tool="{name}({arguments}) = {result}",
        tool_failed="{name}({arguments}) failed: {result}",
        tool_unanswered="{name}({arguments}) runs",
    )
    assert words.fact(use) == told


def test_long_arguments_and_results_are_cut() -> None:
    use = ToolUse("1", "look", {"text": "x" * 5000}, 0.0, "y" * 4000, ended_at=1.0)
    assert len(MemoryWords().fact(use)) < 1100


def test_a_line_is_told_with_its_speaker() -> None:
    assert MemoryWords().told(Line(ParticipantId("p1"), " hello ", 0.0), "Ann") == "Ann: hello"
