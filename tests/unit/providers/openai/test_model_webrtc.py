"""Calls of the real model to the real emulator: every form of the request, both ways of events, sound, and the end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from providers.contract import HistoryItem, ModelSession, SessionStart, TurnComplete
from providers.emulators.openai import OpenAIEmulator
from providers.errors import ProviderRejected, SettingRefused
from providers.http_post import HttpAnswer, post
from providers.openai.auth import read_client_secret, secret_request
from providers.openai.endpoint import secret_url
from providers.openai.model import OpenAIModel
from providers.openai.settings import OpenAISettings
from providers.scripted.scenario import Pace, Scenario, Tone
from providers.settings import ConnectionSettings, SpeechSettings
from providers.signal.resample import Int16Array
from tests.conformance.ears import Ear
from tests.fakes.leftovers import nothing_left
from tests.fakes.websocket_server import until

KEY = "sk-test-secret"
HERTZ = 440.0
pytestmark = pytest.mark.timeout(60)

SCENE = Scenario(pace=Pace(speed=10.0, latency_ms=10), prompted=Tone(duration_ms=1500, frequency_hz=HERTZ))


def model_for(emulator: OpenAIEmulator, key: str = KEY, **own: Any) -> OpenAIModel:
    connection = ConnectionSettings(connect_timeout_s=8, setup_timeout_s=8, close_timeout_s=2)
    settings = OpenAISettings(transport="webrtc", **own)
    environ = {"OPENAI_API_KEY": key, "OPENAI_BASE_URL": emulator.api_url}
    return OpenAIModel.from_config(SpeechSettings(), settings, connection, environ)


@asynccontextmanager
async def talking(start: SessionStart | None = None, **own: Any) -> AsyncIterator[tuple[ModelSession, OpenAIEmulator]]:
    async with OpenAIEmulator(SCENE, keys=[KEY]) as emulator:
        session = await model_for(emulator, **own).connect(start)
        try:
            yield session, emulator
        finally:
            await session.close()


@pytest.mark.parametrize(
    "own",
    [{}, {"auth": "client_secret"}, {"sideband": True}, {"auth": "client_secret", "sideband": True}],
    ids=["key", "secret", "sideband", "secret and sideband"],
)
async def test_every_form_of_a_call_talks_and_ends(own: dict[str, Any]) -> None:
    async with nothing_left(within_s=4), talking(**own) as (session, emulator):
        ear = Ear(session)
        session.respond("Greet.")
        await ear.until(TurnComplete, timeout_s=10)
        assert len(ear.spoken()) > 24_000
        kinds = [event["type"] for event in emulator.sessions[0].received()]
        assert "session.update" in kinds and "input_audio_buffer.append" not in kinds
        await session.close()
        await until(lambda: not emulator.live)


@pytest.mark.parametrize(
    ("own", "by_key"),
    [({}, True), ({"auth": "client_secret"}, True), ({}, False)],
    ids=["key", "secret that we minted", "secret of the environment"],
)
async def test_a_call_is_hung_up_with_the_api_key_and_without_one_not_at_all(
    own: dict[str, Any], by_key: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted: list[tuple[str, str, int]] = []

    def watched(url: str, headers: Mapping[str, str], body: bytes, connection: ConnectionSettings) -> HttpAnswer:
        answer = post(url, headers, body, connection)
        posted.append((url.rpartition("/")[2], headers["Authorization"], answer.status))
        return answer

    monkeypatch.setattr("providers.openai.call_link.post", watched)
    async with nothing_left(within_s=4), OpenAIEmulator(SCENE, keys=[KEY]) as emulator:
        key = KEY if by_key else await minted(emulator)
        session = await model_for(emulator, key, **own).connect()
        await session.close()
        await until(lambda: not emulator.live)
        call, *ends = posted
        assert call[0] == "calls" and call[1].startswith("Bearer ek_" if own or not by_key else f"Bearer {KEY}")
        assert ends == ([("hangup", f"Bearer {KEY}", 200)] if by_key else [])
        assert emulator.connections[0].left_by_client, "a goodbye was heard all the same"


async def minted(emulator: OpenAIEmulator) -> str:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    body = secret_request("gpt-realtime-2.1", 60)
    answer = await asyncio.to_thread(post, secret_url(emulator.api_url), headers, body, ConnectionSettings())
    return read_client_secret(answer.status, answer.body).bearer().removeprefix("Bearer ")


async def spoken_without_a_stall() -> Int16Array:
    """What is heard of a reply while this machine lets the loop run: where it stands still, both ends do."""
    for _ in range(4):
        async with talking() as (session, _):
            ear = Ear(session)
            loop = asyncio.get_running_loop()
            worst_s, beat = 0.0, loop.time()
            give_up = beat + 10
            session.respond("Greet.")
            while not ear.of(TurnComplete) and beat < give_up:
                await asyncio.sleep(0.005)
                worst_s, beat = max(worst_s, loop.time() - beat), loop.time()
        if worst_s < 0.06:
            return ear.spoken()
    pytest.skip("the machine is too busy to tell anything of gaps")


async def test_the_voice_keeps_its_pitch_and_has_no_hole() -> None:
    heard = (await spoken_without_a_stall()).astype(np.float64)
    loud = np.flatnonzero(np.abs(heard) > 200)
    voice = heard[loud[0] : loud[-1]]
    spectrum = np.abs(np.fft.rfft(voice * np.hanning(len(voice)), 1 << 19))
    pitch = np.argmax(spectrum) * 24_000 / (1 << 19)
    assert abs(pitch - HERTZ) / HERTZ < 0.005
    peaks = np.abs(voice[: len(voice) // 240 * 240]).reshape(-1, 240).max(axis=1)
    silent = "".join("x" if peak < 200 else " " for peak in peaks).split()
    assert max(map(len, silent), default=0) <= 2, "no gap over 20 ms"
    assert len(voice) / 24 == pytest.approx(1500, abs=120)


async def test_history_instructions_and_images_travel_over_the_data_channel() -> None:
    start = SessionStart(history=(HistoryItem(role="user", text="My name is Kim."),), instructions="Be brief.")
    async with talking(start) as (session, emulator):
        service = emulator.sessions[0]
        session.send_image(bytes(1000), "image/jpeg")
        await until(lambda: len(service.items) == 2)
        assert service.config["instructions"] == "Be brief."
        with pytest.raises(SettingRefused, match="sideband"):
            session.send_image(bytes(250_000), "image/jpeg")
        session.update(instructions="Be kind.")
        await until(lambda: service.config["instructions"] == "Be kind.")


async def test_a_wrong_key_is_rejected_and_never_shown() -> None:
    async with nothing_left(within_s=4), OpenAIEmulator(keys=["sk-1"]) as emulator:
        with pytest.raises(ProviderRejected) as refused:
            await model_for(emulator).connect()
        assert (refused.value.code, refused.value.endpoint_wide) == (401, True)
        assert KEY not in f"{refused.value!r} {refused.value}"


async def test_a_call_that_is_given_up_while_it_is_dialled_leaves_nothing() -> None:
    async with nothing_left(within_s=6), OpenAIEmulator(SCENE, keys=[KEY]) as emulator:
        model = model_for(emulator)
        for patience_s in (0.0, 0.01, 0.03, 0.06, 0.1):
            dialling = asyncio.get_running_loop().create_task(model.connect(), name="dialling")
            await asyncio.sleep(patience_s)
            dialling.cancel()
            for session in await asyncio.gather(dialling, return_exceptions=True):
                if not isinstance(session, BaseException):
                    await session.close()
        await until(lambda: not emulator.live)


@pytest.mark.parametrize("module", ["providers.openai", "providers.openai.model", "providers.openai.setup"])
def test_importing_the_provider_loads_no_webrtc(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('aiortc', 'av', 'aioice') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
