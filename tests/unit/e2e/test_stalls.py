"""A failure stands, unless the machine was gone meanwhile: then the test is run again and both outcomes are told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.stalls import GapFinder, MachineWatch, Reruns, Seen

pytest_plugins = ["pytester"]

QUIET = Seen(steal_percent=1.0, stolen_ms=40.0, longest_gap_ms=30.0)
STOLEN = Seen(steal_percent=9.0, stolen_ms=900.0, longest_gap_ms=30.0)

FAILS_ONCE = """
import pytest
runs = []

@pytest.mark.e2e
def test_first():
    runs.append(1)
    assert len(runs) > 1, "the sound broke"
"""


class Script:
    """Watches that see what the test says, one after the other."""

    def __init__(self, *seen: Seen) -> None:
        self._seen: Iterator[Seen] = iter(seen)
        self.watches = 0

    def __call__(self) -> Script:
        self.watches += 1
        return self

    def stop(self) -> Seen:
        return next(self._seen)


def run(pytester: pytest.Pytester, script: Script, source: str) -> tuple[Reruns, dict[str, int], str]:
    """The plugin, how tests ended, and what was printed."""
    pytester.makeini("[pytest]\nmarkers = e2e\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile(source)
    plugin = Reruns(script)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", plugins=[plugin])
    return plugin, result.parseoutcomes(), result.stdout.str()


def test_a_failure_of_a_machine_that_was_there_stands(pytester: pytest.Pytester) -> None:
    plugin, outcomes, printed = run(pytester, Script(QUIET), FAILS_ONCE)
    assert outcomes == {"failed": 1} and plugin.again == []
    assert "run again" not in printed


def test_a_failure_of_a_machine_that_was_gone_is_tried_once_more_and_told(pytester: pytest.Pytester) -> None:
    plugin, outcomes, printed = run(pytester, Script(STOLEN, QUIET), FAILS_ONCE)
    assert outcomes == {"passed": 1} and len(plugin.again) == 1
    assert "e2e tests run again because the machine stood still" in printed
    assert "test_first: the host took 9.0 % of it; first failed in its call, then passed" in printed
    assert "the sound broke" in printed, "how it failed the first time"


def test_there_is_no_third_time(pytester: pytest.Pytester) -> None:
    always = "import pytest\n@pytest.mark.e2e\ndef test_never():\n    assert False\n"
    script = Script(STOLEN, STOLEN)
    _, outcomes, printed = run(pytester, script, always)
    assert outcomes == {"failed": 1} and script.watches == 2
    assert "first failed in its call, then failed in its call" in printed


def test_what_passed_is_not_run_again_and_other_tests_are_not_watched(pytester: pytest.Pytester) -> None:
    source = "import pytest\n@pytest.mark.e2e\ndef test_passes(): pass\ndef test_unit(): assert False\n"
    script = Script(STOLEN)
    plugin, outcomes, _ = run(pytester, script, source)
    assert outcomes == {"passed": 1, "failed": 1}
    assert script.watches == 1 and plugin.again == []


def test_what_a_module_shares_is_made_anew_where_its_own_set_up_failed(pytester: pytest.Pytester) -> None:
    source = """
import pytest
made = []

@pytest.fixture(scope="module")
def server():
    made.append(1)
    assert len(made) > 1, "not ready in time"
    yield "server"

@pytest.mark.e2e
def test_one(server): assert server == "server"

@pytest.mark.e2e
def test_two(server): assert made == [1, 1]
"""
    _, outcomes, printed = run(pytester, Script(STOLEN, QUIET, QUIET), source)
    assert outcomes == {"passed": 2}
    assert "first failed in its setup, then passed" in printed


def test_the_second_run_has_the_whole_time_for_itself(pytester: pytest.Pytester) -> None:
    source = """
import pytest, signal
left = []

@pytest.mark.e2e
@pytest.mark.timeout(30, method="signal")
def test_timed():
    left.append(signal.getitimer(signal.ITIMER_REAL)[0])
    if len(left) == 1:
        signal.setitimer(signal.ITIMER_REAL, 10)
        assert False
    assert left[1] > 25
"""
    _, outcomes, _ = run(pytester, Script(STOLEN, QUIET), source)
    assert outcomes == {"passed": 1}


@pytest.mark.parametrize(
    ("seen", "evidence"),
    [
        (Seen(4.9, 900, 240), ""),
        (Seen(5.1, 900, 0), "the host took 5.1 % of it"),
        (Seen(50.0, 20, 0), ""),
        (Seen(0, 0, 260), "it stood still for 260 ms"),
        (Seen(7.0, 900, 300), "the host took 7.0 % of it and it stood still for 300 ms"),
    ],
)
def test_evidence_is_what_was_measured(seen: Seen, evidence: str) -> None:
    assert seen.evidence == evidence


def test_a_late_wake_up_is_a_gap_unless_the_process_was_busy_itself() -> None:
    gaps = GapFinder(0.02, now=10.0, cpu_s=1.0)
    gaps.woke(10.021, 1.0002)
    assert gaps.longest_s == pytest.approx(0.001)
    gaps.woke(10.341, 1.301)  # 300 ms late, and the process computed all the while
    assert gaps.longest_s == pytest.approx(0.001)
    gaps.woke(10.661, 1.311)
    assert gaps.longest_s == pytest.approx(0.3)
    gaps.woke(10.681, 1.312)
    assert gaps.longest_s == pytest.approx(0.3), "the longest counts"


def test_the_machine_can_be_watched() -> None:
    seen = MachineWatch().stop()
    assert 0 <= seen.steal_percent <= 100 and seen.longest_gap_ms >= 0
