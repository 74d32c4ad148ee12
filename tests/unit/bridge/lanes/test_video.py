"""The lane between a room that shows and a model that looks: one frame at a time, each given back, none in the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from bridge.core.commands import Command, SendImage
from bridge.core.words import ParticipantId, VideoOffered, VideoSource
from bridge.lanes.video import VideoLane
from bridge.transports.loopback import LoopbackRoom
from bridge.video.settings import VideoSettings
from bridge.video.watching import Watching
from providers.contract import SessionStart
from tests.fakes.hand_model import CAPABILITIES, HandSession
from tests.fakes.pictures import FakeFrame, noise, opened, picture

SEES = msgspec.structs.replace(CAPABILITIES, video=True)


class Model:
    def __init__(self) -> None:
        self.leading: HandSession | None = HandSession(SessionStart(), SEES)
        self.done: list[Command] = []

    def do(self, command: Command) -> None:
        self.done.append(command)

    @property
    def shown(self) -> list[bytes]:
        return [command.captured.image for command in self.done if isinstance(command, SendImage)]


class Call:
    def __init__(self, settings: VideoSettings) -> None:
        self.now = 100.0
        self.speaks = True
        self.room = LoopbackRoom()
        self.model = Model()
        self.watching = Watching(settings)
        self.lane = VideoLane(
            "call",
            room=self.room,
            settings=settings,
            watching=self.watching,
            model=self.model,
            user_speaks=lambda now: self.speaks,
        )
        self.watching.handle(VideoOffered(ParticipantId("ada"), VideoSource.CAMERA, "cam"))
        self.lane.beat(self.now)

    async def beat(self, frame: FakeFrame | None = None, after_s: float = 1.1) -> None:
        """A second later; what is being encoded is awaited."""
        if frame is not None:
            self.room.show("cam", frame)
        self.now += after_s
        self.lane.beat(self.now)
        await self.settled()

    async def settled(self) -> None:
        while self.lane._encoding is not None:  # noqa: ASYNC110 - a thread gives no notice
            await asyncio.sleep(0.002)


@asynccontextmanager
async def calling(**settings: object) -> AsyncIterator[Call]:
    chosen = msgspec.convert({"sources": ("camera",), **settings}, VideoSettings)
    call = Call(chosen)
    # The lane tells the loop's own time to what it has sent.
    call.now = asyncio.get_running_loop().time()
    yield call
    call.lane.close()


async def test_the_newest_frame_becomes_a_still_and_every_frame_is_given_back() -> None:
    async with calling() as call:
        frames = [FakeFrame() for _ in range(5)]
        for frame in frames[:-1]:
            call.room.show("cam", frame)
        await call.beat(frames[-1])
        (image,) = call.model.shown
        assert opened(image).size == (64, 48)
        assert [frame.released for frame in frames] == [1, 1, 1, 1, 1]
        assert call.lane.stats.images == 1 and call.lane.stats.image_bytes == len(image)


async def test_without_a_new_frame_nothing_is_sent() -> None:
    async with calling() as call:
        await call.beat(FakeFrame())
        await call.beat()
        assert len(call.model.shown) == 1


async def test_switched_off_means_watched_no_more_and_what_is_under_way_is_not_sent() -> None:
    async with calling() as call:
        frame = FakeFrame()
        call.room.show("cam", frame)
        call.now += 1.1
        call.lane.beat(call.now)
        call.lane.switch(())
        assert call.room.watched is None
        await call.settled()
        await call.beat(late := FakeFrame())
        assert (call.model.shown, frame.released, late.released) == ([], 1, 1)
        assert call.lane.stats.unseen_images == 1


async def test_a_session_that_takes_no_images_is_shown_none_and_nothing_is_received_for_it() -> None:
    async with calling() as call:
        call.model.leading = HandSession(SessionStart(number=2), CAPABILITIES)
        await call.beat(FakeFrame())
        watched: str | None = call.room.watched
        assert (watched, call.model.shown) == (None, [])
        call.model.leading = HandSession(SessionStart(number=3), SEES)
        call.lane.beat(call.now)
        assert call.room.watched == "cam"


async def test_while_nobody_leads_nothing_is_made_and_the_next_leader_is_shown_the_newest() -> None:
    async with calling() as call:
        call.model.leading = None
        await call.beat(FakeFrame())
        assert (call.room.watched, call.model.shown) == ("cam", [])
        call.model.leading = HandSession(SessionStart(number=2), SEES)
        await call.beat()
        assert len(call.model.shown) == 1


async def test_a_socket_that_does_not_take_the_audio_is_given_no_image() -> None:
    async with calling() as call:
        assert call.model.leading is not None
        call.model.leading.outbox.waiting_audio_ms = 240.0
        await call.beat(FakeFrame())
        assert (call.model.shown, call.lane.stats.skipped_slow) == ([], 1)


async def test_one_frame_at_a_time_is_encoded() -> None:
    async with calling(max_bytes=8000) as call:
        slow = FakeFrame(picture(noise(1600, 1200)))
        call.room.show("cam", slow)
        call.now += 1.1
        call.lane.beat(call.now)
        call.room.show("cam", FakeFrame())
        call.now += 1.1
        call.lane.beat(call.now)
        assert call.lane.stats.skipped_busy == 1
        await call.settled()
        assert slow.released == 1


async def test_a_frame_that_cannot_be_used_is_counted_logged_once_and_given_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Torn(FakeFrame):
        def picture(self) -> object:  # type: ignore[override]
            raise ValueError("a torn frame")

    async with calling() as call:
        torn = [Torn(), Torn()]
        for frame in torn:
            await call.beat(frame)
        await call.beat(FakeFrame())
        assert [frame.released for frame in torn] == [1, 1]
        assert (call.lane.stats.unusable_frames, len(call.model.shown)) == (2, 1)
    assert caplog.text.count("a torn frame") == 1


async def test_the_end_of_a_call_gives_everything_back() -> None:
    async with calling() as call:
        frames = [FakeFrame(), FakeFrame()]
        call.room.show("cam", frames[0])
        call.now += 1.1
        call.lane.beat(call.now)
        call.room.show("cam", frames[1])
        call.lane.close()
        assert call.room.watched is None
    for _ in range(200):
        if all(frame.released for frame in frames):
            break
        await asyncio.sleep(0.005)
    assert [frame.released for frame in frames] == [1, 1]
    assert call.model.shown == []
