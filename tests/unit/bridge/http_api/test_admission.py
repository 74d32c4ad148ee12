"""As many calls as there is room for, by what each costs; and none when the loop is late."""

from __future__ import annotations

from bridge.http_api.admission import Admission, Leg, Refusal


def test_direct_calls_fill_the_budget_and_leave_it_when_they_end() -> None:
    admission = Admission(10.0)
    assert [admission.admit(f"call{n}", (Leg.DIRECT,)) for n in range(11)] == [None] * 10 + [Refusal.FULL]
    admission.release("call3")
    admission.release("call3")
    assert admission.admit("call11", (Leg.DIRECT,)) is None
    assert (admission.load, admission.stats.admitted, admission.stats.refused_full) == (10.0, 11, 1)


def test_a_model_over_webrtc_counts_too_and_a_room_counts_little() -> None:
    admission = Admission(10.0)
    assert [admission.admit(f"call{n}", (Leg.DIRECT, Leg.MODEL_WEBRTC)) for n in range(6)][4:] == [None, Refusal.FULL]
    admission = Admission(10.0)
    assert sum(admission.admit(f"room{n}", (Leg.LIVEKIT,)) is None for n in range(100)) == 66


def test_a_loop_that_is_late_again_and_again_takes_no_more_calls() -> None:
    admission = Admission(10.0)
    admission.admit("first", (Leg.DIRECT,))
    admission.note_lateness(900.0)
    for _ in range(7):
        admission.note_lateness(1.0)
    assert admission.admit("second", (Leg.DIRECT,)) is None, "one hiccup is none"
    for _ in range(8):
        admission.note_lateness(400.0)
    assert admission.admit("third", (Leg.DIRECT,)) is Refusal.BUSY
    for call in ("first", "second"):
        admission.release(call)
    assert admission.admit("third", (Leg.DIRECT,)) is None, "with no call, it is not calls that make it late"
