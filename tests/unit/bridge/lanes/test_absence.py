"""When a lost room hears us again."""

from __future__ import annotations

from bridge.lanes.absence import Absence


def test_the_old_connection_is_heard_at_once() -> None:
    absence = Absence(tells_hearers=True)
    absence.begins(1.0)
    assert absence.back(False, 1.5)
    assert (absence.away, absence.lost) == (False, False)
    assert absence.stats.away_ms == 500


def test_a_new_connection_is_heard_when_somebody_has_found_it() -> None:
    absence = Absence(tells_hearers=True)
    absence.begins(1.0)
    assert not absence.back(True, 2.0)
    assert absence.heard(4.0)
    assert absence.lost
    assert not absence.heard(5.0)
    assert absence.stats.away_ms == 3000


def test_a_hearer_may_be_quicker_than_the_news_of_the_return() -> None:
    absence = Absence(tells_hearers=True)
    absence.begins(1.0)
    assert not absence.heard(1.9)
    assert absence.back(True, 2.0)


def test_a_hearer_of_the_old_connection_does_not_count_for_the_new_one() -> None:
    absence = Absence(tells_hearers=True)
    assert not absence.heard(0.5)
    absence.begins(1.0)
    assert not absence.back(True, 2.0)


def test_somebody_who_never_tells_that_he_hears_is_spoken_to_after_a_while() -> None:
    absence = Absence(tells_hearers=True)
    absence.begins(1.0)
    absence.back(True, 2.0)
    assert not absence.due(True, 6.9)
    assert not absence.due(False, 9.0)
    assert absence.due(True, 9.1)


def test_a_transport_that_cannot_tell_who_hears_is_believed() -> None:
    absence = Absence(tells_hearers=False)
    absence.begins(1.0)
    assert absence.back(True, 2.0)


def test_a_second_loss_before_anybody_heard_goes_on_with_the_first() -> None:
    absence = Absence(tells_hearers=True)
    absence.begins(1.0)
    absence.back(True, 2.0)
    absence.begins(2.5)
    assert not absence.due(True, 60.0)
    assert not absence.back(False, 60.0)
    assert absence.heard(61.0)
    assert absence.lost
    assert absence.stats.absences == 1
    assert absence.stats.away_ms == 60_000


def test_a_return_without_a_loss_changes_nothing() -> None:
    assert not Absence(tells_hearers=True).back(True, 1.0)
