"""Golden wire vectors: server messages to events, commands to client messages. Each names its source and date."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from providers.contract import Closed, SessionEvent
from tests.fakes.openai_types import check_client_frame, check_server_frame
from tests.unit.providers.openai.calls import Call

V = TypeVar("V", bound=msgspec.Struct)
VECTORS = Path(__file__).parents[3] / "vectors" / "openai"
FOREIGN = ("beta", "xAI")
"""Names of vectors that other dialects than GA are in, which the SDK does not know."""


class ServerVector(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    source: str
    date: str
    messages: list[dict[str, Any]]
    events: list[dict[str, Any]]


class ClientVector(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    source: str
    date: str
    command: str
    messages: list[dict[str, Any]]
    before: list[dict[str, Any]] = []
    """What the server said until then."""
    arguments: list[Any] = []
    keywords: dict[str, Any] = {}
    image: str | None = None
    """Base64; goes before the arguments."""


def load(kind: type[V], name: str) -> list[V]:
    lines = (VECTORS / name).read_text(encoding="utf-8").splitlines()
    return [msgspec.json.decode(line, type=kind) for line in lines]


SERVER = load(ServerVector, "server.jsonl")
CLIENT = load(ClientVector, "client.jsonl")


def plain(event: SessionEvent) -> dict[str, Any]:
    """An event as the vectors spell it: its class, and the fields that differ from their defaults."""
    fields = {
        field.name: getattr(event, field.name)
        for field in msgspec.structs.fields(event)
        if field.name != "session" and (field.name == "reason" or getattr(event, field.name) != field.default)
    }
    if isinstance(event, Closed):
        fields["error"] = type(event.error).__name__
    told: dict[str, Any] = msgspec.json.decode(msgspec.json.encode({"event": type(event).__name__, **fields}))
    return told


@pytest.mark.parametrize("vector", SERVER, ids=lambda vector: vector.name)
def test_server_messages_become_events(vector: ServerVector) -> None:
    call = Call()
    told = [plain(event) for message in vector.messages for event in call.core.receive(json.dumps(message), call.now)]
    assert told == vector.events


@pytest.mark.parametrize(
    "vector", [vector for vector in SERVER if not any(word in vector.name for word in FOREIGN)], ids=lambda v: v.name
)
def test_the_sdk_knows_every_server_message(vector: ServerVector) -> None:
    for message in vector.messages:
        check_server_frame(json.dumps(message))


@pytest.mark.parametrize("vector", CLIENT, ids=lambda vector: vector.name)
def test_commands_become_client_messages(vector: ClientVector) -> None:
    call = Call()
    for message in vector.before:
        call.core.receive(json.dumps(message), call.now)
    call.sent()
    arguments = [b64decode(vector.image), *vector.arguments] if vector.image else vector.arguments
    getattr(call.core, vector.command)(*arguments, **vector.keywords)
    assert call.sent() == vector.messages
    for frame in vector.messages:
        check_client_frame(json.dumps(frame))


def test_every_vector_has_a_name_of_its_own_a_source_and_a_date() -> None:
    for vectors in (SERVER, CLIENT):
        assert len({vector.name for vector in vectors}) == len(vectors)
        assert all(vector.source and len(vector.date) == len("2026-09") for vector in vectors)
