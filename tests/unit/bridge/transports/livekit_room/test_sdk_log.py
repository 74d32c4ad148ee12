"""What the LiveKit SDK may log."""

from __future__ import annotations

import logging

import pytest

from bridge.transports.livekit_room.sdk_log import redact_tokens


def test_tokens_never_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
    with caplog.at_level(logging.ERROR, logger="livekit"):
        logging.getLogger("livekit").error("refused: %s", f"invalid token: {token}, go away")
    assert "invalid token: [token], go away" in caplog.text
    assert redact_tokens(f"a {token} b") == "a [token] b"
    assert redact_tokens(token.replace("J9.", "J9==.")) == "[token]"


def test_the_sdks_alarm_about_nothing_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="livekit"):
        logging.getLogger("livekit").warning("server:279 - Attempted to drop unknown FFI handle: %d", 16)
        logging.getLogger("livekit").warning("another matter")
    assert [record.message for record in caplog.records] == ["another matter"]
