"""Tools that outlive their connection, by each provider's own protocol on a real socket: every result arrives once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from bridge.conversation.ledger import ToolUse
from bridge.facade import RoomBridge
from bridge.transports.loopback import LoopbackRoom
from providers.emulators.openai_wire import OpenAIWire
from providers.emulators.server import EmulatorServer
from providers.scripted.scenario import Call, Marker, Pace, Scenario, Session, TurnScript
from providers.settings import ConnectionSettings, SpeechSettings
from tests.conformance.longcall import provider_of

KEYS = {"GEMINI_API_KEY": "a-key", "OPENAI_API_KEY": "a-key"}
pytestmark = pytest.mark.timeout(60)
BOTH = pytest.mark.parametrize("provider", ["gemini", "openai"])
ANSWERS = Scenario(
    answer=Marker(duration_ms=60, seed=1),
    prompted=Marker(duration_ms=60, seed=2),
    pace=Pace(speed=20, latency_ms=0),
    session=Session(connect_delay_ms=50, setup_delay_ms=30),
)


def booking_at(*turns: int) -> Scenario:
    """The model books in answer to these turns of a session."""
    calls = (Call(name="book", arguments={"seats": 2}),)
    return msgspec.structs.replace(ANSWERS, turns=tuple(TurnScript(turn=turn, calls=calls) for turn in turns))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.005)


class Caller:
    """One call with a service of its own, and a tool whose end the test decides."""

    def __init__(self, emulator: EmulatorServer, bridge: RoomBridge, room: LoopbackRoom, result: str) -> None:
        self.emulator = emulator
        self.bridge = bridge
        self.room = room
        self.result = result
        self.runs = 0
        self.running = asyncio.Event()
        self.go = asyncio.Event()

        @bridge.tool
        async def book(seats: int) -> str:
            """Book seats."""
            self.runs += 1
            self.running.set()
            await self.go.wait()
            return f"{self.result} for {seats}"

    async def asks(self) -> None:
        await until(lambda: self.bridge.leader is not None)
        self.room.type("ada", "Book two seats.")

    async def loses_its_connection(self) -> None:
        """Returns when the bridge knows."""
        for connection in self.emulator.connections:
            connection.kill()
        await until(lambda: self.bridge.leader is None)

    @property
    def times_told(self) -> int:
        """Messages to the service that hold the result, over all connections."""
        text = f"{self.result} for 2".encode()
        received = (message for each in self.emulator.connections for message in each.messages(sent=False))
        return sum(text in _as_bytes(message.data) for message in received)

    @property
    def answered(self) -> bool:
        """The room has heard the words to the result, and nothing is open."""
        uses = [entry for entry in self.bridge.ledger.entries if isinstance(entry, ToolUse)]
        return bool(self.room.heard()) and all(use.ended_at is not None for use in uses)

    @property
    def counters(self) -> dict[str, float]:
        """Of what became of results, those that are not zero."""
        counters = self.bridge.snapshot().counters
        return {name: value for name, value in counters.items() if name.startswith("results.") and value}


def _as_bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data


@asynccontextmanager
async def a_caller(provider: str, scenario: Scenario, result: str) -> AsyncIterator[Caller]:
    entry, way = provider_of(provider)
    async with EmulatorServer(entry.emulated(), scenario) as emulator:
        own: dict[str, Any] = {"base_url": emulator.base_url + ("/v1" if entry.name == "openai" else ""), **way}
        model = entry.connector(SpeechSettings(), entry.settings_type()(**own), ConnectionSettings(), KEYS)
        room = LoopbackRoom()
        caller = Caller(emulator, bridge := RoomBridge(room, model, name=result), room, result)
        async with bridge:
            room.join("ada")
            yield caller


@pytest.mark.parametrize(
    ("provider", "outages", "at_once"), [("gemini", 100, 20), ("openai", 100, 20), ("openai-webrtc", 3, 3)]
)
async def test_a_result_of_an_outage_arrives_once_every_time(provider: str, outages: int, at_once: int) -> None:
    rng = random.Random(20)
    arrived: list[int] = []

    async def one(number: int, delay_s: float) -> None:
        async with a_caller(provider, booking_at(1), f"table {number}") as caller:
            await caller.asks()
            await caller.running.wait()
            caller.emulator.scenario = ANSWERS
            await caller.loses_its_connection()
            await asyncio.sleep(delay_s)  # at once, during the outage, or when the next session leads already
            caller.go.set()
            await until(lambda: caller.answered)
            await asyncio.sleep(0.2)  # time for a second one
            arrived.append(caller.times_told)
            assert caller.counters == {"results.delivered_by_note": 1}
            assert caller.runs == 1

    for first in range(0, outages, at_once):
        async with asyncio.TaskGroup() as callers:
            for number in range(first, first + at_once):
                callers.create_task(one(number, rng.uniform(0, 0.2)), name=f"caller-{number}")
    assert arrived == [1] * outages


@BOTH
async def test_a_model_that_asks_again_after_the_outage_gets_the_run_that_is_under_way(provider: str) -> None:
    async with a_caller(provider, booking_at(1, 2, 3), "table 7") as caller:
        await caller.asks()
        await caller.running.wait()
        await caller.loses_its_connection()
        await caller.asks()
        await until(lambda: caller.counters.get("results.adopted"))
        caller.go.set()
        await until(lambda: caller.answered)
        assert (caller.runs, caller.times_told) == (1, 1)
        assert caller.counters == {"results.adopted": 1, "results.delivered": 1}


@BOTH
async def test_a_model_that_asks_for_what_it_was_just_told_is_told_again_and_books_nothing(provider: str) -> None:
    async with a_caller(provider, booking_at(1, 2, 3), "table 8") as caller:
        await caller.asks()
        await caller.running.wait()
        await caller.loses_its_connection()
        caller.go.set()
        await until(lambda: caller.counters.get("results.told_again"))
        await until(lambda: caller.answered)
        assert caller.runs == 1


@BOTH
async def test_a_result_that_was_on_the_wire_when_the_connection_broke_is_told_again(provider: str) -> None:
    slow = msgspec.structs.replace(booking_at(1), pace=Pace(speed=20, latency_ms=300))
    async with a_caller(provider, slow, "table 9") as caller:
        await caller.asks()
        await caller.running.wait()
        caller.emulator.scenario = ANSWERS
        caller.go.set()
        await until(lambda: caller.counters.get("results.delivered"))
        await caller.loses_its_connection()  # before a word of the answer
        await until(lambda: caller.answered)
        assert caller.runs == 1
        assert caller.counters == {"results.delivered": 1, "results.delivered_by_note": 1, "results.redelivered": 1}


async def test_a_result_for_a_call_that_the_provider_has_forgotten_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_caller("openai", booking_at(1), "table 7") as caller:
        await caller.asks()
        await caller.running.wait()
        (connection,) = caller.emulator.connections
        assert isinstance(connection.wire, OpenAIWire)
        monkeypatch.setattr(connection.wire.mind, "expects_result", lambda call_id: False)
        caller.go.set()
        await until(lambda: caller.times_told == 2)
        assert caller.bridge.snapshot().counters["provider.errors"] == 1
        refused = {"results.delivered": 1, "results.refused": 1, "results.delivered_by_note": 1}
        assert (caller.runs, caller.counters) == (1, refused)
        await until(lambda: caller.answered)
