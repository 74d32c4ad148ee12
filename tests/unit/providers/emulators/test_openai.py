"""The OpenAI emulator, driven by the official SDK: proof that it speaks the real protocol."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pytest
from openai import APIStatusError, AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from providers.emulators.connection import Connection
from providers.emulators.openai import OpenAIEmulator, OpenAIVendor
from providers.emulators.wire import Outgoing, Refusal, UpgradeRequest
from providers.scripted.scenario import (
    Call,
    Marker,
    Pace,
    Refuse,
    Scenario,
    ServerVad,
    Session,
    Text,
    Tone,
    Transcripts,
    TurnScript,
)
from providers.scripted.voice import marker
from providers.signal import g711
from providers.signal.resample import Int16Array
from tests.fakes.openai_types import check_server_frame

FAST = Pace(speed=50.0, latency_ms=10)
SPEECH = marker(800, seed=3, level_dbfs=-15.0)
QUIET = np.zeros(24 * 700, dtype=np.int16)


class Talk:
    """One SDK connection, and every event that came so far."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []

    async def until(self, kind: str, where: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        while True:
            event = (await self.connection.recv()).model_dump(exclude_unset=True)
            self.events.append(event)
            if event["type"] == kind and where(event):
                return event

    async def send(self, event: dict[str, Any]) -> None:
        await self.connection.send(event)  # type: ignore[arg-type]

    async def refused(self, event: dict[str, Any]) -> dict[str, Any]:
        """The error that this event brings about."""
        await self.send({**event, "event_id": "mine"})
        error: dict[str, Any] = (await self.until("error"))["error"]
        assert error["event_id"] == "mine"
        return error

    async def says(self, pcm: Int16Array) -> None:
        for start in range(0, len(pcm), 2400):
            chunk = pcm[start : start + 2400].tobytes()
            await self.connection.input_audio_buffer.append(audio=b64encode(chunk).decode())

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    def speech(self, response_id: str | None = None) -> bytes:
        """What the model said, in all or in one response."""
        return b"".join(
            b64decode(event["delta"])
            for event in self.events
            if event["type"] == "response.output_audio.delta" and response_id in (None, event["response_id"])
        )


@asynccontextmanager
async def talking(
    scenario: Scenario | None = None, model: str = "gpt-realtime-2.1", **options: Any
) -> AsyncIterator[tuple[Talk, OpenAIEmulator]]:
    """A conversation by the official SDK. At its end every event of the emulator is checked by the SDK's types."""
    async with OpenAIEmulator(scenario or Scenario(pace=FAST), **options) as emulator:
        client = AsyncOpenAI(api_key="sk-test", base_url=emulator.api_url)
        async with client, client.realtime.connect(model=model) as connection:
            yield Talk(connection), emulator
        for message in emulator.written():
            if not message.label.startswith("fault:"):
                check_server_frame(message.data)


def likeness(one: Int16Array, other: Int16Array) -> float:
    """Normalised correlation at the best alignment."""
    size = 1 << (len(one) + len(other)).bit_length()
    a, b = (np.fft.rfft(sound.astype(np.float64), size) for sound in (one, other))
    peak = np.abs(np.fft.irfft(a * np.conj(b), size)).max()
    return float(peak / (np.linalg.norm(one.astype(np.float64)) * np.linalg.norm(other.astype(np.float64)) + 1e-9))


UPDATE: dict[str, Any] = {
    "type": "session.update",
    "session": {"type": "realtime", "audio": {"input": {"transcription": {"model": "gpt-4o-mini-transcribe"}}}},
}


async def test_a_spoken_turn_is_heard_transcribed_and_answered() -> None:
    async with talking() as (talk, emulator):
        created = await talk.until("session.created")
        assert created["session"]["audio"]["input"]["turn_detection"]["type"] == "server_vad"
        await talk.send(UPDATE)
        await talk.until("session.updated")
        await talk.says(np.concatenate([SPEECH, QUIET]))
        done = await talk.until("response.done")
        assert done["response"]["status"] == "completed"
        assert likeness(np.frombuffer(talk.speech(), "<i2"), SPEECH) > 0.9
        assert likeness(np.frombuffer(emulator.sessions[0].heard, "<i2"), SPEECH) > 0.9
        once = list(dict.fromkeys(talk.types()))
        assert once == [
            "session.created",
            "session.updated",
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "conversation.item.input_audio_transcription.delta",
            "conversation.item.input_audio_transcription.completed",
            "response.created",
            "rate_limits.updated",
            "response.output_item.added",
            "response.content_part.added",
            *[kind for kind in once if kind.endswith(".delta") and kind.startswith("response.output_audio")],
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.done",
        ]
        added = talk.types().index("response.output_item.added")
        assert talk.types()[added + 1] == "conversation.item.added"


async def test_a_barge_in_cancels_the_reply_and_the_truncation_is_believed() -> None:
    answer = Tone(duration_ms=5000, transcript="one two three four five")
    scenario = Scenario(pace=Pace(speed=4.0, latency_ms=10), answer=answer, vad=ServerVad(silence_ms=200))
    async with talking(scenario) as (talk, emulator):
        await talk.send(UPDATE)
        await talk.says(np.concatenate([SPEECH, QUIET]))
        delta = await talk.until("response.output_audio.delta")
        await talk.says(SPEECH)
        started = await talk.until("input_audio_buffer.speech_started")
        done = await talk.until("response.done")
        assert done["response"]["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        assert talk.events.index(started) < talk.events.index(done)
        await talk.connection.conversation.item.truncate(item_id=delta["item_id"], content_index=0, audio_end_ms=30)
        await talk.until("conversation.item.truncated")
        item = next(item for item in emulator.sessions[0].items if item.id == delta["item_id"])
        assert item.believed_heard_ms == 30
        assert "transcript" not in item.body["content"][0]


async def test_parallel_tools_are_called_and_their_results_spoken() -> None:
    calls = (Call(name="a", arguments={"x": 1}), Call(name="b"))
    answer = Text(text="It is {degrees} degrees.")
    scenario = Scenario(pace=FAST, turns=(TurnScript(turn=1, calls=calls, answer=answer),))
    async with talking(scenario) as (talk, emulator):
        await talk.says(np.concatenate([SPEECH, QUIET]))
        done = await talk.until("response.done")
        made = done["response"]["output"]
        assert [(call["name"], json.loads(call["arguments"])) for call in made] == [("a", {"x": 1}), ("b", {})]
        for call in made:
            output = {"type": "function_call_output", "call_id": call["call_id"], "output": '{"degrees": 4}'}
            await talk.connection.conversation.item.create(item=output)  # type: ignore[arg-type]
        await talk.connection.response.create()
        said = await talk.until("response.output_audio_transcript.done")
        assert said["transcript"] == "It is 4 degrees."
        assert set(emulator.sessions[0].tool_outputs) == {call["call_id"] for call in made}


async def test_g711_goes_in_and_out() -> None:
    async with talking() as (talk, _):
        format = {"type": "audio/pcmu"}
        session = {"type": "realtime", "audio": {"input": {"format": format}, "output": {"format": format}}}
        await talk.send({"type": "session.update", "session": session})
        speech = marker(800, seed=5, level_dbfs=-15.0)[::3]
        audio = g711.mulaw_encode(np.ascontiguousarray(np.concatenate([speech, np.zeros(5600, np.int16)])))
        await talk.connection.input_audio_buffer.append(audio=b64encode(audio).decode())
        await talk.until("response.done")
        assert likeness(g711.mulaw_decode(talk.speech()), speech) > 0.8


async def test_a_typed_turn_is_answered_in_writing() -> None:
    async with talking(Scenario(pace=FAST, answer=Text(text="Hello there."))) as (talk, _):
        await talk.send({"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"]}})
        content = [{"type": "input_text", "text": "Hi"}]
        item = {"type": "message", "role": "user", "content": content}
        await talk.connection.conversation.item.create(item=item)  # type: ignore[arg-type]
        await talk.connection.response.create()
        assert (await talk.until("response.output_text.done"))["text"] == "Hello there."
        await talk.until("response.done")
        assert talk.speech() == b"" and "response.output_audio_transcript.delta" not in talk.types()


async def test_manual_turns_wait_for_commit_and_request() -> None:
    async with talking() as (talk, _):
        session = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
        await talk.send({"type": "session.update", "session": session})
        assert (await talk.refused({"type": "input_audio_buffer.commit"}))["code"] == "input_audio_buffer_commit_empty"
        await talk.says(np.concatenate([SPEECH, QUIET]))
        await talk.connection.input_audio_buffer.commit()
        await talk.until("input_audio_buffer.committed")
        assert "response.created" not in talk.types()
        await talk.connection.response.create()
        await talk.until("response.done")
        assert likeness(np.frombuffer(talk.speech(), "<i2"), SPEECH) > 0.8


async def test_interrupt_response_false_lets_the_reply_run() -> None:
    scenario = Scenario(pace=Pace(speed=8.0, latency_ms=10), answer=Tone(duration_ms=1500))
    async with talking(scenario) as (talk, _):
        detection = {"type": "server_vad", "interrupt_response": False, "silence_duration_ms": 300}
        session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
        await talk.send({"type": "session.update", "session": session})
        await talk.says(np.concatenate([SPEECH, QUIET]))
        await talk.until("response.output_audio.delta")
        await talk.says(SPEECH)
        assert (await talk.until("response.done"))["response"]["status"] == "completed"


async def test_semantic_vad_waits_as_long_as_its_eagerness_says() -> None:
    async with talking(Scenario(pace=FAST, vad=ServerVad(silence_ms=500))) as (talk, _):
        for eagerness, waited_ms in (("high", 250), ("low", 1000)):
            detection = {"type": "semantic_vad", "eagerness": eagerness}
            session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
            await talk.send({"type": "session.update", "session": session})
            await talk.says(np.concatenate([SPEECH, QUIET, QUIET]))
            started = await talk.until("input_audio_buffer.speech_started")
            stopped = await talk.until("input_audio_buffer.speech_stopped")
            spoken_ms = stopped["audio_end_ms"] - started["audio_start_ms"]
            assert spoken_ms == pytest.approx(800 + waited_ms, abs=350)
            await talk.until("response.done")


async def test_the_silence_of_the_user_is_noticed() -> None:
    scenario = Scenario(pace=FAST, prompted=Tone(duration_ms=20))
    async with talking(scenario) as (talk, _):
        detection = {"type": "server_vad", "idle_timeout_ms": 50}
        session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
        await talk.send({"type": "session.update", "session": session})
        await talk.connection.response.create()
        await talk.until("response.done")
        await talk.until("input_audio_buffer.timeout_triggered")
        await talk.until("response.done")


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({}, "missing_required_parameter", "session.type"),
        ({"type": "realtime", "voice": "ash"}, "unknown_parameter", "session.voice"),
        ({"type": "realtime", "temperature": 1}, "unknown_parameter", "session.temperature"),
        ({"type": "realtime", "audio": {"output": {"voice": "Puck"}}}, "invalid_value", "session.audio.output.voice"),
        ({"type": "realtime", "audio": {"output": {"speed": 9}}}, "invalid_value", "session.audio.output.speed"),
        ({"type": "realtime", "instructions": 7}, "invalid_type", "session.instructions"),
        ({"type": "realtime", "output_modalities": ["text", "audio"]}, "invalid_value", "session.output_modalities"),
        ({"type": "realtime", "reasoning": {"effort": "low"}}, "invalid_value", "session.reasoning"),
        ({"type": "realtime", "parallel_tool_calls": True}, "invalid_value", "session.parallel_tool_calls"),
        ({"type": "realtime", "model": "gpt-realtime-2"}, "invalid_value", "session.model"),
        (
            {"type": "realtime", "audio": {"input": {"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}}},
            "unknown_parameter",
            "session.audio.input.turn_detection.threshold",
        ),
        (
            {"type": "realtime", "audio": {"input": {"transcription": {"model": "whisper-1", "delay": "low"}}}},
            "invalid_value",
            "session.audio.input.transcription.delay",
        ),
    ],
)
async def test_a_bad_update_is_refused_whole(session: dict[str, Any], code: str, param: str) -> None:
    async with talking(model="gpt-realtime") as (talk, emulator):
        before = emulator.sessions[0].config
        error = await talk.refused({"type": "session.update", "session": {"instructions": "new", **session}})
        assert (error["code"], error["param"]) == (code, param)
        assert emulator.sessions[0].config == before


async def test_the_voice_stays_once_it_was_heard() -> None:
    async with talking(Scenario(pace=FAST, prompted=Tone(duration_ms=50))) as (talk, _):
        update = {"type": "session.update", "session": {"type": "realtime", "audio": {"output": {"voice": "ash"}}}}
        await talk.send(update)
        await talk.until("session.updated")
        await talk.connection.response.create()
        await talk.until("response.done")
        update["session"]["audio"]["output"]["voice"] = "sage"  # type: ignore[index]
        assert (await talk.refused(update))["code"] == "cannot_update_voice"


async def test_items_are_created_retrieved_and_deleted_and_wrong_ones_refused() -> None:
    async with talking() as (talk, _):
        item = {"id": "mine", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]}
        create = {"type": "conversation.item.create", "item": item}
        await talk.send(create)
        await talk.until("conversation.item.done")
        assert (await talk.refused(create))["code"] == "item_create_duplicate_item_id"
        endless = {**item, "id": "endless", "content": [{"type": "input_text", "text": "x" * 600_000}]}
        refusal = await talk.refused({"type": "conversation.item.create", "item": endless})
        assert (refusal["code"], refusal["param"]) == ("string_above_max_length", "item.content[0].text")
        await talk.connection.conversation.item.retrieve(item_id="mine")
        assert (await talk.until("conversation.item.retrieved"))["item"]["content"][0]["text"] == "a"
        truncate = {"type": "conversation.item.truncate", "item_id": "mine", "content_index": 0, "audio_end_ms": 5}
        assert "Only model output audio" in (await talk.refused(truncate))["message"]
        await talk.connection.conversation.item.delete(item_id="mine")
        await talk.until("conversation.item.deleted")
        codes = [
            (await talk.refused({**truncate, "item_id": "gone"}))["code"],
            (await talk.refused({"type": "conversation.item.delete", "item_id": "gone"}))["code"],
            (await talk.refused({"type": "conversation.item.retrieve", "item_id": "gone"}))["code"],
            (await talk.refused({"type": "response.cancel"}))["code"],
            (await talk.refused({"type": "response.dance"}))["code"],
        ]
        assert codes == [
            "item_truncate_invalid_item_id",
            "item_delete_invalid_item_id",
            "item_retrieve_invalid_item_id",
            "response_cancel_not_active",
            "invalid_value",
        ]


async def test_a_truncation_beyond_the_speech_is_refused_in_the_services_words() -> None:
    async with talking(Scenario(pace=FAST, prompted=Tone(duration_ms=400))) as (talk, _):
        await talk.connection.response.create()
        delta = await talk.until("response.output_audio.delta")
        await talk.until("response.done")
        truncate = {"type": "conversation.item.truncate", "item_id": delta["item_id"], "content_index": 0}
        error = await talk.refused({**truncate, "audio_end_ms": 9100})
        assert error["message"] == "Audio content of 400ms is already shorter than 9100ms"


async def test_one_response_at_a_time_and_a_cancel_ends_it() -> None:
    async with talking(Scenario(pace=Pace(speed=2.0), prompted=Tone(duration_ms=5000))) as (talk, _):
        await talk.connection.response.create()
        await talk.until("response.created")
        assert (await talk.refused({"type": "response.create"}))["code"] == "conversation_already_has_active_response"
        await talk.connection.response.cancel()
        done = await talk.until("response.done")
        assert done["response"]["status_details"]["reason"] == "client_cancelled"


async def test_a_reply_may_come_as_two_messages() -> None:
    scenario = Scenario(pace=FAST, prompted=Marker(duration_ms=600))
    async with talking(scenario, split_ms=200) as (talk, emulator):
        await talk.connection.response.create()
        done = await talk.until("response.done")
        assert [item["type"] for item in done["response"]["output"]] == ["message", "message"]
        assert [item.speech_ms for item in emulator.sessions[0].items] == [200, 400]


async def test_the_session_ends_with_an_error_and_a_close_when_its_time_is_up() -> None:
    async with talking(Scenario(session=Session(limit_s=0.1))) as (talk, _):
        await talk.send({"type": "input_audio_buffer.clear"})
        assert (await talk.until("error"))["error"]["code"] == "session_expired"
        with pytest.raises(ConnectionClosed) as closed:
            await talk.until("never")
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
        assert "60 minutes" in closed.value.rcvd.reason


@pytest.mark.parametrize(
    ("strike", "code"),
    [
        (lambda connection: connection.end_session(), "session_expired"),
        (lambda connection: connection.go_away(0.05), "session_expired"),
        (lambda connection: connection.use_up_quota(), "insufficient_quota"),
    ],
)
async def test_an_end_that_a_test_asks_for_is_said_in_the_services_words(
    strike: Callable[[Connection], None], code: str
) -> None:
    async with talking() as (talk, emulator):
        await talk.until("session.created")
        strike(emulator.connections[0])
        assert (await talk.until("error"))["error"]["code"] == code
        with pytest.raises(ConnectionClosed):
            await talk.until("never")


@pytest.mark.parametrize(
    ("key", "model", "status"),
    [("sk-wrong", "gpt-realtime", 401), ("sk-1", "gpt-nonsense", 404), ("sk-1", "gpt-live-1", 404)],
)
async def test_a_wrong_key_or_model_is_refused_at_the_upgrade(key: str, model: str, status: int) -> None:
    async with OpenAIEmulator(keys=["sk-1"]) as emulator:
        client = AsyncOpenAI(api_key=key, base_url=emulator.api_url)
        async with client:
            with pytest.raises(InvalidStatus) as refused:
                async with client.realtime.connect(model=model):
                    pass
        assert refused.value.response.status_code == status


async def test_planned_refusals_come_with_their_status() -> None:
    async with OpenAIEmulator(Scenario(faults=(Refuse(status=429, retry_after_s=3),))) as emulator:
        async with AsyncOpenAI(api_key="sk-1", base_url=emulator.api_url) as client:
            with pytest.raises(InvalidStatus) as refused:
                async with client.realtime.connect(model="gpt-realtime"):
                    pass
        assert refused.value.response.headers["Retry-After"] == "3"


async def test_the_sdk_mints_a_client_secret_and_connects_with_it() -> None:
    async with OpenAIEmulator(keys=["sk-1"]) as emulator:
        async with AsyncOpenAI(api_key="sk-1", base_url=emulator.api_url) as client:
            secret = await client.realtime.client_secrets.create(
                expires_after={"anchor": "created_at", "seconds": 30},
                session={"type": "realtime", "model": "gpt-realtime", "instructions": "Be brief."},
            )
        assert secret.value.startswith("ek_")
        assert secret.session.instructions == "Be brief."  # type: ignore[union-attr]
        async with AsyncOpenAI(api_key=secret.value, base_url=emulator.api_url) as client:
            async with client.realtime.connect(model="gpt-realtime") as connection:
                assert (await connection.recv()).type == "session.created"
            with pytest.raises(APIStatusError, match="401"):
                await client.realtime.client_secrets.create()


@pytest.mark.parametrize("expiry", ["[]", "5", "true", '{"seconds": 5}', '{"seconds": "60"}'])
def test_a_secret_with_an_odd_expiry_is_refused(expiry: str) -> None:
    request = UpgradeRequest("/v1/realtime/client_secrets", {}, {"authorization": "Bearer sk-1"}, False)
    answer = OpenAIVendor().post(request, b'{"expires_after": %s}' % expiry.encode())
    assert isinstance(answer, Refusal)
    assert (answer.status, json.loads(answer.body)["error"]["param"]) == (400, "expires_after.seconds")


async def test_the_beta_header_is_refused_as_the_service_does() -> None:
    async with OpenAIEmulator() as emulator, AsyncOpenAI(api_key="sk-1", base_url=emulator.api_url) as client:
        headers = {"OpenAI-Beta": "realtime=v1"}
        async with client.realtime.connect(model="gpt-realtime", extra_headers=headers) as connection:
            error = (await connection.recv()).model_dump()
        assert error["error"]["code"] == "beta_api_shape_disabled"


FUZZ_WORDS = (
    "a",
    "",
    "root",
    "audio/pcmu",
    "server_vad",
    "semantic_vad",
    "auto",
    "realtime",
    "message",
    "user",
    "AAAA",
    "inf",
)
FUZZ_EVENTS: tuple[dict[str, Any], ...] = (
    {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcma"}}}}},
    {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}}},
    {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"noise_reduction": {}}}}},
    {"type": "session.update", "session": {"type": "realtime", "tool_choice": {"type": "function", "name": "f"}}},
    {"type": "input_audio_buffer.append", "audio": "AAAA"},
    {"type": "input_audio_buffer.commit"},
    {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": []}},
    {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "a", "output": ""}},
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call", "name": "f", "arguments": ""},
        "previous_item_id": "root",
    },
    {"type": "conversation.item.truncate", "item_id": "a", "content_index": 0, "audio_end_ms": 1},
    {"type": "response.create", "response": {"conversation": "none", "input": [], "metadata": {"a": "b"}}},
    {"type": "response.cancel"},
)


def spoilt(chance: Random, value: Any) -> Any:
    """The event with something of it replaced."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        return {**value, chance.choice((key, key, key, "odd")): spoilt(chance, value[key])}
    return chance.choice((None, True, -1, 10**40, 0.5, [], [None], {}, {"type": "a"}, *FUZZ_WORDS))


@pytest.mark.parametrize("seed", range(10))
def test_no_client_event_however_odd_breaks_the_server(seed: int) -> None:
    chance = Random(seed)
    request = UpgradeRequest("/v1/realtime", {"model": "gpt-realtime"}, {}, False)
    wire = OpenAIVendor().connect(Scenario(pace=FAST), request, 1)
    wire.opened(0.0)
    for step in range(300):
        event = chance.choice(FUZZ_EVENTS)
        event = event if chance.random() < 0.4 else spoilt(chance, event)
        for output in wire.received(json.dumps(event), step * 0.1):
            assert isinstance(output, Outgoing)
            check_server_frame(output.data)


@pytest.mark.parametrize("frame", ["", "null", "[]", "{", b"\xff", "{}", '{"type":1}', "[" * 5000])
def test_a_frame_that_is_no_event_is_answered_with_an_error(frame: str | bytes) -> None:
    request = UpgradeRequest("/v1/realtime", {"model": "gpt-realtime"}, {}, False)
    wire = OpenAIVendor().connect(Scenario(), request, 1)
    wire.opened(0.0)
    (answer,) = wire.received(frame, 0.1)
    assert isinstance(answer, Outgoing)
    assert check_server_frame(answer.data)["type"] == "error"


@pytest.mark.parametrize("path", [("itemid",), ("error", "parm")])
def test_a_misspelt_field_fails_the_check(path: tuple[str, ...]) -> None:
    event: dict[str, Any] = {"type": "error", "event_id": "e", "error": {"type": "t", "message": "m"}}
    check_server_frame(json.dumps(event))
    (event if len(path) == 1 else event[path[0]])[path[-1]] = "x"
    with pytest.raises(ValueError, match="Extra inputs"):
        check_server_frame(json.dumps(event))


async def test_every_message_is_in_the_record_with_its_time() -> None:
    async with talking(Scenario(pace=FAST, transcripts=Transcripts(output=False))) as (talk, emulator):
        await talk.says(np.concatenate([SPEECH, QUIET]))
        await talk.until("response.done")
        await asyncio.sleep(0)
        speech = emulator.written("speech")
        assert b"".join(b64decode(json.loads(message.data)["delta"]) for message in speech) == talk.speech()
        assert all(one.at <= other.at for one, other in pairwise(speech))
