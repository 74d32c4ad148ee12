"""What a new session is told: bounded, in order, nothing that was not heard, and never without the last user turn."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.conversation.entries import Line, ToolUse
from bridge.conversation.ledger import Ledger
from bridge.conversation.memory_settings import MemorySettings, MemoryWords
from bridge.conversation.seed import going_on, last_exchange, seed
from bridge.conversation.stats import ConversationStats
from bridge.core.words import ParticipantId

ANN, BEN = ParticipantId("ann"), ParticipantId("ben")
WORDS = MemoryWords(
    earlier="[{summary}]",
    tool="<{name} = {result}>",
    tool_failed="<{name} failed>",
    tool_unanswered="<{name} runs>",
    unworded="<spoke {seconds} s>",
    go_on="on: {heard}",
    answer="answer: {said}",
    exchange="just: {lines}",
)


def ledger_of(*entries: Line | ToolUse, open_lines: tuple[Line, ...] = (), **own: Any) -> Ledger:
    ledger = Ledger(1000, ConversationStats(), MemorySettings(words=WORDS, **own))
    for entry in entries:
        if isinstance(entry, Line):
            ledger.said(entry)
        else:
            ledger.tool_called(entry.call_id, entry.name, entry.arguments, entry.at)
            if entry.ended_at is not None:
                ledger.tool_ended(entry.call_id, entry.name, entry.ended_at, result=entry.result, error=entry.error)
    ledger.still_open = lambda now, *, ahead=False: open_lines
    return ledger


def told(ledger: Ledger, items: int = 128, chars: int = 32_000, **how: Any) -> list[tuple[str, str]]:
    return [(item.role, item.text) for item in seed(ledger, 99.0, items=items, chars=chars, **how)]


def user(at: float, text: str, speaker: ParticipantId = ANN, **own: Any) -> Line:
    return Line(speaker, text, at, at + 1, **own)


def model(at: float, text: str, **own: Any) -> Line:
    return Line(None, text, at, at + 1, heard_ms=1000.0, **own)


def test_a_short_call_is_told_word_for_word() -> None:
    ledger = ledger_of(user(1, "a table for four"), model(3, " With pleasure."), user(5, "at eight"))
    assert told(ledger) == [("user", "a table for four"), ("assistant", "With pleasure."), ("user", "at eight")]


def test_of_a_reply_that_still_sounds_only_what_was_heard_is_told() -> None:
    ledger = ledger_of(user(1, "tell me all"), open_lines=(Line(None, "Once upon", 3.0, heard_ms=700.0),))
    assert told(ledger) == [("user", "tell me all"), ("assistant", "Once upon")]


def test_a_turn_whose_transcript_is_not_final_is_told() -> None:
    ledger = ledger_of(model(1, "Yes?"), open_lines=(Line(ANN, "I would", 3.0),))
    assert told(ledger)[-1] == ("user", "I would")


def test_several_speakers_are_told_apart_by_name() -> None:
    ledger = ledger_of(user(1, "tea"), user(3, "coffee", BEN))
    ledger.names.know(ANN, "Ann Smith")
    assert told(ledger) == [("user", "Ann Smith: tea"), ("user", "ben: coffee")]


def test_a_single_speaker_has_no_label_until_there_was_another() -> None:
    ledger = ledger_of(user(1, "tea"), *(user(n, f"tea {n}") for n in range(2, 9)), turns=2)
    assert told(ledger)[-1] == ("user", "tea 8")
    ledger = ledger_of(user(1, "tea", BEN), *(user(n, f"tea {n}") for n in range(2, 9)), turns=2)
    assert told(ledger)[-1] == ("user", "ann: tea 8")


def test_tools_are_facts_where_they_were_used() -> None:
    ledger = ledger_of(
        user(1, "what does it cost"),
        ToolUse("1", "price", {}, 2.5, "12 euro", ended_at=3.0),
        ToolUse("2", "stock", {}, 2.6, "down", error=True, ended_at=3.0),
        model(4, "Twelve euro."),
        ToolUse("3", "reserve", {}, 5.0),
    )
    texts = [text for _, text in told(ledger)]
    assert texts == ["what does it cost", "<price = 12 euro>", "<stock failed>", "Twelve euro.", "<reserve runs>"]
    assert {role for role, text in told(ledger) if text.startswith("<")} == {"user"}


def test_a_reply_without_a_transcript_is_told_as_one() -> None:
    ledger = ledger_of(
        user(1, "hello"), Line(None, "", 3.0, 5.0, heard_ms=2000.0), Line(None, "", 6.0, 6.1, heard_ms=90.0)
    )
    assert told(ledger) == [("user", "hello"), ("user", "<spoke 2 s>")]


def test_older_turns_are_summarized_in_front() -> None:
    ledger = ledger_of(*(user(n, f"my number is {n}") for n in range(6)), turns=4)
    assert told(ledger) == [
        ("user", "[ann: my number is 0\nann: my number is 1]"),
        *(("user", f"my number is {n}") for n in range(2, 6)),
    ]


def test_a_provider_that_takes_few_lines_gets_the_newest_and_a_longer_summary() -> None:
    ledger = ledger_of(*(user(n, f"my number is {n}") for n in range(10)))
    assert told(ledger, items=3) == [
        ("user", "[" + "\n".join(f"ann: my number is {n}" for n in range(8)) + "]"),
        ("user", "my number is 8"),
        ("user", "my number is 9"),
    ]
    assert told(ledger, items=1) == [("user", "my number is 9")]
    assert told(ledger, items=0) == []
    assert told(ledger, chars=0) == []


def test_a_turn_that_is_too_long_is_told_by_its_end() -> None:
    ledger = ledger_of(user(1, "word " * 400 + "and that is my question"))
    ((_, text),) = told(ledger, chars=200)
    assert text.endswith("and that is my question") and 100 < len(text) <= 200 and text.startswith("word")


def test_a_reply_that_is_too_long_does_not_push_out_the_turn_that_it_answers() -> None:
    ledger = ledger_of(user(1, "tell me all"), model(3, "word " * 400 + "the end"))
    question, answer = told(ledger, chars=300)
    assert question == ("user", "tell me all")
    assert answer[1].endswith("the end")


def test_the_last_turn_is_left_out_where_it_will_be_heard_again() -> None:
    ledger = ledger_of(user(1, "hello"), model(3, "Yes?"), user(5, "what time", typed=True), user(7, "is it"))
    kept = [text for _, text in told(ledger, without_last_turn=True)]
    assert kept == ["hello", "Yes?", "what time"]


def test_a_turn_that_was_answered_is_not_left_out() -> None:
    ledger = ledger_of(user(1, "hello"), model(3, "Yes?"))
    assert len(told(ledger, without_last_turn=True)) == 2


def test_a_typed_turn_that_still_waits_for_its_session_is_not_told_twice() -> None:
    ledger = ledger_of(user(1, "yes", typed=True), model(3, "Good."), user(5, "yes", typed=True))
    assert [text for _, text in told(ledger, undelivered=("yes",))] == ["yes", "Good."]


@pytest.mark.parametrize(
    ("entries", "open_lines", "asked"),
    [
        ([user(1, "hello"), model(3, "Once upon", lost=True)], [], "on: Once upon"),
        ([user(1, "hello")], [Line(None, "Once upon", 3.0, lost=True)], "on: Once upon"),
        ([model(1, "Part one."), model(3, "Part two", lost=True)], [], "on: Part one. Part two"),
        ([user(1, "hello"), model(3, "Good day.")], [], ""),
        ([model(1, "Yes?"), user(3, "what time"), user(5, "is it", BEN)], [], "answer: what time is it"),
        ([model(1, "Once upon", interrupted=True, lost=True), user(1.5, "wait")], [], "answer: wait"),
        ([Line(None, "Once upon a", 1.0, 9.0, lost=True), user(3, "mhm")], [], "on: Once upon a"),
        ([model(1, "Yes?")], [Line(ANN, "I", 3.0)], ""),
        ([user(1, "hello"), ToolUse("1", "price", {}, 3.0, "12", ended_at=4.0)], [], "answer: hello"),
        ([user(1, "hi"), model(3, "Look."), ToolUse("1", "price", {}, 5.0, "12", ended_at=6.0)], [], "answer: "),
        ([user(1, "hello"), model(3, "")], [], ""),
        ([user(1, "hello"), model(3, "", lost=True)], [], ""),
        ([], [], ""),
    ],
    ids=[
        "broken off", "broken off and still sounding", "in several parts", "complete", "unanswered", "cut by the user",
        "a word of assent", "he is still speaking", "a tool before the answer", "a result", "answered in unknown words",
        "broken off in unknown words", "nothing",
    ],
)  # fmt: skip
def test_what_is_owed_after_a_loss(entries: list[Line | ToolUse], open_lines: list[Line], asked: str) -> None:
    assert going_on(ledger_of(*entries, open_lines=tuple(open_lines)), 99.0) == asked


def test_a_resumed_session_is_told_the_last_turn_and_its_reply() -> None:
    ledger = ledger_of(
        user(1, "hello"),
        model(3, "Good day."),
        user(5, "the price"),
        ToolUse("1", "price", {}, 7.0, "12 euro", ended_at=8.0),
        model(9, "Twelve."),
    )
    assert last_exchange(ledger, 99.0) == "just: ann: the price\n<price = 12 euro>\nAssistant: Twelve."
    assert last_exchange(ledger_of(), 99.0) == ""
    assert last_exchange(ledger_of(model(1, "Welcome.")), 99.0) == "just: Assistant: Welcome."


texts = st.one_of(st.text(max_size=12), st.text(max_size=300), st.just("   "), st.just("a 1 B. c? " * 60))
lines = st.builds(
    lambda who, text, length: (who, text, length),
    st.sampled_from([ANN, BEN, None]),
    texts,
    st.floats(0, 5),
)


@settings(max_examples=300, deadline=None)
@given(
    said=st.lists(st.one_of(lines, st.tuples(st.just("tool"), texts, st.booleans())), max_size=40),
    items=st.integers(0, 20),
    chars=st.integers(0, 3000),
    turns=st.integers(1, 20),
    summary_chars=st.integers(0, 400),
)
def test_any_record_is_told_in_bounds_in_order_and_with_nothing_that_is_not_in_it(
    said: list[tuple[Any, str, Any]], items: int, chars: int, turns: int, summary_chars: int
) -> None:
    ledger = Ledger(30, ConversationStats(), MemorySettings(words=WORDS, turns=turns, summary_chars=summary_chars))
    for at, (who, text, more) in enumerate(said):
        if who == "tool":
            ledger.tool_called(str(at), "t", {}, float(at))
            if more:
                ledger.tool_ended(str(at), "t", float(at), result=text)
        else:
            ledger.said(Line(who, text, float(at), at + more))
    made = seed(ledger, 1e6, items=items, chars=chars)

    assert len(made) <= items
    assert sum(len(item.text) for item in made) <= chars
    assert all(item.text.strip() for item in made)
    # Each is the end of what somebody said, each after the one before it; the summary stands in front of all.
    place = 0
    heard = [entry for entry in ledger.entries if not isinstance(entry, Line) or entry.text.strip()]
    for number, item in enumerate(made):
        if number == 0 and item.text.startswith("["):
            continue
        while not _is_told_by(heard[place], item.role, item.text):
            place += 1
        place += 1
    spoken = [(at, who, text) for at, (who, text, _) in enumerate(said) if who in (ANN, BEN) and text.strip()]
    recent = ledger.recent(1e6)
    if spoken and items and chars and any(entry.at == spoken[-1][0] for entry in recent):
        assert any((item.role == "user" and spoken[-1][2].strip().endswith(item.text.partition(": ")[2] or item.text))
                   or spoken[-1][2].strip().endswith(item.text) for item in made)  # fmt: skip


def _is_told_by(entry: Line | ToolUse, role: str, text: str) -> bool:
    if isinstance(entry, ToolUse):
        return role == "user" and WORDS.fact(entry).endswith(text)
    if entry.speaker is None:
        return role == "assistant" and entry.text.strip().endswith(text)
    return role == "user" and f"{entry.speaker}: {entry.text.strip()}".endswith(text)
