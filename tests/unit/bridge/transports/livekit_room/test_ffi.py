"""The private path, driven by hand-made native events: no server, no native stream."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import threading
from typing import Any

import pytest
from livekit.rtc import _ffi_client
from livekit.rtc._proto import ffi_pb2

from bridge.transports.livekit_room import ffi
from bridge.transports.livekit_room.native_audio import NativeEar, NativeVoice

FRAME = bytes(range(256)) * 3 + bytes(192)


class FakeClient:
    """Native side: hands out handles, notes what is dropped, answers captures."""

    def __init__(self) -> None:
        self.dropped: list[int] = []
        self.next_handle = 100
        self.during_request: list[ffi_pb2.FfiEvent] = []
        self.hub: ffi.Hub | None = None
        self._ffi_lib = self

    def livekit_ffi_drop_handle(self, handle: int) -> bool:
        self.dropped.append(handle)
        return True

    def request(self, request: ffi_pb2.FfiRequest) -> ffi_pb2.FfiResponse:
        answer = ffi_pb2.FfiResponse()
        self.next_handle += 1
        answer.new_audio_stream.stream.handle.id = self.next_handle
        for event in self.during_request:
            assert self.hub is not None
            self.hub.put(event)
        return answer


class Track:
    class _ffi_handle:
        handle = 7


@pytest.fixture
def client() -> FakeClient:
    made = FakeClient()
    made.hub = ffi.Hub(made)  # type: ignore[arg-type]
    return made


def frame_event(stream: int, buffer: Any, handle: int) -> ffi_pb2.FfiEvent:
    event = ffi_pb2.FfiEvent()
    event.audio_stream_event.stream_handle = stream
    frame = event.audio_stream_event.frame_received.frame
    frame.handle.id = handle
    frame.info.data_ptr = ctypes.addressof(buffer)
    frame.info.samples_per_channel = len(FRAME) // 2
    frame.info.num_channels = 1
    frame.info.sample_rate = 24_000
    return event


def on_thread(*calls: Any) -> None:
    def run() -> None:
        for call in calls:
            call()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def open_ear(client: FakeClient, got: list[bytes]) -> NativeEar:
    assert client.hub is not None
    track: Any = Track()
    return NativeEar(client.hub, track, rate_hz=24_000, frame_ms=20, sink=lambda pcm, _: got.append(pcm))


async def test_frames_reach_their_own_ear_with_one_wakeup_and_are_released(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, buffer = client.hub, ctypes.create_string_buffer(FRAME, len(FRAME))
    assert hub is not None
    first: list[bytes] = []
    second: list[bytes] = []
    ears = [open_ear(client, first), open_ear(client, second)]
    inbox = ears[0].inbox
    assert inbox is not None
    woken: list[Any] = []
    wake = inbox.loop.call_soon_threadsafe

    def counted(*call: Any) -> None:
        woken.append(call)
        wake(*call)

    monkeypatch.setattr(inbox.loop, "call_soon_threadsafe", counted)
    on_thread(*(lambda n=n: hub.put(frame_event(101 + n % 2, buffer, 500 + n)) for n in range(10)))
    assert first == []
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert first == second == [FRAME] * 5
    assert len(woken) == 1
    assert sorted(client.dropped) == list(range(500, 510))
    for ear in ears:
        await ear.aclose()
        await ear.aclose()
    assert set(hub.in_use().values()) == {0}


async def test_a_stalled_loop_loses_the_oldest_frames_counted_and_released(client: FakeClient) -> None:
    hub, buffer = client.hub, ctypes.create_string_buffer(FRAME, len(FRAME))
    assert hub is not None
    got: list[bytes] = []
    ear = open_ear(client, got)
    on_thread(*(lambda n=n: hub.put(frame_event(101, buffer, 1000 + n)) for n in range(300)))
    assert ear.dropped_frames == 50
    assert client.dropped == list(range(1000, 1050))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(got) == 250
    assert len(client.dropped) == 300
    await ear.aclose()


async def test_frames_that_come_before_the_handle_is_known_are_heard(client: FakeClient) -> None:
    buffer = ctypes.create_string_buffer(FRAME, len(FRAME))
    client.during_request = [frame_event(101, buffer, 1), frame_event(999, buffer, 2)]
    got: list[bytes] = []
    ear = open_ear(client, got)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert got == [FRAME]
    assert sorted(client.dropped) == [1, 2]
    await ear.aclose()


async def test_frames_after_the_end_are_released(client: FakeClient) -> None:
    hub, buffer = client.hub, ctypes.create_string_buffer(FRAME, len(FRAME))
    assert hub is not None
    got: list[bytes] = []
    ear = open_ear(client, got)
    hub.put(frame_event(101, buffer, 1))
    await ear.aclose()
    hub.put(frame_event(101, buffer, 2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert got == []
    assert sorted(client.dropped) == [1, 2, 101]


async def test_a_waiting_request_is_spared_media_and_room_events(client: FakeClient) -> None:
    hub, buffer = client.hub, ctypes.create_string_buffer(FRAME, len(FRAME))
    assert hub is not None
    queue = hub.subscribe(asyncio.get_running_loop())
    hub.put(frame_event(5, buffer, 1))
    other = ffi_pb2.FfiEvent()
    other.room_event.room_handle = 3
    hub.put(other)
    capture = ffi_pb2.FfiEvent()
    capture.capture_audio_frame.async_id = 9
    hub.put(capture)
    wanted = ffi_pb2.FfiEvent()
    wanted.set_local_attributes.async_id = 4
    hub.put(wanted)
    assert (await queue.get()).set_local_attributes.async_id == 4
    assert queue.empty()
    hub.unsubscribe(queue)
    assert hub.in_use()["one_shots"] == 0


async def test_room_events_wake_only_their_room(client: FakeClient) -> None:
    hub = client.hub
    assert hub is not None

    class Room:
        def __init__(self, handle: int) -> None:
            assert hub is not None
            self._ffi_queue = hub.subscribe(asyncio.get_running_loop(), lambda event: True)
            self._ffi_handle = type("Handle", (), {"handle": handle})()

    rooms: list[Any] = [Room(1), Room(2)]
    for room in rooms:
        hub.bind(room)
    event = ffi_pb2.FfiEvent()
    event.room_event.room_handle = 2
    hub.put(event)
    published = ffi_pb2.FfiEvent()
    published.publish_track.async_id = 8
    hub.put(published)
    await asyncio.sleep(0)
    assert (rooms[0]._ffi_queue.qsize(), rooms[1]._ffi_queue.qsize()) == (1, 2)
    for room in rooms:
        hub.unbind(room)
    assert set(hub.in_use().values()) == {0}


async def test_a_stream_of_the_sdks_own_still_gets_its_frames(client: FakeClient) -> None:
    hub, buffer = client.hub, ctypes.create_string_buffer(FRAME, len(FRAME))
    assert hub is not None
    queue = hub.subscribe(asyncio.get_running_loop(), lambda event: event.audio_stream_event.stream_handle == 77)
    hub.put(frame_event(77, buffer, 1))
    assert (await queue.get()).audio_stream_event.stream_handle == 77
    assert client.dropped == []
    hub.unsubscribe(queue)


async def test_the_frame_path_leaves_no_cycles(client: FakeClient) -> None:
    hub, buffer = client.hub, ctypes.create_string_buffer(FRAME, len(FRAME))
    assert hub is not None
    ear = open_ear(client, [])
    gc.collect()
    gc.disable()
    try:
        for number in range(200):
            hub.put(frame_event(101, buffer, number))
            await asyncio.sleep(0)
        assert gc.collect() == 0
    finally:
        gc.enable()
    await ear.aclose()


def test_the_installed_sdk_has_the_shape_we_know() -> None:
    assert ffi.shape_problem() is None
    assert isinstance(ffi.hub(), ffi.Hub)
    assert ffi.hub() is ffi.hub()


def test_another_version_is_left_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    plain: Any = _ffi_client.FfiQueue()
    monkeypatch.setattr(_ffi_client.FfiClient.instance, "_queue", plain)
    monkeypatch.setattr(ffi, "_sdk_version", "1.3.0")
    with caplog.at_level(logging.WARNING):
        assert ffi.hub() is None
    assert "1.3.0 is not 1.2.x" in caplog.text
    assert _ffi_client.FfiClient.instance._queue is plain


def test_a_missing_part_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plain: Any = _ffi_client.FfiQueue()
    del plain._subscribers
    monkeypatch.setattr(_ffi_client.FfiClient.instance, "_queue", plain)
    assert "FfiQueue._subscribers" in (ffi.shape_problem() or "")


async def test_a_real_source_takes_speech_flushes_and_completes() -> None:
    hub = ffi.hub()
    assert hub is not None
    voice = NativeVoice(hub, rate_hz=24_000, queue_ms=1000)
    loop = asyncio.get_running_loop()
    voice.push(bytes(48_000 // 2), loop.time())
    assert 0.49 < voice.queued_s(loop.time()) <= 0.5
    voice.clear()
    assert voice.queued_s(loop.time()) == 0
    voice.push(bytes(4800), loop.time())
    voice.push(bytes(48_000), loop.time())
    assert voice.dropped_ms == 1000
    async with asyncio.timeout(2):
        while hub.in_use()["captures"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert voice.errors == 0
    await voice.aclose()
    await voice.aclose()
    voice.push(bytes(4800), loop.time())


async def test_speech_after_a_flush_waits_for_what_was_on_its_way(client: FakeClient) -> None:
    hub = client.hub
    assert hub is not None
    sent: list[int] = []

    def request(asked: ffi_pb2.FfiRequest) -> ffi_pb2.FfiResponse:
        answer = ffi_pb2.FfiResponse()
        answer.capture_audio_frame.async_id = asked.capture_audio_frame.request_async_id
        sent.append(answer.capture_audio_frame.async_id)
        return answer

    client.request = request  # type: ignore[method-assign, assignment]
    voice = NativeVoice(hub, rate_hz=24_000, queue_ms=1000)
    cleared: list[int] = []
    voice.source.clear_queue = lambda: cleared.append(len(sent))  # type: ignore[method-assign]

    def done(capture_id: int) -> ffi_pb2.FfiEvent:
        event = ffi_pb2.FfiEvent()
        event.capture_audio_frame.async_id = capture_id
        return event

    voice.push(bytes(960), 0.0)
    voice.clear()
    voice.push(bytes(960), 0.0)
    assert (len(sent), cleared) == (1, [1])
    on_thread(lambda: hub.put(done(sent[0])))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (len(sent), cleared) == (2, [1, 1])  # cleared once more before the newer speech went off
    on_thread(lambda: hub.put(done(sent[1])))
    voice.clear()
    assert cleared == [1, 1, 2]
    await voice.aclose()
    assert hub.in_use()["captures"] == 0


def test_client_protocol_is_read_or_unknown() -> None:
    class Somebody:
        class _info:
            client_protocol = 2

    somebody: Any = Somebody()
    assert ffi.client_protocol(somebody) == 2
    nobody: Any = object()
    assert ffi.client_protocol(nobody) is None


@pytest.mark.parametrize("known", [True, False])
async def test_a_room_that_was_taken_and_left_again_is_no_orphan(
    client: FakeClient, known: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def request(_: ffi_pb2.FfiRequest) -> ffi_pb2.FfiResponse:
        assert known  # as the SDK does of a handle that the native side has dropped
        return ffi_pb2.FfiResponse()

    monkeypatch.setattr(client, "request", request)
    joined = ffi_pb2.FfiEvent()
    joined.connect.result.room.handle.id = 41
    joined.connect.result.local_participant.handle.id = 42
    assert client.hub is not None
    client.hub._leave_orphan(joined)
    assert client.hub.orphans == len(caplog.records) == known
    assert client.dropped == ([42, 41] if known else [])
