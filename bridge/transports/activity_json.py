"""Tool calls and turn timelines as JSON, one object each: the same in a LiveKit room and in a direct call."""

from __future__ import annotations

from typing import Any

import msgspec

from bridge.core.words import Activity, ToolActivity

__all__ = ["activity_json", "activity_object"]


def activity_object(activity: Activity) -> dict[str, Any]:
    """What a client is shown: `type` is `tool` or `turn`, the other keys are the fields. Null: not known."""
    kind = "tool" if isinstance(activity, ToolActivity) else "turn"
    return {"type": kind, **msgspec.to_builtins(activity)}


def activity_json(activity: Activity) -> str:
    """The same as text."""
    return msgspec.json.encode(activity_object(activity)).decode()
