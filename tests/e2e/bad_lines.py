"""Calls over a bad network, one kind after the other: who speaks, who listens, and what lies between them.

Each gives a `Line`: something is said at both ends at once, the weather changes meanwhile, and both ears are judged.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.markers import Capture
from bridge.app import Process
from providers.catalog import PROVIDERS
from providers.contract import SpeechChunk
from providers.emulators.connection import Connection
from providers.openai.settings import OpenAISettings
from providers.scripted.scenario import Scenario
from providers.settings import ConnectionSettings, SpeechSettings
from providers.signal.formats import PCM16_24K
from providers.webrtc.peer import Peer, PeerSettings
from tests.e2e.audio import Samples, to_pcm, write_wav
from tests.e2e.calls import emulator_of, until
from tests.e2e.plain_peer import Ear, PlainPeer
from tests.e2e.programme import Report, Weather, judge, said
from tests.fakes.caller import Caller, started
from tests.fakes.netem import Conditions, Impairment
from tests.fakes.sdp_proxy import SdpProxy
from tests.fakes.tun_line import TunLine
from tests.fakes.udp_relay import UdpRelay

__all__ = [
    "Line",
    "Opened",
    "OwnPeer",
    "Voice",
    "direct_call",
    "impaired",
    "model_ear",
    "openai_call",
    "over",
    "own_to_own",
    "own_to_plain",
    "plain_to_plain",
    "says",
]

_SETTLE_S = 1.0
_TAIL_S = 1.0
"""What was said last is still on its way."""
_LOST_AFTER_S = 0.1
_LIVE_QUEUE_MS = 120
"""Of a live voice, where the machine has stood still: what is older is not worth sending."""


class Line(msgspec.Struct, kw_only=True):
    """A call that stands, and its network."""

    say: Callable[[], Awaitable[None]]
    """Both ends begin to say the programme."""
    ears: dict[str, Callable[[], Awaitable[Capture]]]
    """What was heard, by what the table calls that way: first the way up, then the way down."""
    network: UdpRelay | TunLine
    told: Callable[[], str] = str
    """Counters worth seeing when a figure is bad."""


Opened = Callable[[], AbstractAsyncContextManager[Line]]


async def over(opened: Opened, conditions: Conditions) -> dict[str, Report]:
    """Say the programme over this line in this weather. Ways that heard too little to be judged are missing."""
    for rate_hz in (24_000, 48_000):
        said(rate_hz)
    async with opened() as line:

        def change(now: Conditions) -> None:
            line.network.up.conditions = line.network.down.conditions = now

        weather = Weather(change, line.network.cut, conditions)
        await asyncio.sleep(_SETTLE_S)
        await line.say()
        await weather.run()
        await asyncio.sleep(_TAIL_S)
        heard = [
            (name, await ear(), tap) for (name, ear), tap in zip(line.ears.items(), line.network.taps, strict=True)
        ]
        told = line.told()
    return {name: await asyncio.to_thread(judge, name, ear, weather.cut_ends_at, tap, told) for name, ear, tap in heard}


def says(wav: str) -> dict[str, Any]:
    """The scenario of a model that begins to say this WAV as soon as it is there, and lets nobody interrupt it."""
    return {
        "greeting": {"kind": "wav", "file": wav},
        "pace": {"speed": 1.1, "burst_s": 1.0, "latency_ms": 0},
        "barge_in": False,
        "vad": {"enabled": False},
        "session": {"heard_limit_s": 120.0},
    }


def model_ear(connection: Callable[[], Connection]) -> Callable[[], Awaitable[Capture]]:
    """What an emulated model has heard, with the time at which each piece came."""

    async def capture() -> Capture:
        recording = connection().brain.hearing.recording
        assert recording.dropped_ms == 0, "all of it is kept"
        positions = np.array([arrival.position_ms for arrival in recording.arrivals]) * recording.rate_hz / 1000
        times = np.array([arrival.at for arrival in recording.arrivals])
        samples = np.frombuffer(recording.heard, dtype="<i2")
        return Capture(recording.rate_hz, samples, np.rint(positions).astype(np.int64), times)

    return capture


def impaired(seed: int) -> tuple[Impairment, Impairment]:
    """Two ways, each with a luck of its own."""
    return Impairment(seed), Impairment(seed + 1000)


class Voice:
    """A microphone: 20 ms each 20 ms. What it could not give in time because the machine stood still is not said."""

    def __init__(self, give: Callable[[bytes], None], rate_hz: int) -> None:
        self._give = give
        self._size = rate_hz // 50 * 2
        self._speaking: asyncio.Task[None] | None = None

    def say(self, samples: Samples) -> None:
        """Mono, at this voice's rate, from now on."""
        # Its life is this object's: ended by `stop`.
        self._speaking = asyncio.get_running_loop().create_task(self._say(to_pcm(samples)), name="voice")

    async def _say(self, pcm: bytes) -> None:
        loop = asyncio.get_running_loop()
        began, size = loop.time(), self._size
        for number in range(len(pcm) // size):
            late_s = loop.time() - began - number / 50
            if late_s <= _LOST_AFTER_S:
                await asyncio.sleep(-late_s)
                self._give(pcm[number * size : (number + 1) * size])

    async def stop(self) -> None:
        if self._speaking is not None:
            self._speaking.cancel()
            await asyncio.gather(self._speaking, return_exceptions=True)


class OwnPeer:
    """Our own connection, with a voice on a steady beat and an ear. Use as an async context manager."""

    def __init__(self, name: str, rate_hz: int = 24_000) -> None:
        self.ear = Ear(rate_hz)
        self.closed = ""
        settings = PeerSettings(send_rate_hz=rate_hz, receive_rate_hz=rate_hz, send_queue_ms=_LIVE_QUEUE_MS)
        self.peer = Peer(self, settings, name=name)
        self.voice = Voice(self.peer.send_audio, rate_hz)

    async def __aenter__(self) -> OwnPeer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.voice.stop()
        await self.peer.close()

    def peer_connected(self) -> None: ...

    def channel_open(self) -> None: ...

    def audio_received(self, pcm: bytes, now: float) -> None:
        self.ear.hear(pcm, now)

    def message_received(self, message: str | bytes) -> None: ...

    def video_track(self, track: Any) -> None: ...

    def peer_closed(self, reason: str) -> None:
        self.closed = reason


def _kept(ear: Ear) -> Callable[[], Awaitable[Capture]]:
    async def capture() -> Capture:
        return ear.capture()

    return capture


@asynccontextmanager
async def plain_to_plain() -> AsyncIterator[Line]:
    """aiortc at both ends."""
    async with UdpRelay(*impaired(1)) as relay, PlainPeer() as one, PlainPeer() as two:

        async def answers(offer: str) -> str:
            return relay.answer(await two.answer(relay.offer(offer)))

        await one.connect(answers)

        async def say() -> None:
            for end in (one, two):
                end.say(said(48_000))

        ears = {"aiortc to aiortc": _kept(two.ear), "aiortc to aiortc, back": _kept(one.ear)}
        yield Line(say=say, ears=ears, network=relay, told=lambda: f"{relay.up.stats} {relay.down.stats}")


@asynccontextmanager
async def own_to_plain() -> AsyncIterator[Line]:
    """aiortc calls our own connection."""
    async with UdpRelay(*impaired(2)) as relay, PlainPeer() as caller, OwnPeer("bad-line") as own:

        async def answers(offer: str) -> str:
            return relay.answer(await own.peer.answer(relay.offer(offer)))

        await caller.connect(answers, channel="any")
        async with asyncio.timeout(10):
            await own.peer.connected()

        async def say() -> None:
            caller.say(said(48_000))
            own.voice.say(said(24_000))

        ears = {"aiortc to ours": _kept(own.ear), "ours to aiortc": _kept(caller.ear)}
        yield Line(say=say, ears=ears, network=relay, told=lambda: f"{own.closed} {own.peer.stats}")


@asynccontextmanager
async def own_to_own() -> AsyncIterator[Line]:
    """Our own connection at both ends."""
    async with UdpRelay(*impaired(4)) as relay, OwnPeer("bad-caller") as caller, OwnPeer("bad-callee") as callee:
        answer = relay.answer(await callee.peer.answer(relay.offer(await caller.peer.offer("any"))))
        await caller.peer.accept(answer)
        async with asyncio.timeout(10):
            await asyncio.gather(caller.peer.connected(), callee.peer.connected())

        async def say() -> None:
            for end in (caller, callee):
                end.voice.say(said(24_000))

        yield Line(
            say=say,
            ears={"ours to ours": _kept(callee.ear), "ours to ours, back": _kept(caller.ear)},
            network=relay,
            told=lambda: f"{callee.closed} {callee.peer.stats} {caller.peer.stats}",
        )


@asynccontextmanager
async def direct_call() -> AsyncIterator[Line]:
    """Someone calls the bridge directly. Our own connection stands for his browser: aiortc has worse ears."""
    with tempfile.TemporaryDirectory() as folder:
        wav = write_wav(Path(folder, "said.wav"), said(24_000), 24_000)
        process = Process()
        async with emulator_of("openai", msgspec.convert(says(str(wav)), Scenario)) as emulator:
            config = {"provider": "openai", "providers": {"openai": {"base_url": f"{emulator.base_url}/v1"}}}
            async with (
                started(process, config, {"OPENAI_API_KEY": "a-key"}) as serving,
                Caller(serving) as desk,
                UdpRelay(*impaired(5)) as relay,
                OwnPeer("bad-caller") as caller,
            ):
                desk.token = await desk.new_token()
                status, answer = await desk.offer_call(relay.offer(await caller.peer.offer("roombridge")))
                assert status == 201, answer
                await caller.peer.accept(relay.answer(answer))
                async with asyncio.timeout(10):
                    await caller.peer.connected()
                await until(lambda: process.bridges)
                (bridge,) = process.bridges.values()

                async def say() -> None:
                    await until(lambda: bridge.snapshot().counters["playout.pieces"] > 0, 15)
                    caller.voice.say(said(24_000))

                yield Line(
                    say=say,
                    ears={
                        "direct call, to the model": model_ear(lambda: emulator.connections[-1]),
                        "direct call, to the caller": _kept(caller.ear),
                    },
                    network=relay,
                    told=lambda: f"{caller.closed} {caller.peer.stats} {bridge.snapshot().counters}",
                )


@asynccontextmanager
async def openai_call() -> AsyncIterator[Line]:
    """A session with the emulated OpenAI over WebRTC; the relay rewrites the offer in the request and the answer."""
    with tempfile.TemporaryDirectory() as folder:
        wav = write_wav(Path(folder, "said.wav"), said(24_000), 24_000)
        async with (
            emulator_of("openai", msgspec.convert(says(str(wav)), Scenario)) as emulator,
            UdpRelay(*impaired(6)) as relay,
            SdpProxy(relay, emulator.base_url) as proxy,
        ):
            own = OpenAISettings(base_url=f"{proxy.base_url}/v1", transport="webrtc")
            model = PROVIDERS["openai"].connector(SpeechSettings(), own, ConnectionSettings(), {"OPENAI_API_KEY": "k"})
            session = await model.connect()
            ear = Ear(session.capabilities.output_format.rate_hz)
            loop = asyncio.get_running_loop()
            events: list[str] = []

            def hear(event: object) -> None:
                if isinstance(event, SpeechChunk):
                    ear.hear(event.audio, loop.time())
                else:
                    events.append(type(event).__name__)

            session.listen(hear)
            voice = Voice(lambda pcm: session.send_audio(pcm, PCM16_24K), 24_000)
            try:

                async def say() -> None:
                    await until(lambda: ear.heard_s > 0)
                    voice.say(said(24_000))

                yield Line(
                    say=say,
                    ears={
                        "OpenAI over WebRTC, to the model": model_ear(lambda: emulator.connections[-1]),
                        "OpenAI over WebRTC, from the model": _kept(ear),
                    },
                    network=relay,
                    told=lambda: f"{session.state} {events} {session.outbox} {proxy.asked}",
                )
            finally:
                await voice.stop()
                await session.close()
