"""What the benchmark needs to know of each provider, beyond its name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["VENDORS", "BenchVendor", "Speech"]


class Speech(msgspec.Struct, frozen=True):
    """How messages of the provider's wire are told apart without decoding them."""

    audio: bytes
    stop: bytes

    def kind_of(self, message: str | bytes) -> str:
        """`speech`, `stop` (the reply is cut) or nothing of interest."""
        head = message.encode() if isinstance(message, str) else message
        if self.audio in head:
            return "speech"
        return "stop" if self.stop in head else ""


class BenchVendor(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    emulator: str
    """`module:name` of the emulated vendor."""
    speech: Speech
    wire_hz: int
    """Rate of the microphone's audio on the wire."""
    base_url: str
    """Environment variable that sends the client elsewhere."""
    base_path: str
    key: str

    def emulated(self) -> Any:
        module, _, name = self.emulator.partition(":")
        return getattr(importlib.import_module(module), name)()

    def environ(self, base_url: str) -> dict[str, str]:
        """What makes the bridge's own client talk to the emulator."""
        return {self.base_url: base_url + self.base_path, self.key: "bench"}


VENDORS: Mapping[str, BenchVendor] = {
    "gemini": BenchVendor(
        name="gemini",
        emulator="providers.emulators.gemini:GeminiVendor",
        speech=Speech(b'"inlineData"', b'"interrupted"'),
        wire_hz=24_000,
        base_url="GOOGLE_GEMINI_BASE_URL",
        base_path="",
        key="GEMINI_API_KEY",
    ),
    "openai": BenchVendor(
        name="openai",
        emulator="providers.emulators.openai:OpenAIVendor",
        speech=Speech(b'"response.output_audio.delta"', b'"input_audio_buffer.speech_started"'),
        wire_hz=24_000,
        base_url="OPENAI_BASE_URL",
        base_path="/v1",
        key="OPENAI_API_KEY",
    ),
}
