"""The offline model behind the contract of every speech model."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from providers.contract import (
    Closed,
    GenerationComplete,
    GoAway,
    HistoryItem,
    InputTranscript,
    Interrupted,
    ModelSession,
    OutputTranscript,
    ReplyStarted,
    ResumptionUpdate,
    SessionEvent,
    SessionReady,
    SessionStart,
    SessionState,
    SpeechChunk,
    SpeechModel,
    TextChunk,
    ToolCall,
    ToolSpec,
    Truncation,
    TurnComplete,
    TurnDetector,
    Usage,
    UserSpeechStarted,
    UserSpeechStopped,
)
from providers.errors import ProviderRejected, ProviderUnavailable, ResumeRefused, SessionEnded, SetupTimeout
from providers.scripted.model import ScriptedModel
from providers.scripted.scenario import load_text
from providers.scripted.session import ScriptedSession
from providers.scripted.settings import ScriptedSettings
from providers.scripted.voice import marker
from providers.settings import ConnectionSettings, SpeechSettings, TurnDetectionSettings
from providers.signal.formats import PCM16_16K, PCM16_24K

FAST = "pace = { speed = 1000.0, latency_ms = 0 }\n"
T = TypeVar("T")


class Listening:
    """All events of a session, and waiting for one."""

    def __init__(self, session: ModelSession) -> None:
        self.events: list[SessionEvent] = []
        self._news = asyncio.Event()
        session.listen(self._take)

    def _take(self, event: SessionEvent) -> None:
        self.events.append(event)
        self._news.set()

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, kind: type[T], number: int = 1) -> T:
        while len(self.of(kind)) < number:
            self._news.clear()
            await self._news.wait()
        return self.of(kind)[number - 1]


async def opened(toml: str = FAST, start: SessionStart | None = None) -> tuple[ScriptedSession, Listening]:
    session = await ScriptedModel(load_text(toml)).connect(start)
    return session, Listening(session)


def frames(duration_ms: int, seed: int = 3) -> list[bytes]:
    pcm = marker(duration_ms, seed, -8.0)
    return [pcm[first : first + 480].tobytes() for first in range(0, len(pcm), 480)]


def say(session: ModelSession, duration_ms: int = 600) -> None:
    for frame in [*frames(duration_ms), *[bytes(960)] * 40]:
        session.send_audio(frame, PCM16_24K)


def test_is_a_speech_model() -> None:
    model: SpeechModel = ScriptedModel()
    assert model.name == "scripted"
    assert model.capabilities.input_formats == (PCM16_24K,)


async def test_a_spoken_turn_becomes_events_in_order() -> None:
    session, heard = await opened()
    say(session)
    await heard.until(TurnComplete)
    kinds = [type(event) for event in heard.events]
    for earlier, later in (
        (SessionReady, UserSpeechStarted), (UserSpeechStarted, UserSpeechStopped), (UserSpeechStopped, InputTranscript),
        (InputTranscript, ReplyStarted), (ReplyStarted, SpeechChunk), (SpeechChunk, GenerationComplete),
        (GenerationComplete, Usage), (Usage, TurnComplete),
    ):  # fmt: skip
        assert kinds.index(earlier) < kinds.index(later)
    said = b"".join(chunk.audio for chunk in heard.of(SpeechChunk))
    spoken = b"".join(frames(600))
    assert spoken in said, "repeated sample for sample"
    await session.close()


async def test_events_come_in_a_turn_of_the_loop_of_their_own() -> None:
    session, heard = await opened()
    say(session)
    assert not heard.of(UserSpeechStarted)
    await asyncio.sleep(0)
    assert heard.of(UserSpeechStarted)
    await session.close()


async def test_events_carry_the_number_of_their_session() -> None:
    model = ScriptedModel(load_text(FAST))
    first, second = await model.connect(SessionStart(number=4)), await model.connect(SessionStart(number=5))
    one, two = Listening(first), Listening(second)
    say(first)
    say(second)
    await one.until(TurnComplete)
    await two.until(TurnComplete)
    assert {event.session for event in one.events} == {4} and {event.session for event in two.events} == {5}
    replies = one.of(ReplyStarted)[0].reply_id, two.of(ReplyStarted)[0].reply_id
    assert replies[0] != replies[1]
    await first.close()
    await second.close()


async def test_an_interruption_stops_the_reply() -> None:
    session, heard = await opened(
        "answer = { kind = 'tone', duration_ms = 60000 }\npace = { speed = 1.0, latency_ms = 0 }"
    )
    session.send_text("hello")
    await heard.until(SpeechChunk)
    session.interrupt()
    done = await heard.until(TurnComplete)
    assert done.reason == "interrupted"
    assert [event.reply_id for event in heard.of(Interrupted)] == [done.reply_id]
    spoken = len(heard.of(SpeechChunk))
    await asyncio.sleep(0.1)
    assert len(heard.of(SpeechChunk)) == spoken
    await session.close()


async def test_speech_cuts_a_reply_that_is_complete_but_still_sounds() -> None:
    session, heard = await opened(FAST + "answer = { kind = 'tone', duration_ms = 60000 }")
    session.send_text("hello")
    reply_id = (await heard.until(TurnComplete)).reply_id
    assert not heard.of(Interrupted)
    for frame in frames(200):
        session.send_audio(frame, PCM16_24K)
    await heard.until(UserSpeechStarted)
    assert [event.reply_id for event in heard.of(Interrupted)] == [reply_id]
    await session.close()


async def test_speech_cuts_nothing_once_the_reply_has_been_heard() -> None:
    session, heard = await opened(FAST + "answer = { kind = 'silence' }")
    session.send_text("hello")
    await heard.until(TurnComplete)
    for frame in frames(200):
        session.send_audio(frame, PCM16_24K)
    await heard.until(UserSpeechStarted)
    assert not heard.of(Interrupted)
    await session.close()


async def test_remembers_what_the_client_says_was_heard() -> None:
    session, heard = await opened(
        FAST + "answer = { kind = 'tone', duration_ms = 4000, transcript = 'one two three four' }"
    )
    session.send_text("count")
    reply_id = (await heard.until(TurnComplete)).reply_id
    assert reply_id is not None
    session.truncate(reply_id, 1000)
    line = session.brain.memory.line("assistant", 1)
    assert line is not None and (line.text, line.heard_ms) == ("one", 1000)
    session.truncate(reply_id, 99_000)
    assert line.heard_ms == 4000, "clamped to what was received"
    session.truncate(reply_id, 0)
    assert session.brain.memory.line("assistant", 1) is None
    await session.close()


async def test_tools_are_called_together_and_answered_once() -> None:
    session, heard = await opened(
        FAST + "[[turns]]\nturn = 1\ncalls = [{ name = 'a' }, { name = 'b', arguments = { x = 1 } }]\n"
        "answer = { kind = 'text', text = '{one} and {two}' }"
    )
    session.send_text("go")
    calls = [await heard.until(ToolCall, 1), await heard.until(ToolCall, 2)]
    assert [(call.name, call.arguments) for call in calls] == [("a", {}), ("b", {"x": 1})]
    assert calls[0].batch_id == calls[1].batch_id != ""
    session.send_tool_result(calls[0].call_id, "a", {"one": 1})
    session.send_tool_result(calls[1].call_id, "b", {"two": 2})
    await heard.until(TurnComplete)
    assert "".join(event.delta for event in heard.of(OutputTranscript)) == "1 and 2"
    await session.close()


async def test_resumes_by_handle_once_the_earlier_session_has_ended() -> None:
    model = ScriptedModel(load_text(FAST))
    session = await model.connect()
    heard = Listening(session)
    session.send_text("my name is Ada")
    await heard.until(TurnComplete)
    await asyncio.sleep(0)
    handle = heard.of(ResumptionUpdate)[-1].handle
    with pytest.raises(ProviderUnavailable, match="still open") as refused:
        await model.connect(SessionStart(resume=handle))
    assert refused.value.code == 1011
    await session.close()
    resumed = await model.connect(SessionStart(resume=handle))
    assert resumed.brain.memory.lines[0].text == "my name is Ada"
    assert (await Listening(resumed).until(SessionReady)).resumed
    with pytest.raises(ResumeRefused):
        await model.connect(SessionStart(resume="unknown"))
    await resumed.close()


async def test_history_seeds_a_session_without_a_reply() -> None:
    session, heard = await opened(FAST, SessionStart(history=(HistoryItem(role="user", text="earlier"),)))
    await asyncio.sleep(0.02)
    assert [line.text for line in session.brain.memory.lines] == ["earlier"]
    assert not heard.of(ReplyStarted)
    await session.close()


async def test_commands_after_the_end_say_so_but_audio_is_only_counted() -> None:
    session, heard = await opened()
    await session.close()
    await session.close()
    assert heard.of(Closed) == [Closed(1, 1000, "", None)] and session.state is SessionState.CLOSED
    session.send_audio(bytes(960), PCM16_24K)
    assert session.outbox.dropped_after_end == 1
    commands: list[Callable[[], None]] = [
        session.end_input, session.commit_input, session.clear_input, session.start_activity, session.end_activity,
        session.interrupt, session.respond, session.update,
    ]  # fmt: skip
    for command in commands:
        with pytest.raises(SessionEnded):
            command()


async def test_audio_of_another_format_is_refused() -> None:
    session, _ = await opened()
    with pytest.raises(ValueError, match="24000"):
        session.send_audio(bytes(640), PCM16_16K)
    await session.close()


@pytest.mark.parametrize(("code", "kind"), [(1011, ProviderUnavailable), (1008, ProviderRejected)])
async def test_a_planned_close_tells_retry_from_give_up(code: int, kind: type[Exception]) -> None:
    _, heard = await opened(f"[[faults]]\nkind = 'close'\ncode = {code}\nreason = 'why'\nat_s = 0.01")
    closed = await heard.until(Closed)
    assert (closed.code, closed.reason) == (code, "why") and isinstance(closed.error, kind)


async def test_go_away_and_the_end_of_the_session() -> None:
    session, heard = await opened("session = { go_away_s = 0.02, time_left_s = 0.03 }")
    assert (await heard.until(GoAway)).time_left_s == 0.03
    closed = await heard.until(Closed)
    assert closed.code == 1011 and isinstance(closed.error, ProviderUnavailable)
    assert session.state is SessionState.CLOSED


async def test_a_stall_holds_everything_back_and_then_tells_it_in_order() -> None:
    session, heard = await opened(FAST + "[[faults]]\nkind = 'stall'\nreply = 1\nspeech_ms = 200\nduration_s = 0.1")
    session.send_text("hello")
    await asyncio.sleep(0.05)
    assert len(heard.of(SpeechChunk)) == 5
    await heard.until(TurnComplete)
    assert len(heard.of(SpeechChunk)) == 15
    await session.close()


async def test_a_refused_connection_raises() -> None:
    model = ScriptedModel(load_text("[[faults]]\nkind = 'refuse'\nstatus = 429\nretry_after_s = 7\nconnection = 1"))
    with pytest.raises(ProviderUnavailable) as refused:
        await model.connect()
    assert (refused.value.code, refused.value.retry_after_s) == (429, 7)
    await (await model.connect()).close()


@pytest.mark.parametrize(("kind", "error"), [("drop", ProviderUnavailable), ("no_setup", SetupTimeout)])
async def test_a_connection_that_comes_to_nothing_raises(kind: str, error: type[Exception]) -> None:
    model = ScriptedModel(load_text(f"[[faults]]\nkind = '{kind}'\nconnection = 1"))
    with pytest.raises(error):
        await model.connect()
    await (await model.connect()).close()


@pytest.mark.parametrize(("kind", "error"), [("quota", ProviderRejected), ("end_session", ProviderUnavailable)])
async def test_a_planned_end_tells_why(kind: str, error: type[Exception]) -> None:
    _, heard = await opened(f"[[faults]]\nkind = '{kind}'\nat_s = 0.01")
    assert isinstance((await heard.until(Closed)).error, error)


async def test_a_planned_go_away_is_announced_and_comes_true() -> None:
    _, heard = await opened("[[faults]]\nkind = 'go_away'\nat_s = 0.01\ntime_left_s = 0.02")
    assert (await heard.until(GoAway)).time_left_s == 0.02
    assert isinstance((await heard.until(Closed)).error, ProviderUnavailable)


async def test_an_expired_handle_is_refused() -> None:
    model = ScriptedModel(load_text("[[faults]]\nkind = 'expire_handles'\nat_s = 0.01\nconnection = 1"))
    session = await model.connect()
    heard = Listening(session)
    handle = (await heard.until(ResumptionUpdate)).handle
    await asyncio.sleep(0.03)
    assert not heard.of(Closed), "the session goes on"
    await session.close()
    with pytest.raises(ResumeRefused):
        await model.connect(SessionStart(resume=handle))


async def test_a_text_model_writes() -> None:
    model = ScriptedModel.from_config(
        SpeechSettings(modality="text"), ScriptedSettings(latency_ms=0), ConnectionSettings(), {}
    )
    session = await model.connect()
    heard = Listening(session)
    session.send_text("write this")
    await heard.until(TurnComplete)
    assert "".join(event.delta for event in heard.of(TextChunk)) == "write this"
    assert not heard.of(SpeechChunk)
    await session.close()


async def test_a_duplex_model_speaks_while_it_listens_and_tells_no_turns() -> None:
    session, heard = await opened("mode = 'duplex'\npace = { latency_ms = 0 }")
    assert session.capabilities.duplex and session.capabilities.turn_detector is TurnDetector.NOBODY
    for frame in frames(1000):
        session.send_audio(frame, PCM16_24K)
    await heard.until(SpeechChunk)
    for _ in range(40):
        session.send_audio(bytes(960), PCM16_24K)
    await heard.until(GenerationComplete)
    turn_events = UserSpeechStarted | UserSpeechStopped | TurnComplete | Interrupted
    assert not [event for event in heard.events if isinstance(event, turn_events)]
    await session.close()


def configured(own: ScriptedSettings | None = None, **speech: object) -> ScriptedModel:
    return ScriptedModel.from_config(SpeechSettings(**speech), own or ScriptedSettings(), ConnectionSettings(), {})  # type: ignore[arg-type]


def test_manual_turns_are_the_clients() -> None:
    model = configured(turn_detection=TurnDetectionSettings(mode="manual"))
    assert model.capabilities.turn_detector is TurnDetector.CLIENT
    assert model.capabilities.truncation is Truncation.CLIENT


async def test_speaks_a_given_file(tmp_path: Path) -> None:
    from providers.signal import wav

    pcm = marker(500, 9, -10.0)
    wav.write(tmp_path / "answer.wav", pcm, 24_000)
    own = ScriptedSettings(answer="wav", wav=str(tmp_path / "answer.wav"), speed=1000.0, latency_ms=0)
    session = await configured(own).connect()
    heard = Listening(session)
    say(session)
    await heard.until(TurnComplete)
    assert b"".join(chunk.audio for chunk in heard.of(SpeechChunk)) == pcm.tobytes()
    await session.close()


async def test_a_frame_leaves_no_cyclic_garbage() -> None:
    session, heard = await opened()
    silence = np.zeros(480, dtype=np.int16).tobytes()
    for _ in range(50):
        session.send_audio(silence, PCM16_24K)
    gc.collect()
    gc.disable()
    try:
        for _ in range(500):
            session.send_audio(silence, PCM16_24K)
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert not heard.of(UserSpeechStarted)
    await session.close()


async def test_sessions_are_known_while_they_are_held() -> None:
    model = ScriptedModel(load_text(FAST))
    first, second = await model.connect(), await model.connect()
    assert model.sessions == [first, second]
    await first.close()
    await second.close()
    del first
    gc.collect()
    assert model.sessions == [second]


async def test_a_closed_session_is_freed_without_the_collector() -> None:
    model = ScriptedModel(load_text(FAST + "session = { go_away_s = 500 }"))
    gc.collect()
    gc.disable()
    try:
        session = await model.connect()
        heard = Listening(session)
        say(session)
        await heard.until(TurnComplete)
        await session.close()
        await asyncio.sleep(0)
        del session, heard
        assert model.sessions == []
    finally:
        gc.enable()


async def test_tools_of_a_session_are_added_to_the_configured_ones() -> None:
    kept, old, new = ToolSpec(name="kept"), ToolSpec(name="same", description="old"), ToolSpec(name="same")
    model = ScriptedModel(load_text(FAST), speech=SpeechSettings(tools=(kept, old)))
    session = await model.connect(SessionStart(tools=(new,)))
    assert session.tools == (kept, new)
    await session.close()
