"""A session keeper at work on models moved by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import msgspec

from bridge.lanes.keeper import SessionKeeper
from bridge.lanes.open_sessions import OpenSessions
from bridge.lanes.settings import CallSettings
from bridge.sessions.feed import SessionFeed
from bridge.sessions.rollover import RolloverSettings
from providers.contract import (
    HistoryItem,
    ResumptionUpdate,
)
from providers.errors import (
    ProviderError,
    ProviderUnavailable,
)
from providers.health import HealthBook, HealthSettings
from providers.retry import RetryPolicy
from providers.signal.formats import PCM16_24K
from tests.fakes.hand_model import CAPABILITIES, HandModel, HandSession
from tests.fakes.lanes import ControlPart, OrderedLane, Remembers

__all__ = ["AT_ONCE", "GONE", "RESUMES", "KeptCall", "hands_out", "kept_call", "until"]

QUICK = RetryPolicy(base_s=0.001, longest_s=0.001, give_up_after_s=30)
AT_ONCE = RolloverSettings(quiet_ms=0, patience_s=0.0)
GONE = ProviderUnavailable("gone")
PATIENT = HealthSettings(retries_per_minute=100_000, failures_to_open=1000)
RESUMES = msgspec.structs.replace(CAPABILITIES, resumption=True)


class KeptCall:
    """A keeper at work on `models`."""

    def __init__(self, models: Sequence[HandModel], settings: CallSettings, health: HealthSettings) -> None:
        self.model = models[0]
        self.fast = OrderedLane()
        self.memory = Remembers()
        self.ended: list[ProviderError] = []
        self.sessions = OpenSessions(
            "test",
            make_feed=lambda session: SessionFeed(session, bus=PCM16_24K, room=PCM16_24K),
            opened=lambda number: None,
            gone=lambda number: None,
        )
        self.health = HealthBook(health)
        self.keeper = SessionKeeper(
            self.sessions,
            name="test",
            models=models,
            settings=settings,
            tool_specs=lambda: None,
            memory=self.memory,
            health=self.health,
            failed=self.ended.append,
            took_lead=lambda number: None,
            rng=random.Random(7),
        )
        self.fast.control = cast(ControlPart, self.keeper)  # nobody calls a tool here

    async def leads(self, number: int) -> None:
        await until(lambda: self.sessions.board.leader == number)

    @property
    def starts(self) -> list[tuple[str, tuple[HistoryItem, ...]]]:
        """What each session of the model began with."""
        return [(session.start.resume, session.start.history) for session in self.model.sessions]


@asynccontextmanager
async def kept_call(
    *models: HandModel,
    retry: RetryPolicy = QUICK,
    rollover: RolloverSettings = AT_ONCE,
    idle_s: float | None = None,
    health: HealthSettings = PATIENT,
) -> AsyncIterator[KeptCall]:
    settings = CallSettings(retry=retry, rollover=rollover, idle_close_s=idle_s)
    at_work = KeptCall(models or (HandModel(RESUMES),), settings, health)
    async with asyncio.TaskGroup() as group:
        at_work.keeper.start(group, at_work.fast)
        try:
            yield at_work
        finally:
            await at_work.keeper.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a condition of the outside has no event to wait for
            await asyncio.sleep(0.001)


def hands_out(session: HandSession, name: str, *, mid_turn: bool = False, resumable: bool = True) -> None:
    session.emit(ResumptionUpdate(session.number, name, resumable=resumable, mid_turn=mid_turn))
