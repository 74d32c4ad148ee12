"""A test that failed while the machine stood still is run once more, and both outcomes are told. Never silently.

Calls are in real time: where the host takes a processor away for a third of a second, speech breaks and no product can
help it. That is evidence and not a guess: stolen time as the kernel counts it, or a thread of ours that was woken much
too late. Without it a failure stands. See docs/decisions/0007-e2e-reruns.md.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

import msgspec
import pytest
from _pytest.runner import runtestprotocol

from bench.host import HostClock

__all__ = ["GapFinder", "MachineWatch", "Reruns", "Seen"]

STEAL_PERCENT = 5.0
"""Of all processors over the test. More: the host had them."""
STOLEN_MS = 100.0
"""Less than this in all is a rounding of the kernel's counters, whatever its share of a short test."""
GAP_MS = 250.0
"""Longer than what jitter buffers and queues of a call bridge."""
_PERIOD_S = 0.02
_OWN_SHARE = 0.5
"""A thread of Python's waits for the interpreter too. Where our own process was busy for more than this share of the
gap, the gap may be its own doing and proves nothing."""


class Seen(msgspec.Struct, frozen=True):
    """What became of the machine during one test."""

    steal_percent: float
    stolen_ms: float
    longest_gap_ms: float

    @property
    def evidence(self) -> str:
        """What shows that the machine was taken away; empty: nothing does."""
        found = []
        if self.steal_percent > STEAL_PERCENT and self.stolen_ms >= STOLEN_MS:
            found.append(f"the host took {self.steal_percent:.1f} % of it")
        if self.longest_gap_ms > GAP_MS:
            found.append(f"it stood still for {self.longest_gap_ms:.0f} ms")
        return " and ".join(found)


class GapFinder:
    """The longest time by which a thread that sleeps `period_s` was woken late while its process did little."""

    def __init__(self, period_s: float, now: float, cpu_s: float) -> None:
        self.longest_s = 0.0
        self._period_s = period_s
        self._now = now
        self._cpu_s = cpu_s

    def woke(self, now: float, cpu_s: float) -> None:
        """It is awake at `now`, and its process has spent `cpu_s` so far."""
        late_s, spent_s = now - self._now - self._period_s, cpu_s - self._cpu_s
        if spent_s <= _OWN_SHARE * late_s:
            self.longest_s = max(self.longest_s, late_s)
        self._now, self._cpu_s = now, cpu_s


class Watch(Protocol):
    """Watches from its construction on."""

    def stop(self) -> Seen: ...


class MachineWatch:
    """The machine itself."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._host = HostClock()
        self._gaps = GapFinder(_PERIOD_S, self._began, time.process_time())
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stalls", daemon=True)
        self._thread.start()

    def stop(self) -> Seen:
        self._over.set()
        self._thread.join()
        steal_percent = self._host.load().steal_percent
        watched_ms = (time.monotonic() - self._began) * 1000 * (os.cpu_count() or 1)
        return Seen(steal_percent, steal_percent / 100 * watched_ms, self._gaps.longest_s * 1000)

    def _run(self) -> None:
        while not self._over.wait(_PERIOD_S):
            self._gaps.woke(time.monotonic(), time.process_time())


class _Again(msgspec.Struct, frozen=True):
    test: str
    evidence: str
    first: str
    then: str
    details: str


class Reruns:
    """The plugin. `again` holds every test that was run twice."""

    def __init__(self, watch: Callable[[], Watch] = MachineWatch) -> None:
        self.again: list[_Again] = []
        self._watch = watch

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if item.get_closest_marker("e2e") is None:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        seen, reports = self._run(item, nextitem)
        if seen.evidence and any(report.failed for report in reports):
            first = reports
            if not first[0].passed:
                # What a module shares keeps the error of its own set-up: have it made anew.
                item.session._setupstate.teardown_exact(None)
            _allow_the_whole_time_again(item)
            _, reports = self._run(item, nextitem)
            details = "\n".join(report.longreprtext for report in first if report.failed)
            self.again.append(_Again(item.nodeid, seen.evidence, _outcome(first), _outcome(reports), details))
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.again:
            return
        terminalreporter.section("e2e tests run again because the machine stood still")
        for one in self.again:
            terminalreporter.write_line(f"{one.test}: {one.evidence}; first {one.first}, then {one.then}")
            terminalreporter.write_line(f"The first time:\n{one.details}\n")

    def _run(self, item: pytest.Item, nextitem: pytest.Item | None) -> tuple[Seen, list[pytest.TestReport]]:
        watch = self._watch()
        try:
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
        finally:
            seen = watch.stop()
        return seen, reports


def _outcome(reports: list[pytest.TestReport]) -> str:
    bad = next((report for report in reports if not report.passed), None)
    return "passed" if bad is None else f"{bad.outcome} in its {bad.when}"


def _allow_the_whole_time_again(item: pytest.Item) -> None:
    """pytest-timeout sets one limit around both runs: begin it anew for the second."""
    plugin = importlib.import_module("pytest_timeout")
    settings = plugin._get_item_settings(item)
    if settings.timeout and not settings.func_only:
        item.ihook.pytest_timeout_cancel_timer(item=item)
        item.ihook.pytest_timeout_set_timer(item=item, settings=settings)
