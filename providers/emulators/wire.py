"""What a vendor writes to become an emulator: one `Vendor` for a server, one `VendorWire` for each connection.

Both are sans-IO: they get messages and the time, and return what is to be done; `providers.emulators.server` does it.

`Vendor`, one for each server, shared by its connections (so resumption handles live here):

- `name`, `frames` (the kind of frame that the real service sends), `path` (what a client's URL ends in).
- `check(request)` looks at path, headers and key of an upgrade. None accepts; a `Refusal` is answered as HTTP.
- `post(request, body)`, if the vendor has it, answers HTTP POST on the same port; without it they get 405.
- `is_call(request)`, `offer(request, body)` and `joined(request)`, if the vendor takes calls: see `CallVendor`.
- `connect(scenario, request, number)` makes the wire of an accepted connection; `number` counts upgrades from 1.

`VendorWire`, one for each connection. A subclass implements four methods, and calls `self.send`, `self.close`,
`self.later` and `self.perform` inside them; the base class collects the output in order:

- `on_open()`: the socket is open (OpenAI: send `session.created`; Gemini: nothing).
- `on_message(message)`: one text or binary message of the client. Never raises for what a client sends: it closes with
  the vendor's code or sends the vendor's error. Sets `self.brain = Brain(...)` once the set-up is known, after
  `scenario.session.setup_delay_ms` (`self.later`), and calls `self.perform(self.brain.start(self.now))`. Everything
  that the client does after that is `self.perform(self.brain.hear(pcm, self.now))` and the like.
- `render(act)`: one act of the mind in the vendor's words: `self.send(...)` for each message. `LimitReached` becomes
  `self.close(code, reason)` as the vendor ends a session. `FaultDue` never gets here.
- `on_close(code, reason)`: the connection is gone (free the session for resumption). Nothing can be sent any more.

The wire of a call, whose sound travels beside its messages, implements `on_audio(pcm)`, calls `self.play(pcm)` and
`self.hush()`, and asks `self.played_ms(now)` how much of what it played has gone out.

It may override `quota`, `expire_handles` and `session_key` where the vendor has words or things of its own for them.

`self.now` is the time of the current call on the server's clock (`time.monotonic`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from typing import Any, Literal, Protocol

import msgspec

from providers.scripted.acts import Act, FaultDue, LimitReached
from providers.scripted.brain import Brain
from providers.scripted.faults import EndSession, ExpireHandles, GoAway, Quota, TimedFault, is_timed
from providers.scripted.scenario import Scenario

__all__ = [
    "CallEnd",
    "CallOffer",
    "CallVendor",
    "Hangup",
    "Hush",
    "Outgoing",
    "Output",
    "Refusal",
    "Sound",
    "Strike",
    "UpgradeRequest",
    "Vendor",
    "VendorWire",
]


class CallOffer(msgspec.Struct, frozen=True):
    """What a client wants of a call over WebRTC."""

    sdp: str
    session: dict[str, Any]
    """The session that it begins with, in the vendor's words, checked."""


class CallEnd(msgspec.Struct, frozen=True):
    """A client wants this call to be hung up."""

    call_id: str


class UpgradeRequest(msgspec.Struct, frozen=True):
    """What a client asks for before there is a WebSocket, or a call."""

    path: str
    """Without the query."""
    query: dict[str, str]
    """Last value of each key."""
    headers: Mapping[str, str]
    """Names in lower case."""
    secure: bool
    call: CallOffer | None = None
    """A call is asked for, not a WebSocket. Empty until the vendor has looked at the offer."""


class Refusal(msgspec.Struct, frozen=True):
    """The upgrade is answered with this instead."""

    status: int
    body: str = ""
    headers: dict[str, str] = {}


class Outgoing(msgspec.Struct, frozen=True):
    """One message to the client, UTF-8 JSON."""

    data: bytes
    label: str = ""
    """For `on_write`: what it is, in the words of the vendor's wire."""
    frame: Literal["text", "binary"] | None = None
    """None: as scenario and vendor say."""


class Hangup(msgspec.Struct, frozen=True):
    """Close with this code and reason; what was sent before still goes out."""

    code: int
    reason: str = ""


class Strike(msgspec.Struct, frozen=True):
    """A fault of the scenario, between the messages before and after it."""

    fault: TimedFault


class Sound(msgspec.Struct, frozen=True, gc=False):
    """Speech of a call, int16 mono at 24 kHz, for the playback queue of its carrier."""

    pcm: bytes


class Hush(msgspec.Struct, frozen=True):
    """The playback queue is emptied: silence from the next packet on."""


Output = Outgoing | Hangup | Strike | Sound | Hush


class VendorWire(ABC):
    """One connection in a vendor's words. See the module's docstring."""

    def __init__(self, scenario: Scenario, request: UpgradeRequest, number: int) -> None:
        self.scenario = scenario
        self.request = request
        self.number = number
        self.brain: Brain | None = None
        self.now = 0.0
        self.hung_up = False
        self.joins = False
        """It joins a call instead of beginning a session."""
        self.call_id = ""
        """Of a call: by what it is joined and hung up."""
        self.played_ms: Callable[[float], float] = _nothing_played
        """Of a call, told by its carrier: how much of what was ever played has gone out, or was hushed, by then."""
        self._output: list[Output] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0

    # ------------------------------------------------------------------------------------------- for the subclass

    @abstractmethod
    def on_open(self) -> None: ...
    @abstractmethod
    def on_message(self, message: str | bytes) -> None: ...
    @abstractmethod
    def render(self, act: Act) -> None: ...
    def on_audio(self, pcm: bytes) -> None:  # noqa: B027
        """Override in the wire of a call: what its track brought, int16 mono at 24 kHz."""

    def on_goodbye(self) -> None:  # noqa: B027
        """The client's close frame was read: what the service frees at once. `on_close` follows when TCP has ended."""

    def on_close(self, code: int, reason: str) -> None:  # noqa: B027
        """Override where the vendor has something to free; most wires have nothing."""

    def quota(self) -> None:
        """Override with the vendor's words for a quota that is used up."""
        self.close(1011, "quota exceeded")

    def expire_handles(self) -> None:  # noqa: B027
        """Override where the vendor issues resumption handles; OpenAI has none."""

    @property
    def session_key(self) -> str:
        """The same for all connections that one session was resumed on."""
        return f"connection-{self.number}"

    @property
    def unheard_ms(self) -> int:
        """Of a call: speech for which its playback had no room."""
        return 0

    def send(
        self, message: dict[str, Any] | bytes, label: str = "", *, frame: Literal["text", "binary"] | None = None
    ) -> None:
        """Queue one message: a JSON object, or its UTF-8 bytes where they are made faster. Nothing after a hang-up."""
        if not self.hung_up:
            data = message if isinstance(message, bytes) else msgspec.json.encode(message)
            self._output.append(Outgoing(data, label, frame))

    def close(self, code: int, reason: str = "") -> None:
        """Hang up. The reason is cut to the 123 bytes that a close frame can hold, as the services do."""
        if not self.hung_up:
            self.hung_up = True
            self._output.append(Hangup(code, reason.encode()[:123].decode(errors="ignore")))

    def play(self, pcm: bytes) -> None:
        """Of a call: speech for the playback queue, which is heard in real time."""
        if not self.hung_up:
            self._output.append(Sound(pcm))

    def hush(self) -> None:
        """Of a call: what was played and is not heard yet is thrown away."""
        if not self.hung_up:
            self._output.append(Hush())

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Call `action` with `self.now` that much later, unless hung up by then."""
        self._sequence += 1
        heappush(self._timers, (self.now + delay_s, self._sequence, action))

    def perform(self, acts: list[Act]) -> None:
        """Render what the mind does."""
        for act in acts:
            if self.hung_up:
                return
            if isinstance(act, FaultDue):
                self._suffer(act.fault)
            else:
                self.render(act)

    def _suffer(self, fault: TimedFault) -> None:
        """A fault strikes here. The server counts each, and carries out those that have no words of the vendor's."""
        self._output.append(Strike(fault))
        match fault:
            case GoAway() if self.brain is not None:
                self.perform(self.brain.go_away(fault.time_left_s, self.now))
            case EndSession():
                self.render(LimitReached(after_go_away=False))
            case Quota():
                self.quota()
            case ExpireHandles():
                self.expire_handles()

    # --------------------------------------------------------------------------------------------- for the server

    def opened(self, now: float) -> list[Output]:
        self.now = now
        self.on_open()
        return self._take()

    def received(self, message: str | bytes, now: float) -> list[Output]:
        """What one message leads to. What fell due before it comes first."""
        output = self.handle_timeout(now)
        if not self.hung_up:
            self.on_message(message)
        return output + self._take()

    def listened(self, pcm: bytes, now: float) -> list[Output]:
        """What the sound of a call leads to."""
        output = self.handle_timeout(now)
        if not self.hung_up:
            self.on_audio(pcm)
        return output + self._take()

    def planned(self, fault: TimedFault, now: float) -> list[Output]:
        """A fault more than the scenario has: when it says, or now. Before the set-up only now can be meant."""
        output = self.handle_timeout(now)
        if not self.hung_up:
            if self.brain is None:
                assert not is_timed(fault), "a time of the conversation is not known before it is set up"
                self._suffer(fault)
            else:
                self.perform(self.brain.plan(fault, now))
        return output + self._take()

    def deadline(self) -> float | None:
        """When to call `handle_timeout`."""
        if self.hung_up:
            return None
        own = self._timers[0][0] if self._timers else None
        mind = self.brain.deadline() if self.brain else None
        return min((when for when in (own, mind) if when is not None), default=None)

    def handle_timeout(self, now: float) -> list[Output]:
        self.now = now
        while self._timers and self._timers[0][0] <= now and not self.hung_up:
            heappop(self._timers)[2]()
        if self.brain is not None and not self.hung_up:
            self.perform(self.brain.due(now))
        return self._take()

    def closed(self, code: int, reason: str, now: float) -> None:
        self.now = now
        self.hung_up = True
        self.played_ms = _nothing_played
        self._timers.clear()
        if self.brain is not None:
            self.brain.end()
        self.on_close(code, reason)

    def _take(self) -> list[Output]:
        output, self._output = self._output, []
        return output


class Vendor(Protocol):
    """One emulated service. See the module's docstring."""

    @property
    def name(self) -> str: ...
    @property
    def frames(self) -> Literal["text", "binary"]: ...
    @property
    def path(self) -> str:
        """What a client's URL ends in."""
        ...

    def check(self, request: UpgradeRequest) -> Refusal | None: ...
    def connect(self, scenario: Scenario, request: UpgradeRequest, number: int) -> VendorWire: ...


class CallVendor(Protocol):
    """What a vendor has, too, if it takes calls over WebRTC."""

    def is_call(self, request: UpgradeRequest) -> bool:
        """Does this POST ask for a call? Then it counts as an upgrade does, and suffers the faults of one."""
        ...

    def offer(self, request: UpgradeRequest, body: bytes) -> CallOffer | Refusal: ...
    def joined(self, request: UpgradeRequest) -> str:
        """Call id, if this upgrade wants to join a running call beside its own channel; `check` comes first."""
        ...

    def join(self, call: VendorWire, request: UpgradeRequest, deliver: Callable[[str | bytes], None]) -> VendorWire:
        """The wire of one who joins: it gets every message of the call, and gives the client's to `deliver`."""
        ...

    def refuse(self, status: int, message: str, code: str) -> Refusal:
        """An HTTP error in the vendor's words."""
        ...


def _nothing_played(now: float) -> float:
    return 0.0
