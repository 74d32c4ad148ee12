"""What is wrong, or only unusual, at the commands and at the microphone: a clear end, or it just works."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from bridge.core.words import AgentState
from bridge.demo.server import LocalServer
from providers.emulators.openai import OpenAIVendor
from providers.emulators.server import EmulatorServer
from tests.e2e.audio import likeness, read_wav, resampled, speechlike, write_wav
from tests.e2e.calls import emulated_call, until
from tests.e2e.conftest import PersonFactory
from tests.e2e.test_commands import python

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


async def test_join_names_a_room_that_does_not_exist() -> None:
    async with LocalServer(auto_create=False) as strict:
        async with python(strict, "-m", "bridge.cli", "join", "--room", "nowhere") as process:
            out, errors = await process.communicate()
    assert process.returncode != 0 and out == b""
    assert "livekit.room = 'nowhere'" in errors.decode()
    assert "does not exist" in errors.decode()


async def test_join_ends_with_the_variable_of_a_refused_key(
    server: LocalServer, room_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EmulatorServer(OpenAIVendor(keys={"another"})) as emulator:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{emulator.base_url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "a-wrong-key")
        arguments = ("-m", "bridge.cli", "join", "--room", room_name, "--provider", "openai")
        async with python(server, *arguments) as process:
            _, errors = await process.communicate()
    assert process.returncode != 0
    last = errors.decode().splitlines()[-1]
    assert last.startswith(f"room {room_name}: roombridge: ") and "OPENAI_API_KEY" in last
    assert "a-wrong-key" not in errors.decode()


@pytest.mark.parametrize(
    ("provider", "rate_hz", "channels"), [("gemini", 8_000, 1), ("openai", 8_000, 2), ("openai", 44_100, 2)]
)
async def test_any_microphone_reaches_the_model(
    provider: str,
    rate_hz: int,
    channels: int,
    server: LocalServer,
    room_name: str,
    person: PersonFactory,
    tmp_path: Path,
) -> None:
    sound = speechlike(11, rate_hz, 3.5)
    path = write_wav(tmp_path / "said.wav", sound, rate_hz, channels)
    async with (
        emulated_call(server, room_name, provider) as call,
        person("ann", rate_hz=rate_hz, channels=channels) as ann,
    ):
        await ann.wait("hears_agent")
        await ann.do("say", wav=str(path))
        await until(lambda: call.bridge.state is AgentState.SPEAKING)
        heard, heard_hz = call.model_heard()
    wanted = resampled(sound, rate_hz, heard_hz)[int(1.5 * heard_hz) :]
    assert likeness(wanted, heard, heard_hz) >= 0.9


async def test_demo_says_a_wav_of_any_format(server: LocalServer, tmp_path: Path) -> None:
    """8 kHz, two channels, 24 bits: a telephone's recording."""
    sound = speechlike(12, 8_000, 3.0)
    said, answer = tmp_path / "said.wav", tmp_path / "answer.wav"
    wide = np.repeat(np.round(sound * 2**23).astype("<i4"), 2)
    with wave.open(str(said), "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(3)
        out.setframerate(8_000)
        out.writeframes(wide.view(np.uint8).reshape(-1, 4)[:, :3].tobytes())
    arguments = ("-m", "bridge.cli", "demo", "--port", "0", "--say", str(said), "--save", str(answer))
    async with python(server, *arguments) as process:
        _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    heard, heard_hz = read_wav(answer)
    wanted = resampled(sound, 8_000, 16_000)
    assert likeness(wanted[24_000:], resampled(heard, heard_hz, 16_000), 16_000) >= 0.85
