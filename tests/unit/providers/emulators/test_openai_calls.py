"""Calls to the OpenAI emulator over real WebRTC, by a client of plain aiortc and the official SDK's HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from openai import APIStatusError, AsyncOpenAI
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from providers.emulators.chaos import FATAL_KINDS, KINDS, LASTING_KINDS, stroke
from providers.emulators.openai import EmulatedSession, OpenAIEmulator, OpenAIVendor
from providers.emulators.wire import CallEnd, CallOffer, Refusal, UpgradeRequest
from providers.scripted.faults import Empty, Unknown
from providers.scripted.scenario import Pace, Scenario, ServerVad, Session, Text, Tone, Wav
from providers.signal import wav
from providers.signal.resample import Int16Array
from tests.fakes.openai_call import PlainCaller, likeness, voice
from tests.fakes.openai_types import check_server_frame
from tests.fakes.webrtc import on_loopback, until

MODEL = "gpt-realtime-2.1"
SESSION: dict[str, Any] = {"type": "realtime", "model": MODEL}
FAST = Pace(speed=8.0, latency_ms=10)
VAD = ServerVad(silence_ms=200)
QUIET = np.zeros(24 * 600, dtype=np.int16)
AIORTC_S = 0.3
"""What the client's own jitter buffer holds back."""
SDP = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"


@pytest.fixture(autouse=True)
def loopback() -> Iterator[None]:
    with on_loopback():
        yield


async def dial(emulator: OpenAIEmulator, caller: PlainCaller, key: str = "sk-test", **session: Any) -> str:
    """The unified form, by the SDK. Returns the call's id."""
    async with AsyncOpenAI(api_key=key, base_url=emulator.api_url, max_retries=0) as client:
        wanted: Any = {**SESSION, **session}
        answer = await client.realtime.calls.with_raw_response.create(sdp=await caller.offer(), session=wanted)
    assert answer.status_code == 201 and answer.headers["content-type"] == "application/sdp"
    await caller.accept(answer.content.decode())
    path, _, call_id = str(answer.headers["location"]).rpartition("/")
    assert path == "/v1/realtime/calls" and call_id.startswith("rtc_")
    return call_id


@asynccontextmanager
async def calling(
    scenario: Scenario, **session: Any
) -> AsyncIterator[tuple[PlainCaller, EmulatedSession, OpenAIEmulator]]:
    """A call that is set up. At its end every event of the emulator is checked by the SDK's types."""
    async with OpenAIEmulator(scenario) as emulator:
        caller = PlainCaller()
        try:
            await dial(emulator, caller, **session)
            await caller.until("session.created")
            yield caller, emulator.sessions[0], emulator
        finally:
            await caller.close()
        await emulator.sessions[0].connection.ended.wait()
        for message in emulator.written():
            if not message.label.startswith("fault:"):
                check_server_frame(message.data)


def said(tmp_path: Path, sound: Int16Array) -> Wav:
    """An answer of this sound."""
    file = tmp_path / "answer.wav"
    wav.write(file, sound.tobytes(), 24_000)
    return Wav(file=str(file), transcript="one two three")


def pcm(heard: bytes) -> Int16Array:
    return np.frombuffer(heard, dtype="<i2")


# ------------------------------------------------------------------------------------------------------------ speaking


@pytest.mark.timeout(60)
async def test_a_spoken_turn_is_heard_and_answered_by_the_track(tmp_path: Path) -> None:
    mine, answer = voice(2000, seed=3), voice(1500, seed=4)
    scenario = Scenario(pace=FAST, vad=VAD, answer=said(tmp_path, answer))
    async with calling(scenario) as (caller, session, emulator):
        caller.says(np.concatenate([QUIET, mine, QUIET]))
        await caller.until("output_audio_buffer.stopped")
        await asyncio.sleep(AIORTC_S)
        for _ in range(2):
            if min(likeness(caller.heard, answer), likeness(pcm(session.heard), mine)) >= 0.9:
                break
            # The client's threads were starved, and its packets came late: on a quiet machine one turn is enough.
            caller.says(np.concatenate([mine, QUIET]))
            await caller.until("output_audio_buffer.stopped", timeout_s=20)
            await asyncio.sleep(AIORTC_S)
        assert likeness(caller.heard, answer) >= 0.9
        assert likeness(pcm(session.heard), mine) >= 0.9
        assert emulator.heard().pcm == session.heard and emulator.heard().rate_hz == 24_000
        assert list(dict.fromkeys(caller.types())) == [
            "session.created",
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
            "rate_limits.updated",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_audio_transcript.delta",
            "output_audio_buffer.started",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.done",
            "output_audio_buffer.stopped",
        ]
        assert session.call.appends == 0


async def test_a_voice_silences_the_reply_at_once_and_the_service_knows_what_was_heard(tmp_path: Path) -> None:
    answer = voice(5000, seed=5)
    scenario = Scenario(pace=FAST, vad=VAD, answer=said(tmp_path, answer))
    async with calling(scenario) as (caller, session, _):
        caller.says(np.concatenate([voice(600, seed=6), QUIET]))
        await caller.until("response.done")
        caller.says(np.concatenate([voice(600, seed=7), QUIET[:4800]]))
        await caller.until("output_audio_buffer.cleared")
        cut = await caller.until("conversation.item.truncated")
        before = len(caller.frames)
        await asyncio.sleep(AIORTC_S + 0.2)
        tail = np.concatenate(caller.frames[before:])
        loud_ms = len(np.flatnonzero(np.abs(tail.astype(int)) > 500)) and np.flatnonzero(np.abs(tail) > 500)[-1] / 48
        assert loud_ms < AIORTC_S * 1000, "only what the client's own buffer held"
        heard_ms = cut["audio_end_ms"]
        assert likeness(caller.heard, answer[: heard_ms * 24]) >= 0.9
        assert likeness(caller.heard, answer[(heard_ms - 200) * 24 : (heard_ms - 20) * 24]) >= 0.9
        assert likeness(caller.heard, answer[(heard_ms + 40) * 24 : (heard_ms + 240) * 24]) < 0.8
        [item] = [item for item in session.items if item.id == cut["item_id"]]
        assert item.believed_heard_ms == heard_ms < 5000


async def test_typed_words_and_a_clear_work_by_the_channel() -> None:
    scenario = Scenario(pace=FAST, vad=VAD, answer=Text(text="a rather long answer to a short question"))
    async with calling(scenario) as (caller, session, _):
        content = [{"type": "input_text", "text": "Hi"}]
        caller.send(
            {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}
        )
        caller.send({"type": "response.create"})
        started = await caller.until("output_audio_buffer.started")
        caller.send({"type": "output_audio_buffer.clear"})
        assert (await caller.until("output_audio_buffer.cleared"))["response_id"] == started["response_id"]
        await caller.until("conversation.item.truncated")
        assert session.received("output_audio_buffer.clear") and session.errors == []


# ------------------------------------------------------------------------------------------------- beginning and ending


async def test_a_client_secret_brings_its_session_to_a_raw_offer() -> None:
    async with OpenAIEmulator(Scenario(), keys={"sk-good"}) as emulator:
        async with AsyncOpenAI(api_key="sk-good", base_url=emulator.api_url) as client:
            wanted: Any = {"type": "realtime", "model": "gpt-realtime", "instructions": "be brief"}
            secret = await client.realtime.client_secrets.create(session=wanted)
        caller = PlainCaller()
        headers = {"Authorization": f"Bearer {secret.value}", "Content-Type": "application/sdp"}
        async with (
            aiohttp.ClientSession() as web,
            web.post(f"{emulator.api_url}/realtime/calls", data=await caller.offer(), headers=headers) as answer,
        ):
            assert answer.status == 201
            await caller.accept(await answer.text())
        session = (await caller.until("session.created"))["session"]
        assert (session["model"], session["instructions"]) == ("gpt-realtime", "be brief")
        await caller.close()


async def test_the_client_hangs_up_by_http() -> None:
    async with OpenAIEmulator(Scenario()) as emulator:
        caller = PlainCaller()
        call_id = await dial(emulator, caller)
        await caller.until("session.created")
        async with AsyncOpenAI(api_key="sk-test", base_url=emulator.api_url, max_retries=0) as client:
            await client.realtime.calls.hangup(call_id)
            async with asyncio.timeout(5):
                await caller.closed.wait()
                await emulator.connections[0].ended.wait()
            assert emulator.connections[0].left_by_client and emulator.live == []
            with pytest.raises(APIStatusError, match="404"):
                await client.realtime.calls.hangup(call_id)
        assert emulator.stats.faults == 0
        await caller.close()


async def test_the_client_just_closes() -> None:
    async with calling(Scenario()) as (caller, session, _):
        await caller.close()
        async with asyncio.timeout(5):
            await session.connection.ended.wait()
        assert session.connection.left_by_client and session.connection.close_code == 1000


async def test_nothing_is_left_of_a_call_and_its_server() -> None:
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    async with calling(Scenario()):
        pass
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == tasks
    assert [one for one in threading.enumerate() if one not in threads and "ecoder" in one.name] == []


async def test_leaving_the_server_hangs_up() -> None:
    caller = PlainCaller()
    async with OpenAIEmulator(Scenario()) as emulator:
        await dial(emulator, caller)
        await caller.until("session.created")
        begun = time.monotonic()
    assert time.monotonic() - begun < 3
    async with asyncio.timeout(2):
        await caller.closed.wait()
    assert not emulator.connections[0].left_by_client and emulator.connections[0].close_code == 1001
    await caller.close()


async def test_a_call_that_never_comes_about_ends_with_the_server() -> None:
    async with OpenAIEmulator(Scenario()) as emulator:
        caller = PlainCaller()
        async with AsyncOpenAI(api_key="sk-test", base_url=emulator.api_url) as client:
            await client.realtime.calls.create(sdp=await caller.offer(), session=SESSION)  # type: ignore[arg-type]
        assert emulator.stats.accepted == 1
        await caller.close()
        begun = time.monotonic()
    assert time.monotonic() - begun < 4 and emulator.connections[0].ended.is_set()


async def test_calls_that_never_connect_are_bounded_and_hold_back_nobody_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("providers.emulators.call_desk._MAX_DIALLING", 2)
    monkeypatch.setattr("providers.emulators.call_carrier._OPEN_TIMEOUT_S", 1.0)
    caller, given_up = PlainCaller(), PlainCaller()
    offer: Any = await given_up.offer()
    async with (
        OpenAIEmulator(Scenario()) as emulator,
        AsyncOpenAI(api_key="sk-test", base_url=emulator.api_url, max_retries=0) as client,
    ):
        for _ in range(2):
            await client.realtime.calls.create(sdp=offer, session=SESSION)  # type: ignore[arg-type]
        with pytest.raises(APIStatusError) as refused:
            await client.realtime.calls.create(sdp=offer, session=SESSION)  # type: ignore[arg-type]
        assert (refused.value.status_code, refused.value.code) == (429, "rate_limit_exceeded")
        assert (emulator.stats.accepted, emulator.stats.refused) == (2, 1)
        await until(lambda: not emulator._desk._carriers, timeout_s=10)
        await dial(emulator, caller)
        await caller.until("session.created")
    await caller.close()
    await given_up.close()


async def test_what_nobody_reads_of_a_call_is_bounded_and_counted_by_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from providers.emulators.call_carrier import CallCarrier

    monkeypatch.setattr("providers.emulators.call_carrier._LIMIT", 3)
    flood = CallCarrier.peer_connected

    def flooded(self: CallCarrier) -> None:
        flood(self)
        for number in range(5):
            self.message_received(f"{number}")

    monkeypatch.setattr(CallCarrier, "peer_connected", flooded)
    async with calling(Scenario()) as (_, session, emulator):
        read = [message.data for message in session.connection.messages(sent=False)]
        assert read == ["2", "3", "4"], "the oldest went"
    assert emulator.stats.dropped_in >= 2


async def test_speech_for_which_a_call_has_no_room_is_counted_by_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.emulators.playback._LIMIT_MS", 100)
    async with calling(Scenario(pace=FAST, answer=Tone(duration_ms=2000))) as (caller, session, emulator):
        words = [{"type": "input_text", "text": "hi"}]
        caller.send({"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": words}})
        caller.send({"type": "response.create"})
        await caller.until("response.done")
        assert emulator.stats.unheard_ms == 0, "it is told at the end"
    assert emulator.stats.unheard_ms == session.call.playback.dropped_ms >= 500


# ------------------------------------------------------------------------------------------------------------- sideband


async def test_a_sideband_sees_the_events_of_a_call_and_its_commands_count() -> None:
    async with OpenAIEmulator(Scenario(pace=FAST, answer=Text(text="Hello.")), keys={"sk-test"}) as emulator:
        caller = PlainCaller()
        call_id = await dial(emulator, caller)
        await caller.until("session.created")
        url, headers = f"{emulator.url}?call_id={call_id}", {"Authorization": "Bearer sk-test"}
        async with connect(url, additional_headers=headers) as side:
            assert check_server_frame(await side.recv())["type"] == "session.created"
            update = {"type": "session.update", "session": {"type": "realtime", "instructions": "from the side"}}
            await side.send(json.dumps(update))
            assert json.loads(await side.recv()) == await caller.until("session.updated")
            await side.send('{"type": "response.create"}')
            await caller.until("output_audio_buffer.stopped")
            seen: list[dict[str, Any]] = []
            while not seen or seen[-1]["type"] != "output_audio_buffer.stopped":
                seen.append(json.loads(await side.recv()))
            assert seen == caller.events[2:]
            session = emulator.sessions[0]
            assert session.received("response.create") and session.config["instructions"] == "from the side"
            await caller.close()
            with pytest.raises(ConnectionClosed):
                await side.recv()
        assert len(emulator.connections) == len(emulator.sessions) == len(emulator.joined) == 1
        assert emulator.stats.upgrades == 1


async def test_a_sideband_that_left_is_forgotten_and_its_call_goes_on() -> None:
    async with OpenAIEmulator(Scenario()) as emulator:
        caller = PlainCaller()
        call_id = await dial(emulator, caller)
        await caller.until("session.created")
        [call] = emulator.connections
        for _ in range(3):
            headers = {"Authorization": "Bearer sk-test"}
            async with connect(f"{emulator.url}?call_id={call_id}", additional_headers=headers) as side:
                await side.recv()
                assert len(call.listeners) == 1
            await until(lambda: not call.listeners)
        assert call.live
        await caller.close()


@pytest.mark.parametrize(("fault", "code"), [("kill", 1006), ("close", 1011), ("end_session", 1001)])
async def test_a_sideband_ends_as_its_call_does(fault: str, code: int) -> None:
    async with OpenAIEmulator(Scenario()) as emulator:
        caller = PlainCaller()
        call_id = await dial(emulator, caller)
        await caller.until("session.created")
        headers = {"Authorization": "Bearer sk-test"}
        async with connect(f"{emulator.url}?call_id={call_id}", additional_headers=headers) as side:
            await side.recv()
            getattr(emulator.connections[0], fault)()
            with pytest.raises(ConnectionClosed):
                while True:
                    await side.recv()
            assert side.close_code == code
        await caller.close()


async def test_a_sideband_wants_a_running_call_and_an_api_key() -> None:
    async with OpenAIEmulator(Scenario(), keys={"sk-test"}) as emulator:
        caller = PlainCaller()
        call_id = await dial(emulator, caller)
        await caller.until("session.created")
        async with AsyncOpenAI(api_key="sk-test", base_url=emulator.api_url) as client:
            secret = (await client.realtime.client_secrets.create()).value
        for wanted, key, status in (("rtc_no", "sk-test", 404), (call_id, secret, 401), (call_id, "sk-other", 401)):
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"{emulator.url}?call_id={wanted}", additional_headers={"Authorization": f"Bearer {key}"})
            assert refused.value.response.status_code == status
        await caller.close()


# ------------------------------------------------------------------------------------------------------------- refusals


def form(*parts: tuple[str, str]) -> tuple[str, bytes]:
    """Content type and body of a form."""
    body = "".join(f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in parts)
    return "multipart/form-data; boundary=x", f"{body}--x--\r\n".encode()


def asked(content: tuple[str, bytes], key: str = "sk-test", **query: str) -> CallOffer | Refusal:
    headers = {"authorization": f"Bearer {key}", "content-type": content[0]}
    request = UpgradeRequest("/v1/realtime/calls", query, headers, False)
    vendor = OpenAIVendor(keys={"sk-test"})
    assert vendor.is_call(request)
    return vendor.offer(request, content[1])


def test_both_forms_and_the_query_name_a_session() -> None:
    assert asked(form(("sdp", SDP), ("session", json.dumps(SESSION)))) == CallOffer(SDP, SESSION)
    assert asked(("application/sdp", SDP.encode()), model=MODEL) == CallOffer(SDP, {"model": MODEL, "type": "realtime"})


NO_AUDIO = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (form(("sdp", SDP)), 400, "missing_model"),
        (form(("session", json.dumps(SESSION))), 400, "missing_required_parameter"),
        (form(("sdp", SDP), ("session", "{")), 400, "invalid_json"),
        (form(("sdp", SDP), ("session", "[]")), 400, "invalid_type"),
        (form(("sdp", SDP), ("session", '{"type": "realtime", "model": 5}')), 400, "invalid_type"),
        (form(("sdp", SDP), ("session", '{"type": "realtime", "model": "no-such"}')), 404, "model_not_found"),
        (form(("sdp", SDP), ("session", json.dumps({**SESSION, "voice": "marin"}))), 400, "unknown_parameter"),
        (form(("sdp", NO_AUDIO), ("session", json.dumps(SESSION))), 400, "invalid_offer"),
        (("application/sdp", b"hello"), 400, "invalid_offer"),
        (("application/sdp", b"\xff\xfe"), 400, "invalid_offer"),
        (("application/sdp", SDP.encode()), 400, "missing_model"),
        (("application/json", b"{}"), 415, "unsupported_content_type"),
        (("multipart/form-data", b"no boundary"), 400, "missing_required_parameter"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_as_the_service_does(
    content: tuple[str, bytes], status: int, code: str
) -> None:
    refusal = asked(content)
    assert isinstance(refusal, Refusal)
    error = json.loads(refusal.body)["error"]
    assert (refusal.status, error["code"], error["type"]) == (status, code, "invalid_request_error")


def test_a_wrong_key_is_refused_before_anything_is_read() -> None:
    refusal = asked(("application/sdp", b""), key="sk-other")
    assert isinstance(refusal, Refusal) and refusal.status == 401


def test_an_unknown_call_cannot_be_hung_up_and_a_secret_may_not() -> None:
    vendor = OpenAIVendor()
    path = "/v1/realtime/calls/rtc_1/hangup"
    refusal = vendor.post(UpgradeRequest(path, {}, {"authorization": "Bearer sk-1"}, False), b"")
    assert isinstance(refusal, Refusal) and refusal.status == 404
    vendor.calls["rtc_1"] = type("Running", (), {"hung_up": False})()
    assert vendor.post(UpgradeRequest(path, {}, {"authorization": "Bearer sk-1"}, False), b"") == CallEnd("rtc_1")
    vendor.secrets["ek_1"] = time.monotonic() + 60
    refusal = vendor.post(UpgradeRequest(path, {}, {"authorization": "Bearer ek_1"}, False), b"")
    assert isinstance(refusal, Refusal) and refusal.status == 401


async def post_offer(emulator: OpenAIEmulator, sdp: str) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": "Bearer sk-test", "Content-Type": "application/sdp"}
    url = f"{emulator.api_url}/realtime/calls?model={MODEL}"
    async with aiohttp.ClientSession() as web, web.post(url, data=sdp, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_an_offer_that_cannot_be_used_is_refused() -> None:
    async with OpenAIEmulator(Scenario()) as emulator:
        for broken in (SDP, SDP + "a=setup:actpass\r\n", "v=0\r\n" + "m=audio 9 X 1\r\n" * 1000):
            status, answer = await post_offer(emulator, broken)
            assert (status, answer["error"]["code"]) == (400, "invalid_offer")
        assert emulator.connections == [] and emulator.stats.refused == 3


async def test_without_aiortc_a_call_is_refused_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "providers.webrtc.seam", None)
    async with OpenAIEmulator(Scenario()) as emulator:
        caller = PlainCaller()
        status, answer = await post_offer(emulator, await caller.offer())
        assert status == 501 and "roombridge[webrtc]" in answer["error"]["message"]
        await caller.close()


# --------------------------------------------------------------------------------------------------------------- faults


async def test_refusals_drops_and_delays_meet_calls_as_they_meet_upgrades() -> None:
    async with OpenAIEmulator(Scenario(session=Session(connect_delay_ms=100))) as emulator:
        emulator.refuse(1, 503, retry_after_s=7)
        emulator.drop()
        caller = PlainCaller()
        begun = time.monotonic()
        with pytest.raises(APIStatusError) as refused:
            await dial(emulator, caller)
        assert refused.value.response.headers["Retry-After"] == "7" and time.monotonic() - begun >= 0.1
        with pytest.raises(aiohttp.ClientError):
            await post_offer(emulator, SDP)
        assert (emulator.stats.upgrades, emulator.stats.refused, emulator.stats.faults) == (2, 2, 2)
        await caller.close()


async def test_a_call_may_never_be_set_up() -> None:
    async with OpenAIEmulator(Scenario()) as emulator:
        emulator.ignore_setups()
        caller = PlainCaller()
        await dial(emulator, caller, instructions="be brief")
        async with asyncio.timeout(5):
            while caller.channel.readyState != "open":  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        caller.send({"type": "response.create"})
        caller.says(voice(400))
        await asyncio.sleep(0.5)
        assert caller.events == [] and emulator.heard().pcm == b""
        await caller.close()


async def test_a_killed_call_says_no_goodbye(tmp_path: Path) -> None:
    scenario = Scenario(pace=FAST, vad=VAD, greeting=said(tmp_path, voice(4000)))
    async with calling(scenario, instructions="greet") as (caller, session, emulator):
        await caller.until("output_audio_buffer.started")
        await asyncio.sleep(AIORTC_S)
        session.connection.kill()
        async with asyncio.timeout(1):
            await session.connection.ended.wait()
        assert emulator.live == [] and session.connection.close_code is None
        assert not session.connection.left_by_client
        await asyncio.sleep(AIORTC_S)
        frames = len(caller.frames)
        await asyncio.sleep(0.2)
        assert len(caller.frames) == frames and not caller.closed.is_set()


async def test_a_closed_call_is_hung_up_after_what_was_said() -> None:
    async with calling(Scenario()) as (caller, session, _):
        session.connection.end_session()
        assert (await caller.until("error"))["error"]["code"] == "session_expired"
        async with asyncio.timeout(3):
            await caller.closed.wait()
            await session.connection.ended.wait()
        assert session.connection.close_code == 1001 and not session.connection.left_by_client


@pytest.mark.parametrize("pongs", [True, False])
async def test_a_stalled_call_sends_neither_events_nor_sound_and_goes_on(tmp_path: Path, pongs: bool) -> None:
    sound = voice(2000, seed=9)
    scenario = Scenario(pace=FAST, vad=VAD, greeting=said(tmp_path, sound))
    async with calling(scenario, instructions="greet") as (caller, session, _):
        await caller.until("output_audio_buffer.started")
        await asyncio.sleep(0.5)
        session.connection.stall(pongs=pongs)
        await asyncio.sleep(AIORTC_S)
        frames, events = len(caller.frames), len(caller.events)
        heard = len(session.heard)
        caller.send({"type": "input_audio_buffer.clear"})
        await asyncio.sleep(0.4)
        assert (len(caller.frames), len(caller.events)) == (frames, events)
        assert (len(session.heard) > heard) is pongs
        session.connection.go_on()
        await caller.until("input_audio_buffer.cleared")
        await caller.until("output_audio_buffer.stopped")
        await asyncio.sleep(AIORTC_S)
        assert likeness(caller.heard, sound[-24 * 800 :]) >= 0.9
        assert not session.connection.ended.is_set()


async def test_odd_messages_come_over_the_channel() -> None:
    async with calling(Scenario()) as (caller, session, _):
        session.connection.malformed("{")
        for fault in (Empty(text=""), Empty(), Unknown()):
            session.connection.strike(fault)
        session.connection.duplicate()
        await caller.until("something.new")
        assert [event["message"] for event in caller.events if event["type"] == "?"] == ["{", "", "{}"]
        session.connection.duplicate()
        caller.send({"type": "input_audio_buffer.clear"})
        await caller.until("input_audio_buffer.cleared")


@pytest.mark.parametrize("kind", [*KINDS, *FATAL_KINDS, *LASTING_KINDS])
async def test_every_kind_of_chaos_befalls_a_call(kind: str) -> None:
    async with calling(Scenario(), instructions="be brief") as (_, session, emulator):
        assert emulator.befall(stroke(seed=1, kinds=[kind])) is session.connection
        await asyncio.sleep(0.05)
        assert emulator.stats.faults >= 1
