from __future__ import annotations

import pytest

from providers.openai.replies import Cut, Replies, Reply
from providers.signal.formats import PCM16_24K

MS = 48
"""Bytes of a millisecond."""


def reply_of(*items_ms: int, exists: bool = True, done: bool = True) -> Replies:
    """A reply "r" of messages "a", "b", ... with so much speech each."""
    replies = Replies(PCM16_24K)
    reply = replies.open("r")
    for index, (name, ms) in enumerate(zip("abcdef", items_ms, strict=False)):
        item = replies.item(reply, name, index)
        replies.audio_came(reply, item, ms * MS, 0.0)
        item.audio_done = done
        if exists:
            replies.exists_now(name)
    return replies


@pytest.mark.parametrize(
    ("heard_ms", "orders"),
    [
        (0, [Cut("a", 0, None), Cut("b", 0, None), Cut("c", 0, None)]),
        (1, [Cut("a", 0, 1), Cut("b", 0, None), Cut("c", 0, None)]),
        (999, [Cut("a", 0, 999), Cut("b", 0, None), Cut("c", 0, None)]),
        (1000, [Cut("b", 0, None), Cut("c", 0, None)]),
        (1300, [Cut("b", 0, 300), Cut("c", 0, None)]),
        (2300, [Cut("c", 0, 300)]),
        (3000, []),
        (99_000, []),
        (-5, [Cut("a", 0, None), Cut("b", 0, None), Cut("c", 0, None)]),
    ],
)
def test_the_item_being_played_is_cut_and_the_unplayed_are_deleted(heard_ms: int, orders: list[Cut]) -> None:
    assert reply_of(1000, 1000, 1000).cut("r", heard_ms) == orders


def test_the_cut_is_clamped_to_the_speech_that_came() -> None:
    # The server was stopped in the middle of the item: it holds more than it could send.
    assert reply_of(700, done=False).cut("r", 5000) == [Cut("a", 0, 700)]


def test_an_item_that_the_server_ended_midway_is_cut_even_if_all_its_speech_was_heard() -> None:
    replies = reply_of(700)
    replies.open("r").items["a"].cut_short = True
    assert replies.cut("r", 700) == [Cut("a", 0, 700)]


def test_items_are_cut_in_the_order_they_are_heard_in() -> None:
    replies = Replies(PCM16_24K)
    reply = replies.open("r")
    for name, index in (("second", 1), ("first", 0)):
        item = replies.item(reply, name, index)
        replies.audio_came(reply, item, 100 * MS, 0.0)
        item.audio_done = True
    assert replies.cut("r", 150) == [Cut("second", 0, 50)]


def test_a_deletion_waits_until_the_server_has_the_item() -> None:
    replies = reply_of(500, exists=False)
    assert replies.cut("r", 0) == []
    assert replies.exists_now("a") == [Cut("a", 0, None)]
    assert replies.exists_now("a") == []


def test_an_item_that_appears_after_the_cut_is_deleted() -> None:
    replies = reply_of(500)
    replies.cut("r", 200)
    replies.item(replies.open("r"), "late", 1)
    assert replies.exists_now("late") == [Cut("late", 0, None)]


def test_an_item_known_to_the_conversation_before_its_response_counts_as_existing() -> None:
    replies = Replies(PCM16_24K)
    replies.exists_now("a")
    replies.item(replies.open("r"), "a", 0)
    assert replies.cut("r", 0) == [Cut("a", 0, None)]


def test_a_second_cut_may_only_be_earlier() -> None:
    replies = reply_of(1000)
    assert replies.cut("r", 500) == [Cut("a", 0, 500)]
    assert replies.cut("r", 600) == []
    assert replies.cut("r", 400) == [Cut("a", 0, 400)]


def test_function_calls_and_written_answers_are_never_cut() -> None:
    replies = reply_of(500)
    reply = replies.open("r")
    replies.item(reply, "call", 1).is_message = False
    replies.item(reply, "text", 2).written = True
    for name in ("call", "text"):
        replies.exists_now(name)
    assert replies.cut("r", 0) == [Cut("a", 0, None)]


def test_an_unknown_reply_is_left_alone() -> None:
    assert reply_of(500).cut("other", 0) == []


def test_old_replies_are_forgotten_but_never_the_one_that_runs() -> None:
    replies = Replies(PCM16_24K)
    running = replies.open("running")
    for number in range(200):
        replies.open(f"r{number}").active = False
    assert replies.get("running") is running
    assert replies.get("r0") is None
    assert isinstance(replies.get("r199"), Reply)


def test_a_reply_may_sound_as_long_as_its_speech_lasts() -> None:
    early, late = reply_of(3000), reply_of(3000)
    early.open("r").active = late.open("r").active = False
    assert early.interrupted(2.9) is early.open("r")
    assert early.interrupted(2.9) is None
    assert late.interrupted(5.1) is None


def test_an_interruption_ends_all_that_may_sound_and_names_the_newest() -> None:
    replies = reply_of(3000)
    replies.open("r").active = False
    newest = replies.open("next")
    assert replies.interrupted(1.0) is newest
    assert replies.interrupted(1.0) is None


def test_of_a_reply_with_items_without_end_the_newest_can_still_be_cut() -> None:
    replies = Replies(PCM16_24K)
    reply = replies.open("r")
    for number in range(400):
        replies.item(reply, f"i{number}", number)
        replies.exists_now(f"i{number}")
    assert len(reply.items) == 256
    assert (replies.of_item("i0"), replies.of_item("i399")) == (None, reply)
    assert Cut("i399", 0, None) in replies.cut("r", 0)
