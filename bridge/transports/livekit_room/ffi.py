"""Our own dispatch of native events in place of the LiveKit SDK's. Touches its private parts, as `native_audio` does.

Nothing else does; both have a public stand-in in `tracks`.

What it mends (livekit 1.2.x): the SDK tries each native event on each subscriber's filter and wakes every room for
the completion of every captured frame, so the cost of a frame grows with the number of calls. Here frames go to their
stream by handle, completions to their source by id, room events to their room; and all frames that arrive before
the loop's next turn share one wake-up. Nothing in here belongs to a call for longer than the call lasts.

`hub()` returns None where the SDK is not the one we know; then the public path is used.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import logging
import re
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from livekit import rtc
from livekit.rtc import _ffi_client, _utils
from livekit.rtc._proto import audio_frame_pb2, ffi_pb2, participant_pb2, video_frame_pb2
from livekit.rtc.version import __version__ as _sdk_version

__all__ = [
    "EAR_LIMIT",
    "Ear",
    "Eye",
    "Hub",
    "Inbox",
    "Voice",
    "abandon",
    "client_protocol",
    "hub",
    "live_handles",
    "newest_token",
    "shape_problem",
]

_log = logging.getLogger(__name__)

_MAX_KEPT_THREADS = 64
EAR_LIMIT = 250
"""Frames of one stream that may wait for a stalled loop: 5 s at 20 ms. Full: the oldest goes and is counted."""
_CLAIM_S = 1.0
"""In the loop of whoever waits for a room: by then it has taken it."""

_TO_EVERY_ROOM = frozenset({"publish_track", "unpublish_track", "rpc_method_invocation"})
"""What `rtc.Room` needs beyond its own room events; it picks its own by id or handle."""


class _Subscriber:
    __slots__ = ("filter", "loop", "queue")

    def __init__(self, queue: Any, loop: asyncio.AbstractEventLoop, accepts: Callable[[Any], bool] | None) -> None:
        self.queue = queue
        self.loop = loop
        self.filter = accepts

    def give(self, event: Any) -> bool:
        if self.filter is not None and not self.filter(event):
            return False
        try:
            self.loop.call_soon_threadsafe(self.queue.put_nowait, event)
        except RuntimeError:  # its loop is closed: it went without unsubscribing
            return False
        return True


class Ear(Protocol):
    """Takes the frames of one native stream."""

    inbox: Inbox | None

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    def arrived(self, frame: audio_frame_pb2.OwnedAudioFrameBuffer) -> None:
        """On a native thread."""
        ...

    def deliver(self, now: float) -> None:
        """In the loop: the oldest frame, if there is one."""
        ...

    def discard(self) -> None:
        """The loop is closed: release what waits."""
        ...


class Eye(Protocol):
    """Takes the frames of one native video stream."""

    def arrived(self, frame: video_frame_pb2.VideoFrameReceived) -> None:
        """On a native thread."""
        ...


class Voice(Protocol):
    """Sends speech off to the native side."""

    def captured(self, capture_id: int, error: str) -> None:
        """On a native thread: a capture has reached the queue, or failed."""
        ...


class Inbox:
    """Frames that wait for one event loop. One wake-up for all that arrive before its next turn."""

    __slots__ = ("_awake", "_ears", "loop", "users")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.users = 0
        self._ears: deque[Ear] = deque()
        self._awake = False

    def put(self, ear: Ear) -> None:
        """On a native thread."""
        self._ears.append(ear)
        if not self._awake:
            self._awake = True
            try:
                self.loop.call_soon_threadsafe(self._drain)
            except RuntimeError:
                ear.discard()

    def _drain(self) -> None:
        # Cleared first: a frame that comes from here on asks for a turn of its own.
        self._awake = False
        now = self.loop.time()
        for _ in range(len(self._ears)):
            self._ears.popleft().deliver(now)


class Hub(_ffi_client.FfiQueue[ffi_pb2.FfiEvent]):
    """Takes the place of the SDK's event queue: by handle and id where it can, the SDK's own way for the rest."""

    def __init__(self, client: _ffi_client.FfiClient) -> None:
        super().__init__()
        self.client = client
        self._drop = client._ffi_lib.livekit_ffi_drop_handle
        self._with_filter: dict[int, _Subscriber] = {}
        self._one_shots: dict[int, _Subscriber] = {}
        self._rooms: dict[int, _Subscriber] = {}
        self._bound: dict[int, int] = {}
        self._ears: dict[int, Ear] = {}
        self._eyes: dict[int, Eye] = {}
        self._captures: dict[int, Voice] = {}
        self._inboxes: dict[asyncio.AbstractEventLoop, Inbox] = {}
        self._opening = 0
        self._early: deque[ffi_pb2.FfiEvent] = deque()
        self._ids = itertools.count(1 << 48)
        self._kept = threading.local()
        self.kept_threads = 0
        self.orphans = 0
        """Rooms that were joined after their caller had given up, and left; of all calls of the process."""
        self._with_id = frozenset(
            field.name
            for field in ffi_pb2.FfiEvent.DESCRIPTOR.fields
            if field.message_type is not None and "async_id" in field.message_type.fields_by_name
        )

    # The SDK's own interface -------------------------------------------------------------------------------

    def subscribe(self, loop: asyncio.AbstractEventLoop | None = None, filter_fn: Any = None) -> Any:
        queue: Any = _utils.Queue()
        subscriber = _Subscriber(queue, loop or asyncio.get_event_loop(), filter_fn)
        with self._lock:
            # Without a filter: a request that waits for its own completion. It is spared all media and room events.
            (self._one_shots if filter_fn is None else self._with_filter)[id(queue)] = subscriber
        return queue

    def unsubscribe(self, queue: Any) -> None:
        with self._lock:
            self._one_shots.pop(id(queue), None)
            self._with_filter.pop(id(queue), None)
            handle = self._bound.pop(id(queue), None)
            if handle is not None:
                self._rooms.pop(handle, None)

    def put(self, item: ffi_pb2.FfiEvent) -> None:
        """On a native thread, once for each event of the process."""
        if not getattr(self._kept, "yes", False):
            self._keep_thread_state()
        which = item.WhichOneof("message")
        if which == "audio_stream_event":
            event = item.audio_stream_event
            ear = self._ears.get(event.stream_handle)
            if ear is None:
                self._unknown_stream(item)
            elif event.HasField("frame_received"):
                ear.arrived(event.frame_received.frame)
        elif which == "video_stream_event":
            self._see(item)
        elif which == "capture_audio_frame":
            voice = self._captures.pop(item.capture_audio_frame.async_id, None)
            if voice is not None:
                voice.captured(item.capture_audio_frame.async_id, item.capture_audio_frame.error)
            else:
                self._to_filters(item)
        elif which == "room_event":
            room = self._rooms.get(item.room_event.room_handle)
            if room is not None:
                room.give(item)
            else:
                self._to_unbound_room(item)
        elif which in self._with_id:
            for subscriber in tuple(self._one_shots.values()):
                subscriber.give(item)
            self._to_filters(item)
            if which == "connect" and item.connect.HasField("result"):
                self._see_claimed(item)
            if which in _TO_EVERY_ROOM:
                self._to_rooms(item)
        else:
            self._to_filters(item)
            if which in _TO_EVERY_ROOM:
                self._to_rooms(item)

    def _see(self, item: ffi_pb2.FfiEvent) -> None:
        event = item.video_stream_event
        eye = self._eyes.get(event.stream_handle)
        if eye is None:
            # A stream of the SDK's own; else one that was closed, or is not known yet: its first frame is no loss.
            if self._to_filters(item):
                return
            if event.HasField("frame_received"):
                self._drop(event.frame_received.buffer.handle.id)
        elif event.HasField("frame_received"):
            eye.arrived(event.frame_received)

    def _see_claimed(self, item: ffi_pb2.FfiEvent) -> None:
        """A room was joined; see to it that somebody takes it."""
        for subscriber in tuple(self._one_shots.values()):
            try:
                subscriber.loop.call_soon_threadsafe(subscriber.loop.call_later, _CLAIM_S, self._leave_orphan, item)
            except RuntimeError:  # its loop is closed
                continue
            return
        self._leave_orphan(item)  # nobody waits for a room any more

    def _leave_orphan(self, item: ffi_pb2.FfiEvent) -> None:
        """Leave a room whose join was given up while the native side went on with it: it would stay there as a ghost
        with our identity, and throw out whoever of us joins next, or be thrown out by him."""
        joined = item.connect.result
        if any(claimed.handle == joined.room.handle.id for claimed in list(_ffi_client._live_handles)):
            return
        # A joined room that nobody declares ready makes the native side panic after a while, upon which the SDK sends
        # SIGTERM to this process: every call of it would end for one join that was given up.
        ready, leave = ffi_pb2.FfiRequest(), ffi_pb2.FfiRequest()
        ready.ready_for_room_event.room_handle = joined.room.handle.id
        leave.disconnect.room_handle = joined.room.handle.id
        try:
            self.client.request(ready)
        except AssertionError:
            return  # the SDK asserts that the handle is known: the room was taken, and left again already
        self.orphans += 1
        _log.warning("a room was joined after its caller had given up: left again")
        self.client.request(leave)
        for other in joined.participants:
            self._drop(other.participant.handle.id)
            for publication in other.publications:
                self._drop(publication.handle.id)
        self._drop(joined.local_participant.handle.id)
        self._drop(joined.room.handle.id)

    def _to_filters(self, item: ffi_pb2.FfiEvent) -> bool:
        taken = False
        for subscriber in tuple(self._with_filter.values()):
            taken |= subscriber.give(item)
        return taken

    def _to_unbound_room(self, item: ffi_pb2.FfiEvent) -> None:
        # Under the lock: a room that is being bound at this moment stands in one of the two, and must not miss it.
        with self._lock:
            room = self._rooms.get(item.room_event.room_handle)
            if room is None:
                self._to_filters(item)
        if room is not None:
            room.give(item)

    def _to_rooms(self, item: ffi_pb2.FfiEvent) -> None:
        for room in tuple(self._rooms.values()):
            room.give(item)

    def _unknown_stream(self, item: ffi_pb2.FfiEvent) -> None:
        event = item.audio_stream_event
        taken = self._to_filters(item)  # a stream of the SDK's own
        if taken or not event.HasField("frame_received"):
            return
        if self._opening and len(self._early) < EAR_LIMIT:
            # The native side may be faster than the answer that tells us the handle.
            self._early.append(item)
        else:
            self._drop(event.frame_received.frame.handle.id)

    def _keep_thread_state(self) -> None:
        # ctypes makes a Python thread state for each call-back from a native thread and destroys it afterwards.
        # One PyGILState_Ensure that is never released keeps it for the life of that thread, which halves the
        # cost of a frame. Threads of Python's own have one anyhow.
        self._kept.yes = True
        mine = threading.get_ident()
        if self.kept_threads < _MAX_KEPT_THREADS and all(thread.ident != mine for thread in threading.enumerate()):
            self.kept_threads += 1
            ctypes.pythonapi.PyGILState_Ensure()

    # Ours --------------------------------------------------------------------------------------------------

    def adopt(self, old: Any) -> None:
        """Take over the subscribers of the queue that we replace."""
        with old._lock:
            for queue, loop, accepts in old._subscribers:
                subscriber = _Subscriber(queue, loop, accepts)
                (self._one_shots if accepts is None else self._with_filter)[id(queue)] = subscriber

    def bind(self, room: rtc.Room) -> None:
        """From now on this room gets its own events only. Undone when the SDK unsubscribes it, or by `unbind`."""
        queue, ffi_handle = room._ffi_queue, room._ffi_handle
        if ffi_handle is None:
            return
        with self._lock:
            subscriber = self._with_filter.pop(id(queue), None)
            if subscriber is None:  # already over
                return
            self._rooms[ffi_handle.handle] = _Subscriber(queue, subscriber.loop, None)
            self._bound[id(queue)] = ffi_handle.handle

    def unbind(self, room: rtc.Room) -> None:
        """Forget a room."""
        queue = getattr(room, "_ffi_queue", None)
        if queue is not None:
            self.unsubscribe(queue)

    def open_ear(self, ear: Ear, request: ffi_pb2.FfiRequest) -> int:
        """Start a native stream whose frames go to `ear`. Returns its handle."""
        inbox = self._inboxes.get(ear.loop)
        if inbox is None:
            inbox = self._inboxes[ear.loop] = Inbox(ear.loop)
        inbox.users += 1
        ear.inbox = inbox
        self._opening += 1
        try:
            handle: int = self.client.request(request).new_audio_stream.stream.handle.id
            self._ears[handle] = ear
        finally:
            self._opening -= 1
        for item in tuple(self._early):
            event = item.audio_stream_event
            if event.stream_handle == handle:
                self._early.remove(item)
                ear.arrived(event.frame_received.frame)
        if not self._opening:
            while self._early:
                self._drop(self._early.popleft().audio_stream_event.frame_received.frame.handle.id)
        return handle

    def close_ear(self, ear: Ear, handle: int) -> None:
        self._ears.pop(handle, None)
        self._drop(handle)
        if ear.inbox is not None:
            ear.inbox.users -= 1
            if ear.inbox.users == 0:
                self._inboxes.pop(ear.loop, None)
            ear.inbox = None

    def open_eye(self, eye: Eye, request: ffi_pb2.FfiRequest) -> int:
        """Start a native video stream whose frames go to `eye`. Returns its handle."""
        handle: int = self.client.request(request).new_video_stream.stream.handle.id
        self._eyes[handle] = eye
        return handle

    def close_eye(self, handle: int) -> None:
        self._eyes.pop(handle, None)
        self._drop(handle)

    def drop(self, handle: int) -> None:
        """Release a native object."""
        self._drop(handle)

    def expect_capture(self, voice: Voice) -> int:
        """An id under which the completion of a capture will come to `voice`."""
        capture_id = next(self._ids)
        self._captures[capture_id] = voice
        return capture_id

    def forget_capture(self, capture_id: int) -> None:
        self._captures.pop(capture_id, None)

    def in_use(self) -> dict[str, int]:
        """What is registered now; all zero when no call is on."""
        return {
            "rooms": len(self._rooms),
            "ears": len(self._ears),
            "eyes": len(self._eyes),
            "captures": len(self._captures),
            "inboxes": len(self._inboxes),
            "one_shots": len(self._one_shots),
            "filters": len(self._with_filter),
        }


def shape_problem() -> str | None:
    """Why the installed SDK is not the one that this module knows; None if it is."""
    version = tuple(int(part) for part in re.findall(r"\d+", _sdk_version)[:2])
    if version != (1, 2):
        return f"livekit {_sdk_version} is not 1.2.x"
    capture = audio_frame_pb2.CaptureAudioFrameRequest.DESCRIPTOR.fields_by_name
    stream = audio_frame_pb2.NewAudioStreamRequest.DESCRIPTOR.fields_by_name
    event = audio_frame_pb2.AudioStreamEvent.DESCRIPTOR.fields_by_name
    seen = video_frame_pb2.VideoStreamEvent.DESCRIPTOR.fields_by_name
    look = video_frame_pb2.NewVideoStreamRequest.DESCRIPTOR.fields_by_name
    client = _ffi_client.FfiClient.instance
    wanted = {
        "FfiClient._queue": type(getattr(client, "_queue", None)) in (_ffi_client.FfiQueue, Hub),
        "FfiClient._ffi_lib": hasattr(client, "_ffi_lib"),
        "FfiQueue._lock": hasattr(client.queue, "_lock"),
        "FfiQueue._subscribers": isinstance(getattr(client.queue, "_subscribers", None), list),
        "CaptureAudioFrameRequest.request_async_id": "request_async_id" in capture,
        "NewAudioStreamRequest.frame_size_ms": "frame_size_ms" in stream,
        "AudioStreamEvent.stream_handle": "stream_handle" in event,
        "VideoStreamEvent.stream_handle": "stream_handle" in seen,
        "NewVideoStreamRequest.queue_size_frames": {"queue_size_frames", "normalize_stride"} <= set(look),
        "ParticipantInfo.client_protocol": "client_protocol"
        in participant_pb2.ParticipantInfo.DESCRIPTOR.fields_by_name,
    }
    missing = [name for name, there in wanted.items() if not there]
    return f"livekit {_sdk_version} lacks {', '.join(missing)}" if missing else None


def hub() -> Hub | None:
    """The hub of this process, put in place on first use; None where the SDK is not the one we know."""
    client = _ffi_client.FfiClient.instance
    if isinstance(client._queue, Hub):
        return client._queue
    problem = shape_problem()
    if problem is not None:
        _log.warning("%s: using the SDK's public interface, which costs more with each call", problem)
        return None
    ours = Hub(client)
    ours.adopt(client._queue)
    client._queue = ours
    return ours


def client_protocol(participant: rtc.Participant) -> int | None:
    """The participant's client protocol; below 3 it needs legacy transcription packets. None: cannot be known."""
    info = getattr(participant, "_info", None)
    value = getattr(info, "client_protocol", None)
    return value if isinstance(value, int) else None


def newest_token(room: rtc.Room) -> str:
    """The token as the server refreshed it last, or the one that was joined with. Empty: cannot be known."""
    token = getattr(room, "_token", None)
    return token if isinstance(token, str) else ""


def abandon(room: rtc.Room) -> None:
    """End what the SDK still runs for a room that was left, or that could not be left: its task would wait for ever
    for the last word of a server that is dead."""
    task = getattr(room, "_task", None)
    if isinstance(task, asyncio.Task):
        task.cancel()


def live_handles() -> int:
    """Native objects that Python holds now."""
    return sum(not handle.disposed for handle in list(_ffi_client._live_handles))
