from __future__ import annotations

import pytest

from providers.openai.tools import ToolLedger, output_text, parse_arguments


def test_the_model_goes_on_after_the_last_answer_and_the_end_of_the_response() -> None:
    ledger = ToolLedger()
    ledger.called("r", "a")
    ledger.called("r", "b")
    assert not ledger.answered("a", "rb_a", respond=True)
    assert not ledger.response_ended("r")
    assert ledger.answered("b", "rb_b", respond=True)


def test_answers_before_the_end_of_the_response_wait_for_it() -> None:
    ledger = ToolLedger()
    ledger.called("r", "a")
    assert not ledger.answered("a", "rb_a", respond=True)
    assert ledger.response_ended("r")
    assert not ledger.response_ended("r")


def test_one_answer_that_wants_a_reply_is_enough() -> None:
    ledger = ToolLedger()
    ledger.called("r", "a")
    ledger.called("r", "b")
    ledger.response_ended("r")
    ledger.answered("a", "rb_a", respond=True)
    assert ledger.answered("b", "rb_b", respond=False)


def test_a_call_is_known_once() -> None:
    ledger = ToolLedger()
    assert ledger.called("r", "a")
    assert not ledger.called("r", "a")
    ledger.answered("a", "rb_a", respond=True)
    assert not ledger.called("other", "a")
    assert ledger.is_answered("a")


def test_an_answer_to_an_unknown_call_stands_alone() -> None:
    assert ToolLedger().answered("from an earlier session", "rb_from", respond=True)


def test_batches_that_nobody_answers_are_forgotten() -> None:
    ledger = ToolLedger()
    for number in range(100):
        ledger.called(f"r{number}", f"c{number}")
    assert ledger.answered("c0", "rb_c0", respond=True)  # forgotten: as an unknown call
    assert not ledger.answered("c99", "rb_c99", respond=True)  # its response still runs


def test_of_calls_without_end_in_one_response_the_newest_are_waited_for() -> None:
    ledger = ToolLedger()
    for number in range(400):
        ledger.called("r", f"c{number}")
    ledger.response_ended("r")
    assert ledger.answered("c0", "rb_0", respond=True)  # forgotten: as an unknown call
    went_on = [ledger.answered(f"c{number}", f"rb_{number}", respond=True) for number in range(144, 400)]
    assert went_on == [False] * 255 + [True]


@pytest.mark.parametrize(
    ("text", "arguments"), [('{"a":1}', {"a": 1}), ("", {}), (" ", {}), ("[]", None), ("{", None), ("1", None)]
)
def test_arguments_are_an_object_or_nothing(text: str, arguments: object) -> None:
    assert parse_arguments(text) == arguments


def test_a_result_is_a_string_and_a_failure_says_so() -> None:
    assert output_text("fine", error=False) == "fine"
    assert output_text({"a": "é"}, error=False) == '{"a":"é"}'
    assert output_text("no such city", error=True) == '{"error":"no such city"}'


def test_a_refused_message_is_traced_to_the_call_that_it_answered_once() -> None:
    ledger = ToolLedger()
    ledger.answered("a", "rb_1", respond=True)
    assert [ledger.refused(event_id) for event_id in ("rb_2", None, "rb_1", "rb_1")] == ["", "", "a", ""]


def test_answers_without_end_are_kept_within_bounds() -> None:
    ledger = ToolLedger()
    for number in range(100):
        ledger.answered(f"c{number}", f"rb_{number}", respond=False)
    assert (ledger.refused("rb_0"), ledger.refused("rb_99")) == ("", "c99")
