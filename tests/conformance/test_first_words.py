"""What people say before the model is there, through each provider's own protocol and a real socket."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from bridge.core.words import EarlyAudio, ParticipantId
from bridge.facade import RoomBridge
from bridge.transports.loopback import LoopbackRoom
from providers.catalog import PROVIDERS
from providers.emulators.server import EmulatorServer
from providers.settings import ConnectionSettings, SpeechSettings

KEYS = {"GEMINI_API_KEY": "a-key", "OPENAI_API_KEY": "a-key"}
RECORDED_MS = 20_000


@pytest.mark.parametrize("provider", ["gemini", "openai"])
async def test_twenty_seconds_recorded_before_the_model_came_are_sent_whole(provider: str) -> None:
    entry = PROVIDERS[provider]
    room = LoopbackRoom()
    pcm = (np.random.default_rng(3).integers(-50, 50, RECORDED_MS * 24, dtype=np.int16)).tobytes()
    async with EmulatorServer(entry.emulated()) as emulator:
        own: dict[str, Any] = {"base_url": emulator.base_url + ("/v1" if provider == "openai" else "")}
        connection = ConnectionSettings(outbox_ms=200)
        model = entry.connector(SpeechSettings(), entry.settings_type()(**own), connection, KEYS)
        async with RoomBridge(room, model) as bridge, asyncio.timeout(15):
            room.join("ada")
            room.tell(EarlyAudio(ParticipantId("ada"), pcm))
            while bridge.snapshot().counters.get("outbox.sent_audio_ms", 0) < RECORDED_MS:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            counters = bridge.snapshot().counters
    assert counters.get("outbox.dropped_audio_ms", 0) == 0
    assert counters["first_words.first_words_dropped_frames"] == 0
