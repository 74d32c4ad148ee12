"""Speech without parsing: the messages of one reply differ in nothing but their base64.

Parsing an audio message costs three times what decoding its base64 does. So the bytes around the speech of one fully
parsed message are kept, and a message that begins and ends with just these, with nothing but base64 between, says the
same: the base64 stands inside the same string, where no character of its alphabet has a meaning for JSON. Whatever
differs in one byte goes the full way.
"""

from __future__ import annotations

import pybase64

__all__ = ["SpeechTemplate"]

_MIN_BASE64 = 64
"""Shorter data could stand elsewhere in the message by chance."""
_NEVER = b"\0"  # no JSON begins with it


class SpeechTemplate:
    """What stands before and after the speech in this connection's audio messages, once one was learned."""

    __slots__ = ("_head", "_head_size", "_tail", "_tail_size")

    def __init__(self) -> None:
        self._head = self._tail = _NEVER
        self._head_size = self._tail_size = 1

    def learn(self, message: str | bytes, data: str) -> None:
        """`message` says nothing but the speech `data`, as the full decoder read it. Text frames are not learned."""
        if not isinstance(message, bytes) or len(data) < _MIN_BASE64 or not data.isascii():
            return
        found = data.encode("ascii")
        if message.count(found) == 1:
            self._head, _, self._tail = message.partition(found)
            self._head_size, self._tail_size = len(self._head), len(self._tail)

    def speech(self, message: bytes) -> bytes | None:
        """The samples of a message of the learned shape: whole ones, at least one. None: parse it."""
        if not (message.startswith(self._head) and message.endswith(self._tail)):
            return None
        try:
            audio: bytes = pybase64.b64decode(message[self._head_size : -self._tail_size], validate=True)
        except ValueError:
            return None
        return audio if audio and not len(audio) & 1 else None
