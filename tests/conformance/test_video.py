"""Stills to each model that takes them, through the whole bridge: valid, at the bounded rate, and not a beat longer
than they are wanted."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from bridge.core.commands import Command, SendImage
from bridge.core.words import ParticipantId, VideoOffered, VideoSource
from bridge.facade import CallConfig, RoomBridge
from bridge.lanes.settings import CallSettings
from bridge.transports.loopback import LoopbackRoom
from bridge.video.picture import Picture
from bridge.video.settings import VideoSettings
from providers.contract import SpeechModel
from providers.emulators.gemini import GeminiEmulator, GeminiVendor
from providers.emulators.openai import OpenAIEmulator
from providers.emulators.server import EmulatorServer
from providers.gemini.model import GeminiModel
from providers.gemini.settings import GeminiSettings
from providers.openai.model import OpenAIModel
from providers.openai.settings import OpenAISettings
from providers.scripted.scenario import load_text
from providers.settings import ConnectionSettings, SpeechSettings
from tests.conformance.stages import FAST
from tests.fakes.pictures import FakeFrame, four_colours, noise, opened, picture
from tests.fakes.stills import stills

pytestmark = pytest.mark.timeout(60)

_KEY = "good-key-0001"
_MESSAGE_LIMIT = 256 * 1024
"""Of one message to OpenAI over WebRTC."""


@asynccontextmanager
async def gemini() -> AsyncIterator[tuple[EmulatorServer, SpeechModel]]:
    async with GeminiEmulator(load_text(FAST), vendor=GeminiVendor(keys={_KEY})) as emulator:
        environ = {"GEMINI_API_KEY": _KEY, "GOOGLE_GEMINI_BASE_URL": emulator.base_url}
        yield emulator, GeminiModel.from_config(SpeechSettings(), GeminiSettings(), ConnectionSettings(), environ)


@asynccontextmanager
async def openai_webrtc() -> AsyncIterator[tuple[EmulatorServer, SpeechModel]]:
    async with openai(OpenAISettings(transport="webrtc")) as service:
        yield service


@asynccontextmanager
async def openai(own: OpenAISettings | None = None) -> AsyncIterator[tuple[EmulatorServer, SpeechModel]]:
    async with OpenAIEmulator(load_text(FAST), keys={_KEY}) as emulator:
        environ = {"OPENAI_API_KEY": _KEY, "OPENAI_BASE_URL": emulator.api_url}
        yield (
            emulator,
            OpenAIModel.from_config(SpeechSettings(), own or OpenAISettings(), ConnectionSettings(), environ),
        )


@pytest.fixture(params=[gemini, openai, openai_webrtc], ids=["gemini", "openai", "openai-webrtc"])
async def service(request: pytest.FixtureRequest) -> AsyncIterator[tuple[EmulatorServer, SpeechModel]]:
    async with request.param() as opened_service:
        yield opened_service


class Filmed:
    """A room in which somebody films at 25 frames a second, and when the model was shown something."""

    def __init__(self, shown: Picture) -> None:
        self.room = LoopbackRoom()
        self.frames: list[FakeFrame] = []
        self.sent_at: list[float] = []
        self.commands: list[SendImage] = []
        self._shown = shown

    def note(self, command: Command) -> None:
        if isinstance(command, SendImage):
            self.sent_at.append(asyncio.get_running_loop().time())
            self.commands.append(command)

    async def film(self) -> None:
        self.room.tell(VideoOffered(ParticipantId("ada"), VideoSource.CAMERA, "cam"))
        while True:
            self.frames.append(FakeFrame(self._shown))
            self.room.show("cam", self.frames[-1])
            await asyncio.sleep(0.04)


@asynccontextmanager
async def filmed(
    model: SpeechModel, shown: Picture, *, call: CallSettings | None = None, **settings: Any
) -> AsyncIterator[tuple[RoomBridge, Filmed]]:
    config = CallConfig(
        call=call or CallSettings(), video=VideoSettings(sources=("camera",), **{"idle_interval_s": 1.0, **settings})
    )
    there = Filmed(shown)
    async with RoomBridge(there.room, model, config) as bridge, asyncio.TaskGroup() as group:
        bridge.listen(there.note)
        there.room.join("ada")
        filming = group.create_task(there.film(), name="filming")
        yield bridge, there
        filming.cancel()
    await until(lambda: all(frame.released == 1 for frame in there.frames))


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - a condition of the outside has no event to wait for
            await asyncio.sleep(0.01)


async def test_stills_are_valid_bounded_in_rate_and_stop_when_switched_off(
    service: tuple[EmulatorServer, SpeechModel],
) -> None:
    emulator, model = service
    async with filmed(model, picture(four_colours(1280, 720)), max_side_px=512) as (bridge, there):
        await until(lambda: len(stills(emulator)) >= 3)
        bridge.watch([])
        await asyncio.sleep(1.3)
        seen = stills(emulator)
        assert len(seen) == len(there.sent_at) == 3
        assert all(after - before >= 0.999 for before, after in pairwise(there.sent_at))
        for still in seen:
            assert opened(still).size == (512, 288)
        assert there.room.watched is None


async def test_a_picture_that_no_encoder_makes_small_fits_all_the_same(
    service: tuple[EmulatorServer, SpeechModel],
) -> None:
    emulator, model = service
    async with filmed(model, picture(noise(1280, 720)), jpeg_quality=90) as (bridge, _):
        await until(lambda: stills(emulator))
        (still,) = stills(emulator)
        assert opened(still).width >= 512
        assert len(b64encode(still)) + 1000 < _MESSAGE_LIMIT
        bridge.watch([])


async def test_the_session_that_follows_a_lost_one_is_shown_what_is_there_now(
    service: tuple[EmulatorServer, SpeechModel],
) -> None:
    emulator, model = service
    async with filmed(model, picture(four_colours(320, 180)), idle_interval_s=3600.0) as (bridge, _):
        await until(lambda: stills(emulator))
        first = bridge.leader
        emulator.connections[-1].kill()
        await until(lambda: bridge.leader not in (None, first))
        await until(lambda: len(stills(emulator)) == 2)
        assert len(emulator.connections) == 2


async def test_nobody_is_woken_to_look_at_a_picture(service: tuple[EmulatorServer, SpeechModel]) -> None:
    emulator, model = service
    rests = CallSettings(idle_close_s=1.5)
    async with filmed(model, picture(four_colours(320, 180)), call=rests) as (bridge, there):
        await until(lambda: stills(emulator))
        await until(lambda: bridge.leader is None)
        shown = len(stills(emulator))
        await asyncio.sleep(2.2)
        assert (bridge.leader, len(stills(emulator)), len(emulator.connections)) == (None, shown, 1)
        assert there.sent_at[-1] <= there.sent_at[0] + 1.6
