"""What a close code with its reason means, and what to do about it. The reason carries the only diagnosis."""

from __future__ import annotations

import re

import msgspec

from providers.errors import ProviderError, ProviderRejected, ProviderUnavailable, ResumeRefused

__all__ = ["close_error"]


class _Rule(msgspec.Struct, frozen=True):
    code: int
    pattern: str
    mend: str
    """Empty: try again."""


_TABLE = (
    _Rule(1007, r"API key not valid", "set GOOGLE_API_KEY or GEMINI_API_KEY to a valid key"),
    _Rule(1007, r"API key expired", "renew the API key"),
    _Rule(1007, r"Unknown name", "this API version lacks the field: set providers.gemini.api_version or leave it out"),
    _Rule(1007, r"Cannot extract voices|response modalities", 'set speech.modality = "audio"'),
    _Rule(1007, r"[Tt]hinking level", "set speech.thinking as the model needs it"),
    _Rule(1007, r"scheduling is not supported", "leave out providers.gemini.tool_scheduling"),
    _Rule(1007, r"BLOCKING function calls are not supported", "declare the tools with blocking = false"),
    _Rule(1008, r"is not found for API version", "check providers.gemini.model and providers.gemini.api_version"),
    _Rule(1008, r"Publisher Model|entity was not found", "check providers.gemini.model, project and location"),
    _Rule(1008, r"is not implemented, or supported, or enabled", ""),
    _Rule(
        1008,
        r"(?i)ephemeral|auth_token|token (has |is )?(been )?(expired|used|invalid|consumed)",
        "make a new ephemeral token: this one is expired or used up",
    ),
    _Rule(1008, r"(?i)permission|denied", "check what the key or account may do"),
    _Rule(1011, r"(?i)quota|billing", "check plan and billing; Google Search needs a paid plan"),
)
_BAD_REQUEST = "check the settings against the model; a full context without compression ends like this too"
_SETTINGS_CODES = frozenset({1003, 1007, 1008})
_RESUME_CODES = frozenset({1007, 1008})


def close_error(code: int, reason: str, *, ready: bool, resumed: bool) -> ProviderError:
    """The error for a connection that the service (or the network) ended.

    `ready`: the setup had been accepted. `resumed`: this session was opened with a resumption handle.
    """
    text = f"Gemini closed the session: {code} {reason or '(no reason)'}"
    if not ready and resumed and code in _RESUME_CODES and "API key" not in reason:
        # Whatever it says, a fresh session either works or names its own fault.
        return ResumeRefused(f"{text}: the handle is expired or unknown")
    rule = next((rule for rule in _TABLE if rule.code == code and re.search(rule.pattern, reason)), None)
    if rule is not None:
        if rule.mend:
            return ProviderRejected(text, code=code, mend=rule.mend)
        return ProviderUnavailable(text, code=code)
    if code in _SETTINGS_CODES:
        return ProviderRejected(text, code=code, mend=_BAD_REQUEST)
    # 1000, 1006, 1011 and the rest: the end of a connection, an overloaded service, or a resume while the earlier
    # socket of the session was still open. All of them pass.
    return ProviderUnavailable(text, code=code)
