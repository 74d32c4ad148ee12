"""The process: many calls under one task group, signals, a drained goodbye, a collector that keeps out of speech."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from bridge.config import Config
from bridge.core.commands import Command, ShowCaption
from bridge.core.errors import BridgeError, ConfigError
from bridge.core.tool import Tool
from bridge.core.words import AgentState, EndReason
from bridge.facade import RoomBridge
from bridge.lanes.telemetry import Snapshot, counters_of
from bridge.transports.contract import Transport
from bridge.transports.livekit_room import LiveKitRoom
from bridge.video.jpeg import pillow_problem
from providers.catalog import PROVIDERS
from providers.contract import SpeechModel
from providers.errors import SettingRefused
from providers.health import HealthBook, HealthSettings

__all__ = [
    "Ended",
    "Ending",
    "GrownCounters",
    "Process",
    "make_model",
    "make_room",
    "make_stand_ins",
    "model_problems",
    "run",
]

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")
_Error = TypeVar("_Error", bound=BaseException)

_NO_FUNCTION = (
    "no function of this process answers it: remove it, or start the call from Python with RoomBridge(tools=...) "
    "and name it in make_model(serves=...)"
)
_AT_ONCE_S = 3.0
"""A second signal ends the process within this, goodbyes or not."""
_ENDED_BY_SIGNAL = 130
_COLLECT_EVERY_S = 5.0
_COLLECT_AT_LAST_S = 60.0
"""With somebody always speaking, a collection is still due now and then."""
_REMEMBERED = 1_000

Ending = Callable[["EndReason | BridgeError"], None]
"""Told why a call is over, while its room is still there to be told too."""


class Ended(msgspec.Struct, frozen=True):
    """How one call ended: with a reason, or with an error."""

    room: str
    reason: EndReason | None = None
    error: BridgeError | None = None


def model_problems(config: Config, environ: Mapping[str, str], serves: Collection[str] = ()) -> list[ConfigError]:
    """Everything about the model that is wrong in this configuration; nothing is opened.

    Args: serves names the tools that this process has functions for. A tool of `speech.tools` that is not among them
    would be called and never answered.
    """
    provider = PROVIDERS[config.provider]
    own = config.providers[config.provider]
    refused = provider.problems(config.speech, own, environ, config.connection)
    blind: list[ConfigError] = []
    if config.video.sources and not refused:
        can = provider.capabilities(config.speech, own, environ)
        if not can.video:
            mend = f"{can.model} ({provider.name}) takes no images: choose another model, or empty it"
            blind.append(ConfigError("video.sources", ", ".join(config.video.sources), mend))
        elif can.max_image_bytes is not None and config.video.max_bytes > can.max_image_bytes:
            mend = f"{can.model} ({provider.name}) takes images of {can.max_image_bytes} bytes at most: lower it"
            blind.append(ConfigError("video.max_bytes", config.video.max_bytes, mend))
        elif (problem := pillow_problem()) is not None:
            blind.append(ConfigError("video.sources", ", ".join(config.video.sources), problem))
    return [
        *blind,
        *(ConfigError(problem.field, problem.value, problem.mend) for problem in refused),
        *(ConfigError(f"speech.tools.{tool.name}", tool.name, _NO_FUNCTION) for tool in config.speech.tools
          if tool.name not in serves),
    ]  # fmt: skip


def make_model(config: Config, environ: Mapping[str, str], serves: Collection[str] = ()) -> SpeechModel:
    """The configured model, checked but not connected; `serves` as for `model_problems`.

    Raises: `ConfigError` with everything that it refuses.
    """
    refused = model_problems(config, environ, serves)
    if refused:
        first, *others = refused
        raise ConfigError(first.field, first.value, first.mend, others)
    provider = PROVIDERS[config.provider]
    try:
        return provider.connector(config.speech, config.providers[config.provider], config.connection, environ)
    except SettingRefused as problem:  # what only the model itself can find, such as a file gone meanwhile
        raise ConfigError(problem.field, problem.value, problem.mend) from problem


def make_stand_ins(config: Config, environ: Mapping[str, str], serves: Collection[str] = ()) -> list[SpeechModel]:
    """The models of `failover`, checked but not connected. Raises: as `make_model`."""
    return [make_model(config.of(name), environ, serves) for name in config.failover]


def make_room(config: Config, environ: Mapping[str, str]) -> LiveKitRoom:
    """The configured LiveKit room, not yet joined. Raises: `ConfigError`."""
    token = environ.get("LIVEKIT_TOKEN", "").strip()
    return LiveKitRoom(
        config.livekit,
        token=token or None,
        api_key=environ.get("LIVEKIT_API_KEY", "").strip() or None,
        api_secret=environ.get("LIVEKIT_API_SECRET", "").strip() or None,
    )


class Process:
    """All calls of this process. One that fails leaves the others alone.

    `serve` runs a number of them to their end. For calls that come as they like: `async with process.open()`, and
    `start` inside. `stop` lets what is being said be heard and then ends every call; a call still joining ends at once.
    """

    def __init__(
        self, tools: Iterable[Tool | Callable[..., Any]] = (), *, health: HealthSettings | None = None
    ) -> None:
        """Args: tools are the functions that the models of all calls may call; health is `Config.health`."""
        self.tools = tuple(tool if isinstance(tool, Tool) else Tool.from_function(tool) for tool in tools)
        self.bridges: dict[str, RoomBridge] = {}
        self.ended: deque[Ended] = deque(maxlen=_REMEMBERED)
        """The last calls that have ended, a thousand at most; the counts below are of all."""
        self.calls_started = 0
        self.calls_failed = 0
        self.health = HealthBook(health)
        """What all calls know of the providers' endpoints."""
        self._running: asyncio.TaskGroup | None = None
        self._joining: set[asyncio.Task[Any]] = set()
        self._stopping = False

    @property
    def stopping(self) -> bool:
        """No further call is started."""
        return self._stopping

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Calls may be started inside; leaving waits for the last one to end (`stop` makes them)."""
        assert self._running is None, "a process is open once"
        async with asyncio.TaskGroup() as group:
            collector = group.create_task(self._collect(), name="collector")
            try:
                async with asyncio.TaskGroup() as self._running:
                    yield
            finally:
                self._running = None
                collector.cancel()
                self._log_health()

    def counters(self) -> dict[str, int | float]:
        """Of all providers' endpoints together."""
        return dict(counters_of("endpoints", self.health.totals()))

    def _log_health(self) -> None:
        for endpoint, stats in self.health.snapshot().items():
            told = " ".join(f"{name}={value:g}" for name, value in counters_of("endpoints", stats))
            log.info("endpoint counters endpoint=%s %s", endpoint, told)

    async def serve(
        self, calls: Mapping[str, tuple[Transport, SpeechModel, Config, Sequence[SpeechModel]]]
    ) -> list[Ended]:
        """Run these calls (name: room, model, configuration, models that stand in) side by side until the last one has
        ended."""
        async with self.open():
            for name, (room, model, config, stand_ins) in calls.items():
                self.start(name, room, model, config, stand_ins)
        return list(self.ended)

    def start(
        self,
        name: str,
        room: Transport,
        model: SpeechModel,
        config: Config,
        stand_ins: Sequence[SpeechModel] = (),
        *,
        ending: Ending | None = None,
        ended: Callable[[Ended], None] | None = None,
    ) -> None:
        """Begin one call more, as a task of this process. Only while it is open.

        Args: ending is told why the call is over while its room is still there; ended is told once everything of it is
        gone. Neither may raise.
        """
        assert self._running is not None, "calls are started inside `async with process.open()`"
        self.calls_started += 1
        work = self.call(name, room, model, config, stand_ins, ending=ending)
        task = self._running.create_task(work, name=f"{name}:call")
        if ended is not None:
            # Also of a task that was cancelled before its first step.
            task.add_done_callback(lambda task: ended(Ended(name) if task.cancelled() else task.result()))

    async def call(
        self,
        name: str,
        room: Transport,
        model: SpeechModel,
        config: Config,
        stand_ins: Sequence[SpeechModel] = (),
        *,
        ending: Ending | None = None,
    ) -> Ended:
        """Run one call to its end. Raises nothing of the call's own: `Ended.error` has it."""
        try:
            ended = Ended(name, reason=await self._call(name, room, model, config, stand_ins, ending))
        except* BridgeError as failed:
            ended = Ended(name, error=_first(failed))
        except* Exception as failed:
            # A bug of ours or of a library ends this call; it must not end the others.
            log.exception("call broke off call=%s", name)
            error = BridgeError(f"internal error: {_first(failed)!r}")
            ended = Ended(name, error=error)
        self.calls_failed += ended.error is not None
        self.ended.append(ended)
        return ended

    async def _call(
        self,
        name: str,
        room: Transport,
        model: SpeechModel,
        config: Config,
        stand_ins: Sequence[SpeechModel],
        ending: Ending | None,
    ) -> EndReason:
        bridge = RoomBridge(room, model, config, stand_ins=stand_ins, tools=self.tools, health=self.health, name=name)
        task = asyncio.current_task()
        assert task is not None, "runs in a task of the group"
        self._joining.add(task)
        try:
            async with bridge:
                self._joining.discard(task)
                self.bridges[name] = bridge
                grown = GrownCounters(name)
                if config.log.counters_every_s:
                    bridge.telemetry.watch(grown.tell, config.log.counters_every_s)
                if config.log.transcripts:
                    bridge.listen(_logs_transcripts(name))
                can = room.capabilities
                log.info(
                    "call joined call=%s transport=%s heard_by=%s provider=%s model=%s",
                    name, can.name, can.playout_report, model.name, model.capabilities.model,
                )  # fmt: skip
                try:
                    if self._stopping:
                        bridge.stop()
                    reason = await bridge.run()
                    if ending is not None:
                        ending(reason)
                    return reason
                except BridgeError as error:
                    if ending is not None:
                        ending(error)
                    raise
                finally:
                    _log_counters(bridge)
        except asyncio.CancelledError:
            if self._stopping and name not in self.bridges and task.uncancel() == 0:
                return EndReason.REQUESTED  # stopped while it was still joining
            raise
        finally:
            self._joining.discard(task)
            self.bridges.pop(name, None)

    def stop(self) -> None:
        """No new work, and every call ends after what is being said. Safe to call twice."""
        if not self._stopping:
            bounds = [bridge.config.call.drain_s for bridge in self.bridges.values()]
            log.info(
                "stopping: calls drained=%d within_s=%.0f, calls joining=%d are given up",
                len(bounds), max(bounds, default=0.0), len(self._joining),
            )  # fmt: skip
        self._stopping = True
        for task in tuple(self._joining):
            task.cancel()
        for bridge in tuple(self.bridges.values()):
            bridge.stop()

    async def _collect(self) -> None:
        """Python's own collector stops the world whenever it likes; ours waits until nobody is being spoken to."""
        gc.collect()
        gc.freeze()
        gc.disable()
        collected_at = time.monotonic()
        try:
            while True:
                await asyncio.sleep(_COLLECT_EVERY_S)
                speaks = any(bridge.state is AgentState.SPEAKING for bridge in self.bridges.values())
                if not speaks or time.monotonic() - collected_at > _COLLECT_AT_LAST_S:
                    gc.collect()
                    collected_at = time.monotonic()
        finally:
            gc.enable()
            gc.unfreeze()


def run(work: Callable[[], Coroutine[Any, Any, _Result]], on_signal: Callable[[], None]) -> _Result:
    """Run `work` in a new event loop (uvloop's where installed).

    The first SIGINT or SIGTERM calls `on_signal`, the second cancels the work: KeyboardInterrupt is raised. Work, or a
    thread of it, that does not heed that within 3 s goes down with the process: exit code 130.
    """
    last_resort = threading.Timer(_AT_ONCE_S, _end_process)
    last_resort.daemon = True

    async def guarded() -> _Result:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None, "runs as the root task"
        signals = 0

        def handle() -> None:
            nonlocal signals
            signals += 1
            if signals == 1:
                log.info("stopping, once what is being said has been heard; a second signal ends at once")
                on_signal()
            elif signals == 2:
                last_resort.start()
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, handle)
        try:
            return await work()
        except asyncio.CancelledError:
            if signals > 1:
                raise KeyboardInterrupt from None
            raise
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    try:
        # Closing the runner waits for the threads of the loop, which a name look-up may hold for a minute.
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(guarded())
    finally:
        last_resort.cancel()


def _end_process() -> None:
    os.write(2, b"roombridge: ended without a goodbye, which took too long\n")
    os._exit(_ENDED_BY_SIGNAL)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _first(group: BaseExceptionGroup[_Error]) -> _Error:
    error: _Error | BaseExceptionGroup[_Error] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _logs_transcripts(name: str) -> Callable[[Command], None]:
    def listener(command: Command) -> None:
        if isinstance(command, ShowCaption) and command.caption.text:
            caption = command.caption
            log.info(
                "transcript call=%s speaker=%s final=%s text=%s",
                name,
                caption.speaker or "agent",
                str(caption.final).lower(),
                caption.text,
            )

    return listener


class GrownCounters:
    """Logs, of each snapshot that it is told, the counters that have grown since the one before."""

    def __init__(self, call: str) -> None:
        self._call = call
        self._before: dict[str, int | float] = {}

    def tell(self, snapshot: Snapshot) -> None:
        """One line with `KEY=VALUE(+GROWTH)` each; none when nothing has grown."""
        before, self._before = self._before, snapshot.counters
        told = " ".join(
            f"{key}={value:g}(+{value - before.get(key, 0):g})"
            for key, value in snapshot.counters.items()
            if value > before.get(key, 0)
        )
        if told:
            log.info("call counters grown call=%s age_s=%.0f %s", self._call, snapshot.age_s, told)


def _log_counters(bridge: RoomBridge) -> None:
    counters = bridge.snapshot().counters
    told = " ".join(f"{key}={value:g}" for key, value in counters.items() if value)
    log.info("call counters call=%s %s", bridge.name, told)
