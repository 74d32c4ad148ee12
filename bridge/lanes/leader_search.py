"""Finds a leader for a call that has none: waits, asks again, goes over to the next model while patience lasts."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

import msgspec

from bridge.lanes.keeper_ports import KeeperStats
from bridge.lanes.lead import Lead
from bridge.lanes.open_sessions import OpenSessions
from bridge.lanes.succession import Succession
from bridge.lanes.wishes import Wish, Wishes
from bridge.sessions.thread import Thread
from providers.contract import Closed, ModelSession, SpeechModel, Standby
from providers.errors import ProviderError, ProviderRejected, ProviderUnavailable, ResumeRefused, ResumeTooSoon

__all__ = ["Found", "LeaderSearch"]

log = logging.getLogger(__name__)

_HOLDS_AFTER_S = 10.0
"""A session that led this long did connect; one that is lost sooner counts as a failed attempt, or a provider that
accepts and closes at once would be asked again without end."""
_AT_ONCE_S = 1.0
"""An attempt so soon after a loss is the first."""
_TOO_SOON = 3
"""So often a handle may be refused because the session before it is not over yet."""


class _Early(msgspec.Struct, frozen=True):
    """The provider announced the end of a session that had hardly begun."""

    leader: int
    """`Lead.given` while it led."""
    until: float
    """Not replaced before: the wait after a failed attempt."""
    cause: ProviderUnavailable
    given_up: bool
    """There was no patience left for it."""


class _Replaced(msgspec.Struct, frozen=True):
    """A session that had led for too short to have lasted, and was replaced on purpose."""

    leader: int
    """`Lead.given` while it led."""
    begun: float | None
    """Since when it had served, with those before it that were replaced like this. None: its end was announced."""


class Found(msgspec.Struct, frozen=True):
    """A session that is open and may be given the lead."""

    number: int
    thread: Thread
    by_handle: bool


class LeaderSearch:
    """One call's way back to a leader, after a loss or a planned end."""

    def __init__(
        self,
        name: str,
        sessions: OpenSessions,
        lead: Lead,
        succession: Succession,
        wishes: Wishes,
        stats: KeeperStats,
        *,
        see_off: Callable[[ModelSession | Standby | None], None],
    ) -> None:
        """Args: see_off closes what nobody wants any more, if there is any, and waits for nothing."""
        self._name = name
        self._sessions = sessions
        self._lead = lead
        self._succession = succession
        self._wishes = wishes
        self._stats = stats
        self._see_off = see_off
        self._early: _Early | None = None
        """The newest."""
        self._replaced: _Replaced | None = None
        """The newest, unless something has failed since."""
        self._refusal: ProviderError | None = None
        """Why the attempt before this one failed, of the same search."""

    @property
    def model(self) -> SpeechModel:
        """Of the next session: the one wished for, or the one of the call."""
        return self._wishes.model or self._succession.model

    def replaces(self) -> None:
        """The session that leads is about to be replaced on purpose. If it has lasted, earlier trouble is over: the
        next failure is a first one. Else its time counts for its successor, unless its early end was announced."""
        if self._has_lasted():
            self._succession.backoff.succeeded()
        else:
            early = self._early is not None and self._early.leader == self._lead.given
            self._replaced = _Replaced(self._lead.given, None if early else self._begun())

    def announced(self) -> float:
        """The provider has announced the end of the session that leads. Seconds for which it may not be replaced.

        0, unless it had hardly begun, as others before it: a provider that does so each time would be asked for new
        sessions without end, so that this counts as a failed attempt. When the patience is over the session is left to
        its end.
        """
        now = self._now()
        if self._has_lasted():
            return 0.0
        if self._early is None or self._early.leader != self._lead.given:
            cause = ProviderUnavailable(
                f"{self._succession.model.endpoint} announces the end of each session as soon as it has begun"
            )
            delay_s = self._succession.backoff.delay_s(cause, now)
            first = self._succession.backoff.failures == 1  # as one loss: the room is waiting
            wait_s = 0.0 if first else self._succession.longest_wait_s if delay_s is None else delay_s
            self._early = _Early(self._lead.given, now + wait_s, cause, given_up=delay_s is None and not first)
        return max(0.0, self._early.until - now)

    async def after(self, lost: Closed) -> None:
        """Wait where the lost session had hardly begun. Raises: what it was lost for, when the patience is over."""
        cause, early = lost.error, self._early
        if isinstance(cause, ProviderRejected):
            self._succession.health_of(self._succession.model).failed(cause, self._now())
            self._to_next_model(cause)
            return
        lasted = self._has_lasted()
        self._replaced = None
        if lasted:
            self._succession.backoff.succeeded()
            return
        if early is not None and early.leader == self._lead.given:  # it is counted
            if early.given_up:
                self._to_next_model(early.cause)
            else:
                await asyncio.sleep(max(0.0, early.until - self._now()))
            return
        self._lead.handle.lost_soon()
        self._begin()
        if not isinstance(cause, ProviderUnavailable):
            cause = ProviderUnavailable(f"session closed with {lost.code}: {cause or lost.reason or 'no reason'}")
        delay_s = self._succession.backoff.delay_s(cause, self._now())
        if delay_s is None:
            self._to_next_model(cause)
        elif self._succession.backoff.failures > 1:  # one loss is mended at once: the room is waiting
            await asyncio.sleep(delay_s)

    async def find(self, standby: Standby | None = None, of: SpeechModel | None = None) -> Found | None:
        """Try as long as the retry policy allows, each model of the list in turn: resume if there is a handle, else
        start fresh with what was said. None: somebody leads, or the call ends. That bounds attempts and waits together.

        Args: standby is a connection that waits, to the model `of`. Without one, `of` is asked first, whatever is
            wished for.
        Raises: the last error when every model has been given up.
        """
        self._begin()
        self._refusal = None
        try:
            return await self._find(standby, of)
        finally:
            if self._succession.backoff.failures == 0:
                self._succession.backoff.succeeded()  # there was no trouble at all: the patience is whole again

    async def _find(self, standby: Standby | None, of: SpeechModel | None) -> Found | None:
        while not self._lead.is_held() and not self._sessions.closing:
            self._drop_what_fails()
            model = self.model
            if standby is not None and model is not of:  # another one is wished for by now
                self._see_off(standby)
                standby = of = None
                continue
            model = of or model
            wish = self._wishes.of(model)
            by_handle = model is self._succession.model and bool(self._lead.handle.value)
            by_handle = by_handle and model.capabilities.resumption
            try:
                number = await self._open(model, standby, by_handle=by_handle)
            except ResumeRefused as problem:
                if by_handle:
                    self._lead.handle_refused()
                    standby = None
                    continue
                if not self._drops(wish, model, problem):
                    self._to_next_model(problem)  # of a fresh session there is nothing to refuse
            except ProviderError as problem:
                if self._lead.is_held():
                    return None
                if not self._drops(wish, model, problem):
                    await self._wait_or_go_on(problem)
            else:
                if self._lead.is_held():  # the application has given the lead to one of its own
                    self._see_off(self._sessions.forget(number))
                    return None
                if model is not self._succession.model and model is not self._wishes.model:
                    self._see_off(self._sessions.forget(number))  # nobody wishes for it any more
                    standby = of = None
                    continue
                # As things stand now: somebody may have spoken up while nobody heard him.
                return Found(number, self._lead.thread(by_handle), by_handle)
            standby = of = None
        self._see_off(standby)
        return None

    def _drop_what_fails(self) -> None:
        """Another model that could not be had while somebody led is not waited for now that nobody does."""
        wish = self._wishes.open
        if wish is not None and wish.failure is not None and wish.model not in (None, self._succession.model):
            self._wishes.refuse(wish.failure)

    def _drops(self, wish: Wish | None, model: SpeechModel, problem: ProviderError) -> bool:
        """Is it only a wish that cannot be had? Nobody leads, which is worse: it is refused at its first failure, and
        costs the call nothing of its own patience."""
        if wish is None or (model is self._succession.model and isinstance(problem, ProviderUnavailable)):
            return False
        if wish is self._wishes.open:
            self._wishes.refuse(problem)
        if self._succession.backoff.failures == 0:
            self._succession.backoff.succeeded()
            self._succession.backoff.begin(self._now())
        return True

    def _begin(self) -> None:
        since = self._lead.vacant_since
        self._succession.backoff.begin(self._now() if since is None else since)

    async def _open(self, model: SpeechModel, standby: Standby | None, *, by_handle: bool) -> int:
        """As `Lead.open`, within what is left of the patience."""
        until = self._attempt_until(model)
        try:
            async with asyncio.timeout_at(None if until == math.inf else until):
                return await self._lead.open(model, self._lead.thread(by_handle), standby, by_handle=by_handle)
        except TimeoutError:
            said = f"{model.endpoint} was not reached in the time that a call waits for it"
            late = ProviderUnavailable(f"{said}; before that: {self._refusal}" if self._refusal else said)
            self._lead.broken_off(model, late)
            raise late from None

    def _attempt_until(self, model: SpeechModel) -> float:
        """When an attempt that begins now is broken off; inf: it has all the time that connecting and setup may take,
        as the first one after a loss or a planned end has, which may be the only one."""
        planned = self._replaced is not None and self._replaced.leader == self._lead.given
        if planned or model is not self._succession.model:
            return math.inf
        now, backoff = self._now(), self._succession.backoff
        at_once = backoff.failures <= 1 and now - backoff.begin(now) < _AT_ONCE_S
        return math.inf if at_once or (backoff.failures == 0 and now >= backoff.until) else backoff.until

    async def _wait_or_go_on(self, problem: ProviderError) -> None:
        self._refusal, self._replaced = problem, None
        delay_s = self._succession.backoff.delay_s(problem, self._now())
        if delay_s is None:
            self._to_next_model(problem)
            return
        if isinstance(problem, ResumeTooSoon) and self._succession.backoff.failures > _TOO_SOON:
            self._lead.handle_refused()  # the provider has not noticed the end of the one before: nobody can wait
        log.warning("model not reached call=%s retry_in_s=%.2f: %s", self._name, delay_s, problem)
        await asyncio.sleep(delay_s)

    def _to_next_model(self, problem: ProviderError) -> None:
        """The call's model is given up: the next healthy one of the list. Raises `problem` if there is none."""
        if self.model is not self._succession.model:
            return  # first the one that is wished for
        given_up = self._succession.give_up(problem, self._now())
        self._refusal = None
        self._lead.handle.forget()
        self._stats.failovers += 1
        log.warning(
            "call goes on with another model call=%s from=%s to=%s: %s",
            self._name, given_up.name, self._succession.model.name, problem,
        )  # fmt: skip

    def _has_lasted(self) -> bool:
        return self._now() - self._begun() >= _HOLDS_AFTER_S

    def _begun(self) -> float:
        """What the session that leads, or led last, has lasted for is counted from here."""
        if self._early is not None and self._early.leader == self._lead.given:
            return self._early.until  # that it was not replaced before is no merit of its own
        before = self._replaced
        if before is not None and before.begun is not None and self._lead.given - before.leader <= 1:
            return before.begun
        return self._lead.since

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
