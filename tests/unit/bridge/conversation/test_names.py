"""What people are called."""

from __future__ import annotations

from bridge.conversation.names import Names
from bridge.core.words import ParticipantId


def test_a_name_stands_for_the_identity_and_without_one_the_identity_stands() -> None:
    names = Names("Assistant")
    names.know(ParticipantId("p1"), "Ann")
    assert [names.of(ParticipantId("p1")), names.of(ParticipantId("p2")), names.of(None)] == ["Ann", "p2", "Assistant"]
    names.know(ParticipantId("p1"), "")
    assert names.of(ParticipantId("p1")) == "p1"


def test_a_crowd_that_comes_and_goes_does_not_fill_the_memory() -> None:
    names = Names("Assistant")
    for n in range(5000):
        names.know(ParticipantId(f"p{n}"), f"Person {n}")
    assert names.of(ParticipantId("p0")) == "p0"
    assert names.of(ParticipantId("p4999")) == "Person 4999"
