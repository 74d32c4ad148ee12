from __future__ import annotations

import pytest

from bridge.core.errors import RoomRejected
from bridge.transports.livekit_room.refusal import refusal
from bridge.transports.livekit_room.settings import LiveKitSettings

SETTINGS = LiveKitSettings(url="ws://host:1", room="lobby")


@pytest.mark.parametrize(
    ("message", "field", "final"),
    [
        ("signal failure: client error: 401 Unauthorized - invalid token: [token]", "LIVEKIT_TOKEN", True),
        ("signal failure: client error: 401 Unauthorized - permissions denied", "LIVEKIT_TOKEN", True),
        ("signal failure: client error: 404 Not Found - requested room does not exist", "livekit.room", True),
        ("signal failure: client error: 404 Not Found - ", "livekit.url", True),
        ("signal failure: transport connection error: IO error: Connection refused", "livekit.url", False),
        ("signal failure: server error: 503", "livekit.url", False),
    ],
)
def test_what_the_server_says_becomes_a_setting_to_mend(message: str, field: str, final: bool) -> None:
    error = refusal(message, SETTINGS, "LIVEKIT_TOKEN")
    assert error.field == field
    assert error.mend
    assert isinstance(error, RoomRejected) is final
