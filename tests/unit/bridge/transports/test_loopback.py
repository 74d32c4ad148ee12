"""The loopback room behaves like a real one where it matters: pacing, flush, what has been heard."""

from __future__ import annotations

import pytest

from bridge.core.errors import RoomError
from bridge.core.words import AudioStarted, ParticipantId, ParticipantJoined, RoomEvent, TextReceived
from bridge.transports.loopback import LoopbackRoom
from providers.signal.formats import PCM16_24K
from tests.fakes.pictures import FakeFrame


class Ear:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[RoomEvent] = []
        self.frames: list[tuple[ParticipantId, bytes, float]] = []

    def on_audio(self, participant: ParticipantId, pcm: bytes, now: float) -> None:
        self.frames.append((participant, pcm, now))

    def on_event(self, event: RoomEvent) -> None:
        self.events.append(event)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def speech(ms: int, value: int = 1) -> bytes:
    return value.to_bytes(2, "little") * (PCM16_24K.size(ms) // 2)


async def test_speech_is_heard_in_real_time() -> None:
    clock = Clock()
    room = LoopbackRoom(clock=clock)
    await room.open(Ear())
    room.play(speech(100))
    room.play(speech(100, 2))
    clock.now += 0.15
    assert room.heard() == speech(100) + speech(50, 2)
    assert round(room.queued_ms(clock.now)) == 50


async def test_a_flush_silences_what_was_queued() -> None:
    clock = Clock()
    room = LoopbackRoom(clock=clock)
    await room.open(Ear())
    room.play(speech(100))
    room.play(speech(100, 2))
    clock.now += 0.03
    room.flush()
    clock.now += 1
    assert room.heard() == speech(30)
    room.play(speech(20, 3))
    clock.now += 1
    assert room.heard() == speech(30) + speech(20, 3)
    assert room.heard(with_gaps=True) == speech(30) + bytes(PCM16_24K.size(1000)) + speech(20, 3)


async def test_old_sound_is_forgotten_so_that_long_calls_do_not_grow() -> None:
    clock = Clock()
    room = LoopbackRoom(clock=clock, keep_heard_s=1.0)
    await room.open(Ear())
    for _ in range(50):
        room.play(speech(100))
        clock.now += 0.1
    assert len(room.heard()) <= PCM16_24K.size(1200)


async def test_people_arrive_speak_and_type() -> None:
    room, ear = LoopbackRoom(clock=Clock()), Ear()
    room.speak("too-early", speech(20))
    await room.open(ear)
    room.join("ada")
    room.speak("ada", speech(20))
    room.type("ada", "hello")
    assert [type(event) for event in ear.events] == [ParticipantJoined, AudioStarted, TextReceived]
    assert ear.frames == [("ada", speech(20), 100.0)]
    await room.close()
    room.speak("ada", speech(20))
    assert len(ear.frames) == 1


async def test_one_room_serves_one_call() -> None:
    room = LoopbackRoom(clock=Clock())
    await room.open(Ear())
    with pytest.raises(RoomError, match="make a new one"):
        await room.open(Ear())


async def test_of_video_only_the_newest_frame_of_the_watched_track_is_kept() -> None:
    room = LoopbackRoom(clock=Clock())
    await room.open(Ear())
    unwatched, older, newer, last = (FakeFrame() for _ in range(4))
    room.show("cam", unwatched)
    room.look_at("cam")
    room.show("cam", older)
    room.show("cam", newer)
    assert room.take_frame() is newer
    assert room.take_frame() is None
    room.show("cam", last)
    await room.close()
    assert [frame.released for frame in (unwatched, older, newer, last)] == [1, 1, 0, 1]
