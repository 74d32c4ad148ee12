"""A digest keeps who said what, numbers, names and results, within its bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.conversation.digest import Digest
from bridge.conversation.entries import Line, ToolUse
from bridge.conversation.memory_settings import MemoryWords
from bridge.core.words import ParticipantId

ANN = ParticipantId("ann")
WORDS = MemoryWords(tool="{name}({arguments}) = {result}")


def said(text: str) -> Line:
    return Line(ANN, text, 0.0, 1.0)


def test_short_turns_are_kept_whole_with_their_speaker() -> None:
    digest = Digest(1000, WORDS)
    digest.fold(said("I would like a table."), "Ann")
    digest.fold(Line(None, "For how many?", 1.0, 2.0), "Assistant")
    assert digest.text == "Ann: I would like a table.\nAssistant: For how many?"


def test_of_a_long_turn_the_telling_sentences_are_kept_in_order() -> None:
    digest = Digest(1000, WORDS)
    filler = "well you know how it is with these things and so on and so forth. "
    digest.fold(said(f"My order is 4711. {filler}{filler}{filler} I talked to Miss Jones about it. {filler}"), "Ann")
    assert "4711" in digest.text and "Jones" in digest.text
    assert digest.text.index("4711") < digest.text.index("Jones")
    assert len(digest.text) < 200


def test_a_number_deep_in_one_endless_sentence_is_found() -> None:
    digest = Digest(1000, WORDS)
    digest.fold(said("and then we went on " * 40 + "to number 815 " + "and then we went on " * 40), "Ann")
    assert "815" in digest.text


def test_small_talk_goes_before_numbers_names_and_results_whatever_their_age() -> None:
    digest = Digest(95, WORDS)
    digest.fold(ToolUse("1", "price", {"of": "a"}, 0.0, "12 euro", ended_at=1.0), "price")
    digest.fold(said("it is for Mister Smith"), "Ann")
    for _ in range(20):
        digest.fold(said("yes yes"), "Ann")
    digest.fold(said("deliver on the 3rd"), "Ann")
    assert digest.text.splitlines() == [
        'price({"of":"a"}) = 12 euro',
        "Ann: it is for Mister Smith",
        "Ann: yes yes",
        "Ann: deliver on the 3rd",
    ]
    assert digest.left_out == 19


def test_scripts_without_spaces_are_digested_too() -> None:
    digest = Digest(300, WORDS)
    digest.fold(said("我想订一张桌子。" * 60 + "一共四个人8点到。"), "Ann")
    assert "8点" in digest.text and len(digest.text) <= 300


def test_a_smaller_copy_leaves_the_digest_as_it_was() -> None:
    digest = Digest(1000, WORDS)
    for n in range(10):
        digest.fold(said(f"number {n} is my number"), "Ann")
    before = digest.text
    assert len(digest.within(100).text) <= 100
    assert digest.text == before and digest.left_out == 0


@given(texts=st.lists(st.text(max_size=400), max_size=30), chars=st.integers(0, 500))
def test_a_digest_is_never_larger_than_it_may_be(texts: list[str], chars: int) -> None:
    digest = Digest(chars, WORDS)
    for text in texts:
        digest.fold(said(text), "Ann")
        assert len(digest.text) <= chars
