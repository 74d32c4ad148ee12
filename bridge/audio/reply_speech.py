"""The speech of one reply: what waits for the sink, and how much of it was generated, pushed and heard."""

from __future__ import annotations

from collections import deque

__all__ = ["ReplySpeech"]


class ReplySpeech:
    """Sizes are in bytes. Plain fields, for the playout's use alone."""

    __slots__ = (
        "audible",
        "dry_since",
        "end",
        "fade_in",
        "finished",
        "first_at",
        "generated",
        "head",
        "heard",
        "id",
        "late_ms",
        "longest",
        "pushed",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self, id: str, now: float) -> None:
        self.id = id
        self.waiting: deque[bytes] = deque()
        self.head = 0  # bytes of waiting[0] that are gone already
        self.waiting_bytes = 0
        self.generated = 0
        self.pushed = 0
        self.heard = 0
        self.finished = False
        self.audible = False
        self.end = b""  # the newest sound in the sink
        self.fade_in = False
        self.dry_since: float | None = None
        self.first_at = now
        self.late_ms = 0.0  # the worst, against real time since `first_at`
        self.longest = 0  # chunk, bytes

    def take(self, size: int) -> bytes:
        """The next `size` waiting bytes; there must be as many."""
        self.waiting_bytes -= size
        first = self.waiting[0]
        if self.head == 0 and len(first) == size:
            return self.waiting.popleft()
        if len(first) - self.head > size:
            piece = first[self.head : self.head + size]
            self.head += size
            return piece
        pieces = []
        while size:
            first = self.waiting[0]
            piece = first[self.head : self.head + size]
            size -= len(piece)
            self.head += len(piece)
            if self.head == len(first):
                self.waiting.popleft()
                self.head = 0
            pieces.append(piece)
        return b"".join(pieces)

    def put_back(self, speech: bytes) -> None:
        """Speech that was taken, and is to be taken again before all else."""
        if self.head:
            self.waiting[0] = self.waiting[0][self.head :]
            self.head = 0
        self.waiting.appendleft(speech)
        self.waiting_bytes += len(speech)
