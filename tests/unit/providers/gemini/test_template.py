"""The short way to speech says exactly what the full decoder says, or nothing."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import providers.gemini.protocol
from providers.contract import SessionEvent, SessionStart, SpeechChunk
from providers.gemini.endpoint import endpoint
from providers.gemini.protocol import GeminiProtocol
from providers.gemini.settings import GeminiSettings
from providers.gemini.setup import plan_session
from providers.gemini.template import SpeechTemplate
from providers.settings import SpeechSettings

DATA = base64.b64encode(b"\x01\x02" * 240).decode()
OTHER = base64.b64encode(b"\x03\x04" * 120).decode()
BLOB = '{"mimeType": "audio/pcm;rate=24000", "data": "@"}'
PLAIN = '{\n "serverContent": {"modelTurn": {"parts": [{"inlineData": ' + BLOB + "}]}}}"


def opened() -> GeminiProtocol:
    own = GeminiSettings()
    core = GeminiProtocol(plan_session(SpeechSettings(), own, endpoint(own, {}), SessionStart(number=1)))
    core.start(0.0)
    core.receive(b'{"setupComplete": {}}', 0.0)
    return core


def told(first: str | bytes, *messages: bytes) -> list[SessionEvent]:
    core = opened()
    core.receive(first, 1.0)
    return [event for message in messages for event in core.receive(message, 1.0)]


def both_ways(*messages: bytes) -> tuple[list[SessionEvent], list[SessionEvent]]:
    """With a template learned from a binary frame, and without one: text frames are not learned."""
    first = PLAIN.replace("@", DATA)
    return told(first.encode(), *messages), told(first, *messages)


def test_speech_of_the_same_shape_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    core = opened()
    core.receive(PLAIN.replace("@", DATA).encode(), 1.0)
    monkeypatch.setattr(providers.gemini.protocol, "decode_message", None)
    assert core.receive(PLAIN.replace("@", OTHER).encode(), 1.0) == [SpeechChunk(1, "1.1", b"\x03\x04" * 120)]


@pytest.mark.parametrize(
    "message",
    [
        PLAIN.replace("@", OTHER),
        PLAIN.replace("@", OTHER[:-4]),
        PLAIN.replace("@", ""),
        PLAIN.replace("@", "AA=="),
        PLAIN.replace("@", OTHER + '"}}, {"text": "aside"}, {"inlineData": {"data": "' + DATA),
        PLAIN.replace("@", "_-" * 40),
        PLAIN.replace("@", "no base64 at all!" * 8),
        PLAIN.replace("@", OTHER).replace("}]}}}", '}]}, "turnComplete": true}}'),
        PLAIN.replace("@", OTHER).replace("}]}}}", '}]}, "interrupted": true}}'),
        PLAIN.replace("@", OTHER).replace("24000", "16000"),
        PLAIN.replace("@", OTHER)[:-1],
        PLAIN[: PLAIN.index("@")] + PLAIN[PLAIN.index("@") + 1 :],
        PLAIN[: PLAIN.index("@")],
        '{"serverContent": {"interrupted": true}}',
        "{}",
        "",
    ],
)
def test_whatever_comes_means_the_same_as_parsed_in_full(message: str) -> None:
    short, full = both_ways(message.encode(), PLAIN.replace("@", DATA).encode())
    assert short == full


@given(st.lists(st.sampled_from([DATA, OTHER, "AAAA", "AAA", '", "x": "', "\\u003d", "@", "}]}}}"]), max_size=6))
def test_no_mixture_of_pieces_is_read_otherwise(pieces: list[str]) -> None:
    short, full = both_ways(PLAIN.replace("@", "".join(pieces)).encode())
    assert short == full


@pytest.mark.parametrize(
    "field", ['"turnComplete": false, ', '"turnComplete": true, ', '"outputTranscription": {"text": "a"}, ']
)
def test_a_message_that_says_more_is_no_template(field: str) -> None:
    more = PLAIN.replace('{"modelTurn"', "{" + field + '"modelTurn"')
    core, parsed = opened(), opened()
    for message in (more.replace("@", DATA), more.replace("@", OTHER)):
        assert core.receive(message.encode(), 1.0) == parsed.receive(message, 1.0)


def test_speech_that_stands_twice_in_its_message_is_no_template() -> None:
    message = json.dumps({"copy": DATA, "data": DATA}).encode()
    template = SpeechTemplate()
    template.learn(message, DATA)
    assert template.speech(message) is None
