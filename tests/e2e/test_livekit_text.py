"""Transcripts and states as LiveKit's frontends expect them, seen by a participant of the bare SDK."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge.core.words import AgentState, AudioStarted, Caption, ParticipantId, ToolActivity, ToolState, TurnTimeline
from bridge.demo.person import Person
from tests.e2e.conftest import PersonFactory
from tests.e2e.listening import RoomFactory

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

BOTH_WAYS = pytest.mark.parametrize("ffi", ["auto", "public"])
ANN = ParticipantId("ann")


def told(who: Person, event: str) -> list[dict[str, Any]]:
    return [fact for fact in who.told if fact["event"] == event]


async def count(who: Person, event: str, number: int, timeout_s: float = 10.0) -> list[dict[str, Any]]:
    async with asyncio.timeout(timeout_s):
        while len(told(who, event)) < number:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return told(who, event)


@BOTH_WAYS
async def test_the_agents_words_are_one_stream_closed_as_final(
    ffi: str, open_room: RoomFactory, person: PersonFactory
) -> None:
    async with open_room(ffi=ffi) as (room, _), person("ann") as ann:
        track = (await ann.wait("hears_agent"))["track"]
        room.show_caption(Caption("s1", None, "Good ", final=False))
        opened = (await count(ann, "caption_open", 1))[0]
        assert opened["identity"] == "roombridge"
        assert opened["attributes"] == {
            "lk.segment_id": "s1",
            "lk.transcription_final": "false",
            "lk.transcribed_track_id": track,
        }
        await count(ann, "caption_piece", 1)
        for piece in ("morning, ", "Ann."):
            room.show_caption(Caption("s1", None, piece, final=False))
            await asyncio.sleep(0.05)
        assert told(ann, "caption") == []
        room.show_caption(Caption("s1", None, "", final=True))
        closed = (await count(ann, "caption", 1))[0]
        assert closed["text"] == "Good morning, Ann."
        assert closed["attributes"]["lk.transcription_final"] == "true"
        assert closed["attributes"]["lk.segment_id"] == "s1"
        assert len(told(ann, "caption_open")) == 1


@BOTH_WAYS
async def test_a_users_words_are_a_new_stream_per_update_in_their_name(
    ffi: str, open_room: RoomFactory, person: PersonFactory
) -> None:
    async with open_room(ffi=ffi) as (room, listener), person("ann") as ann:
        track = (await listener.event(AudioStarted)).track_id
        await ann.wait("hears_agent")
        for number, (text, final) in enumerate((("what", False), ("What is", False), ("What is it?", True)), start=1):
            room.show_caption(Caption("u1", ANN, text, final=final))
            seen = (await count(ann, "caption", number))[-1]
            assert (seen["text"], seen["identity"]) == (text, "ann")
            assert seen["attributes"] == {
                "lk.segment_id": "u1",
                "lk.transcription_final": "true" if final else "false",
                "lk.transcribed_track_id": track,
            }
        assert len({fact["stream"] for fact in told(ann, "caption")}) == 3


async def test_a_burst_stays_in_order_and_ends_whole(open_room: RoomFactory, person: PersonFactory) -> None:
    async with open_room() as (room, _), person("ann") as ann:
        await ann.wait("hears_agent")
        for segment in range(20):
            for number in range(10):
                room.show_caption(Caption(f"s{segment}", None, f"{number} ", final=number == 9))
        captions = await count(ann, "caption", 20)
        opened = told(ann, "caption_open")
        assert [fact["attributes"]["lk.segment_id"] for fact in opened] == [f"s{n}" for n in range(20)]
        assert {fact["text"] for fact in captions} == {"0 1 2 3 4 5 6 7 8 9 "}
        assert room.counters()["captions_dropped"] == room.counters()["text_failed"] == 0


async def test_what_waits_is_sent_and_open_segments_are_closed_on_leaving(
    open_room: RoomFactory, person: PersonFactory
) -> None:
    async with person("ann") as ann:
        async with open_room() as (room, _):
            await ann.wait("hears_agent")
            room.show_caption(Caption("s1", None, "Good", final=False))
            await count(ann, "caption_piece", 1)
            room.show_caption(Caption("s1", None, "bye.", final=False))
        closed = (await count(ann, "caption", 1))[0]
        assert closed["text"] == "Goodbye."
        assert closed["attributes"]["lk.transcription_final"] == "true"


@BOTH_WAYS
async def test_the_newest_state_is_shown(ffi: str, open_room: RoomFactory, person: PersonFactory) -> None:
    async with open_room(ffi=ffi) as (room, _), person("ann", publish=False) as ann:
        room.show_state(AgentState.LISTENING)
        await ann.wait("attributes", changed={"lk.agent.state": "listening"})
        for state in (AgentState.THINKING, AgentState.LISTENING, AgentState.SPEAKING):
            room.show_state(state)
        await ann.wait("attributes", changed={"lk.agent.state": "speaking"})
        assert [fact["changed"].get("lk.agent.state") for fact in told(ann, "attributes")].count("thinking") == 0


async def test_a_state_shown_before_somebody_came_is_there_for_them(
    open_room: RoomFactory, person: PersonFactory
) -> None:
    async with open_room() as (room, _):
        room.show_state(AgentState.IDLE)
        await asyncio.sleep(0.3)
        async with person("ann", publish=False) as ann:
            assert told(ann, "joined")[0]["others"]["roombridge"]["lk.agent.state"] == "idle"


@pytest.mark.parametrize(("legacy", "packets"), [("auto", 3), ("never", 0)])
async def test_an_older_client_gets_packets_with_the_whole_text(
    legacy: str, packets: int, open_room: RoomFactory, person: PersonFactory
) -> None:
    """The SDK that `person` runs on speaks client protocol 2, which reads transcripts from packets."""
    async with open_room(legacy_captions=legacy) as (room, listener), person("ann") as ann:
        theirs = (await listener.event(AudioStarted)).track_id
        ours = (await ann.wait("hears_agent"))["track"]
        for number, caption in enumerate(
            (
                Caption("u1", ANN, "Hello?", final=True),
                Caption("s1", None, "Good ", final=False),
                Caption("s1", None, "morning.", final=True),
            ),
            start=1,
        ):
            room.show_caption(caption)
            await count(ann, "caption_packet", min(number, packets))
        await count(ann, "caption", 2)
        seen = [(p["identity"], p["track"], p["segment"], p["text"], p["final"]) for p in told(ann, "caption_packet")]
        assert (
            seen
            == [
                ("ann", theirs, "u1", "Hello?", True),
                ("roombridge", ours, "s1", "Good ", False),
                ("roombridge", ours, "s1", "Good morning.", True),
            ][:packets]
        )


@BOTH_WAYS
async def test_tools_and_timelines_are_json_in_their_order(
    ffi: str, open_room: RoomFactory, person: PersonFactory
) -> None:
    async with open_room(ffi=ffi) as (room, _), person("ann") as ann:
        await ann.wait("hears_agent")
        room.show_activity(ToolActivity("c1", "weather", ToolState.STARTED))
        room.show_activity(ToolActivity("c1", "weather", ToolState.ANSWERED, 250))
        room.show_activity(TurnTimeline(1, 12.5, 500, 620, 700, 760))
        seen = await count(ann, "activity", 3)
        assert {fact["identity"] for fact in seen} == {"roombridge"}
        assert [fact["activity"] for fact in seen] == [
            {"type": "tool", "call_id": "c1", "name": "weather", "state": "started", "ms": 0},
            {"type": "tool", "call_id": "c1", "name": "weather", "state": "answered", "ms": 250},
            {
                "type": "turn",
                "turn": 1,
                "speech_ended_at": 12.5,
                "turn_known_ms": 500,
                "reply_started_ms": 620,
                "first_speech_ms": 700,
                "audible_ms": 760,
                "typed": False,
            },
        ]


async def test_captions_states_and_activities_can_be_off(open_room: RoomFactory, person: PersonFactory) -> None:
    async with open_room(captions=False, states=False, activities=False) as (room, _), person("ann") as ann:
        await ann.wait("hears_agent")
        room.show_caption(Caption("s1", None, "Hello", final=True))
        room.show_state(AgentState.LISTENING)
        room.show_activity(ToolActivity("c1", "weather", ToolState.STARTED))
        await asyncio.sleep(0.5)
        assert told(ann, "activity") == told(ann, "caption_open") == told(ann, "attributes") == []
