"""A session is fed in its own format; nothing said before it was ready is lost unnoticed."""

from __future__ import annotations

import msgspec
import numpy as np

from bridge.sessions.feed import FirstWords, SessionFeed
from providers.contract import SessionStart
from providers.signal.formats import PCM16_16K, PCM16_24K, PCMU_8K
from tests.fakes.hand_model import CAPABILITIES, HandSession


def a_feed(**changes: object) -> tuple[SessionFeed, HandSession]:
    session = HandSession(SessionStart(), msgspec.structs.replace(CAPABILITIES, **changes))
    return SessionFeed(session, bus=PCM16_24K, room=PCM16_24K), session


def test_the_bus_format_passes_untouched() -> None:
    feed, session = a_feed(input_formats=(PCM16_24K,))
    feed.hear(b"\1\2" * 480)
    assert bytes(session.heard) == b"\1\2" * 480
    assert session.heard_format == PCM16_24K


def test_the_model_gets_the_format_that_it_likes_best() -> None:
    feed, session = a_feed(input_formats=(PCM16_16K, PCM16_24K))
    feed.hear(bytes(960))
    assert session.heard_format == PCM16_16K


def test_another_rate_is_converted_without_holding_back() -> None:
    feed, session = a_feed(input_formats=(PCM16_16K,))
    for _ in range(10):
        feed.hear(bytes(960))
    assert len(session.heard) == 10 * 640
    assert session.heard_format == PCM16_16K


def test_a_phone_codec_is_encoded() -> None:
    feed, session = a_feed(input_formats=(PCMU_8K,))
    feed.hear(bytes(960))
    assert bytes(session.heard) == b"\xff" * 160


def test_model_speech_comes_in_the_format_of_the_room() -> None:
    feed, _ = a_feed(output_format=PCMU_8K)
    assert len(feed.speech("r1", b"\xff" * 160)) == 960


def test_speech_in_chunks_of_any_length_is_the_same_speech() -> None:
    speech = np.arange(-2000, 2000, dtype=np.int16).tobytes()
    whole, _ = a_feed(output_format=PCM16_16K)
    torn, _ = a_feed(output_format=PCM16_16K)
    expected = whole.speech("r1", speech)
    pieces = [speech[:1], b"", speech[1:2], speech[2:1001], speech[1001:]]
    assert b"".join(torn.speech("r1", piece) for piece in pieces) == expected


def test_half_a_sample_of_a_reply_does_not_spoil_the_next_one() -> None:
    feed, _ = a_feed(output_format=PCM16_16K)
    assert feed.speech("r1", b"\1") == b""
    assert len(feed.speech("r2", bytes(640))) == 960


def test_first_words_are_bounded_counted_and_taken_once() -> None:
    words = FirstWords(keep_ms=60, frame_ms=20)
    for value in range(5):
        words.keep(bytes([value]))
    assert [words.pop() for _ in range(len(words))] == [b"\2", b"\3", b"\4"]
    assert len(words) == 0
    assert (words.stats.first_words_kept_frames, words.stats.first_words_dropped_frames) == (5, 2)


def test_with_no_room_for_first_words_each_is_counted_as_dropped() -> None:
    words = FirstWords(keep_ms=0, frame_ms=20)
    words.keep(b"x")
    assert len(words) == 0
    assert words.stats.first_words_dropped_frames == 1


def test_what_is_on_its_way_to_a_session_is_bounded_by_a_minute() -> None:
    words = FirstWords(keep_ms=0, frame_ms=20)
    for _ in range(3010):
        words.queue(b"x")
    assert (len(words), words.stats.first_words_dropped_frames) == (3000, 10)
