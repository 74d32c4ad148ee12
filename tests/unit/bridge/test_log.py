"""A log line is one line, and holds no secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest

from bridge.log import OncePerMinute, Redactor, secrets_of, start_logging

ENVIRON = {
    "OPENAI_API_KEY": "sk-proj-1234567890",
    "LIVEKIT_API_SECRET": "a.b+c-secret",
    "HOME": "visible-home",
    "MY_KEY": "dev",
}


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


def logged(form: Literal["text", "json"], message: str, *args: object, level: str = "info") -> str:
    stream = io.StringIO()
    start_logging(level, form, ENVIRON, stream)
    logging.getLogger("bridge.test").info(message, *args)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_of_the_environment_is_logged(form: Literal["text", "json"]) -> None:
    line = logged(form, "dialling with %s and %s", "sk-proj-1234567890", "a.b+c-secret")
    assert "sk-proj" not in line and "c-secret" not in line
    assert line.count("***") == 2


@pytest.mark.parametrize(
    "text",
    [
        "wss://h/rtc?access_token=eyJhbGci.eyJzdWIi.abc-_1&x=1",
        "https://h/v1?key=AIzaSyabcdefgh",
        "Authorization: Bearer abcdefgh12345",
        "token eyJhbGci.eyJzdWIi.abc",
    ],
)
def test_what_looks_like_a_token_is_blotted_out(text: str) -> None:
    shown = Redactor(())(text)
    assert "***" in shown
    assert not any(piece in shown for piece in ("eyJzdWIi", "AIzaSy", "abcdefgh"))


def test_short_words_and_other_variables_stay_readable() -> None:
    assert secrets_of(ENVIRON) == ("sk-proj-1234567890", "a.b+c-secret")


def test_a_text_record_is_one_line() -> None:
    line = logged("text", "first\nsecond call=%s", "demo")
    assert line.count("\n") == 1
    assert " info bridge.test first\\nsecond call=demo" in line


def test_a_json_record_is_one_object() -> None:
    entry = json.loads(logged("json", 'said "%s"', "ü"))
    assert (entry["level"], entry["logger"], entry["message"]) == ("info", "bridge.test", 'said "ü"')


def test_an_error_keeps_its_trace_without_secrets() -> None:
    stream = io.StringIO()
    start_logging("info", "json", ENVIRON, stream)
    try:
        raise ValueError("refused: sk-proj-1234567890")
    except ValueError:
        logging.getLogger("bridge.test").exception("failed")
    entry = json.loads(stream.getvalue())
    assert "ValueError: refused: ***" in entry["error"]


def test_socket_libraries_never_log_their_messages() -> None:
    start_logging("debug", "text", {}, io.StringIO())
    assert not logging.getLogger("websockets.client").isEnabledFor(logging.DEBUG)
    assert logging.getLogger("bridge.lanes").isEnabledFor(logging.DEBUG)


def test_the_addresses_of_callers_are_in_no_ordinary_log() -> None:
    start_logging("info", "text", {}, io.StringIO())
    assert not logging.getLogger("aioice.ice").isEnabledFor(logging.INFO)
    assert logging.getLogger("aioice.ice").isEnabledFor(logging.WARNING)


def test_a_secret_whose_variable_does_not_say_so_is_blotted_out_when_named() -> None:
    stream = io.StringIO()
    start_logging("info", "text", {"BAKERY": "hush-hush-hush"}, stream, named={"BAKERY"})
    logging.getLogger("bridge.test").info("dialling with %s", "hush-hush-hush")
    assert "hush" not in stream.getvalue() and "dialling with ***" in stream.getvalue()


def test_what_a_library_says_over_and_over_is_told_once_a_minute_with_its_number() -> None:
    told = OncePerMinute()

    def says(text: str, at: float) -> logging.LogRecord | None:
        record = logging.LogRecord("livekit", logging.WARNING, "", 0, text, None, None)
        record.created = at
        return record if told.filter(record) else None

    assert says("attempt 1 failed on PA_xyz", 100.0) is not None
    assert says("attempt 2 failed on PA_abc", 101.0) is None
    assert says("something else", 101.0) is not None
    again = says("attempt 3 failed on PA_def", 161.0)
    assert again is not None and again.getMessage() == "attempt 3 failed on PA_def (1 more like this in between)"
