from __future__ import annotations

from queue import Queue
from types import SimpleNamespace
from typing import Any

from providers.webrtc import sdp, video
from providers.webrtc.video import Video
from tests.fakes.webrtc import PlainClient, on_loopback


async def offered() -> Video:
    """What a browser offers, as we take it."""
    from aiortc import VideoStreamTrack

    with on_loopback():
        client = PlainClient()
        client.connection.addTrack(VideoStreamTrack())
        remote = sdp.parse(await client.offer("words"), is_answer=False)
        await client.close()
    return Video(remote)


async def test_packets_are_dropped_and_counted_while_the_decoder_does_not_keep_up() -> None:
    seen, undecoded = await offered(), Queue[Any]()
    seen._receiver = SimpleNamespace(**{video._QUEUE: undecoded})
    for _ in range(100):
        if seen.has_room():
            undecoded.put(b"a frame")
    assert (undecoded.qsize(), seen.dropped_packets) == (30, 70)
    undecoded.get()
    assert seen.has_room()
    seen.watched = False
    assert not seen.has_room() and seen.dropped_packets == 70, "nobody looks: that is no loss"


async def test_the_newest_frame_is_taken_once_and_not_when_the_stream_has_rested() -> None:
    seen = await offered()
    assert seen.take(1.0) is None
    for number in range(10):
        await seen.track._queue.put(number + 1)
    assert (seen.take(1.0), seen.take(1.0)) == (10, None)
    await seen.track._queue.put(11)
    seen._frames.put_at -= 2.0
    assert seen.take(1.0) is None, "a picture of the past"
