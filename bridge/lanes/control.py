"""The control lane: everything of a call that may wait. Keeps a session in the lead and runs tools."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence

import msgspec

from bridge.core.commands import Command
from bridge.core.errors import ModelFailed
from bridge.core.tool import Tool
from bridge.core.words import EndReason
from bridge.lanes.fast import FastLane
from bridge.lanes.fast_ports import Told
from bridge.lanes.keeper import SessionKeeper
from bridge.lanes.keeper_ports import Memory
from bridge.lanes.open_sessions import OpenSessions
from bridge.lanes.reports import Reports
from bridge.lanes.settings import CallSettings
from bridge.lanes.toolbox import Toolbox
from bridge.sessions.feed import SessionFeed
from providers.contract import (
    Closed,
    ErrorReported,
    ModelSession,
    SpeechModel,
    ToolCall,
    ToolSpec,
    WarningReported,
)
from providers.errors import ProviderError
from providers.health import HealthBook

__all__ = ["ControlLane", "ControlStats"]


class ControlStats(msgspec.Struct):
    listener_errors: int = 0
    """Exceptions that the application's listeners raised, each logged."""


class ControlLane:
    """One call's slow half. Owns its sessions and tool tasks; all tasks run in the group given to `start`."""

    def __init__(
        self,
        *,
        name: str,
        models: Sequence[SpeechModel],
        settings: CallSettings,
        tools: Mapping[str, Tool],
        make_feed: Callable[[ModelSession], SessionFeed],
        memory: Memory,
        health: HealthBook,
        ended: Callable[[EndReason | BaseException, str], None],
        published: Callable[[Command], None],
        rng: random.Random | None = None,
    ) -> None:
        """Args: models, in the order of preference: the first one leads, the others stand in for it."""
        self.stats = ControlStats()
        self.reports = Reports(name)
        self.tools = Toolbox(
            tools,
            settings,
            name=name,
            session=lambda number: self.sessions.get(number),
            answered=lambda event: self._lane.tool_answered(event),
            free=lambda: self._lane.floor_is_free,
        )
        self.sessions = OpenSessions(name, make_feed=make_feed, opened=self.tools.opened, gone=self.tools.gone)
        self.keeper = SessionKeeper(
            self.sessions,
            name=name,
            models=models,
            settings=settings,
            tool_specs=self._tool_specs,
            memory=memory,
            health=health,
            failed=self._failed,
            took_lead=self.tools.leads,
            owes_results=lambda: self.tools.desk.open > 0,
            rng=rng,
        )
        self._name = name
        self._tools_by_name = tools
        self._ended = ended
        self._published = published
        self._fast: FastLane | None = None

    # --------------------------------------------------------------------------------------------- life

    def start(self, group: asyncio.TaskGroup, fast: FastLane) -> None:
        """Begin to open the first session; the group owns every task from now on."""
        self._fast = fast
        self.tools.start(group)
        self.keeper.start(group, fast)

    def stop_opening(self) -> None:
        """The call is ending: a lost session is not replaced any more."""
        self.sessions.closing = True

    async def close(self) -> None:
        """End all tools and sessions. Bounded by each session's own goodbye."""
        self.sessions.closing = True
        self.tools.close()
        await self.keeper.close()

    # ---------------------------------------------------------------------------- asked by the fast lane

    def run_tool(self, call: ToolCall) -> None:
        self.tools.called(call)

    def cancel_tools(self, session: int, call_ids: Sequence[str]) -> None:
        self.tools.cancelled(session, call_ids)

    def results_settled(self, session: int) -> None:
        self.tools.settled(session)

    def end_call(self, reason: EndReason, detail: str) -> None:
        self._ended(reason, detail)

    def session_told(self, event: Told) -> None:
        self.keeper.session_told(event)

    def reported(self, report: ErrorReported | WarningReported) -> None:
        self.reports.add(report, asyncio.get_running_loop().time())
        if isinstance(report, ErrorReported) and report.call_id:
            self.tools.refused(report.session, report.call_id)

    def wake(self) -> None:
        self.keeper.wake()

    def session_closed(self, closed: Closed) -> None:
        self.keeper.session_closed(closed)

    def published(self, command: Command) -> None:
        self._published(command)

    # ------------------------------------------------------------------------------------------- inside

    def _tool_specs(self) -> tuple[ToolSpec, ...] | None:
        return tuple(tool.spec for tool in self._tools_by_name.values()) or None

    @property
    def _lane(self) -> FastLane:
        assert self._fast is not None, "the control lane works after start()"
        return self._fast

    def _failed(self, problem: ProviderError) -> None:
        failure = ModelFailed(f"{self.keeper.model.name}: {problem}")
        failure.__cause__ = problem
        self._ended(failure, "")
