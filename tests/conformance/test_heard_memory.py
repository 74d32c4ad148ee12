"""What a model remembers of a reply that was interrupted, and what a fresh one is told: through the real protocols."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bridge.conversation.conversation import ConversationSettings
from bridge.conversation.memory_settings import MemorySettings, MemoryWords
from bridge.core.commands import Command, SendText
from bridge.facade import CallConfig, RoomBridge
from bridge.transports.loopback import LoopbackRoom
from providers.catalog import PROVIDERS
from providers.emulators.server import EmulatorServer
from providers.gemini.settings import GeminiSettings
from providers.scripted.memory import Line
from providers.scripted.scenario import Marker, Pace, Scenario, TurnScript
from providers.settings import ConnectionSettings, SpeechSettings
from providers.signal.formats import PCM16_24K

KEYS = {"GEMINI_API_KEY": "a-key"}
CONFIG = CallConfig(
    conversation=ConversationSettings(
        memory=MemorySettings(
            repair_after_ms=50, words=MemoryWords(heard_in_part="NOTE {heard}", heard_not_at_all="NOTE nothing")
        )
    )
)
WORDS = "one two three four five six seven eight nine ten eleven twelve"
SCENE = Scenario(
    pace=Pace(speed=20.0, latency_ms=0),
    answer=Marker(duration_ms=300, seed=4, transcript="as you wish"),
    turns=(TurnScript(turn=1, answer=Marker(duration_ms=6000, seed=3, transcript=WORDS)),),
)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(8):
        while not condition():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)


class Call:
    def __init__(self, room: LoopbackRoom, bridge: RoomBridge, emulator: EmulatorServer) -> None:
        self.room = room
        self.bridge = bridge
        self.emulator = emulator
        self.decided: list[Command] = []
        bridge.listen(self.decided.append)

    def remembered(self) -> list[Line]:
        """By the service, in the newest connection."""
        return self.emulator.connections[-1].brain.memory.lines

    async def is_interrupted(self) -> str:
        """A typed word cuts the long answer after a second of it. Returns what was heard of it."""
        self.room.join("ada")
        self.room.type("ada", "count")
        await until(lambda: PCM16_24K.duration_ms(len(self.room.heard())) > 1500)
        self.room.type("ada", "stop")
        await until(lambda: any(line.interrupted for line in self.bridge.ledger.lines))
        (cut,) = [line.text.strip() for line in self.bridge.ledger.lines if line.interrupted]
        await until(lambda: any(line.text.strip() == "as you wish" for line in self.bridge.ledger.lines))
        return cut


@asynccontextmanager
async def gemini(*, repair: bool) -> AsyncIterator[Call]:
    entry = PROVIDERS["gemini"]
    room = LoopbackRoom()
    async with EmulatorServer(entry.emulated(), SCENE) as emulator:
        own = GeminiSettings(base_url=emulator.base_url, repair_memory=repair, resumption=False)
        model = entry.connector(SpeechSettings(), own, ConnectionSettings(), KEYS)
        async with RoomBridge(room, model, CONFIG) as bridge:
            await until(lambda: bridge.leader)
            yield Call(room, bridge, emulator)


async def test_gemini_believes_that_all_was_heard_until_it_is_told() -> None:
    async with gemini(repair=True) as call:
        heard = await call.is_interrupted()
        assert heard and len(heard) < len(WORDS) / 2
        await until(lambda: call.remembered()[-1].text.startswith("NOTE"))
        told = [(line.role, line.text) for line in call.remembered()]
        assert ("assistant", WORDS) in told
        assert told[-1] == ("user", f"NOTE {heard}")
        assert call.bridge.snapshot().counters["conversation.memory_repairs"] == 1
        replies = len([line for line in call.remembered() if line.role == "assistant"])
        await asyncio.sleep(0.2)
        assert len([line for line in call.remembered() if line.role == "assistant"]) == replies, "it is not answered"


async def test_where_it_may_not_be_told_the_next_fresh_session_knows_what_was_heard() -> None:
    async with gemini(repair=False) as call:
        heard = await call.is_interrupted()
        await asyncio.sleep(0.3)
        assert not [command for command in call.decided if isinstance(command, SendText) and "NOTE" in command.text]
        assert ("assistant", WORDS) in [(line.role, line.text) for line in call.remembered()]
        call.emulator.live[-1].kill()
        await until(lambda: len(call.emulator.connections) == 2 and len(call.remembered()) >= 4)
        assert [(line.role, line.text) for line in call.remembered()] == [
            ("user", "count"),
            ("assistant", heard),
            ("user", "stop"),
            ("assistant", "as you wish"),
        ]
