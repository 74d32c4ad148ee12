"""Keeps a model session in the lead of one call: opens it, replaces it before or after its end, lets it sleep.

One task does all of it, in order, so that no two changes ever meet. What to do is decided without I/O: when to change
in `bridge.sessions.rollover`, how the successor takes up the thread in `bridge.sessions.thread`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

import msgspec

from bridge.lanes.keeper_ports import FastPort, KeeperStats, Memory
from bridge.lanes.open_sessions import OpenSessions
from bridge.lanes.settings import CallSettings
from bridge.lanes.succession import Succession
from bridge.lanes.understudy import Understudy
from bridge.lanes.wishes import Wishes
from bridge.sessions.board import Role
from bridge.sessions.handle import HandleKeeper
from bridge.sessions.rollover import Rollover, Scene, Step, Way, way_of
from bridge.sessions.thread import Thread, take_up
from providers.contract import (
    Closed,
    ResumptionUpdate,
    SessionStart,
    SpeechModel,
    Standby,
    ToolSpec,
)
from providers.errors import (
    NeedsNewSession,
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
    ResumeRefused,
    ResumeTooSoon,
    SessionEnded,
)
from providers.health import EndpointHealth, HealthBook

__all__ = ["SessionKeeper"]

log = logging.getLogger(__name__)

_HOLDS_AFTER_S = 10.0
"""A session that led this long did connect; one that is lost sooner counts as a failed attempt, or a provider that
accepts and closes at once would be asked again without end."""
_LOOK_EVERY_S = 0.02
_GOODBYE_S = 0.5
"""Nobody hears the room while the old session says goodbye before its handle is used."""
_TOO_SOON = 3
"""So often a handle may be refused because the session before it is not over yet."""
_DIAL_AT_LAST_S = 0.5
"""At the last safe moment a connection that is still being dialled gets this long."""


class SessionKeeper:
    """One call's leading session, whoever it is. Tasks run in the group given to `start`."""

    def __init__(
        self,
        sessions: OpenSessions,
        *,
        name: str,
        models: Sequence[SpeechModel],
        settings: CallSettings,
        tool_specs: Callable[[], tuple[ToolSpec, ...] | None],
        memory: Memory,
        health: HealthBook,
        failed: Callable[[ProviderError], None],
        took_lead: Callable[[int], None],
        owes_results: Callable[[], bool] = lambda: False,
        rng: random.Random | None = None,
    ) -> None:
        """Args: models, in the order of preference; failed is told when all are given up; took_lead, of each leader;
        owes_results says whether a new leader will be told what tools have returned."""
        self.stats = KeeperStats()
        self.sessions = sessions
        self._name = name
        self._settings = settings
        self._tool_specs = tool_specs
        self._memory = memory
        self._failed = failed
        self._took_lead = took_lead
        self._owes_results = owes_results
        self._rng = rng or random.Random()
        self._fast: FastPort | None = None
        self._group: asyncio.TaskGroup | None = None
        self._task: asyncio.Task[None] | None = None
        self._stirred = asyncio.Event()
        self._rollover = Rollover(settings.rollover)
        self._understudy = Understudy(name, self._not_dialled)
        self._handle = HandleKeeper()
        self._lost: Closed | None = None
        self._led_since = 0.0
        self._leaderless_since: float | None = None
        self._wishes = Wishes()
        self._succession = Succession(models, settings, health, self._rng)
        self._overrides = SessionStart()
        self._asleep = False

    # --------------------------------------------------------------------------------------------------- life

    def start(self, group: asyncio.TaskGroup, fast: FastPort) -> None:
        """Begin to open the first session; the group owns every task from now on."""
        self._group = group
        self._fast = fast
        self.sessions.start(fast)
        self._task = group.create_task(self._keep(), name=f"{self._name}:keep-leading")

    async def close(self) -> None:
        """End all sessions. Bounded by each session's own goodbye."""
        self.sessions.closing = True
        if self._task is not None:
            self._task.cancel()
        self._wishes.refuse(SessionEnded("the call is over"))
        await self._understudy.close()
        await self.sessions.close_all()

    @property
    def model(self) -> SpeechModel:
        """Of the session that leads, or leads next."""
        return self._succession.model

    # ------------------------------------------------------------------------------------- asked by the application

    async def open_session(self, model: SpeechModel | None = None, start: SessionStart | None = None) -> int:
        """Open one more session beside the leading one; returns its number. It neither leads nor hears yet.

        Raises: the provider's own errors; SessionEnded when the call ends or has ended.
        """
        self._must_be_running()
        number = await self.sessions.open(model or self.model, start or self._start())
        self.sessions.listen(number)
        return number

    def lead(self, number: int) -> None:
        """Give the lead to an open session; the one that had it drains. Raises ValueError if it is not open.

        From now on it is this session's model that is asked for another one when the lead is lost.
        """
        self.sessions.must_be_open(number)
        # The handle leads to the session that led before: the wrong one to bring back, perhaps even of another model.
        self._give_lead(number, resumed=number == self.sessions.board.leader)

    async def swap(self, model: SpeechModel) -> None:
        """Go on with `model`, from the next quiet moment on; returns when it leads.

        Raises: SessionEnded when the call ends first or another change is asked for; the provider's own error when it
        cannot be opened: the call then goes on as it was.
        """
        await self._ask(model, f"a change to {model.name}")

    async def update(
        self, *, instructions: str | None = None, tools: tuple[ToolSpec, ...] | None = None, voice: str | None = None
    ) -> None:
        """Change these for the rest of the call: in place where the provider can, else by a new session with them.

        Raises: SettingRefused for what the model cannot serve; as for `swap` otherwise. Nothing has changed then.
        """
        self._must_be_running()
        given = {"instructions": instructions, "tools": tools, "voice": voice}
        changed = {name: value for name, value in given.items() if value is not None}
        session = self.sessions.get(self.sessions.board.leader)
        before, self._overrides = self._overrides, msgspec.structs.replace(self._overrides, **changed)
        try:
            if session is not None:
                session.update(instructions=instructions, tools=tools, voice=voice)
        except NeedsNewSession:
            try:
                await self._ask(None, f"a change of {', '.join(changed)}")
            except ProviderError:
                self._overrides = before
                raise
        except SessionEnded:
            pass  # the next one is opened with them
        except ProviderError:
            self._overrides = before
            raise

    # --------------------------------------------------------------------------------------- told by the fast lane

    def resumption(self, update: ResumptionUpdate) -> None:
        """Of the leading session."""
        self._handle.update(update)

    def turn_began(self) -> None:
        """The leading session has begun a reply."""
        self._handle.turn_began()

    def go_away(self, time_left_s: float) -> None:
        """The provider has announced the end of the leading session."""
        self._rollover.go_away(self._now(), time_left_s)
        self._stirred.set()

    def wake(self) -> None:
        """Somebody wants the model again."""
        if self._asleep:
            self._asleep = False
            self.stats.idle_woken += 1
            self._lane.doze(False)
            self._stirred.set()

    def session_closed(self, closed: Closed) -> None:
        """A session has ended. A leader is replaced; the reason decides by whom."""
        led = self.sessions.board.role(closed.session) is Role.LEADING
        session = self.sessions.forget(closed.session)
        if session is None:
            return
        self._tasks.create_task(session.close(), name=f"{self._name}:close-session-{closed.session}")
        if not led or self.sessions.closing:
            return
        self._leaderless_since = self._now()
        self.stats.sessions_lost += 1
        log.warning(
            "model session lost call=%s session=%d code=%d reason=%s",
            self._name, closed.session, closed.code, closed.reason,
        )  # fmt: skip
        self._lost = closed
        self._stirred.set()

    # ---------------------------------------------------------------------------------------------- the one task

    async def _keep(self) -> None:
        try:
            while not self.sessions.closing:
                if self.sessions.board.leader is not None:
                    await self._serve()
                elif self._asleep:
                    await self._stir(None)
                else:
                    await self._after_loss()
                    await self._find_leader()
        except ProviderError as problem:
            self._failed(problem)

    async def _serve(self) -> None:
        """A session leads: wait for what ends that, and make the changes that are due."""
        now = self._now()
        if self._is_idle(now):
            await self._go_to_sleep()
            return
        if self._rollover.pending is not None and self._rollover.pending.prepared and self._understudy.is_gone:
            self._rollover.prepare_failed(now, 0.0)  # it has waited too long
        match self._rollover.step(self._scene(), now):
            case Step.PREPARE:
                self._lane.watch_speech(True)
                self._understudy.dial(self._next_model(), self._tasks)
            case Step.CHANGE:
                await self._change(forced=False)
            case Step.FORCE:
                await self._change(forced=True)
            case Step.WAIT:
                await self._stir(self._pause_s(now))

    async def _stir(self, pause_s: float | None) -> None:
        """Until something happens, or the pause is over."""
        try:
            async with asyncio.timeout(pause_s):
                await self._stirred.wait()
        except TimeoutError:
            return
        self._stirred.clear()

    def _pause_s(self, now: float) -> float | None:
        if self._rollover.pending is not None:
            return _LOOK_EVERY_S
        due = [at for at in (self._rollover.deadline(), self._idle_at()) if at is not None]
        return max(_LOOK_EVERY_S, min(due) - now) if due else None

    def _scene(self) -> Scene:
        if self._rollover.pending is None or not self._lane.is_quiet():
            return Scene(quiet=False)
        loose = self._lane.loose_ends()
        _, by_handle = self._way(self._next_model())
        return Scene(
            quiet=True,
            owed=loose.unanswered_from is not None or bool(loose.orders),
            covered=self._handle.covers_all or not by_handle,
        )

    # -------------------------------------------------------------------------------------------- planned changes

    def _next_model(self) -> SpeechModel:
        return self._wishes.model or self.model

    def _way(self, model: SpeechModel) -> tuple[Way, bool]:
        return way_of(
            self._settings.rollover,
            handle=bool(self._handle.value) and model.capabilities.resumption,
            same_model=model is self.model,
            overlapping_resume=model.capabilities.overlapping_resume,
            memory_is_wrong=self._memory.is_wrong,
        )

    def _not_dialled(self, model: SpeechModel, problem: ProviderError) -> None:
        self.stats.connect_failures += 1
        self._succession.health_of(model).failed(problem, self._now())
        self._rollover.prepare_failed(self._now(), self._rng.uniform(0.5, 1.5))
        if isinstance(problem, ProviderRejected):
            self._refuse_wish(problem)
        self._stirred.set()

    async def _change(self, *, forced: bool) -> None:
        """Replace the leading session."""
        before, change = self.sessions.board.leader, self._rollover.pending
        assert before is not None and change is not None, "a change was due"
        model = self._next_model()
        way, by_handle = self._way(model)
        log.info(
            "model session changes call=%s session=%d way=%s by_handle=%s forced=%s: %s",
            self._name, before, way, by_handle, forced, change.reason,
        )  # fmt: skip
        standby = await self._understudy.take(model, _DIAL_AT_LAST_S if forced else 60.0)
        if before != self.sessions.board.leader:
            if standby is not None:
                await self._find_leader(standby)
            return
        if way is Way.STANDBY:
            thread = self._thread(by_handle)
            self._count_change(forced)
            await self._end_leader(before)
            await self._find_leader(standby, thread)
        else:
            await self._overlap(model, standby, by_handle, forced=forced)

    async def _overlap(self, model: SpeechModel, standby: Standby | None, by_handle: bool, *, forced: bool) -> None:
        """Set the successor up beside the leader, and give it the lead if the call is then as it was told."""
        before, version = self.sessions.board.leader, self._memory.version
        thread = self._thread(by_handle)
        try:
            number = await self._open(model, thread, standby, by_handle=by_handle)
        except ProviderError as problem:
            self._rollover.spoiled(self._now(), self._rng.uniform(0.5, 1.5))
            if isinstance(problem, ResumeRefused):
                self._refused()
            if not isinstance(problem, ProviderUnavailable | ResumeRefused):
                self._refuse_wish(problem)
            return
        led = self.sessions.board.leader == before
        stale = not self._lane.is_quiet() or self._memory.version != version
        if stale and led and not forced:
            self.stats.changes_put_off += 1
            self._rollover.spoiled(self._now())
            await self.sessions.close(number)
            return
        self._count_change(forced)
        self._give_lead(number, resumed=by_handle, thread=self._thread(by_handle) if stale else thread)
        old = None if before is None else self.sessions.forget(before)
        if old is not None:
            self._tasks.create_task(old.close(), name=f"{self._name}:close-session-{old.number}")

    async def _end_leader(self, number: int) -> None:
        """Close the leading session and wait for it: its handle is not taken as long as it is open."""
        session = self.sessions.forget(number)
        if session is None:
            return
        self._leaderless_since = self._now()
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await session.close()
        except TimeoutError:
            pass  # a goodbye that is cut short ends the connection at once

    def _count_change(self, forced: bool) -> None:
        if forced:
            self.stats.changes_forced += 1
        else:
            self.stats.changes += 1

    # ------------------------------------------------------------------------------------------------- wishes

    async def _ask(self, model: SpeechModel | None, reason: str) -> None:
        self._must_be_running()
        granted = self._wishes.make(model)
        self._rollover.want(reason)
        self.wake()
        self._stirred.set()
        await granted

    def _refuse_wish(self, problem: ProviderError) -> None:
        if self._wishes.refuse(problem):
            self._rollover.drop_wish()

    # ----------------------------------------------------------------------------------------------- idle calls

    def _idle_at(self) -> float | None:
        after_s = self._settings.idle_close_s
        return None if after_s is None else max(self._lane.silent_since(), self._led_since) + after_s

    def _is_idle(self, now: float) -> bool:
        at = self._idle_at()
        return at is not None and now >= at and self._lane.is_quiet()

    async def _go_to_sleep(self) -> None:
        leader = self.sessions.board.leader
        assert leader is not None, "somebody led"
        log.info("nobody speaks: the model session is closed call=%s session=%d", self._name, leader)
        self.stats.idle_closed += 1
        self._asleep = True
        self._lane.doze(True)
        await self._end_leader(leader)
        self._leaderless_since = None

    # --------------------------------------------------------------------------------------------- finding a leader

    async def _after_loss(self) -> None:
        """Wait where the lost session had hardly begun. Raises: what it was lost for, when the patience is over."""
        lost, self._lost = self._lost, None
        if lost is None:
            return
        cause = lost.error
        if isinstance(cause, ProviderRejected):
            self._succession.health_of(self.model).failed(cause, self._now())
            self._to_next_model(cause)
            return
        if self._now() - self._led_since >= _HOLDS_AFTER_S:
            self._succession.backoff.succeeded()
            return
        self._handle.lost_soon()
        if not isinstance(cause, ProviderUnavailable):
            cause = ProviderUnavailable(f"session closed with {lost.code}: {cause or lost.reason or 'no reason'}")
        delay_s = self._succession.backoff.delay_s(cause, self._now())
        if delay_s is None:
            self._to_next_model(cause)
        elif self._succession.backoff.failures > 1:  # one loss is mended at once: the room is waiting
            await asyncio.sleep(delay_s)

    async def _find_leader(self, standby: Standby | None = None, thread: Thread | None = None) -> None:
        """Try as long as the retry policy allows, each model of the list in turn: resume if there is a handle, else
        start fresh with what was said. Returns when somebody leads, or the call ends.

        Raises: the last error when every model has been given up.
        """
        while not self._is_led() and not self.sessions.closing:
            model = self._next_model()
            if model is not self.model:
                self._handle.forget()
            by_handle = bool(self._handle.value) and model.capabilities.resumption
            try:
                number = await self._open(model, thread or self._thread(by_handle), standby, by_handle=by_handle)
            except ResumeRefused as problem:
                if not by_handle:
                    self._to_next_model(problem)  # of a fresh session there is nothing to refuse
                self._refused()
            except ProviderError as problem:
                if self._is_led():
                    return
                await self._wait_or_go_on(problem)
            else:
                if self._is_led():  # the application has given the lead to one of its own
                    await self.sessions.close(number)
                    return
                self._succession.model = model
                self._give_lead(number, resumed=by_handle, thread=thread or self._thread(by_handle))
                return
            standby = thread = None

    async def _wait_or_go_on(self, problem: ProviderError) -> None:
        delay_s = self._succession.backoff.delay_s(problem, self._now())
        if delay_s is None:
            self._to_next_model(problem)
            return
        if isinstance(problem, ResumeTooSoon) and self._succession.backoff.failures > _TOO_SOON:
            self._refused()  # the provider has not noticed the end of the one before: nobody can wait for that
        log.warning("model not reached call=%s retry_in_s=%.2f: %s", self._name, delay_s, problem)
        await asyncio.sleep(delay_s)

    def _to_next_model(self, problem: ProviderError) -> None:
        """The model that was tried is given up: the next healthy one of the list. Raises `problem` if there is none."""
        if self._next_model() is not self.model:  # the one wished for: the call stays with the one before
            self._refuse_wish(problem)
            return
        given_up = self._succession.give_up(problem, self._now())
        self._handle.forget()
        self.stats.failovers += 1
        log.warning(
            "call goes on with another model call=%s from=%s to=%s: %s",
            self._name, given_up.name, self.model.name, problem,
        )  # fmt: skip

    def _refused(self) -> None:
        self.stats.resumes_refused += 1
        self._handle.forget()

    # ------------------------------------------------------------------------------------------------- one session

    async def _open(self, model: SpeechModel, thread: Thread, standby: Standby | None, *, by_handle: bool) -> int:
        start = self._start()
        if by_handle:
            start = msgspec.structs.replace(start, resume=self._handle.value)
        else:
            history = self._memory.seed(model.capabilities, without_last_turn=thread.without_last_turn)
            start = msgspec.structs.replace(start, history=history)
        self._handle.tried(start.resume)
        health = self._succession.health_of(model)
        await self._until_allowed(model, health)
        try:
            number = await self.sessions.open(model, start, standby)
        except ProviderError as problem:
            if not isinstance(problem, ResumeRefused):
                self.stats.connect_failures += 1
            health.failed(problem, self._now())
            raise
        except BaseException:
            health.abandoned(self._now())
            raise
        health.succeeded(self._now())
        self.stats.sessions_opened += 1
        return number

    async def _until_allowed(self, model: SpeechModel, health: EndpointHealth) -> None:
        """Wait while nobody may ask this endpoint. Raises ProviderUnavailable where that takes too long, or another
        model of the list can be asked."""
        while (wait_s := health.begin(self._now())) > 0:
            if self._succession.others(model, self._now()) or wait_s > self._settings.retry.give_up_after_s:
                said = f"{model.endpoint} has failed too often: nobody asks it for {wait_s:.0f} s"
                raise ProviderUnavailable(said, retry_after_s=wait_s)
            await asyncio.sleep(wait_s)

    def _start(self) -> SessionStart:
        """As configured, with what was changed since."""
        tools = self._tool_specs() if self._overrides.tools is None else self._overrides.tools
        return msgspec.structs.replace(self._overrides, tools=tools)

    def _thread(self, by_handle: bool) -> Thread:
        return take_up(self._lane.loose_ends(), by_handle=by_handle, covered=self._handle.covers_all)

    def _give_lead(self, number: int, *, resumed: bool, thread: Thread | None = None) -> None:
        now = self._now()
        if self._leaderless_since is not None:
            missed_ms = (now - self._leaderless_since) * 1000
            self.stats.longest_leaderless_ms = max(self.stats.longest_leaderless_ms, missed_ms)
            self._leaderless_since = None
        if number != self.sessions.board.leader:
            self._led_since = now
            self._succession.model = self.sessions.model_of(number)
        if not resumed:
            self._handle.forget()
        thread = thread or Thread()
        session = self.sessions.get(number)
        assert session is not None, "it was opened"
        # What the successor must know comes before what it hears.
        note = self._memory.last_exchange() if thread.note else ""
        if note:
            session.send_text(note, respond=False)
        if thread.rewind_to is not None:
            self._lane.rewind(thread.rewind_to)
        self._rollover.led(now, session.capabilities.max_session_s)
        self.sessions.lead(number)
        if self.sessions.board.leader != number:
            return  # the first thing that it had to say was its end
        self._lane.watch_speech(False)
        # Only now is it known what the one before has left unsaid. A result that waits makes the model speak anyway.
        going_on = self._memory.going_on() if thread.go_on and not self._owes_results() else ""
        if going_on:
            self._lane.go_on(going_on)
        self._took_lead(number)
        self._wishes.grant()
        self._stirred.set()

    def _is_led(self) -> bool:
        return self.sessions.board.leader is not None

    def _must_be_running(self) -> None:
        if self.sessions.closing or self._group is None:
            raise SessionEnded("no call is running: no session is opened or changed")

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def _tasks(self) -> asyncio.TaskGroup:
        assert self._group is not None, "sessions are kept after start()"
        return self._group

    @property
    def _lane(self) -> FastPort:
        assert self._fast is not None, "sessions are kept after start()"
        return self._fast
