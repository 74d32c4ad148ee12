"""The table of providers that the suite runs against: each is a model, and a scripted mind that plays the service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from providers.contract import SpeechModel, Standby
from providers.emulators.gemini import GeminiEmulator, GeminiVendor
from providers.emulators.openai import OpenAIEmulator
from providers.emulators.server import EmulatorServer
from providers.gemini.model import GeminiModel
from providers.gemini.settings import GeminiSettings
from providers.openai.model import OpenAIModel
from providers.openai.settings import OpenAISettings
from providers.scripted.brain import Brain
from providers.scripted.model import ScriptedModel, ScriptedStandby
from providers.scripted.scenario import load_text
from providers.scripted.settings import ScriptedSettings
from providers.settings import ConnectionSettings, SpeechSettings

__all__ = ["FAST", "PROVIDERS", "WRONG_KEY", "Provider", "Scene", "Stage"]

WRONG_KEY = "wrong-key-0002"
_KEY = "good-key-0001"
_CONNECTION = ConnectionSettings(connect_timeout_s=5, setup_timeout_s=5, close_timeout_s=1)

FAST = "pace = { speed = 20.0, latency_ms = 0 }\n"


class Scene(msgspec.Struct, frozen=True):
    """What is played: a scenario and what the model is configured with."""

    scenario: str = FAST
    speech: SpeechSettings = SpeechSettings()
    key: str = _KEY
    connection: ConnectionSettings = _CONNECTION


@dataclass(frozen=True)
class Stage:
    """A model that can be connected to."""

    model: SpeechModel
    brain: Callable[[int], Brain]
    """The service's mind behind the n-th connection."""
    drop: Callable[[Standby], Awaitable[None]]
    """The service ends the connection of this standby, the newest that it has; returns when that is over."""
    dialled: Callable[[], int]
    """Connections so far, refused ones too."""


@dataclass(frozen=True)
class Provider:
    name: str
    open: Callable[[Scene], AbstractAsyncContextManager[Stage]]
    has_key: bool = True
    calls_off_tools: bool = True
    """The service itself cancels blocking tool calls when the user speaks."""
    says_go_away: bool = True
    forgets_input: bool = True
    """What was sent can be cleared again before it is committed."""
    takes_silent_results: bool = True
    """A tool result may be given without an answer to it."""
    tells_close_codes: bool = True
    """The service can say why it ends a connection: a WebSocket has codes for it."""
    delivers_late_speech: bool = True
    """Speech of a reply that was cut may still come, under its own name."""
    real_time: bool = False
    """Speech travels at the speed of sound, as Opus."""


@asynccontextmanager
async def _scripted(scene: Scene) -> AsyncIterator[Stage]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "scene.toml"
        file.write_text(scene.scenario)
        model = ScriptedModel.from_config(scene.speech, ScriptedSettings(scenario=str(file)), scene.connection, {})

    async def drop(standby: Standby) -> None:
        assert isinstance(standby, ScriptedStandby)
        standby.lose()

    yield Stage(model, lambda number: model.sessions[number - 1].brain, drop, lambda: model.dialled)


@asynccontextmanager
async def _scripted_duplex(scene: Scene) -> AsyncIterator[Stage]:
    duplex = msgspec.structs.replace(scene, scenario='mode = "duplex"\n' + scene.scenario)
    async with _scripted(duplex) as stage:
        yield stage


def _stage(model: SpeechModel, emulator: EmulatorServer) -> Stage:
    async def drop(standby: Standby) -> None:
        connection = emulator.connections[-1]
        connection.close(1001, "tired of waiting")
        await connection.ended.wait()

    return Stage(model, lambda number: emulator.connections[number - 1].brain, drop, lambda: emulator.stats.upgrades)


@asynccontextmanager
async def _gemini(scene: Scene) -> AsyncIterator[Stage]:
    vendor = GeminiVendor(keys={_KEY})
    async with GeminiEmulator(load_text(scene.scenario), vendor=vendor) as emulator:
        environ = {"GEMINI_API_KEY": scene.key, "GOOGLE_GEMINI_BASE_URL": emulator.base_url}
        model = GeminiModel.from_config(scene.speech, GeminiSettings(), scene.connection, environ)
        yield _stage(model, emulator)


@asynccontextmanager
async def _openai(scene: Scene, own: OpenAISettings | None = None) -> AsyncIterator[Stage]:
    async with OpenAIEmulator(load_text(scene.scenario), keys={_KEY}) as emulator:
        environ = {"OPENAI_API_KEY": scene.key, "OPENAI_BASE_URL": emulator.api_url}
        model = OpenAIModel.from_config(scene.speech, own or OpenAISettings(), scene.connection, environ)
        yield _stage(model, emulator)


@asynccontextmanager
async def _openai_webrtc(scene: Scene) -> AsyncIterator[Stage]:
    async with _openai(scene, OpenAISettings(transport="webrtc")) as stage:
        yield stage


PROVIDERS = (
    Provider("scripted", _scripted, has_key=False),
    Provider("scripted-duplex", _scripted_duplex, has_key=False),
    Provider("gemini", _gemini, forgets_input=False, takes_silent_results=False),
    Provider("openai", _openai, calls_off_tools=False, says_go_away=False),
    Provider(
        "openai-webrtc",
        _openai_webrtc,
        calls_off_tools=False,
        says_go_away=False,
        tells_close_codes=False,
        delivers_late_speech=False,
        real_time=True,
    ),
)
