"""What a close code with its reason means, and what to do about it. The reason carries the only diagnosis."""

from __future__ import annotations

import re

import msgspec

from providers.errors import ProviderError, ProviderRejected, ProviderUnavailable, ResumeRefused, ResumeTooSoon

__all__ = ["close_error"]


class _Rule(msgspec.Struct, frozen=True):
    code: int
    pattern: str
    mend: str
    """Empty: try again."""
    endpoint_wide: bool = False
    """See `ProviderRejected.endpoint_wide`."""


_TABLE = (
    _Rule(1007, r"API key not valid", "set GOOGLE_API_KEY or GEMINI_API_KEY to a valid key", endpoint_wide=True),
    _Rule(1007, r"API key expired", "renew the API key", endpoint_wide=True),
    _Rule(1007, r"Unknown name", "this API version lacks the field: set providers.gemini.api_version or leave it out"),
    _Rule(1007, r"Cannot extract voices|response modalities", 'set speech.modality = "audio"'),
    _Rule(1007, r"[Tt]hinking level", "set speech.thinking as the model needs it"),
    _Rule(1007, r"scheduling is not supported", "leave out providers.gemini.tool_scheduling"),
    _Rule(1007, r"BLOCKING function calls are not supported", "declare the tools with blocking = false"),
    _Rule(
        1008,
        r"is not found for API version",
        "check providers.gemini.model and providers.gemini.api_version",
        endpoint_wide=True,
    ),
    _Rule(
        1008,
        r"Publisher Model|entity was not found",
        "check providers.gemini.model, project and location",
        endpoint_wide=True,
    ),
    _Rule(1008, r"is not implemented, or supported, or enabled", ""),
    _Rule(
        1008,
        r"(?i)ephemeral|auth_token|token (has |is )?(been )?(expired|used|invalid|consumed)",
        "make a new ephemeral token: this one is expired or used up",
        endpoint_wide=True,
    ),
    _Rule(
        1008,
        r"(?i)unregistered callers|authentication credentials",
        "set GOOGLE_API_KEY or GEMINI_API_KEY, or renew the Google credentials",
        endpoint_wide=True,
    ),
    _Rule(1008, r"(?i)permission|denied", "check what the key or account may do", endpoint_wide=True),
    _Rule(1011, r"(?i)quota|billing", "check plan and billing; Google Search needs a paid plan", endpoint_wide=True),
)
_BAD_REQUEST = "check the settings against the model; a full context without compression ends like this too"
_TOO_BIG = "the setup is too large: shorten speech.instructions, the tools, or the cloned voice's sample"
_SETTINGS_CODES = frozenset({1003, 1007, 1008})
_RESUME_CODES = frozenset({1007, 1008})


def close_error(code: int, reason: str, *, ready: bool, resumed: bool, served: bool = False) -> ProviderError:
    """The error for a connection that the service (or the network) ended.

    Args: `ready`: the setup had been accepted. `resumed`: this session was opened with a resumption handle.
    `served`: the model had begun a reply in it.
    """
    text = f"Gemini closed the session: {code} {reason or '(no reason)'}"
    if not ready and resumed and code in _RESUME_CODES and "API key" not in reason:
        # Whatever it says, a fresh session either works or names its own fault.
        return ResumeRefused(f"{text}: the handle is expired or unknown")
    rule = next((rule for rule in _TABLE if rule.code == code and re.search(rule.pattern, reason)), None)
    if rule is not None:
        if rule.mend:
            return ProviderRejected(text, code=code, mend=rule.mend, endpoint_wide=rule.endpoint_wide)
        return ProviderUnavailable(text, code=code)
    if code in _SETTINGS_CODES:
        if served:
            # Not the settings, then: one message of ours, or a context that is full. Resume; and if the session that
            # the handle leads to ends like this again, the next lines give it up.
            return ProviderUnavailable(text, code=code)
        if resumed:
            return ResumeRefused(f"{text}: what the handle leads to does not live")
        return ProviderRejected(text, code=code, mend=_BAD_REQUEST)
    if code == 1009 and not ready:
        return ProviderRejected(text, code=code, mend=_TOO_BIG)
    if code == 1011 and resumed and not ready and not re.search(_OVERLOADED, reason):
        # Either the service failed, or the session's earlier connection is open: it has one text for both.
        hint = "perhaps the session's earlier connection is still open: close it first"
        return ResumeTooSoon(f"{text}: {hint}", code=code, retry_after_s=_TOO_SOON_S)
    # 1000, 1006, 1011 and the rest: the end of a connection, or an overloaded service. All of them pass.
    return ProviderUnavailable(text, code=code)


_OVERLOADED = r"currently unavailable|Deadline expired"
_TOO_SOON_S = 0.25
"""The service notices the end of a connection that was closed in good order within a round trip or two."""
