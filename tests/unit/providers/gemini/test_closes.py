"""Every close that the service is known for, and what the operator is told."""

from __future__ import annotations

import pytest

from providers.errors import ProviderRejected, ProviderUnavailable
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
