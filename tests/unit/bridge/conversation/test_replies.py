"""Sets of replies that cannot grow without end."""

from __future__ import annotations

from bridge.conversation.replies import Replies


def test_replies_whose_end_nobody_tells_are_forgotten_at_last() -> None:
    replies = Replies()
    for n in range(1000):
        replies.started(str(n))
        replies.sounds(str(n))
    assert len(replies.generating) == len(replies.audible) == len(replies.with_content) == 64
    assert "999" in replies.generating
