"""Captures: what a file may say, what is said about a wrong one, and that nothing but white space is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from providers.emulators.capture import (
    Capture,
    CaptureError,
    Closing,
    Entry,
    Head,
    Refused,
    entry_of,
    line_of,
    parse_capture,
    read_captures,
)

HEAD: dict[str, Any] = {"roombridge_capture": 1, "vendor": "openai", "path": "/v1/realtime"}
HELLO: dict[str, Any] = {"at": 0.5, "from": "server", "message": {"type": "session.created"}}


def file(*lines: object) -> bytes:
    return b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)


def test_a_capture_is_read_line_by_line() -> None:
    end = {"at": 2.0, "from": "client", "close": {"code": 1000}}
    capture = parse_capture(file(HEAD, HELLO, {"at": 1, "from": "client", "frame": "binary", "base64": "/w=="}, end))
    assert capture.head.vendor == "openai"
    assert [entry.data for entry in capture.entries] == [b'{"type":"session.created"}', b"\xff", b""]
    assert capture.entries[2].close == Closing(code=1000)
    assert capture.line(0) == 2


@pytest.mark.parametrize(
    ("lines", "line", "field"),
    [
        ([], 1, ""),
        ([b"not json\n"], 1, ""),
        ([{"vendor": "openai"}], 1, "roombridge_capture"),
        ([{**HEAD, "roombridge_capture": 2}], 1, "roombridge_capture"),
        ([{**HEAD, "roombridge_capture": True}], 1, "roombridge_capture"),
        ([{**HEAD, "vendor": "someone"}], 1, "vendor"),
        ([{**HEAD, "query": {"model": 3}}], 1, "query[...]"),
        ([HEAD, HELLO, b"{\n"], 3, ""),
        ([HEAD, b"\n", HELLO], 2, ""),
        ([HEAD, {**HELLO, "from": "nobody"}], 2, "from"),
        ([HEAD, {**HELLO, "at": -1}], 2, "at"),
        ([HEAD, {**HELLO, "at": "now"}], 2, "at"),
        ([HEAD, HELLO, {**HELLO, "at": 0.4}], 3, "at"),
        ([HEAD, {**HELLO, "text": "two"}], 2, ""),
        ([HEAD, {"at": 0, "from": "server"}], 2, ""),
        ([HEAD, {**HELLO, "colour": "red"}], 2, ""),
        ([HEAD, {"at": 0, "from": "server", "base64": "?"}], 2, "base64"),
        ([HEAD, {"at": 0, "from": "server", "close": {"code": 99}}], 2, "close.code"),
        ([HEAD, {"at": 0, "from": "server", "close": {"code": 1015}}], 2, "close.code"),
        ([HEAD, {"at": 0, "from": "server", "close": {"code": 1000}}, HELLO], 3, "message"),
        ([HEAD, {"at": 0, "from": "server", "refused": {"status": 401}}, HELLO], 3, "message"),
        ([HEAD, HELLO, {"at": 1, "from": "server", "refused": {"status": 401}}], 3, "refused"),
        ([HEAD, {"at": 1, "from": "client", "refused": {"status": 401}}], 2, "refused"),
        ([HEAD, b"[" * 100_000 + b"\n"], 2, ""),
        ([HEAD, b'{"at": 1e999, "from": "server", "text": ""}\n'], 2, None),
    ],
)
def test_a_wrong_file_is_refused_with_its_line_and_field(lines: list[Any], line: int, field: str | None) -> None:
    with pytest.raises(CaptureError) as refused:
        parse_capture(file(*lines), "calls/one.jsonl")
    assert refused.value.line == line
    assert field is None or refused.value.field == field
    assert str(refused.value).startswith(f"calls/one.jsonl, line {line}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.binary() | st.lists(JSON).map(lambda lines: file(HEAD, *lines)) | st.lists(JSON).map(lambda all: file(*all)))
@example(file(HEAD, {"at": 0, "from": "server", "message": {"\ud800": 1}}))
def test_whatever_a_file_holds_it_is_a_capture_or_a_typed_error(content: bytes) -> None:
    try:
        capture = parse_capture(content)
    except CaptureError as error:
        assert 1 <= error.line <= content.count(b"\n") + 1
    else:
        assert isinstance(capture, Capture)


KEYS = st.sampled_from(["at", "from", "frame", "message", "text", "base64", "close", "refused"])


@given(st.lists(st.dictionaries(KEYS, JSON | st.sampled_from(["server", "client", "text", 1, {"code": 1000}]))))
def test_lines_of_known_keys_and_any_values_are_a_capture_or_a_typed_error(lines: list[dict[str, Any]]) -> None:
    try:
        parse_capture(file(HEAD, *lines))
    except CaptureError as error:
        assert 2 <= error.line <= len(lines) + 1


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()) | st.text().map(lambda text: text.encode()))
def test_what_is_written_is_read_again(data: bytes) -> None:
    entry = entry_of(1.25, "server", "binary", data)
    read = parse_capture(file(HEAD) + line_of(entry)).entries[0]
    assert read == entry
    if isinstance(read.message, dict):
        assert msgspec.json.decode(read.data) == msgspec.json.decode(data)
    else:
        assert read.data == data


def test_every_kind_of_line_is_written_as_it_is_read() -> None:
    head = Head(version=1, vendor="gemini", path="/ws", query={"key": "x"}, source="s", recorded="t", connection=3)
    for entry in (
        Entry(at=0.0, sender="server", refused=Refused(status=429, body="b", headers={"Retry-After": "3"})),
        Entry(at=0.0, sender="client", close=Closing(code=1006)),
    ):
        capture = parse_capture(line_of(head) + line_of(entry))
        assert capture.head == head and capture.entries == (entry,)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="record something"):
        read_captures(tmp_path)
    for name in ("b", "a"):
        (tmp_path / f"{name}.jsonl").write_bytes(file({**HEAD, "path": f"/{name}"}))
    assert [capture.head.path for capture in read_captures(tmp_path)] == ["/a", "/b"]
    with pytest.raises(CaptureError, match="cannot be read"):
        read_captures(tmp_path / "none.jsonl")
