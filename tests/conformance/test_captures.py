"""Recorded once, played for ever: our own clients and the vendors' SDKs hold a recorded conversation again."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from google import genai
from google.genai import types
from openai import AsyncOpenAI
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from providers.catalog import PROVIDERS
from providers.contract import (
    ModelSession,
    ResumptionUpdate,
    SessionEvent,
    SessionStart,
    SpeechChunk,
    SpeechModel,
    ToolCall,
    ToolSpec,
    TurnComplete,
)
from providers.emulators.capture import Closing, Refused, read_captures
from providers.emulators.openai import OpenAIVendor
from providers.emulators.proxy import RecordingProxy, upstream_problem
from providers.emulators.recorder import Recorder
from providers.emulators.replay import ReplayVendor
from providers.emulators.server import EmulatorServer
from providers.emulators.tls import make_certificate
from providers.errors import ProviderError
from providers.scripted.scenario import load_text
from providers.scripted.voice import marker
from providers.settings import ConnectionSettings, SpeechSettings
from providers.signal.formats import PCM16_16K, PCM16_24K
from tests.fakes.leftovers import nothing_left
from tests.fakes.plain_vendor import TONE, all_messages

Vendor = Literal["gemini", "openai"]
BOTH = pytest.mark.parametrize("vendor", ["gemini", "openai"])
KEY = "a-key-that-nobody-may-see-0001"
SCENE = """
answer = { kind = "marker", duration_ms = 400, seed = 5 }
prompted = { kind = "marker", duration_ms = 300, seed = 6 }
pace = { speed = 20.0, latency_ms = 10 }
[[turns]]
turn = 2
calls = [{ name = "weather", arguments = { city = "Oslo" } }]
answer = { kind = "tone", duration_ms = 200 }
"""


def model_for(vendor: Vendor, base_url: str) -> SpeechModel:
    entry = PROVIDERS[vendor]
    settings = entry.settings_type()(base_url=base_url if vendor == "gemini" else f"{base_url}/v1")
    speech = SpeechSettings(tools=(ToolSpec(name="weather"),))
    environ = {f"{vendor.upper()}_API_KEY": KEY}
    return entry.connector(speech, settings, ConnectionSettings(setup_timeout_s=3), environ)


class Talk:
    """A conversation of our own client: a typed turn, a tool call, a spoken turn."""

    def __init__(self, session: ModelSession) -> None:
        self.session = session
        self.events: list[SessionEvent] = []
        self._news = asyncio.Event()
        session.listen(self._take)

    def _take(self, event: SessionEvent) -> None:
        self.events.append(event)
        self._news.set()

    async def until(self, kind: type[SessionEvent], number: int = 1) -> SessionEvent:
        while len(found := [event for event in self.events if isinstance(event, kind)]) < number:
            self._news.clear()
            await self._news.wait()
        return found[number - 1]

    async def whole(self, turns: int) -> None:
        """Until as many turns have ended as the vendor makes of them."""
        self.session.send_text("Hello")
        await self.until(TurnComplete)
        self.session.send_text("How is the weather?")
        call = await self.until(ToolCall)
        assert isinstance(call, ToolCall)
        self.session.send_tool_result(call.call_id, call.name, {"degrees": 7})
        await self.until(TurnComplete, turns - 1)
        format = self.session.capabilities.input_formats[0]
        assert format in (PCM16_16K, PCM16_24K)
        sound = marker(600, seed=3, level_dbfs=-15.0).tobytes()
        self.session.send_audio(sound, format)
        self.session.send_audio(bytes(format.rate_hz * 2), format)
        await self.until(TurnComplete, turns)


async def converse(vendor: Vendor, base_url: str) -> list[SessionEvent]:
    """What our client made of the whole conversation."""
    session = await model_for(vendor, base_url).connect(SessionStart(number=1))
    talk = Talk(session)
    async with asyncio.timeout(10):
        await talk.whole(4)
    await session.close()
    return talk.events


def compared(events: list[SessionEvent]) -> list[SessionEvent]:
    """Events with handles by number: captures give them other names."""
    handles: dict[str, str] = {}
    joined: list[SessionEvent] = []
    for event in events:
        if isinstance(event, ResumptionUpdate) and event.handle:
            name = handles.setdefault(event.handle, f"handle-{len(handles) + 1}")
            event = msgspec.structs.replace(event, handle=name)
        joined.append(event)
    return joined


@BOTH
async def test_a_recorded_conversation_plays_to_our_client_as_it_was(vendor: Vendor, tmp_path: Path) -> None:
    told: list[str] = []
    async with nothing_left():
        async with EmulatorServer(PROVIDERS[vendor].emulated(), load_text(SCENE)) as emulator:
            emulator.watchers.append(Recorder(tmp_path, vendor, "emulator", told.append))
            first = await converse(vendor, emulator.base_url)
        (capture,) = read_captures(tmp_path)
        file = Path(capture.name)
        assert told == [f"recorded {file}"]
        assert stat.S_IMODE(os.stat(file).st_mode) == 0o600, "speech is for its owner alone"
        assert KEY not in str(capture)
        assert capture.entries[-1].close == Closing(code=1000) and capture.entries[-1].sender == "client"
        for _ in range(2):
            replay = ReplayVendor([capture])
            async with EmulatorServer(replay) as server:
                again = await converse(vendor, server.base_url)
            assert replay.departures == []
            assert compared(again) == compared(first)
    assert sum(len(event.audio) for event in first if isinstance(event, SpeechChunk)) > 24 * 2 * 800


@BOTH
async def test_a_client_that_departs_is_told_where(vendor: Vendor, tmp_path: Path) -> None:
    async with EmulatorServer(PROVIDERS[vendor].emulated(), load_text(SCENE)) as emulator:
        emulator.watchers.append(Recorder(tmp_path, vendor, "emulator", lambda line: None))
        await converse(vendor, emulator.base_url)
    replay = ReplayVendor(read_captures(tmp_path), speed=5)
    async with EmulatorServer(replay) as server:
        session = await model_for(vendor, server.base_url).connect(SessionStart(number=1))
        talk = Talk(session)
        session.send_text("Hello")
        await talk.until(TurnComplete)
        session.send_text("How is the weather?")
        await talk.until(ToolCall)
        session.send_tool_result("another-call", "weather", {})
        session.send_text("never mind")
        async with asyncio.timeout(5):
            await server.connections[0].ended.wait()
    departure = replay.departures[0]
    line = (tmp_path / departure.capture).read_bytes().splitlines()[departure.line - 1]
    assert json.loads(line)["from"] == "client", "the line is the one that was to come"
    assert server.connections[0].close_code == 1008


@BOTH
async def test_a_proxy_records_what_passes_and_keeps_no_key(vendor: Vendor, tmp_path: Path) -> None:
    async with nothing_left():
        async with EmulatorServer(PROVIDERS[vendor].emulated(), load_text(SCENE)) as emulator:
            recorder = Recorder(tmp_path, vendor, emulator.base_url, lambda line: None)
            async with RecordingProxy(emulator.base_url, recorder) as proxy:
                first = await converse(vendor, proxy.base_url)
                async with asyncio.timeout(2):
                    await emulator.connections[0].ended.wait()
            assert emulator.connections[0].left_by_client and emulator.connections[0].close_code == 1000
            request = emulator.connections[0].request
            assert KEY in str(dict(request.headers)) + str(request.query), "the key itself has passed"
        (capture,) = read_captures(tmp_path)
        assert KEY not in str(capture)
        assert capture.head.source == emulator.base_url
        replay = ReplayVendor([capture])
        async with EmulatorServer(replay) as server:
            assert compared(await converse(vendor, server.base_url)) == compared(first)
        assert replay.departures == []


async def test_a_refusal_of_the_service_passes_the_proxy_and_is_played_again(tmp_path: Path) -> None:
    async with EmulatorServer(OpenAIVendor(keys={"another"})) as emulator:
        emulator.refuse(1, 429, retry_after_s=3)
        recorder = Recorder(tmp_path, "openai", emulator.base_url, lambda line: None)
        async with RecordingProxy(emulator.base_url, recorder) as proxy:
            url = f"{proxy.base_url}/v1/realtime?model=gpt-realtime"
            headers = {"Authorization": f"Bearer {KEY}"}
            for _ in range(2):
                with pytest.raises(InvalidStatus):
                    await connect(url, additional_headers=headers)
    captures = read_captures(tmp_path)
    first, second = (capture.entries[0].refused for capture in captures)
    assert isinstance(first, Refused) and isinstance(second, Refused)
    assert (first.status, first.headers) == (429, {"Retry-After": "3"} | _content_type(first))
    assert second.status == 401 and "Incorrect API key" in second.body
    async with EmulatorServer(ReplayVendor(captures)) as server:
        for status, retry in ((429, "3"), (401, None)):
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"{server.url}?model=gpt-realtime")
            assert refused.value.response.status_code == status
            assert refused.value.response.headers.get("Retry-After") == retry


def _content_type(refused: Refused) -> dict[str, str]:
    return {name: value for name, value in refused.headers.items() if name.lower() == "content-type"}


async def test_an_upstream_that_is_not_there_is_a_bad_gateway(tmp_path: Path) -> None:
    async with EmulatorServer(OpenAIVendor()) as gone:
        pass
    recorder = Recorder(tmp_path, "openai", gone.base_url, lambda line: None)
    async with RecordingProxy(gone.base_url, recorder) as proxy:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{proxy.base_url}/v1/realtime")
        assert refused.value.response.status_code == 502
        assert b"cannot be reached" in (refused.value.response.body or b"")


@pytest.mark.parametrize(("code", "sender"), [(1011, "server"), (1006, "server"), (4001, "client")])
async def test_ends_pass_the_proxy_and_are_recorded_by_side(code: int, sender: str, tmp_path: Path) -> None:
    async with EmulatorServer(OpenAIVendor(), load_text(TONE)) as emulator:
        recorder = Recorder(tmp_path, "openai", "test", lambda line: None)
        async with RecordingProxy(emulator.base_url, recorder) as proxy:
            url = f"{proxy.base_url}/v1/realtime?model=gpt-realtime"
            async with connect(url, additional_headers={"Authorization": f"Bearer {KEY}"}) as client:
                await client.recv()
                if sender == "client":
                    await client.close(code, "my own end")
                elif code == 1006:
                    emulator.connections[0].kill()
                else:
                    emulator.connections[0].close(code, "oops")
                await all_messages(client)
                assert client.close_code == code
            await emulator.connections[0].ended.wait()
            assert emulator.connections[0].close_code in (code, None if code == 1006 else code)
    (capture,) = read_captures(tmp_path)
    closing = capture.entries[-1].close
    assert isinstance(closing, Closing)
    assert (closing.code, capture.entries[-1].sender) == (code, sender)


@pytest.mark.parametrize(
    "wrong",
    ["https://a.example", "ws://a.example", "wss://", "wss://a/v1", "wss://me:pw@a", "wss://a:x", "a"],
)
def test_an_upstream_must_be_an_address_that_keeps_keys_secret(wrong: str) -> None:
    assert upstream_problem(wrong)


@pytest.mark.parametrize("right", ["wss://api.openai.com", "wss://a:8443/", "ws://127.0.0.1:8765", "ws://[::1]:1"])
def test_an_upstream_is_scheme_host_and_port(right: str) -> None:
    assert upstream_problem(right) == ""


async def test_a_recording_that_cannot_be_written_is_told_and_the_call_goes_on(tmp_path: Path) -> None:
    told: list[str] = []
    async with EmulatorServer(PROVIDERS["openai"].emulated(), load_text(SCENE)) as emulator:
        emulator.watchers.append(Recorder(tmp_path / "folder", "openai", "emulator", told.append))
        (tmp_path / "folder").rmdir()
        assert await converse("openai", emulator.base_url)
    assert len(told) == 1 and told[0].startswith("connection 1 is not recorded: ")


# ------------------------------------------------------------------------------------------------- the vendors' SDKs


async def test_googles_sdk_is_played_to(tmp_path: Path) -> None:
    async with EmulatorServer(PROVIDERS["gemini"].emulated(), load_text(SCENE)) as emulator:
        emulator.watchers.append(Recorder(tmp_path, "gemini", "emulator", lambda line: None))
        session = await model_for("gemini", emulator.base_url).connect(SessionStart(number=1))
        talk = Talk(session)
        session.send_text("Hello")
        await talk.until(TurnComplete)
        await session.close()
    spoken = b"".join(event.audio for event in talk.events if isinstance(event, SpeechChunk))
    replay = ReplayVendor(read_captures(tmp_path))
    certificate = make_certificate()
    async with EmulatorServer(replay, tls=certificate.server_context()) as server:
        options = types.HttpOptions(
            base_url=f"https://127.0.0.1:{server.port}",
            api_version="v1beta",
            async_client_args={"ssl": certificate.client_context()},
        )
        client = genai.Client(api_key="key", http_options=options)
        model = str(emulator.connections[0].wire.setup["model"]).removeprefix("models/")  # type: ignore[attr-defined]
        config = types.LiveConnectConfig(response_modalities=[types.Modality.AUDIO])
        async with client.aio as opened, opened.live.connect(model=model, config=config) as live:
            await live.send_realtime_input(text="Hello")
            heard = b""
            async for message in live.receive():
                heard += message.data or b""
        client.close()
    assert heard == spoken and replay.departures == []


async def test_openais_sdk_is_played_to(tmp_path: Path) -> None:
    async def talk(base_url: str) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        client = AsyncOpenAI(api_key=KEY, base_url=f"http{base_url.removeprefix('ws')}/v1")
        async with client, client.realtime.connect(model="gpt-realtime") as connection:
            await connection.response.create()
            async for event in connection:
                events.append(event.model_dump(exclude_unset=True))
                if event.type == "response.done":
                    break
        return events

    async with EmulatorServer(PROVIDERS["openai"].emulated(), load_text(SCENE)) as emulator:
        emulator.watchers.append(Recorder(tmp_path, "openai", "emulator", lambda line: None))
        first = await talk(emulator.base_url)
    replay = ReplayVendor(read_captures(tmp_path))
    async with EmulatorServer(replay) as server:
        assert await talk(server.base_url) == first
    assert replay.departures == [] and replay.played == 1


async def test_nothing_is_left_to_play_after_the_last_capture(tmp_path: Path) -> None:
    async with EmulatorServer(PROVIDERS["openai"].emulated(), load_text(SCENE)) as emulator:
        emulator.watchers.append(Recorder(tmp_path, "openai", "emulator", lambda line: None))
        for _ in range(2):
            await converse("openai", emulator.base_url)
    async with EmulatorServer(ReplayVendor(read_captures(tmp_path), speed=3)) as server:
        for _ in range(2):
            await converse("openai", server.base_url)
        with pytest.raises((ProviderError, ConnectionClosed)):
            await converse("openai", server.base_url)
