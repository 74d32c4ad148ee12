"""What the application asks of a call's model in the middle of the call, and how it learns what became of it.

What can be had at once is had at once. For the rest a wish is made (`bridge.lanes.wishes`) and a new session wanted;
the session keeper makes it as any other change, and tells here who leads then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bridge.lanes.lead import Lead
from bridge.lanes.open_sessions import OpenSessions
from bridge.lanes.wishes import Wish, Wishes
from bridge.sessions.overrides import Overrides
from bridge.sessions.rollover import Rollover
from providers.contract import SpeechModel
from providers.errors import NeedsNewSession, ProviderError, ResumeRefused, SessionEnded

__all__ = ["Requests"]


class Requests:
    """One call's swaps and changed settings."""

    def __init__(
        self,
        sessions: OpenSessions,
        lead: Lead,
        wishes: Wishes,
        rollover: Rollover,
        *,
        patience_s: float,
        wanted: Callable[[], None],
    ) -> None:
        """Args: patience_s is for how long what cannot be had is tried; wanted is called when a change is."""
        self._sessions = sessions
        self._lead = lead
        self._wishes = wishes
        self._rollover = rollover
        self._patience_s = patience_s
        self._wanted = wanted

    async def swap(self, model: SpeechModel) -> None:
        """See `SessionKeeper.swap`."""
        await self._ask(self._wishes.make(f"a change to {model.name}", model=model))

    async def update(self, changed: Overrides, model: SpeechModel) -> None:
        """See `SessionKeeper.update`. `model` is asked next where nobody leads."""
        leader = self._sessions.board.leader
        if leader is not None:
            known = self._sessions.known(leader)
            model = known.model
            try:
                known.session.update(**changed.given())
                known.knows = changed.over(known.knows)
            except NeedsNewSession:
                await self._ask(self._wishes.make(f"a change of {', '.join(changed.given())}", overrides=changed))
                return
            except SessionEnded:
                pass  # the next one is opened with them, or told of them when it takes the lead
        if any(name in self._wishes.overrides.given() for name in changed.given()):
            self._wishes.refuse(SessionEnded("another change was asked for meanwhile"))
        self._lead.overrides.add(changed, model.name)

    # ------------------------------------------------------------------------------------- told by the session keeper

    def led_by(self, number: int, lacks: list[str]) -> None:
        """Grant the wish if the session that leads is what was wished for. It may have been opened for another reason,
        before the wish was made: then the change is still to come, as for what the session lacks."""
        wish, model = self._wishes.open, self._sessions.known(number).model
        if wish is not None and wish.is_served_by(model, lacks):
            self._lead.overrides.add(wish.overrides, model.name)
            self._wishes.grant()
        elif wish is not None:
            self._rollover.want(wish.reason)
        if lacks:
            self._rollover.want(f"a change of {', '.join(lacks)}")

    def failed(self, wish: Wish | None, problem: ProviderError, pause_s: float) -> None:
        """What was tried for this wish has failed; in `pause_s` it could be tried again."""
        if wish is None or wish is not self._wishes.open or isinstance(problem, ResumeRefused):
            return
        if wish.is_past_hope(problem, asyncio.get_running_loop().time(), pause_s, self._patience_s):
            self._wishes.refuse(problem)

    def dropped(self) -> None:
        """Nobody waits for the wish any more."""
        self._rollover.drop_wish()
        leader = self._sessions.board.leader
        if leader is not None and not self._sessions.closing:  # which may lack something else
            self.led_by(leader, self._lead.bring_up_to_date(leader))

    async def _ask(self, wish: Wish) -> None:
        self._rollover.want(wish.reason)
        self._wanted()
        try:
            await wish.granted
        except asyncio.CancelledError:
            self._wishes.withdraw(wish)
            raise
