"""An eye on the native side, driven by hand-made events: the newest frame is kept, every other one is released."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from typing import Any

import pytest
from livekit.rtc._proto import ffi_pb2, video_frame_pb2

from bridge.transports.livekit_room import ffi
from bridge.transports.livekit_room.native_video import NativeEye

WIDTH, HEIGHT = 6, 4
PIXELS = bytes(range(24)) + b"\x50" * 6 + b"\x60" * 6


class FakeClient:
    """Native side: hands out one stream handle after the other, notes what is dropped."""

    def __init__(self) -> None:
        self.dropped: list[int] = []
        self.asked: list[ffi_pb2.FfiRequest] = []
        self.next_handle = 100
        self._ffi_lib = self

    def livekit_ffi_drop_handle(self, handle: int) -> bool:
        self.dropped.append(handle)
        return True

    def request(self, request: ffi_pb2.FfiRequest) -> ffi_pb2.FfiResponse:
        self.asked.append(request)
        answer = ffi_pb2.FfiResponse()
        self.next_handle += 1
        answer.new_video_stream.stream.handle.id = self.next_handle
        return answer


class Track:
    class _ffi_handle:
        handle = 7


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def hub(client: FakeClient) -> ffi.Hub:
    return ffi.Hub(client)  # type: ignore[arg-type]


def an_eye(hub: ffi.Hub) -> NativeEye:
    track: Any = Track()
    return NativeEye(hub, track)


BUFFER = ctypes.create_string_buffer(PIXELS, len(PIXELS))


def frame_event(stream: int, handle: int, rotation: int = 0, planes: int = 3) -> ffi_pb2.FfiEvent:
    event = ffi_pb2.FfiEvent()
    event.video_stream_event.stream_handle = stream
    received = event.video_stream_event.frame_received
    received.rotation = rotation  # type: ignore[assignment]
    received.buffer.handle.id = handle
    info = received.buffer.info
    info.type = video_frame_pb2.VideoBufferType.I420
    info.width, info.height = WIDTH, HEIGHT
    address = ctypes.addressof(BUFFER)
    for offset, stride, size in ((0, 6, 24), (24, 3, 6), (30, 3, 6))[:planes]:
        info.components.add(data_ptr=address + offset, stride=stride, size=size)
    return event


def on_thread(*events: ffi_pb2.FfiEvent, hub: ffi.Hub) -> None:
    def run() -> None:
        for event in events:
            hub.put(event)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


async def test_the_newest_frame_is_kept_and_each_older_one_released(hub: ffi.Hub, client: FakeClient) -> None:
    eye = an_eye(hub)
    asked = client.asked[0].new_video_stream
    assert (asked.track_handle, asked.queue_size_frames) == (7, 1)
    on_thread(*(frame_event(101, 500 + number) for number in range(5)), hub=hub)
    assert client.dropped == [500, 501, 502, 503]
    assert eye.replaced == 4
    frame = eye.take()
    assert frame is not None and eye.take() is None
    shown = frame.picture()
    assert (shown.width, shown.height, shown.rotation, shown.full_range) == (WIDTH, HEIGHT, 0, False)
    assert [(bytes(plane.data), plane.stride) for plane in (shown.y, shown.u, shown.v)] == [
        (PIXELS[:24], 6),
        (PIXELS[24:30], 3),
        (PIXELS[30:], 3),
    ]
    frame.release()
    frame.release()
    assert client.dropped == [500, 501, 502, 503, 504]
    with pytest.raises(ValueError, match="a video frame"):
        frame.picture()
    await eye.aclose()
    assert set(hub.in_use().values()) == {0}


async def test_a_frame_that_was_taken_outlives_its_eye(hub: ffi.Hub, client: FakeClient) -> None:
    eye = an_eye(hub)
    hub.put(frame_event(101, 1))
    frame = eye.take()
    hub.put(frame_event(101, 2))
    await eye.aclose()
    await eye.aclose()
    assert client.dropped == [101, 2], "the stream first, then what waited"
    assert frame is not None and frame.picture().width == WIDTH
    frame.release()
    assert client.dropped == [101, 2, 1]


async def test_frames_that_nobody_watches_are_released(hub: ffi.Hub, client: FakeClient) -> None:
    eye = an_eye(hub)
    hub.put(frame_event(999, 1))
    await eye.aclose()
    hub.put(frame_event(101, 2))
    eye.arrived(frame_event(101, 3).video_stream_event.frame_received)
    assert client.dropped == [1, 101, 2, 3]


async def test_streams_of_the_sdks_own_get_their_frames(hub: ffi.Hub, client: FakeClient) -> None:
    loop = asyncio.get_running_loop()
    queue = hub.subscribe(loop, filter_fn=lambda event: event.video_stream_event.stream_handle == 55)
    hub.put(frame_event(55, 1))
    assert (await queue.get()).video_stream_event.frame_received.buffer.handle.id == 1
    assert client.dropped == []
    hub.unsubscribe(queue)


@pytest.mark.parametrize(("told", "degrees"), [(0, 0), (1, 90), (2, 180), (3, 270)])
async def test_rotation_is_handed_on(hub: ffi.Hub, told: int, degrees: int) -> None:
    eye = an_eye(hub)
    hub.put(frame_event(101, 1, rotation=told))
    frame = eye.take()
    assert frame is not None and frame.picture().rotation == degrees
    await eye.aclose()


async def test_a_frame_of_another_shape_is_refused(hub: ffi.Hub) -> None:
    eye = an_eye(hub)
    hub.put(frame_event(101, 1, planes=2))
    frame = eye.take()
    assert frame is not None
    with pytest.raises(ValueError, match="2 planes"):
        frame.picture()
    await eye.aclose()
