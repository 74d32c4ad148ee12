"""Video of a direct call: plain aiortc films, the model is shown stills of it, and only while the caller shares."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from aiortc import MediaStreamError, MediaStreamTrack
from av import VideoFrame

from bridge.app import Process
from bridge.core.commands import Command, SendImage
from bridge.core.words import VideoSource
from bridge.serve import Serving
from providers.emulators.gemini import GeminiEmulator, GeminiVendor
from providers.emulators.openai import OpenAIEmulator
from providers.emulators.server import EmulatorServer
from providers.scripted.scenario import load_text
from tests.conformance.stages import FAST
from tests.fakes.caller import Caller, started
from tests.fakes.leftovers import nothing_left
from tests.fakes.pictures import four_colours, opened
from tests.fakes.stills import stills
from tests.fakes.webrtc import until

pytestmark = pytest.mark.timeout(60)

WIDTH, HEIGHT = 320, 240
FRAMES_PER_S = 10
_KEY = "good-key-0001"
KEYS = {"GEMINI_API_KEY": _KEY, "OPENAI_API_KEY": _KEY}


class Camera(MediaStreamTrack):
    """Four colours, until it is covered: then nothing is sent at all."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self._sent = 0
        self._rgb = np.ascontiguousarray(four_colours(WIDTH, HEIGHT))

    async def recv(self) -> VideoFrame:
        await asyncio.sleep(1 / FRAMES_PER_S)
        await self.open.wait()
        if self.readyState != "live":
            raise MediaStreamError
        frame = VideoFrame.from_ndarray(self._rgb, format="rgb24")
        frame.pts, frame.time_base = self._sent * 90_000 // FRAMES_PER_S, Fraction(1, 90_000)
        self._sent += 1
        return frame


@asynccontextmanager
async def gemini() -> AsyncIterator[tuple[EmulatorServer, dict[str, Any]]]:
    async with GeminiEmulator(load_text(FAST), vendor=GeminiVendor(keys={_KEY})) as emulator:
        yield emulator, {"provider": "gemini", "providers": {"gemini": {"base_url": emulator.base_url}}}


@asynccontextmanager
async def openai() -> AsyncIterator[tuple[EmulatorServer, dict[str, Any]]]:
    async with OpenAIEmulator(load_text(FAST), keys={_KEY}) as emulator:
        yield emulator, {"provider": "openai", "providers": {"openai": {"base_url": emulator.api_url}}}


class Filmed:
    """A caller with a camera, and what the model was shown of it."""

    def __init__(self, emulator: EmulatorServer, serving: Serving, process: Process, caller: Caller) -> None:
        self.emulator = emulator
        self.serving = serving
        self.process = process
        self.caller = caller
        self.camera = Camera()
        self.sent: list[tuple[float, VideoSource]] = []

    async def call(self, provider: str = "") -> None:
        self.caller.connection.addTrack(self.camera)
        await self.caller.call(provider)
        await until(lambda: self.caller.of_type("hello") and self.process.bridges)
        (bridge,) = self.process.bridges.values()
        bridge.listen(self._note)

    def _note(self, command: Command) -> None:
        if isinstance(command, SendImage):
            self.sent.append((asyncio.get_running_loop().time(), command.captured.source))

    @property
    def counters(self) -> dict[str, Any]:
        (bridge,) = self.process.bridges.values()
        return bridge.snapshot().counters

    @property
    def hello(self) -> dict[str, Any]:
        return self.caller.of_type("hello")[0]


@asynccontextmanager
async def filmed(kind: Any, sources: list[str], **more: Any) -> AsyncIterator[Filmed]:
    process = Process()
    async with nothing_left(3.0), kind() as (emulator, config):
        config |= {"video": {"sources": sources, "idle_interval_s": 1.0}, **more}
        async with started(process, config, KEYS) as serving, Caller(serving) as caller:
            call = Filmed(emulator, serving, process, caller)
            yield call
            call.camera.open.set()
            call.camera.stop()


@pytest.mark.parametrize("kind", [gemini, openai])
async def test_what_a_caller_films_reaches_the_model_until_he_stops(kind: Any) -> None:
    async with filmed(kind, ["camera", "screen"]) as call:
        await call.call()
        assert call.hello["video"] is True
        await until(lambda: len(stills(call.emulator)) >= 3, 15)
        assert all(after - before >= 0.999 for (before, _), (after, _) in pairwise(call.sent))
        for still in stills(call.emulator):
            picture = opened(still)
            assert picture.size == (WIDTH, HEIGHT)
            pixel: Any = picture.getpixel((WIDTH // 4, HEIGHT // 4))
            assert all(abs(got - want) < 45 for got, want in zip(pixel, (220, 30, 30), strict=True)), pixel

        call.caller.send(type="video", source=None)
        await asyncio.sleep(0.3)
        shown = len(stills(call.emulator))
        await asyncio.sleep(2.5)
        assert len(stills(call.emulator)) == shown == call.counters["video.images"]
        assert {source for _, source in call.sent} == {VideoSource.CAMERA}

        call.caller.send(type="video", source="screen")
        await until(lambda: len(stills(call.emulator)) > shown, 10)
        assert call.sent[-1][1] is VideoSource.SCREEN


async def test_a_camera_that_sends_nothing_any_more_leaves_no_picture_of_the_past() -> None:
    async with filmed(openai, ["camera"]) as call:
        await call.call()
        await until(lambda: call.sent, 15)
        call.camera.open.clear()
        await asyncio.sleep(1.5)
        shown = len(call.sent)
        await asyncio.sleep(2.5)
        assert len(call.sent) == shown


async def test_with_video_off_it_is_refused_in_the_answer() -> None:
    async with filmed(openai, []) as call:
        await call.call()
        assert call.hello["video"] is False
        (video,) = [one for one in call.caller.connection.getTransceivers() if one.kind == "video"]
        assert video.currentDirection == "inactive"
        await asyncio.sleep(1.2)
        assert stills(call.emulator) == []


async def test_a_model_without_eyes_is_chosen_all_the_same_and_shown_nothing() -> None:
    async with filmed(openai, ["camera"], serve={"providers": ["scripted"]}) as call:
        assert {choice.name: choice.video for choice in call.serving.choices} == {"openai": True, "scripted": False}
        assert list(call.serving.video_sources) == ["camera"]
        await call.call("scripted")
        assert (call.hello["provider"], call.hello["video"]) == ("scripted", False)


async def test_a_stand_in_without_eyes_keeps_video_off() -> None:
    async with filmed(openai, ["camera"], failover=["scripted"], serve={"providers": ["scripted"]}) as call:
        assert not call.serving.video_sources
        await call.call()
        assert call.hello["video"] is False
