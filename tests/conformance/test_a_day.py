"""One call of a day, in simulated time: thousands of turns, a fault every 20 s, and nothing grows.

The whole bridge over a model moved by hand, with no socket and no thread, on a loop whose clock jumps. SOAK_HOURS=24
is the day; the usual run is some minutes of it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest

from bridge.facade import CallConfig, RoomBridge
from bridge.lanes.settings import CallSettings
from bridge.transports.loopback import LoopbackRoom
from providers.contract import (
    GenerationComplete,
    GoAway,
    InputTranscript,
    Interrupted,
    OutputTranscript,
    ReplyStarted,
    ResumptionUpdate,
    SessionEvent,
    SessionState,
    SpeechChunk,
    ToolCall,
    TurnComplete,
    UserSpeechStarted,
    UserSpeechStopped,
)
from providers.errors import ProviderUnavailable, SetupTimeout
from providers.retry import RetryPolicy
from providers.signal.formats import PCM16_24K
from tests.fakes.hand_model import CAPABILITIES, HandModel, HandSession
from tests.fakes.virtual_time import VirtualTimeLoop

HOURS = float(os.environ.get("SOAK_HOURS", "0.1"))
FAULT_EVERY_S = 20.0
FRAME_S = 0.02
_random = np.random.default_rng(5)
QUIET = _random.integers(-60, 60, 480, np.int16).tobytes()
LOUD = _random.integers(-8000, 8000, 480, np.int16).tobytes()
CHUNK = bytes(PCM16_24K.size(100))
GROWN_MB = 8.0
"""Of a day, after its first eighth: the allocator's own noise."""


class _Count:
    """Takes the place of what a session heard: a day of it would fill the memory by itself."""

    def __init__(self) -> None:
        self.size = 0

    def __iadd__(self, audio: bytes) -> _Count:
        self.size += len(audio)
        return self


class Day:
    """A call, its caller, its model, and what befalls it."""

    def __init__(self, seed: int, *, resumption: bool) -> None:
        self.random = random.Random(seed)
        self.room = LoopbackRoom(keep_heard_s=5)
        self.model = HandModel(msgspec.structs.replace(CAPABILITIES, resumption=resumption))
        self.model.opening = self._opened
        # Fault upon fault: with the usual patience, half a minute of bad luck in a day would end the call.
        patient = CallConfig(call=CallSettings(retry=RetryPolicy(give_up_after_s=600)))
        self.bridge = RoomBridge(self.room, self.model, patient, name="day")
        self.bridge.tool(look_up)
        self.frames_heard: list[_Count] = []
        self.turns = self.replies = self.faults = 0
        self._heard_before = 0
        self._mouth = asyncio.Lock()
        self._loud = False

    def _opened(self, session: HandSession) -> None:
        count: Any = _Count()
        session.heard = count
        self.frames_heard.append(count)
        while len(self.frames_heard) > 10:
            self._heard_before += self.frames_heard.pop(0).size
        del self.model.sessions[:-10], self.model.standbys[:-10]

    @property
    def heard_frames(self) -> float:
        return (self._heard_before + sum(count.size for count in self.frames_heard)) / PCM16_24K.size(20)

    async def microphone(self) -> None:
        """Frames, one each 20 ms."""
        clock = asyncio.get_running_loop().time
        self.room.join("ada")
        due = clock()
        while True:
            self.room.speak("ada", LOUD if self._loud else QUIET)
            due += FRAME_S
            await asyncio.sleep(due - clock())

    async def talk(self) -> None:
        """Turn after turn, each with an answer."""
        while True:
            await self._turn()
            await asyncio.sleep(self.random.uniform(1, 8))
            self.room.captions.clear()
            self.room.states.clear()

    async def _turn(self) -> None:
        """What he says, what the model hears of it, now and then a tool, and the answer."""
        self.turns += 1
        self._loud = True
        if session := self._leader():
            session.emit(UserSpeechStarted(session.number))
        await asyncio.sleep(self.random.uniform(0.5, 3))
        self._loud = False
        await asyncio.sleep(0.5)
        text = f"the words of turn {self.turns}, which are like no others"
        if session := self._leader():
            session.emit(
                UserSpeechStopped(session.number), InputTranscript(session.number, f"u{self.turns}", text, True)
            )
        if self.random.random() < 0.1 and (session := self._leader()):
            session.emit(ToolCall(session.number, f"call-{self.turns}", "look_up", {"what": text}))
            await asyncio.sleep(0.8)
        if session := self._leader():
            await self._answer(session)

    async def obey(self) -> None:
        """Who is told to speak speaks: to a nudge, to what a lost session has left unsaid."""
        while True:
            await asyncio.sleep(0.3)
            session = self._leader()
            if session is not None and any(command in ("respond", "send_text") for command in session.commands):
                session.told.clear()
                await self._answer(session)

    async def _answer(self, session: HandSession) -> None:
        """Speech at twice its own speed; it may be cut, or the session be lost, on the way. One at a time."""
        async with self._mouth:
            await self._speak(session)

    async def _speak(self, session: HandSession) -> None:
        self.replies += 1
        number, reply = session.number, f"r{self.replies}"
        length = self.random.randrange(5, 40)
        cut_at = self.random.randrange(length) if self.random.random() < 0.15 else length
        tell(session, ReplyStarted(number, reply))
        for piece in range(cut_at):
            tell(session, OutputTranscript(number, reply, f" word{piece}"), SpeechChunk(number, reply, CHUNK))
            await asyncio.sleep(0.05)
        if cut_at == length:
            tell(session, GenerationComplete(number, reply), TurnComplete(number, reply))
        else:
            tell(session, Interrupted(number, reply), TurnComplete(number, reply, "interrupted"))
        tell(session, ResumptionUpdate(number, handle=f"handle-{self.replies}", resumable=True))

    async def fate(self) -> None:
        """A fault every 20 s."""
        while True:
            await asyncio.sleep(self.random.uniform(0.5, 1.5) * FAULT_EVERY_S)
            self.faults += 1
            kind = self.random.choice(("death", "outage", "go away", "go away", "go away", "nothing"))
            session = self._leader()
            if session is None or kind == "nothing":
                continue
            if kind == "outage":
                refused = self.random.randrange(1, 4)
                # A new error each time: one that is raised again and again keeps every frame that it went through.
                kinds = self.random.choices((ProviderUnavailable, SetupTimeout), k=refused)
                self.model.refuse += [kind("it is away") for kind in kinds]
            if kind == "go away":
                session.emit(GoAway(session.number, 10.0))
                await asyncio.sleep(10.0)
            if session.state is SessionState.READY:
                session.dies(ProviderUnavailable("it is away"))

    def _leader(self) -> HandSession | None:
        session = self.bridge.leading
        return session if isinstance(session, HandSession) and session.state is SessionState.READY else None


def tell(session: HandSession, *events: SessionEvent) -> None:
    """Nothing comes of a session that is closed."""
    if session.state is SessionState.READY:
        session.emit(*events)


async def look_up(what: str) -> str:
    """Look something up."""
    await asyncio.sleep(0.5)
    return f"found {what}"


def resident_mb() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 1e6


@pytest.fixture
def quiet_log() -> Iterator[None]:
    """pytest keeps every record of a test: those of a day would pass for our own growth."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def live(day: Day, hours: float) -> None:
    tasks = len(asyncio.all_tasks())
    async with day.bridge, asyncio.TaskGroup() as group:
        living = [
            group.create_task(day.microphone(), name="microphone"),
            group.create_task(day.talk(), name="talk"),
            group.create_task(day.obey(), name="obey"),
            group.create_task(day.fate(), name="fate"),
        ]
        running = group.create_task(day.bridge.run(), name="run")
        await asyncio.sleep(hours * 3600 / 8)
        warm_mb, warm_objects = resident_mb(), len(gc.get_objects())
        await asyncio.sleep(hours * 3600 * 7 / 8)
        assert not running.done(), "the call goes on"
        for task in living:
            if task.get_name() != "obey":
                task.cancel()
        day.model.refuse.clear()
        await asyncio.sleep(20)  # whatever has begun is over, and somebody leads
        counters = day.bridge.snapshot().counters
        grown_mb, objects = resident_mb() - warm_mb, len(gc.get_objects()) - warm_objects
        running.cancel()
        for task in living:
            task.cancel()
    assert len(asyncio.all_tasks()) == tasks
    print(  # noqa: T201 - for whoever runs it with -s
        f"\n{hours:g} h: {day.turns} turns, {day.faults} faults, {counters['sessions.sessions_opened']} sessions, "
        f"{day.heard_frames:.0f} frames heard, {counters['first_words.replayed_frames']} of them again, "
        f"memory {grown_mb:+.1f} MB, objects {objects:+d}"
    )
    # Each frame of the bus was heard once, but for those that were heard again and those that are counted as lost.
    again, lost = counters["first_words.replayed_frames"], counters["first_words.first_words_dropped_frames"]
    assert day.heard_frames == counters["mixer.frames"] + again - lost
    assert counters["conversation.replies"] > day.turns * 0.7
    assert grown_mb < GROWN_MB
    assert objects < 5000


@pytest.mark.timeout(60 + 120 * HOURS)
@pytest.mark.parametrize("resumption", [False, True], ids=["seeded", "by-handle"])
def test_a_call_of_a_day_loses_no_frame_and_keeps_nothing(resumption: bool, quiet_log: None) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(live(Day(3, resumption=resumption), HOURS))
