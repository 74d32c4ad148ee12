"""A local server that speaks OpenAI Realtime as the service does: its checks, sequences and errors.

    async with OpenAIEmulator(scenario) as emulator:
        ...   # OPENAI_BASE_URL=emulator.api_url, any OPENAI_API_KEY
        emulator.sessions[0].heard, .items, .config, .tool_outputs, .errors
        emulator.written()      # every message to the clients, with its time and label

WebSocket conversations, `POST .../realtime/client_secrets`, and calls over real WebRTC: `POST .../realtime/calls` in
both forms, `.../calls/{id}/hangup`, and `?call_id=` to join one. Not emulated: transcription and translation sessions,
SIP, MCP tools, responses outside the default conversation beside an active one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, Literal

import msgspec

from providers.emulators.openai_call_wire import OpenAICallWire, OpenAISidebandWire
from providers.emulators.openai_calls import hung_up_call, is_call_path, offered, session_problem
from providers.emulators.openai_items import StoredItem
from providers.emulators.openai_schema import CLIENT_EVENTS, Problem
from providers.emulators.openai_session import EffectiveSession
from providers.emulators.openai_wire import OpenAIWire
from providers.emulators.server import Connection, EmulatorServer, Message
from providers.emulators.tls import Certificate, make_certificate
from providers.emulators.wire import CallEnd, CallOffer, Refusal, UpgradeRequest, VendorWire
from providers.openai.catalog import model_facts
from providers.scripted.scenario import Scenario, ServerVad

__all__ = ["EmulatedSession", "OpenAIEmulator", "OpenAIVendor"]

_SECRET_LIFE_S = 600
_MAX_SECRETS = 10_000


class OpenAIVendor:
    """The service's side that all connections share: paths, keys, models, client secrets."""

    name = "openai"
    frames: Literal["text", "binary"] = "text"
    path = "/v1/realtime"

    def __init__(
        self,
        *,
        keys: Collection[str] | None = None,
        models: Collection[str] | None = None,
        split_ms: int | None = None,
    ) -> None:
        """Args:
        keys: API keys that are valid; None takes any.
        models: models that exist; None: those of the catalog that can hold a conversation.
        split_ms: each reply is two messages, the first of so much speech, as the preambles of gpt-realtime-2 are.
        """
        self.keys = None if keys is None else frozenset(keys)
        self.models = None if models is None else frozenset(models)
        self.split_ms = split_ms
        self.secrets: dict[str, float] = {}
        """Client secrets and when they expire, `time.monotonic()`. Full: the oldest goes."""
        self.calls: dict[str, OpenAICallWire] = {}
        """Calls that run, by id."""
        self._sessions: dict[str, dict[str, Any]] = {}
        """What each secret's session is configured with."""

    def check(self, request: UpgradeRequest) -> Refusal | None:
        """Unknown paths and models are 404, a missing or wrong key 401."""
        if not request.path.endswith("/realtime"):
            return _refusal(404, f"Invalid URL (GET {request.path})", None)
        refused = self._key_refusal(request)
        if refused is not None:
            return refused
        if "call_id" in request.query:
            return self._key_refusal(request, secrets=False) or self._no_call(request.query["call_id"])
        model = request.query.get("model")
        if not model:
            return _refusal(400, "You must provide a model parameter.", "missing_model")
        return self._model_refusal(model)

    def connect(self, scenario: Scenario, request: UpgradeRequest, number: int) -> OpenAIWire:
        if request.call is not None:
            return OpenAICallWire(scenario, request, number, self.split_ms, self.calls)
        return OpenAIWire(scenario, request, number, self.split_ms)

    # ---------------------------------------------------------------------------------------------------------- calls

    def is_call(self, request: UpgradeRequest) -> bool:
        return is_call_path(request.path)

    def offer(self, request: UpgradeRequest, body: bytes) -> CallOffer | Refusal:
        """`POST .../realtime/calls`: the session comes with the request, or was given to the client secret."""
        refused = self._key_refusal(request)
        if refused is not None:
            return refused
        if "openai-beta" in request.headers:
            said = "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API."
            return _refusal(400, said, "beta_api_shape_disabled")
        found = offered(request.headers.get("content-type", ""), body)
        if isinstance(found, Problem):
            status = 415 if found.code == "unsupported_content_type" else 400
            return _refusal(status, found.message, found.code, found.param)
        sdp, session = found
        session = {**self._sessions.get(_key(request), {}), **(session or {})}
        if "model" in request.query:
            session.setdefault("model", request.query["model"])
        session.setdefault("type", "realtime")
        if not session.get("model"):
            return _refusal(400, "You must provide a model parameter.", "missing_model")
        problem = session_problem(session)
        if problem is not None:
            return _refusal(400, problem.message, problem.code, problem.param)
        return self._model_refusal(session["model"]) or CallOffer(sdp, session)

    def joined(self, request: UpgradeRequest) -> str:
        return request.query.get("call_id", "") if request.path.endswith("/realtime") else ""

    def join(
        self, call: VendorWire, request: UpgradeRequest, deliver: Callable[[str | bytes], None]
    ) -> OpenAISidebandWire:
        assert isinstance(call, OpenAICallWire)
        return OpenAISidebandWire(call, request, deliver)

    def refuse(self, status: int, message: str, code: str) -> Refusal:
        return _refusal(status, message, code)

    def _no_call(self, call_id: str) -> Refusal | None:
        call = self.calls.get(call_id)
        known = call is not None and not call.hung_up
        return None if known else _refusal(404, f"No call with id '{call_id}' was found.", "call_not_found")

    # ------------------------------------------------------------------------------------------------ keys and secrets

    def post(self, request: UpgradeRequest, body: bytes) -> Refusal | CallEnd:
        """`POST .../realtime/client_secrets` mints a secret: secrets may not. `POST .../calls/{id}/hangup`."""
        call_id = hung_up_call(request.path)
        if call_id is not None:
            refused = self._key_refusal(request, secrets=False)
            return refused or self._no_call(call_id) or CallEnd(call_id)
        if not request.path.endswith("/realtime/client_secrets"):
            return _refusal(404, f"Invalid URL (POST {request.path})", None)
        refused = self._key_refusal(request, secrets=False)
        if refused is not None:
            return refused
        try:
            wanted = msgspec.json.decode(body, type=dict[str, Any]) if body else {}
        except (msgspec.DecodeError, UnicodeError):
            return _refusal(400, "We could not parse the JSON body of your request.", "invalid_json")
        session = wanted.get("session", {"type": "realtime"})
        problem = CLIENT_EVENTS.check({"type": "session.update", "session": session}, "")
        if problem is not None:
            return _refusal(400, problem.message, problem.code, problem.param)
        expiry = wanted.get("expires_after", {})
        life_s = expiry.get("seconds", _SECRET_LIFE_S) if isinstance(expiry, dict) else None
        if not isinstance(life_s, int) or not 10 <= life_s <= 7200:
            said = "Invalid 'expires_after.seconds': expected a value from 10 to 7200."
            return _refusal(400, said, "invalid_value", "expires_after.seconds")
        model = str(session.get("model", "gpt-realtime"))
        refused = self._model_refusal(model)
        if refused is not None:
            return refused
        secret = f"ek_{len(self.secrets) + 1:032x}"
        self.secrets[secret] = time.monotonic() + life_s
        self._sessions[secret] = {**session, "model": model}
        if len(self.secrets) > _MAX_SECRETS:
            oldest = next(iter(self.secrets))
            del self.secrets[oldest], self._sessions[oldest]
        effective = EffectiveSession("sess_secret", model, ServerVad())
        effective.apply(session)
        answer = {"value": secret, "expires_at": time.time_ns() // 10**9 + life_s, "session": effective.show()}
        return Refusal(200, msgspec.json.encode(answer).decode(), {"Content-Type": "application/json"})

    def _key_refusal(self, request: UpgradeRequest, *, secrets: bool = True) -> Refusal | None:
        """Args: secrets may do it, too."""
        key = _key(request)
        if not key:
            return _refusal(401, "Missing bearer authentication in header", None)
        if key.startswith("ek_"):
            known = secrets and self.secrets.get(key, 0.0) > time.monotonic()
        else:
            known = self.keys is None or key in self.keys
        return None if known else _refusal(401, "Incorrect API key provided.", "invalid_api_key")

    def _model_refusal(self, model: str) -> Refusal | None:
        facts = model_facts(model)
        if model in self.models if self.models is not None else facts.listed and not facts.not_conversational:
            return None
        said = f"The model `{model}` does not exist or you do not have access to it."
        return _refusal(404, said, "model_not_found")


def _key(request: UpgradeRequest) -> str:
    """Empty: there is none."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key if scheme.lower() == "bearer" else ""


def _refusal(status: int, message: str, code: str | None, param: str | None = None) -> Refusal:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return Refusal(status, msgspec.json.encode({"error": error}).decode(), {"Content-Type": "application/json"})


class EmulatedSession:
    """One connection, in OpenAI's words, for tests."""

    def __init__(self, connection: Connection) -> None:
        assert isinstance(connection.wire, OpenAIWire)
        self.connection = connection
        self.wire = connection.wire

    @property
    def heard(self) -> bytes:
        """All input audio, int16 mono at 24 kHz, whatever format it came in."""
        return self.wire.mind.hearing.recording.heard

    @property
    def config(self) -> dict[str, Any]:
        """The effective session."""
        return self.wire.session.show()

    @property
    def updates(self) -> list[dict[str, Any]]:
        """Every accepted `session.update`, oldest first."""
        return self.wire.updates

    @property
    def items(self) -> list[StoredItem]:
        """The conversation, with what the server believes was heard of each item (`believed_heard_ms`)."""
        return self.wire.conversation.items

    @property
    def deleted(self) -> list[StoredItem]:
        return self.wire.conversation.deleted

    @property
    def tool_outputs(self) -> dict[str, str]:
        """By call id."""
        return self.wire.tool_outputs

    @property
    def errors(self) -> list[dict[str, Any]]:
        """Every `error` that the client was sent."""
        return self.wire.errors

    @property
    def call(self) -> OpenAICallWire:
        """Of a call: `call_id`, `appends`, `playback`. Raises TypeError for a WebSocket."""
        if not isinstance(self.wire, OpenAICallWire):
            raise TypeError("this session is no call")
        return self.wire

    def received(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Client events as far as they are logged, all or of one type."""
        events = [msgspec.json.decode(message.data) for message in self.connection.messages(sent=False)]
        return [event for event in events if kind is None or event["type"] == kind]


class OpenAIEmulator(EmulatorServer):
    """The emulated service for tests and for `roombridge emulate openai`."""

    def __init__(
        self,
        scenario: Scenario | None = None,
        *,
        tls: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
        keys: Collection[str] | None = None,
        models: Collection[str] | None = None,
        split_ms: int | None = None,
        log_limit: int = 20_000,
    ) -> None:
        """Args: tls makes a certificate (see `certificate`); the others are those of `OpenAIVendor` and the server."""
        self.certificate: Certificate | None = make_certificate(host) if tls else None
        vendor = OpenAIVendor(keys=keys, models=models, split_ms=split_ms)
        context = self.certificate.server_context() if self.certificate else None
        super().__init__(vendor, scenario, host=host, port=port, tls=context, log_limit=log_limit)

    @property
    def api_url(self) -> str:
        """The value of OPENAI_BASE_URL, as the official SDK wants it: http or https, ending in /v1."""
        return f"http{self.base_url.removeprefix('ws')}/v1"

    @property
    def sessions(self) -> list[EmulatedSession]:
        """Every connection so far, oldest first."""
        return [EmulatedSession(connection) for connection in self.connections]

    def written(self, label: str | None = None) -> list[Message]:
        """Every message to the clients in the order of time, all or of one label (`speech`, or the event's type)."""
        messages = [message for connection in self.connections for message in connection.messages(sent=True)]
        messages.sort(key=lambda message: message.at)
        return [message for message in messages if label is None or message.label == label]
