"""Starts the programs of a measurement, gives them commands, ends them by their process id."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["CACHE", "ROOT", "Worker", "WorkerFailed"]

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "bench"


class WorkerFailed(Exception):
    """A program of the measurement failed or ended. Names it and the file with what it said."""


class Worker:
    """One process running `bench.workers.NAME`, or a module with a dot in its name. Use as an async context manager.

    Args: through is a command that runs the one behind it, such as `ip netns exec NAME`.
    """

    def __init__(
        self, program: str, *, name: str = "", environ: Mapping[str, str] | None = None, through: Sequence[str] = ()
    ) -> None:
        self.name = name or program
        self.started_at = 0.0
        self._program = program
        self._environ = environ or {}
        self._through = tuple(through)
        self._process: asyncio.subprocess.Process | None = None
        self._log = CACHE / "logs" / f"{self.name}.log"

    async def __aenter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
        with self._log.open("wb") as log:
            self.started_at = time.monotonic()
            self._process = await asyncio.create_subprocess_exec(
                *self._through,
                sys.executable,
                "-m",
                self._program if "." in self._program else f"bench.workers.{self._program}",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self._environ, "PYTHONPATH": paths},
                limit=1 << 24,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._running()
        if process.returncode is None and process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    @property
    def pid(self) -> int:
        return self._running().pid

    async def ask(self, what: str, *, timeout_s: float = 40.0, **facts: Any) -> dict[str, Any]:
        """Give a command and wait for its answer. Raises WorkerFailed."""
        process = self._running()
        assert process.stdin is not None and process.stdout is not None, "started with pipes"
        try:
            process.stdin.write(json.dumps({"do": what, **facts}).encode() + b"\n")
            async with asyncio.timeout(timeout_s):
                line = await process.stdout.readline()
        except (TimeoutError, ConnectionError) as error:
            raise WorkerFailed(f"{self.name}: {what}: no answer within {timeout_s:g} s; see {self._log}") from error
        if not line:
            raise WorkerFailed(f"{self.name}: {what}: the process ended; see {self._log}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise WorkerFailed(f"{self.name}: {what}: {answer['failed']}; see {self._log}")
        return answer

    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "enter the worker first"
        return self._process
