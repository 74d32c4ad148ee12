"""What `providers.contract` promises, kept by every provider. A skip says which ability the provider lacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from providers.contract import (
    Closed,
    ErrorReported,
    GenerationComplete,
    GoAway,
    HistoryItem,
    InputTranscript,
    Interrupted,
    ModelSession,
    OutputTranscript,
    ReplyStarted,
    ResumptionUpdate,
    SessionReady,
    SessionStart,
    SessionState,
    SpeechChunk,
    ToolCall,
    ToolCallCancelled,
    ToolSpec,
    Truncation,
    TurnComplete,
    TurnDetector,
    Usage,
    UserSpeechStarted,
    UserSpeechStopped,
)
from providers.errors import (
    NeedsNewSession,
    ProviderRejected,
    ProviderUnavailable,
    ResumeRefused,
    SessionEnded,
    SettingRefused,
    SetupTimeout,
)
from providers.settings import ConnectionSettings, SpeechSettings, TurnDetectionSettings
from providers.signal.resample import Int16Array
from tests.conformance.ears import Ear, best_correlation, best_correlation_of_pieces, say, speech
from tests.conformance.stages import FAST, PROVIDERS, WRONG_KEY, Provider, Scene, Stage
from tests.fakes.leftovers import nothing_left
from tests.fakes.websocket_server import until

LONG_REPLY = 'answer = { kind = "marker", duration_ms = 60000 }\npace = { speed = 4.0, latency_ms = 0 }\n'
WEATHER = ToolSpec(
    name="get_weather",
    description="The weather of a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}},
)
CLOCK = ToolSpec(name="get_time", description="The time of day.")
MANUAL = SpeechSettings(turn_detection=TurnDetectionSettings(mode="manual"))
JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffd9")


@pytest.fixture(params=PROVIDERS, ids=lambda provider: provider.name)
def provider(request: pytest.FixtureRequest) -> Provider:
    found = request.param
    assert isinstance(found, Provider)
    return found


@asynccontextmanager
async def conversation(
    provider: Provider,
    scenario: str = FAST,
    *,
    speech: SpeechSettings | None = None,
    start: SessionStart | None = None,
) -> AsyncIterator[tuple[ModelSession, Ear, Stage]]:
    """One open session, everything it says, and the service behind it."""
    async with provider.open(Scene(scenario, speech or SpeechSettings())) as stage:
        session = await stage.model.connect(start)
        try:
            yield session, Ear(session), stage
        finally:
            await session.close()


def likeness(provider: Provider, heard: Int16Array, sound: Int16Array) -> float:
    """How much of `sound` is in what was heard, 0 to 1."""
    return (best_correlation_of_pieces if provider.real_time else best_correlation)(heard, sound)


def needs_turns(session: ModelSession) -> None:
    if session.capabilities.duplex:
        pytest.skip("a duplex model knows no turns")


def alive(session: ModelSession, ear: Ear) -> bool:
    """Still ready, and nothing we sent was refused."""
    return session.state is SessionState.READY and not ear.of(ErrorReported)


# ------------------------------------------------------------------------------------------------------------ opening


async def test_connect_returns_a_ready_session_that_says_what_it_can(provider: Provider) -> None:
    async with conversation(provider, start=SessionStart(number=7)) as (session, ear, stage):
        assert session.state is SessionState.READY
        assert session.number == 7
        assert isinstance(ear.events[0], SessionReady)
        assert ear.events[0].session_id == session.id
        assert not ear.events[0].resumed
        able = session.capabilities
        assert able == stage.model.capabilities
        assert able.provider == stage.model.name == provider.name.split("-")[0]
        assert able.model
        assert able.input_formats
        assert able.output_format.rate_hz == 24_000
        assert able.duplex == (able.turn_detector is TurnDetector.NOBODY)


async def test_refused_key_is_rejected_and_not_worth_another_try(provider: Provider) -> None:
    if not provider.has_key:
        pytest.skip("no key to refuse")
    async with nothing_left(), provider.open(Scene(key=WRONG_KEY)) as stage:
        with pytest.raises(ProviderRejected) as caught:
            await stage.model.connect()
        assert WRONG_KEY not in str(caught.value)


async def test_busy_service_is_unavailable(provider: Provider) -> None:
    refuse = '[[faults]]\nkind = "refuse"\nstatus = 503\nretry_after_s = 9\nconnection = 1\n'
    async with nothing_left(), provider.open(Scene(FAST + refuse)) as stage:
        with pytest.raises(ProviderUnavailable) as caught:
            await stage.model.connect()
        assert (caught.value.code, caught.value.retry_after_s) == (503, 9)
        session = await stage.model.connect()
        await session.close()


async def test_history_seeds_a_session_without_making_it_speak(provider: Provider) -> None:
    start = SessionStart(
        history=(HistoryItem(role="user", text="My name is Kim."), HistoryItem(role="assistant", text="Hello Kim."))
    )
    async with conversation(provider, start=start) as (session, ear, stage):
        await until(lambda: len(stage.brain(1).memory.lines) == 2)
        assert [(line.role, line.text) for line in stage.brain(1).memory.lines] == [
            ("user", "My name is Kim."),
            ("assistant", "Hello Kim."),
        ]
        await asyncio.sleep(0.1)
        assert not ear.of(ReplyStarted)
        assert alive(session, ear)


async def test_two_sessions_of_one_model_keep_apart(provider: Provider) -> None:
    async with provider.open(Scene()) as stage:
        sessions = [await stage.model.connect(SessionStart(number=number)) for number in (1, 2)]
        ears = [Ear(session) for session in sessions]
        sounds = [speech(600, seed) for seed in (11, 12)]
        for session, sound in zip(sessions, sounds, strict=True):
            say(session, sound)
        for ear in ears:
            await ear.answered()
        for number, ear in enumerate(ears):
            assert {event.session for event in ear.events} == {number + 1}
            assert likeness(provider, ear.spoken(), sounds[number]) > 0.9
            assert likeness(provider, ear.spoken(), sounds[1 - number]) < 0.3
        await sessions[0].close()
        sessions[1].respond()
        await ears[1].until(ReplyStarted, 2)
        await sessions[1].close()


# ------------------------------------------------------------------------------------------------------------- speech


async def test_what_was_said_comes_back(provider: Provider) -> None:
    async with conversation(provider) as (session, ear, _stage):
        sound = speech(800, 3)
        say(session, sound)
        await ear.answered()
        assert likeness(provider, ear.spoken(), sound) > 0.9
        assert {chunk.reply_id for chunk in ear.of(SpeechChunk)} == set(ear.replies)
        assert session.outbox.dropped_audio_messages == 0


async def test_events_of_a_reply_come_in_order(provider: Provider) -> None:
    async with conversation(provider) as (session, ear, _):
        say(session, speech(600, 3))
        await ear.answered()
        reply = ear.of(ReplyStarted)[0]
        assert reply.reply_id
        assert {chunk.reply_id for chunk in ear.of(SpeechChunk)} == {reply.reply_id}
        assert ear.of(GenerationComplete)[0].reply_id == reply.reply_id
        assert (
            ear.position(ReplyStarted)
            < ear.position(SpeechChunk)
            <= ear.position(SpeechChunk, last=True)
            < ear.position(GenerationComplete)
        )
        if session.capabilities.duplex:
            assert not ear.of(TurnComplete)
        else:
            assert ear.of(TurnComplete)[0].reply_id == reply.reply_id
            assert ear.of(TurnComplete)[0].reason == "completed"
            assert ear.position(GenerationComplete) < ear.position(TurnComplete)
        if ear.of(UserSpeechStarted):
            assert ear.position(UserSpeechStarted) < ear.position(ReplyStarted)
        if ear.of(UserSpeechStopped):
            assert ear.position(UserSpeechStarted) < ear.position(UserSpeechStopped)


async def test_every_event_carries_its_sessions_number(provider: Provider) -> None:
    async with conversation(provider, start=SessionStart(number=41)) as (session, ear, _):
        say(session, speech(400, 3))
        await ear.answered()
        await session.close()
        assert {event.session for event in ear.events} == {41}


async def test_each_reader_is_told_what_it_missed(provider: Provider) -> None:
    async with conversation(provider) as (session, ear, _):
        before = len(ear.events)
        wide, narrow = session.read(capacity=100_000), session.read(capacity=2)
        say(session, speech(600, 3))
        await ear.answered()
        await session.close()
        assert [event async for event in wide] == ear.events[before:]
        assert [event async for event in narrow] == ear.events[-2:]
        assert wide.missed == 0
        assert narrow.missed == len(ear.events) - before - 2


async def test_both_sides_are_transcribed(provider: Provider) -> None:
    scenario = FAST + 'transcripts = { input = "turn the lights on" }\n'
    async with conversation(provider, scenario) as (session, ear, _):
        needs_turns(session)
        say(session, speech(600, 3))
        await ear.answered()
        await until(lambda: any(heard.final for heard in ear.of(InputTranscript)))
        heard = [event for event in ear.of(InputTranscript) if event.final]
        assert [event.text.strip() for event in heard] == ["turn the lights on"]
        assert len({event.turn_id for event in ear.of(InputTranscript)}) == 1
        assert ear.words(ear.replies[0]).strip() == "turn the lights on"
        assert [event.final for event in ear.of(OutputTranscript)].count(True) == 1
        assert ear.of(OutputTranscript)[-1].final


async def test_usage_is_told(provider: Provider) -> None:
    async with conversation(provider) as (session, ear, _):
        needs_turns(session)
        say(session, speech(600, 3))
        usage = await ear.until(Usage)
        assert usage.input_tokens > 0
        assert usage.output_tokens > 0


async def test_muting_ends_the_turn_and_unmuting_begins_another(provider: Provider) -> None:
    async with conversation(provider) as (session, ear, _):
        needs_turns(session)
        for number, seed in ((1, 3), (2, 4)):
            sound = speech(600, seed)
            say(session, sound, silence_ms=0)
            session.end_input()
            await ear.answered(number)
            assert likeness(provider, ear.spoken(ear.replies[number - 1]), sound) > 0.9
        assert alive(session, ear)


# -------------------------------------------------------------------------------------------------------------- turns


async def test_activity_marks_make_the_turn(provider: Provider) -> None:
    async with conversation(provider, speech=MANUAL) as (session, ear, _):
        needs_turns(session)
        assert session.capabilities.turn_detector is TurnDetector.CLIENT
        sound = speech(600, 3)
        session.start_activity()
        say(session, sound)
        await asyncio.sleep(0.05)
        assert not ear.of(ReplyStarted), "silence ends no turn that we mark ourselves"
        session.end_activity()
        await ear.answered()
        assert likeness(provider, ear.spoken(), sound) > 0.9
        assert alive(session, ear)


async def test_committed_input_is_the_turn_and_cleared_input_is_not_in_it(provider: Provider) -> None:
    async with conversation(provider, speech=MANUAL) as (session, ear, _):
        needs_turns(session)
        unwanted, wanted = speech(600, 3), speech(600, 4)
        session.start_activity()
        if provider.forgets_input:
            say(session, unwanted)
            session.clear_input()
        say(session, wanted)
        session.commit_input()
        await ear.answered()
        assert likeness(provider, ear.spoken(), wanted) > 0.9
        assert likeness(provider, ear.spoken(), unwanted) < 0.3
        assert alive(session, ear)


async def test_typed_turn_is_answered(provider: Provider) -> None:
    scenario = FAST + 'answer = { kind = "text", text = "You wrote {heard}" }\n'
    async with conversation(provider, scenario) as (session, ear, _):
        if not session.capabilities.text_input:
            pytest.skip("takes no text")
        session.send_text("good morning")
        await ear.answered()
        assert len(ear.spoken()) > 0
        assert ear.words().strip() == "You wrote good morning"


async def test_typed_turn_may_wait_for_its_answer(provider: Provider) -> None:
    async with conversation(provider) as (session, ear, stage):
        if not session.capabilities.text_input:
            pytest.skip("takes no text")
        session.send_text("remember the milk", respond=False)
        await until(lambda: any(line.text == "remember the milk" for line in stage.brain(1).memory.lines))
        await asyncio.sleep(0.1)
        assert not ear.of(ReplyStarted)
        session.respond()
        await ear.answered()
        assert len(ear.replies) == 1
        assert alive(session, ear)


async def test_model_speaks_when_made_to(provider: Provider) -> None:
    async with conversation(provider) as (session, ear, _):
        session.respond("Greet the caller.")
        await ear.answered()
        assert len(ear.spoken()) > 0
        session.respond()
        await ear.answered(2)
        assert len(ear.replies) == 2
        assert alive(session, ear)


async def test_image_is_taken_or_refused_by_name(provider: Provider) -> None:
    async with conversation(provider) as (session, ear, _):
        if session.capabilities.video:
            session.send_image(JPEG, "image/jpeg")
            session.respond()
            await ear.until(ReplyStarted)
            assert alive(session, ear)
        with pytest.raises(SettingRefused):
            session.send_image(b"BM", "image/bmp")


# ------------------------------------------------------------------------------------------------------- interruption


async def test_interrupt_stops_the_reply_and_the_next_one_is_heard(provider: Provider) -> None:
    async with conversation(provider, LONG_REPLY + 'prompted = { kind = "marker", duration_ms = 60000 }\n') as talk:
        session, ear, stage = talk
        session.respond()
        await ear.until_spoken(200)
        session.interrupt()
        cut = await ear.until(Interrupted)
        assert cut.reply_id == ear.replies[0]
        await until(lambda: not stage.brain(1).generating)
        spoken = len(ear.spoken())
        await asyncio.sleep(0.1)
        assert len(ear.spoken()) == spoken, "nothing more of the dead reply"
        session.interrupt()
        session.respond("Go on.")
        await ear.until(ReplyStarted, 2)
        await ear.until_spoken(100, ear.replies[1])
        assert ear.replies[0] != ear.replies[1]
        assert alive(session, ear)


async def test_speech_of_the_user_cuts_the_reply(provider: Provider) -> None:
    async with conversation(provider, LONG_REPLY) as (session, ear, _stage):
        if not session.capabilities.interrupts_on_speech:
            pytest.skip("does not interrupt itself")
        say(session, speech(600, 3))
        await ear.until_spoken(200)
        say(session, speech(600, 4))
        cut = await ear.until(Interrupted)
        assert cut.reply_id == ear.replies[0]
        await ear.until(ReplyStarted, 2)
        assert ear.replies[0] != ear.replies[1]
        assert alive(session, ear)


async def test_late_speech_carries_the_dead_replys_id(provider: Provider) -> None:
    async with conversation(provider, "late_chunks = 3\n" + LONG_REPLY) as (session, ear, _):
        if not session.capabilities.interrupts_on_speech:
            pytest.skip("does not interrupt itself")
        say(session, speech(600, 3))
        await ear.until_spoken(200)
        say(session, speech(600, 4))
        await ear.until(ReplyStarted, 2)
        await ear.until_spoken(100, ear.replies[1])
        second = next(place for place, event in enumerate(ear.events) if event in ear.of(ReplyStarted)[1:])
        cut = ear.position(Interrupted)
        late = [event for event in ear.events[cut:second] if isinstance(event, SpeechChunk)]
        assert {chunk.reply_id for chunk in late} == ({ear.replies[0]} if provider.delivers_late_speech else set())
        after = [event for event in ear.events[second:] if isinstance(event, SpeechChunk)]
        # The first reply's speech is a marker of its own seed: none of it may sound under the second one's name.
        assert ear.replies[1] in {chunk.reply_id for chunk in after}
        assert likeness(provider, ear.spoken(ear.replies[1]), ear.spoken(ear.replies[0])[:2400]) < 0.5


async def test_model_believes_what_was_heard(provider: Provider) -> None:
    async with conversation(provider, LONG_REPLY + 'prompted = { kind = "marker", duration_ms = 60000 }\n') as talk:
        session, ear, stage = talk
        session.respond()
        await ear.until_spoken(400)
        session.interrupt()
        cut = await ear.until(Interrupted)
        assert cut.reply_id is not None
        session.truncate(cut.reply_id, 120)
        if session.capabilities.truncation is Truncation.CLIENT:
            await until(lambda: _heard_ms(stage) == 120)
        session.respond()
        await ear.until(ReplyStarted, 2)
        assert alive(session, ear)


async def test_truncating_beyond_what_came_is_clamped_and_twice_is_harmless(provider: Provider) -> None:
    async with conversation(provider, FAST + 'prompted = { kind = "marker", duration_ms = 400 }\n') as talk:
        session, ear, stage = talk
        session.respond()
        reply_id = await ear.answered()
        session.truncate(reply_id, 9100)
        session.truncate(reply_id, 9100)
        session.truncate("no such reply", 10)
        session.respond()
        await ear.answered(2)
        assert alive(session, ear)
        heard_ms = _heard_ms(stage)
        assert heard_ms is None or heard_ms <= 400


def _heard_ms(stage: Stage) -> int | None:
    line = stage.brain(1).memory.line("assistant", 1)
    return None if line is None else line.heard_ms


# -------------------------------------------------------------------------------------------------------------- tools

ONE_TOOL = """
[[turns]]
turn = 1
calls = [{ name = "get_weather", arguments = { city = "Oslo" } }]
answer = { kind = "text", text = "It is {temperature} degrees." }
"""
TWO_TOOLS = """
[[turns]]
turn = 1
calls = [{ name = "get_weather", arguments = { city = "Oslo" } }, { name = "get_time" }]
answer = { kind = "text", text = "It is {temperature} degrees at {time}." }
"""
WITH_TOOLS = SpeechSettings(tools=(WEATHER, CLOCK))


@asynccontextmanager
async def tool_call(provider: Provider, scenario: str) -> AsyncIterator[tuple[ModelSession, Ear, Stage]]:
    """A conversation whose first turn has asked for its tools."""
    async with conversation(provider, FAST + scenario, speech=WITH_TOOLS) as (session, ear, stage):
        if not session.capabilities.tools:
            pytest.skip("calls no tools")
        session.send_text("What is the weather?")
        await ear.until(ToolCall, scenario.count("name ="))
        yield session, ear, stage


async def test_tool_result_becomes_speech(provider: Provider) -> None:
    async with tool_call(provider, ONE_TOOL) as (session, ear, stage):
        call = ear.of(ToolCall)[0]
        assert (call.name, call.arguments) == ("get_weather", {"city": "Oslo"})
        assert call.call_id
        session.send_tool_result(call.call_id, call.name, {"temperature": 21})
        await until(lambda: "21 degrees" in ear.words())
        assert any(line.role == "tool" for line in stage.brain(1).memory.lines)
        await ear.until(SpeechChunk)
        assert alive(session, ear)


async def test_parallel_tools_are_answered_with_exactly_one_reply(provider: Provider) -> None:
    async with tool_call(provider, TWO_TOOLS) as (session, ear, stage):
        first, second = ear.of(ToolCall)
        assert first.batch_id == second.batch_id != ""
        assert first.call_id != second.call_id
        session.send_tool_result(first.call_id, first.name, {"temperature": 21})
        await asyncio.sleep(0.1)
        assert not ear.words(), "no answer before the last result"
        session.send_tool_result(second.call_id, second.name, {"time": "noon"})
        await until(lambda: "21 degrees at noon" in ear.words())
        await asyncio.sleep(0.2)
        assert ear.words().count("21 degrees") == 1
        assert sum(line.role == "tool" for line in stage.brain(1).memory.lines) == 2
        assert alive(session, ear)


async def test_results_without_respond_leave_the_model_silent(provider: Provider) -> None:
    async with tool_call(provider, ONE_TOOL) as (session, ear, _):
        if not provider.takes_silent_results:
            pytest.skip("the service answers every blocking result by itself")
        call = ear.of(ToolCall)[0]
        session.send_tool_result(call.call_id, call.name, {"temperature": 21}, respond=False)
        await asyncio.sleep(0.2)
        assert "21" not in ear.words()
        session.respond()
        await until(lambda: "21 degrees" in ear.words())
        assert alive(session, ear)


async def test_tool_calls_that_were_called_off_are_never_answered(provider: Provider) -> None:
    async with tool_call(provider, ONE_TOOL) as (session, ear, stage):
        needs_turns(session)
        if not provider.calls_off_tools:
            pytest.skip("the service never calls a tool off")
        call = ear.of(ToolCall)[0]
        say(session, speech(400, 5))
        dead = await ear.until(ToolCallCancelled)
        assert dead.call_ids == (call.call_id,)
        session.send_tool_result(call.call_id, call.name, {"temperature": 21})
        await ear.answered()
        await asyncio.sleep(0.1)
        assert not any(line.role == "tool" for line in stage.brain(1).memory.lines)
        assert alive(session, ear)


# ------------------------------------------------------------------------------------------------------------ changes


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("instructions", lambda session: session.update(instructions="Be brief.")),
        ("tools", lambda session: session.update(tools=[WEATHER])),
        ("voice", lambda session: session.update(voice="marin")),
    ],
    ids=["instructions", "tools", "voice"],
)
async def test_change_is_made_in_place_or_asks_for_a_new_session(
    provider: Provider, field: str, change: Callable[[ModelSession], None]
) -> None:
    async with conversation(provider) as (session, ear, _):
        session.respond()
        await ear.answered()  # a voice may be changed until it has spoken
        if field in session.capabilities.in_place_update:
            change(session)
        else:
            with pytest.raises(NeedsNewSession) as caught:
                change(session)
            assert caught.value.fields == (field,)
        session.respond()
        await ear.answered(2)
        assert alive(session, ear)


async def test_session_is_resumed_by_its_handle_and_a_dead_handle_is_refused(provider: Provider) -> None:
    async with provider.open(Scene()) as stage:
        if not stage.model.capabilities.resumption:
            with pytest.raises(ResumeRefused):
                await stage.model.connect(SessionStart(resume="any"))
            return
        first = await stage.model.connect()
        ear = Ear(first)
        say(first, speech(400, 3))
        await ear.answered()
        await until(lambda: any(update.resumable for update in ear.of(ResumptionUpdate)))
        handle = [update.handle for update in ear.of(ResumptionUpdate) if update.resumable][-1]
        await first.close()
        second = await stage.model.connect(SessionStart(number=2, resume=handle))
        assert Ear(second).of(SessionReady)[0].resumed
        assert stage.brain(2).memory.turns == 1
        await second.close()
        with pytest.raises(ResumeRefused):
            await stage.model.connect(SessionStart(resume="dead-handle"))


async def test_coming_end_is_announced(provider: Provider) -> None:
    if not provider.says_go_away:
        pytest.skip("ends without notice")
    async with conversation(provider, FAST + "session = { go_away_s = 0.05, time_left_s = 30 }\n") as (_, ear, _stage):
        assert (await ear.until(GoAway)).time_left_s == 30


# ---------------------------------------------------------------------------------------------------------------- end


async def test_close_is_idempotent_and_the_end_is_told_once(provider: Provider) -> None:
    async with conversation(provider) as (session, ear, _):
        await asyncio.gather(session.close(), session.close())
        await session.close()
        assert session.state is SessionState.CLOSED
        (end,) = ear.of(Closed)
        assert end is ear.events[-1]
        assert (end.code, end.error) == (1000, None)
        assert [event async for event in session.read()] == []


async def test_after_the_end_commands_say_so_and_audio_is_counted(provider: Provider) -> None:
    async with conversation(provider) as (session, _, _stage):
        await session.close()
        say(session, speech(100, 3), silence_ms=0)
        assert session.outbox.dropped_after_end == 5
        for command in (
            session.end_input,
            session.commit_input,
            session.clear_input,
            session.start_activity,
            session.end_activity,
            session.respond,
            session.interrupt,
            lambda: session.send_text("x"),
            lambda: session.send_image(JPEG, "image/jpeg"),
            lambda: session.truncate("r", 1),
            lambda: session.send_tool_result("c", "n", {}),
            lambda: session.update(instructions="x"),
            lambda: session.send_raw({}),
        ):
            with pytest.raises(SessionEnded):
                command()


@pytest.mark.parametrize(
    ("fault", "code"),
    [('kind = "abort"', 1006), ('kind = "close"\ncode = 1011\nreason = "Internal error."', 1011)],
    ids=["vanished", "closed by the service"],
)
async def test_lost_connection_is_worth_another_try(provider: Provider, fault: str, code: int) -> None:
    struck = f"{LONG_REPLY}[[faults]]\n{fault}\nreply = 1\nspeech_ms = 200\n"
    async with conversation(provider, struck) as (session, ear, _):
        say(session, speech(400, 3))
        end = await ear.until(Closed)
        assert end.code == (code if provider.tells_close_codes else 1006)
        assert isinstance(end.error, ProviderUnavailable)
        assert session.state is SessionState.CLOSED
        with pytest.raises(SessionEnded):
            session.respond()


@pytest.mark.parametrize("code", [1007, 1008])
async def test_a_close_that_blames_us_is_the_setups_fault_only_before_the_first_reply(
    provider: Provider, code: int
) -> None:
    blame = f'[[faults]]\nkind = "close"\ncode = {code}\nreason = "Request contains an invalid argument."\n'
    if not provider.tells_close_codes:
        pytest.skip("nobody says whom it blames")
    async with conversation(provider, f"{FAST}{blame}at_s = 0.02\n") as (_, ear, _):
        assert isinstance((await ear.until(Closed)).error, ProviderRejected)
    async with conversation(provider, f"{LONG_REPLY}{blame}reply = 1\nspeech_ms = 200\n") as (session, ear, _):
        session.send_text("Tell me a long story.")
        assert isinstance((await ear.until(Closed)).error, ProviderUnavailable)


async def test_a_handle_that_leads_to_a_session_which_does_not_live_is_refused_at_its_end(provider: Provider) -> None:
    blame = '[[faults]]\nkind = "close"\ncode = 1007\nconnection = 2\nat_s = 0.02\n'
    async with provider.open(Scene(FAST + blame)) as stage:
        if not stage.model.capabilities.resumption:
            pytest.skip("the provider cannot resume")
        first = await stage.model.connect()
        ear = Ear(first)
        await until(lambda: any(update.resumable for update in ear.of(ResumptionUpdate)))
        await first.close()
        handle = next(update.handle for update in ear.of(ResumptionUpdate) if update.resumable)
        second = await stage.model.connect(SessionStart(number=2, resume=handle))
        assert isinstance((await Ear(second).until(Closed)).error, ResumeRefused)


async def test_a_service_that_falls_silent_in_mid_word_is_given_up_in_bounded_time(provider: Provider) -> None:
    stall = '[[faults]]\nkind = "stall"\nreply = 1\nspeech_ms = 400\n'
    if provider.real_time:  # the network lives on, and the silence comes as frames or as nothing at all
        stall = '[[faults]]\nkind = "stall"\nreply = 1\nspeech_ms = 1500\npongs = true\n'
    impatient = ConnectionSettings(speech_stall_s=0.5, close_timeout_s=0.3)
    # Not so long that its making alone would take longer than the speech before the fault.
    story = LONG_REPLY.replace("60000", "6000").replace("4.0", "1.0")
    async with nothing_left(), provider.open(Scene(story + stall, connection=impatient)) as stage:
        session = await stage.model.connect()
        ear = Ear(session)
        session.send_text("Tell me a long story.")
        closed = await ear.until(Closed, timeout_s=8 if provider.real_time else 4)
        assert closed.code == 1006
        assert isinstance(closed.error, ProviderUnavailable)
        assert len(ear.spoken()) > 0, "it had begun"


async def test_a_setup_that_is_never_answered_is_given_up_in_bounded_time(provider: Provider) -> None:
    silent = FAST + "[session]\nsetup_delay_ms = 60000\n"
    impatient = ConnectionSettings(setup_timeout_s=0.3, close_timeout_s=0.3)
    async with nothing_left(), provider.open(Scene(silent, connection=impatient)) as stage:
        with pytest.raises(SetupTimeout):
            await stage.model.connect()
        standby = await stage.model.stand_by()
        with pytest.raises(SetupTimeout):
            await standby.connect()


async def test_an_upgrade_that_is_never_answered_is_given_up_in_bounded_time(provider: Provider) -> None:
    silent = FAST + "[session]\nconnect_delay_ms = 2000\n"
    impatient = ConnectionSettings(connect_timeout_s=0.3, close_timeout_s=0.3)
    async with nothing_left(within_s=4), provider.open(Scene(silent, connection=impatient)) as stage:
        for attempt in (stage.model.connect, stage.model.stand_by):
            with pytest.raises(ProviderUnavailable):
                await attempt()


async def test_odd_messages_are_survived(provider: Provider) -> None:
    kinds = ("empty", "malformed", "unknown")
    faults = "".join(f'[[faults]]\nkind = "{kind}"\nreply = 1\nspeech_ms = 100\n' for kind in kinds)
    async with conversation(provider, FAST + faults) as (session, ear, _):
        sound = speech(600, 3)
        say(session, sound)
        await ear.answered()
        assert likeness(provider, ear.spoken(), sound) > 0.9
        assert session.state is SessionState.READY


async def test_nothing_is_left_behind(provider: Provider) -> None:
    async with provider.open(Scene()) as stage, nothing_left():
        for number in range(5):
            session = await stage.model.connect(SessionStart(number=number))
            ear = Ear(session)
            session.respond()
            await ear.until(SpeechChunk)
            await session.close()
