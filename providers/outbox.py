"""What waits for a slow connection: one order, audio that may be dropped, messages that may not."""

from __future__ import annotations

from collections import deque

from providers.contract import OutboxStats

__all__ = ["AudioOutbox", "OutboxFull"]


class OutboxFull(Exception):
    """More messages that must not be lost are waiting than a living connection could leave behind."""


class AudioOutbox:
    """Messages waiting for the writer, in order. Full of audio: the oldest goes and `OutboxStats` counts it.

    Other messages are never dropped: beyond their own bound `push` raises OutboxFull, because the connection is dead.
    The newest audio message always stays, even when it alone is longer than the bound.
    """

    def __init__(
        self, limit_ms: float, stats: OutboxStats, *, max_messages: int = 1024, max_bytes: int = 64 * 1024 * 1024
    ) -> None:
        self.stats = stats
        self._limit_ms = limit_ms
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        # Two queues, each message numbered: the oldest audio is found without a search, and the order is kept.
        self._audio: deque[tuple[int, bytes, float]] = deque()
        self._messages: deque[tuple[int, bytes]] = deque()
        self._message_bytes = 0
        self._next = 0

    def __len__(self) -> int:
        return len(self._audio) + len(self._messages)

    @property
    def waiting_ms(self) -> float:
        """Audio waiting, ms."""
        return self.stats.waiting_audio_ms

    def push(self, message: bytes) -> None:
        """Queue a message that must arrive. Raises OutboxFull beyond the bound."""
        if len(self._messages) >= self._max_messages or self._message_bytes + len(message) > self._max_bytes:
            raise OutboxFull(f"{len(self._messages)} messages, {self._message_bytes} bytes are waiting")
        self._messages.append((self._next, message))
        self._message_bytes += len(message)
        self._next += 1

    def push_audio(self, message: bytes, duration_ms: float) -> None:
        """Queue a message that carries `duration_ms` of audio; the oldest audio makes room for it."""
        self._audio.append((self._next, message, duration_ms))
        self._next += 1
        self.stats.waiting_audio_ms += duration_ms
        while self.stats.waiting_audio_ms > self._limit_ms and len(self._audio) > 1:
            self._drop_oldest()

    def pop(self) -> bytes:
        """Take the oldest message, counted as sent. Raises IndexError when nothing waits."""
        if self._audio and (not self._messages or self._audio[0][0] < self._messages[0][0]):
            _, message, duration_ms = self._audio.popleft()
            self.stats.waiting_audio_ms = self.stats.waiting_audio_ms - duration_ms if self._audio else 0.0
            self.stats.sent_audio_ms += duration_ms
        else:
            _, message = self._messages.popleft()
            self._message_bytes -= len(message)
        self.stats.sent_messages += 1
        return message

    def drop_all(self) -> None:
        """The connection is gone: everything waiting is given up, and counted."""
        while self._audio:
            self._drop_oldest()
        self.stats.unsent_messages += len(self._messages)
        self._messages.clear()
        self._message_bytes = 0

    def _drop_oldest(self) -> None:
        _, _, duration_ms = self._audio.popleft()
        # An empty queue is exactly 0 ms: rounding must not add up over a long call.
        self.stats.waiting_audio_ms = self.stats.waiting_audio_ms - duration_ms if self._audio else 0.0
        self.stats.dropped_audio_messages += 1
        self.stats.dropped_audio_ms += duration_ms
