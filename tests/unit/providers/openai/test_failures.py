from __future__ import annotations

import pytest

from providers.errors import ProviderRejected, ProviderUnavailable
from providers.openai.failures import closing_error, code_of, is_harmless, session_ending_error, setup_error
from providers.openai.wire import ErrorBody


@pytest.mark.parametrize("word", ["insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"])
def test_a_fatal_word_counts_as_code_and_as_type(word: str) -> None:
    for error in (ErrorBody(code=word), ErrorBody(type=word, code="else")):
        ending = session_ending_error(error)
        assert isinstance(ending, ProviderRejected)
        assert ending.mend


def test_an_expired_session_may_be_replaced() -> None:
    assert isinstance(session_ending_error(ErrorBody(code="session_expired")), ProviderUnavailable)


def test_other_errors_leave_the_session_open() -> None:
    assert session_ending_error(ErrorBody(type="invalid_request_error", code="invalid_value")) is None
    assert session_ending_error(ErrorBody(type="server_error")) is None


@pytest.mark.parametrize("error", [{"type": "tokens"}, {"code": "rate_limit_exceeded"}, {"type": "server_error"}])
def test_a_setup_refused_because_the_service_is_busy_is_worth_another_try(error: dict[str, str]) -> None:
    assert isinstance(setup_error(ErrorBody(**error), ""), ProviderUnavailable)
    assert isinstance(setup_error(ErrorBody(type="invalid_request_error", code="invalid_value"), ""), ProviderRejected)


def test_races_are_harmless_and_mistakes_are_not() -> None:
    assert is_harmless(ErrorBody(code="item_truncate_invalid_item_id"))
    assert not is_harmless(ErrorBody(code="invalid_value"))


def test_an_error_has_a_name_even_without_a_code() -> None:
    assert code_of(ErrorBody(type="server_error")) == "server_error"
    assert code_of(ErrorBody()) == "unknown_error"


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1011, 1012, 1013, 1015, 4000])
def test_most_ends_are_worth_a_new_connection(code: int) -> None:
    assert isinstance(closing_error(code, ""), ProviderUnavailable)


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003])
def test_some_ends_would_come_again(code: int) -> None:
    assert isinstance(closing_error(code, "why"), ProviderRejected)


def test_the_reason_may_be_fatal_whatever_the_code() -> None:
    assert isinstance(closing_error(4000, "invalid_request_error.beta_api_shape_disabled"), ProviderRejected)


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009])
def test_after_a_reply_the_settings_are_not_to_blame(code: int) -> None:
    assert isinstance(closing_error(code, "why", served=True), ProviderUnavailable)


@pytest.mark.parametrize("code", [3000, 3003])
def test_who_may_not_come_in_is_told_so_at_any_time(code: int) -> None:
    error = closing_error(code, "", served=True)
    assert isinstance(error, ProviderRejected) and error.endpoint_wide and error.mend


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1001, "Your session hit the maximum duration of 60 minutes."),
        (1008, "session_expired"),
        (1000, "Your session hit the maximum duration of 30 minutes."),
    ],
)
def test_the_end_of_a_sessions_time_is_worth_a_new_one_whatever_the_code(code: int, reason: str) -> None:
    assert isinstance(closing_error(code, reason), ProviderUnavailable)


@pytest.mark.parametrize(
    "word",
    [
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_hard_limit_reached",
        "account_deactivated",
        "invalid_api_key",
        "authentication_error",
        "model_not_found",
        "beta_api_shape_disabled",
    ],
)
def test_what_refuses_every_session_alike(word: str) -> None:
    for error in (session_ending_error(ErrorBody(code=word)), closing_error(1008, f"refused: {word}", served=True)):
        assert isinstance(error, ProviderRejected) and error.endpoint_wide and error.mend
