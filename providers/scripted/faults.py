"""What can go wrong with an emulated or scripted connection: `[[faults]]` of a scenario, and one-shot faults of tests.

A timed fault strikes in a connection that was accepted, an upgrade fault takes the place of one, or of its set-up.
The server carries most of them out on the socket; a go-away, the end of the session and a used-up quota are said in the
vendor's own words.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "Abort",
    "Close",
    "Drop",
    "Duplicate",
    "Empty",
    "EndSession",
    "ExpireHandles",
    "Fault",
    "GoAway",
    "Malformed",
    "NoSetup",
    "Quota",
    "Refuse",
    "Stall",
    "TimedFault",
    "Unknown",
    "UpgradeFault",
    "is_timed",
    "refused_fault",
]

_Count = Annotated[int, Meta(ge=1)]
_UNSENDABLE = (1004, 1005, 1006, 1015)
"""Close codes that say what was seen, and never travel: RFC 6455 section 7.4.1."""


class _When(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """When a fault strikes: `at_s` after the setup, or as the answer to user turn `turn` would begin, or after
    `speech_ms` of reply `reply`. In a scenario exactly one of the three; a test that gives none means now."""

    at_s: Annotated[float, Meta(ge=0)] | None = None
    turn: _Count | None = None
    reply: _Count | None = None
    speech_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 0
    connection: _Count | None = None
    """Only on the n-th connection to this server. None: on each."""


class Close(_When, frozen=True, kw_only=True, tag="close"):
    """A close frame, in mid-word if need be."""

    code: Annotated[int, Meta(ge=1000, le=4999)] = 1011
    reason: Annotated[str, Meta(max_length=123)] = ""


class Abort(_When, frozen=True, kw_only=True, tag="abort"):
    """The TCP connection vanishes: the client sees 1006."""


class Stall(_When, frozen=True, kw_only=True, tag="stall"):
    """Nothing more is sent; what was due comes afterwards."""

    duration_s: Annotated[float, Meta(gt=0)] | None = None
    """None: for ever."""
    pongs: bool = False
    """True: pings are still answered and input is still read, as by a proxy in front of a dead service."""


class Malformed(_When, frozen=True, kw_only=True, tag="malformed"):
    """A frame that is no message."""

    text: str = '{"broken": '


class Empty(_When, frozen=True, kw_only=True, tag="empty"):
    """A frame with nothing in it."""

    text: Literal["", "{}"] = "{}"


class Unknown(_When, frozen=True, kw_only=True, tag="unknown"):
    """A well-formed message of a kind that nobody knows."""

    message: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "something.new", "somethingNew": {}})


class Duplicate(_When, frozen=True, kw_only=True, tag="duplicate"):
    """The newest frame comes a second time."""


class GoAway(_When, frozen=True, kw_only=True, tag="go_away"):
    """The end is announced, then it comes. OpenAI announces nothing: there the session just ends so much later."""

    time_left_s: Annotated[float, Meta(ge=0, le=3600)] = 10.0


class EndSession(_When, frozen=True, kw_only=True, tag="end_session"):
    """The session's time is over, as the vendor says it: OpenAI's `session_expired`, Gemini's expired deadline."""


class Quota(_When, frozen=True, kw_only=True, tag="quota"):
    """The account's quota is used up, as the vendor says it; the connection ends."""


class ExpireHandles(_When, frozen=True, kw_only=True, tag="expire_handles"):
    """Every resumption handle that was issued so far is refused from here on. The connection goes on."""


class Refuse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="refuse"):
    """The upgrade is answered with an HTTP status."""

    status: Annotated[int, Meta(ge=400, le=599)] = 503
    body: str = ""
    retry_after_s: Annotated[int, Meta(ge=0)] | None = None
    connection: _Count | None = None
    """Only the n-th connection. None: each."""


class Drop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="drop"):
    """The TCP connection vanishes instead of an answer to the upgrade."""

    connection: _Count | None = None
    """Only the n-th connection. None: each."""


class NoSetup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="no_setup"):
    """The connection is accepted, and nothing that the client says on it is ever answered. Pings are."""

    connection: _Count | None = None
    """Only the n-th connection. None: each."""


TimedFault = (
    Close
    | Abort
    | Stall
    | Malformed
    | Empty
    | Unknown
    | Duplicate
    | GoAway
    | EndSession
    | Quota
    | ExpireHandles
)  # fmt: skip
UpgradeFault = Refuse | Drop | NoSetup
Fault = TimedFault | UpgradeFault


def is_timed(fault: TimedFault) -> bool:
    """Does it say when it strikes? If not, it means now."""
    return not (fault.at_s is None and fault.turn is None and fault.reply is None)


def refused_fault(fault: Fault) -> tuple[str, object, str] | None:
    """What types cannot say of a scenario's fault: (rest of the field, value, mend), or None when it is sound."""
    if isinstance(fault, UpgradeFault):
        return None
    given = [key for key in ("at_s", "turn", "reply") if getattr(fault, key) is not None]
    if len(given) != 1:
        return "", given, "give exactly one of at_s, turn and reply"
    if fault.speech_ms and fault.reply is None:
        return ".speech_ms", fault.speech_ms, "say of which reply, too"
    if isinstance(fault, Close) and fault.code in _UNSENDABLE:
        return ".code", fault.code, 'cannot be sent in a close frame: use kind = "abort" for 1006'
    return None
