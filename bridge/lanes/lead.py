"""Gives a session the lead of a call: opens it, tells it what it must know, lets it take up the thread.

How the thread is taken up is decided in `bridge.sessions.thread`; which model is asked, and when, by the callers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from bridge.lanes.keeper_ports import FastPort, KeeperStats, Memory
from bridge.lanes.open_sessions import OpenSessions
from bridge.lanes.settings import CallSettings
from bridge.lanes.succession import Succession
from bridge.lanes.wishes import Wishes
from bridge.sessions.handle import HandleKeeper
from bridge.sessions.overrides import CallOverrides, Overrides
from bridge.sessions.thread import Thread, take_up
from providers.contract import SessionStart, SpeechModel, Standby, ToolSpec
from providers.errors import (
    NeedsNewSession,
    ProviderError,
    ProviderUnavailable,
    SessionEnded,
    SettingRefused,
)
from providers.health import EndpointHealth

__all__ = ["Lead", "kept_waiting"]

log = logging.getLogger(__name__)

_GOODBYE_S = 0.5
"""Nobody hears the room while the old session says goodbye before its handle is used."""
_FAIR_S = 2.0
"""An attempt that is broken off sooner shows nothing: a service that is well may take as long."""


def kept_waiting(model: SpeechModel, wait_s: float) -> ProviderUnavailable:
    """What keeps us from asking it."""
    said = f"{model.endpoint} has failed too often: nobody asks it for {wait_s:.0f} s"
    return ProviderUnavailable(said, retry_after_s=wait_s)


class Lead:
    """The lead of one call, and what goes with it from one session to the next: the handle, and changed settings."""

    def __init__(
        self,
        sessions: OpenSessions,
        *,
        settings: CallSettings,
        tool_specs: Callable[[], tuple[ToolSpec, ...] | None],
        memory: Memory,
        succession: Succession,
        wishes: Wishes,
        stats: KeeperStats,
        owes_results: Callable[[], bool],
    ) -> None:
        """Args: owes_results says whether a new leader will be told what tools have returned."""
        self.handle = HandleKeeper()
        self.overrides = CallOverrides()
        """What was changed since the call began."""
        self.since = 0.0
        """When the session that leads, or led last, was given the lead."""
        self.given = 0
        """How often it went to another session."""
        self._sessions = sessions
        self._settings = settings
        self._tool_specs = tool_specs
        self._memory = memory
        self._succession = succession
        self._wishes = wishes
        self._stats = stats
        self._owes_results = owes_results
        self._fast: FastPort | None = None
        self._vacant_since: float | None = None
        self._began_at: float | None = None
        """When the newest attempt to open a session began; None: nobody was asked yet."""

    @property
    def vacant_since(self) -> float | None:
        """When the room began to wait for a leader; None: it does not."""
        return self._vacant_since

    def start(self, fast: FastPort) -> None:
        self._fast = fast

    def is_held(self) -> bool:
        return self._sessions.board.leader is not None

    # ------------------------------------------------------------------------------------------------------ open

    def wanted(self, model: SpeechModel) -> Overrides:
        """Of the next session, if it is this model's: what was changed, and what is wished for."""
        return self._wishes.overrides.over(self.overrides.of(model.name))

    def session_start(self, model: SpeechModel) -> SessionStart:
        """As configured, with what was changed since and is wished for."""
        changed = self.wanted(model)
        tools = self._tool_specs() if changed.tools is None else changed.tools
        return SessionStart(instructions=changed.instructions, tools=tools, voice=changed.voice)

    def thread(self, by_handle: bool) -> Thread:
        """How a session that is opened now takes up the thread."""
        return take_up(self._lane.loose_ends(), by_handle=by_handle, covered=self.handle.covers_all)

    async def open(self, model: SpeechModel, thread: Thread, standby: Standby | None, *, by_handle: bool) -> int:
        """Open a session that may be given the lead; returns its number.

        Raises: the provider's own errors; SessionEnded when the call ends meanwhile.
        """
        try:
            return await self._open_with_a_voice(model, thread, standby, by_handle=by_handle)
        except BaseException:
            if standby is not None:
                await standby.close()  # which still waits where a setting is refused, or nobody may ask the endpoint
            raise

    async def _open_with_a_voice(
        self, model: SpeechModel, thread: Thread, standby: Standby | None, *, by_handle: bool
    ) -> int:
        try:
            return await self._open(model, thread, standby, by_handle=by_handle)
        except SettingRefused as refused:
            changed = self.overrides.of(model.name).voice
            if changed is None or refused.value != changed:
                raise
            # Changed while nobody could say so: no reason to end the call, nor to go over to another model.
            log.warning("a voice was not changed, for the model does not have it: %s", refused)
            self.overrides.forget_voice(model.name)
        return await self._open(model, thread, standby, by_handle=by_handle)

    async def _open(self, model: SpeechModel, thread: Thread, standby: Standby | None, *, by_handle: bool) -> int:
        start, knows = self.session_start(model), self.wanted(model)
        if by_handle:
            start = msgspec.structs.replace(start, resume=self.handle.value)
        else:
            history = self._memory.seed(model.capabilities, without_last_turn=thread.without_last_turn)
            start = msgspec.structs.replace(start, history=history)
        self.handle.tried(start.resume)
        health = self._succession.health_of(model)
        self._began_at = None
        self._began_at = began = await self._until_allowed(model, health)
        try:
            number = await self._sessions.open(model, start, standby, knows=knows)
        except ProviderError as problem:
            self._stats.not_opened(problem)
            health.failed(problem, self._now(), began=began)
            raise
        except BaseException:
            health.abandoned(began)
            raise
        health.succeeded(self._now())
        self._stats.sessions_opened += 1
        return number

    def broken_off(self, model: SpeechModel, problem: ProviderUnavailable) -> None:
        """The newest attempt took longer than the call can wait for it."""
        if self._began_at is None:
            return
        self._stats.not_opened(problem)
        if self._now() - self._began_at >= _FAIR_S:
            self._succession.health_of(model).failed(problem, self._now())

    def handle_refused(self) -> None:
        """The provider does not take it: the next session starts fresh."""
        self._stats.resumes_refused += 1
        self.handle.forget()

    async def _until_allowed(self, model: SpeechModel, health: EndpointHealth) -> float:
        """Wait while nobody may ask this endpoint; returns when the attempt begins. Raises ProviderUnavailable where
        that takes too long, another model can be asked (of the list, or the call's own), or somebody leads: whoever is
        in no hurry does not wait here."""
        latest = min(self._succession.backoff.until, self._now() + self._settings.retry.give_up_after_s)
        while (wait_s := health.begin(now := self._now())) > 0:
            too_long = now + wait_s > latest
            only_wished = model is not self._succession.model
            if self.is_held() or too_long or only_wished or self._succession.others(model, self._now()):
                raise kept_waiting(model, wait_s)
            await asyncio.sleep(wait_s)
        return now

    # -------------------------------------------------------------------------------------------- give and take

    def bring_up_to_date(self, number: int) -> list[str]:
        """Tell an open session what was changed since it was opened, and is wished for. Returns what only another one
        can be told."""
        known = self._sessions.known(number)
        wanted = self.wanted(known.model)
        lacks = known.knows.lacks(wanted)
        if not lacks:
            return []
        changes = {name: value for name, value in wanted.given().items() if name in lacks}
        if len(changes) < len(lacks):
            return lacks  # back to what is configured: no session can be told that
        try:
            known.session.update(**changes)
        except (NeedsNewSession, SessionEnded):
            return lacks
        except ProviderError as refused:  # who has been granted it was served by another session, or by none yet
            log.warning("a session could not be changed session=%d: %s", number, refused)
            if any(name in changes for name in self._wishes.overrides.given()):
                self._wishes.refuse(refused)
                wanted = self.wanted(known.model)
        known.knows = wanted
        return []

    def give(self, number: int, thread: Thread, *, resumed: bool) -> bool:
        """Give the lead to an open session. False: the first thing that it had to say was its end."""
        now = self._now()
        if self._vacant_since is not None:
            missed_ms = (now - self._vacant_since) * 1000
            self._stats.longest_leaderless_ms = max(self._stats.longest_leaderless_ms, missed_ms)
            self._vacant_since = None
        if number != self._sessions.board.leader:
            self.since = now
            self.given += 1
            self._succession.led_by(self._sessions.known(number).model)
        known = self._sessions.known(number)
        if resumed:
            known.handle = self.handle
        else:
            self.handle = known.handle  # the one before leads to another session
        # What the successor must know comes before what it hears.
        note = self._memory.last_exchange() if thread.note else ""
        if note:
            self._tell(number, note)
        if thread.rewind_to is not None:
            self._lane.rewind(thread.rewind_to)
        self._sessions.lead(number)
        if self._sessions.board.leader != number:
            return False
        self._lane.watch_speech(False)
        # Only now is it known what the one before has left unsaid. A result that waits makes the model speak anyway.
        going_on = self._memory.going_on() if thread.go_on and not self._owes_results() else ""
        if going_on:
            self._lane.go_on(going_on)
        return True

    def _tell(self, number: int, note: str) -> None:
        try:
            self._sessions.must_get(number).send_text(note, respond=False)
        except SessionEnded:
            pass  # it comes with its Closed event, as soon as somebody listens
        except ProviderError as refused:
            log.warning("a session could not be told of what it missed session=%d: %s", number, refused)

    def vacant(self) -> None:
        """The session that had it is gone: the room waits."""
        self._vacant_since = self._now()

    async def end(self, number: int) -> None:
        """Close the leading session and wait for it: its handle is not taken as long as it is open."""
        session = self._sessions.forget(number)
        if session is None:
            return
        self.vacant()
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await session.close()
        except TimeoutError:
            pass  # a goodbye that is cut short ends the connection at once

    def nobody_waits(self) -> None:
        """Nobody leads because nobody speaks: that time does not count."""
        self._vacant_since = None

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def _lane(self) -> FastPort:
        assert self._fast is not None, "the lead is given after start()"
        return self._fast
