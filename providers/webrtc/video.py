"""The other side's video: the part of the seam that uses aiortc's own receiver, decoder thread and all.

A picture a second is what a model wants, so this path need not be cheap; it must be bounded. Both of its queues are:
frames that nobody took (full: the oldest goes) and frames that wait for the decoder (full: packets are dropped until
there is room, and aiortc asks for a new key frame).

Loaded on first use only, by `seam`.
"""

from __future__ import annotations

import asyncio
import queue
from importlib import metadata
from typing import Any

from aiortc import RTCRtpReceiver
from aiortc.codecs import CODECS, HEADER_EXTENSIONS, is_rtx
from aiortc.rtcpeerconnection import find_common_codecs, find_common_header_extensions
from aiortc.rtcrtpparameters import RTCRtpDecodingParameters, RTCRtpReceiveParameters, RTCRtpRtxParameters
from aiortc.rtcrtpreceiver import RemoteStreamTrack
from aiortc.sdp import MediaDescription, SessionDescription

from providers.webrtc import sdp

__all__ = ["Video"]

_WAITING_FRAMES = 3
_UNDECODED_FRAMES = 30
_QUEUE = "_RTCRtpReceiver__decoder_queue"


class _Newest(asyncio.Queue[Any]):
    """Decoded frames that nobody has taken. Full: the oldest goes."""

    put_at = float("-inf")

    async def put(self, item: Any) -> None:
        self.put_at = asyncio.get_running_loop().time()
        while self.qsize() >= _WAITING_FRAMES:
            self.get_nowait()
        self.put_nowait(item)


class Video:
    """One received video stream: what the answer says of it, and its track."""

    def __init__(self, remote: sdp.Remote) -> None:
        """Raises ValueError when no codec is shared (VP8, H.264)."""
        assert remote.video is not None
        try:
            described = SessionDescription.parse(remote.text)
            media: MediaDescription = described.media[remote.video]
            codecs = find_common_codecs(CODECS["video"], media.rtp.codecs)
        except Exception as error:  # aiortc asserts and indexes what the other side wrote: any error may come of it
            raise ValueError(f"the video section cannot be read ({type(error).__name__})") from None
        if not codecs:
            raise ValueError("the video section offers neither VP8 nor H.264")
        self._extensions = find_common_header_extensions(HEADER_EXTENSIONS["video"], media.rtp.headerExtensions)
        self._codecs = codecs
        self._mid = media.rtp.muxId
        self._ssrcs = [one.ssrc for one in media.ssrc[:2]]
        self._receiver: Any = None
        self.dropped_packets = 0
        """The decoder did not keep up."""
        self.watched = True
        """False: packets are dropped before the decoder; assign."""
        self.track = RemoteStreamTrack("video")
        self._frames = _Newest()
        self.track._queue = self._frames

    def lines(self) -> list[str]:
        """For the answer: payload types first, then the attributes of the codecs."""
        lines = [" ".join(str(codec.payloadType) for codec in self._codecs)]
        lines += [f"a=extmap:{one.id} {one.uri}" for one in self._extensions]
        for codec in self._codecs:
            number = codec.payloadType
            lines.append(f"a=rtpmap:{number} {codec}")
            lines += [
                f"a=rtcp-fb:{number} {one.type}" + (f" {one.parameter}" if one.parameter else "")
                for one in codec.rtcpFeedback
            ]
            parameters = ";".join(f"{key}={value}" for key, value in codec.parameters.items())
            if parameters:
                lines.append(f"a=fmtp:{number} {parameters}")
        return lines

    async def start(self, dtls: Any, ssrc: int) -> None:
        """Begin to receive. Args: `ssrc` names this side in RTCP."""
        receiver = RTCRtpReceiver("video", dtls)
        if not isinstance(getattr(receiver, _QUEUE, None), queue.Queue):
            raise RuntimeError(f"aiortc {metadata.version('aiortc')}: no {_QUEUE}; install aiortc>=1.16,<1.17")
        receiver._track = self.track
        receiver._set_rtcp_ssrc(ssrc)
        encodings = []
        if self._ssrcs:
            main = next(codec for codec in self._codecs if not is_rtx(codec))
            assert main.payloadType is not None
            encodings = [RTCRtpDecodingParameters(ssrc=self._ssrcs[0], payloadType=main.payloadType)]
            if len(self._ssrcs) == 2:
                encodings[0].rtx = RTCRtpRtxParameters(ssrc=self._ssrcs[1])
        self._receiver = receiver
        await receiver.receive(
            RTCRtpReceiveParameters(
                codecs=self._codecs, headerExtensions=self._extensions, muxId=self._mid, encodings=encodings
            )
        )

    def take(self, at_most_s: float) -> Any | None:
        """The newest decoded frame (PyAV's `VideoFrame`) that nobody has taken; None if there is none, or if the
        stream has rested for longer than `at_most_s`: that is a picture of the past."""
        newest = None
        while not self._frames.empty():
            newest = self._frames.get_nowait() or newest  # None: the end of the stream
        rested_s = asyncio.get_running_loop().time() - self._frames.put_at
        return newest if rested_s <= at_most_s else None

    def has_room(self) -> bool:
        """Whether the decoder keeps up, and somebody watches; a packet that it cannot take is dropped and counted."""
        if not self.watched:
            return False
        if self._receiver is None or getattr(self._receiver, _QUEUE).qsize() < _UNDECODED_FRAMES:
            return True
        self.dropped_packets += 1
        return False

    async def stop(self) -> None:
        """End the decoder's thread and the track."""
        if self._receiver is not None:
            await self._receiver.stop()
            self._receiver = None
        self.track.stop()
