"""Every close that the service is known for, and what the operator is told."""

from __future__ import annotations

import pytest

from providers.errors import ProviderRejected, ProviderUnavailable, ResumeRefused, ResumeTooSoon
from providers.gemini.closes import close_error


@pytest.mark.parametrize(
    ("code", "reason", "mend"),
    [
        (1007, "API key not valid. Please pass a valid API key.", "GOOGLE_API_KEY"),
        (1007, "API key expired. Please renew the API key.", "renew the API key"),
        (1007, "Invalid JSON payload received. Unknown name \"x\" at 'setup'", "api_version"),
        (1007, "Cannot extract voices from a non-audio request", "speech.modality"),
        (1007, "The requested combination of response modalities (TEXT) is not supported", "speech.modality"),
        (1007, "Thinking level must be specified for this model.", "speech.thinking"),
        (1007, "Thinking level is not supported for this model", "speech.thinking"),
        (1007, "Function response scheduling is not supported for this model.", "tool_scheduling"),
        (1007, "BLOCKING function calls are not supported for this model", "blocking = false"),
        (1007, "Request contains an invalid argument.", "context"),
        (1008, "models/X is not found for API version v1, or is not supported for bidi", "providers.gemini.model"),
        (1008, "Publisher Model `x` was not found or your project does not have access", "project and location"),
        (1008, "Requested entity was not found.", "project and location"),
        (1008, "Ephemeral token is invalid or expired.", "new ephemeral token"),
        (1008, "Permission denied on resource", "may do"),
        (1008, "Method doesn't allow unregistered callers (callers without established identity).", "GOOGLE_API_KEY"),
        (1008, "Request had invalid authentication credentials.", "GOOGLE_API_KEY"),
        (1009, "message too big", "setup is too large"),
        (1011, "You exceeded your current quota, please check your plan and billing details.", "billing"),
    ],
)
def test_what_the_operator_has_to_mend(code: int, reason: str, mend: str) -> None:
    error = close_error(code, reason, ready=False, resumed=False)
    assert type(error) is ProviderRejected and error.code == code
    assert mend in error.mend and mend in str(error) and reason in str(error)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, ""),
        (1001, "going away"),
        (1006, ""),
        (1008, "Operation is not implemented, or supported, or enabled."),
        (1011, "Internal error encountered."),
        (1011, "Internal error occurred."),
        (1011, "Deadline expired before operation could complete."),
        (1011, "The service is currently unavailable."),
        (1012, "service restart"),
        (1013, "try again later"),
    ],
)
def test_what_passes_by_itself(code: int, reason: str) -> None:
    error = close_error(code, reason, ready=True, resumed=False)
    assert type(error) is ProviderUnavailable and error.code == code


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1007, "API key not valid. Please pass a valid API key."),
        (1007, "API key expired. Please renew the API key."),
        (1008, "models/X is not found for API version v1, or is not supported for bidi"),
        (1008, "Ephemeral token is invalid or expired."),
        (1008, "Permission denied on resource"),
        (1011, "You exceeded your current quota, please check your plan and billing details."),
    ],
)
def test_what_refuses_every_session_alike(code: int, reason: str) -> None:
    error = close_error(code, reason, ready=False, resumed=False)
    assert isinstance(error, ProviderRejected) and error.endpoint_wide


def test_a_setting_of_one_session_says_nothing_of_the_others() -> None:
    error = close_error(1007, "Thinking level must be specified for this model.", ready=False, resumed=False)
    assert isinstance(error, ProviderRejected) and not error.endpoint_wide


INVALID = "Request contains an invalid argument."


@pytest.mark.parametrize("code", [1003, 1007, 1008])
@pytest.mark.parametrize(
    ("ready", "resumed", "served", "kind"),
    [
        (False, False, False, ProviderRejected),  # the setup
        (True, False, False, ProviderRejected),  # the setup, noticed at the first input
        (True, False, True, ProviderUnavailable),  # one message of many: resume
        (True, True, True, ProviderUnavailable),
        (True, True, False, ResumeRefused),  # what the handle leads to does not live
    ],
)
def test_an_invalid_argument_is_the_setups_fault_only_before_the_first_reply(
    code: int, ready: bool, resumed: bool, served: bool, kind: type[Exception]
) -> None:
    assert type(close_error(code, INVALID, ready=ready, resumed=resumed, served=served)) is kind


@pytest.mark.parametrize("reason", ["Requested entity was not found.", INVALID, "handle has expired", ""])
@pytest.mark.parametrize("code", [1007, 1008])
def test_whatever_a_resume_is_refused_for_a_fresh_session_may_do(code: int, reason: str) -> None:
    assert type(close_error(code, reason, ready=False, resumed=True)) is ResumeRefused


def test_a_bad_key_is_not_the_handles_fault() -> None:
    error = close_error(1007, "API key not valid. Please pass a valid API key.", ready=False, resumed=True)
    assert type(error) is ProviderRejected


def test_an_operation_not_implemented_is_tried_once_more_with_the_handle() -> None:
    reason = "Operation is not implemented, or supported, or enabled."
    assert type(close_error(1008, reason, ready=True, resumed=False)) is ProviderUnavailable
    assert type(close_error(1008, reason, ready=False, resumed=True)) is ResumeRefused, "the second time"


def test_a_resume_beside_the_open_connection_is_worth_another_try_soon() -> None:
    error = close_error(1011, "Internal error encountered.", ready=False, resumed=True)
    assert type(error) is ResumeTooSoon
    assert error.retry_after_s is not None and error.retry_after_s < 1
    assert "close it first" in str(error)
    assert type(close_error(1011, "Internal error encountered.", ready=True, resumed=True)) is ProviderUnavailable
    busy = close_error(1011, "The service is currently unavailable.", ready=False, resumed=True)
    assert type(busy) is ProviderUnavailable, "that has nothing to do with the earlier connection"


def test_a_picture_that_is_too_big_does_not_end_the_call() -> None:
    assert type(close_error(1009, "message too big", ready=True, resumed=False)) is ProviderUnavailable
