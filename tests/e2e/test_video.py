"""Video in, with a real livekit-server: what a camera shows reaches the model at the bounded rate, and only while it
is wanted."""

from __future__ import annotations

import asyncio
from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
from PIL import Image

from bridge.core.commands import Command, SendImage
from bridge.core.words import VideoOffered, VideoSource, VideoWithdrawn
from bridge.demo.server import LocalServer
from bridge.facade import CallConfig
from bridge.transports.livekit_room import ffi
from bridge.video.jpeg import encode
from bridge.video.settings import VideoSettings
from tests.e2e.calls import EmulatedCall, emulated_call, until
from tests.e2e.conftest import PersonFactory
from tests.e2e.listening import RoomFactory
from tests.fakes.stills import stills

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

PROVIDERS = pytest.mark.parametrize("provider", ["gemini", "openai"])
RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (30, 30, 220), (240, 240, 240)
UPRIGHT = RED, GREEN, BLUE, WHITE
"""Top left, top right, bottom left, bottom right."""


def config(*sources: Any, **settings: Any) -> CallConfig:
    return CallConfig(video=VideoSettings(sources=sources, **settings))


def corners(image: bytes) -> tuple[tuple[int, int], tuple[tuple[int, int, int], ...]]:
    """Size, and the colours in the middle of each quarter."""
    with Image.open(BytesIO(image)) as picture:
        assert picture.format == "JPEG"
        picture.load()
        rgb = picture.convert("RGB")
        width, height = rgb.size
        seen: list[Any] = [
            rgb.getpixel((x, y)) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)
        ]
        return rgb.size, tuple(seen)


def shows(image: bytes, wanted: tuple[tuple[int, int, int], ...] = UPRIGHT) -> bool:
    _, seen = corners(image)
    return all(abs(a - b) < 45 for got, want in zip(seen, wanted, strict=True) for a, b in zip(got, want, strict=True))


class Sent:
    """When the model was shown what."""

    def __init__(self, call: EmulatedCall) -> None:
        self.at: list[float] = []
        self.sources: list[VideoSource] = []
        self.who: list[str] = []
        call.bridge.listen(self._note)

    def _note(self, command: Command) -> None:
        if isinstance(command, SendImage):
            self.at.append(asyncio.get_running_loop().time())
            self.sources.append(command.captured.source)
            self.who.append(command.captured.participant)


def in_use() -> int:
    hub = ffi.hub()
    assert hub is not None
    return hub.in_use()["eyes"]


@PROVIDERS
async def test_a_camera_reaches_the_model_at_the_bounded_rate_and_stops_when_switched_off(
    provider: str, server: LocalServer, room_name: str, person: PersonFactory
) -> None:
    async with (
        emulated_call(server, room_name, provider, config=config("camera", idle_interval_s=1.0)) as call,
        person("ann") as ann,
    ):
        sent = Sent(call)
        await ann.do("film", width=1280, height=720)
        await until(lambda: len(stills(call.emulator)) >= 4, 20)
        assert all(after - before >= 0.999 for before, after in pairwise(sent.at)), sent.at
        assert sent.at[-1] - sent.at[0] < 1.5 * (len(sent.at) - 1)
        assert set(sent.who) == {"ann"}
        for image in stills(call.emulator)[1:]:
            assert corners(image)[0] == (1024, 576)
            assert shows(image), corners(image)

        call.bridge.watch(())
        await asyncio.sleep(0.3)
        shown = len(stills(call.emulator))
        assert in_use() == 0
        await asyncio.sleep(2.5)
        assert len(stills(call.emulator)) == len(sent.at) == shown
        assert call.counters()["video.images"] == shown

        call.bridge.watch(["camera"])
        await until(lambda: len(stills(call.emulator)) > shown)
    assert in_use() == 0


@PROVIDERS
async def test_with_video_off_nothing_of_it_is_received(
    provider: str, server: LocalServer, room_name: str, person: PersonFactory
) -> None:
    async with emulated_call(server, room_name, provider) as call, person("ann") as ann:
        await ann.do("film")
        await ann.do("film", source="screen")
        await asyncio.sleep(2.0)
        room: Any = call.room._call
        tracks = room._connection.room.remote_participants["ann"].track_publications.values()
        video = [track for track in tracks if track.sid in {fact["track"] for fact in ann.told if "track" in fact}]
        assert len(video) >= 2
        assert [track.source for track in tracks if track.subscribed] == [2], "the microphone alone"
        assert in_use() == 0
        assert stills(call.emulator) == []
        assert call.counters()["room.video_frames_unseen"] == 0


async def test_a_shared_screen_goes_before_a_camera(server: LocalServer, room_name: str, person: PersonFactory) -> None:
    settings = config("camera", "screen", idle_interval_s=1.0)
    async with emulated_call(server, room_name, "gemini", config=settings) as call, person("ann") as ann:
        sent = Sent(call)
        await ann.do("film")
        await until(lambda: sent.sources)
        async with person("ben") as ben:
            await ben.do("film", source="screen", width=800, height=600)
            await until(lambda: VideoSource.SCREEN in sent.sources)
            assert in_use() == 1
            assert sent.who[-1] == "ben"
            seen = len(sent.at)
            await until(lambda: len(sent.at) >= seen + 2)
            assert set(sent.sources[seen:]) == {VideoSource.SCREEN}
            await ben.do("unfilm", source="screen")
            seen = len(sent.at)
            await until(lambda: sent.who[-1] == "ann" and len(sent.at) > seen)
        assert shows(stills(call.emulator)[-1])


async def test_a_camera_that_is_switched_off_is_not_watched(
    server: LocalServer, room_name: str, person: PersonFactory
) -> None:
    settings = config("camera", idle_interval_s=1.0)
    async with emulated_call(server, room_name, "openai", config=settings) as call, person("ann") as ann:
        sent = Sent(call)
        await ann.do("film")
        await until(lambda: sent.at)
        await ann.do("cover")
        await until(lambda: in_use() == 0)
        seen = len(sent.at)
        await asyncio.sleep(2.0)
        assert len(sent.at) == seen
        await ann.do("uncover")
        await until(lambda: len(sent.at) > seen)
        assert shows(stills(call.emulator)[-1])


async def test_a_phone_held_upright_is_shown_upright(
    server: LocalServer, room_name: str, person: PersonFactory
) -> None:
    settings = config("camera", idle_interval_s=1.0)
    async with emulated_call(server, room_name, "gemini", config=settings) as call, person("ann") as ann:
        await ann.do("film", turned=90)
        await until(lambda: len(stills(call.emulator)) >= 2)
        image = stills(call.emulator)[-1]
        width, height = corners(image)[0]
        assert width < height
        assert shows(image, (BLUE, RED, WHITE, GREEN)), corners(image)


@pytest.mark.parametrize("ffi_mode", ["auto", "public"])
async def test_a_room_offers_tracks_and_gives_the_frames_of_the_one_that_is_looked_at(
    ffi_mode: str, open_room: RoomFactory, person: PersonFactory
) -> None:
    async with open_room(ffi=ffi_mode) as (room, listener), person("ann") as ann:
        await ann.do("film", width=320, height=180)
        offer = await listener.event(VideoOffered)
        assert (offer.participant, offer.source) == ("ann", VideoSource.CAMERA)
        await asyncio.sleep(0.5)
        assert room.take_frame() is None
        for _ in range(2):
            room.look_at(offer.track_id)
            async with asyncio.timeout(10):
                while (frame := room.take_frame()) is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            try:
                jpeg = encode(frame.picture(), max_side_px=1024, quality=75, max_bytes=150_000)
            finally:
                frame.release()
            assert (jpeg.width, jpeg.height) == (320, 180)
            assert shows(jpeg.data)
            room.look_at(None)
            assert room.take_frame() is None
        await ann.do("unfilm")
        assert (await listener.event(VideoWithdrawn)).track_id == offer.track_id
