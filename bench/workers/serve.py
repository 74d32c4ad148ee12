"""Obeys commands: one JSON object a line on stdin, one answer a line on what was stdout."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

__all__ = ["Handler", "main", "until"]

Handler = Callable[..., Awaitable[dict[str, Any] | None]]


async def until(condition: Callable[[], bool], timeout_s: float, step_s: float = 0.01) -> None:
    """Look every `step_s` until the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - of other objects' state, and off every measured path
            await asyncio.sleep(step_s)


async def _obey(handlers: Mapping[str, Handler], answers: int) -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        command = json.loads(line)
        try:
            answer = await handlers[command.pop("do")](**command) or {}
        except Exception as error:  # told to the measurement, which fails with it
            answer = {"failed": f"{type(error).__name__}: {error}"}
        os.write(answers, json.dumps(answer).encode() + b"\n")


def main(make: Callable[[asyncio.TaskGroup], Mapping[str, Handler]]) -> None:
    """Run a worker until stdin ends. `make` gets the group that owns its tasks and returns what it can do."""
    # The SDK's native side may print: keep it out of the answers.
    answers = os.dup(1)
    os.dup2(2, 1)

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            await _obey(make(group), answers)
            # Native threads may still log into an interpreter that is being taken down, which aborts the process.
            os._exit(0)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(run())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The same loop as the bridge uses, for every worker."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
