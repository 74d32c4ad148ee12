"""A model moved by hand: sessions write down what they are told and say what a test makes them say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from providers.contract import (
    Capabilities,
    Closed,
    EventReader,
    GenerationComplete,
    Listener,
    OutboxStats,
    ReplyStarted,
    SessionEvent,
    SessionReady,
    SessionStart,
    SessionState,
    SpeechChunk,
    ToolSpec,
    Truncation,
    TurnComplete,
)
from providers.errors import NeedsNewSession, ProviderError, SessionEnded, SettingRefused
from providers.signal.formats import PCM16_24K, AudioFormat

__all__ = ["CAPABILITIES", "HandModel", "HandSession", "HandStandby"]

CAPABILITIES = Capabilities(
    provider="hand",
    model="hand-1",
    input_formats=(PCM16_24K,),
    output_format=PCM16_24K,
    truncation=Truncation.CLIENT,
)


class HandSession:
    """One session. `told` holds every command but audio, in order; `heard` the audio."""

    def __init__(self, start: SessionStart, capabilities: Capabilities) -> None:
        self.start = start
        self.number = start.number
        self.id = f"hand-{start.number}"
        self.state = SessionState.READY
        self.capabilities = capabilities
        self.outbox = OutboxStats()
        self.told: list[tuple[Any, ...]] = []
        self.heard = bytearray()
        self.heard_format: AudioFormat | None = None
        self.refuses_updates: ProviderError | None = None
        self.fixed: tuple[str, ...] = ()
        """What cannot be changed in place."""
        self.goodbye_s = 0.0
        """How long it takes to close."""
        self._listeners: list[Listener] = []
        self._waiting: list[SessionEvent] = [SessionReady(self.number, self.id, resumed=bool(start.resume))]

    # what the bridge does

    def listen(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            listener(event)
        return lambda: self._listeners.remove(listener)

    def read(self, capacity: int = 256) -> EventReader:
        raise AssertionError("the bridge listens; it does not read")

    def send_audio(self, audio: bytes, format: AudioFormat) -> None:
        if self.state is SessionState.READY:
            self.heard += audio
            self.heard_format = format

    def end_input(self) -> None:
        self._tell("end_input")

    def commit_input(self) -> None:
        self._tell("commit_input")

    def clear_input(self) -> None:
        self._tell("clear_input")

    def start_activity(self) -> None:
        self._tell("start_activity")

    def end_activity(self) -> None:
        self._tell("end_activity")

    def send_image(self, image: bytes, mime_type: str) -> None:
        self._tell("send_image", mime_type)

    def send_text(self, text: str, *, respond: bool = True) -> None:
        self._tell("send_text", text)

    def respond(self, instructions: str | None = None) -> None:
        self._tell("respond", instructions)

    def interrupt(self) -> None:
        self._tell("interrupt")

    def truncate(self, reply_id: str, heard_ms: int) -> None:
        self._tell("truncate", reply_id, heard_ms)

    def send_tool_result(
        self, call_id: str, name: str, result: dict[str, Any] | str, *, error: bool = False, respond: bool = True
    ) -> None:
        self._tell("send_tool_result", call_id, name, result, error)

    def update(
        self, *, instructions: str | None = None, tools: Sequence[ToolSpec] | None = None, voice: str | None = None
    ) -> None:
        if self.refuses_updates is not None:
            raise self.refuses_updates
        given = {"instructions": instructions, "tools": tools, "voice": voice}
        if fixed := [name for name in self.fixed if given[name] is not None]:
            raise NeedsNewSession(fixed)
        self._tell("update", instructions, tools, voice)

    def send_raw(self, message: dict[str, Any]) -> None:
        self._tell("send_raw", message)

    async def close(self) -> None:
        if self.goodbye_s:
            await asyncio.sleep(self.goodbye_s)
        self.state = SessionState.CLOSED

    def _tell(self, *command: Any) -> None:
        if self.state is not SessionState.READY:
            raise SessionEnded("this session is closed")
        self.told.append(command)

    # what a test makes it do

    def emit(self, *events: SessionEvent) -> None:
        for event in events:
            if not self._listeners:
                self._waiting.append(event)
            for listener in tuple(self._listeners):
                listener(event)

    def says(self, reply_id: str, *chunks: bytes, done: bool = True) -> None:
        """A whole reply in one go."""
        self.emit(ReplyStarted(self.number, reply_id))
        self.emit(*(SpeechChunk(self.number, reply_id, chunk) for chunk in chunks))
        if done:
            self.emit(GenerationComplete(self.number, reply_id), TurnComplete(self.number, reply_id))

    def dies(self, error: ProviderError | None, code: int = 1006) -> None:
        self.state = SessionState.CLOSED
        self.emit(Closed(self.number, code, "it died", error))

    @property
    def commands(self) -> list[str]:
        return [command[0] for command in self.told]


class HandModel:
    """`refuse` holds errors that the next connects raise, one each. `opening` is called with each new session, before
    anybody listens to it."""

    def __init__(self, capabilities: Capabilities = CAPABILITIES) -> None:
        self.name = capabilities.provider
        self.capabilities = capabilities
        self.sessions: list[HandSession] = []
        self.standbys: list[HandStandby] = []
        self.refuse: list[ProviderError] = []
        self.opening: Callable[[HandSession], None] = lambda _: None

    async def connect(self, start: SessionStart | None = None) -> HandSession:
        if self.refuse:
            raise self.refuse.pop(0)
        self.sessions.append(HandSession(start or SessionStart(), self.capabilities))
        self.opening(self.session)
        return self.sessions[-1]

    @property
    def endpoint(self) -> str:
        return f"{self.name} {self.capabilities.model}"

    async def stand_by(self) -> HandStandby:
        if self.refuse:
            raise self.refuse.pop(0)
        self.standbys.append(HandStandby(self))
        return self.standbys[-1]

    @property
    def session(self) -> HandSession:
        return self.sessions[-1]


class HandStandby:
    """Waits until it is used or closed; `alive` is a test's to take away."""

    def __init__(self, model: HandModel) -> None:
        self.alive = True
        self.used = self.closed = False
        self.goodbye_s = 0.0
        """How long it takes to close."""
        self._model = model

    async def connect(self, start: SessionStart | None = None) -> HandSession:
        if self.used or self.closed:
            raise SessionEnded("this standby was used or closed")
        self.used, self.alive = True, False
        try:
            return await self._model.connect(start)
        except SettingRefused:
            self.used, self.alive = False, True
            raise

    async def close(self) -> None:
        self.closed, self.alive = True, False
        if self.goodbye_s:
            await asyncio.sleep(self.goodbye_s)
