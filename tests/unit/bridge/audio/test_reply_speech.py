"""Speech is taken in order, in pieces of any length, and once."""

from __future__ import annotations

import pytest

from bridge.audio.reply_speech import ReplySpeech


def speech(*chunks: bytes) -> ReplySpeech:
    reply = ReplySpeech("r1", 0.0)
    for chunk in chunks:
        reply.waiting.append(chunk)
        reply.waiting_bytes += len(chunk)
    return reply


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 12])
def test_what_was_given_in_chunks_is_taken_in_pieces(size: int) -> None:
    reply = speech(b"abc", b"defgh", b"ijkl")
    assert b"".join(reply.take(size) for _ in range(12 // size)) == b"abcdefghijkl"
    assert reply.waiting_bytes == 0


@pytest.mark.parametrize("taken", [1, 3, 5, 8])
def test_what_is_put_back_is_taken_again_first(taken: int) -> None:
    reply = speech(b"abc", b"defgh")
    reply.put_back(reply.take(taken))
    assert reply.waiting_bytes == 8
    assert reply.take(8) == b"abcdefgh"
