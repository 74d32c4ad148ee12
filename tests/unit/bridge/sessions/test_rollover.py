"""When a session is changed on purpose: in a quiet moment, or at the last safe one."""

from __future__ import annotations

import pytest

from bridge.sessions.rollover import Rollover, RolloverSettings, Scene, Step, Way, way_of

QUIET, NOISE = Scene(quiet=True), Scene(quiet=False)
SETTINGS = RolloverSettings(quiet_ms=300, patience_s=4.0, margin_s=2.0, before_cap_s=60.0)


def planner(settings: RolloverSettings = SETTINGS, *, cap_s: float | None = None) -> Rollover:
    rollover = Rollover(settings)
    rollover.led(0.0, cap_s)
    return rollover


def announced(now: float = 10.0, time_left_s: float = 50.0) -> Rollover:
    """An end was announced, and the successor's connection is dialled."""
    rollover = planner()
    rollover.go_away(now, time_left_s)
    assert rollover.step(NOISE, now) is Step.PREPARE
    return rollover


def test_nothing_is_done_without_a_reason() -> None:
    rollover = planner()
    assert rollover.step(QUIET, 1e6) is Step.WAIT
    assert rollover.deadline() is None


def test_an_announced_end_is_prepared_for_at_once() -> None:
    rollover = planner()
    rollover.go_away(10.0, 50.0)
    assert rollover.step(NOISE, 10.0) is Step.PREPARE
    assert rollover.step(NOISE, 10.02) is Step.WAIT


def test_the_change_waits_until_it_has_been_quiet_for_a_while() -> None:
    rollover = announced()
    assert rollover.step(QUIET, 20.0) is Step.WAIT
    assert rollover.step(QUIET, 20.29) is Step.WAIT
    assert rollover.step(QUIET, 20.30) is Step.CHANGE


def test_a_sound_begins_the_quiet_anew() -> None:
    rollover = announced()
    rollover.step(QUIET, 20.0)
    rollover.step(NOISE, 20.2)
    assert rollover.step(QUIET, 20.4) is Step.WAIT
    assert rollover.step(QUIET, 20.7) is Step.CHANGE


@pytest.mark.parametrize("scene", [Scene(quiet=True, owed=True), Scene(quiet=True, covered=False)])
def test_an_answer_or_a_newer_handle_is_waited_for_with_patience(scene: Scene) -> None:
    rollover = announced()
    rollover.step(scene, 20.0)
    assert rollover.step(scene, 23.9) is Step.WAIT
    assert rollover.step(scene, 24.0) is Step.CHANGE


def test_a_tool_at_work_costs_no_patience() -> None:
    rollover = announced()
    owes = Scene(quiet=True, owed=True)
    rollover.step(owes, 20.0)
    rollover.step(Scene(quiet=False, owed=True), 23.9)
    rollover.step(owes, 24.1)
    assert rollover.step(owes, 24.5) is Step.WAIT


def test_at_the_last_safe_moment_the_change_is_made_whatever_is_going_on() -> None:
    rollover = announced(10.0, 50.0)
    assert rollover.step(NOISE, 57.9) is Step.WAIT
    assert rollover.step(NOISE, 58.0) is Step.FORCE


def test_a_notice_shorter_than_the_margin_is_acted_on_at_once() -> None:
    rollover = planner()
    rollover.go_away(10.0, 0.5)
    assert rollover.step(NOISE, 10.0) is Step.PREPARE
    assert rollover.step(NOISE, 10.0) is Step.FORCE


def test_a_second_notice_can_only_bring_the_end_nearer() -> None:
    rollover = announced(10.0, 50.0)
    rollover.go_away(12.0, 10.0)
    assert rollover.step(NOISE, 20.0) is Step.FORCE
    later = announced(10.0, 10.0)
    later.go_away(12.0, 50.0)
    assert later.step(NOISE, 18.0) is Step.FORCE


def test_a_known_cap_is_prepared_for_in_time() -> None:
    rollover = planner(cap_s=3600.0)
    assert rollover.deadline() == 3540.0
    assert rollover.step(NOISE, 3539.0) is Step.WAIT
    assert rollover.step(NOISE, 3540.0) is Step.PREPARE
    assert rollover.step(NOISE, 3598.0) is Step.FORCE


def test_a_session_may_be_replaced_sooner_than_the_provider_asks() -> None:
    rollover = planner(RolloverSettings(max_session_s=600.0), cap_s=3600.0)
    assert rollover.deadline() == 540.0


def test_a_wish_of_ours_has_no_last_moment() -> None:
    rollover = planner()
    rollover.want("another voice")
    assert rollover.step(NOISE, 1.0) is Step.PREPARE
    assert rollover.step(NOISE, 1e6) is Step.WAIT


def test_a_dropped_wish_leaves_an_announced_end() -> None:
    rollover = planner()
    rollover.want("another voice")
    rollover.drop_wish()
    assert rollover.pending is None
    rollover.go_away(1.0, 10.0)
    rollover.drop_wish()
    assert rollover.pending is not None


def test_a_connection_that_could_not_be_dialled_is_dialled_again() -> None:
    rollover = announced()
    rollover.prepare_failed(11.0, 0.5)
    assert rollover.step(QUIET, 11.4) is Step.WAIT
    assert rollover.step(QUIET, 11.5) is Step.PREPARE


def test_a_spoiled_change_is_tried_again_in_another_moment() -> None:
    rollover = announced()
    rollover.step(QUIET, 20.0)
    assert rollover.step(QUIET, 20.3) is Step.CHANGE
    rollover.spoiled(20.5, wait_s=1.0)
    assert rollover.step(QUIET, 20.5) is Step.PREPARE
    assert rollover.step(QUIET, 21.4) is Step.WAIT
    assert rollover.step(QUIET, 21.5) is Step.CHANGE


def test_a_change_that_failed_at_the_last_moment_waits_too() -> None:
    rollover = announced(10.0, 50.0)
    assert rollover.step(NOISE, 58.5) is Step.FORCE
    rollover.failed(58.6, 0.8)
    assert rollover.failures == 1
    assert rollover.deadline() == 59.4
    assert rollover.step(NOISE, 59.3) is Step.WAIT
    assert [rollover.step(NOISE, 59.4), rollover.step(NOISE, 59.4)] == [Step.PREPARE, Step.FORCE]


def test_at_a_cap_that_nobody_announced_the_leader_serves_on_until_another_can_be_reached() -> None:
    rollover = planner(cap_s=100.0)
    assert rollover.step(NOISE, 99.0) is Step.PREPARE
    rollover.prepare_failed(99.0, 2.0)
    assert rollover.step(NOISE, 100.9) is Step.WAIT and rollover.deadline() == 101.0
    assert rollover.step(NOISE, 101.0) is Step.PREPARE
    assert rollover.step(NOISE, 101.0) is Step.FORCE


def test_a_connection_that_ends_at_once_is_not_dialled_again_at_once() -> None:
    rollover = announced(10.0, 50.0)
    rollover.prepared_is_gone(10.5, 1.0)
    assert rollover.step(NOISE, 11.4) is Step.WAIT
    assert rollover.step(NOISE, 11.5) is Step.PREPARE
    rollover.prepared_is_gone(19.5, 1.0)
    assert rollover.step(NOISE, 19.5) is Step.PREPARE, "it had waited as long as it could"
    assert rollover.failures == 1


def test_a_successor_that_another_can_stand_in_for_is_not_waited_for_at_the_last_moment() -> None:
    rollover = announced(10.0, 50.0)
    rollover.failed(52.0, 30.0, at_last=False)
    assert [rollover.step(QUIET, at) for at in (52.0, 57.0, 58.5)] == [Step.WAIT, Step.WAIT, Step.FORCE]


@pytest.mark.parametrize("way", ["a new wish", "a wish dropped"])
def test_what_one_successor_was_refused_for_keeps_no_other_waiting(way: str) -> None:
    rollover = announced(10.0, 50.0)
    rollover.not_yet(11.0, 60.0)
    assert rollover.step(NOISE, 59.0) is Step.WAIT, "not even at the last moment"
    rollover.want("another model") if way == "a new wish" else rollover.drop_wish()
    assert rollover.step(NOISE, 59.0) is Step.PREPARE


@pytest.mark.parametrize("way", ["a new wish", "a wish dropped", "a wish dropped while it is being granted"])
def test_a_wait_that_the_service_imposes_is_kept_whatever_is_wished_for(way: str) -> None:
    rollover = planner()
    rollover.go_away(10.0, 1.0)
    rollover.hold(10.0, 8.0)
    rollover.want("another model")
    assert rollover.step(NOISE, 11.0) is Step.PREPARE, "another one may be had in the quiet"
    if way != "a new wish":
        rollover.drop_wish()
    if way == "a wish dropped while it is being granted":
        rollover.spoiled(11.5, 0.0)
    quiet = Scene(quiet=way != "a new wish")
    assert [rollover.step(quiet, at) for at in (12.0, 13.0, 17.9)] == [Step.WAIT] * 3
    assert Step.FORCE in (rollover.step(quiet, 18.0), rollover.step(quiet, 18.0))


def test_a_session_that_was_open_before_it_leads_has_no_more_time_for_that() -> None:
    rollover = Rollover(RolloverSettings())
    rollover.led(3570.0, 3600.0, opened_at=0.0)
    assert rollover.step(NOISE, 3570.0) is Step.PREPARE
    assert rollover.step(NOISE, 3598.5) is Step.FORCE
    rollover.led(3598.5, 3600.0, opened_at=3598.0, ends_at=3610.0)
    assert [rollover.step(NOISE, at) for at in (3598.5, 3608.4, 3608.5)] == [Step.PREPARE, Step.WAIT, Step.FORCE]


def test_a_new_leader_ends_what_was_due() -> None:
    rollover = announced()
    rollover.led(30.0, None)
    assert rollover.pending is None
    assert rollover.step(QUIET, 100.0) is Step.WAIT


@pytest.mark.parametrize(
    ("settings", "handle", "same_model", "overlapping", "wrong", "expected"),
    [
        ("auto", True, True, False, False, (Way.STANDBY, True)),
        ("auto", True, True, True, False, (Way.OVERLAP, True)),
        ("auto", True, True, False, True, (Way.OVERLAP, False)),
        ("auto", False, True, False, False, (Way.OVERLAP, False)),
        ("auto", True, False, False, False, (Way.OVERLAP, False)),
        ("overlap", True, True, False, False, (Way.OVERLAP, False)),
        ("standby", True, True, True, True, (Way.STANDBY, True)),
        ("standby", False, True, False, False, (Way.OVERLAP, False)),
    ],
)
def test_the_way_is_what_the_provider_allows_and_the_configuration_asks_for(
    settings: str, handle: bool, same_model: bool, overlapping: bool, wrong: bool, expected: tuple[Way, bool]
) -> None:
    found = way_of(
        RolloverSettings(way=settings),  # type: ignore[arg-type]
        handle=handle,
        same_model=same_model,
        overlapping_resume=overlapping,
        memory_is_wrong=wrong,
    )
    assert found == expected
