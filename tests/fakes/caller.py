"""A caller from outside: plain aiortc and plain HTTP, nothing of ours but the page's token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import aiohttp

from bridge.app import Process
from bridge.config import read
from bridge.serve import Serving
from tests.e2e.plain_peer import PlainPeer
from tests.fakes.webrtc import on_loopback

__all__ = ["Caller", "serving", "started"]


@asynccontextmanager
async def started(process: Process, config: Mapping[str, Any], environ: Mapping[str, str]) -> AsyncIterator[Serving]:
    """A serving process on loopback, until the block is left; every call is drained then."""
    table = {"webrtc": {"addresses": ["127.0.0.1"], **config.get("webrtc", {})}}
    table["serve"] = {"port": 0, "page": False, **config.get("serve", {})}
    serving = Serving(read({**config, **table}, {}), environ, process, tell=lambda _: None)
    async with asyncio.TaskGroup() as group:
        group.create_task(serving.run(), name="serving")
        while not serving.server.port:  # noqa: ASYNC110 - the port is known once it listens
            await asyncio.sleep(0.005)
        try:
            with on_loopback():
                yield serving
        finally:
            serving.stop()


@asynccontextmanager
async def serving(config: Mapping[str, Any] | None = None) -> AsyncIterator[tuple[Serving, Process]]:
    """The same for a test that brings no process of its own."""
    process = Process()
    async with started(process, config or {}, {}) as found:
        yield found, process


class Caller(PlainPeer):
    """One caller with a voice, an ear and the data channel's messages. Use as an async context manager."""

    def __init__(self, serving: Serving) -> None:
        super().__init__()
        self.messages: list[dict[str, Any]] = []
        self.channel: Any = None
        self.location = ""
        self.token = ""
        self._serving = serving
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> Caller:
        await super().__aenter__()
        self._http = aiohttp.ClientSession()
        self.channel = self.connection.createDataChannel("roombridge")
        self.channel.on("message", lambda message: self.messages.append(json.loads(message)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()
        await super().__aexit__(kind, error, trace)

    @property
    def address(self) -> str:
        """Of the API."""
        return self._serving.server.address

    async def new_token(self, name: str = "Ada") -> str:
        """A call token, as the page gets it."""
        page = self._serving.address_with_token().partition("#token=")[2]
        status, given = await self.ask("POST", "/api/tokens", page, json={"name": name})
        assert status == 200
        return str(given["token"])

    async def call(self, provider: str = "", token: str | None = None) -> None:
        """Offer, take the answer, and wait until media flows."""
        self.token = token or await self.new_token()

        async def answers(offer: str) -> str:
            status, answer = await self.offer_call(offer, provider)
            assert status == 201, answer
            return str(answer)

        await self.connect(answers)

    async def offer_call(self, offer: str | bytes, provider: str = "") -> tuple[int, Any]:
        headers = {"Content-Type": "application/sdp"}
        path = "/api/calls" + (f"?provider={provider}" if provider else "")
        return await self.ask("POST", path, self.token, headers, data=offer)

    async def ask(
        self, method: str, path: str, token: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> tuple[int, Any]:
        """One request; JSON is read."""
        headers = {"Authorization": f"Bearer {token}", **(headers or {})}
        async with self._http.request(method, self._serving.server.address + path, headers=headers, **more) as answer:
            self.location = answer.headers.get("Location", self.location)
            is_json = answer.content_type == "application/json"
            return answer.status, await (answer.json() if is_json else answer.text())

    def send(self, **message: Any) -> None:
        """Over the data channel."""
        self.channel.send(json.dumps(message))

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """Messages that came, of this type."""
        return [message for message in self.messages if message["type"] == kind]

    def captions(self, speaker: str) -> str:
        """What this speaker's segments say by now."""
        segments: dict[str, str] = {}
        for caption in self.of_type("caption"):
            if caption["speaker"] == speaker:
                before = segments.get(caption["segment"], "") if caption["append"] else ""
                segments[caption["segment"]] = before + caption["text"]
        return " ".join(segments.values())
