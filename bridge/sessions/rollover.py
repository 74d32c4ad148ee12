"""When the leading session is replaced on purpose: announced ends, known caps, changes that need a new session.

No I/O, no clock. The planner is told what is coming and looks at the call (`Scene`) as often as it is asked; it
answers with the next `Step`. A change waits for a moment in which nobody speaks; at the last safe moment it is made all
the same.
"""

from __future__ import annotations

import math
from enum import Enum, StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = ["Change", "Rollover", "RolloverSettings", "Scene", "Step", "Way", "way_of"]


_HELD_S = 2.0
"""A connection that ends sooner than this was not worth dialling: the next one waits."""


class Way(StrEnum):
    """How one session follows another."""

    OVERLAP = "overlap"
    """The successor is set up while the old session still hears and speaks: nobody is ever deaf."""
    STANDBY = "standby"
    """The successor's connection is dialled in advance; the old session ends, and only the setup is waited for."""


class RolloverSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a session that is about to end is replaced."""

    way: Literal["auto", "overlap", "standby"] = "auto"
    """auto: by the provider's handle where it has one (standby where two at a time are refused, as by Gemini), else a
    fresh session seeded with what was heard. overlap: always seeded. standby: by handle wherever there is one."""
    quiet_ms: Annotated[int, Meta(ge=0, le=10_000)] = 200
    """Nobody has spoken and nothing has sounded for this long before the change is made, ms."""
    patience_s: Annotated[float, Meta(ge=0, le=60)] = 4.0
    """How long after the user's last words the model's answer to them is waited for, s."""
    margin_s: Annotated[float, Meta(ge=0.2, le=60)] = 1.5
    """This long before the provider ends the session the change is made, quiet or not, s."""
    before_cap_s: Annotated[float, Meta(ge=1, le=3600)] = 60.0
    """How long before a known cap of the provider a quiet moment is looked for, s."""
    max_session_s: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    """A session is replaced at the latest after this long, s; one whose successor cannot be had serves on meanwhile.
    None: the cap that the provider is known for, if any."""


class Scene(msgspec.Struct, frozen=True, gc=False):
    """What the planner must know of the call to choose the moment."""

    quiet: bool
    """Nobody speaks, nothing sounds, no reply is being made, no tool runs."""
    owed: bool = False
    """The user's last words have not been answered."""
    covered: bool = True
    """The successor will know all that was said: its handle is newer than the last turn (a seed always is)."""


class Step(Enum):
    """What to do now."""

    WAIT = "wait"
    PREPARE = "prepare"
    """Dial the successor's connection."""
    CHANGE = "change"
    """The moment is good."""
    FORCE = "force"
    """The last safe moment: change whatever is going on."""


class Change(msgspec.Struct):
    """One change that is due."""

    reason: str
    deadline: float
    """The session is not to lead beyond this time; inf: it may."""
    announced: bool = False
    """The provider ends it then. Else it serves on until another one can be reached."""
    prepare_at: float = 0.0
    prepared: bool = False
    prepared_at: float = 0.0
    not_before: float = 0.0
    """Of a change in the quiet."""
    retry_at: float = 0.0
    """Of one at the last safe moment too: there is no safety in asking again at once what has just been refused."""
    held_until: float = 0.0
    """The provider ends its sessions as soon as they have begun: whatever is wished for meanwhile, what is announced
    is not followed before."""
    failures: int = 0
    """In a row: attempts to dial or to set up the successor."""

    def begins_anew(self, at: float = 0.0) -> None:
        """Another successor is wanted, from `at` on: what was learned of the one before says nothing of it."""
        self.prepared = False
        self.prepare_at = self.not_before = at
        self.retry_at = self.held_until
        self.failures = 0


class Rollover:
    """Plans the changes of one call, one at a time. Told of two, it keeps the earlier deadline."""

    def __init__(self, settings: RolloverSettings) -> None:
        self.pending: Change | None = None
        self._settings = settings
        self._cap = math.inf
        self._quiet_since: float | None = None
        self._owed_since: float | None = None

    # --------------------------------------------------------------------------------------------- what happened

    def led(
        self, now: float, max_session_s: float | None, *, opened_at: float | None = None, ends_at: float = math.inf
    ) -> None:
        """A new session leads; what was due is done. It may have been open for a while.

        Args: opened_at is `now` where it is None; ends_at is what the provider has announced of it already.
        """
        wanted = self._settings.max_session_s
        caps = [cap for cap in (wanted, max_session_s) if cap is not None]
        self._cap = (now if opened_at is None else opened_at) + min(caps) if caps else math.inf
        self.pending = None
        self._quiet_since = self._owed_since = None
        if ends_at < math.inf:
            self._announced(ends_at)

    def go_away(self, now: float, time_left_s: float) -> None:
        """The provider has announced the end of the leading session."""
        self._announced(now + max(0.0, time_left_s))

    def want(self, reason: str) -> None:
        """We need another session; it can wait for a good moment."""
        self._want(reason, math.inf)
        assert self.pending is not None, "it is wanted now"
        self.pending.begins_anew()

    def drop_wish(self) -> None:
        """Nobody wants it any more; what the provider has announced stays."""
        if self.pending is not None and self.pending.deadline == math.inf:
            self.pending = None
        elif self.pending is not None:
            self.pending.begins_anew(self.pending.held_until)

    @property
    def failures(self) -> int:
        """How often in a row the successor could not be dialled or set up."""
        return 0 if self.pending is None else self.pending.failures

    def prepare_failed(self, now: float, wait_s: float) -> None:
        """The connection could not be dialled: once more after `wait_s`."""
        if self.pending is not None:
            self.pending.prepared = False
            self.pending.prepare_at = now + wait_s
            self.pending.failures += 1

    def prepared_is_gone(self, now: float, wait_s: float) -> None:
        """The connection that waited is gone: another one, at once if it had held for a while, else after `wait_s`."""
        if self.pending is None or not self.pending.prepared:
            return
        if now - self.pending.prepared_at < _HELD_S:
            self.prepare_failed(now, wait_s)
        else:
            self.pending.prepared = False
            self.pending.prepare_at = now

    def not_yet(self, now: float, wait_s: float, *, at_last: bool = True) -> None:
        """Nobody may ask the provider for the next `wait_s`: with `at_last` not even at the last safe moment. Without,
        another one can be asked then."""
        if self.pending is not None:
            self.pending.prepared = False
            self.pending.prepare_at = self.pending.not_before = now + wait_s
            if at_last:
                self.pending.retry_at = now + wait_s

    def hold(self, now: float, wait_s: float) -> None:
        """What is announced is not to be followed for the next `wait_s`; no wish shortens that, nor does its end."""
        self.not_yet(now, wait_s)
        if self.pending is not None:
            self.pending.held_until = now + wait_s

    def failed(self, now: float, wait_s: float, *, at_last: bool = True) -> None:
        """The successor could not be set up. The leader serves on: nothing is tried for `wait_s`, as in `not_yet`."""
        self.not_yet(now, wait_s, at_last=at_last)
        if self.pending is not None:
            self.pending.failures += 1
        self._quiet_since = None

    def spoiled(self, now: float, wait_s: float = 1.0) -> None:
        """Somebody spoke while the successor was being set up: look for another moment."""
        if self.pending is not None:
            self.pending.prepared = False
            self.pending.not_before = max(self.pending.not_before, now + wait_s)
            self.pending.prepare_at = max(self.pending.prepare_at, now)
        self._quiet_since = None

    # ------------------------------------------------------------------------------------------------- what to do

    def step(self, scene: Scene, now: float) -> Step:
        """What to do in this scene. Ask often while `pending` is set; else not before `deadline()`."""
        settings = self._settings
        if now >= self._cap - settings.before_cap_s:
            self._want("the session has reached its cap", self._cap)
        change = self.pending
        if change is None:
            return Step.WAIT
        good = self._is_good(scene, now)
        if not change.prepared and now >= change.prepare_at:
            change.prepared = True
            change.prepared_at = now
            return Step.PREPARE
        if now >= self._last_moment(change) and (change.prepared or change.announced):
            return Step.FORCE
        return Step.CHANGE if good and change.prepared and now >= change.not_before else Step.WAIT

    def deadline(self) -> float | None:
        """When `step` will say something new though nothing has happened."""
        change = self.pending
        if change is not None:
            last_moment = self._last_moment(change)
            if change.prepared:
                return last_moment
            return min(change.prepare_at, last_moment) if change.announced else change.prepare_at
        return None if self._cap == math.inf else self._cap - self._settings.before_cap_s

    # ----------------------------------------------------------------------------------------------------- inside

    def _last_moment(self, change: Change) -> float:
        return max(change.deadline - self._settings.margin_s, change.retry_at)

    def _announced(self, ends_at: float) -> None:
        self._want("the provider ends the session", ends_at)
        assert self.pending is not None, "it is wanted now"
        self.pending.announced = True

    def _want(self, reason: str, deadline: float) -> None:
        if self.pending is None:
            self.pending = Change(reason, deadline)
        elif deadline < self.pending.deadline:
            self.pending.reason, self.pending.deadline = reason, deadline

    def _is_good(self, scene: Scene, now: float) -> bool:
        settings = self._settings
        self._quiet_since = (now if self._quiet_since is None else self._quiet_since) if scene.quiet else None
        waits = scene.owed or not scene.covered
        # Counted from the quiet on: as long as somebody speaks, or a tool runs, nobody can owe an answer.
        self._owed_since = (now if self._owed_since is None else self._owed_since) if waits and scene.quiet else None
        if self._quiet_since is None or now - self._quiet_since < settings.quiet_ms / 1000:
            return False
        return self._owed_since is None or now - self._owed_since >= settings.patience_s


def way_of(
    settings: RolloverSettings, *, handle: bool, same_model: bool, overlapping_resume: bool, memory_is_wrong: bool
) -> tuple[Way, bool]:
    """How to change, and whether by handle.

    Args: handle says that there is one; memory_is_wrong, that the provider remembers words which nobody heard, which
    only a seed puts right.
    """
    by_handle = handle and same_model and settings.way != "overlap"
    if memory_is_wrong and settings.way == "auto":
        by_handle = False
    if not by_handle:
        return Way.OVERLAP, False
    if overlapping_resume and settings.way == "auto":
        return Way.OVERLAP, True
    return Way.STANDBY, True
