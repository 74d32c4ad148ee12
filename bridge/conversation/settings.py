"""How a call is led."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from bridge.conversation.answers import AnswerSettings
from bridge.conversation.barge_in import BargeInSettings
from bridge.conversation.memory_settings import MemorySettings

__all__ = ["ConversationSettings"]


class ConversationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a call is led."""

    greeting: str | None = None
    """What the model is asked to open with, once somebody is there. None: it waits to be spoken to."""
    barge_in: BargeInSettings = BargeInSettings()
    answers: AnswerSettings = AnswerSettings()
    memory: MemorySettings = MemorySettings()
    captions_wait_ms: Annotated[int, Meta(ge=0, le=5000)] = 600
    """The captions of an answer wait this long for the words that it answers, ms."""
    thinking_limit_s: Annotated[float, Meta(ge=1, le=600)] = 20.0
    """The state `thinking` ends after this long without a sign of the model, s."""
    user_limit_s: Annotated[float, Meta(ge=5, le=3600)] = 60.0
    """The user's turn ends after this long without a sign of him, s."""
    ledger_entries: Annotated[int, Meta(ge=10, le=100_000)] = 1000
    """Lines and tool calls remembered. Full: the oldest goes and is counted."""
