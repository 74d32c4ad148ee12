"""Blocking functions beside the loop, each in a thread of its own that no exit has to wait for."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Threads"]


class Threads:
    """Threads of one call.

    Not the loop's own executor: its few workers also resolve names and fetch tokens, so functions that hang would take
    those away, and leaving the loop and the process waits for them. These are daemons; whoever asks bounds them by
    `busy`.
    """

    def __init__(self, came_late: Callable[[], None] = lambda: None) -> None:
        """`came_late` is called in the loop for each function that returns when nobody waits for it any more."""
        self._came_late = came_late
        self.busy = 0
        """Running now, those that nobody waits for any more included."""
        self.left = 0
        """Given up by their caller while they ran."""

    async def call(self, function: Callable[..., Any], arguments: Mapping[str, Any], name: str) -> Any:
        """Run `function(**arguments)` aside. A cancelled call leaves the thread to itself; its result is lost.

        Raises: what the function raises, where that is an Exception; RuntimeError that names anything graver.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def settle(result: Any, error: BaseException | None) -> None:
            self.busy -= 1
            if done.done():
                if error is None:
                    self._came_late()
                return
            if error is None:
                done.set_result(result)
            elif isinstance(error, Exception) and not isinstance(error, StopIteration):
                done.set_exception(error)
            else:
                # An exit or a cancellation of the function's own ends the function, never the loop.
                done.set_exception(RuntimeError(f"it raised {type(error).__name__}"))

        def work() -> None:
            result, error = None, None
            try:
                result = context.run(function, **arguments)
            except BaseException as raised:  # told to whoever waits
                error = raised
            if not loop.is_closed():
                try:
                    loop.call_soon_threadsafe(settle, result, error)
                except RuntimeError:
                    pass  # closed just now: nobody waits any more
            del error  # it holds this frame: no cycle for the collector, which is off during calls

        self.busy += 1
        try:
            threading.Thread(target=work, name=name, daemon=True).start()
        except RuntimeError:
            self.busy -= 1
            raise
        try:
            return await done
        except asyncio.CancelledError:
            self.left += 1
            raise
