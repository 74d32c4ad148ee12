"""The one task that keeps a model session in the lead of a call: replaces it before its end or after, lets it sleep.

One task does all of it, in order, so that no two changes ever meet. When to change is decided without I/O in
`bridge.sessions.rollover`; a session is given the lead by `bridge.lanes.lead`, and looked for after a loss by
`bridge.lanes.leader_search`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Sequence

from bridge.lanes.fast_ports import Told
from bridge.lanes.keeper_ports import FastPort, KeeperStats, Memory
from bridge.lanes.lead import Lead, kept_waiting
from bridge.lanes.leader_search import LeaderSearch
from bridge.lanes.open_sessions import OpenSessions
from bridge.lanes.requests import Requests
from bridge.lanes.settings import CallSettings
from bridge.lanes.succession import Succession
from bridge.lanes.understudy import Understudy
from bridge.lanes.wishes import Wish, Wishes
from bridge.sessions.board import Role
from bridge.sessions.overrides import Overrides
from bridge.sessions.rollover import Rollover, Scene, Step, Way, way_of
from bridge.sessions.thread import Thread
from providers.contract import (
    Closed,
    GoAway,
    ModelSession,
    ReplyStarted,
    ResumptionUpdate,
    SessionStart,
    SpeechModel,
    Standby,
    ToolSpec,
)
from providers.errors import (
    ProviderError,
    ResumeRefused,
    SessionEnded,
)
from providers.health import HealthBook

__all__ = ["SessionKeeper"]

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.02
_VANISHED = 1006
"""A connection ended without a word. Another one that waits may be as dead, and nobody knows it yet."""
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
        self._memory = memory
        self._failed = failed
        self._took_lead = took_lead
        self._fast: FastPort | None = None
        self._group: asyncio.TaskGroup | None = None
        self._task: asyncio.Task[None] | None = None
        self._stirred = asyncio.Event()
        self._rollover = Rollover(settings.rollover)
        self._lost: Closed | None = None
        self._asleep = False
        self._wishes = Wishes(refused=lambda: self._requests.dropped())
        self._succession = Succession(models, settings, health, rng or random.Random())
        self._understudy = Understudy(name, self._succession.health_of, self._not_dialled)
        self._lead = Lead(
            sessions,
            settings=settings,
            tool_specs=tool_specs,
            memory=memory,
            succession=self._succession,
            wishes=self._wishes,
            stats=self.stats,
            owes_results=owes_results,
        )
        self._requests = Requests(
            sessions,
            self._lead,
            self._wishes,
            self._rollover,
            patience_s=settings.retry.give_up_after_s,
            wanted=self._change_wanted,
        )
        self._search = LeaderSearch(
            name, sessions, self._lead, self._succession, self._wishes, self.stats, see_off=self._see_off
        )

    # --------------------------------------------------------------------------------------------------- life

    def start(self, group: asyncio.TaskGroup, fast: FastPort) -> None:
        """Begin to open the first session; the group owns every task from now on."""
        self._group = group
        self._fast = fast
        self.sessions.start(fast)
        self._lead.start(fast)
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
        model = model or self.model
        knows = self._lead.wanted(model) if start is None else self._lead.overrides.of(model.name)
        number = await self.sessions.open(model, start or self._lead.session_start(model), knows=knows)
        self.sessions.listen(number)
        return number

    def lead(self, number: int) -> None:
        """Give the lead to an open session; the one that had it drains. Raises ValueError if it is not open.

        From now on it is this session's model that is asked for another one when the lead is lost.
        """
        self.sessions.must_be_open(number)
        self.wake()
        # The handle leads to the session that led before: the wrong one to bring back, perhaps even of another model.
        self._give_lead(number, Thread(), resumed=number == self.sessions.board.leader)

    async def swap(self, model: SpeechModel) -> None:
        """Go on with `model`, from the next quiet moment on; returns when it leads.

        Raises: SessionEnded when the call ends first or another change is asked for; the provider's own error when it
        cannot be opened: the call then goes on as it was.
        """
        self._must_be_running()
        await self._requests.swap(model)

    async def update(
        self, *, instructions: str | None = None, tools: tuple[ToolSpec, ...] | None = None, voice: str | None = None
    ) -> None:
        """Change these for the rest of the call: in place where the provider can, else by a new session with them. A
        voice is changed for the models of the provider that leads.

        Raises: SettingRefused for what the model cannot serve; as for `swap` otherwise. Nothing has changed then.
        """
        self._must_be_running()
        changed = Overrides(instructions=instructions, tools=tools, voice=voice)
        await self._requests.update(changed, self._search.model)

    # --------------------------------------------------------------------------------------- told by the fast lane

    def session_told(self, event: Told) -> None:
        """By any session: of one beside the leader it is remembered, for it may be given the lead."""
        known = self.sessions.find(event.session)
        if known is None:
            return
        match event:
            case ReplyStarted():
                known.handle.turn_began()
            case ResumptionUpdate():
                known.handle.update(event)
            case GoAway(time_left_s=left_s):
                known.ends_at = self._now() + max(0.0, left_s)
                if event.session == self.sessions.board.leader:
                    self._rollover.go_away(self._now(), left_s)
                    if (wait_s := self._search.announced()) > 0:
                        self._rollover.hold(self._now(), wait_s)
                    self._stirred.set()

    def wake(self) -> None:
        """Somebody wants the model again."""
        if self._asleep:
            self._asleep = False
            self.stats.idle_woken += 1
            self._lane.doze(False)
            self._stirred.set()

    def _change_wanted(self) -> None:
        self.wake()
        self._stirred.set()

    def session_closed(self, closed: Closed) -> None:
        """A session has ended. A leader is replaced; the reason decides by whom."""
        led = self.sessions.board.role(closed.session) is Role.LEADING
        session = self.sessions.forget(closed.session)
        if session is None:
            return
        self._see_off(session)
        if not led or self.sessions.closing:
            return
        self._lead.vacant()
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
                    lost, self._lost = self._lost, None
                    if lost is not None:
                        await self._search.after(lost)
                    await self._find_leader(*await self._at_hand(lost))
        except ProviderError as problem:
            self._failed(problem)

    async def _serve(self) -> None:
        """A session leads: wait for what ends that, and make the changes that are due."""
        now = self._now()
        if self._is_idle(now):
            await self._go_to_sleep()
            return
        if self._rollover.pending is not None and self._rollover.pending.prepared and self._understudy.is_gone:
            self._rollover.prepared_is_gone(now, self._succession.pause_s(self._rollover.failures))
        match self._rollover.step(self._scene(), now):
            case Step.PREPARE:
                self._lane.watch_speech(True)
                model, again = self._search.model, self._rollover.failures > 0
                if (wait_s := self._understudy.dial(model, self._tasks, again=again)) > 0:
                    self._rollover.not_yet(now, wait_s, at_last=model is self.model)
                    self._requests.failed(self._wishes.of(model), kept_waiting(model, wait_s), wait_s)
            case (Step.CHANGE | Step.FORCE) as step if self._understudy.is_dialling and self._can_wait(step):
                await self._stir(_LOOK_EVERY_S)  # when it is there somebody may speak
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

    def _can_wait(self, step: Step) -> bool:
        """A connection that is being dialled is waited for, unless the leader is about to end."""
        change = self._rollover.pending
        return step is Step.CHANGE or change is None or not change.announced

    def _scene(self) -> Scene:
        if self._rollover.pending is None or not self._lane.is_quiet():
            return Scene(quiet=False)
        loose = self._lane.loose_ends()
        _, by_handle = self._way(self._search.model)
        return Scene(
            quiet=True,
            owed=loose.unanswered_from is not None or bool(loose.orders),
            covered=self._lead.handle.covers_all or not by_handle,
        )

    # -------------------------------------------------------------------------------------------- planned changes

    def _way(self, model: SpeechModel) -> tuple[Way, bool]:
        return way_of(
            self._settings.rollover,
            handle=bool(self._lead.handle.value) and model.capabilities.resumption,
            same_model=model is self.model,
            overlapping_resume=model.capabilities.overlapping_resume,
            memory_is_wrong=self._memory.is_wrong,
        )

    def _not_dialled(self, model: SpeechModel, problem: ProviderError) -> None:
        self.stats.not_opened(problem)
        pause_s = self._succession.pause_s(self._rollover.failures, problem)
        self._rollover.prepare_failed(self._now(), pause_s)
        self._requests.failed(self._wishes.of(model), problem, pause_s)
        self._stirred.set()

    async def _change(self, *, forced: bool) -> None:
        """Replace the leading session."""
        before, change = self.sessions.board.leader, self._rollover.pending
        assert before is not None and change is not None, "a change was due"
        self._search.replaces()
        model = self._search.model
        standby = await self._understudy.take(model, _DIAL_AT_LAST_S)
        if before != self.sessions.board.leader:
            if self._lead.is_held():  # the application has given the lead to one of its own
                self._see_off(standby)
            elif standby is not None:
                await self._find_leader(standby, model)
            return
        if self._rollover.pending is None or self._search.model is not model:  # nobody wishes for it any more
            self._rollover.spoiled(self._now(), 0.0)
            self._see_off(standby)
            return
        if forced and standby is None:
            model = self.model  # what is wished for is not at hand: it comes after
        way, by_handle = self._way(model)
        if way is Way.STANDBY and standby is None and not (forced and change.announced):
            self._rollover.prepared_is_gone(self._now(), self._succession.pause_s(self._rollover.failures))
            return  # who ends a leader that could serve on must know that another one is to be had
        log.info(
            "model session changes call=%s session=%d way=%s by_handle=%s forced=%s: %s",
            self._name, before, way, by_handle, forced, change.reason,
        )  # fmt: skip
        if way is Way.STANDBY:
            self._count_change(forced)
            await self._lead.end(before)
            await self._find_leader(standby, model)
        else:
            await self._overlap(model, standby, by_handle, forced=forced)

    async def _overlap(self, model: SpeechModel, standby: Standby | None, by_handle: bool, *, forced: bool) -> None:
        """Set the successor up beside the leader, and give it the lead if the call is then as it was told."""
        before, version, wish = self.sessions.board.leader, self._memory.version, self._wishes.of(model)
        thread = self._lead.thread(by_handle)
        try:
            number = await self._lead.open(model, thread, standby, by_handle=by_handle)
        except ProviderError as problem:
            pause_s = self._succession.pause_s(self._rollover.failures, problem)
            self._rollover.failed(self._now(), pause_s, at_last=model is self.model)
            if isinstance(problem, ResumeRefused):
                self._lead.handle_refused()
            # At the last safe moment nobody waits for another model than the call's own.
            self._requests.failed(wish, problem, math.inf if forced and model is not self.model else pause_s)
            return
        if not self._is_wanted(model, wish, before):
            self._rollover.spoiled(self._now(), 0.0)
            self._let_go(number)
            return
        led = self.sessions.board.leader
        stale = not self._lane.is_quiet() or self._memory.version != version
        if stale and led is not None and not forced:
            self.stats.changes_put_off += 1
            self._rollover.spoiled(self._now())
            self._let_go(number)
            return
        self._count_change(forced)
        self._give_lead(number, self._lead.thread(by_handle) if stale else thread, resumed=by_handle)
        if led is not None:
            self._let_go(led)

    def _is_wanted(self, model: SpeechModel, wish: Wish | None, before: int | None) -> bool:
        """Is the successor still wanted that was opened for this wish, or for none, while session `before` led?"""
        leader = self.sessions.board.leader
        if wish is not None and wish is self._wishes.open:
            return True
        if leader is None:
            return model is self.model  # the room waits: better one of the same model than none
        # Nobody wishes for it any more; or the application has given the lead to one of its own.
        return wish is None and leader == before

    def _count_change(self, forced: bool) -> None:
        if forced:
            self.stats.changes_forced += 1
        else:
            self.stats.changes += 1

    # ----------------------------------------------------------------------------------------------- idle calls

    def _idle_at(self) -> float | None:
        after_s = self._settings.idle_close_s
        return None if after_s is None else max(self._lane.silent_since(), self._lead.since) + after_s

    def _is_idle(self, now: float) -> bool:
        at = self._idle_at()
        return at is not None and now >= at and self._lane.is_quiet() and self._wishes.open is None

    async def _go_to_sleep(self) -> None:
        leader = self.sessions.board.leader
        assert leader is not None, "somebody led"
        self._search.replaces()
        log.info("nobody speaks: the model session is closed call=%s session=%d", self._name, leader)
        self.stats.idle_closed += 1
        self._asleep = True
        self._lane.doze(True)
        await self._lead.end(leader)
        self._lead.nobody_waits()

    # ------------------------------------------------------------------------------------------------ the lead

    async def _at_hand(self, lost: Closed | None) -> tuple[Standby | None, SpeechModel | None]:
        """What was dialled for a planned change, and to which model, when the leader ends before it. Nobody waits for
        what is still being dialled."""
        if lost is not None and lost.code == _VANISHED:
            return None, None
        model = self._search.model
        standby = await self._understudy.take(model, 0)
        return standby, None if standby is None else model

    async def _find_leader(self, standby: Standby | None = None, of: SpeechModel | None = None) -> None:
        found = await self._search.find(standby, of)
        if found is not None:
            self._give_lead(found.number, found.thread, resumed=found.by_handle)

    def _give_lead(self, number: int, thread: Thread, *, resumed: bool) -> None:
        self._lost = None  # made good, by whomever
        # Planned from here on: the first thing that it has to say may be its end.
        known = self.sessions.known(number)
        cap_s = known.session.capabilities.max_session_s
        self._rollover.led(self._now(), cap_s, opened_at=known.opened_at, ends_at=known.ends_at)
        lacks = self._lead.bring_up_to_date(number)
        if self._lead.give(number, thread, resumed=resumed):
            self._took_lead(number)
            self._requests.led_by(number, lacks)
            self._stirred.set()

    def _let_go(self, number: int) -> None:
        self._see_off(self.sessions.forget(number))

    def _see_off(self, who: ModelSession | Standby | None) -> None:
        """Nobody waits for its goodbye."""
        if who is not None:
            self._tasks.create_task(who.close(), name=f"{self._name}:goodbye")

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
