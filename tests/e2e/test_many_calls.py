"""Many calls in one process: side by side without a sound in common, one after the other without a trace.

E2E_TALK_S makes the talk longer or shorter than its 60 s.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from bridge.core.words import AgentState
from bridge.demo.person import Person
from bridge.demo.server import LocalServer
from bridge.facade import RoomBridge
from bridge.transports.livekit_room import LiveKitRoom, LiveKitSettings
from providers.scripted.model import ScriptedModel
from providers.scripted.scenario import Pace, Scenario, Tone
from providers.settings import SpeechSettings, TurnDetectionSettings
from tests.e2e.audio import Samples, find, from_pcm, likeness, resampled, speechlike, write_wav
from tests.e2e.calls import EmulatedCall, emulated_call, until
from tests.e2e.ears import heard_by
from tests.e2e.held import held, settled

TALK_S = float(os.environ.get("E2E_TALK_S", "60"))
SHORT_CALLS = 30
MIC_HZ = 48_000
SETTLE_S = 1.5
ROOMS = {"a": "gemini", "b": "openai"}
GREETED = Scenario(greeting=Tone(duration_ms=100), pace=Pace(latency_ms=0, speed=100))

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(180 + 3 * TALK_S),
]


class _Side:
    """One room with one talker."""

    def __init__(self, call: EmulatedCall, person: Person, folder: Path, seed: int) -> None:
        self.call = call
        self.person = person
        self.sound = speechlike(seed, MIC_HZ, SETTLE_S + 1.5)
        self.turns = 0
        self._wav = str(write_wav(folder / f"{person.identity}.wav", self.sound, MIC_HZ))

    async def talk(self, until_s: float) -> None:
        """Speak, hear the answer, speak again."""
        await self.person.wait("hears_agent")
        while asyncio.get_running_loop().time() < until_s:
            await self.person.do("say", wav=self._wav)
            await until(lambda: self.call.bridge.state is AgentState.SPEAKING)
            await until(lambda: self.call.bridge.state is AgentState.LISTENING, 15)
            self.turns += 1
        await asyncio.sleep(0.3)

    def judged(self, rate_hz: int) -> Samples:
        return resampled(self.sound, MIC_HZ, rate_hz)[int(SETTLE_S * rate_hz) :]


@asynccontextmanager
async def side(server: LocalServer, name: str, folder: Path, seed: int) -> AsyncIterator[_Side]:
    speech = SpeechSettings(turn_detection=TurnDetectionSettings(silence_ms=400))
    room = f"many-{name}-{seed}"
    async with (
        emulated_call(server, room, ROOMS[name], speech=speech) as call,
        Person(server.url, server.participant_token(room, f"talker-{name}")) as person,
    ):
        await person.do("publish")
        yield _Side(call, person, folder, seed)
    await server.ask("DeleteRoom", {"room": room}, room=room)


async def come_and_go(server: LocalServer, until_s: float) -> int:
    """A third call that begins and ends again and again. Returns how often."""
    number = 0
    while asyncio.get_running_loop().time() < until_s:
        number += 1
        name = f"many-c-{number}"
        room = LiveKitRoom(
            LiveKitSettings(url=server.url, room=name), api_key=server.api_key, api_secret=server.api_secret
        )
        async with RoomBridge(room, ScriptedModel(GREETED), name=name) as bridge:
            await until(lambda: bridge.leader is not None)
            await asyncio.sleep(0.5)
        await server.ask("DeleteRoom", {"room": name}, room=name)
    return number


async def test_two_providers_talk_side_by_side_without_a_sound_in_common(server: LocalServer, tmp_path: Path) -> None:
    start = held()
    loop = asyncio.get_running_loop()
    async with side(server, "a", tmp_path, 71), side(server, "b", tmp_path, 72):
        await come_and_go(server, loop.time() + 1)
    await settled(start, fds=20, threads=12, handles=2)
    before = held()
    recordings: dict[str, list[tuple[Samples, int]]] = {}
    async with side(server, "a", tmp_path, 73) as a, side(server, "b", tmp_path, 74) as b:
        end = loop.time() + TALK_S
        async with asyncio.TaskGroup() as group:
            third = group.create_task(come_and_go(server, end), name="third")
            group.create_task(a.talk(end), name="a")
            group.create_task(b.talk(end), name="b")
        for name, one in (("a", a), ("b", b)):
            ear = await heard_by(one.person, tmp_path)
            recordings[name] = [one.call.model_heard(), (from_pcm(ear.samples.tobytes()), ear.rate_hz)]
    assert third.result() >= 3 and a.turns >= 2 and b.turns >= 2
    for own, other, name in ((a, b, "a"), (b, a, "b")):
        for heard, rate_hz in recordings[name]:
            assert likeness(own.judged(rate_hz), heard, rate_hz) >= 0.85
            assert abs(find(other.judged(rate_hz), heard, rate_hz).correlation) < 0.2
    assert await settled(before, fds=3, threads=3) == {}


async def short_call(server: LocalServer, number: int) -> None:
    """Join, greet, leave."""
    name = f"short-{number}"
    async with (
        emulated_call(server, name, ("gemini", "openai")[number % 2], GREETED) as call,
        Person(server.url, server.participant_token(name, "ann")) as ann,
    ):
        await ann.wait("hears_agent")
        await until(lambda: call.counters()["playout.pieces"] > 0)
    await server.ask("DeleteRoom", {"room": name}, room=name)


async def test_short_calls_one_after_the_other_leave_memory_flat(server: LocalServer) -> None:
    start = held()
    for number in range(6):
        await short_call(server, number)
    await settled(start, fds=20, threads=12, handles=2)
    before, process = held(), psutil.Process()
    rss = []
    for number in range(6, 6 + SHORT_CALLS):
        await short_call(server, number)
        rss.append(process.memory_info().rss / 1e6)
    assert await settled(before, fds=3, threads=3) == {}
    # The last third beside the first: what a call costs for ever, not what an allocator keeps for the next.
    third = SHORT_CALLS // 3
    assert (sum(rss[-third:]) - sum(rss[:third])) / third / (2 * third) < 0.5, f"MB for each call: {rss}"
