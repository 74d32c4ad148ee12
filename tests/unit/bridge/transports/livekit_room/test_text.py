"""The writer against a stand-in for the SDK's room: what is sent, in what order, and what a failure costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.core.words import AgentState, Caption, ParticipantId, ToolActivity, ToolState, TurnTimeline
from bridge.transports.livekit_room import text as text_module
from bridge.transports.livekit_room.text import TextWriter
from tests.fakes.fake_time import in_fake_time

ANN = ParticipantId("ann")


class Stream:
    def __init__(self, room: Room, name: str) -> None:
        self.room, self.name = room, name

    async def write(self, text: str) -> None:
        await self.room.write_gate.wait()
        self.room.sent.append(("write", self.name, text))
        if self.room.broken:
            raise ConnectionError("no data channel")

    async def aclose(self, attributes: dict[str, str] | None = None) -> None:
        self.room.sent.append(("close", self.name, attributes))


class Room:
    identity = "agent"

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.broken = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.write_gate = asyncio.Event()
        self.write_gate.set()
        self.state_gate = asyncio.Event()
        self.state_gate.set()
        self.missed_answers = 0
        self.local_participant = self

    async def set_attributes(self, attributes: dict[str, str]) -> None:
        await self.state_gate.wait()
        self.sent.append(("state", attributes["lk.agent.state"]))
        if self.missed_answers:
            self.missed_answers -= 1
            await asyncio.sleep(5)

    async def stream_text(self, *, topic: str, attributes: dict[str, str], sender_identity: str | None) -> Stream:
        await self.gate.wait()
        name = attributes["lk.segment_id"]
        self.sent.append(("open", name, attributes["lk.transcription_final"], sender_identity))
        return Stream(self, name)

    async def send_text(self, text: str, *, topic: str) -> None:
        await self.gate.wait()
        if self.broken:
            raise ConnectionError("no data channel")
        self.sent.append((topic, json.loads(text)))

    async def publish_transcription(self, packet: Any) -> None:
        segment = packet.segments[0]
        self.sent.append(("packet", packet.participant_identity, packet.track_sid, segment.text, segment.final))


@asynccontextmanager
async def writing(room: Room, *, legacy: bool = False) -> AsyncIterator[TextWriter]:
    stand_in: Any = room
    writer = TextWriter(track_of=lambda who: f"track of {who}", wants_legacy=lambda: legacy)
    writer.attach(stand_in)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(writer.run(), name="text")
        yield writer
        writer.stop()
        await asyncio.wait((task,))


@in_fake_time
async def test_words_do_not_wait_for_a_state_that_nobody_confirms() -> None:
    room = Room()
    room.state_gate.clear()
    async with writing(room) as writer:
        writer.show_state(AgentState.SPEAKING)
        await asyncio.sleep(0.01)
        writer.show_caption(Caption("s", None, "Hello", True))
        await asyncio.sleep(0.01)
        assert ("close", "s", {"lk.transcription_final": "true"}) in room.sent
        room.state_gate.set()
    assert room.sent[-1] == ("state", "speaking")


@in_fake_time
async def test_an_agents_segment_is_opened_once_and_closed_as_final() -> None:
    room = Room()
    async with writing(room) as writer:
        for caption in (
            Caption("s", None, "Good ", False),
            Caption("s", None, "day.", False),
            Caption("s", None, "", True),
        ):
            writer.show_caption(caption)
            await asyncio.sleep(0.01)
    assert room.sent == [
        ("open", "s", "false", None),
        ("write", "s", "Good "),
        ("write", "s", "day."),
        ("close", "s", {"lk.transcription_final": "true"}),
    ]


@in_fake_time
async def test_a_users_update_is_a_stream_of_its_own() -> None:
    room = Room()
    async with writing(room) as writer:
        writer.show_caption(Caption("u", ANN, "Hel", False))
        await asyncio.sleep(0.01)
        writer.show_caption(Caption("u", ANN, "Hello", True))
    assert room.sent == [
        ("open", "u", "false", "ann"),
        ("write", "u", "Hel"),
        ("close", "u", None),
        ("open", "u", "true", "ann"),
        ("write", "u", "Hello"),
        ("close", "u", None),
    ]


@in_fake_time
async def test_while_busy_only_the_newest_state_is_kept() -> None:
    room = Room()
    room.state_gate.clear()
    async with writing(room) as writer:
        writer.show_state(AgentState.LISTENING)
        await asyncio.sleep(0.01)
        for state in (AgentState.THINKING, AgentState.SPEAKING):
            writer.show_state(state)
        room.state_gate.set()
    assert room.sent == [("state", "listening"), ("state", "speaking")]


@in_fake_time
async def test_a_missed_answer_to_a_state_hides_no_state_that_lasts() -> None:
    room = Room()
    room.missed_answers = 1
    async with writing(room) as writer:
        for state in (AgentState.LISTENING, AgentState.THINKING, AgentState.SPEAKING):
            writer.show_state(state)
            await asyncio.sleep(0.7)
        assert writer.states_unconfirmed == 1 and writer.failed == 0
    assert room.sent == [
        ("state", "listening"),
        ("state", "listening"),
        ("state", "thinking"),
        ("state", "speaking"),
    ]


@in_fake_time
async def test_a_state_that_is_never_confirmed_is_told_a_few_times_and_counted() -> None:
    room = Room()
    room.missed_answers = 100
    async with writing(room) as writer:
        writer.show_state(AgentState.LISTENING)
        await asyncio.sleep(60)
        assert writer.failed == 1 and writer.states_unconfirmed == len(room.sent) == 4


@in_fake_time
async def test_a_newer_state_takes_the_place_of_one_that_is_not_confirmed() -> None:
    room = Room()
    room.missed_answers = 1
    async with writing(room) as writer:
        writer.show_state(AgentState.LISTENING)
        await asyncio.sleep(0.1)
        writer.show_state(AgentState.SPEAKING)
        await asyncio.sleep(1)
        assert writer.failed == 0
    assert room.sent == [("state", "listening"), ("state", "speaking")]


@in_fake_time
async def test_a_state_does_not_wait_for_captions() -> None:
    room = Room()
    room.gate.clear()
    async with writing(room) as writer:
        writer.show_caption(Caption("a", ANN, "One", True))
        writer.show_state(AgentState.THINKING)
        await asyncio.sleep(0.01)
        assert room.sent == [("state", "thinking")]
        room.gate.set()


@in_fake_time
async def test_a_broken_stream_is_counted_and_the_segment_goes_on_in_another() -> None:
    room = Room()
    async with writing(room) as writer:
        room.broken = True
        writer.show_caption(Caption("s", None, "lost", False))
        await asyncio.sleep(0.01)
        room.broken = False
        writer.show_caption(Caption("s", None, "kept", True))
        await asyncio.sleep(0.01)
        assert writer.failed == 1
    assert [sent[0] for sent in room.sent] == ["open", "write", "open", "write", "close"]


@in_fake_time
async def test_a_send_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "_SEND_TIMEOUT_S", 0.02)
    room = Room()
    room.gate.clear()
    async with writing(room) as writer:
        writer.show_caption(Caption("a", ANN, "One", True))
        await asyncio.sleep(0.1)
        room.gate.set()
        writer.show_caption(Caption("b", ANN, "Two", True))
        await asyncio.sleep(0.05)
        assert writer.failed == 1
    assert room.sent[0][1] == "b"


@in_fake_time
async def test_leaving_waits_for_words_that_have_just_gone_out_and_for_no_others() -> None:
    loop = asyncio.get_running_loop()
    for rested_s, waited_s in ((0.0, 0.2), (0.15, 0.05), (60.0, 0.0)):
        async with writing(Room()) as writer:
            writer.show_caption(Caption("s", None, "Goodbye", True))
            await asyncio.sleep(rested_s)
            began = loop.time()
        assert loop.time() - began == pytest.approx(waited_s)


@in_fake_time
async def test_stopping_sends_what_waits_and_closes_what_is_open() -> None:
    room = Room()
    async with writing(room) as writer:
        writer.show_caption(Caption("s", None, "Good", False))
        await asyncio.sleep(0.01)
        writer.show_caption(Caption("s", None, "bye", False))
    assert room.sent[-2:] == [("write", "s", "bye"), ("close", "s", {"lk.transcription_final": "true"})]


@in_fake_time
async def test_open_segments_are_bounded() -> None:
    room = Room()
    async with writing(room) as writer:
        for number in range(18):
            writer.show_caption(Caption(str(number), None, "x", False))
        await asyncio.sleep(0.05)
        assert writer.forced_closes == 2
    assert [sent[1] for sent in room.sent if sent[0] == "close"] == [str(number) for number in range(18)]


@in_fake_time
async def test_packets_for_older_clients_carry_the_whole_text() -> None:
    room = Room()
    async with writing(room, legacy=True) as writer:
        writer.show_caption(Caption("s", None, "Good ", False))
        await asyncio.sleep(0.01)
        writer.show_caption(Caption("s", None, "day.", True))
        writer.show_caption(Caption("u", ANN, "Hello", True))
    assert [sent for sent in room.sent if sent[0] == "packet"] == [
        ("packet", "agent", "track of None", "Good ", False),
        ("packet", "agent", "track of None", "Good day.", True),
        ("packet", "ann", "track of ann", "Hello", True),
    ]


async def test_while_the_room_is_away_captions_wait_and_an_open_segment_begins_anew_in_the_next() -> None:
    before, after = Room(), Room()
    async with writing(before) as writer:
        writer.show_state(AgentState.SPEAKING)
        writer.show_caption(Caption("s", None, "Good ", False))
        await asyncio.sleep(0.01)
        writer.detach()
        before.sent.clear()
        writer.show_caption(Caption("s", None, "day, ", False))
        writer.show_caption(Caption("u", ANN, "Hello", True))
        await asyncio.sleep(0.01)
        assert before.sent == []
        room: Any = after
        writer.attach(room)
        await asyncio.sleep(0.01)
        writer.show_caption(Caption("s", None, "Ann.", True))
    assert before.sent == []
    assert ("state", "speaking") in after.sent
    assert [sent for sent in after.sent if sent[0] == "write"] == [
        ("write", "s", "Good day, "),
        ("write", "u", "Hello"),
        ("write", "s", "Ann."),
    ]


async def test_a_caption_that_was_on_its_way_when_the_room_went_is_sent_when_it_is_back() -> None:
    room = Room()
    async with writing(room) as writer:
        writer.show_caption(Caption("s", None, "Good ", False))
        await asyncio.sleep(0.01)
        room.write_gate.clear()
        writer.show_caption(Caption("s", None, "day.", True))
        await asyncio.sleep(0.01)
        writer.detach()
        room.broken = True
        room.write_gate.set()
        await asyncio.sleep(0.01)
        room.broken = False
        room.sent.clear()
        stand_in: Any = room
        writer.attach(stand_in)
        await asyncio.sleep(0.01)
    assert [sent for sent in room.sent if sent[0] == "write"] == [("write", "s", "Good day.")]


def started(number: int) -> ToolActivity:
    return ToolActivity(f"c{number}", "weather", ToolState.STARTED)


@in_fake_time
async def test_activities_are_one_json_stream_each_in_order() -> None:
    room = Room()
    async with writing(room) as writer:
        writer.show_activity(started(1))
        writer.show_activity(TurnTimeline(1, 10.5, 500, 700, None, 900))
    assert room.sent == [
        ("roombridge.events", {"type": "tool", "call_id": "c1", "name": "weather", "state": "started", "ms": 0}),
        (
            "roombridge.events",
            {
                "type": "turn",
                "turn": 1,
                "speech_ended_at": 10.5,
                "turn_known_ms": 500,
                "reply_started_ms": 700,
                "first_speech_ms": None,
                "audible_ms": 900,
                "typed": False,
            },
        ),
    ]


@in_fake_time
async def test_activities_are_bounded_and_wait_for_no_caption() -> None:
    room = Room()
    room.write_gate.clear()
    async with writing(room) as writer:
        writer.show_caption(Caption("s", None, "Hello", True))
        await asyncio.sleep(0.01)
        for number in range(300):
            writer.show_activity(started(number))
        await asyncio.sleep(0.01)
        assert room.sent[-1][1]["call_id"] == "c299" and len(room.sent) == 257
        assert writer.dropped_activities == 44
        room.write_gate.set()


@in_fake_time
async def test_an_activity_that_meets_a_lost_room_is_told_in_the_next() -> None:
    lost, found = Room(), Room()
    lost.broken = True
    lost.gate.clear()
    async with writing(lost) as writer:
        writer.show_activity(started(1))
        await asyncio.sleep(0.01)
        writer.detach()
        lost.gate.set()
        await asyncio.sleep(0.01)
        stand_in: Any = found
        writer.attach(stand_in)
    assert lost.sent == [] and len(found.sent) == 1
