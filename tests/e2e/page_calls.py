"""The page served as `roombridge serve` does, with an emulated provider whose ears a test can ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bridge.app import Process
from bridge.config import Config
from bridge.demo.server import LocalServer
from bridge.facade import RoomBridge
from bridge.http_api.settings import ServeSettings
from bridge.serve import Serving
from bridge.transports.livekit_room import LiveKitSettings
from bridge.transports.webrtc_call import DirectCallSettings
from bridge.video.settings import VideoSettings
from providers.catalog import PROVIDERS
from providers.emulators.server import EmulatorServer
from providers.scripted.scenario import Scenario
from tests.e2e.audio import Samples, from_pcm, read_wav, resampled, write_wav
from tests.e2e.calls import emulator_of, until

__all__ = ["ServedPage", "microphone", "served_page"]

DATA = Path(__file__).parents[1] / "data"
MIC_HZ = 48_000


class ServedPage:
    """The server, its calls, and the emulator behind them."""

    def __init__(self, serving: Serving, process: Process, emulator: EmulatorServer) -> None:
        self.address = serving.address_with_token()
        self.process = process
        self.emulator = emulator
        self._serving = serving

    @property
    def bridge(self) -> RoomBridge:
        """Of the one call that runs."""
        (bridge,) = self.process.bridges.values()
        return bridge

    def counters(self) -> dict[str, int | float]:
        return self._serving.server.counters()

    def model_heard(self) -> tuple[Samples, int]:
        """Everything that reached the provider in the newest call, and its rate."""
        recording = self.emulator.connections[-1].brain.hearing.recording
        return from_pcm(recording.heard), recording.rate_hz

    def model_read(self) -> list[str]:
        """What was typed to the model, in the newest call."""
        return [line.text for line in self.emulator.connections[-1].brain.memory.lines if line.role == "user"]

    async def nothing_runs(self) -> None:
        """Wait until every call has ended and the provider's connections are closed."""
        await until(lambda: not self.process.bridges and not self.counters()["serve.calls_now"])
        await until(lambda: all(connection.closed_at is not None for connection in self.emulator.connections))


@asynccontextmanager
async def served_page(
    server: LocalServer | None,
    scenario: Scenario | None = None,
    *,
    max_calls: int = 10,
    video: VideoSettings | None = None,
    tools: Iterable[Callable[..., Any]] = (),
    **serve: Any,
) -> AsyncIterator[ServedPage]:
    """Args: server is the LiveKit server that rooms are made on; None: there is none. tools are the model's."""
    async with emulator_of("openai", scenario) as emulator:
        own = PROVIDERS["openai"].settings_type()(base_url=f"{emulator.base_url}/v1")
        config = Config(
            provider="openai",
            providers={"openai": own},
            livekit=LiveKitSettings(url=server.url) if server else LiveKitSettings(),
            serve=ServeSettings(port=0, **serve),
            webrtc=DirectCallSettings(max_calls=max_calls),
            video=video or VideoSettings(),
        )
        environ = {"OPENAI_API_KEY": "a-key"}
        if server is not None:
            environ |= {"LIVEKIT_API_KEY": server.api_key, "LIVEKIT_API_SECRET": server.api_secret}
        process = Process(tools)
        told: asyncio.Queue[str] = asyncio.Queue()
        serving = Serving(config, environ, process, tell=told.put_nowait)
        failed: Exception | None = None
        async with asyncio.TaskGroup() as group:
            running = group.create_task(serving.run(), name="test:serving")
            try:
                await told.get()
                yield ServedPage(serving, process, emulator)
            except Exception as error:  # a test's own words are not to be wrapped in the group's
                failed = error
            finally:
                serving.stop()
                await running
        if failed is not None:
            raise failed


def microphone(path: Path, *sounds: Samples | float) -> Path:
    """A WAV for the browser's microphone: sounds at 48 kHz, and pauses (s)."""
    parts = [np.zeros(int(sound * MIC_HZ)) if isinstance(sound, float) else sound for sound in sounds]
    return write_wav(path, np.concatenate(parts), MIC_HZ)


def speech(name: str) -> Samples:
    """One of tests/data, at 48 kHz."""
    samples, rate_hz = read_wav(DATA / f"{name}.wav")
    return resampled(samples, rate_hz, MIC_HZ)
