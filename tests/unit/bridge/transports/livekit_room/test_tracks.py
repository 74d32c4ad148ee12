"""The public way to a voice, on a native source that nobody hears; the private one is in test_ffi."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from bridge.audio.playout import PlayoutSettings
from bridge.transports.livekit_room import ffi
from bridge.transports.livekit_room.native_audio import NativeVoice
from bridge.transports.livekit_room.settings import LiveKitSettings
from bridge.transports.livekit_room.tracks import PublicVoice, open_voice


async def test_speech_is_captured_in_order_and_accounted() -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        voice = PublicVoice(tasks, rate_hz=24_000, queue_ms=1000)
        captured: list[bytes] = []

        async def capture(frame: Any) -> None:
            captured.append(frame.data.tobytes())

        voice.source.capture_frame = capture  # type: ignore[method-assign]
        pieces = [bytes([number]) * 4800 for number in range(3)]
        for piece in pieces:
            voice.push(piece, loop.time())
        assert 0.29 < voice.queued_s(loop.time()) <= 0.3
        await asyncio.sleep(0.01)
        assert captured == pieces
        await voice.aclose()
        await voice.aclose()


async def test_a_flush_drops_what_waits_and_clears_what_was_on_its_way() -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        voice = PublicVoice(tasks, rate_hz=24_000, queue_ms=1000)
        gate, captured, cleared = asyncio.Event(), [], []

        async def capture(frame: Any) -> None:
            await gate.wait()
            captured.append(frame.data.tobytes()[0])

        voice.source.capture_frame = capture  # type: ignore[method-assign]
        voice.source.clear_queue = lambda: cleared.append(len(captured))  # type: ignore[method-assign]
        voice.push(b"\1" * 4800, loop.time())
        voice.push(b"\2" * 4800, loop.time())
        await asyncio.sleep(0.01)
        voice.clear()
        assert voice.queued_s(loop.time()) == 0
        voice.push(b"\3" * 4800, loop.time())
        gate.set()
        await asyncio.sleep(0.01)
        # The first was under way: once it is in, the queue is cleared again, before the newer speech.
        assert (captured, cleared) == ([1, 3], [0, 1])
        await voice.aclose()


async def test_what_does_not_fit_and_what_is_refused_is_counted() -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        voice = PublicVoice(tasks, rate_hz=24_000, queue_ms=500)

        async def capture(frame: Any) -> None:
            raise Exception("InvalidState")

        voice.source.capture_frame = capture  # type: ignore[method-assign]
        voice.push(bytes(4800), loop.time())
        voice.push(bytes(48_000), loop.time())
        await asyncio.sleep(0.01)
        assert (voice.errors, voice.dropped_ms) == (1, 1000)
        await voice.aclose()
        voice.push(bytes(4800), loop.time())


@pytest.mark.parametrize(("hub", "kind"), [(None, PublicVoice), (ffi.hub(), NativeVoice)])
async def test_the_way_is_chosen_by_the_hub(hub: ffi.Hub | None, kind: type) -> None:
    async with asyncio.TaskGroup() as tasks:
        voice = open_voice(hub, tasks, LiveKitSettings(room="r"))
        assert isinstance(voice, kind)
        await voice.aclose()


def test_the_shortest_queue_takes_the_longest_lead() -> None:
    shortest = next(n for n in range(100, 2000, 100) if _takes(LiveKitSettings, "queue_ms", n))
    lead = max(n for n in range(20, 2000, 20) if _takes(PlayoutSettings, "lead_ms", n))
    piece = max(n for n in range(20, 2000, 20) if _takes(PlayoutSettings, "piece_ms", n))
    assert shortest >= lead + piece


def _takes(settings: type[msgspec.Struct], field: str, value: int) -> bool:
    try:
        msgspec.convert({field: value}, settings)
    except msgspec.ValidationError:
        return False
    return True
