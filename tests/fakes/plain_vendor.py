"""A vendor of a few words for tests of the server that emulators run in, and a client's side of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from providers.emulators.server import EmulatorServer
from providers.emulators.wire import Refusal, UpgradeRequest, VendorWire
from providers.scripted.acts import Act, GoingAway, LimitReached, Say, TurnDone
from providers.scripted.brain import Brain
from providers.scripted.scenario import Scenario, load_text

__all__ = ["TONE", "PlainVendor", "PlainWire", "all_messages", "ready", "served"]

TONE = "answer = { kind = 'tone', duration_ms = 1000 }\npace = { speed = 50.0, latency_ms = 0 }\n"


class PlainWire(VendorWire):
    """`{"setup": 1}`, then `{"text": ...}`, or 16 kHz audio as binary frames; says `{"say": ms}`, `{"done": reply}`."""

    freed = 0

    def on_open(self) -> None:
        self.send({"hello": self.number})

    def on_message(self, message: str | bytes) -> None:
        asked = {} if isinstance(message, bytes) else json.loads(message)
        if "bug" in asked:
            raise RuntimeError("a bug in the wire")
        if "setup" in asked:
            self.later(self.scenario.session.setup_delay_ms / 1000, self._ready)
        elif "flood" in asked:
            for _ in range(asked["flood"]):
                self.send(b"{}")
        elif self.brain is None:
            self.close(1008, "setup first: " + "x" * 200)
        elif isinstance(message, bytes):
            self.perform(self.brain.hear(message, self.now))
        else:
            self.perform(self.brain.read(asked["text"], self.now))

    def _ready(self) -> None:
        self.brain = Brain(self.scenario, input_rate_hz=16_000, connection=self.number)
        self.send({"ready": True}, "ready")
        self.perform(self.brain.start(self.now))

    def render(self, act: Act) -> None:
        match act:
            case Say():
                self.send({"say": act.speech_ms}, "say")
            case TurnDone():
                self.send({"done": act.reply})
            case GoingAway():
                self.send({"going": act.time_left_s})
            case LimitReached():
                self.close(1011, "time is up")

    def on_close(self, code: int, reason: str) -> None:
        PlainWire.freed += 1


class PlainVendor:
    name = "plain"
    frames: Literal["text", "binary"] = "binary"
    path = "/plain"

    def check(self, request: UpgradeRequest) -> Refusal | None:
        if request.path != self.path:
            return Refusal(404, "no such path")
        key = request.headers.get("x-key", request.query.get("key", "good"))
        return None if key == "good" else Refusal(401, "bad key", {"X-Why": "key"})

    def connect(self, scenario: Scenario, request: UpgradeRequest, number: int) -> VendorWire:
        return PlainWire(scenario, request, number)


@asynccontextmanager
async def served(toml: str = "", **options: Any) -> AsyncIterator[EmulatorServer]:
    async with EmulatorServer(PlainVendor(), load_text(toml), **options) as server:
        yield server


async def ready(client: ClientConnection, number: int = 1) -> None:
    """Set the n-th connection up."""
    assert json.loads(await client.recv()) == {"hello": number}
    await client.send('{"setup": 1}')
    assert json.loads(await client.recv()) == {"ready": True}


async def all_messages(client: ClientConnection) -> list[Any]:
    """Until the end of the turn or of the connection."""
    found: list[Any] = []
    try:
        while True:
            data = await client.recv()
            try:
                found.append(json.loads(data))
            except ValueError:
                found.append(data)
            if isinstance(found[-1], dict) and "done" in found[-1]:
                return found
    except ConnectionClosed:
        return found
