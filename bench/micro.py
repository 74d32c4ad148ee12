"""What 20 ms or 100 ms of audio cost in each step of the hot path, beside a floor measured in the same blocks.

Candidates take turns in short blocks; a figure is the median of its blocks, CPU time of this thread. The floor of a
step is the least that any implementation must do: base64 of the same bytes, one sum of the same samples, one copy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pybase64

from bench.figures import Measure, Table, Verdict
from bench.host import HostClock
from bench.stage import Plan
from bridge.audio.mix import Mixer
from bridge.audio.playout import Playout
from bridge.core.words import ParticipantId
from providers.contract import SessionStart, SpeechChunk
from providers.gemini.endpoint import endpoint
from providers.gemini.protocol import GeminiProtocol
from providers.gemini.settings import GeminiSettings
from providers.gemini.setup import plan_session
from providers.openai.protocol import OpenAIProtocol
from providers.openai.settings import OpenAISettings
from providers.openai.setup import capabilities_of
from providers.settings import SpeechSettings
from providers.signal.formats import PCM16_24K, AudioFormat
from providers.signal.resample import Resampler

__all__ = ["alternate", "measure"]

_BLOCKS = 21
_BLOCK_S = 0.01
_TARGET_ENCODE_US, _TARGET_DECODE_US = 1.0, 5.0

Step = Callable[[], object]


def measure(plan: Plan) -> Measure:
    """All steps, `rounds` times."""
    pairs: list[tuple[str, Step, str, Step]] = []
    targets: dict[str, float] = {}
    for provider, core, wire in (("gemini", _gemini(), PCM16_24K), ("openai", _openai(), PCM16_24K)):
        if provider not in plan.providers:
            continue
        audio = _noise(wire.rate_hz, 100)
        pairs.append((f"{provider} encode 100 ms", _encode(core, audio, wire), "base64", partial(_b64, audio)))
        reply = _noise(24_000, 100)
        text = pybase64.b64encode(reply)
        pairs.append((f"{provider} decode 100 ms", _decode(provider, core, reply), "base64", partial(_unb64, text)))
        targets[f"{provider} encode 100 ms"] = _TARGET_ENCODE_US
        targets[f"{provider} decode 100 ms"] = _TARGET_DECODE_US
    for low, high in ((24_000, 16_000), (16_000, 24_000), (48_000, 24_000)):
        frame = np.frombuffer(_noise(low, 20), dtype=np.int16)
        resampler = Resampler(low, high)
        name = f"resample 20 ms, {low // 1000} to {high // 1000} kHz"
        pairs.append((name, partial(resampler.push, frame), "one pass", partial(frame.astype, np.float32)))
    pairs += [(f"mix 20 ms, {people} speaking", *_mix(people)) for people in (1, 4)]
    pairs.append(("playout 100 ms", *_play()))

    host = HostClock()
    costs: dict[str, list[float]] = {}
    floors: dict[str, list[float]] = {}
    for _ in range(plan.rounds):
        for name, step, _, floor_step in pairs:
            ours, least = alternate(step, floor_step)
            costs.setdefault(name, []).append(ours)
            floors.setdefault(name, []).append(least)
    load = host.load()
    table = Table("Steps of the hot path, us of CPU", ("step", "us", "floor us", "ratio", "rounds", "floor is"))
    verdicts = []
    for name, _, floor_name, _ in pairs:
        cost, floor = float(np.median(costs[name])), float(np.median(floors[name]))
        each = " ".join(f"{value:.2f}" for value in costs[name])
        table.rows.append((name, f"{cost:.2f}", f"{floor:.2f}", f"{cost / floor:.1f}", each, floor_name))
        if name in targets:
            verdicts.append(Verdict(name, cost, "us", targets[name]))
    table.notes.append(f"stolen {load.steal_percent:.1f} % {load.marks}".rstrip())
    return Measure("micro", [table], verdicts, {"us": costs, "floor_us": floors, "load": load})


def alternate(first: Step, second: Step) -> tuple[float, float]:
    """us of each, the two taking turns."""
    sizes = [_calls_in_block(step) for step in (first, second)]
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(_BLOCKS):
        for step, size, found in zip((first, second), sizes, spent, strict=True):
            began = time.thread_time_ns()
            for _ in range(size):
                step()
            found.append((time.thread_time_ns() - began) / size / 1000)
    return float(np.median(spent[0])), float(np.median(spent[1]))


def _calls_in_block(step: Step) -> int:
    for _ in range(20):
        step()
    began = time.perf_counter()
    for _ in range(50):
        step()
    return max(20, int(_BLOCK_S / max(1e-7, (time.perf_counter() - began) / 50)))


def _noise(rate_hz: int, duration_ms: int, seed: int = 1) -> bytes:
    """As loud as speech."""
    size = rate_hz * duration_ms // 1000
    return bytes((np.random.default_rng(seed).standard_normal(size) * 2000).astype(np.int16).tobytes())


def _b64(audio: bytes) -> bytes:
    return bytes(pybase64.b64encode(audio))


def _unb64(text: bytes) -> bytes:
    return bytes(pybase64.b64decode(text, validate=True))


# ------------------------------------------------------------------------------------------------ providers


def _gemini() -> GeminiProtocol:
    own = GeminiSettings()
    core = GeminiProtocol(plan_session(SpeechSettings(), own, endpoint(own, {}), SessionStart()))
    core.start(0.0)
    core.receive(b'{"setupComplete": {}}', 0.0)
    assert core.ready, "one message makes it ready"
    return core


def _openai() -> OpenAIProtocol:
    speech, own = SpeechSettings(), OpenAISettings()
    core = OpenAIProtocol(1, speech, own, capabilities_of(speech, own, {}))
    core.start(0.0)
    for kind in ("session.created", "session.updated"):
        core.receive(json.dumps({"type": kind, "event_id": "event_1", "session": {"id": "sess_1"}}), 0.0)
    response = {"id": "resp_1", "object": "realtime.response", "status": "in_progress", "output": []}
    core.receive(json.dumps({"type": "response.created", "event_id": "event_2", "response": response}), 0.0)
    assert core.ready, "two messages make it ready"
    return core


def _encode(core: GeminiProtocol | OpenAIProtocol, audio: bytes, wire: AudioFormat) -> Step:
    return lambda: core.encode_audio(audio, wire)


def _decode(provider: str, core: GeminiProtocol | OpenAIProtocol, audio: bytes) -> Step:
    text = pybase64.b64encode(audio).decode()
    if provider == "gemini":
        blob = {"mimeType": "audio/pcm;rate=24000", "data": text}
        told: dict[str, Any] = {"serverContent": {"modelTurn": {"parts": [{"inlineData": blob}]}}}
        message = json.dumps(told, indent=2).encode()
    else:
        where = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
        told = {"type": "response.output_audio.delta", "event_id": "event_9", **where, "delta": text}
        message = json.dumps(told).encode()
    events = core.receive(message, 0.0)
    assert any(isinstance(event, SpeechChunk) and event.audio == audio for event in events), "it is speech"
    return lambda: core.receive(message, 0.0)


# --------------------------------------------------------------------------------------------------- audio


def _mix(people: int) -> tuple[Step, str, Step]:
    """One slot of the bus: a frame of each person in, one frame out."""
    mixer = Mixer(PCM16_24K)
    names = [ParticipantId(f"person-{number}") for number in range(people)]
    frames = [_noise(24_000, 20, seed) for seed in range(people)]
    samples = np.frombuffer(frames[0], dtype=np.int16)
    now = 0.0

    def step() -> None:
        nonlocal now
        now += 0.02
        for name, frame in zip(names, frames, strict=True):
            mixer.push(name, frame, now)
        mixer.due(now)

    for name in names:
        mixer.add(name)

    def floor() -> bytes:
        total: np.ndarray[Any, np.dtype[np.int32]] = samples.astype(np.int32)
        for _ in range(people - 1):
            total += samples
        return bytes(total.astype(np.int16).tobytes()) if people > 1 else bytes(samples.tobytes())

    return step, "one sum", floor


class _Nowhere:
    """A room that plays at real time and keeps nothing."""

    def __init__(self) -> None:
        self.pushed_s = 0.0

    def play(self, audio: bytes) -> None:
        self.pushed_s += len(audio) / 48_000

    def flush(self) -> None:
        self.pushed_s = 0.0

    def queued_ms(self, now: float) -> float:
        return max(0.0, self.pushed_s - now) * 1000


def _play() -> tuple[Step, str, Step]:
    """100 ms of speech: one chunk from the model, and the five beats until the next."""
    sink = _Nowhere()
    playout = Playout(sink)
    chunk = _noise(24_000, 100)
    now = 0.0

    def step() -> None:
        nonlocal now
        playout.push("reply", chunk, now)
        for _ in range(5):
            playout.feed(now)
            now += 0.02

    return step, "one copy", lambda: bytearray(chunk)
