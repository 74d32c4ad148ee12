"""Timers, faults and acts of a scripted mind."""

from __future__ import annotations

from providers.scripted.acts import FaultDue, Resumable
from providers.scripted.agenda import Agenda
from providers.scripted.scenario import Abort, Empty, Refuse


def test_actions_happen_at_their_own_time_and_in_order_however_late_the_wake_up() -> None:
    agenda = Agenda((), 1)
    done: list[tuple[str, float]] = []

    def first(now: float) -> None:
        done.append(("first", now))
        agenda.at(now + 0.5, lambda then: done.append(("follows", then)))

    agenda.at(3.0, lambda now: done.append(("third", now)))
    agenda.at(1.0, first)
    agenda.at(1.0, lambda now: done.append(("second", now)))
    assert agenda.deadline() == 1.0
    agenda.advance(2.0)
    assert done == [("first", 1.0), ("second", 1.0), ("follows", 1.5)] and agenda.deadline() == 3.0


def test_acts_are_taken_once() -> None:
    agenda = Agenda((), 1)
    agenda.did(Resumable(True))
    assert agenda.take() == [Resumable(True)] and agenda.take() == []


def test_a_fault_strikes_once_and_only_on_its_connection() -> None:
    mine, other = Empty(turn=1), Abort(turn=1, connection=2)
    agenda = Agenda((Refuse(), mine, other), 1)
    for _ in range(2):
        agenda.strike_where(lambda fault: fault.turn == 1)
    assert agenda.take() == [FaultDue(mine)]


def test_timed_faults_run_from_the_start() -> None:
    agenda = Agenda((Abort(at_s=2.0),), 1)
    agenda.start_faults(10.0)
    assert agenda.deadline() == 12.0
    agenda.advance(12.0)
    assert agenda.take() == [FaultDue(Abort(at_s=2.0))]


def test_a_fault_can_be_planned_while_the_mind_runs() -> None:
    agenda = Agenda((), 1)
    agenda.plan(Abort(at_s=3.0), 0.0)
    agenda.start_faults(10.0)
    agenda.plan(Abort(at_s=2.0), 11.0)
    agenda.plan(Abort(at_s=0.5), 11.0)
    agenda.plan(Abort(turn=2), 11.0)
    agenda.plan(Abort(), 11.0)
    assert agenda.take() == [FaultDue(Abort())], "one that says no time is meant now"
    agenda.advance(11.0)
    assert agenda.take() == [FaultDue(Abort(at_s=0.5))], "its time has passed"
    agenda.advance(13.0)
    assert agenda.take() == [FaultDue(Abort(at_s=2.0)), FaultDue(Abort(at_s=3.0))]
    agenda.strike_where(lambda fault: fault.turn == 2)
    assert agenda.take() == [FaultDue(Abort(turn=2))]


def test_nothing_is_left_after_the_end() -> None:
    agenda = Agenda((), 1)
    agenda.at(1.0, lambda now: agenda.did(Resumable(True)))
    agenda.clear()
    agenda.advance(5.0)
    assert agenda.deadline() is None and agenda.take() == []
