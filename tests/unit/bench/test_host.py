from __future__ import annotations

import os
import threading
import time

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


def test_shares_of_the_machine_are_percentages() -> None:
    clock = HostClock()
    time.sleep(0.05)
    load = clock.load()
    assert 0 <= load.steal_percent <= 100
    assert 0 <= load.busy_percent <= 100
