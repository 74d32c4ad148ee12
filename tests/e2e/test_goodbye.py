"""How calls end: what is being said is heard to its last sound, and whatever the servers do, the end comes in time."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.core.words import EndReason
from bridge.demo.person import Person
from bridge.demo.server import LocalServer
from bridge.facade import RoomBridge
from providers.scripted.scenario import Call, Scenario, TurnScript, Wav
from tests.e2e.audio import find, read_wav, resampled, speechlike, write_wav
from tests.e2e.calls import emulated_call, until
from tests.e2e.conftest import PersonFactory

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

ROOT = Path(__file__).parents[2]
RATE_HZ = 24_000
SENTENCE_S = 6.0


@asynccontextmanager
async def joined(server: LocalServer, folder: Path, *rooms: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`roombridge join` with the offline model, which greets with the sentence."""
    write_wav(folder / "sentence.wav", speechlike(31, RATE_HZ, SENTENCE_S), RATE_HZ)
    (folder / "scenario.toml").write_text(
        'prompted = { kind = "wav", file = "' + str(folder / "sentence.wav") + '" }\n'
    )
    config = folder / "bridge.toml"
    config.write_text(
        'provider = "scripted"\n[conversation]\ngreeting = "Greet the caller."\n'
        f'[providers.scripted]\nscenario = "{folder / "scenario.toml"}"\n'
    )
    known = {"LIVEKIT_URL": server.url, "LIVEKIT_API_KEY": server.api_key, "LIVEKIT_API_SECRET": server.api_secret}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge.cli", "join", "--config", str(config)),
        *(word for room in rooms for word in ("--room", room)),
        cwd=ROOT,
        env={**os.environ, **known},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def last_sounds_are_heard(who: Person, folder: Path, said_wav: Path) -> None:
    """The end of the sentence, its last 400 ms but for the last 20, is in what this person heard."""
    path = folder / f"{who.identity}-ear.wav"
    await who.do("save", wav=str(path))
    heard, rate_hz = read_wav(path)
    said, said_hz = read_wav(said_wav)
    wanted = resampled(said, said_hz, rate_hz)[: -rate_hz // 50]
    for before_end_ms in (2500, 400, 200):
        first = len(wanted) - before_end_ms * rate_hz // 1000
        part = wanted[first : first + rate_hz // 5]
        assert find(part, heard, rate_hz).correlation > 0.7, f"{who.identity}: {before_end_ms} ms before the end"


async def test_what_is_being_said_when_sigterm_comes_is_heard_to_its_end_in_every_call(
    server: LocalServer, room_name: str, tmp_path: Path
) -> None:
    rooms = [f"{room_name}-a", f"{room_name}-b"]
    async with (
        joined(server, tmp_path, *rooms) as process,
        Person(server.url, server.participant_token(rooms[0], "ann")) as ann,
        Person(server.url, server.participant_token(rooms[1], "bob")) as bob,
    ):
        for who in (ann, bob):
            await who.wait("attributes", timeout_s=20, changed={"lk.agent.state": "speaking"})
        await asyncio.sleep(1.5)
        loop = asyncio.get_running_loop()
        process.send_signal(signal.SIGTERM)
        began = loop.time()
        out, errors = await asyncio.wait_for(process.communicate(), 20)
        assert loop.time() - began < SENTENCE_S + 3, "drained side by side"
        assert process.returncode == 0, errors.decode()
        assert set(out.decode().splitlines()) == {f"room {room}: ended, requested" for room in rooms}
        assert b"calls drained=2" in errors
        for who in (ann, bob):
            await last_sounds_are_heard(who, tmp_path, tmp_path / "sentence.wav")


async def test_a_second_signal_ends_in_mid_word(server: LocalServer, room_name: str, tmp_path: Path) -> None:
    async with (
        joined(server, tmp_path, room_name) as process,
        Person(server.url, server.participant_token(room_name, "ann")) as ann,
    ):
        await ann.wait("attributes", timeout_s=20, changed={"lk.agent.state": "speaking"})
        loop = asyncio.get_running_loop()
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert process.returncode is None
        process.send_signal(signal.SIGTERM)
        began = loop.time()
        await asyncio.wait_for(process.wait(), 10)
        assert loop.time() - began < 4
        assert process.returncode == 130


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_frozen_server_holds_no_process_up(signals: int, room_name: str, tmp_path: Path) -> None:
    async with LocalServer() as own, joined(own, tmp_path, room_name) as process:
        async with Person(own.url, own.participant_token(room_name, "ann")) as ann:
            await ann.wait("attributes", timeout_s=20, changed={"lk.agent.state": "speaking"})
            await asyncio.sleep(0.5)
            os.kill(own.pid, signal.SIGSTOP)
            try:
                loop = asyncio.get_running_loop()
                began = loop.time()
                for _ in range(signals):
                    process.send_signal(signal.SIGTERM)
                    await asyncio.sleep(0.3)
                await asyncio.wait_for(process.communicate(), 30)
                # At most: what may be said yet (10 s), the goodbye (3 s), and a moment for the process itself.
                assert loop.time() - began < (16 if signals == 1 else 5)
            finally:
                os.kill(own.pid, signal.SIGCONT)
        assert process.returncode == (0 if signals == 1 else 130)


@pytest.mark.parametrize("provider", ["gemini", "openai"])
async def test_the_goodbye_of_a_model_that_hangs_up_is_heard_to_its_end(
    provider: str, server: LocalServer, room_name: str, person: PersonFactory, tmp_path: Path
) -> None:
    goodbye = write_wav(tmp_path / "goodbye.wav", speechlike(32, RATE_HZ, 4.0), RATE_HZ)
    turn = TurnScript(turn=1, calls=(Call(name="hang_up"),), answer=Wav(file=str(goodbye)))

    def prepare(bridge: RoomBridge) -> None:
        @bridge.tool
        async def hang_up() -> str:
            """End the call."""
            bridge.stop()
            return "say goodbye"

    async with person("ann") as ann:
        async with emulated_call(server, room_name, provider, Scenario(turns=(turn,)), prepare=prepare) as call:
            await ann.wait("hears_agent")
            await until(lambda: call.bridge.participants)
            call.bridge.send_text("That is all, thank you.")
            assert await asyncio.wait_for(call.bridge.run(), 20) is EndReason.REQUESTED
        await ann.wait("left_by", identity="roombridge")
        await last_sounds_are_heard(ann, tmp_path, goodbye)
