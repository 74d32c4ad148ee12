"""A bad network is bad by as much as it says, and always in the same way."""

from __future__ import annotations

import pytest

from tests.fakes.netem import CLEAN, Conditions, Impairment

_COUNT = 20_000
_EVERY_S = 0.02


def _arrivals(line: Impairment, count: int = _COUNT, every_s: float = _EVERY_S) -> list[tuple[int, float]]:
    """Which packet came out when: one is sent each 20 ms, and the line is looked at whenever it says."""
    came: list[tuple[int, float]] = []
    for number in range(count):
        now = number * every_s
        _drain(line, now, came)
        line.take(number.to_bytes(4, "big"), now)
    _drain(line, count * every_s + 10.0, came)
    return came


def _drain(line: Impairment, until: float, came: list[tuple[int, float]]) -> None:
    while (due := line.deadline()) is not None and due <= until:
        came += [(int.from_bytes(packet, "big"), due) for packet in line.arrived(due)]


def _delays_ms(came: list[tuple[int, float]]) -> list[float]:
    return [(at - number * _EVERY_S) * 1000 for number, at in came]


def test_a_clean_line_passes_everything_at_once() -> None:
    line = Impairment(1)
    line.take(b"one", 5.0)
    line.take(b"two", 5.0)
    assert line.deadline() == 5.0
    assert line.arrived(5.0) == [b"one", b"two"]
    assert (line.deadline(), line.arrived(6.0)) == (None, [])


def test_so_many_packets_are_lost_as_was_asked_for() -> None:
    line = Impairment(1, Conditions(loss=0.05))
    came = _arrivals(line)
    assert line.stats.lost / _COUNT == pytest.approx(0.05, abs=0.005)
    assert len(came) == _COUNT - line.stats.lost == line.stats.passed


def test_the_same_seed_loses_the_same_packets_whatever_else_happens_to_them() -> None:
    plain = {number for number, _ in _arrivals(Impairment(7, Conditions(loss=0.05)))}
    worse = Conditions(loss=0.05, delay_ms=80, jitter_ms=40, reordered=0.1, duplicated=0.1)
    assert {number for number, _ in _arrivals(Impairment(7, worse))} == plain
    assert {number for number, _ in _arrivals(Impairment(8, worse))} != plain


def test_the_same_seed_is_the_same_network() -> None:
    conditions = Conditions(loss=0.05, delay_ms=20, jitter_ms=40, reordered=0.02, duplicated=0.02)
    assert _arrivals(Impairment(3, conditions)) == _arrivals(Impairment(3, conditions))


def test_packets_take_the_delay_and_evenly_up_to_the_jitter_more() -> None:
    delays = sorted(_delays_ms(_arrivals(Impairment(1, Conditions(delay_ms=30, jitter_ms=40)))))
    assert 30 <= delays[0] < 30.1 and 69.9 < delays[-1] <= 70.001
    assert delays[_COUNT // 2] == pytest.approx(50, abs=0.5)
    assert delays[_COUNT // 4] == pytest.approx(40, abs=0.5)


def test_jitter_beyond_the_spacing_changes_the_order_unless_it_is_kept() -> None:
    free, queued = (
        Impairment(1, Conditions(jitter_ms=40)),
        Impairment(1, Conditions(jitter_ms=40, keeps_order=True)),
    )
    assert [number for number, _ in _arrivals(free)] != list(range(_COUNT))
    assert free.stats.overtaken > _COUNT / 20
    assert [number for number, _ in _arrivals(queued)] == list(range(_COUNT))
    assert queued.stats.overtaken == 0
    assert max(_delays_ms(_arrivals(Impairment(1, Conditions(jitter_ms=40, keeps_order=True))))) <= 40.001


def test_some_packets_are_held_back_behind_the_next() -> None:
    line = Impairment(1, Conditions(reordered=0.1, held_back_ms=30))
    _arrivals(line)
    assert line.stats.overtaken / _COUNT == pytest.approx(0.1 * 0.9, abs=0.01)  # not if the next is held back too


def test_some_packets_come_twice() -> None:
    line = Impairment(1, Conditions(duplicated=0.05))
    came = [number for number, _ in _arrivals(line)]
    assert len(came) == _COUNT + line.stats.duplicated
    assert line.stats.duplicated / _COUNT == pytest.approx(0.05, abs=0.005)
    assert sorted(set(came)) == list(range(_COUNT))


def test_a_cut_loses_what_is_sent_meanwhile_and_nothing_else() -> None:
    line = Impairment(1, Conditions(delay_ms=50))
    came: list[tuple[int, float]] = []
    for number in range(200):
        now = number * _EVERY_S
        if number == 50:
            line.cut(now, 2.0)
        _drain(line, now, came)
        line.take(number.to_bytes(4, "big"), now)
    _drain(line, 100.0, came)
    assert [number for number, _ in came] == [*range(50), *range(150, 200)]
    assert line.stats.cut == 100


def test_conditions_change_while_packets_are_under_way() -> None:
    line = Impairment(1, Conditions(delay_ms=100))
    line.take(b"slow", 0.0)
    line.conditions = CLEAN
    line.take(b"quick", 0.05)
    assert line.arrived(0.05) == [b"quick"]
    assert line.arrived(0.1) == [b"slow"]


def test_a_full_line_drops_the_newest_and_counts_it() -> None:
    line = Impairment(1, Conditions(delay_ms=100), limit=2)
    for name in (b"a", b"b", b"c"):
        line.take(name, 0.0)
    assert line.stats.overflowed == 1
    assert line.arrived(1.0) == [b"a", b"b"]
