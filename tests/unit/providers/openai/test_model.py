"""The whole provider against the emulated service: settings in, a conversation out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from providers.contract import (
    Closed,
    EventReader,
    GenerationComplete,
    HistoryItem,
    InputTranscript,
    Interrupted,
    ModelSession,
    OutputTranscript,
    SessionEvent,
    SessionStart,
    SpeechChunk,
    ToolCall,
    ToolSpec,
    TurnComplete,
)
from providers.emulators.openai import OpenAIEmulator
from providers.errors import NeedsNewSession, ProviderRejected, ProviderUnavailable, ResumeRefused, SettingRefused
from providers.openai.model import OpenAIModel
from providers.openai.settings import OpenAISettings
from providers.scripted.scenario import (
    Abort,
    Call,
    Marker,
    Pace,
    Refuse,
    Scenario,
    ServerVad,
    Session,
    Text,
    Tone,
    TurnScript,
)
from providers.scripted.voice import marker
from providers.settings import ConnectionSettings, SpeechSettings, TurnDetectionSettings
from providers.signal import g711
from providers.signal.formats import PCM16_24K, PCMU_8K
from tests.fakes.openai_types import check_client_frame
from tests.unit.providers.emulators.test_openai import likeness

FAST = Pace(speed=50.0, latency_ms=10)
SPEECH = marker(800, seed=3, level_dbfs=-15.0)
QUIET = np.zeros(24 * 700, dtype=np.int16)
TURN = np.concatenate([SPEECH, QUIET])


def model_for(
    emulator: OpenAIEmulator,
    speech: SpeechSettings | None = None,
    own: dict[str, Any] | None = None,
    key: str = "sk-test-secret",
) -> OpenAIModel:
    connection = ConnectionSettings(connect_timeout_s=3, setup_timeout_s=3, close_timeout_s=1)
    environ = {"OPENAI_API_KEY": key, "OPENAI_BASE_URL": emulator.api_url}
    return OpenAIModel.from_config(speech or SpeechSettings(), OpenAISettings(**(own or {})), connection, environ)


class Talk:
    def __init__(self, session: ModelSession) -> None:
        self.session = session
        self.reader: EventReader = session.read(4096)
        self.events: list[SessionEvent] = []

    async def until(self, kind: type) -> Any:
        async for event in self.reader:
            self.events.append(event)
            if isinstance(event, kind):
                return event
        raise AssertionError(f"the session ended without {kind.__name__}: {self.events[-3:]}")

    def says(self, pcm: Any = TURN) -> None:
        for start in range(0, len(pcm), 480):
            self.session.send_audio(pcm[start : start + 480].tobytes(), PCM16_24K)

    def speech(self, reply_id: str | None = None) -> bytes:
        chunks = [event for event in self.events if isinstance(event, SpeechChunk)]
        return b"".join(chunk.audio for chunk in chunks if reply_id in (None, chunk.reply_id))


@asynccontextmanager
async def talking(
    scenario: Scenario | None = None,
    speech: SpeechSettings | None = None,
    own: dict[str, Any] | None = None,
    start: SessionStart | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Talk, OpenAIEmulator]]:
    """A conversation with the emulator. At its end every frame that we sent is checked by the SDK's types."""
    async with OpenAIEmulator(scenario or Scenario(pace=FAST), **options) as emulator:
        session = await model_for(emulator, speech, own).connect(start)
        try:
            yield Talk(session), emulator
        finally:
            await session.close()
        for connection in emulator.connections:
            for message in connection.messages(sent=False):
                check_client_frame(message.data)


async def settled(emulator: OpenAIEmulator, label: str, count: int = 1) -> None:
    """Wait until the emulator has written so many messages of this label."""
    written = asyncio.Event()
    emulator.on_write = lambda _: written.set()
    async with asyncio.timeout(5):
        while len(emulator.written(label)) < count:
            written.clear()
            await written.wait()


async def test_a_spoken_turn_is_heard_and_answered() -> None:
    async with talking() as (talk, emulator):
        talk.says()
        await talk.until(TurnComplete)
        assert likeness(np.frombuffer(talk.speech(), "<i2"), SPEECH) > 0.9
        assert likeness(np.frombuffer(emulator.sessions[0].heard, "<i2"), SPEECH) > 0.9
        final = [event for event in talk.events if isinstance(event, InputTranscript) and event.final]
        assert final[0].text.startswith("I heard")
        assert [event.final for event in talk.events if isinstance(event, OutputTranscript)][-1]


async def test_g711_passes_in_both_directions() -> None:
    async with talking(own={"input_format": "pcmu", "output_format": "pcmu"}) as (talk, _):
        speech = np.ascontiguousarray(marker(900, seed=5, level_dbfs=-15.0)[::3])
        talk.session.send_audio(g711.mulaw_encode(np.concatenate([speech, np.zeros(5600, np.int16)])), PCMU_8K)
        await talk.until(TurnComplete)
        assert likeness(g711.mulaw_decode(talk.speech()), speech) > 0.8


LONG = Scenario(pace=Pace(speed=8.0, latency_ms=10), answer=Marker(duration_ms=4000), vad=ServerVad(silence_ms=200))


async def test_a_barge_in_stops_the_reply_and_the_server_believes_what_was_heard() -> None:
    async with talking(LONG) as (talk, emulator):
        talk.says()
        chunk = await talk.until(SpeechChunk)
        talk.says(SPEECH)
        interrupted = await talk.until(Interrupted)
        assert interrupted.reply_id == chunk.reply_id
        talk.session.truncate(chunk.reply_id, 30)
        await settled(emulator, "conversation.item.truncated")
        spoken = [item for item in emulator.sessions[0].items if item.reply == 1]
        assert [item.believed_heard_ms for item in spoken] == [30]
        assert emulator.sessions[0].errors == []
        assert emulator.sessions[0].received("response.cancel") == []


async def test_a_truncation_beyond_the_speech_is_clamped_and_never_refused() -> None:
    async with talking(LONG) as (talk, emulator):
        talk.says()
        chunk = await talk.until(SpeechChunk)
        talk.says(SPEECH)
        await talk.until(TurnComplete)
        talk.session.truncate(chunk.reply_id, 60_000)
        await settled(emulator, "conversation.item.truncated")
        assert emulator.sessions[0].errors == []


async def test_of_a_reply_in_two_messages_the_unplayed_one_is_deleted() -> None:
    scenario = Scenario(pace=FAST, prompted=Marker(duration_ms=1000))
    async with talking(scenario, split_ms=400) as (talk, emulator):
        talk.session.respond()
        done = await talk.until(TurnComplete)
        talk.session.truncate(done.reply_id, 250)
        await settled(emulator, "conversation.item.truncated")
        await settled(emulator, "conversation.item.deleted")
        session = emulator.sessions[0]
        assert [item.believed_heard_ms for item in session.items] == [250]
        assert [item.speech_ms for item in session.deleted] == [600]


async def test_a_reply_that_nobody_heard_is_deleted() -> None:
    async with talking(LONG) as (talk, emulator):
        talk.says()
        chunk = await talk.until(SpeechChunk)
        talk.session.interrupt()
        await talk.until(Interrupted)
        talk.session.truncate(chunk.reply_id, 0)
        await settled(emulator, "conversation.item.deleted")
        assert emulator.sessions[0].errors == []


async def test_interrupt_response_false_is_honoured_on_both_sides() -> None:
    speech = SpeechSettings(turn_detection=TurnDetectionSettings(interrupt_response=False, silence_ms=200))
    async with talking(LONG, speech) as (talk, emulator):
        talk.says()
        await talk.until(SpeechChunk)
        talk.says(SPEECH)
        done = await talk.until(TurnComplete)
        assert done.reason == "completed"
        assert not any(isinstance(event, Interrupted) for event in talk.events)
        assert emulator.sessions[0].received("response.cancel") == []


async def test_parallel_tools_lead_to_one_spoken_answer() -> None:
    calls = (Call(name="a", arguments={"x": 1}), Call(name="b"))
    scenario = Scenario(pace=FAST, turns=(TurnScript(turn=1, calls=calls, answer=Text(text="{degrees} degrees")),))
    speech = SpeechSettings(tools=(ToolSpec(name="a"), ToolSpec(name="b")))
    async with talking(scenario, speech) as (talk, emulator):
        talk.says()
        first, second = await talk.until(ToolCall), await talk.until(ToolCall)
        assert first.batch_id == second.batch_id
        talk.session.send_tool_result(first.call_id, "a", {"degrees": 4})
        talk.session.send_tool_result(second.call_id, "b", "fine")
        await talk.until(TurnComplete)
        await talk.until(TurnComplete)
        said = "".join(event.delta for event in talk.events if isinstance(event, OutputTranscript))
        assert said == "4 degrees"
        assert len(emulator.sessions[0].received("response.create")) == 1
        assert emulator.sessions[0].errors == []


async def test_a_manual_turn_is_committed_and_answered() -> None:
    speech = SpeechSettings(turn_detection=TurnDetectionSettings(mode="manual"))
    async with talking(speech=speech) as (talk, emulator):
        talk.session.start_activity()
        talk.says()
        talk.session.end_activity()
        await talk.until(GenerationComplete)
        assert likeness(np.frombuffer(talk.speech(), "<i2"), SPEECH) > 0.8
        assert emulator.sessions[0].errors == []


async def test_a_mute_ends_the_turn_without_further_audio() -> None:
    async with talking() as (talk, _):
        talk.says(SPEECH)
        talk.session.end_input()
        assert (await talk.until(TurnComplete)).reason == "completed"


async def test_instructions_change_in_mid_session_and_the_voice_only_before_speech() -> None:
    async with talking(Scenario(pace=FAST, prompted=Tone(duration_ms=50))) as (talk, emulator):
        talk.session.update(instructions="Be brief.", tools=[ToolSpec(name="f")], voice="ash")
        talk.session.respond("Greet.")
        await talk.until(TurnComplete)
        config = emulator.sessions[0].config
        assert (config["instructions"], config["audio"]["output"]["voice"]) == ("Be brief.", "ash")
        with pytest.raises(NeedsNewSession):
            talk.session.update(voice="sage")


async def test_history_seeds_a_session_without_making_it_speak() -> None:
    history = (HistoryItem(role="user", text="hi"), HistoryItem(role="assistant", text="hello"))
    async with talking(start=SessionStart(number=7, history=history, instructions="Go on.")) as (talk, emulator):
        await settled(emulator, "conversation.item.done", 2)
        assert [item.body["content"][0]["text"] for item in emulator.sessions[0].items] == ["hi", "hello"]
        assert emulator.sessions[0].config["instructions"] == "Go on."
        assert emulator.written("response.created") == []
        assert talk.session.number == 7


async def test_two_sessions_of_one_model_live_side_by_side() -> None:
    async with OpenAIEmulator(Scenario(pace=FAST)) as emulator:
        model = model_for(emulator)
        one, other = await asyncio.gather(model.connect(SessionStart(number=1)), model.connect(SessionStart(number=2)))
        assert {one.number, other.number} == {1, 2} and one.id != other.id
        await asyncio.gather(one.close(), other.close())


async def test_a_client_secret_is_minted_for_each_connect() -> None:
    async with OpenAIEmulator(keys=["sk-test-secret"]) as emulator:
        model = model_for(emulator, own={"auth": "client_secret"})
        for _ in range(2):
            await (await model.connect()).close()
        used = [connection.wire.request.headers["authorization"] for connection in emulator.connections]
        assert all(header.startswith("Bearer ek_") for header in used)
        assert len(set(used)) == 2


@pytest.mark.parametrize("auth", ["api_key", "client_secret"])
async def test_a_wrong_key_is_rejected_and_never_shown(auth: str) -> None:
    async with OpenAIEmulator(keys=["sk-1"]) as emulator:
        model = model_for(emulator, own={"auth": auth})
        with pytest.raises(ProviderRejected) as refused:
            await model.connect()
        assert refused.value.code == 401
        assert "sk-test-secret" not in f"{refused.value!r} {refused.value} {model!r} {vars(model)}"


async def test_an_unknown_model_is_rejected() -> None:
    async with OpenAIEmulator() as emulator:
        with pytest.raises(ProviderRejected, match="model = 'nonsense'"):
            await model_for(emulator, own={"model": "nonsense"}).connect()


async def test_a_setup_that_the_server_refuses_is_rejected_with_the_setting() -> None:
    async with OpenAIEmulator() as emulator:
        with pytest.raises(ProviderRejected, match=r"speech\.voice"):
            await model_for(emulator, SpeechSettings(voice="eve")).connect()


async def test_a_busy_service_is_unavailable_with_its_own_wish() -> None:
    async with OpenAIEmulator(Scenario(faults=(Refuse(status=429, retry_after_s=7),))) as emulator:
        with pytest.raises(ProviderUnavailable) as refused:
            await model_for(emulator).connect()
        assert refused.value.retry_after_s == 7


async def test_the_sessions_limit_ends_it_retryably() -> None:
    async with talking(Scenario(session=Session(limit_s=0.1))) as (talk, _):
        closed: Closed = await talk.until(Closed)
        assert isinstance(closed.error, ProviderUnavailable)


async def test_a_lost_connection_is_retryable() -> None:
    fault = Abort(reply=1, speech_ms=100)
    async with talking(Scenario(pace=FAST, prompted=Tone(), faults=(fault,))) as (talk, _):
        talk.session.respond()
        closed: Closed = await talk.until(Closed)
        assert (closed.code, type(closed.error)) == (1006, ProviderUnavailable)


async def test_a_server_that_only_hints_at_the_protocol_is_enough() -> None:
    """Beta names, no session.updated, no item events, no rate limits: what small compatible servers send."""
    from websockets.asyncio.server import ServerConnection, serve

    async def answer(socket: ServerConnection) -> None:
        await socket.send(json.dumps({"type": "session.created", "session": {"id": "s"}}))
        async for frame in socket:
            if json.loads(frame)["type"] == "response.create":
                await socket.send(json.dumps({"type": "response.created", "response": {"id": "r"}}))
                delta = {"type": "response.audio.delta", "response_id": "r", "item_id": "i", "delta": "AQI="}
                await socket.send(json.dumps(delta))
                await socket.send(json.dumps({"type": "response.done", "response": {"id": "r", "status": "completed"}}))

    async with serve(answer, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        own = OpenAISettings(base_url=f"ws://127.0.0.1:{port}/v1", model="local")
        session = await OpenAIModel.from_config(SpeechSettings(), own, ConnectionSettings(), {}).connect()
        talk = Talk(session)
        session.respond()
        await talk.until(TurnComplete)
        assert talk.speech() == b"\x01\x02"
        await session.close()


def test_bad_settings_are_refused_before_anything_is_opened() -> None:
    with pytest.raises(SettingRefused, match="OPENAI_API_KEY"):
        OpenAIModel.from_config(SpeechSettings(), OpenAISettings(), ConnectionSettings(), {})


async def test_a_handle_is_refused_because_openai_cannot_resume() -> None:
    async with OpenAIEmulator() as emulator:
        with pytest.raises(ResumeRefused):
            await model_for(emulator).connect(SessionStart(resume="handle"))


async def test_speech_leaves_the_emulator_at_the_pace_it_was_told() -> None:
    scenario = Scenario(pace=Pace(speed=10.0, latency_ms=10, chunk_ms=100), prompted=Tone(duration_ms=2000))
    async with talking(scenario) as (talk, emulator):
        talk.session.respond()
        await talk.until(TurnComplete)
        times = [message.at for message in emulator.written("speech")]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert sum(gaps) == pytest.approx(0.19, abs=0.1)
