"""Whatever happens in a call, a change is made in a quiet moment, and at the last safe moment at the latest; once, and
not again before its time where it failed."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.sessions.rollover import Rollover, RolloverSettings, Scene, Step

SETTINGS = RolloverSettings(quiet_ms=200, patience_s=4.0, margin_s=1.5, before_cap_s=20.0, max_session_s=50.0)
LOOK_S = 0.02
EDGE_S = 1e-6


class Planner(RuleBasedStateMachine):
    """The planner, the call that it looks at, and what it may do by then."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.rollover = Rollover(SETTINGS)
        self.begins()
        self.scene = Scene(quiet=True)
        self.pause_s: float | None = None
        self.will_be_spoiled = False

    def begins(self) -> None:
        """A new session leads."""
        self.rollover.led(self.now, None)
        self.deadline = math.inf  # the earliest that was told
        self.cap = self.now + 50.0
        self.wished = False
        self.prepared = False
        self.not_before = self.prepare_at = self.retry_at = self.held_until = 0.0
        self.quiet_since: float | None = None
        self.waits_since: float | None = None

    @property
    def due(self) -> bool:
        return self.wished or self.deadline < math.inf or self.now >= self.cap - SETTINGS.before_cap_s

    @property
    def announced(self) -> bool:
        return self.deadline < math.inf

    @property
    def ends_at(self) -> float:
        return min(self.deadline, self.cap if self.now >= self.cap - SETTINGS.before_cap_s else math.inf)

    # what happens

    @rule(quiet=st.booleans(), owed=st.booleans(), covered=st.booleans())
    def the_call_changes(self, quiet: bool, owed: bool, covered: bool) -> None:
        self.scene = Scene(quiet=quiet, owed=owed, covered=covered)

    @rule(left_s=st.floats(0, 60))
    def the_provider_goes_away(self, left_s: float) -> None:
        self.rollover.go_away(self.now, left_s)
        self.deadline = min(self.deadline, self.now + left_s)

    @rule()
    def somebody_wants_another_session(self) -> None:
        self.rollover.want("another voice")
        self.wished = True
        self.prepared = False
        self.not_before = self.prepare_at = 0.0
        self.retry_at = self.held_until

    @precondition(lambda self: self.announced)
    @rule()
    def a_wish_is_dropped(self) -> None:
        self.rollover.drop_wish()
        self.wished = self.prepared = False
        self.not_before = self.prepare_at = self.retry_at = self.held_until

    @precondition(lambda self: self.announced)
    @rule(wait_s=st.floats(0.1, 20))
    def what_is_announced_is_not_to_be_followed_for_a_while(self, wait_s: float) -> None:
        self.rollover.hold(self.now, wait_s)
        self.refused(wait_s)
        self.held_until = self.now + wait_s

    @precondition(lambda self: self.prepared)
    @rule(wait_s=st.floats(0, 2))
    def the_connection_cannot_be_dialled(self, wait_s: float) -> None:
        self.rollover.prepare_failed(self.now, wait_s)
        self.prepared, self.prepare_at = False, self.now + wait_s

    @precondition(lambda self: self.prepared)
    @rule()
    def somebody_speaks_while_the_successor_is_set_up(self) -> None:
        self.is_spoiled()

    def is_spoiled(self) -> None:
        self.rollover.spoiled(self.now)
        self.prepared, self.not_before, self.prepare_at = False, max(self.not_before, self.now + 1.0), self.now
        self.quiet_since = None

    @rule()
    def somebody_will_speak_while_the_next_successor_is_set_up(self) -> None:
        self.will_be_spoiled = True

    @rule(pause_s=st.none() | st.floats(0.1, 20))
    def successors_can_be_set_up_or_not(self, pause_s: float | None) -> None:
        self.pause_s = pause_s

    @precondition(lambda self: self.due)
    @rule(wait_s=st.floats(0.1, 20))
    def nobody_may_ask_for_a_while(self, wait_s: float) -> None:
        if self.rollover.pending is not None:
            self.rollover.not_yet(self.now, wait_s)
            self.refused(wait_s)

    def refused(self, wait_s: float) -> None:
        self.prepared = False
        self.not_before = self.prepare_at = self.retry_at = self.now + wait_s

    @rule(looks=st.integers(1, 400))
    def time_passes(self, looks: int) -> None:
        for _ in range(looks):
            self.now += LOOK_S
            self.look()

    # what may come of it

    def look(self) -> None:
        scene, now = self.scene, self.now
        waits = scene.quiet and (scene.owed or not scene.covered)
        if self.due:  # as long as nothing is due, nobody looks at the call
            self.quiet_since = (now if self.quiet_since is None else self.quiet_since) if scene.quiet else None
            self.waits_since = (now if self.waits_since is None else self.waits_since) if waits else None
        step = self.rollover.step(scene, now)
        at_last = now >= max(self.ends_at - SETTINGS.margin_s, self.retry_at)
        match step:
            case Step.WAIT:
                assert not (self.due and at_last and (self.prepared or self.announced)), (
                    "the last safe moment has passed"
                )
            case Step.PREPARE:
                assert self.due and not self.prepared and now >= self.prepare_at
                self.prepared = True
            case Step.FORCE:
                assert self.due and at_last, "too early, or too soon after it failed"
                assert self.prepared or self.announced, "the leader could serve on, and nobody is there in its place"
                self.is_tried()
            case Step.CHANGE:
                assert self.due and self.prepared and now >= self.not_before
                assert self.quiet_since is not None and now - self.quiet_since >= 0.2 - EDGE_S, (
                    "somebody spoke just now"
                )
                assert self.waits_since is None or now - self.waits_since >= 4.0 - EDGE_S, "an answer is waited for"
                if self.will_be_spoiled:
                    self.will_be_spoiled = False
                    self.is_spoiled()
                else:
                    self.is_tried()

    def is_tried(self) -> None:
        if self.pause_s is None:
            self.begins()
        else:
            self.rollover.failed(self.now, self.pause_s)
            self.refused(self.pause_s)
            self.quiet_since = None

    @invariant()
    def a_change_that_is_due_is_never_forgotten(self) -> None:
        if self.wished or self.deadline < math.inf:
            assert self.rollover.pending is not None

    @invariant()
    def who_sleeps_until_the_deadline_misses_nothing(self) -> None:
        at = self.rollover.deadline()
        if self.rollover.pending is None:
            assert at is not None and at <= self.cap - SETTINGS.before_cap_s + EDGE_S
        else:
            asked_at = 0.0 if self.prepared or self.announced else self.prepare_at
            assert at is not None and at <= max(self.ends_at - SETTINGS.margin_s, self.retry_at, asked_at) + EDGE_S


TestPlanner = Planner.TestCase
TestPlanner.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
