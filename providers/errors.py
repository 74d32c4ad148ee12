"""What can go wrong with a speech model, by what the caller should do about it.

ProviderError
├── ProviderUnavailable     socket lost, server overloaded, stalled: back off and try again
│   ├── SetupTimeout        connected, but the provider did not get ready in time
│   └── ResumeTooSoon       the session's earlier connection seems to be open still: close it, ask again soon
├── ProviderRejected        key, model, quota or setup refused: do not retry, tell the operator which setting
├── ResumeRefused           the handle is expired or unknown: open a fresh session
├── NeedsNewSession         this change cannot be made in place: open a new session with it
├── SettingRefused          a setting that this provider or model cannot serve: found before anything is opened
└── SessionEnded            the session is closed; what was asked of it was not done
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence

__all__ = [
    "NeedsNewSession",
    "ProviderError",
    "ProviderRejected",
    "ProviderUnavailable",
    "ResumeRefused",
    "ResumeTooSoon",
    "SessionEnded",
    "SettingRefused",
    "SetupTimeout",
    "shown",
]

_brief = reprlib.Repr()
_brief.maxlevel, _brief.maxdict, _brief.maxlist, _brief.maxtuple = 4, 20, 20, 20
_brief.maxstring = _brief.maxlong = _brief.maxother = 300


def shown(value: object) -> str:
    """A refused value as an error shows it: short, however long or deep it is."""
    try:
        return _brief.repr(value)
    except ValueError:
        return "a number of thousands of digits"  # Python writes none


class ProviderError(Exception):
    """Base of everything that a speech model raises."""


class ProviderUnavailable(ProviderError):
    """Socket lost, server overloaded, or nothing heard for too long. Back off and resume; the room hears a pause."""

    def __init__(self, message: str, *, code: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        """WebSocket close code or HTTP status, when there was one."""
        self.retry_after_s = retry_after_s
        """The provider's own wish, when it named one."""


class SetupTimeout(ProviderUnavailable):
    """The connection opened, but the provider was not ready in time."""


class ResumeTooSoon(ProviderUnavailable):
    """Refused while the session's earlier connection is open (or so the service says). Close that one and ask again
    soon; if it stays so, a fresh session with the history needs no handle."""


class ProviderRejected(ProviderError):
    """Key, model, quota or setup refused. Do not retry; tell the operator which setting to mend."""

    def __init__(self, message: str, *, code: int | None = None, mend: str = "", endpoint_wide: bool = False) -> None:
        super().__init__(f"{message} ({mend})" if mend else message)
        self.code = code
        self.mend = mend
        """What the operator can do, in one sentence."""
        self.endpoint_wide = endpoint_wide
        """Key, quota, billing, model access, certificate: every session there is refused alike. False: it may be this
        session's own settings."""


class ResumeRefused(ProviderError):
    """The resumption handle is expired or unknown, or what it leads to does not live. Open a fresh session and seed it
    with what was heard."""


class NeedsNewSession(ProviderError):
    """The provider cannot change these in a running session."""

    def __init__(self, fields: Sequence[str]) -> None:
        super().__init__(f"cannot change {', '.join(fields)} in a running session: open a new one")
        self.fields = tuple(fields)


class SettingRefused(ProviderError):
    """A setting that the provider or model cannot serve. Raised before anything is opened."""

    def __init__(self, field: str, value: object, mend: str) -> None:
        super().__init__(f"{field} = {shown(value)}: {mend}")
        self.field = field
        """Path of the key as the configuration file spells it, such as `speech.voice`."""
        self.value = value
        self.mend = mend


class SessionEnded(ProviderError):
    """The session is closed; what was asked of it was not done."""
