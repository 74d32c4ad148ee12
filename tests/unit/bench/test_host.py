from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from bench.host import HostClock, Load, ProcessClock


def test_a_busy_process_is_seen_to_spend_its_time() -> None:
    clock = ProcessClock(os.getpid())
    until = time.thread_time() + 0.1
    while time.thread_time() < until:
        pass
    assert 0.05 <= clock.cpu_s() <= 1.0
    assert sum(clock.cpu_s_by_thread().values()) >= 0.05


def test_threads_and_memory_are_counted() -> None:
    clock = ProcessClock(os.getpid())
    before = clock.threads()
    wait = threading.Event()
    thread = threading.Thread(target=wait.wait)
    thread.start()
    try:
        assert clock.threads() == before + 1
    finally:
        wait.set()
        thread.join()
    assert clock.resident_mb() > 5


def test_rounds_are_marked_when_the_host_took_time_or_the_machine_was_full() -> None:
    assert Load(steal_percent=0.5, busy_percent=40.0).marks == ""
    assert Load(steal_percent=4.0, busy_percent=99.0).marks == "SF"


def test_shares_of_the_machine_are_percentages_of_all_ticks_since_then(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  1000 0 500 8000 100 0 50 20 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n")
    clock = HostClock(stat)
    stat.write_text("cpu  1050 0 530 8090 110 0 55 35 0 0\n")
    load = clock.load()
    assert (load.steal_percent, load.busy_percent) == pytest.approx((7.5, 50.0))


def test_this_machine_can_be_read() -> None:
    load = HostClock().load()
    assert 0 <= load.steal_percent <= 100 and 0 <= load.busy_percent <= 100
