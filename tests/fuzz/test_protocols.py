"""Whatever a service sends, a protocol core answers with events: no exception, no hang, no growth without end."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from providers.contract import (
    Closed,
    GoAway,
    RateLimits,
    ReplyStarted,
    SessionEvent,
    SessionStart,
    SpeechChunk,
    ToolCall,
    WarningReported,
)
from providers.driver import ProtocolCore
from providers.errors import NeedsNewSession, ProviderError, SettingRefused
from providers.gemini.endpoint import endpoint
from providers.gemini.protocol import GeminiProtocol
from providers.gemini.settings import GeminiSettings
from providers.gemini.setup import plan_session
from providers.openai.protocol import OpenAIProtocol
from providers.openai.settings import OpenAISettings
from providers.openai.setup import capabilities_of
from providers.settings import SpeechSettings
from tests.fuzz.odd import Odd, seeds

VECTORS = Path(__file__).parents[1] / "vectors"
EVENTS: tuple[type, ...] = SessionEvent.__args__
MOST_BYTES = 400_000
MOST_KEPT_BYTES = 40
"""Of one message, as long as they come: its words perhaps, and nothing with a place of its own."""
LONGEST_S = 2.0
"""One message, on a machine that is busy with something else. A hang takes for ever."""


def gemini(odd: Odd) -> GeminiProtocol:
    own = odd.rng.choice(
        (
            {},
            {"backend": "vertex"},
            {"model": "gemini-2.5-flash-native-audio-latest"},
            {"model": "gemini-3.8-live-extended-thinking"},
        )
    )
    settings = msgspec.convert(own, GeminiSettings)
    place = endpoint(settings, {"GOOGLE_CLOUD_PROJECT": "p"})
    return GeminiProtocol(plan_session(spoken(odd), settings, place, SessionStart()))


def openai(odd: Odd) -> OpenAIProtocol:
    own, speech = OpenAISettings(), spoken(odd)
    return OpenAIProtocol(1, speech, own, capabilities_of(speech, own, {}), acknowledged=odd.chance(0.7))


def spoken(odd: Odd) -> SpeechSettings:
    mode = "manual" if odd.chance(0.3) else "auto"
    table = {"tools": [{"name": "weather"}, {"name": "clock"}], "turn_detection": {"mode": mode}}
    return msgspec.convert(table, SpeechSettings)


MAKE: dict[str, Callable[[Odd], ProtocolCore]] = {"gemini": gemini, "openai": openai}
MORE: dict[str, list[dict[str, Any]]] = {
    "gemini": [
        {"setupComplete": {"sessionId": "s"}},
        {"voiceActivity": {"type": "ACTIVITY_START", "audioOffset": "1.5s"}},
        {"voiceActivityDetectionSignal": {"vadSignalType": "VAD_SIGNAL_TYPE_EOS"}},
        {"goAway": {"timeLeft": "50s"}},
        {"toolCall": {"functionCalls": [{"id": "g", "name": "clock", "partialArgs": [], "willContinue": True}]}},
        {"news @": {}},
        {"serverContent": {"modelTurn": {"parts": [{"inlineData": {"mimeType": "smell/@", "data": "AAAA"}}]}}},
        {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "no"}},
        {
            "toolCall": {
                "functionCalls": [
                    {"id": "c", "name": "clock", "partialArgs": [{"jsonPath": "$.a", "stringValue": "x"}]}
                ]
            }
        },
    ],
    "openai": [
        {"type": "session.created", "session": {"id": "s"}},
        {"type": "news.@"},
        {"type": "session.updated", "session": {"id": "s", "audio": {"input": {"turn_detection": None}}}},
        {"type": "input_audio_buffer.speech_started", "audio_start_ms": 10, "item_id": "u"},
        {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 900.5, "item_id": "u"},
        {"type": "error", "error": {"type": "x", "code": "conversation_already_has_active_response", "event_id": "e"}},
        {"type": "error", "error": {"type": "invalid_request_error", "code": "session_expired", "message": "no"}},
    ],
}
READY: dict[str, list[dict[str, Any]]] = {"gemini": [{"setupComplete": {}}], "openai": MORE["openai"][:2]}


def known(provider: str) -> list[dict[str, Any]]:
    """Every server message of the vectors, and some more."""
    lines = (VECTORS / provider / "server.jsonl").read_text(encoding="utf-8").splitlines()
    return [message for line in lines if line for message in json.loads(line)["messages"]] + MORE[provider]


def words_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from words_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from words_in(inner)


def figures(event: SessionEvent) -> list[float]:
    """The decimal numbers that an event holds."""
    limits = event.limits if isinstance(event, RateLimits) else ()
    structs = (event, *limits)
    values = [getattr(struct, field.name) for struct in structs for field in msgspec.structs.fields(struct)]
    return [value for value in values if isinstance(value, float)]


class Session:
    """A core under fire, and what it has told so far."""

    def __init__(self, core: ProtocolCore, odd: Odd) -> None:
        self.core = core
        self.now = 100.0
        self.calls = [("", ""), ("unknown", "weather")]
        self.replies = ["unknown"]
        self.is_over = False
        """It has ended, or was told of a call: of the same one it would not be told again."""
        self._odd = odd
        core.start(self.now)
        self.look([])

    def receives(self, frame: str | bytes) -> None:
        began = time.monotonic()
        events = self.core.receive(frame, self.now)
        assert time.monotonic() - began < LONGEST_S
        self.look(events)

    def look(self, events: list[SessionEvent]) -> None:
        """Only typed events of this session, only messages that JSON can carry, a deadline that a clock can reach."""
        for event in events:
            assert isinstance(event, EVENTS) and event.session == 1
            assert all(math.isfinite(number) for number in figures(event))
            if isinstance(event, ToolCall):
                told = json.dumps(event.arguments)
                assert isinstance(event.arguments, dict) and json.loads(told) == event.arguments
                assert len(told) < 50_000, "a short message asks for so much"
                self.calls.append((event.call_id, event.name))
                self.is_over = True
            elif isinstance(event, ReplyStarted | SpeechChunk):
                self.replies.append(event.reply_id)
                if isinstance(event, SpeechChunk):
                    assert event.audio and len(event.audio) % 2 == 0, "whole samples"
            elif isinstance(event, GoAway):
                assert event.time_left_s >= 0
            elif isinstance(event, Closed):
                assert isinstance(event.error, ProviderError)
                self.is_over = True
            elif isinstance(event, WarningReported):
                self.is_over = self.is_over or event.code == "malformed_arguments"
        for message in self.core.outgoing():
            assert isinstance(json.loads(message.decode("utf-8")), dict)
        due = self.core.deadline()
        assert due is None or not math.isnan(due)

    def commands(self) -> None:
        """Something that the bridge might do just now."""
        core, odd = self.core, self._odd
        call_id, name = odd.rng.choice(self.calls[-8:])
        doing: Callable[[], object] = odd.rng.choice(
            (
                lambda: core.encode_audio(bytes(640), core.capabilities.input_formats[0]),
                core.end_input,
                core.commit_input,
                core.clear_input,
                core.start_activity,
                core.end_activity,
                lambda: core.send_text("hello"),
                core.respond,
                lambda: core.interrupt(self.now),
                lambda: core.truncate(odd.rng.choice(self.replies[-8:]), odd.rng.choice((-5, 0, 700, 10**9))),
                lambda: core.send_tool_result(call_id, name, {"a": 1}, error=odd.chance(0.2), respond=odd.chance(0.8)),
                lambda: core.update(instructions="be brief"),
            )
        )
        try:
            doing()
        except (NeedsNewSession, SettingRefused):
            pass  # the two ways in which a command may be refused
        self.look([])

    def waits(self, seconds: float) -> None:
        """Time goes by, and whatever falls due is done, each thing once."""
        until = self.now + seconds
        for _ in range(100):
            due = self.core.deadline()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.look(self.core.handle_timeout(self.now))
        else:
            raise AssertionError("a deadline that is met stays due")
        self.now = until


def ready_session(provider: str, odd: Odd) -> Session:
    session = Session(MAKE[provider](odd), odd)
    for message in READY[provider]:
        session.receives(json.dumps(message))
    return session


@pytest.mark.parametrize("provider", ["gemini", "openai"])
def test_whatever_a_service_sends_becomes_typed_events(provider: str) -> None:
    messages = known(provider)
    words = sorted({word for message in messages for word in words_in(message)})
    for seed in seeds(150):
        with Odd(provider, seed) as odd:
            session = Session(MAKE[provider](odd), odd)
            if odd.chance(0.85):
                for message in READY[provider]:
                    session.receives(json.dumps(message))
            for _ in range(odd.rng.randrange(60)):
                kind = odd.rng.random()
                if kind < 0.55:
                    session.receives(odd.frame(odd.mutated(odd.rng.choice(messages), words)))
                elif kind < 0.65:
                    session.receives(odd.frame(odd.value(words, 4)))
                elif kind < 0.7:
                    session.receives(odd.rng.randbytes(odd.rng.randrange(40)))
                elif kind < 0.9:
                    session.commands()
                else:
                    session.waits(odd.rng.choice((0.0, 0.5, 3.0, 61.0, 4000.0)))
            session.look(session.core.connection_closed(odd.rng.choice((1000, 1006, 1008, 1011, 4999)), "\u2026", 1e4))


@pytest.mark.parametrize("provider", ["gemini", "openai"])
def test_an_odd_value_in_any_place_of_a_message_becomes_typed_events(provider: str) -> None:
    with Odd(f"{provider} everywhere", 0) as odd:
        for message in known(provider):
            session = ready_session(provider, odd)
            for odd_one in odd.everywhere(message):
                if session.is_over:
                    session = ready_session(provider, odd)
                session.receives(odd.whole(odd_one))
                if "session" in message:  # which says how the end of a turn is told
                    session.core.encode_audio(bytes(6400), session.core.capabilities.input_formats[0])
                    session.core.end_input()
                    session.look([])


@pytest.mark.parametrize("provider", ["gemini", "openai"])
def test_true_conversations_in_any_order_and_any_number_become_typed_events(provider: str) -> None:
    """Frames as the service writes them, so that the mind gets further than with broken ones."""
    messages = known(provider)
    for seed in seeds(100):
        with Odd(f"{provider} in order", seed) as odd:
            session = ready_session(provider, odd)
            at = odd.rng.randrange(len(messages))
            for _ in range(80):
                at = at + 1 if odd.chance(0.7) else odd.rng.randrange(len(messages))
                for _ in range(2 if odd.chance(0.1) else 1):
                    session.receives(json.dumps(messages[at % len(messages)]))
                if odd.chance(0.3):
                    session.commands()
                if odd.chance(0.1):
                    session.waits(odd.rng.choice((0.1, 3.0)))


@pytest.mark.parametrize(
    ("provider", "fresh"),
    [
        *(("gemini", fresh) for fresh in ("nothing", "everything")),
        *(("openai", fresh) for fresh in ("nothing", "everything", "item", "response", "call")),
    ],
)
def test_a_service_that_never_stops_cannot_fill_the_memory(provider: str, fresh: str) -> None:
    """The same message without end, about ever new things or always the same ones; most calls are answered."""
    with Odd(f"{provider} without end: {fresh}", 0) as odd:
        for message in known(provider):
            if "setupComplete" in message or "error" in message:
                continue
            if fresh != "nothing" and renamed(message, "1", fresh) == message:
                continue
            session = ready_session(provider, odd)
            if kept_of_each(session.core, message, fresh, 0, 100) > MOST_KEPT_BYTES:
                # Not full yet, perhaps.
                assert kept_of_each(session.core, message, fresh, 200, 1300) < MOST_KEPT_BYTES, message
            assert size_of(session.core) < MOST_BYTES, message


def kept_of_each(core: ProtocolCore, message: dict[str, Any], fresh: str, first: int, count: int) -> float:
    """Bytes that the core grows by with each of `count` messages, after as many others."""
    sizes: list[int] = []
    for begin in (first, first + count):
        for number in range(begin, begin + count):
            for event in core.receive(json.dumps(renamed(message, str(number), fresh)), 100.0):
                if isinstance(event, ToolCall) and number % 4:
                    core.send_tool_result(event.call_id, event.name, "done")
            core.outgoing()
        sizes.append(size_of(core))
    return (sizes[1] - sizes[0]) / count


def renamed(value: Any, mark: str, fresh: str, within: str = "") -> Any:
    """The same message about other things: ids of this kind, or all of them, get a mark."""
    if isinstance(value, dict):
        named: dict[str, Any] = {}
        for key, inner in value.items():
            kind = within if key == "id" else key.removesuffix("_id")
            is_id = isinstance(inner, str) and (key == "id" or key.endswith("_id"))
            told = key.replace("@", mark) if fresh == "everything" else key
            named[told] = inner + mark if is_id and fresh in (kind, "everything") else renamed(inner, mark, fresh, key)
        return named
    if isinstance(value, list):
        return [renamed(inner, mark, fresh, "item" if within == "output" else within) for inner in value]
    return value.replace("@", mark) if isinstance(value, str) and fresh == "everything" else value


def size_of(thing: object) -> int:
    """Bytes of everything that this object alone holds."""
    seen: set[int] = set()
    waiting = [thing]
    total = 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type) or callable(one):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        if isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            waiting += one
        else:
            waiting += cast(dict[str, object], getattr(one, "__dict__", {})).values()
            names = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
            waiting += [getattr(one, name) for name in names if hasattr(one, name)]
            if not isinstance(one, str | bytes) and hasattr(one, "__iter__") and hasattr(one, "__len__"):
                waiting += list(cast(Any, one))
    return total
