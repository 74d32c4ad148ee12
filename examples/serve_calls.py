"""Lets browsers call the offline model, which has a tool of ours: the page and the API in a process of your own.

Run it: python -m examples.serve_calls [FILE.toml], and open the address that it prints. Ctrl-C ends it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from bridge import BridgeError, Process, Serving, load

__all__ = ["main"]


def time_of_day() -> str:
    """The time now, in UTC."""
    return datetime.now(UTC).strftime("%H:%M")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


async def main(
    file: str | None = None,
    serve: Mapping[str, object] | None = None,
    tell: Callable[[str], None] = _say,
    stop: asyncio.Event | None = None,
) -> int:
    """Serves until stopped, and returns how many calls there were. Raises: `BridgeError` that says what is wrong."""
    process = Process(tools=[time_of_day])
    serving = Serving(load(file, os.environ, {"serve": serve or {}}), os.environ, process, tell=tell)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(serving.run(), name="serving")
        if stop is not None:
            await stop.wait()
            serving.stop()
        await running
    return process.calls_started


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
    except BridgeError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
