from __future__ import annotations

import base64

import pytest

from providers.gemini.wire import decode_base64, decode_message, duration_s

RAW = bytes(range(256)) * 3 + b"\xff"


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(RAW).decode(),
        base64.urlsafe_b64encode(RAW).decode(),
        base64.b64encode(RAW).decode().rstrip("="),
        base64.urlsafe_b64encode(RAW).decode().rstrip("="),
    ],
)
def test_both_alphabets_with_and_without_padding(text: str) -> None:
    assert decode_base64(text) == RAW


@pytest.mark.parametrize("text", ["####", "A", "ä"])
def test_what_is_no_base64_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        decode_base64(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("50s", 50.0), ("9.5s", 9.5), (None, None), ("soon", None), ("infs", None)]
)
def test_durations(text: str | None, seconds: float | None) -> None:
    assert duration_s(text) == seconds


def test_text_and_binary_frames_and_null_fields() -> None:
    text = '{"serverContent": {"interrupted": true, "modelTurn": null, "unknown": [1]}, "goAway": null}'
    for message in (text, text.encode()):
        decoded = decode_message(message)
        assert decoded.server_content is not None and decoded.server_content.interrupted
