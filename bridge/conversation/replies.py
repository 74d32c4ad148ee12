"""What is known of the replies of a call, each set bounded: an end that nobody tells must not make them grow."""

from __future__ import annotations

__all__ = ["Replies"]

_KEPT = 64


class Replies:
    """Ordered sets of reply ids. Full: the oldest is forgotten."""

    def __init__(self) -> None:
        self.audible: dict[str, None] = {}
        """Sounding now: begun and not yet ended."""
        self.generating: dict[str, None] = {}
        """Of these more is to come."""
        self.with_content: dict[str, None] = {}
        """Something was said, written or called in these."""
        self.cut: dict[str, None] = {}
        """Silenced; nothing of these will sound again."""

    def started(self, reply_id: str) -> None:
        _add(self.generating, reply_id)

    def sounds(self, reply_id: str) -> None:
        _add(self.audible, reply_id)
        _add(self.with_content, reply_id)

    def silenced(self, reply_id: str) -> None:
        self.audible.pop(reply_id, None)
        _add(self.with_content, reply_id)
        _add(self.cut, reply_id)

    def has_content(self, reply_id: str) -> None:
        _add(self.with_content, reply_id)


def _add(ids: dict[str, None], reply_id: str) -> None:
    ids[reply_id] = None
    if len(ids) > _KEPT:
        del ids[next(iter(ids))]
