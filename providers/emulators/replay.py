"""Plays the server's side of captures to a client, at the pace at which they were recorded. No I/O, no clock.

    vendor = ReplayVendor(read_captures("calls/"), tell=print)
    async with EmulatorServer(vendor) as server: ...
    vendor.departures       # where a client did something else than the one that was recorded

The client is followed by the kind of its messages. What the server said after one of them waits until the client has
sent its own of that kind, and then comes as much later as it came then. Streamed audio is not compared, and nothing
waits for it: a conversation runs by its clock, however the client's microphone is cut into messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import msgspec

from providers.emulators.capture import Capture, Closing, Entry, Refused
from providers.emulators.kinds import STREAMED, identity_of, kind_of
from providers.emulators.wire import Hangup, Outgoing, Refusal, Strike, UpgradeRequest, VendorWire
from providers.scripted.acts import Act
from providers.scripted.faults import Abort
from providers.scripted.scenario import Scenario

__all__ = ["Departure", "ReplayVendor", "ReplayWire"]

_PATHS = {"gemini": "", "openai": "/v1/realtime"}
_FRAMES: dict[str, Literal["text", "binary"]] = {"gemini": "binary", "openai": "text"}
_NOBODY = Refusal(503, "every capture has been played")


class Departure(msgspec.Struct, frozen=True):
    """The first point at which a client did something else. The connection is closed there with 1008."""

    capture: str
    line: int
    """Of the capture, where the recorded client did what this one did not."""
    field: str
    expected: object
    got: object

    def __str__(self) -> str:
        return f"{self.capture}, line {self.line}, {self.field}: expected {self.expected!r}, got {self.got!r}"


class ReplayVendor:
    """A `Vendor` that plays captures. One capture is played to every connection, several to one each in their order."""

    def __init__(
        self, captures: Sequence[Capture], *, speed: float = 1.0, tell: Callable[[str], None] | None = None
    ) -> None:
        """Args: speed is a multiple of the recorded pace; tell gets one line for each departure.

        Raises ValueError for no captures, for such of two vendors, and for a speed that is not above 0.
        """
        vendors = {capture.head.vendor for capture in captures}
        if len(vendors) != 1:
            raise ValueError(f"captures = {sorted(vendors)}: give some, of one vendor")
        if not speed > 0:
            raise ValueError(f"speed = {speed}: must be above 0")
        self.vendor: Literal["gemini", "openai"] = captures[0].head.vendor
        self.name = f"{self.vendor} replay"
        self.frames = _FRAMES[self.vendor]
        self.path = _PATHS[self.vendor]
        self.departures: list[Departure] = []
        self.played = 0
        """Captures whose every line came to pass."""
        self._captures = list(captures)
        self._speed = speed
        self._tell = tell
        self._upgrades = 0

    def check(self, request: UpgradeRequest) -> Refusal | None:
        """Refuses as was recorded, or because path or model are not those that were recorded."""
        self._upgrades += 1
        capture = self._next()
        if capture is None:
            return _NOBODY
        head = capture.head
        asked = {"path": _plain_path(request.path), "query.model": request.query.get("model")}
        recorded = {"path": _plain_path(head.path), "query.model": head.query.get("model")}
        for field, value in asked.items():
            if value != recorded[field]:
                departure = Departure(capture.name, 1, field, recorded[field], value)
                self.departed(departure)
                return Refusal(404, str(departure))
        first = capture.entries[0] if capture.entries else None
        if first is not None and isinstance(first.refused, Refused):
            self.played += 1
            return Refusal(first.refused.status, first.refused.body, first.refused.headers)
        return None

    def connect(self, scenario: Scenario, request: UpgradeRequest, number: int) -> ReplayWire:
        capture = self._next()
        assert capture is not None, "an upgrade without a capture is refused"
        return ReplayWire(self, capture, self._speed, scenario, request, number)

    def _next(self) -> Capture | None:
        """Of the newest upgrade."""
        if len(self._captures) == 1:
            return self._captures[0]
        return self._captures[self._upgrades - 1] if self._upgrades <= len(self._captures) else None

    def departed(self, departure: Departure) -> None:
        self.departures.append(departure)
        if self._tell is not None:
            self._tell(f"departed: {departure}")


class ReplayWire(VendorWire):
    """One capture, played to one client."""

    def __init__(
        self,
        vendor: ReplayVendor,
        capture: Capture,
        speed: float,
        scenario: Scenario,
        request: UpgradeRequest,
        number: int,
    ) -> None:
        super().__init__(scenario, request, number)
        self.capture = capture
        self._vendor = vendor
        self._speed = speed
        self._expected = [
            index
            for index, entry in enumerate(capture.entries)
            if entry.sender == "client" and entry.close is msgspec.UNSET and not self._streamed(entry)
        ]
        """Entries that the client is to send, in order."""
        self._met: list[float] = []
        """When it sent the first ones of them."""
        self._position = 0
        self._anchor = (0.0, 0.0)
        """A moment of the capture, and when it was in this replay."""
        self._said_at = 0.0
        """When the newest message of the server was due."""
        self._armed = False
        self._departed = False

    def on_open(self) -> None:
        self._anchor = (0.0, self.now)
        self._said_at = self.now
        self._play()

    def on_message(self, message: str | bytes) -> None:
        try:
            decoded = msgspec.json.decode(message)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            decoded = None
        kind = kind_of(self._vendor.vendor, decoded)
        if kind in STREAMED:
            return
        if len(self._met) == len(self._expected):
            line = self.capture.line(len(self.capture.entries) - 1)
            self._depart(Departure(self.capture.name, line, "kind", "nothing more", kind))
            return
        index = self._expected[len(self._met)]
        recorded = self._message(self.capture.entries[index])
        wanted = kind_of(self._vendor.vendor, recorded)
        line = self.capture.line(index)
        if kind != wanted:
            self._depart(Departure(self.capture.name, line, "kind", wanted, kind))
            return
        ours, theirs = identity_of(self._vendor.vendor, recorded), identity_of(self._vendor.vendor, decoded)
        for field in sorted(ours.keys() | theirs.keys()):
            if ours.get(field) != theirs.get(field):
                self._depart(Departure(self.capture.name, line, field, ours.get(field), theirs.get(field)))
                return
        self._met.append(self.now)
        self._play()

    def render(self, act: Act) -> None:
        raise AssertionError("a replay has no mind")

    def on_close(self, code: int, reason: str) -> None:
        if self._departed:
            return
        if len(self._met) < len(self._expected):
            index = self._expected[len(self._met)]
            wanted = kind_of(self._vendor.vendor, self._message(self.capture.entries[index]))
            self._departed = True
            departure = Departure(self.capture.name, self.capture.line(index), "kind", wanted, f"the end, {code}")
            self._vendor.departed(departure)
        elif self._position >= len(self.capture.entries) or self.capture.entries[self._position].sender == "client":
            self._vendor.played += 1

    # ------------------------------------------------------------------------------------------------------ playing

    def _play(self) -> None:
        """Send all that is due, and come back for the next."""
        while self._position < len(self.capture.entries) and not self.hung_up and not self._armed:
            entry = self.capture.entries[self._position]
            if entry.sender == "client":
                if not self._passes(entry):
                    return
                self._position += 1
                continue
            due = self._anchor[1] + (entry.at - self._anchor[0]) / self._speed
            if due > self.now:
                self._armed = True
                self.later(due - self.now, partial(self._due, due))
                return
            self._position += 1
            self._said_at = due
            self._utter(entry)

    def _due(self, due: float) -> None:
        self._armed = False
        # At its own time: a late wake-up must not shift what follows from it.
        self.now = max(self.now, due)
        self._play()

    def _passes(self, entry: Entry) -> bool:
        """May what follows this line of the client be played?"""
        if self._streamed(entry):
            return True
        if isinstance(entry.close, Closing):
            return False  # the client's own affair, and the end
        passed = sum(1 for index in self._expected if index < self._position)
        if passed >= len(self._met):
            return False
        # Sent before its time, it still follows what the server said before it.
        self._anchor = (entry.at, max(self._met[passed], self._said_at))
        return True

    def _utter(self, entry: Entry) -> None:
        if isinstance(entry.close, Closing):
            self.hung_up = True
            if entry.close.code == 1006:
                self._output.append(Strike(Abort()))
            else:
                self._output.append(Hangup(1000 if entry.close.code == 1005 else entry.close.code, entry.close.reason))
            return
        self._output.append(Outgoing(entry.data, "replay", entry.frame))

    def _depart(self, departure: Departure) -> None:
        self._departed = True
        self._vendor.departed(departure)
        short = f"line {departure.line}, {departure.field}: expected {departure.expected}, got {departure.got}"
        self.close(1008, short)

    def _streamed(self, entry: Entry) -> bool:
        return kind_of(self._vendor.vendor, self._message(entry)) in STREAMED

    def _message(self, entry: Entry) -> object:
        return entry.message if isinstance(entry.message, dict) else None


def _plain_path(path: str) -> str:
    """Clients differ in how many slashes they put between base and path."""
    return "/" + "/".join(part for part in path.split("/") if part)
