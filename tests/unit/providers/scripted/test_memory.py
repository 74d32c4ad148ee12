"""What a handle stands for."""

from __future__ import annotations

from providers.scripted.memory import Line, Memory


def test_a_snapshot_goes_on_unchanged() -> None:
    memory = Memory(turns=1)
    line = memory.add(Line(role="user", number=1, text="one"))
    snapshot = memory.snapshot()
    line.text, memory.turns = "changed", 2
    assert snapshot.lines[0].text == "one" and snapshot.turns == 1


def test_words_are_cut_in_proportion_to_what_was_heard() -> None:
    memory = Memory()
    line = memory.add(Line(role="assistant", number=1, text="a b c d", said_ms=1000))
    assert memory.truncate(1, 500) and line.text == "a b" and line.heard_ms == 500
    assert not memory.truncate(2, 500)


def test_what_nobody_heard_is_forgotten() -> None:
    memory = Memory()
    memory.add(Line(role="assistant", number=1, text="a"))
    assert memory.forget(1) and not memory.forget(1) and memory.lines == []
