"""Checks frames against the event types of the official openai SDK, with keys that it does not know forbidden.

The SDK's models accept any further key as it is, so a misspelt field would pass them; pydantic's `extra="forbid"` at
validation overrides that at every depth. Free-form parts (`tools[].parameters`, `metadata`) are typed `object` there.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, get_args

from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent, RealtimeSessionCreateResponse
from pydantic import BaseModel, TypeAdapter

__all__ = ["check_client_frame", "check_server_frame"]

_SESSION_ONLY = ("id", "object", "expires_at")
"""The service sends them; the SDK's session.created reuses the request type, which lacks them. They are checked
against the SDK's RealtimeSessionCreateResponse instead."""


@cache
def _kinds(union: Any) -> dict[str, type[BaseModel]]:
    members = get_args(get_args(union)[0])
    return {get_args(member.model_fields["type"].annotation)[0]: member for member in members}


def _check(union: Any, event: dict[str, Any]) -> None:
    kind = _kinds(union)[event["type"]]
    parsed = TypeAdapter(kind).validate_python(event, extra="forbid")
    kept = parsed.model_dump(mode="json", exclude_unset=True)
    assert kept == event, f"lost or changed by {kind.__name__}: {event} became {kept}"


def check_client_frame(frame: str | bytes) -> dict[str, Any]:
    """The event, if the SDK accepts and keeps every key of it. Raises: ValidationError, KeyError, AssertionError."""
    event: dict[str, Any] = json.loads(frame)
    _check(RealtimeClientEvent, event)
    return event


def check_server_frame(frame: str | bytes) -> dict[str, Any]:
    """As `check_client_frame`, for what a server sends."""
    event: dict[str, Any] = json.loads(frame)
    if event["type"] not in ("session.created", "session.updated"):
        _check(RealtimeServerEvent, event)
        return event
    session = event["session"]
    _check(RealtimeServerEvent, {**event, "session": {k: v for k, v in session.items() if k not in _SESSION_ONLY}})
    answer = {key: value for key, value in session.items() if key != "parallel_tool_calls"}
    TypeAdapter(RealtimeSessionCreateResponse).validate_python(answer, extra="forbid")
    return event
