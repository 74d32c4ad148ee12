"""Golden wire vectors: server messages to events, commands to client messages. Each names its source and date."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from providers.contract import SessionEvent, SessionStart, ToolSpec
from providers.gemini.endpoint import endpoint
from providers.gemini.protocol import GeminiProtocol
from providers.gemini.settings import GeminiSettings
from providers.gemini.setup import plan_session
from providers.settings import SpeechSettings
from providers.signal.formats import AudioFormat, Encoding

T = TypeVar("T")
VECTORS = Path(__file__).parents[3] / "vectors" / "gemini"


class ServerVector(msgspec.Struct, forbid_unknown_fields=True):
    """What the service sent, one message after another, and the events of all of them."""

    name: str
    source: str
    date: str
    messages: list[dict[str, Any]]
    events: list[dict[str, Any]]
    settings: dict[str, Any] = {}
    frame: str = "binary"


class ClientVector(msgspec.Struct, forbid_unknown_fields=True):
    """Messages that came before, one command, and what goes out."""

    name: str
    source: str
    date: str
    command: str
    arguments: list[Any]
    messages: list[dict[str, Any]]
    settings: dict[str, Any] = {}
    speech: dict[str, Any] = {}
    before: list[dict[str, Any]] = []


def load(kind: type[T], name: str) -> list[T]:
    return [msgspec.json.decode(line, type=kind) for line in (VECTORS / name).read_text().splitlines() if line]


def opened(settings: dict[str, Any], speech: dict[str, Any]) -> GeminiProtocol:
    own = msgspec.convert(settings, GeminiSettings)
    spoken = msgspec.convert({"tools": [{"name": "weather"}, {"name": "clock"}], **speech}, SpeechSettings)
    place = endpoint(own, {"GOOGLE_CLOUD_PROJECT": "p"})
    return GeminiProtocol(plan_session(spoken, own, place, SessionStart()))


def written(event: SessionEvent) -> dict[str, Any]:
    """An event as a vector spells it: fields at their default left out, audio as base64."""
    fields = {}
    for field in msgspec.structs.fields(event):
        value = getattr(event, field.name)
        if field.name == "session" or value == field.default:
            continue
        fields[field.name] = (
            base64.b64encode(value).decode() if isinstance(value, bytes) else msgspec.to_builtins(value)
        )
    as_json: dict[str, Any] = json.loads(json.dumps({"event": type(event).__name__, **fields}))
    return as_json


def play(vector: ServerVector) -> list[dict[str, Any]]:
    core = opened(vector.settings, {})
    events: list[SessionEvent] = []
    for message in vector.messages:
        text = json.dumps(message, indent=2)
        events += core.receive(text if vector.frame == "text" else text.encode(), 1.0)
    return [written(event) for event in events]


@pytest.mark.parametrize("vector", load(ServerVector, "server.jsonl"), ids=lambda vector: vector.name)
def test_server_messages_become_events(vector: ServerVector) -> None:
    assert play(vector) == vector.events


@pytest.mark.parametrize("vector", load(ClientVector, "client.jsonl"), ids=lambda vector: vector.name)
def test_a_command_becomes_messages(vector: ClientVector) -> None:
    core = opened(vector.settings, vector.speech)
    if vector.command == "start":
        core.start(0.0)
    else:
        core.receive(b'{"setupComplete": {}}', 0.0)
        for message in vector.before:
            core.receive(json.dumps(message), 0.0)
        core.outgoing()
        run(core, vector.command, vector.arguments)
    assert [json.loads(message) for message in core.outgoing()] == vector.messages


def run(core: GeminiProtocol, command: str, arguments: list[Any]) -> None:
    match command:
        case "encode_audio":
            audio = core.encode_audio(base64.b64decode(arguments[0]), AudioFormat(Encoding.PCM16, arguments[1]))
            core.send_raw(json.loads(audio))
        case "send_image":
            core.send_image(base64.b64decode(arguments[0]), arguments[1])
        case "update":
            core.update(
                instructions=arguments[0],
                tools=None if arguments[1] is None else [ToolSpec(name=n) for n in arguments[1]],
            )
        case "interrupt":
            core.interrupt(1.0)
        case _:
            getattr(core, command)(*arguments)


def test_every_vector_has_a_name_of_its_own_a_source_and_a_date() -> None:
    for vectors in (load(ServerVector, "server.jsonl"), load(ClientVector, "client.jsonl")):
        assert len({vector.name for vector in vectors}) == len(vectors)
        assert all(vector.source and len(vector.date) >= len("2026-09") for vector in vectors)
