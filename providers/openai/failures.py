"""What OpenAI's errors mean for the session: read on, end and retry, or end and tell the operator.

The codes are merged from SDK clients and public reports; the service publishes no list. `type` and `code` are swapped
in some errors, so both are looked up.
"""

from __future__ import annotations

from providers.errors import ProviderError, ProviderRejected, ProviderUnavailable
from providers.openai.wire import ErrorBody

__all__ = ["closing_error", "code_of", "is_harmless", "is_of_setup", "session_ending_error", "setup_error"]

_FATAL = {
    "insufficient_quota": "see to the account's quota and billing",
    "credit_balance_exhausted": "add credit to the account",
    "billing_hard_limit_reached": "raise the account's spending limit",
    "account_deactivated": "the account was deactivated: ask OpenAI",
    "invalid_api_key": "set OPENAI_API_KEY to a valid key",
    "authentication_error": "set OPENAI_API_KEY to a valid key",
    "model_not_found": "set providers.openai.model to a model that the account may use",
    "beta_api_shape_disabled": "the endpoint speaks GA only: set providers.openai.base_url to a GA one",
}
"""Never retried, each with the mend. None of them is about one session's settings."""

_EXPIRED = "session_expired"

_PASSING = frozenset({"server_error", "rate_limit_exceeded", "inference_rate_limit_exceeded", "tokens"})
"""The service is busy, or we were too fast: worth another try later."""

_HARMLESS = frozenset(
    {
        "response_cancel_not_active",
        "input_audio_buffer_commit_empty",
        "item_truncate_invalid_item_id",
        "item_delete_invalid_item_id",
    }
)
"""Races of ours with the server that the conversation survives unchanged."""

_PASSING_WORDS = (_EXPIRED, "maximum duration")
"""In the reason of a close: the session's time was over, whatever the code (1001 is reported)."""

_REJECTING_CLOSE_CODES = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
"""Before the first reply: the same connection would end the same way. OpenAI's own list of codes worth a new
connection: 1001, 1005, 1006, 1011, 1012, 1013, 1015."""

_ACCOUNT_CLOSE_CODES = {3000: "set OPENAI_API_KEY to a valid key", 3003: "the key may not use this model or project"}
"""Unauthorized and forbidden, as IANA registers them."""


def code_of(error: ErrorBody) -> str:
    """One word for the error: its code, else its type."""
    return error.code or error.type or "unknown_error"


def is_harmless(error: ErrorBody) -> bool:
    """A race that changes nothing: worth a warning, not an error."""
    return error.code in _HARMLESS


def is_of_setup(error: ErrorBody, setup_id: str) -> bool:
    """Some servers do not name the event that they refuse; a line of the history can be told by its field."""
    return error.event_id == setup_id or (error.event_id is None and not (error.param or "").startswith("item"))


def session_ending_error(error: ErrorBody) -> ProviderError | None:
    """The error that ends the session, None when it goes on."""
    for word in (error.code, error.type):
        if word in _FATAL:
            return ProviderRejected(error.message or str(word), mend=_FATAL[word], endpoint_wide=True)
        if word == _EXPIRED:
            return ProviderUnavailable(error.message or "the session hit its maximum duration", code=1001)
    return None


def setup_error(error: ErrorBody, setting: str) -> ProviderError:
    """What a refused setup means. Args: setting is the one behind `error.param`, empty when none is named."""
    said = f"OpenAI refused the setup: {code_of(error)}: {error.message}"
    if error.type in _PASSING or error.code in _PASSING:
        return ProviderUnavailable(said)
    return ProviderRejected(said, mend=f"change {setting}" if setting else "")


def closing_error(code: int, reason: str, *, served: bool = False) -> ProviderError:
    """What a close frame of the server means. `served`: the model had begun a reply, so that the setup was sound."""
    said = f"OpenAI closed the connection with {code}: {reason or 'no reason given'}"
    for word, mend in _FATAL.items():
        if word in reason:
            return ProviderRejected(said, code=code, mend=mend, endpoint_wide=True)
    if any(word in reason for word in _PASSING_WORDS):
        return ProviderUnavailable(said, code=code)
    if code in _ACCOUNT_CLOSE_CODES:
        return ProviderRejected(said, code=code, mend=_ACCOUNT_CLOSE_CODES[code], endpoint_wide=True)
    if code in _REJECTING_CLOSE_CODES and not served:
        return ProviderRejected(said, code=code, mend="check the model, the key and the settings")
    return ProviderUnavailable(said, code=code)
