"""Calls to the OpenAI emulator over real WebRTC, by a client of plain aiortc and the official SDK's HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai import AsyncOpenAI

from providers.emulators.openai import EmulatedSession, OpenAIEmulator
from providers.scripted.scenario import Pace, Scenario, ServerVad, Wav
from providers.signal import wav
from providers.signal.resample import Int16Array
from tests.fakes.openai_call import PlainCaller, likeness, voice
from tests.fakes.openai_types import check_server_frame
from tests.fakes.webrtc import on_loopback

MODEL = "gpt-realtime-2.1"
SESSION: dict[str, Any] = {"type": "realtime", "model": MODEL}
FAST = Pace(speed=8.0, latency_ms=10)
VAD = ServerVad(silence_ms=200)
QUIET = np.zeros(24 * 600, dtype=np.int16)


@pytest.fixture(autouse=True)
def loopback() -> Iterator[None]:
    with on_loopback():
        yield


async def dial(emulator: OpenAIEmulator, caller: PlainCaller, key: str = "sk-test", **session: Any) -> str:
    """The unified form, by the SDK. Returns the call's id."""
    async with AsyncOpenAI(api_key=key, base_url=emulator.api_url) as client:
        wanted: Any = {**SESSION, **session}
        answer = await client.realtime.calls.with_raw_response.create(sdp=await caller.offer(), session=wanted)
    assert answer.status_code == 201 and answer.headers["content-type"] == "application/sdp"
    await caller.accept(answer.content.decode())
    path, _, call_id = str(answer.headers["location"]).rpartition("/")
    assert path == "/v1/realtime/calls" and call_id.startswith("rtc_")
    return call_id


@asynccontextmanager
async def calling(
    scenario: Scenario, **session: Any
) -> AsyncIterator[tuple[PlainCaller, EmulatedSession, OpenAIEmulator]]:
    """A call that is set up. At its end every event of the emulator is checked by the SDK's types."""
    async with OpenAIEmulator(scenario) as emulator:
        caller = PlainCaller()
        try:
            await dial(emulator, caller, **session)
            await caller.until("session.created")
            yield caller, emulator.sessions[0], emulator
        finally:
            await caller.close()
        await emulator.sessions[0].connection.ended.wait()
        for message in emulator.written():
            if not message.label.startswith("fault:"):
                check_server_frame(message.data)


def said(tmp_path: Path, sound: Int16Array) -> Wav:
    """An answer of this sound."""
    file = tmp_path / "answer.wav"
    wav.write(file, sound.tobytes(), 24_000)
    return Wav(file=str(file), transcript="one two three")


async def test_a_spoken_turn_is_heard_and_answered_by_the_track(tmp_path: Path) -> None:
    mine, answer = voice(1200, seed=3), voice(1500, seed=4)
    scenario = Scenario(pace=FAST, vad=VAD, answer=said(tmp_path, answer))
    async with calling(scenario) as (caller, session, _):
        caller.says(np.concatenate([QUIET, mine, QUIET]))
        await caller.until("output_audio_buffer.stopped")
        await asyncio.sleep(0.3)  # aiortc's own buffer
        assert likeness(caller.heard, answer) >= 0.9
        assert likeness(np.frombuffer(session.heard, "<i2"), mine) >= 0.9
        assert list(dict.fromkeys(caller.types())) == [
            "session.created",
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
            "rate_limits.updated",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_audio_transcript.delta",
            "output_audio_buffer.started",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.done",
            "output_audio_buffer.stopped",
        ]
        assert session.call.appends == 0
