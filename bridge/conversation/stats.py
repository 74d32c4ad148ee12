"""The counters of what a conversation decided and met."""

from __future__ import annotations

import msgspec

__all__ = ["ConversationStats"]


class ConversationStats(msgspec.Struct):
    """Plain integers; read a copy."""

    interruptions: int = 0
    """Speech that was cut."""
    protected: int = 0
    """Interruptions that a reply's policy did not allow (or not yet)."""
    short_speech: int = 0
    """Local speech that ended before it counted as an interruption."""
    replies: int = 0
    tool_calls: int = 0
    sessions_ended: int = 0
    """Leading sessions that closed, or passed the lead on."""
    empty_turns: int = 0
    """User turns that the provider closed without an answer."""
    unanswered_turns: int = 0
    """User turns after which nothing came for too long."""
    nudges: int = 0
    """Times that the model was asked again."""
    late_text: int = 0
    """Pieces of text for segments that were closed already."""
    abandoned_segments: int = 0
    """Segments closed because too many were open or nobody ended them."""
    forgotten_entries: int = 0
    """Lines and tool calls that the full record let go of."""
    split_segments: int = 0
    """Segments of replies that go on and on: closed in their midst, the rest follows in the next one."""
    dropped_text: int = 0
    """Pieces of text refused because far too much of the reply's text was waiting to be heard."""
    folded_entries: int = 0
    """Lines and tool calls that are no longer told word for word to a new session: they were folded into the digest."""
    summaries: int = 0
    """Summaries made by the application's `summarize`."""
    summaries_failed: int = 0
    """Times that it raised or took too long: the digest took its place."""
    unheard_replies: int = 0
    """Interrupted replies that the provider remembers beyond what was heard."""
    memory_repairs: int = 0
    """Notes given to the provider of what was heard of them."""
