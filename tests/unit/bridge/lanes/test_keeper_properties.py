"""Whatever befalls the sessions of a call, in whatever order: at most one leads, somebody leads in the end, and of all
others nothing is left open."""

from __future__ import annotations

import asyncio

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.sessions.rollover import RolloverSettings
from providers.contract import Capabilities, GoAway, SessionStart, SessionState
from providers.errors import ProviderError, ResumeRefused, ResumeTooSoon
from providers.retry import RetryPolicy
from tests.fakes.fake_time import FakeTimeLoop
from tests.fakes.hand_model import CAPABILITIES, HandModel, HandSession
from tests.fakes.kept_call import GONE, RESUMES, KeptCall, hands_out, kept_call

PATIENT = RetryPolicy(base_s=0.2, longest_s=2.0, give_up_after_s=600)
SETUP_S = 0.3
GOODBYE_S = 0.2
OVERLAPS = msgspec.structs.replace(RESUMES, overlapping_resume=True)
ROLLOVER = RolloverSettings(quiet_ms=200, patience_s=1.0)
REFUSALS: dict[str, ProviderError] = {"refused": ResumeRefused("old"), "too soon": ResumeTooSoon("open")}
"""What only a handle can meet."""


class Picky(HandModel):
    """Refuses handles, as often as it is told to; its sessions change their voice never."""

    def __init__(self, capabilities: Capabilities) -> None:
        super().__init__(capabilities)
        self.refuse_handles: list[ProviderError] = []
        self.dead_handles: set[str] = set()

    async def connect(self, start: SessionStart | None = None) -> HandSession:
        if start is not None and start.resume and not self.capabilities.overlapping_resume:
            assert not any(one.state is SessionState.READY for one in self.sessions), "an old session is still open"
        await asyncio.sleep(SETUP_S)
        if start is not None and start.resume:
            assert start.resume not in self.dead_handles, "a refused handle is not offered again"
            if self.refuse_handles:
                problem = self.refuse_handles.pop(0)
                if isinstance(problem, ResumeRefused):
                    self.dead_handles.add(start.resume)
                raise problem
        session = await super().connect(start)
        session.fixed = ("voice",)
        session.goodbye_s = GOODBYE_S
        return session


Event = tuple[str, float]
HAPPENS = (
    "go away", "death", "handle", "half a handle", "busy", "quiet", "swap", "update", "voice", "wake", "word", "wait",
)  # fmt: skip
EVENTS = st.lists(
    st.tuples(st.sampled_from(HAPPENS), st.floats(0.0, 20.0))
    | st.tuples(st.sampled_from([*REFUSALS, "gone"]), st.just(0.0)),
    min_size=6,
    max_size=25,
)


async def live(events: list[Event], capabilities: Capabilities, idle_s: float | None) -> None:
    models = [Picky(capabilities) for _ in range(2)]
    held: dict[str, str] = {}
    async with (
        kept_call(models[0], retry=PATIENT, rollover=ROLLOVER, idle_s=idle_s) as call,
        asyncio.TaskGroup() as group,
    ):
        await asyncio.sleep(1)
        for number, (what, seconds) in enumerate(events):
            befall(call, models, group, held, what, seconds, number)
            if what == "word":
                call.memory.version += 1
            await asyncio.sleep(seconds / 20 if what != "wait" else seconds)
            check(call, models)
        for model in models:
            model.refuse.clear()
            model.refuse_handles.clear()
        call.fast.quiet = True
        call.fast.silent_at = asyncio.get_running_loop().time()
        call.keeper.wake()
        await asyncio.sleep(20)
        assert call.sessions.board.leader is not None, "somebody is woken"
        await asyncio.sleep(30)
        check(call, models)
        if call.sessions.board.leader is not None:
            assert call.keeper._rollover.pending is None, "whatever was due has been done"
        if idle_s is None:
            assert call.sessions.board.leader is not None, "somebody leads in the end"
        assert call.ended == []
        await asyncio.sleep(5)
        open_now = [session for model in models for session in model.sessions if session.state is SessionState.READY]
        assert [session.number for session in open_now] == call.sessions.board.open_numbers()
        assert len(open_now) <= 1
        assert call.keeper._wishes.open is None, "whoever asked has been answered"
        if open_now:
            assert in_effect(open_now[0]) == held, "what was changed holds, and nothing else"
        if open_now:  # and a connection that waits is let go with the call
            call.fast.quiet = False
            open_now[0].emit(GoAway(open_now[0].number, 60.0))
            await asyncio.sleep(1)
            assert not all(standby.used or standby.closed for model in models for standby in model.standbys)
    for model in models:
        assert all(session.state is SessionState.CLOSED for session in model.sessions)
        assert all(standby.used or standby.closed for standby in model.standbys)


def befall(
    call: KeptCall,
    models: list[Picky],
    group: asyncio.TaskGroup,
    held: dict[str, str],
    what: str,
    seconds: float,
    number: int,
) -> None:
    leader = call.sessions.get(call.sessions.board.leader)
    session = next((one for model in models for one in model.sessions if one is leader), None)
    match what:
        case "go away" if session is not None:
            session.emit(GoAway(session.number, seconds))
        case "death" if session is not None:
            session.dies(GONE, 1006 if seconds < 10 else 1011)
        case "handle" | "half a handle" if session is not None:
            hands_out(session, f"{session.number} {number}", mid_turn=what != "handle")
        case "busy" | "quiet":
            call.fast.quiet = what == "quiet"
        case "swap":
            group.create_task(wish(call, models[number % 2]))
        case "update":
            group.create_task(change(call, held, "instructions", f"be kind {number}"))
        case "voice":
            group.create_task(change(call, held, "voice", f"voice {number}"))
        case "wake":
            call.keeper.wake()
        case _ if what in REFUSALS:
            for model in models:
                model.refuse_handles.append(REFUSALS[what])
        case "gone":
            models[number % 2].refuse.append(GONE)


async def wish(call: KeptCall, model: Picky) -> None:
    try:
        await call.keeper.swap(model)
    except ProviderError:
        return  # another wish came, or it cannot be had
    assert call.keeper.model is model, "who was told so has got it"


async def change(call: KeptCall, held: dict[str, str], name: str, value: str) -> None:
    """`held` holds what was changed with success."""
    try:
        await call.keeper.update(**{name: value})  # type: ignore[arg-type]
    except ProviderError:
        return
    held[name] = value


def in_effect(session: HandSession) -> dict[str, str]:
    """What a session was begun with, or told since."""
    told = [dict(zip(("instructions", "tools", "voice"), args, strict=True)) for what, *args in session.told
            if what == "update"]  # fmt: skip
    began = {"instructions": session.start.instructions, "voice": session.start.voice}
    return {name: value for said in (began, *told) for name, value in said.items() if value is not None}


def check(call: KeptCall, models: list[Picky]) -> None:
    leader = call.sessions.board.leader
    assert call.fast.leader == leader, "both lanes know the same one"
    if leader is not None:
        assert leader in call.fast.feeds
    led = call.fast.led
    assert len(set(led)) == len(led) and led == sorted(led), "nobody comes back, and each leads once"
    for model in models:
        of_model = {one.number: one for one in model.sessions}
        for one in model.sessions:
            if one.start.resume:
                issuer = int(one.start.resume.split()[0])
                assert issuer in of_model, "a handle is for the model that gave it"
                between = [number for number in led if issuer < number < one.number]
                assert all(number in of_model and of_model[number].start.resume for number in between), (
                    "it knows nothing of the sessions since"
                )
    if call.keeper.model.capabilities.resumption and not call.keeper.model.capabilities.overlapping_resume:
        ready = [one for model in models for one in model.sessions if one.state is SessionState.READY]
        resumed = [one for one in ready if one.start.resume]
        # Gemini refuses a handle while the earlier connection is open.
        assert not (resumed and any(one.number < resumed[-1].number for one in ready)), "an old session is still open"


@settings(max_examples=100, deadline=None)
@example([("handle", 4.0), ("go away", 10.0), ("wait", 15.0)], RESUMES, None)
@example([("handle", 4.0), ("refused", 0.0), ("go away", 10.0), ("wait", 15.0)], RESUMES, None)
@example([("handle", 4.0), ("refused", 0.0), ("go away", 10.0), ("wait", 15.0)], OVERLAPS, None)
@example([("handle", 4.0), ("too soon", 0.0), ("go away", 10.0), ("wait", 15.0)], RESUMES, None)
@example([("handle", 4.0), ("swap", 0.0), ("death", 4.0), ("wait", 15.0)], RESUMES, None)
@example([("handle", 4.0), ("swap", 4.0), ("wait", 5.0), ("death", 4.0), ("wait", 15.0)], RESUMES, None)
@example([("go away", 10.0), ("word", 4.0), ("wait", 15.0)], CAPABILITIES, None)
@example([("gone", 0.0), ("death", 0.0), ("swap", 4.0), ("voice", 4.0), ("wait", 15.0)], CAPABILITIES, None)
@example([("go away", 10.0), ("update", 4.0), ("swap", 4.0), ("wait", 15.0)], CAPABILITIES, None)
@example([("wait", 20.0), ("wait", 20.0)], CAPABILITIES, 30.0)
@example([("busy", 0.0), ("go away", 5.0), ("wait", 15.0)], CAPABILITIES, 30.0)
@given(EVENTS, st.sampled_from([CAPABILITIES, RESUMES, OVERLAPS]), st.sampled_from([None, 30.0]))
def test_one_leads_at_most_and_somebody_in_the_end(
    events: list[Event], capabilities: Capabilities, idle_s: float | None
) -> None:
    with asyncio.Runner(loop_factory=FakeTimeLoop, debug=False) as runner:
        runner.run(live(events, capabilities, idle_s))
