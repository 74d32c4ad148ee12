"""One call: joins a transport and a speech model behind one interface.

async with RoomBridge(room=room, model=model) as bridge:
    reason = await bridge.run()
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, TypeVar, cast, overload

import msgspec

from bridge.audio.convert import converter
from bridge.audio.mix import Mixer, MixerSettings
from bridge.audio.pace import PacedSink
from bridge.audio.playout import Playout, PlayoutSettings
from bridge.conversation.barge_in import BargeInPolicy
from bridge.conversation.conversation import Conversation, ConversationSettings
from bridge.conversation.entries import TranscriptLine
from bridge.conversation.ledger import Ledger
from bridge.conversation.recall import Recall
from bridge.conversation.summary import Summarize
from bridge.conversation.turns import Floor
from bridge.core.commands import Command, Respond, SendText
from bridge.core.errors import ConfigError, RoomInUse
from bridge.core.tool import Tool
from bridge.core.words import AgentState, EndReason, ParticipantId, VideoSource
from bridge.lanes.control import ControlLane
from bridge.lanes.fast import FastLane
from bridge.lanes.pulse import Pulse
from bridge.lanes.settings import CallSettings
from bridge.lanes.summaries import Summaries
from bridge.lanes.telemetry import Snapshot, Telemetry, counters_of
from bridge.lanes.video import VideoLane
from bridge.sessions.feed import SessionFeed
from bridge.sessions.tape import Tape
from bridge.transports.contract import Transport, VideoTransport
from bridge.video.jpeg import pillow_problem
from bridge.video.settings import VideoSettings, VideoSourceName
from bridge.video.watching import Watching
from providers.contract import ModelSession, SessionStart, SpeechModel, TurnDetector
from providers.health import HealthBook
from providers.signal.formats import AudioFormat, Encoding
from providers.signal.vad import EnergyVad, VadSettings

__all__ = ["CallConfig", "RoomBridge"]

log = logging.getLogger(__name__)

_Function = TypeVar("_Function", bound=Callable[..., Any])

_FRAME_MS = 20
_SPEAKS_S = 1.0
"""Whoever was heard so short a while ago is speaking."""
_UNFLUSHABLE_LEAD_MS = 60.0
_NOBODY_LISTENS = {EndReason.ROOM_DELETED, EndReason.REMOVED, EndReason.DISCONNECTED, EndReason.ROOM_EMPTY}


class CallConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about a call that is neither the room's nor the model's: one table each in the configuration file."""

    call: CallSettings = CallSettings()
    conversation: ConversationSettings = ConversationSettings()
    mixer: MixerSettings = MixerSettings()
    playout: PlayoutSettings = PlayoutSettings()
    video: VideoSettings = VideoSettings()
    vad: VadSettings = VadSettings(threshold_dbfs=-42.0, margin_db=9.0, onset_ms=60, silence_ms=600)
    """Local voice activity detection: for `barge_in` by local speech, and for models without their own."""


class RoomBridge:
    """Puts `model` into `room` for one call. Any number of bridges live in one event loop, side by side.

    Entering opens the room; the model is reached meanwhile, and what people say until then is kept. Raises `RoomError`
    when the room cannot be joined. `run` returns when the call has ended, or raises `BridgeError` with the reason.
    Leaving ends everything that the call started.
    """

    def __init__(
        self,
        room: Transport,
        model: SpeechModel,
        config: CallConfig | None = None,
        *,
        stand_ins: Sequence[SpeechModel] = (),
        tools: Iterable[Tool | Callable[..., Any]] = (),
        summarize: Summarize | None = None,
        health: HealthBook | None = None,
        name: str = "call",
    ) -> None:
        """Args: stand_ins take over in this order when `model` gives up; health is what this process knows of the
        providers' endpoints: give one to all calls, so that they do not storm a provider together; summarize makes the
        summary of what a new session is not told word for word, in the place of our digest: see `bridge.SummaryWork`.
        It is called from time to time during a long call, and never waited for."""
        self.config = config or CallConfig()
        self.room = room
        self.model = model
        self.stand_ins = tuple(stand_ins)
        self.name = name
        self.telemetry = Telemetry(name, self._gather)
        self._tools: dict[str, Tool] = {}
        self._listeners: list[Callable[[Command], None]] = []
        self._stack = AsyncExitStack()
        self._ended: asyncio.Future[EndReason] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._began_at = 0.0
        self._over = False
        self._owns_room = True
        for tool in tools:
            self.tool(tool)

        capabilities = room.capabilities
        self._bus = AudioFormat(Encoding.PCM16, capabilities.input_format.rate_hz)
        self._mixer = Mixer(self._bus, frame_ms=_FRAME_MS, settings=self.config.mixer)
        self._paced: PacedSink | None = None
        if not capabilities.paces_itself:
            self._paced = PacedSink(room, capabilities.output_format, frame_ms=_FRAME_MS)
        playout = self.config.playout
        if not capabilities.can_flush:
            # What has been handed on will be heard: hand on little.
            playout = msgspec.structs.replace(playout, lead_ms=min(playout.lead_ms, _UNFLUSHABLE_LEAD_MS))
        self._playout = Playout(self._paced or room, capabilities.output_format, playout)
        self._conversation = Conversation(
            self.config.conversation,
            model.capabilities,
            self._playout,
            self._mixer.loudest,
            awaits_hearer=capabilities.tells_hearers,
        )
        self._recall = Recall(
            self._conversation.ledger,
            self._conversation.memory,
            lambda: asyncio.get_running_loop().time(),
            lambda: self._fast.undelivered(),
        )
        self._summaries = Summaries(name, self._conversation.ledger, summarize) if summarize is not None else None
        self._tape = Tape(self.config.call.first_words_s * 1000, self._bus, frame_ms=_FRAME_MS, vad=self.config.vad)
        self._control = ControlLane(
            name=name,
            models=(model, *self.stand_ins),
            settings=self.config.call,
            tools=self._tools,
            make_feed=self._make_feed,
            memory=self._recall,
            health=health or HealthBook(),
            ended=self._end,
            published=self._publish,
        )
        watching = Watching(self.config.video)
        self._fast = FastLane(
            room=room,
            mixer=self._mixer,
            playout=self._playout,
            paced=self._paced,
            conversation=self._conversation,
            tape=self._tape,
            decode=converter(capabilities.input_format, self._bus),
            make_vad=lambda: EnergyVad(self._bus.rate_hz, self.config.vad),
            listens_itself=self._listens_itself(),
            frame_bytes=self._bus.size(_FRAME_MS),
            control=self._control,
            watching=watching,
        )
        self._video: VideoLane | None = None
        if capabilities.video:
            self._video = VideoLane(
                name,
                room=cast(VideoTransport, room),
                settings=self.config.video,
                watching=watching,
                model=self._fast,
                user_speaks=self._user_speaks,
            )
        self._check_sources(self.config.video.sources)
        self._pulse = Pulse(_FRAME_MS / 1000, self._fast.beat if self._video is None else self._beat)

    # ------------------------------------------------------------------------------------------------ one call

    async def __aenter__(self) -> RoomBridge:
        assert self._ended is None, "a bridge serves one call: make a new one, with a new room"
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        stack = self._stack
        try:
            self._group = await stack.enter_async_context(asyncio.TaskGroup())
            stack.push_async_callback(self._close)
            self._pulse.start()
            self._began_at = loop.time()
            self.telemetry.start(self._began_at)
            if self._summaries is not None:
                self._summaries.start(self._group)
            self._control.start(self._group, self._fast)
            await self._open_room()
            if self.config.call.max_call_s is not None:
                limit = loop.call_later(
                    self.config.call.max_call_s, self._end, EndReason.REQUESTED, "max_call_s has passed"
                )
                stack.callback(limit.cancel)
        except BaseException:
            # Not told to the group as its own failure, which would wrap it: callers get the error that was raised.
            await stack.aclose()
            raise
        return self

    async def run(self) -> EndReason:
        """Serve the call until it ends; what is being said then is heard to its end (`drain_s` at most).

        Raises: `ModelFailed` when the model could not be reached or gave up, `RoomError` when the room was lost.
        """
        assert self._ended is not None, "enter the bridge first: async with RoomBridge(...) as bridge"
        reason = await asyncio.shield(self._ended)
        if reason not in _NOBODY_LISTENS and (reason is not EndReason.PARTICIPANT_LEFT or self.participants):
            await self.drain()
        return reason

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The body's own exception passes through as it is; only a lane's failure becomes an ExceptionGroup.
        await self._stack.aclose()

    def stop(self, reason: EndReason = EndReason.REQUESTED) -> None:
        """End the call: `run` returns after what is being said has been heard. In a tool: after the model's words to
        its result."""
        self._end(reason, "")

    async def drain(self) -> bool:
        """Take no more input, let tools that run finish and the room hear what has begun. False if `drain_s` was not
        enough."""
        self._fast.stop_listening()
        self._control.stop_opening()
        try:
            async with asyncio.timeout(self.config.call.drain_s):
                await self._fast.drained()
                # The last word has left us and not yet arrived: with us gone, its track and its end would be too.
                await asyncio.sleep(self.room.capabilities.tail_ms / 1000)
        except TimeoutError:
            log.warning("call ended before its last words call=%s drain_s=%.1f", self.name, self.config.call.drain_s)
            return False
        return True

    # --------------------------------------------------------------------------------------- what one may ask

    @overload
    def tool(self, function: Tool) -> Tool: ...
    @overload
    def tool(self, function: _Function) -> _Function: ...
    def tool(self, function: Tool | Callable[..., Any]) -> Any:
        """Let the model call this function; usable as a decorator before the bridge is entered.

        Raises: TypeError when the signature cannot be described to a model; ValueError for a name used twice;
        `ConfigError` when the model calls no tools.
        """
        tool = function if isinstance(function, Tool) else Tool.from_function(function)
        for model in (self.model, *self.stand_ins):
            if not model.capabilities.tools:
                mend = f"{model.capabilities.model} calls no tools: choose another model, or register none"
                raise ConfigError("tools", tool.spec.name, mend)
        if tool.spec.name in self._tools:
            raise ValueError(f"two tools are named {tool.spec.name}")
        if self._group is not None:
            raise ValueError(f"tool {tool.spec.name}: register tools before the bridge is entered")
        self._tools[tool.spec.name] = tool
        return function

    def say(self, instructions: str, *, barge_in: BargeInPolicy | None = None) -> None:
        """Make the model speak now, by these instructions. Before a session leads it is kept until one does.

        `barge_in` says whether this reply may be interrupted; None: as configured for every reply.
        """
        if barge_in is not None:
            self._fast.next_reply(barge_in)
        self._fast.do(Respond(instructions))

    def send_text(self, text: str, *, respond: bool = True) -> None:
        """A typed user turn."""
        self._fast.do(SendText(text, respond=respond))

    def interrupt(self) -> None:
        """Silence now, whatever the reply's policy says."""
        self._fast.interrupt()

    def listen(self, listener: Callable[[Command], None]) -> Callable[[], None]:
        """Call `listener` with everything that this call decides (captions, states, tool runs, flushes), in the loop's
        own turn; it must return fast. Returns the way to stop it."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    def watch(self, sources: Iterable[VideoSourceName]) -> None:
        """Show the model stills of these (`camera`, `screen`) from now on and of no others; nothing: it sees nothing,
        and no video is received. `[video]` says how often.

        Raises: `ConfigError` when the room carries no video, the model or a stand-in takes no images or none of
        `video.max_bytes`, or the extra `video` is not installed; `ValueError` for another word. Nothing has changed.
        """
        names = tuple(sources)
        chosen = [VideoSource(name) for name in names]
        self._check_sources(names)
        if self._video is not None:
            self._video.switch(chosen)

    async def open_session(self, model: SpeechModel | None = None, start: SessionStart | None = None) -> int:
        """Open another session beside the leading one, of the same model or another; returns its number.

        Raises: the provider's own errors (`providers.errors`).
        """
        return await self._control.keeper.open_session(model, start)

    def hear(self, number: int, hears: bool = True) -> None:
        """Let a session hear the room before it leads, so that it knows what is being said."""
        self._control.sessions.hear(number, hears)

    def lead(self, number: int) -> None:
        """Give the lead to this session: only its speech reaches the room. The one before it drains."""
        self._control.keeper.lead(number)

    async def close_session(self, number: int) -> None:
        """Close a session that does not lead."""
        await self._control.sessions.close(number)

    async def swap(self, model: SpeechModel) -> None:
        """Go on with another model from the next quiet moment on: it is told what was heard, and gets the tools.
        Returns when it leads.

        Raises: the provider's own error when it cannot be opened, and the call goes on as it was; `SessionEnded` when
        the call ends first, or another change is asked for meanwhile.
        """
        await self._control.keeper.swap(model)

    async def update(self, *, instructions: str | None = None, voice: str | None = None) -> None:
        """Change these for the rest of the call: at once where the provider can, else in the next quiet moment by a new
        session. Returns when it is done. A voice is the provider's own: the models of another one keep theirs.

        Raises: `SettingRefused` for what the model cannot serve; as `swap` otherwise. Nothing has changed then.
        """
        await self._control.keeper.update(instructions=instructions, voice=voice)

    @property
    def leader(self) -> int | None:
        """Number of the leading session; None while there is none."""
        return self._control.sessions.board.leader

    @property
    def leading(self) -> ModelSession | None:
        """The leading session itself, for `send_raw` and its like. None while there is none."""
        return self._fast.leading

    @property
    def state(self) -> AgentState:
        """What the agent is doing, true to the ear."""
        return self._conversation.state

    @property
    def participants(self) -> tuple[ParticipantId, ...]:
        """Who is in the room and may be heard, in the order of arrival."""
        return self._conversation.participants

    @property
    def ledger(self) -> Ledger:
        """What was said and heard so far, and what the tools did."""
        return self._conversation.ledger

    def transcript(self) -> list[TranscriptLine]:
        """The conversation so far in its order, with names, as far as it was heard: during the call and after it. Times
        count from the call's beginning."""
        now = None if self._over else asyncio.get_running_loop().time()
        return self._conversation.ledger.transcript(self._began_at, now)

    def snapshot(self) -> Snapshot:
        """All counters of the call, now."""
        return self.telemetry.snapshot(asyncio.get_running_loop().time())

    # ------------------------------------------------------------------------------------------------- inside

    def _beat(self, now: float) -> None:
        assert self._video is not None, "a room without video beats without it"
        self._fast.beat(now)
        self._video.beat(now)

    def _user_speaks(self, now: float) -> bool:
        return self._conversation.floor in (Floor.USER, Floor.BOTH) or self._fast.last_speech.within(_SPEAKS_S, now)

    def _check_sources(self, sources: Iterable[VideoSourceName]) -> None:
        wanted = ", ".join(sources)
        if not wanted:
            return
        if self._video is None:
            raise ConfigError(
                "video.sources", wanted, f"a {self.room.capabilities.name} room carries no video: empty it"
            )
        for model in (self.model, *self.stand_ins):
            can = model.capabilities
            if not can.video:
                raise ConfigError(
                    "video.sources", wanted, f"{can.model} takes no images: choose another model, or empty it"
                )
            if can.max_image_bytes is not None and self.config.video.max_bytes > can.max_image_bytes:
                mend = f"{can.model} takes images of {can.max_image_bytes} bytes at most: lower it"
                raise ConfigError("video.max_bytes", self.config.video.max_bytes, mend)
        problem = pillow_problem()
        if problem is not None:
            raise ConfigError("video.sources", wanted, problem)

    async def _open_room(self) -> None:
        try:
            self._fast.room_open = False
            await self.room.open(self._fast)
            self._fast.room_open = True
        except RoomInUse:
            self._owns_room = False
            raise

    async def _close(self) -> None:
        try:
            self._fast.end()
            self._over = True
            if self._video is not None:
                self._video.close()
            if self._summaries is not None:
                self._summaries.stop()
            await self._control.close()
        finally:
            self._pulse.stop()
            self.telemetry.stop()
            if self._owns_room:
                await self.room.close()

    def _end(self, reason: EndReason | BaseException, detail: str) -> None:
        assert self._ended is not None, "a call ends after it began"
        if self._ended.done():
            return
        self._control.stop_opening()
        if isinstance(reason, BaseException):
            self._ended.set_exception(reason)
            self._ended.exception()  # run() may never be called; the failure is then only in the log
            log.error("call failed call=%s: %s", self.name, reason)
        else:
            log.info("call ended call=%s reason=%s %s", self.name, reason, detail)
            self._ended.set_result(reason)

    def _publish(self, command: Command) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(command)
            except Exception:
                # The application's bug must not keep the commands that follow from being carried out.
                self._control.stats.listener_errors += 1
                log.exception("a listener raised call=%s command=%s", self.name, type(command).__name__)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _listens_itself(self) -> bool:
        return self.config.conversation.barge_in.local or self.model.capabilities.turn_detector is TurnDetector.CLIENT

    def _make_feed(self, session: ModelSession) -> SessionFeed:
        return SessionFeed(
            session,
            bus=self._bus,
            room=self.room.capabilities.output_format,
            quality=self.config.call.resampler,
        )

    def _gather(self) -> Iterator[tuple[str, int | float]]:
        yield from counters_of("fast", self._fast.stats)
        yield from counters_of("absence", self._fast.absence.stats)
        yield from counters_of("orders", self._fast.orders.stats)
        yield from counters_of("control", self._control.stats)
        yield from counters_of("tools", self._control.tools.runner.stats)
        yield from counters_of("results", self._control.tools.desk.stats)
        yield from counters_of("sessions", self._control.keeper.stats)
        yield from counters_of("provider", self._control.reports.stats)
        yield from counters_of("mixer", self._mixer.stats)
        yield from counters_of("playout", self._playout.stats)
        if self._paced is not None:
            yield from counters_of("pace", self._paced.stats)
        if self._video is not None:
            yield from counters_of("video", self._video.stats)
        yield from counters_of("conversation", self._conversation.stats)
        yield from counters_of("turns", self._fast.activities.timelines.stats)
        yield from counters_of("first_words", self._tape.stats)
        yield from counters_of("loop", self._pulse.stats)
        yield from ((f"room.{name}", value) for name, value in self.room.counters().items())
        yield from self._control.sessions.counters()
        yield "sessions_now", len(self._control.sessions.board.open_numbers())
        yield "tools_now", self._control.tools.runner.running
