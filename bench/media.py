"""What WebRTC costs: a packet each way in our own media path, and a whole connection beside plain aiortc's.

Connections take turns in windows of equal length, both ends in this process, speech both ways; a figure is the CPU time
of the process, all of its threads, over the time of the window.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.figures import Measure, Table
from bench.host import HostClock
from bench.micro import alternate
from bench.stage import Plan
from providers.signal import wav
from providers.signal.resample import Int16Array
from providers.webrtc.jitter import JitterBuffer
from providers.webrtc.peer import Peer, PeerSettings

__all__ = ["measure"]

_RATE_HZ = 24_000
_FRAME = _RATE_HZ // 50
_LOOPBACK = PeerSettings(addresses=("127.0.0.1",))
_SPEECH = Path(__file__).parents[1] / "tests" / "data"


async def measure(plan: Plan) -> Measure:
    """Steps and connections, `rounds` times."""
    host = HostClock()
    speech = np.concatenate([wav.read(_SPEECH / f"{name}.wav", _RATE_HZ) for name in ("hello", "question", "answer")])
    steps = _steps(speech)
    costs: dict[str, list[float]] = {name: [] for name, _, _, _ in steps}
    floors: dict[str, list[float]] = {name: [] for name, _, _, _ in steps}
    pairs: dict[str, list[float]] = {"ours": [], "aiortc": []}
    for _ in range(plan.rounds):
        for name, step, _, floor in steps:
            cost, least = alternate(step, floor)
            costs[name].append(cost)
            floors[name].append(least)
        pairs["ours"].append(await _ours(speech, plan.seconds))
        pairs["aiortc"].append(await _plain(speech, plan.seconds))
    load = host.load()
    packets = Table("A packet of 20 ms, us of CPU", ("step", "us", "floor us", "rounds", "floor is"))
    for name, _, floor_name, _ in steps:
        each = " ".join(f"{cost:.0f}" for cost in costs[name])
        row = (name, f"{np.median(costs[name]):.1f}", f"{np.median(floors[name]):.1f}", each, floor_name)
        packets.rows.append(row)
    whole = Table("Both ends of one connection, speech both ways", ("media path", "ms CPU/s", "rounds"))
    for name, found in pairs.items():
        whole.rows.append((name, f"{np.median(found):.0f}", " ".join(f"{cost:.0f}" for cost in found)))
    whole.notes.append(f"stolen {load.steal_percent:.1f} % {load.marks}".rstrip())
    return Measure("media", [packets, whole], [], {"us": costs, "floor_us": floors, "pair_ms_s": pairs, "load": load})


def _steps(speech: Int16Array) -> list[tuple[str, Callable[[], object], str, Callable[[], object]]]:
    """Name, step, and the least that any implementation must do."""
    from providers.webrtc.opus import OpusDecoder, OpusEncoder

    frames = [speech[at : at + _FRAME].tobytes() for at in range(0, len(speech) - _FRAME, _FRAME)]
    encoder, decoder = OpusEncoder(_RATE_HZ), OpusDecoder(_RATE_HZ)
    packets = [encoder.encode(frame) for frame in frames]
    buffer = JitterBuffer(lambda payload: np.frombuffer(payload, dtype=np.int16), _RATE_HZ)
    count = 0

    def encode() -> bytes:
        nonlocal count
        count += 1
        return encoder.encode(frames[count % len(frames)])

    def decode() -> Int16Array:
        nonlocal count
        count += 1
        return decoder.decode(packets[count % len(packets)])

    def play() -> Int16Array | None:
        nonlocal count
        count += 1
        now = count * 0.02
        buffer.push(count & 0xFFFF, count * 960 & 0xFFFFFFFF, frames[count % len(frames)], now)
        return buffer.pull(now + 0.001)

    samples = speech[:_FRAME]
    copy = partial(bytes, frames[0])
    return [
        ("encode to Opus, 24 kHz, 32 kbit/s", encode, "one copy", copy),
        ("decode from Opus to 24 kHz", decode, "one copy", copy),
        ("jitter buffer, in and out", play, "one pass", partial(samples.astype, np.float32)),
    ]


class _Listener:
    """The user of a peer that keeps nothing."""

    frames = 0

    def peer_connected(self) -> None: ...
    def channel_open(self) -> None: ...
    def audio_received(self, pcm: bytes, now: float) -> None:
        self.frames += 1

    def message_received(self, message: str | bytes) -> None: ...
    def video_track(self, track: Any) -> None: ...
    def peer_closed(self, reason: str) -> None: ...


async def _ours(speech: Int16Array, seconds: float) -> float:
    """ms of CPU a second."""
    listeners = _Listener(), _Listener()
    a, b = (Peer(user, _LOOPBACK, name=name) for user, name in zip(listeners, "ab", strict=True))
    await a.accept(await b.answer(await a.offer("words")))
    await asyncio.gather(a.connected(), b.connected())
    second = np.resize(speech, _RATE_HZ).tobytes()

    def feed() -> None:
        for peer in (a, b):
            if peer.queued_ms(0.0) < 500:
                peer.send_audio(second)

    spent = await _spent(seconds, feed)
    assert min(user.frames for user in listeners) > seconds * 40, "both ends heard the speech"
    await a.close()
    await b.close()
    return spent


async def _plain(speech: Int16Array, seconds: float) -> float:
    """As its examples do it: a track that gives a frame each 20 ms, and somebody who takes the other's."""
    import aioice.ice
    from aiortc import AudioStreamTrack, RTCConfiguration, RTCPeerConnection
    from av import AudioFrame

    loop = asyncio.get_running_loop()
    pcm = np.repeat(speech, 2)  # 48 kHz, as its encoder wants it

    class Speaker(AudioStreamTrack):
        number = 0
        began = 0.0

        async def recv(self) -> Any:
            self.began = self.began or loop.time()
            await asyncio.sleep(max(0.0, self.began + self.number * 0.02 - loop.time()))
            at = self.number * 960 % (len(pcm) - 960)
            frame = AudioFrame.from_ndarray(pcm[None, at : at + 960], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, self.number * 960, Fraction(1, 48_000)
            self.number += 1
            return frame

    heard = [0, 0]
    tasks: list[asyncio.Task[None]] = []

    async def listen(track: Any, which: int) -> None:
        while True:
            frame = await track.recv()
            heard[which] += len(frame.to_ndarray()[0, ::2]) // 960

    before = aioice.ice.get_host_addresses
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    try:
        ends = [RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2)]
        for which, end in enumerate(ends):
            end.addTrack(Speaker())
            end.on(
                "track",
                lambda track, which=which: tasks.append(loop.create_task(listen(track, which), name=f"listen:{which}")),
            )
        a, b = ends
        a.createDataChannel("words")
        await a.setLocalDescription(await a.createOffer())
        await b.setRemoteDescription(a.localDescription)
        await b.setLocalDescription(await b.createAnswer())
        await a.setRemoteDescription(b.localDescription)
        async with asyncio.timeout(10):
            while min(heard) < 5:  # noqa: ASYNC110  aiortc tells nobody
                await asyncio.sleep(0.05)
        spent = await _spent(seconds, lambda: None)
    finally:
        aioice.ice.get_host_addresses = before
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await a.close()
    await b.close()
    return spent


async def _spent(seconds: float, feed: Callable[[], None]) -> float:
    feed()
    await asyncio.sleep(0.5)
    began, cpu = time.monotonic(), time.process_time()
    while time.monotonic() - began < seconds:
        feed()
        await asyncio.sleep(0.25)
    return (time.process_time() - cpu) / (time.monotonic() - began) * 1000
