"""A session is fed in its own format; nothing said before it was ready is lost unnoticed."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import pytest

from bridge.sessions.feed import SessionFeed
from providers.contract import SessionStart
from providers.signal.formats import PCM16_16K, PCM16_24K, PCMU_8K, AudioFormat
from tests.fakes.hand_model import CAPABILITIES, HandSession


def a_feed(quality: Literal["fir", "soxr"] = "fir", **changes: object) -> tuple[SessionFeed, HandSession]:
    session = HandSession(SessionStart(), msgspec.structs.replace(CAPABILITIES, **changes))
    return SessionFeed(session, bus=PCM16_24K, room=PCM16_24K, quality=quality), session


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


NOISE = np.random.default_rng(7).integers(-8000, 8000, 24_000 * 2, dtype=np.int16).tobytes()
FRAMES = [NOISE[start : start + 960] for start in range(0, len(NOISE), 960)]


def joined_and_uninterrupted(quality: Literal["fir", "soxr"], format: AudioFormat) -> tuple[bytes, bytes]:
    whole, uninterrupted = a_feed(quality, input_formats=(format,))
    first, until = a_feed(quality, input_formats=(format,))
    second, since = a_feed(quality, input_formats=(format,))
    for place, frame in enumerate(FRAMES):
        whole.hear(frame)
        if place == 37:
            second.take_over(first, FRAMES[27:37])
        (first if place < 37 else second).hear(frame)
    return bytes(until.heard) + bytes(since.heard), bytes(uninterrupted.heard)


@pytest.mark.parametrize("format", [PCM16_16K, PCM16_24K, PCMU_8K], ids=["16 kHz", "untouched", "phone"])
def test_two_sessions_in_a_row_get_the_very_samples_that_one_would_have_got(format: AudioFormat) -> None:
    joined, uninterrupted = joined_and_uninterrupted("fir", format)
    assert joined == uninterrupted


def test_two_sessions_in_a_row_get_what_one_would_have_got_by_soxr_too() -> None:
    joined, uninterrupted = joined_and_uninterrupted("soxr", PCM16_16K)
    apart = np.frombuffer(joined, np.int16).astype(int) - np.frombuffer(uninterrupted, np.int16)
    assert np.abs(apart).max() <= 2  # soxr dithers: no two of its streams are equal


def test_a_session_in_another_format_begins_with_a_warm_filter() -> None:
    whole, uninterrupted = a_feed(input_formats=(PCM16_16K,))
    first, _ = a_feed(input_formats=(PCM16_24K,))
    second, since = a_feed(input_formats=(PCM16_16K,))
    for frame in FRAMES[:37]:
        whole.hear(frame)
    second.take_over(first, FRAMES[27:37])
    before = len(uninterrupted.heard)
    for frame in FRAMES[37:50]:
        whole.hear(frame)
        second.hear(frame)
    assert bytes(since.heard) == bytes(uninterrupted.heard)[before:]


def test_after_a_jump_the_filter_knows_nothing_of_what_came_before() -> None:
    jumping, heard = a_feed(input_formats=(PCM16_16K,))
    fresh, expected = a_feed(input_formats=(PCM16_16K,))
    jumping.hear(FRAMES[0])
    jumping.start_anew()
    for feed in (jumping, fresh):
        feed.hear(FRAMES[5])
    assert bytes(heard.heard)[640:] == bytes(expected.heard)


def test_whose_stream_was_taken_over_hears_on_by_a_filter_of_its_own() -> None:
    first, heard = a_feed(input_formats=(PCM16_16K,))
    second, _ = a_feed(input_formats=(PCM16_16K,))
    fresh, expected = a_feed(input_formats=(PCM16_16K,))
    first.hear(FRAMES[0])
    second.take_over(first, ())
    second.hear(FRAMES[1])
    first.hear(FRAMES[2])
    fresh.hear(FRAMES[2])
    assert bytes(heard.heard)[640:] == bytes(expected.heard)
