"""What the machine does meanwhile: stolen and idle time, CPU time and memory of one process. Linux only."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import msgspec

__all__ = ["MARKED_STEAL_PERCENT", "SATURATED_PERCENT", "HostClock", "Load", "ProcessClock", "machine"]

MARKED_STEAL_PERCENT = 3.0
"""Rounds in which the host took more than this are marked: their times are the host's."""
SATURATED_PERCENT = 92.0
"""Busier than this, a machine no longer does everything in time: the rows are marked."""
_TICKS_HZ = os.sysconf("SC_CLK_TCK")


class Load(msgspec.Struct, frozen=True):
    """Of all processors together, over one measurement."""

    steal_percent: float
    busy_percent: float

    @property
    def marks(self) -> str:
        """`S`: the host took time away. `F`: the machine was full."""
        stolen = "S" if self.steal_percent > MARKED_STEAL_PERCENT else ""
        return stolen + ("F" if self.busy_percent > SATURATED_PERCENT else "")


class HostClock:
    """Counts from its construction on. Args: stat holds the counters, as proc(5) writes them."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._from = _host_ticks(stat)

    def load(self) -> Load:
        now = _host_ticks(self._stat)
        user, nice, system, idle, io_wait, irq, soft_irq, steal = (
            after - before for after, before in zip(now, self._from, strict=True)
        )
        total = max(1, user + nice + system + idle + io_wait + irq + soft_irq + steal)
        return Load(100 * steal / total, 100 * (1 - (idle + io_wait) / total))


def _host_ticks(stat: Path) -> tuple[int, ...]:
    line = stat.read_text().split("\n", 1)[0]
    return tuple(int(field) for field in line.split()[1:9])


class ProcessClock:
    """CPU time of one process, all its threads, from construction on."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self._began = time.monotonic()
        self._cpu = self._cpu_s()
        self._threads = self._thread_cpu_s()
        self._switches = self._main_switches()

    def seconds(self) -> float:
        """Wall time since then."""
        return time.monotonic() - self._began

    def cpu_s(self) -> float:
        return self._cpu_s() - self._cpu

    def cpu_s_by_thread(self) -> dict[str, float]:
        """By name of thread, numbers cut off. Threads that ended meanwhile are missing."""
        parts: dict[str, float] = {}
        for thread, (name, spent_s) in self._thread_cpu_s().items():
            before = self._threads.get(thread, (name, 0.0))[1]
            parts[name] = parts.get(name, 0.0) + spent_s - before
        return {name: spent_s for name, spent_s in sorted(parts.items(), key=lambda part: -part[1]) if spent_s > 0}

    def main_wakeups(self) -> int:
        """How often the main thread, the event loop's, slept and was woken."""
        return self._main_switches() - self._switches

    def resident_mb(self) -> float:
        pages = int((self._folder / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def threads(self) -> int:
        return sum(1 for _ in (self._folder / "task").iterdir())

    def _cpu_s(self) -> float:
        # schedstat counts nanoseconds, but not threads that have ended; stat has those, in ticks of 10 ms.
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_HZ

    def _thread_cpu_s(self) -> dict[str, tuple[str, float]]:
        found: dict[str, tuple[str, float]] = {}
        for task in (self._folder / "task").iterdir():
            try:
                fields = (task / "stat").read_text()
            except OSError:  # it ended between the listing and the reading
                continue
            name = fields[fields.index("(") + 1 : fields.rindex(")")].rstrip("0123456789-_ ")
            spent = fields.rpartition(")")[2].split()
            found[task.name] = (name or "?", (int(spent[11]) + int(spent[12])) / _TICKS_HZ)
        return found

    def _main_switches(self) -> int:
        status = (self._folder / "task" / self._folder.name / "status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("voluntary_ctxt_switches"))
        return int(line.split()[1])


def machine() -> dict[str, str]:
    """What the figures belong to."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    try:
        loop = f"uvloop {version('uvloop')}"
    except ImportError:
        loop = "asyncio"
    return {
        "cpu": f"{os.cpu_count()} x {cpu}",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "loop": loop,
        "livekit": version("livekit"),
        "websockets": version("websockets"),
    }
