"""The one asyncio driver: setup, read, write, deadlines, close. Runs any `ProtocolCore` over any `Link`.

A session has no task of its own. The link calls in when bytes came, the loop when a deadline is due; commands and audio
are written before they return, or wait in the outbox until the link calls in again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, cast

import msgspec

from providers.contract import (
    Capabilities,
    Closed,
    ErrorReported,
    EventReader,
    Listener,
    OutboxStats,
    SessionEvent,
    SessionStart,
    SessionState,
    ToolSpec,
    WarningReported,
)
from providers.errors import ProviderError, ProviderUnavailable, SessionEnded, SetupTimeout
from providers.events import EventFanout
from providers.link import Link
from providers.outbox import AudioOutbox, OutboxFull
from providers.settings import ConnectionSettings
from providers.signal.formats import AudioFormat

__all__ = ["AudioCore", "DriverSession", "ProtocolCore", "dial_link", "open_session", "set_up"]

_log = logging.getLogger("providers.driver")


class ProtocolCore(Protocol):
    """A provider's protocol without I/O: bytes to events and back, time as an argument.

    Commands queue whole messages; the driver takes them with `outgoing()` after every call. Audio is returned instead,
    because the driver may drop it when the socket is slow. Events carry the session number given at construction.
    """

    @property
    def ready(self) -> bool:
        """The provider accepted the setup (after `SessionReady`)."""
        ...

    @property
    def session_id(self) -> str: ...
    @property
    def capabilities(self) -> Capabilities: ...
    @property
    def speaking(self) -> bool:
        """A piece of speech came that is not the last one: a long silence now is no thinking."""
        ...

    def start(self, now: float) -> None:
        """The connection is open: queue the first message(s)."""
        ...

    def receive(self, message: str | bytes, now: float) -> list[SessionEvent]:
        """Everything that one message says, in order. Never raises for what a server sends: malformed input becomes
        a `WarningReported`.

        A `Closed` among the events ends the session: the way to refuse a setup whose socket the provider keeps open.
        """
        ...

    def connection_closed(self, code: int, reason: str, now: float) -> list[SessionEvent]:
        """What the end means: last events, ending with `Closed` whose `error` tells retry from give-up."""
        ...

    def deadline(self) -> float | None:
        """When to call `handle_timeout`, on the same clock as `now`."""
        ...

    def handle_timeout(self, now: float) -> list[SessionEvent]: ...

    def outgoing(self) -> list[bytes]:
        """Take the messages queued since the last call: UTF-8 JSON, one each, to be sent as text frames in order."""
        ...

    def encode_audio(self, audio: bytes, format: AudioFormat) -> bytes:
        """The message that carries this audio. Hot path: a template and base64, nothing else."""
        ...

    # The commands of ModelSession, one for one; `now` where the protocol needs a clock.
    def end_input(self) -> None: ...
    def commit_input(self) -> None: ...
    def clear_input(self) -> None: ...
    def start_activity(self) -> None: ...
    def end_activity(self) -> None: ...
    def send_image(self, image: bytes, mime_type: str) -> None: ...
    def send_text(self, text: str, *, respond: bool = True) -> None: ...
    def respond(self, instructions: str | None = None) -> None: ...
    def interrupt(self, now: float) -> None: ...
    def truncate(self, reply_id: str, heard_ms: int) -> None: ...
    def send_tool_result(
        self, call_id: str, name: str, result: dict[str, Any] | str, *, error: bool = False, respond: bool = True
    ) -> None: ...
    def update(
        self,
        *,
        instructions: str | None = None,
        tools: Sequence[ToolSpec] | None = None,
        voice: str | None = None,
    ) -> None: ...
    def send_raw(self, message: dict[str, Any]) -> None: ...


class AudioCore(ProtocolCore, Protocol):
    """A core for links that carry audio: `encode_audio` returns what `Link.send_audio` takes."""

    @property
    def sounded_at(self) -> float:
        """When speech last came in, on the same clock as `now`: silence comes all the time, and is no sign of life."""
        ...

    def receive_audio(self, pcm: bytes, now: float) -> list[SessionEvent]:
        """One received frame. Hot path; otherwise as `receive`."""
        ...


async def open_session(
    core: ProtocolCore,
    dial: Callable[[], Awaitable[Link]],
    start: SessionStart,
    connection: ConnectionSettings,
) -> DriverSession:
    """Dial, set up and return a READY session; its events so far wait for the first listener or reader.

    `dial` opens the link (`WebSocketLink.connect`, a token first where one is needed) and is bounded by
    `connect_timeout_s` as a whole; `core` is fresh and carries `start.number`.
    Raises: what the core's `Closed.error` says of a connection that ended before it was ready; SetupTimeout;
    ProviderUnavailable; whatever `dial` raises. Nothing stays open behind an error or a cancellation.
    """
    link = await dial_link(dial, connection)
    return await set_up(core, link, start.number, connection)


async def dial_link(dial: Callable[[], Awaitable[Link]], connection: ConnectionSettings) -> Link:
    """What `dial` opens, bounded by `connect_timeout_s`. Raises: ProviderUnavailable; whatever `dial` raises."""
    try:
        async with asyncio.timeout(connection.connect_timeout_s):
            return await dial()
    except TimeoutError as error:
        raise ProviderUnavailable(f"not connected within {connection.connect_timeout_s:g} s") from error


async def set_up(core: ProtocolCore, link: Link, number: int, connection: ConnectionSettings) -> DriverSession:
    """A READY session over an open link that nobody uses yet. Raises and promises as `open_session` does."""
    session = DriverSession(core, link, number, connection)
    try:
        await session._set_up()
    except BaseException:
        link.abort("given up before the session was ready")
        await link.wait_closed()
        raise
    return session


class DriverSession:
    """A `ModelSession` over a link. Made by `open_session` or `set_up`."""

    def __init__(self, core: ProtocolCore, link: Link, number: int, connection: ConnectionSettings) -> None:
        self._core = core
        self._link = link
        self._number = number
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._state = SessionState.CONNECTING
        self._stats = OutboxStats()
        self._outbox = AudioOutbox(connection.outbox_ms, self._stats)
        self._audio_core = cast(AudioCore, core) if link.carry_audio(self._stats) else None
        self._events = EventFanout()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._heard_at = 0.0
        self._stall_watch: asyncio.TimerHandle | None = None
        self._our_goodbye = False
        self._cause: ProviderError | None = None
        self._complaint = ""
        self._ended_by = ""

    # ------------------------------------------------------------------------------------------------------- state

    @property
    def number(self) -> int:
        return self._number

    @property
    def id(self) -> str:
        return self._core.session_id

    @property
    def state(self) -> SessionState:
        return self._state

    @property
    def capabilities(self) -> Capabilities:
        return self._core.capabilities

    @property
    def outbox(self) -> OutboxStats:
        """A copy of the counters."""
        return msgspec.structs.replace(self._stats)

    # ------------------------------------------------------------------------------------------------------ events

    def listen(self, listener: Listener) -> Callable[[], None]:
        """See `ModelSession.listen`."""
        return self._events.listen(listener)

    def read(self, capacity: int = 256) -> EventReader:
        """See `ModelSession.read`."""
        return self._events.read(capacity)

    # ---------------------------------------------------------------------------------------------------- commands

    def send_audio(self, audio: bytes, format: AudioFormat) -> None:
        """See `ModelSession.send_audio`. On the wire before it returns, unless the socket is slow."""
        if self._state is not SessionState.READY:
            self._stats.dropped_after_end += 1
            return
        message = self._core.encode_audio(audio, format)
        if self._audio_core is not None:
            self._link.send_audio(message)
            return
        duration_ms = format.duration_ms(len(audio))
        if self._link.writable and not self._outbox:
            self._link.send(message)
            self._stats.sent_messages += 1
            self._stats.sent_audio_ms += duration_ms
        else:
            self._outbox.push_audio(message, duration_ms)

    def end_input(self) -> None:
        self._open_core().end_input()
        self._settle()

    def commit_input(self) -> None:
        self._open_core().commit_input()
        self._settle()

    def clear_input(self) -> None:
        self._open_core().clear_input()
        self._link.drop_audio()
        self._settle()

    def start_activity(self) -> None:
        self._open_core().start_activity()
        self._settle()

    def end_activity(self) -> None:
        self._open_core().end_activity()
        self._settle()

    def send_image(self, image: bytes, mime_type: str) -> None:
        self._open_core().send_image(image, mime_type)
        self._settle()

    def send_text(self, text: str, *, respond: bool = True) -> None:
        self._open_core().send_text(text, respond=respond)
        self._settle()

    def respond(self, instructions: str | None = None) -> None:
        self._open_core().respond(instructions)
        self._settle()

    def interrupt(self) -> None:
        self._open_core().interrupt(self._loop.time())
        self._settle()

    def truncate(self, reply_id: str, heard_ms: int) -> None:
        self._open_core().truncate(reply_id, heard_ms)
        self._settle()

    def send_tool_result(
        self, call_id: str, name: str, result: dict[str, Any] | str, *, error: bool = False, respond: bool = True
    ) -> None:
        self._open_core().send_tool_result(call_id, name, result, error=error, respond=respond)
        self._settle()

    def update(
        self,
        *,
        instructions: str | None = None,
        tools: Sequence[ToolSpec] | None = None,
        voice: str | None = None,
    ) -> None:
        self._open_core().update(instructions=instructions, tools=tools, voice=voice)
        self._settle()

    def send_raw(self, message: dict[str, Any]) -> None:
        self._open_core().send_raw(message)
        self._settle()

    async def close(self) -> None:
        """See `ModelSession.close`. Takes at most `close_timeout_s`; a cancelled close ends the connection at once."""
        if self._state is SessionState.READY:
            self._state = SessionState.CLOSING
            self._our_goodbye = True
            self._disarm()
            self.link_writable()
            self._link.finish(1000)
        try:
            await self._link.wait_closed()
        except asyncio.CancelledError:
            self._link.abort("close() was cancelled")
            raise

    # ------------------------------------------------------------------------------------------- called by the link

    def message_received(self, message: str | bytes) -> None:
        if self._state is SessionState.CLOSED:
            return
        self._heard_at = now = self._loop.time()
        try:
            events = self._core.receive(message, now)
        except Exception as error:
            # Promised not to happen; but one message that we cannot read must not end a conversation, nor pass unseen.
            _log.exception("session %d: a message could not be read", self._number)
            said = f"a message could not be read: {type(error).__name__}"
            events = [WarningReported(self._number, "unreadable_message", said)]
        self._watch_speech(now)
        self._pass_on(events)

    def audio_received(self, audio: bytes, now: float) -> None:
        core = self._audio_core
        if core is None or self._state is SessionState.CLOSED:
            return
        try:
            events = core.receive_audio(audio, now)
        except Exception as error:
            self._give_up_on_core(error)  # the next frame, 20 ms later, would fare no better
            return
        if events:
            self._watch_speech(now)
            self._pass_on(events)

    def link_writable(self) -> None:
        link, outbox = self._link, self._outbox
        while outbox and link.writable:
            link.send(outbox.pop())

    def link_closed(self, code: int, reason: str) -> None:
        if self._state is SessionState.CLOSED:
            return
        try:
            events = self._core.connection_closed(code, reason, self._loop.time())
        except Exception:
            # The end must be told whatever happens.
            _log.exception("session %d: the end could not be interpreted", self._number)
            events = []
        if not events or not isinstance(events[-1], Closed):
            error = ProviderUnavailable(f"the connection ended with {code}: {reason or 'no reason'}", code=code)
            events = [*events, Closed(self._number, code, reason, error)]
        self._pass_on(events)

    # ------------------------------------------------------------------------------------------------------ inside

    async def _set_up(self) -> None:
        timeout_s = self._connection.setup_timeout_s
        self._link.attach(self)
        if self._state is SessionState.CONNECTING:
            self._core.start(self._loop.time())
            self._settle()
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready
        except TimeoutError as error:
            said = f"; it said: {self._complaint}" if self._complaint else ""
            raise SetupTimeout(f"connected, but not ready within {timeout_s:g} s{said}") from error

    def _open_core(self) -> ProtocolCore:
        if self._state is not SessionState.READY:
            raise SessionEnded(f"session {self._number} is {self._state}{self._ended_by}")
        return self._core

    def _settle(self) -> None:
        """After every call to the core: write what it queued, and set the timer by its deadline."""
        if self._cause is not None:
            return  # given up: the end is on its way
        try:
            messages, due = self._core.outgoing(), self._core.deadline()
        except Exception as error:
            self._give_up_on_core(error)
            return
        for message in messages:
            if self._link.writable and not self._outbox:
                self._link.send(message)
                self._stats.sent_messages += 1
                continue
            try:
                self._outbox.push(message)
            except OutboxFull as error:
                self._cause = ProviderUnavailable(f"the connection takes nothing any more: {error}")
                self._link.abort("outbox full")
                return
        if self._state is SessionState.CLOSING:
            return  # a protocol's timers mean nothing during the goodbye
        # A timer that comes too early costs one look; one that moves with every message would cost much more.
        if due is not None and (self._timer is None or due < self._timer_due):
            if self._timer is not None:
                self._timer.cancel()
            self._timer_due = due
            self._timer = self._loop.call_at(due, self._deadline_reached)

    def _deadline_reached(self) -> None:
        self._timer = None
        now = max(self._loop.time(), self._timer_due)
        try:
            due = self._core.deadline()
            events = self._core.handle_timeout(now) if due is not None and due <= now else None
        except Exception as error:
            self._give_up_on_core(error)
            return
        if events is None:
            self._settle()
        else:
            self._pass_on(events)

    def _watch_speech(self, now: float) -> None:
        if self._stall_watch is None and self._core.speaking:
            self._stall_watch = self._loop.call_at(now + self._connection.speech_stall_s, self._look_for_stall)

    def _look_for_stall(self) -> None:
        # Pongs may go on for long after whoever spoke has died; only more speech, or its end, is life here.
        self._stall_watch = None
        if not self._core.speaking or self._cause is not None:
            return
        heard_at = self._heard_at if self._audio_core is None else max(self._heard_at, self._audio_core.sounded_at)
        due = heard_at + self._connection.speech_stall_s
        if self._loop.time() < due:
            self._stall_watch = self._loop.call_at(due, self._look_for_stall)
            return
        said = f"silent for {self._connection.speech_stall_s:g} s in the midst of a reply"
        self._cause = ProviderUnavailable(said)
        self._link.abort(said)

    def _give_up_on_core(self, error: Exception) -> None:
        # A message that cannot be read may be left out; a deadline that cannot be met would be due again at once, and
        # a queue that cannot be taken has lost messages. A new session starts both anew, so the caller may try again.
        if self._cause is None:
            _log.error("session %d: its protocol failed", self._number, exc_info=error)
            self._cause = ProviderUnavailable(f"the protocol failed: {type(error).__name__}")
            self._disarm()
            self._link.abort("the protocol failed")

    def _pass_on(self, events: list[SessionEvent]) -> None:
        # What the core wants to say goes first: a listener may send audio or commands, which must come behind it.
        self._settle()
        if self._state is SessionState.CONNECTING:
            self._watch_setup(events)
        for event in events:
            if isinstance(event, Closed):
                self._end(event)
                return
            self._events.emit(event)

    def _watch_setup(self, events: list[SessionEvent]) -> None:
        for event in events:
            if isinstance(event, ErrorReported):
                self._complaint = f"{event.code}: {event.message}"
        if self._core.ready and not self._ready.done():
            self._state = SessionState.READY
            self._ready.set_result(None)

    def _end(self, closed: Closed) -> None:
        if self._cause is not None:
            closed = msgspec.structs.replace(closed, error=self._cause)
        elif self._our_goodbye:
            closed = msgspec.structs.replace(closed, error=None)
        self._state = SessionState.CLOSED
        self._ended_by = f" ({closed.code} {closed.reason})".replace(" )", ")")
        self._disarm()
        self._outbox.drop_all()
        self._link.finish(1000)
        if not self._ready.done():
            why = f"the connection ended with {closed.code} before the session was ready"
            self._ready.set_exception(closed.error or ProviderUnavailable(why, code=closed.code))
        self._events.emit(closed)

    def _disarm(self) -> None:
        for timer in (self._timer, self._stall_watch):
            if timer is not None:
                timer.cancel()
        self._timer = self._stall_watch = None
