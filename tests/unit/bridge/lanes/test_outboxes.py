"""What sessions have sent and dropped is summed over a call, whichever of them is gone, and never goes backwards."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.lanes.outboxes import Outboxes
from providers.contract import OutboxStats, SessionStart, SessionState
from tests.fakes.hand_model import CAPABILITIES, HandSession


def session(number: int = 1, **outbox: float) -> HandSession:
    one = HandSession(SessionStart(number=number), CAPABILITIES)
    one.outbox = OutboxStats(**outbox)  # type: ignore[arg-type]
    return one


def test_every_counter_is_told_from_the_beginning_and_what_waits_is_a_gauge() -> None:
    told = dict(Outboxes().counters([], None))
    assert {name.removesuffix("_now") for name in told} == set(OutboxStats.__struct_fields__)
    assert [name for name in told if name.endswith("_now")] == ["waiting_audio_ms_now"]
    assert not any(told.values())


def test_sums_go_over_all_sessions_and_what_waits_is_the_leaders() -> None:
    outboxes = Outboxes()
    leads = session(dropped_audio_ms=20, waiting_audio_ms=40, sent_messages=3)
    beside = session(2, dropped_audio_ms=5, waiting_audio_ms=300, sent_messages=4)
    told = dict(outboxes.counters([leads, beside], leads))
    assert (told["dropped_audio_ms"], told["sent_messages"], told["waiting_audio_ms_now"]) == (25, 7, 40)
    assert dict(outboxes.counters([leads, beside], None))["waiting_audio_ms_now"] == 0


def test_what_a_session_drops_while_it_is_being_closed_counts_too_and_then_it_is_let_go() -> None:
    outboxes = Outboxes()
    old = session(dropped_audio_ms=20, waiting_audio_ms=40)
    outboxes.leave(old)
    old.outbox = OutboxStats(dropped_audio_ms=60)
    old.state = SessionState.CLOSED
    assert dict(outboxes.counters([], None))["dropped_audio_ms"] == 60
    outboxes.leave(session(2, dropped_audio_ms=1))
    assert dict(outboxes.counters([], None))["dropped_audio_ms"] == 61
    assert old not in outboxes._leaving


def test_sessions_that_are_never_closed_are_not_kept_without_end() -> None:
    outboxes = Outboxes()
    for number in range(100):
        outboxes.leave(session(number, sent_audio_ms=20))
    assert len(outboxes._leaving) == 32
    assert dict(outboxes.counters([], None))["sent_audio_ms"] == 2000


@given(st.lists(st.tuples(st.sampled_from(["opens", "sends", "leaves", "closes"]), st.integers(0, 9)), max_size=60))
def test_no_sum_ever_goes_backwards(steps: list[tuple[str, int]]) -> None:
    outboxes, serving, left, expected, before = Outboxes(), [session()], list[HandSession](), 0, 0.0
    for step, which in steps:
        if step == "opens":
            serving.append(session(which))
        elif step == "sends" and (alive := [one for one in (*serving, *left) if one.state is SessionState.READY]):
            alive[which % len(alive)].outbox.sent_messages += which
            expected += which
        elif step == "leaves" and serving:
            left.append(serving.pop(which % len(serving)))
            outboxes.leave(left[-1])
        elif step == "closes" and left:
            left[which % len(left)].state = SessionState.CLOSED
        now = dict(outboxes.counters(serving, None))["sent_messages"]
        assert now == expected >= before
        before = now
