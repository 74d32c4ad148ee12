"""A history as it is sent: nothing in it that a provider would refuse, and nothing lost silently."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.contract import Capabilities, HistoryItem
from providers.seeding import seed
from providers.signal.formats import PCM16_24K

ABLE = Capabilities(
    provider="p", model="m", input_formats=(PCM16_24K,), output_format=PCM16_24K, seed_items=3, seed_chars=20
)


def user(text: str) -> HistoryItem:
    return HistoryItem(role="user", text=text)


def model(text: str) -> HistoryItem:
    return HistoryItem(role="assistant", text=text)


def test_what_fits_is_sent_as_it_is() -> None:
    history = (user("Hello."), model("Hi."), user("Bye."))
    seeded = seed(history, ABLE)
    assert (seeded.items, seeded.dropped_items, seeded.cut) == (history, 0, "")


@pytest.mark.parametrize("blank", ["", " ", "\n\t"])
def test_a_line_without_a_word_is_left_out_and_no_loss(blank: str) -> None:
    seeded = seed((user(blank), model("Hi."), user(blank)), ABLE)
    assert (seeded.items, seeded.cut) == ((model("Hi."),), "")


def test_the_oldest_lines_go_and_are_counted() -> None:
    seeded = seed([user("12345"), model("12345"), user("1"), model("2"), user("3")], ABLE)
    assert seeded.items == (user("1"), model("2"), user("3"))
    assert (seeded.dropped_items, seeded.cut_chars) == (2, 10)
    assert "2 lines" in seeded.cut


def test_the_first_line_that_does_not_fit_keeps_its_end() -> None:
    seeded = seed([user("0123456789"), model("abcdefghijklmnopq")], ABLE)
    assert seeded.items == (user("789"), model("abcdefghijklmnopq"))
    assert (seeded.dropped_items, seeded.cut_chars) == (0, 7)


def test_neighbours_of_one_role_become_one_turn_where_turns_must_alternate() -> None:
    seeded = seed([user("a"), user("b"), model("c"), user(" "), model("d")], ABLE, alternate=True)
    assert seeded.items == (user("a\nb"), model("c\nd"))


def test_a_model_that_takes_no_history_gets_none_and_says_so() -> None:
    seeded = seed([user("Hello.")], msgspec.structs.replace(ABLE, seed_items=0, seed_chars=0))
    assert (seeded.items, seeded.dropped_items, seeded.cut_chars) == ((), 1, 6)


@given(
    history=st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(max_size=30))),
    items=st.integers(0, 5),
    chars=st.integers(0, 40),
    alternate=st.booleans(),
)
def test_no_seed_is_ever_too_much(history: list[tuple[str, str]], items: int, chars: int, alternate: bool) -> None:
    lines = [HistoryItem(role=role, text=text) for role, text in history]  # type: ignore[arg-type]
    able = msgspec.structs.replace(ABLE, seed_items=items, seed_chars=chars)
    seeded = seed(lines, able, alternate=alternate)
    assert len(seeded.items) <= items
    assert sum(len(item.text) for item in seeded.items) <= chars
    assert all(item.text.strip() for item in seeded.items)
    if alternate:
        assert all(one.role != next_.role for one, next_ in zip(seeded.items, seeded.items[1:], strict=False))
    whole = seed(lines, msgspec.structs.replace(ABLE, seed_items=10_000, seed_chars=10_000_000), alternate=alternate)
    assert whole.cut == ""
    assert whole.items[len(whole.items) - len(seeded.items) + 1 :] == seeded.items[1:], "the newest, in order"
    assert sum(len(item.text) for item in whole.items) == seeded.cut_chars + sum(
        len(item.text) for item in seeded.items
    )
