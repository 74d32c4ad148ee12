"""The control lane: everything of a call that may wait. Keeps a session in the lead and runs tools."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence

import msgspec

from bridge.core.commands import Command
from bridge.core.errors import ModelFailed
from bridge.core.tool import Tool
from bridge.core.words import EndReason
from bridge.lanes.fast import FastLane
from bridge.lanes.settings import CallSettings
from bridge.lanes.toolbox import Toolbox
from bridge.sessions.board import Role, SessionBoard
from bridge.sessions.feed import SessionFeed
from providers.contract import (
    Capabilities,
    Closed,
    HistoryItem,
    ModelSession,
    ResumptionUpdate,
    SessionStart,
    SpeechModel,
    ToolCall,
    ToolSpec,
)
from providers.errors import ProviderError, ProviderRejected, ProviderUnavailable, ResumeRefused, SessionEnded
from providers.retry import Backoff

__all__ = ["ControlLane", "ControlStats"]

log = logging.getLogger(__name__)

_HOLDS_AFTER_S = 10.0
"""A session that led this long did connect; one that is lost sooner counts as a failed attempt, or a provider that
accepts and closes at once would be asked again without end."""


class ControlStats(msgspec.Struct):
    sessions_opened: int = 0
    sessions_lost: int = 0
    """Leading sessions that ended without our asking."""
    connect_failures: int = 0
    resumes_refused: int = 0
    listener_errors: int = 0
    """Exceptions that the application's listeners raised, each logged."""


class ControlLane:
    """One call's slow half. Owns its sessions and tool tasks; all tasks run in the group given to `start`."""

    def __init__(
        self,
        *,
        name: str,
        model: SpeechModel,
        settings: CallSettings,
        tools: Mapping[str, Tool],
        make_feed: Callable[[ModelSession], SessionFeed],
        history: Callable[[Capabilities], tuple[HistoryItem, ...]],
        ended: Callable[[EndReason | BaseException, str], None],
        published: Callable[[Command], None],
        rng: random.Random | None = None,
    ) -> None:
        self.stats = ControlStats()
        self.board = SessionBoard()
        self.tools = Toolbox(
            tools,
            settings,
            name=name,
            session=lambda number: self._sessions.get(number),
            answered=lambda event: self._fast_lane.tool_answered(event),
            free=lambda: self._fast_lane.floor_is_free,
        )
        self._name = name
        self._model = model
        self._settings = settings
        self._tools_by_name = tools
        self._make_feed = make_feed
        self._history = history
        self._ended = ended
        self._published = published
        self._rng = rng or random.Random()
        self._fast: FastLane | None = None
        self._group: asyncio.TaskGroup | None = None
        self._sessions: dict[int, ModelSession] = {}
        self._models: dict[int, SpeechModel] = {}
        """Whose session it is, by number."""
        self._leader_lost = asyncio.Event()
        self._lost: Closed | None = None
        self._backoff = Backoff(settings.retry, self._rng)
        self._handle = ""
        """Of the session that leads, or of the one that was lost last."""
        self._resumed_with = ""
        self._led_since = 0.0
        self._closing = False
        self._keeper: asyncio.Task[None] | None = None

    # --------------------------------------------------------------------------------------------- life

    def start(self, group: asyncio.TaskGroup, fast: FastLane) -> None:
        """Begin to open the first session; the group owns every task from now on."""
        self._group = group
        self._fast = fast
        self.tools.start(group)
        self._keeper = group.create_task(self._keep_leading(), name=f"{self._name}:keep-leading")

    def stop_opening(self) -> None:
        """The call is ending: a lost session is not replaced any more."""
        self._closing = True

    async def close(self) -> None:
        """End all tools and sessions. Bounded by each session's own goodbye."""
        self._closing = True
        if self._keeper is not None:
            self._keeper.cancel()
        self.tools.close()
        goodbyes = await asyncio.gather(
            *(session.close() for session in self._sessions.values()), return_exceptions=True
        )
        self._sessions.clear()
        self._models.clear()
        for failed in goodbyes:
            if isinstance(failed, Exception):
                log.error("session not closed call=%s", self._name, exc_info=failed)

    # ----------------------------------------------------------------------------- sessions, by hand

    async def open_session(self, model: SpeechModel | None = None, start: SessionStart | None = None) -> int:
        """Open one more session beside the leading one; returns its number. It neither leads nor hears yet.

        Raises: the provider's own errors; SessionEnded when the call ends or has ended.
        """
        assert self._group is not None, "enter the bridge first: sessions are opened during a call"
        if self._closing:
            raise SessionEnded("the call is over: no session is opened any more")
        number = await self._open(model or self._model, start or self._fresh())
        self._listen(number)
        return number

    def lead(self, number: int) -> None:
        """Give the lead to an open session; the one that had it drains. Raises ValueError if it is not open.

        From now on it is this session's model that is asked for another one when the lead is lost.
        """
        self._must_be_open(number)
        if number != self.board.leader:
            # It leads to the session that led before: the wrong one to bring back, perhaps even of another model.
            self._handle = self._resumed_with = ""
        self._give_lead(number)

    def hear(self, number: int, hears: bool) -> None:
        """Send microphone audio to this session too, or no longer."""
        self._must_be_open(number)
        self.board.hear(number, hears)
        self._fast_lane.hear(self.board.hearing())

    async def close_session(self, number: int) -> None:
        """Close a session that does not lead. Raises ValueError for the leader."""
        if number == self.board.leader:
            raise ValueError(f"session {number} leads: give the lead to another one first")
        session = self._forget(number)
        if session is not None:
            await session.close()

    # ---------------------------------------------------------------------------- asked by the fast lane

    def run_tool(self, call: ToolCall) -> None:
        self.tools.called(call)

    def cancel_tools(self, session: int, call_ids: Sequence[str]) -> None:
        self.tools.cancelled(session, call_ids)

    def results_settled(self, session: int) -> None:
        self.tools.settled(session)

    def end_call(self, reason: EndReason, detail: str) -> None:
        self._ended(reason, detail)

    def resumption(self, update: ResumptionUpdate) -> None:
        # A handle from the midst of a turn would lose that turn: an older one is better, none is worse.
        if update.resumable and (not update.mid_turn or not self._handle):
            self._handle = update.handle

    def session_closed(self, closed: Closed) -> None:
        """A session has ended. A leader is replaced; the reason decides whether that makes sense."""
        led = self.board.role(closed.session) is Role.LEADING
        session = self._forget(closed.session)
        if session is None:
            return
        assert self._group is not None, "sessions close after start()"
        self._group.create_task(session.close(), name=f"{self._name}:close-session-{closed.session}")
        if not led or self._closing:
            return
        self.stats.sessions_lost += 1
        log.warning(
            "model session lost call=%s session=%d code=%d reason=%s",
            self._name, closed.session, closed.code, closed.reason,
        )  # fmt: skip
        if isinstance(closed.error, ProviderRejected):
            self._fail(closed.error)
        else:
            self._lost = closed
            self._leader_lost.set()

    def published(self, command: Command) -> None:
        self._published(command)

    # ------------------------------------------------------------------------------------------- inside

    @property
    def _fast_lane(self) -> FastLane:
        assert self._fast is not None, "the control lane works after start()"
        return self._fast

    def _must_be_open(self, number: int) -> None:
        if number not in self._sessions:
            raise ValueError(f"session {number} is not open (open: {list(self._sessions) or 'none'})")

    def _is_led(self) -> bool:
        return self.board.leader is not None

    def _give_lead(self, number: int) -> None:
        if number != self.board.leader:
            self._led_since = asyncio.get_running_loop().time()
            self._model = self._models[number]
        self.board.lead(number)
        self._fast_lane.lead(number, self.board.hearing())
        self.tools.leads(number)

    async def _keep_leading(self) -> None:
        """Open a session, give it the lead, and do so again whenever it is lost."""
        loop = asyncio.get_running_loop()
        while not self._closing:
            try:
                number = await self._open_in_budget()
                self._leader_lost.clear()  # whoever was lost meanwhile: somebody leads now
                if number is not None and self.board.leader is None:
                    # First the lead: a model that speaks up by itself may have said its first words already, and what
                    # it said comes with the first listener.
                    self._give_lead(number)
                    self._listen(number)
                elif number is not None:  # the application has given the lead to another one meanwhile
                    await self.close_session(number)
                await self._leader_lost.wait()
                await self._after_loss(loop.time() - self._led_since)
            except ProviderError as problem:
                self._fail(problem)
                return

    async def _after_loss(self, held_s: float) -> None:
        """Wait where the lost session had hardly begun. Raises: what it was lost for, when the patience is over."""
        if held_s >= _HOLDS_AFTER_S:
            self._backoff.succeeded()
            return
        if self._handle == self._resumed_with:
            self._handle = ""  # what it leads to does not live: start fresh, with what was said
        lost = self._lost
        assert lost is not None, "set before the event"
        cause = lost.error
        if not isinstance(cause, ProviderUnavailable):
            cause = ProviderUnavailable(f"session closed with {lost.code}: {cause or lost.reason or 'no reason'}")
        delay_s = self._backoff.delay_s(cause, asyncio.get_running_loop().time())
        if delay_s is None:
            raise cause
        if self._backoff.failures > 1:  # one loss is mended at once: the room is waiting
            await asyncio.sleep(delay_s)

    async def _open_in_budget(self) -> int | None:
        """Try as long as the retry policy allows: resume if there is a handle, else start fresh with what was said.

        None: the application has given the lead to a session of its own meanwhile, so that no attempt is needed.
        Raises: the last `ProviderUnavailable`, or any other `ProviderError` at once.
        """
        loop = asyncio.get_running_loop()
        while not self._is_led():
            start = self._again()
            try:
                return await self._open(self._model, start)
            except ResumeRefused:
                self.stats.resumes_refused += 1
                if not start.resume:
                    raise  # of a fresh session there is nothing to refuse: asking again would never end
                if self._handle == start.resume:
                    self._handle = ""
            except ProviderError as problem:
                self.stats.connect_failures += 1
                if self._is_led():
                    break
                delay_s = self._backoff.delay_s(problem, loop.time())
                if delay_s is None:
                    raise
                log.warning("model not reached call=%s retry_in_s=%.2f: %s", self._name, delay_s, problem)
                await asyncio.sleep(delay_s)
        return None

    def _fresh(self) -> SessionStart:
        return SessionStart(tools=self._tool_specs())

    def _tool_specs(self) -> tuple[ToolSpec, ...] | None:
        return tuple(tool.spec for tool in self._tools_by_name.values()) or None

    def _again(self) -> SessionStart:
        self._resumed_with = self._handle
        if self._handle:
            return SessionStart(resume=self._handle, tools=self._tool_specs())
        return SessionStart(history=self._history(self._model.capabilities), tools=self._tool_specs())

    async def _open(self, model: SpeechModel, start: SessionStart) -> int:
        """Open a session that nobody listens to yet."""
        number = self.board.open()
        try:
            session = await model.connect(msgspec.structs.replace(start, number=number))
        except BaseException:
            self.board.close(number)
            raise
        if self._closing:  # nobody else would ever close it
            self.board.close(number)
            await session.close()
            raise SessionEnded("the call ended while a session was being opened")
        self.stats.sessions_opened += 1
        self._sessions[number] = session
        self._models[number] = model
        feed = self._make_feed(session)
        feed.resumed = bool(start.resume)
        self._fast_lane.add_session(feed)
        self.tools.opened(number)
        return number

    def _listen(self, number: int) -> None:
        self._fast_lane.listen(number)

    def _forget(self, number: int) -> ModelSession | None:
        self.board.close(number)
        self._fast_lane.remove_session(number)
        self._models.pop(number, None)
        session = self._sessions.pop(number, None)
        self.tools.gone(number)
        return session

    def _fail(self, problem: ProviderError) -> None:
        failure = ModelFailed(f"{self._model.name}: {problem}")
        failure.__cause__ = problem
        self._ended(failure, "")
