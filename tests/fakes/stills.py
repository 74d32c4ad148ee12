"""The stills that reached an emulated service."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from providers.emulators.server import EmulatorServer

__all__ = ["stills"]


def stills(emulator: EmulatorServer) -> list[bytes]:
    """All of them, of all connections, in order."""
    found: list[bytes] = []
    for connection in emulator.connections:
        wire: Any = connection.wire
        found += wire.images if hasattr(wire, "images") else _of_openai(wire)
    return found


def _of_openai(wire: Any) -> list[bytes]:
    return [
        b64decode(part["image_url"].partition("base64,")[2])
        for item in wire.conversation.items
        for part in item.body.get("content", [])
        if part["type"] == "input_image"
    ]
