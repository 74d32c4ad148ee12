"""An event loop whose clock moves by itself: a test that sleeps for an hour takes a millisecond."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

__all__ = ["FakeTimeLoop", "in_fake_time"]

_P = ParamSpec("_P")


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """When nothing is left to do now, its clock jumps to the next timer.

    With no timer it waits for sockets and threads as any loop does. It jumps past what they still have to say, so
    that code with both belongs on a real loop.
    """

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__(_Jumping(self._jump))

    def time(self) -> float:
        return self._now

    def _jump(self, seconds: float) -> None:
        self._now += seconds


class _Jumping(selectors.DefaultSelector):
    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)
        ready = super().select(0)
        if not ready and timeout > 0:
            self._jump(timeout)
        return ready


def in_fake_time(test: Callable[_P, Coroutine[Any, Any, None]]) -> Callable[_P, None]:
    """Run an async test on a `FakeTimeLoop` of its own."""

    @functools.wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        with asyncio.Runner(loop_factory=FakeTimeLoop, debug=False) as runner:
            runner.run(test(*args, **kwargs))

    return run
