"""One accepted connection of an emulator: reads, writes in order, suffers faults, and keeps a record for tests.

A test lets a fault happen by its name, at once and once:

    connection.kill()                     # the TCP connection vanishes, in mid-word if it is speaking
    connection.stall(pongs=True)          # nothing is sent any more; go_on() ends it
    connection.close(1011, "Internal error encountered.")
    connection.go_away(10)                # the vendor's notice, then its end
    connection.strike(Abort(reply=2, speech_ms=400))    # or when the conversation gets there
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from typing import Literal

import msgspec

from providers.emulators.carrier import Carrier, CarrierLost, Heard
from providers.emulators.wire import Hangup, Hush, Outgoing, Output, Sound, Strike, UpgradeRequest, VendorWire
from providers.scripted.brain import Brain
from providers.scripted.faults import (
    Abort,
    Close,
    Duplicate,
    Empty,
    EndSession,
    ExpireHandles,
    GoAway,
    Malformed,
    Quota,
    Stall,
    TimedFault,
    Unknown,
    is_timed,
)

__all__ = ["Connection", "EmulatorStats", "Message"]

_LOOK_S = 0.1
"""How often a stalled connection looks whether its client is still there."""


class Message(msgspec.Struct, frozen=True):
    """One message on the wire, for tests."""

    connection: int
    sent: bool
    """True: from the emulator to the client."""
    data: str | bytes
    at: float
    """`time.monotonic()` just after it was handed to the socket, or as it was received."""
    wall_s: float
    """Unix time of the same moment, to compare with other machines."""
    label: str = ""
    frame: Literal["text", "binary"] = "text"


class EmulatorStats(msgspec.Struct):
    """Plain counters of one server."""

    upgrades: int = 0
    refused: int = 0
    accepted: int = 0
    closed: int = 0
    messages_in: int = 0
    messages_out: int = 0
    bytes_out: int = 0
    faults: int = 0
    """Of every kind, refused upgrades included."""
    dropped_in: int = 0
    """Messages and frames of sound that calls brought faster than they were read: the oldest went."""
    unheard_ms: int = 0
    """Speech of calls that was generated and never played, as more waited to be heard than a call holds."""
    overflowed: int = 0
    """Connections aborted because the client did not read for too long."""


class Connection:
    """One accepted connection. Stays in `EmulatorServer.connections` after its end."""

    def __init__(
        self,
        number: int,
        wire: VendorWire,
        request: UpgradeRequest,
        *,
        frames: Literal["text", "binary"],
        stats: EmulatorStats,
        notify: Callable[[Message], None],
        log_limit: int,
        queue_limit: int,
        deaf: bool = False,
    ) -> None:
        """Args: frames as the vendor sends them; notify is called with every message of both directions; deaf: nothing
        that the client says is ever answered."""
        self.number = number
        self.wire = wire
        self.request = request
        self.log: deque[Message] = deque(maxlen=log_limit)
        """Newest messages of both directions, in order. Full: the oldest goes."""
        self.opened_at = time.monotonic()
        self.closed_at: float | None = None
        self.ended = asyncio.Event()
        """Set when the connection is over and its wire knows."""
        self.close_code: int | None = None
        self.close_reason = ""
        self.left_by_client = False
        """Who ended it, once it is over."""
        self._frames = frames
        self._stats = stats
        self._notify = notify
        self._queue_limit = queue_limit
        self._deaf = deaf
        self.listeners: list[Callable[[Outgoing], None]] = []
        """Called after every message that was sent: those who joined a call."""
        self._carrier: Carrier | None = None
        self._opened = False
        self._hung_up_by_client = False
        self._queue: deque[Output] = deque()
        self._urgent: deque[Strike | Hangup] = deque()
        """What waits for nothing that is queued, and ends a stall: faults of tests, and a client that hangs up."""
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        """Ends a stall: somebody wants something else now."""
        self._leaving = False

    # ------------------------------------------------------------------------------------------------------ state

    @property
    def brain(self) -> Brain:
        """The mind behind it. Raises LookupError before the client has set the session up."""
        if self.wire.brain is None:
            raise LookupError(f"connection {self.number} is not set up yet")
        return self.wire.brain

    @property
    def session_key(self) -> str:
        """The same for all connections that one session was resumed on."""
        return self.wire.session_key

    @property
    def live(self) -> bool:
        """Open, and not hanging up."""
        return self._carrier is not None and not self.wire.hung_up

    def messages(self, *, sent: bool) -> list[Message]:
        """Of one direction, oldest first."""
        return [message for message in self.log if message.sent is sent]

    # ----------------------------------------------------------------------------------------------------- faults

    def strike(self, fault: TimedFault) -> None:
        """Let it happen: when its `at_s`, `turn` or `reply` says, otherwise now, ahead of what waits to be sent.

        Raises LookupError for a go-away, or a fault with a time, before the session is set up. Nothing happens once the
        connection is over.
        """
        if not self.live:
            return
        if (is_timed(fault) or isinstance(fault, GoAway)) and self.wire.brain is None:
            raise LookupError(f"connection {self.number} is not set up yet: its time has not begun")
        if is_timed(fault):
            self._enqueue(self.wire.planned(fault, time.monotonic()))
        elif isinstance(fault, Abort):
            # The one fault that waits for nobody, not for a client that does not read either.
            self._stats.faults += 1
            self._abort()
        elif isinstance(fault, Close | Stall):
            self._at_once(Strike(fault))
        else:
            self._enqueue(self.wire.planned(fault, time.monotonic()))

    def kill(self) -> None:
        """The TCP connection vanishes, and the client sees 1006; a call's peer vanishes without a goodbye."""
        self.strike(Abort())

    def close(self, code: int = 1011, reason: str = "") -> None:
        """A close frame ahead of everything that waits to be sent; a call is hung up."""
        self.strike(Close(code=code, reason=reason))

    def stall(self, duration_s: float | None = None, *, pongs: bool = False) -> None:
        """Nothing more is sent, for so long or until `go_on`; of a call neither messages nor sound. pongs: pings (and
        what keeps a call alive) are still answered, input is still read."""
        self.strike(Stall(duration_s=duration_s, pongs=pongs))

    def go_on(self) -> None:
        """A stall ends, and what was due comes."""
        self._moved.set()

    def go_away(self, time_left_s: float = 10.0) -> None:
        """The vendor's notice, and so much later its end. OpenAI gives none: there the session just ends."""
        self.strike(GoAway(time_left_s=time_left_s))

    def end_session(self) -> None:
        """The session's time is over: OpenAI's `session_expired`, Gemini's expired deadline."""
        self.strike(EndSession())

    def use_up_quota(self) -> None:
        """The account's quota is used up, as the vendor says it."""
        self.strike(Quota())

    def expire_handles(self) -> None:
        """The resumption handles of this conversation are refused from here on."""
        self.strike(ExpireHandles())

    def malformed(self, text: str = '{"broken": ') -> None:
        """A frame that is no message."""
        self.strike(Malformed(text=text))

    def duplicate(self) -> None:
        """The newest frame comes a second time; nothing, if there was none."""
        self.strike(Duplicate())

    # ------------------------------------------------------------------------------------------------- for the server

    async def talk(self, carrier: Carrier, name: str) -> list[Exception]:
        """Serve until the connection is over. Returns what a bug in the wire raised. Args: name of its tasks."""
        self._carrier = carrier
        self.opened_at = time.monotonic()
        failures: list[Exception] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                await carrier.opened()
                self._opened = True
                self.opened_at = time.monotonic()
                self.wire.played_ms = carrier.played_ms
                self._enqueue(self.wire.opened(self.opened_at))
                writer = tasks.create_task(self._write(carrier), name=f"{name}:write")
                await self._read(carrier)
                writer.cancel()
        except* CarrierLost:
            pass  # the code and reason are noted below
        except* Exception as errors:
            # A bug in a wire must not end the server, whose other connections are sound, nor pass unseen.
            failures.extend(error for error in errors.exceptions if isinstance(error, Exception))
            await carrier.close(1011, "emulator failed")
        finally:
            self._carrier = None
            self.closed_at = time.monotonic()
            ending = carrier.ending()
            self.close_code, self.close_reason = ending.code, ending.reason
            by_client = not self.wire.hung_up if ending.by_client is None else ending.by_client
            self.left_by_client = by_client or self._hung_up_by_client
            self._stats.closed += 1
            self._stats.unheard_ms += self.wire.unheard_ms
            self.wire.closed(1006 if ending.code is None else ending.code, ending.reason, self.closed_at)
            self.ended.set()
        return failures

    async def leave(self) -> None:
        """The server goes: end a stall, and close as a server does that goes away."""
        self._leaving = True
        self._moved.set()
        if self._carrier is not None:
            await self._carrier.close(1001)

    def hang_up(self) -> None:
        """The client asked for the end of its call, by HTTP."""
        self._hung_up_by_client = True
        if self._opened:
            self.wire.hung_up = True
            self._at_once(Hangup(1000, "hung up"))
        else:
            self._abort()

    def take(self, data: str | bytes, now: float) -> None:
        """One message of the client, however it came."""
        self._stats.messages_in += 1
        frame: Literal["text", "binary"] = "text" if isinstance(data, str) else "binary"
        message = Message(self.number, False, data, now, _wall_s(), frame=frame)
        self.log.append(message)
        self._notify(message)
        if not self._deaf:
            self._enqueue(self.wire.received(data, now))

    def pass_on(self, message: Outgoing) -> None:
        """Send what another connection of the same call has sent."""
        if self.live:
            self._enqueue([message])

    def _at_once(self, output: Strike | Hangup) -> None:
        self._urgent.append(output)
        self._moved.set()
        self._wake.set()

    def _abort(self) -> None:
        assert self._carrier is not None, "only a live connection can be aborted"
        self.wire.hung_up = True
        self._queue.clear()
        self._moved.set()
        self._carrier.abort()

    async def _read(self, carrier: Carrier) -> None:
        async with aclosing(carrier.received()) as stream:
            async for received, now in stream:
                if not isinstance(received, Heard):
                    self.take(received, now)
                elif not self._deaf:
                    self._enqueue(self.wire.listened(received.pcm, now))

    def _enqueue(self, output: list[Output]) -> None:
        self._queue.extend(output)
        if len(self._queue) > self._queue_limit:
            self._stats.overflowed += 1
            self._abort()
        # Also without output: the deadline may have moved.
        self._wake.set()

    async def _write(self, carrier: Carrier) -> None:
        """All that goes out, in order: what is urgent, what is queued, then what falls due."""
        wire = self.wire
        last: Outgoing | None = None
        while True:
            while self._urgent or self._queue:
                output = self._urgent.popleft() if self._urgent else self._queue.popleft()
                match output:
                    case Outgoing():
                        last = output
                        await self._send(carrier, output)
                    case Sound():
                        carrier.play(output.pcm)
                    case Hush():
                        carrier.hush()
                    case Hangup():
                        await carrier.close(output.code, output.reason)
                        return
                    case Strike():
                        self._stats.faults += 1
                        if await self._suffer(carrier, output.fault, last):
                            return
            self._wake.clear()
            deadline = None if self._deaf else wire.deadline()
            now = time.monotonic()
            if deadline is None or deadline > now:
                await _wait(self._wake, None if deadline is None else deadline - now)
                now = time.monotonic()
            deadline = None if self._deaf else wire.deadline()
            if deadline is not None and deadline <= now:
                self._enqueue(wire.handle_timeout(now))

    async def _send(self, carrier: Carrier, message: Outgoing) -> None:
        wanted: Literal["vendor", "text", "binary"] = message.frame or self.wire.scenario.frames
        frame = self._frames if wanted == "vendor" else wanted
        await carrier.send(message.data, frame)
        self._stats.messages_out += 1
        self._stats.bytes_out += len(message.data)
        written = Message(self.number, True, message.data, time.monotonic(), _wall_s(), message.label, frame)
        self.log.append(written)
        self._notify(written)
        for listener in self.listeners:
            listener(message)

    async def _suffer(self, carrier: Carrier, fault: TimedFault, last: Outgoing | None) -> bool:
        """Carry one fault out. Returns True when the connection is over."""
        match fault:
            case Close():
                self.wire.hung_up = True
                await carrier.close(fault.code, fault.reason)
                return True
            case Abort():
                self._abort()
                return True
            case Stall():
                carrier.hold(pongs=fault.pongs)
                left = await self._stall(carrier, fault.duration_s)
                carrier.go_on()
                return left
            case Malformed():
                await self._send(carrier, Outgoing(fault.text.encode(), "fault:malformed"))
            case Empty():
                await self._send(carrier, Outgoing(fault.text.encode(), "fault:empty"))
            case Unknown():
                await self._send(carrier, Outgoing(msgspec.json.encode(fault.message), "fault:unknown"))
            case Duplicate():
                if last is not None:
                    await self._send(carrier, last)
            case GoAway() | EndSession() | Quota() | ExpireHandles():
                pass  # the wire has said it in the vendor's words
        return False

    async def _stall(self, carrier: Carrier, duration_s: float | None) -> bool:
        """Wait, for ever without a duration. Returns True when the client has left meanwhile."""
        ends_at = None if duration_s is None else time.monotonic() + duration_s
        self._moved.clear()
        while not self._moved.is_set() and not self._leaving:
            left_s = _LOOK_S if ends_at is None else min(_LOOK_S, ends_at - time.monotonic())
            if left_s <= 0:
                return False
            if carrier.left():
                return True
            await _wait(self._moved, left_s)
        return False


async def _wait(event: asyncio.Event, timeout_s: float | None) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return


def _wall_s() -> float:
    return time.time_ns() / 1e9
