"""A local server that speaks Gemini Live as Google's service does: both backends, all versions, its checks and quirks.

    async with GeminiEmulator(scenario) as emulator:
        ...   # GOOGLE_GEMINI_BASE_URL=emulator.base_url
        emulator.sessions[0].heard, .setup, .texts, .tool_answers
        emulator.written()      # every message to the clients, with its time and label

Google's own SDK insists on TLS: `GeminiEmulator(scenario, tls=True)`, then trust `emulator.certificate`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

import msgspec

from providers.emulators.gemini_wire import GeminiWire
from providers.emulators.server import EmulatorServer, Message
from providers.emulators.tls import Certificate, make_certificate
from providers.emulators.wire import Refusal, UpgradeRequest
from providers.gemini.rules import Backend
from providers.scripted.memory import Memory
from providers.scripted.scenario import Scenario

__all__ = ["GeminiEmulator", "GeminiVendor", "Handle", "StoredSession"]

_DEVELOPER_PATH = re.compile(
    r"/+ws/google\.ai\.generativelanguage\.(v1|v1beta|v1alpha)\.GenerativeService\.BidiGenerateContent(Constrained)?"
)
_VERTEX_PATH = re.compile(r"/+ws/google\.cloud\.aiplatform\.(v1|v1beta1)\.LlmBidiService/BidiGenerateContent")
_TOKEN = "auth_tokens/"
_MAX_HANDLES = 10_000


class StoredSession(msgspec.Struct):
    """What the service keeps of one conversation, over all its connections."""

    session_id: str
    model: str
    open_connections: set[int]


class Handle(msgspec.Struct, frozen=True):
    """A resumption handle: the conversation as it stood when it was issued."""

    session: StoredSession
    memory: Memory


class GeminiVendor:
    """The service's side that all connections share: paths, keys, sessions, handles."""

    name = "gemini"
    frames: Literal["text", "binary"] = "binary"
    path = ""
    """Clients build the path themselves from the base URL."""

    def __init__(
        self,
        *,
        keys: Collection[str] | None = None,
        nudge_needed: bool = False,
        call_ids: bool = True,
        context_update: Collection[Backend] = tuple(Backend),
    ) -> None:
        """Args:
        keys: API keys, ephemeral tokens and OAuth tokens that are valid; None takes any.
        nudge_needed: 3.x models generate after `clientContent` only once a `realtimeInput.text` follows.
        call_ids: tool calls carry ids; False is what Vertex does at times.
        context_update: backends that know `contextUpdate`.
        """
        self.keys = None if keys is None else frozenset(keys)
        self.nudge_needed = nudge_needed
        self.call_ids = call_ids
        self.context_update = frozenset(context_update)
        self.handles: dict[str, Handle] = {}
        """Full: the oldest goes."""
        self._sessions = 0
        self._issued = 0

    def check(self, request: UpgradeRequest) -> Refusal | None:
        """Paths that do not exist are 404, Vertex without a token 401."""
        if _DEVELOPER_PATH.fullmatch(request.path):
            return None
        if _VERTEX_PATH.fullmatch(request.path):
            if _vertex_credential(request):
                return None
            return Refusal(401, '{"error": {"code": 401, "status": "UNAUTHENTICATED"}}')
        return Refusal(404, "<html><title>Error 404 (Not Found)!!1</title></html>")

    def connect(self, scenario: Scenario, request: UpgradeRequest, number: int) -> GeminiWire:
        return GeminiWire(self, scenario, request, number)

    def place(self, request: UpgradeRequest) -> tuple[Backend, str]:
        """Backend and version that the path names."""
        developer = _DEVELOPER_PATH.fullmatch(request.path)
        if developer is not None:
            return Backend.DEVELOPER, developer.group(1)
        vertex = _VERTEX_PATH.fullmatch(request.path)
        assert vertex is not None, "other paths are refused at the upgrade"
        return Backend.VERTEX, vertex.group(1)

    def refused_credential(self, request: UpgradeRequest) -> tuple[int, str] | None:
        """Close code and reason for a key that is missing or wrong; the service says so after the setup only."""
        developer = _DEVELOPER_PATH.fullmatch(request.path)
        if developer is None:
            given = _vertex_credential(request)
            if self.keys is not None and given not in self.keys:
                return 1008, "Request had invalid authentication credentials."
            return None
        token = request.query.get("access_token") or _after(request.headers.get("authorization", ""), "Token ")
        if developer.group(2):
            if not token.startswith(_TOKEN) or (self.keys is not None and token not in self.keys):
                return 1008, "Ephemeral token is invalid or expired."
            return None
        key = request.headers.get("x-goog-api-key") or request.query.get("key", "")
        if not key:
            return 1008, "Method doesn't allow unregistered callers (callers without established identity)."
        if self.keys is not None and key not in self.keys:
            return 1007, "API key not valid. Please pass a valid API key."
        return None

    def new_session(self, model: str, connection: int) -> StoredSession:
        self._sessions += 1
        return StoredSession(f"session-{self._sessions}", model, {connection})

    def issue(self, session: StoredSession, memory: Memory) -> str:
        """A new handle for this conversation as it stands."""
        self._issued += 1
        handle = f"{session.session_id}-handle-{self._issued}"
        self.handles[handle] = Handle(session, memory.snapshot())
        if len(self.handles) > _MAX_HANDLES:
            del self.handles[next(iter(self.handles))]
        return handle

    def forget(self, session: StoredSession) -> None:
        """Every handle of this conversation so far is expired."""
        self.handles = {handle: held for handle, held in self.handles.items() if held.session is not session}


class GeminiEmulator(EmulatorServer):
    """An emulator server for Gemini, with a view for tests."""

    def __init__(
        self,
        scenario: Scenario | None = None,
        *,
        tls: bool = False,
        vendor: GeminiVendor | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Args: tls makes a certificate of its own, valid for loopback."""
        self.certificate: Certificate | None = make_certificate(host) if tls else None
        context = self.certificate.server_context() if self.certificate else None
        super().__init__(vendor or GeminiVendor(), scenario, host=host, port=port, tls=context)

    @property
    def sessions(self) -> list[GeminiWire]:
        """One for each accepted connection, oldest first; they stay after their end."""
        return [connection.wire for connection in self.connections if isinstance(connection.wire, GeminiWire)]

    def written(self, label: str = "") -> list[Message]:
        """Messages handed to clients, in order, with times; of one label if given."""
        messages = (message for connection in self.connections for message in connection.messages(sent=True))
        return sorted((message for message in messages if label in ("", message.label)), key=lambda sent: sent.at)


def _after(text: str, prefix: str) -> str:
    return text[len(prefix) :] if text.startswith(prefix) else ""


def _vertex_credential(request: UpgradeRequest) -> str:
    return _after(request.headers.get("authorization", ""), "Bearer ") or request.headers.get("x-goog-api-key", "")
