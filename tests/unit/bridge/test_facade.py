"""One whole call on the loopback room, with a model moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest

from bridge.conversation.barge_in import BargeInPolicy
from bridge.conversation.conversation import ConversationSettings
from bridge.conversation.ledger import ToolUse
from bridge.conversation.memory_settings import MemorySettings
from bridge.conversation.summary import SummaryWork
from bridge.core.commands import Command, RunTool, SendImage
from bridge.core.errors import ConfigError, ModelFailed, RoomError, RoomInUse
from bridge.core.words import AgentState, EndReason, ParticipantId, VideoOffered, VideoSource
from bridge.facade import CallConfig, RoomBridge
from bridge.lanes.settings import CallSettings
from bridge.transports.contract import TransportListener
from bridge.transports.loopback import LoopbackRoom
from bridge.video.settings import VideoSettings
from providers.contract import (
    ErrorReported,
    GenerationComplete,
    HistoryItem,
    InputTranscript,
    Interrupted,
    OutputTranscript,
    ReplyStarted,
    ResumptionUpdate,
    SessionStart,
    SpeechChunk,
    ToolCall,
    ToolCallCancelled,
    Truncation,
    TurnComplete,
    UserSpeechStarted,
    UserSpeechStopped,
)
from providers.errors import ProviderRejected, ProviderUnavailable, ResumeRefused, SessionEnded
from providers.retry import RetryPolicy
from providers.signal.formats import PCM16_16K, PCM16_24K, PCMU_8K
from providers.signal.resample import Resampler
from tests.fakes.hand_model import CAPABILITIES, HandModel, HandSession
from tests.fakes.leftovers import nothing_left
from tests.fakes.pictures import FakeFrame

FRAME = 20


def sound(ms: int, value: int = 1000) -> bytes:
    return value.to_bytes(2, "little", signed=True) * (PCM16_24K.size(ms) // 2)


async def until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Give the loop turns until it holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - a condition of the outside has no event to wait for
            await asyncio.sleep(0.005)


RESUMES = msgspec.structs.replace(CAPABILITIES, resumption=True)


@pytest.fixture
def room() -> LoopbackRoom:
    return LoopbackRoom()


@pytest.fixture
def model() -> HandModel:
    return HandModel()


async def test_what_people_say_reaches_the_model_and_its_answer_the_room(room: LoopbackRoom, model: HandModel) -> None:
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        room.join("ada")
        room.speak("ada", sound(FRAME, 7))
        room.speak("ada", sound(FRAME, 9))
        assert bytes(model.session.heard) == sound(FRAME, 7) + sound(FRAME, 9)
        model.session.says("r1", sound(50, 3), sound(30, 4))
        await until(lambda: room.heard() == sound(50, 3) + sound(30, 4))
        await until(lambda: room.states[-1] is AgentState.LISTENING)
    assert AgentState.SPEAKING in room.states


async def test_first_words_wait_for_the_model_and_arrive_in_order(room: LoopbackRoom, model: HandModel) -> None:
    model.refuse = [ProviderUnavailable("busy", retry_after_s=0.1)]
    async with RoomBridge(room, model) as bridge:
        room.join("ada")
        for value in range(5):
            room.speak("ada", sound(FRAME, value))
        assert not model.sessions
        await until(lambda: bridge.leader)
        room.speak("ada", sound(FRAME, 5))
        heard = bytes(model.session.heard)
        assert heard[: PCM16_24K.size(100)] == b"".join(sound(FRAME, value) for value in range(5))
        assert sound(FRAME, 5) in heard


async def test_no_more_is_kept_for_an_absent_model_than_was_asked_for(room: LoopbackRoom, model: HandModel) -> None:
    model.refuse = [ProviderUnavailable("busy", retry_after_s=0.1)]
    async with RoomBridge(room, model, CallConfig(call=CallSettings(first_words_s=0.06))) as bridge:
        room.join("ada")
        for value in range(1, 6):
            room.speak("ada", sound(FRAME, value))
        await until(lambda: bridge.leader)
        assert sound(FRAME, 1) not in bytes(model.session.heard)
        assert bridge.snapshot().counters["first_words.first_words_dropped_frames"] >= 2


async def test_an_interruption_silences_the_room_and_tells_the_model_what_was_heard(
    room: LoopbackRoom, model: HandModel
) -> None:
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        session = model.session
        session.says("r1", sound(2000), done=False)
        await until(lambda: len(room.heard()) > PCM16_24K.size(100))
        session.emit(Interrupted(session.number, "r1"), SpeechChunk(session.number, "r1", sound(500)))
        heard = len(room.heard())
        await asyncio.sleep(0.1)
        assert len(room.heard()) == heard
        (truncate,) = [told for told in session.told if told[0] == "truncate"]
        assert truncate[1] == "r1"
        assert abs(truncate[2] - PCM16_24K.duration_ms(heard)) <= 20
        assert bridge.snapshot().counters["playout.stale_chunks"] == 1


async def test_the_lead_changes_hands_in_mid_call(room: LoopbackRoom, model: HandModel) -> None:
    other = HandModel()
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        room.join("ada")
        second = await bridge.open_session(other)
        bridge.hear(second)
        room.speak("ada", sound(FRAME, 5))
        assert model.session.heard == other.session.heard == sound(FRAME, 5)
        other.session.says("early", sound(20, 2))
        bridge.lead(second)
        model.session.says("late", sound(20, 3))
        other.session.says("now", sound(40, 4))
        room.speak("ada", sound(FRAME, 6))
        await until(lambda: room.heard() == sound(40, 4))
        assert bytes(model.session.heard) == sound(FRAME, 5)
        assert bytes(other.session.heard)[: PCM16_24K.size(40)] == sound(FRAME, 5) + sound(FRAME, 6)


async def test_two_leaders_in_a_row_hear_the_call_as_one_without_a_seam(room: LoopbackRoom) -> None:
    narrow = HandModel(msgspec.structs.replace(CAPABILITIES, input_formats=(PCM16_16K,)))
    said = np.random.default_rng(1).integers(-9000, 9000, 480 * 40, dtype=np.int16).reshape(-1, 480)
    uninterrupted = Resampler(24_000, 16_000)
    async with RoomBridge(room, narrow) as bridge:
        await until(lambda: bridge.leader)
        room.join("ada")
        second = await bridge.open_session()
        for place, frame in enumerate(said):
            if place == 17:
                bridge.lead(second)
            room.speak("ada", frame.tobytes())
        first, then = narrow.sessions
        assert len(first.heard) == 17 * 640
        assert first.heard + then.heard == b"".join(uninterrupted.push(frame).tobytes() for frame in said)


async def test_tools_answer_the_model_and_dead_calls_are_not_answered(room: LoopbackRoom, model: HandModel) -> None:
    bridge = RoomBridge(room, model)
    stopped = asyncio.Event()

    @bridge.tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @bridge.tool
    async def dig() -> None:
        """Takes for ever."""
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    ran: list[str] = []
    bridge.listen(lambda command: ran.append(command.call.name) if isinstance(command, RunTool) else None)
    async with bridge:
        await until(lambda: bridge.leader)
        session = model.session
        assert session.start.tools is not None and [spec.name for spec in session.start.tools] == ["add", "dig"]
        session.emit(ToolCall(session.number, "c1", "add", {"a": 2, "b": 3}), ToolCall(session.number, "c2", "dig", {}))
        await until(lambda: "send_tool_result" in session.commands)
        session.emit(ToolCallCancelled(session.number, ("c2",)))
        await asyncio.wait_for(stopped.wait(), 2)
    assert ran == ["add", "dig"]
    assert [told for told in session.told if told[0] == "send_tool_result"] == [
        ("send_tool_result", "c1", "add", {"result": 5}, False)
    ]


async def test_a_lost_session_is_resumed_by_its_newest_handle(room: LoopbackRoom) -> None:
    model = HandModel(RESUMES)
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        first = model.session
        first.emit(
            ResumptionUpdate(first.number, "h1", resumable=True), ResumptionUpdate(first.number, "", resumable=False)
        )
        first.dies(ProviderUnavailable("gone"))
        await until(lambda: len(model.sessions) == 2 and bridge.leader)
        assert model.session.start.resume == "h1"


async def test_a_dead_handle_leads_to_a_fresh_session(room: LoopbackRoom) -> None:
    model = HandModel(RESUMES)
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        first = model.session
        first.emit(ResumptionUpdate(first.number, "h1", resumable=True))
        model.refuse = [ResumeRefused("expired")]
        first.dies(ProviderUnavailable("gone"))
        await until(lambda: len(model.sessions) == 2 and bridge.leader)
        assert model.session.start.resume == ""


async def test_a_refused_key_ends_the_call_with_the_reason(room: LoopbackRoom, model: HandModel) -> None:
    model.refuse = [ProviderRejected("API key not valid", mend="set OPENAI_API_KEY")]
    async with RoomBridge(room, model) as bridge:
        with pytest.raises(ModelFailed, match=r"API key not valid .*OPENAI_API_KEY") as failed:
            await bridge.run()
    assert isinstance(failed.value.__cause__, ProviderRejected)


async def test_a_model_that_cannot_be_reached_ends_the_call_within_its_budget(
    room: LoopbackRoom, model: HandModel
) -> None:
    model.refuse = [ProviderUnavailable("down") for _ in range(1000)]
    config = CallConfig(call=CallSettings(retry=RetryPolicy(base_s=0.05, give_up_after_s=0.3)))
    async with RoomBridge(room, model, config) as bridge:
        with pytest.raises(ModelFailed, match="down"):
            await asyncio.wait_for(bridge.run(), 3)


async def test_stop_lets_the_room_hear_the_end_of_the_sentence(room: LoopbackRoom, model: HandModel) -> None:
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        model.session.says("r1", sound(400, 5))
        bridge.stop()
        assert await bridge.run() is EndReason.REQUESTED
        assert room.heard() == sound(400, 5)


async def test_a_goodbye_that_comes_in_bursts_is_heard_to_its_end(room: LoopbackRoom, model: HandModel) -> None:
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        session = model.session
        session.says("r1", sound(200, 5), done=False)
        bridge.stop()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(bridge.run(), name="run")
            await asyncio.sleep(0.6)  # dry since long ago
            session.emit(SpeechChunk(1, "r1", sound(200, 6)), GenerationComplete(1, "r1"))
            assert await running is EndReason.REQUESTED
        # The edges of the gap are faded; what lies between is whole.
        assert sound(150, 6) in room.heard()


async def test_a_tool_that_ends_the_call_lets_the_model_say_goodbye(room: LoopbackRoom, model: HandModel) -> None:
    bridge = RoomBridge(room, model)

    @bridge.tool
    async def hang_up() -> str:
        """End the call."""
        bridge.stop()
        await asyncio.sleep(0.1)
        return "say goodbye"

    async with bridge:
        await until(lambda: bridge.leader)
        session = model.session
        session.emit(ReplyStarted(1, "r1"), ToolCall(1, "c1", "hang_up", {}, reply_id="r1"))
        session.emit(GenerationComplete(1, "r1"), TurnComplete(1, "r1"))
        async with asyncio.TaskGroup() as group:
            running = group.create_task(bridge.run(), name="run")
            await until(lambda: "send_tool_result" in session.commands)
            await asyncio.sleep(0.1)  # the model thinks
            assert not running.done()
            session.emit(ReplyStarted(1, "r2"))
            await asyncio.sleep(0.1)
            session.emit(SpeechChunk(1, "r2", sound(200, 6)), GenerationComplete(1, "r2"), TurnComplete(1, "r2"))
            assert await asyncio.wait_for(running, 2) is EndReason.REQUESTED
    assert room.heard() == sound(200, 6)


async def test_a_tool_that_never_ends_holds_the_goodbye_no_longer_than_allowed(
    room: LoopbackRoom, model: HandModel
) -> None:
    bridge = RoomBridge(room, model, CallConfig(call=CallSettings(drain_s=0.2)))

    @bridge.tool
    async def dig() -> None:
        """Takes for ever."""
        await asyncio.Event().wait()

    async with bridge:
        await until(lambda: bridge.leader)
        model.session.emit(ToolCall(1, "c1", "dig", {}))
        bridge.stop()
        assert await asyncio.wait_for(bridge.run(), 2) is EndReason.REQUESTED


async def test_a_deleted_room_ends_the_call_at_once(room: LoopbackRoom, model: HandModel) -> None:
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        model.session.says("r1", sound(5000))
        room.end(EndReason.ROOM_DELETED)
        assert await asyncio.wait_for(bridge.run(), 0.5) is EndReason.ROOM_DELETED


async def test_a_call_may_not_last_longer_than_allowed(room: LoopbackRoom, model: HandModel) -> None:
    async with RoomBridge(room, model, CallConfig(call=CallSettings(max_call_s=0.1))) as bridge:
        assert await asyncio.wait_for(bridge.run(), 2) is EndReason.REQUESTED


async def test_the_greeting_waits_for_a_listener(room: LoopbackRoom, model: HandModel) -> None:
    config = CallConfig(conversation=ConversationSettings(greeting="Greet the caller."))
    async with RoomBridge(room, model, config) as bridge:
        await until(lambda: bridge.leader)
        assert model.session.told == []
        room.join("ada")
        assert model.session.told == [("respond", "Greet the caller.")]


async def test_a_model_that_speaks_up_while_it_is_set_up_is_heard_from_its_first_word(
    room: LoopbackRoom, model: HandModel
) -> None:
    model.opening = lambda session: session.says("r1", sound(50, 3))
    async with RoomBridge(room, model):
        await until(lambda: room.heard() == sound(50, 3))


async def test_what_a_model_says_before_the_room_is_joined_is_not_lost(model: HandModel) -> None:
    class SlowRoom(LoopbackRoom):
        joined = False

        async def open(self, listener: TransportListener) -> None:
            await super().open(listener)
            await until(lambda: model.sessions)
            await asyncio.sleep(0.1)
            self.joined = True

        def play(self, audio: bytes) -> None:
            assert self.joined, "played into a room that is not there yet"
            super().play(audio)

    room = SlowRoom()
    model.opening = lambda session: session.says("r1", sound(50, 3))
    async with RoomBridge(room, model):
        await until(lambda: room.heard() == sound(50, 3))


async def test_a_session_that_ends_while_it_is_set_up_is_replaced(room: LoopbackRoom, model: HandModel) -> None:
    def dies_once(session: HandSession) -> None:
        if session.number == 1:
            session.dies(ProviderUnavailable("gone"))

    model.opening = dies_once
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader == 2)


async def test_typed_turns_given_before_the_model_is_there_are_kept(room: LoopbackRoom, model: HandModel) -> None:
    async with RoomBridge(room, model) as bridge:
        bridge.send_text("hello")
        await until(lambda: bridge.leader)
        assert model.session.told == [("send_text", "hello")]


async def test_a_call_leaves_nothing_behind(room: LoopbackRoom, model: HandModel) -> None:
    before = asyncio.all_tasks()
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        room.join("ada")
        room.speak("ada", sound(FRAME))
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert model.session.state == "closed"


async def test_a_cancelled_call_closes_its_session(room: LoopbackRoom, model: HandModel) -> None:
    async def call() -> None:
        async with RoomBridge(room, model) as bridge:
            await bridge.run()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(call())
        await until(lambda: model.sessions)
        task.cancel()
    assert model.session.state == "closed"


async def test_no_counter_shrinks_whatever_becomes_of_sessions(room: LoopbackRoom, model: HandModel) -> None:
    seen: list[dict[str, int | float]] = []
    config = CallConfig(call=CallSettings(retry=RetryPolicy(base_s=0.01, longest_s=0.01)))
    async with RoomBridge(room, model, config) as bridge:
        for _ in range(3):
            await until(lambda: bridge.leader is not None)
            session = model.session
            session.outbox.sent_audio_ms, session.outbox.dropped_audio_ms = 5000, 400 / session.number
            session.emit(ErrorReported(session.number, "invalid_value", "no"))
            seen.append(bridge.snapshot().counters)
            session.dies(ProviderUnavailable("internal error", code=1011), 1011)
            seen.append(bridge.snapshot().counters)
    seen.append(bridge.snapshot().counters)
    for before, after in pairwise(seen):
        shrunk = {name for name, value in before.items() if after[name] < value and not name.endswith("_now")}
        assert shrunk == set()
    assert (after["outbox.sent_audio_ms"], after["provider.errors"]) == (15_000, 3)


async def test_a_line_without_a_queue_of_its_own_is_paced(model: HandModel) -> None:
    room = LoopbackRoom(paces_itself=False)
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        model.session.says("r1", sound(1000, 5))
        await asyncio.sleep(0.1)
        assert room.queued_ms(asyncio.get_running_loop().time()) <= 40
        await until(lambda: room.heard() == sound(1000, 5))


async def test_a_phone_line_speaks_and_hears_g711(model: HandModel) -> None:
    room = LoopbackRoom(input_format=PCMU_8K, output_format=PCMU_8K)
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        room.join("ada")
        room.speak("ada", b"\xff" * 160)
        assert bytes(model.session.heard) == bytes(960)
        model.session.says("r1", bytes(960 * 10))
        await until(lambda: room.heard() == b"\xff" * 1600)


async def test_a_listener_that_raises_changes_nothing_for_the_call(
    room: LoopbackRoom, model: HandModel, caplog: pytest.LogCaptureFixture
) -> None:
    def clumsy(command: Command) -> None:
        raise RuntimeError("the application's own")

    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        stop = bridge.listen(clumsy)
        model.session.says("r1", sound(2000), done=False)
        await until(lambda: room.heard())
        bridge.interrupt()
        assert "interrupt" in model.session.commands
        assert "truncate" in model.session.commands
        stop()
        stop()
    assert bridge.snapshot().counters["control.listener_errors"] > 0
    assert "a listener raised" in caplog.text


async def test_a_model_that_accepts_and_closes_at_once_is_not_asked_for_ever(
    room: LoopbackRoom, model: HandModel
) -> None:
    model.opening = lambda session: session.dies(ProviderUnavailable("internal error", code=1011), 1011)
    config = CallConfig(call=CallSettings(retry=RetryPolicy(base_s=0.1, give_up_after_s=0.4)))
    async with RoomBridge(room, model, config) as bridge:
        with pytest.raises(ModelFailed, match="internal error"):
            await asyncio.wait_for(bridge.run(), 5)
    assert 2 <= len(model.sessions) <= 100


async def test_a_handle_whose_session_dies_at_once_is_given_up(room: LoopbackRoom) -> None:
    model = HandModel(RESUMES)
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        model.session.emit(ResumptionUpdate(1, "h1", resumable=True))
        model.session.dies(ProviderUnavailable("gone"))
        await until(lambda: bridge.leader == 2)
        model.session.dies(ProviderUnavailable("gone again", code=1011), 1011)
        await until(lambda: bridge.leader == 3)
    assert [session.start.resume for session in model.sessions] == ["", "h1", ""]


async def test_a_fresh_session_that_says_resume_refused_ends_the_call(room: LoopbackRoom, model: HandModel) -> None:
    model.refuse = [ResumeRefused("expired") for _ in range(50)]
    async with RoomBridge(room, model) as bridge:
        with pytest.raises(ModelFailed, match="expired"):
            await asyncio.wait_for(bridge.run(), 5)


async def test_a_session_still_opening_when_the_call_ends_is_closed(room: LoopbackRoom, model: HandModel) -> None:
    opened = asyncio.Event()

    class SlowModel(HandModel):
        async def connect(self, start: SessionStart | None = None) -> HandSession:
            await opened.wait()
            return await super().connect(start)

    slow = SlowModel()
    async with asyncio.TaskGroup() as group:
        async with RoomBridge(room, model) as bridge:
            await until(lambda: bridge.leader)
            opening = group.create_task(_outcome(bridge.open_session(slow)), name="opening")
            await asyncio.sleep(0.01)
        opened.set()
        assert isinstance(await opening, SessionEnded)
    assert slow.session.state == "closed"
    assert isinstance(await _outcome(bridge.open_session(slow)), SessionEnded)
    assert len(slow.sessions) == 1


async def _outcome(work: Coroutine[Any, Any, object]) -> object:
    try:
        return await work
    except Exception as error:
        return error


async def test_a_lead_that_the_application_gave_away_meanwhile_is_not_taken_back(
    room: LoopbackRoom, model: HandModel
) -> None:
    other = HandModel()
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        second = await bridge.open_session(other)
        model.session.dies(ProviderUnavailable("gone"))
        bridge.lead(second)
        await asyncio.sleep(0.05)
        assert bridge.leader == second
        other.session.dies(ProviderUnavailable("gone too"))
        await until(lambda: bridge.leader not in (None, second))


async def test_a_session_that_is_not_open_can_neither_lead_nor_hear(room: LoopbackRoom, model: HandModel) -> None:
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        for order in (bridge.lead, bridge.hear):
            with pytest.raises(ValueError, match="session 7 is not open"):
                order(7)
        assert bridge.leader == 1


async def test_a_tool_whose_session_died_does_not_pass_for_work_for_ever(room: LoopbackRoom, model: HandModel) -> None:
    call = CallSettings(tool_timeout_s=0.6)
    bridge = RoomBridge(room, model, CallConfig(call=call, conversation=ConversationSettings(thinking_limit_s=1)))

    @bridge.tool
    async def forever() -> None:
        await asyncio.Event().wait()

    async with bridge:
        room.join("ada")
        await until(lambda: bridge.leader)
        model.session.emit(ToolCall(1, "c1", "forever", {}))
        await until(lambda: bridge.state is AgentState.THINKING)
        model.session.dies(ProviderUnavailable("gone"))
        await until(lambda: bridge.leader == 2)
        model.session.emit(UserSpeechStarted(2), UserSpeechStopped(2))
        assert bridge.state is AgentState.THINKING
        await until(lambda: model.session.told)
        assert "did not finish within 0.6 s" in model.session.told[0][1]
        await until(lambda: bridge.state is AgentState.LISTENING)


async def test_a_goodbye_waits_for_a_tool_whose_session_was_lost(room: LoopbackRoom, model: HandModel) -> None:
    bridge = RoomBridge(room, model)
    go = asyncio.Event()

    @bridge.tool
    async def book() -> str:
        await go.wait()
        return "a table for two"

    async with bridge:
        room.join("ada")
        await until(lambda: bridge.leader)
        model.session.emit(ReplyStarted(1, "r1"), ToolCall(1, "c1", "book", {}, reply_id="r1"))
        model.session.dies(ProviderUnavailable("gone"))
        await until(lambda: bridge.leader == 2)
        async with asyncio.TaskGroup() as group:
            bridge.stop()
            running = group.create_task(bridge.run(), name="run")
            await asyncio.sleep(0.1)
            assert not running.done() and bridge.state is AgentState.THINKING
            go.set()
            await until(lambda: model.session.told)
            model.session.says("2.r1", sound(100, 6))
            assert await asyncio.wait_for(running, 2) is EndReason.REQUESTED
        (use,) = [entry for entry in bridge.ledger.entries if isinstance(entry, ToolUse)]
        assert use.result == "a table for two" and use.ended_at is not None


async def test_a_second_call_on_one_room_is_refused_and_leaves_the_first_alone(
    room: LoopbackRoom, model: HandModel
) -> None:
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        with pytest.raises(RoomInUse, match="make a new one"):
            async with RoomBridge(room, HandModel()):
                pass
        room.join("ada")
        room.speak("ada", sound(FRAME, 5))
        assert bytes(model.session.heard) == sound(FRAME, 5)


async def test_a_room_that_refuses_raises_its_own_error_and_leaves_nothing(model: HandModel) -> None:
    class LockedRoom(LoopbackRoom):
        async def open(self, listener: TransportListener) -> None:
            await until(lambda: model.sessions)
            raise RoomError("the door is locked")

    async with nothing_left():
        with pytest.raises(RoomError, match="the door is locked"):
            async with RoomBridge(LockedRoom(), model):
                pass
    assert model.session.state == "closed"


async def test_a_reply_may_be_protected_from_interruption(room: LoopbackRoom, model: HandModel) -> None:
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        bridge.say("Read the terms.", barge_in=BargeInPolicy(mode="never"))
        session = model.session
        assert session.told == [("respond", "Read the terms.")]
        session.says("r1", sound(400, 5))
        await until(lambda: bridge.state is AgentState.SPEAKING)
        session.emit(Interrupted(session.number, "r1"))
        await until(lambda: room.heard() == sound(400, 5))


def test_a_tool_for_a_model_without_tools_is_refused_before_the_call(room: LoopbackRoom) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    deaf = HandModel(msgspec.structs.replace(CAPABILITIES, tools=False))
    with pytest.raises(ConfigError, match="tools = 'add': hand-1 calls no tools"):
        RoomBridge(room, deaf, tools=[add])
    with pytest.raises(ConfigError, match="tools = 'add'"):
        RoomBridge(room, deaf).tool(add)


SEES = msgspec.structs.replace(CAPABILITIES, video=True)
SHOWN = CallConfig(video=VideoSettings(sources=("camera",)))


def test_video_for_a_model_or_a_stand_in_without_eyes_is_refused_before_the_call(room: LoopbackRoom) -> None:
    blind = HandModel()
    with pytest.raises(ConfigError, match=r"video\.sources = 'camera': hand-1 takes no images"):
        RoomBridge(room, blind, SHOWN)
    with pytest.raises(ConfigError, match=r"video\.sources"):
        RoomBridge(room, HandModel(SEES), SHOWN, stand_ins=[blind])
    near_sighted = HandModel(msgspec.structs.replace(SEES, max_image_bytes=149_999))
    with pytest.raises(ConfigError, match=r"video\.max_bytes = 150000: hand-1 takes images of 149999 bytes at most"):
        RoomBridge(room, HandModel(SEES), SHOWN, stand_ins=[near_sighted])
    bridge = RoomBridge(room, blind)
    with pytest.raises(ConfigError, match=r"video\.sources"):
        bridge.watch(["camera"])
    bridge.watch([])


def test_video_from_a_room_without_it_is_refused() -> None:
    class Phone(LoopbackRoom):
        def __init__(self) -> None:
            super().__init__()
            self.capabilities = msgspec.structs.replace(self.capabilities, video=False)

    with pytest.raises(ConfigError, match=r"video\.sources = 'camera': a loopback room carries no video"):
        RoomBridge(Phone(), HandModel(SEES), SHOWN)


async def test_the_model_sees_what_is_switched_on_and_only_as_long(room: LoopbackRoom) -> None:
    model = HandModel(SEES)
    sent: list[Command] = []
    async with RoomBridge(room, model) as bridge:
        bridge.listen(sent.append)
        await until(lambda: bridge.leader)
        room.join("ada")
        room.tell(VideoOffered(ParticipantId("ada"), VideoSource.CAMERA, "cam"))
        await asyncio.sleep(0.1)
        assert room.watched is None
        with pytest.raises(ValueError, match="microscope"):
            bridge.watch(["microscope"])  # type: ignore[list-item]
        bridge.watch(["camera"])
        await until(lambda: room.watched == "cam")
        room.show("cam", frame := FakeFrame())
        await until(lambda: model.session.told)
        assert model.session.told == [("send_image", "image/jpeg")]
        assert frame.released == 1
        (command,) = [command for command in sent if isinstance(command, SendImage)]
        assert command.captured.participant == "ada"
        assert bridge.snapshot().counters["video.images"] == 1
        bridge.watch([])
        assert room.watched is None


UNFORGETTING = msgspec.structs.replace(RESUMES, truncation=Truncation.NONE)


async def test_a_fresh_session_is_told_the_call_as_far_as_it_was_heard(room: LoopbackRoom, model: HandModel) -> None:
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        room.join("ada")
        first = model.session
        first.emit(UserSpeechStarted(first.number), UserSpeechStopped(first.number))
        first.emit(InputTranscript(first.number, "t", "tell me all", final=True))
        first.emit(ReplyStarted(first.number, "r"), OutputTranscript(first.number, "r", "one two three four five six"))
        first.emit(SpeechChunk(first.number, "r", sound(3000)))
        await until(lambda: len(room.heard()) > PCM16_24K.size(600))
        first.dies(ProviderUnavailable("gone"))
        await until(lambda: len(model.sessions) == 2)
        question, answer = model.session.start.history
        assert question == HistoryItem(role="user", text="tell me all")
        assert answer.role == "assistant" and answer.text.split() in (["one", "two"], ["one", "two", "three"])


async def test_a_typed_turn_reaches_the_next_session_once(room: LoopbackRoom, model: HandModel) -> None:
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        bridge.send_text("remember the milk")
        model.refuse = [ProviderUnavailable("busy", retry_after_s=0.05)]
        model.session.dies(ProviderUnavailable("gone"))
        bridge.send_text("and the eggs")
        await until(lambda: len(model.sessions) == 2 and bridge.leader)
        assert model.session.start.history == (), "it is sent what nobody has answered, and not told of it as well"
        sent = [told for told in model.session.told if told[0] == "send_text"]
        assert sent == [("send_text", "remember the milk"), ("send_text", "and the eggs")]


async def test_the_transcript_is_there_during_the_call_and_after_it(room: LoopbackRoom, model: HandModel) -> None:
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        room.join("ada")
        model.session.emit(InputTranscript(1, "t", "hello", final=False))
        (during,) = bridge.transcript()
        assert (during.speaker, during.text, during.ended_s) == ("ada", "hello", None)
    (after,) = bridge.transcript()
    assert (after.text, 0 <= after.began_s <= (after.ended_s or -1) < 5) == ("hello", True)


async def test_the_application_may_summarize_a_long_call(room: LoopbackRoom, model: HandModel) -> None:
    async def summarize(work: SummaryWork) -> str:
        return f"They typed {len(work.lines)} lines."

    few = ConversationSettings(memory=MemorySettings(turns=2))
    async with RoomBridge(room, model, CallConfig(conversation=few), summarize=summarize) as bridge:
        await until(lambda: bridge.leader)
        for n in range(10):
            bridge.send_text(f"line {n}")
        model.session.says("r1", sound(20))  # an answer to all of them
        await until(lambda: bridge.snapshot().counters["conversation.summaries"])
        model.session.dies(ProviderUnavailable("gone"))
        await until(lambda: len(model.sessions) == 2)
        summary, *rest = [item.text for item in model.session.start.history]
        assert "They typed 8 lines." in summary
        assert rest == ["line 8", "line 9"]


async def test_a_resumed_session_inherits_a_wrong_memory_and_a_fresh_one_does_not(room: LoopbackRoom) -> None:
    model = HandModel(UNFORGETTING)
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        model.session.says("r1", sound(2000), done=False)
        await until(lambda: len(room.heard()) > PCM16_24K.size(100))
        bridge.interrupt()
        memory = bridge._conversation.memory
        assert memory.is_wrong
        model.session.emit(ResumptionUpdate(1, "h1", resumable=True))
        model.session.dies(ProviderUnavailable("gone"))
        await until(lambda: bridge.leader == 2)
        assert model.session.start.resume == "h1" and memory.is_wrong
        bridge.lead(await bridge.open_session())
        assert not memory.is_wrong


async def test_a_reply_that_never_ends_holds_the_goodbye_no_longer_than_it_tells(
    room: LoopbackRoom, model: HandModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.lanes.drain._STALLED_S", 0.2)
    async with RoomBridge(room, model, CallConfig(call=CallSettings(drain_s=60))) as bridge:
        await until(lambda: bridge.leader)
        model.session.emit(ReplyStarted(1, "r1"))
        bridge.stop()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(bridge.run(), name="run")
            await asyncio.sleep(0.15)
            model.session.emit(SpeechChunk(1, "r1", sound(100)))
            await asyncio.sleep(0.15)
            assert not running.done()
            model.session.emit(GenerationComplete(1, "r1"))
            await asyncio.wait_for(running, 2)
        assert bridge.snapshot().counters["fast.stalled_goodbyes"] == 0
    assert room.heard() == sound(100)


async def test_a_reply_that_stalls_is_given_up_at_the_end_of_a_call(
    room: LoopbackRoom, model: HandModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.lanes.drain._STALLED_S", 0.2)
    async with RoomBridge(room, model, CallConfig(call=CallSettings(drain_s=60))) as bridge:
        await until(lambda: bridge.leader)
        model.session.emit(ReplyStarted(1, "r1"))
        bridge.stop()
        assert await asyncio.wait_for(bridge.run(), 2) is EndReason.REQUESTED
        assert bridge.snapshot().counters["fast.stalled_goodbyes"] == 1


@pytest.mark.parametrize(("stays", "heard"), [(True, True), (False, False)])
async def test_a_caller_who_hung_up_leaves_nobody_to_say_goodbye_to(
    stays: bool, heard: bool, room: LoopbackRoom, model: HandModel
) -> None:
    async with RoomBridge(room, model) as bridge:
        await until(lambda: bridge.leader)
        room.join("ada")
        if stays:
            room.join("bob")
        model.session.says("r1", sound(400))
        room.leave("ada")
        room.end(EndReason.PARTICIPANT_LEFT)
        assert await asyncio.wait_for(bridge.run(), 2) is EndReason.PARTICIPANT_LEFT
        assert (room.heard() == sound(400)) is heard
