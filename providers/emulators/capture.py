"""A wire session as a file: JSON lines, versioned, readable and editable by hand. `docs/captures.md` is its manual.

    capture = read_capture("calls/20261122-101500-0001.jsonl")     # raises CaptureError naming file, line and field
    capture.head.vendor, capture.entries[0].message

The first line says what was recorded; each further line is one message, or the end of the connection.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType
from pybase64 import b64decode, b64encode

__all__ = [
    "VERSION",
    "Capture",
    "CaptureError",
    "Closing",
    "Entry",
    "Frame",
    "Head",
    "Refused",
    "Side",
    "entry_of",
    "line_of",
    "parse_capture",
    "read_capture",
    "read_captures",
]

Side = Literal["client", "server"]
Frame = Literal["text", "binary"]
VERSION = 1
_LONGEST_S = 7 * 86_400.0
_NEVER_CLOSED_WITH = (1004, 1015)


class CaptureError(Exception):
    """A capture that cannot be read. Nothing was played."""

    def __init__(self, file: str, line: int, field: str, value: object, mend: str) -> None:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        where = f"{file}, line {line}" + (f", {field}" if field else "")
        super().__init__(f"{where} = {shown}: {mend}")
        self.file = file
        self.line = line
        """From 1; 0 for the file as a whole."""
        self.field = field
        """Path inside the line, such as `close.code`; empty for all of it."""
        self.value = value
        self.mend = mend


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line."""

    version: int = msgspec.field(name="roombridge_capture")
    vendor: Literal["gemini", "openai"]
    path: str
    """That the client asked for, without the query."""
    query: dict[str, str] = {}
    """Credentials are blotted out."""
    source: str = ""
    """Who answered: the upstream's URL, or the scenario's name."""
    recorded: str = ""
    """Wall-clock time of the connection, ISO 8601, UTC."""
    connection: Annotated[int, Meta(ge=1)] = 1
    """Counted from 1 in one recording."""


class Closing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The end of the connection."""

    code: Annotated[int, Meta(ge=1000, le=4999)]
    """1005: a close frame without a code. 1006: no close frame at all."""
    reason: str = ""


class Refused(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The upgrade was answered with this."""

    status: Annotated[int, Meta(ge=300, le=599)]
    body: str = ""
    headers: dict[str, str] = {}


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line after the first. Exactly one of `message`, `text`, `base64`, `close`, `refused`."""

    at: float
    """Seconds since the connection was accepted; never less than in the line before."""
    sender: Side = msgspec.field(name="from")
    frame: Frame = "text"
    """Kind of WebSocket frame."""
    message: dict[str, Any] | UnsetType = UNSET
    """A JSON object. Its white space is not kept."""
    text: str | UnsetType = UNSET
    """A message that is no JSON object."""
    base64: str | UnsetType = UNSET
    """A message that is no UTF-8."""
    close: Closing | UnsetType = UNSET
    refused: Refused | UnsetType = UNSET

    @property
    def data(self) -> bytes:
        """The message as it goes over the wire; empty for the other lines."""
        if isinstance(self.message, dict):
            return msgspec.json.encode(self.message)
        if isinstance(self.text, str):
            return self.text.encode()
        return b64decode(self.base64) if isinstance(self.base64, str) else b""


class Capture(msgspec.Struct, frozen=True):
    """One connection."""

    name: str
    """Of the file."""
    head: Head
    entries: tuple[Entry, ...]

    def line(self, index: int) -> int:
        """Line number of an entry in the file."""
        return index + 2


# -------------------------------------------------------------------------------------------------------- writing


def entry_of(at: float, sender: Side, frame: Frame, data: bytes) -> Entry:
    """A message as an entry, in the most readable way that loses nothing but white space."""
    at = round(at, 6)
    try:
        decoded = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        decoded = None
    if isinstance(decoded, dict):
        return Entry(at=at, sender=sender, frame=frame, message=decoded)
    try:
        return Entry(at=at, sender=sender, frame=frame, text=data.decode())
    except UnicodeDecodeError:
        return Entry(at=at, sender=sender, frame=frame, base64=b64encode(data).decode())


def line_of(item: Head | Entry) -> bytes:
    """One line of the file, its end included."""
    return msgspec.json.encode(item) + b"\n"


# -------------------------------------------------------------------------------------------------------- reading


def read_captures(source: str | Path) -> list[Capture]:
    """The capture of a file, or those of a folder's `*.jsonl` in the order of their names. Raises CaptureError."""
    path = Path(source)
    if not path.is_dir():
        return [read_capture(path)]
    files = sorted(path.glob("*.jsonl"))
    if not files:
        raise CaptureError(str(path), 0, "", str(path), "holds no *.jsonl: record something into it first")
    return [read_capture(file) for file in files]


def read_capture(path: str | Path) -> Capture:
    """One file. Raises CaptureError."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise CaptureError(str(path), 0, "", str(path), f"cannot be read: {error.strerror or error}") from error
    return parse_capture(content, str(path))


def parse_capture(content: bytes, name: str = "capture") -> Capture:
    """A file's content. Raises CaptureError naming line and field."""
    lines = content.split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise CaptureError(name, 1, "", "", "is empty: the first line says what was recorded")
    raw = _json(lines[0], name, 1)
    if not isinstance(raw, dict) or "roombridge_capture" not in raw:
        raise CaptureError(name, 1, "roombridge_capture", None, "is missing: this is no capture of roombridge")
    if raw["roombridge_capture"] != VERSION or isinstance(raw["roombridge_capture"], bool):
        mend = f"this version reads captures of version {VERSION}"
        raise CaptureError(name, 1, "roombridge_capture", raw["roombridge_capture"], mend)
    head = _converted(raw, Head, name, 1)
    entries: list[Entry] = []
    for number, line in enumerate(lines[1:], start=2):
        entry = _converted(_json(line, name, number), Entry, name, number)
        _check(entry, entries, name, number)
        entries.append(entry)
    return Capture(name, head, tuple(entries))


def _json(line: bytes, name: str, number: int) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        shown = line[:80].decode(errors="replace")
        raise CaptureError(name, number, "", shown, f"is not a line of JSON: {error}") from error


_Kind = TypeVar("_Kind", Head, Entry)


def _converted(raw: Any, kind: type[_Kind], name: str, number: int) -> _Kind:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
        field = path.rstrip("`").lstrip(".")
        value = raw
        for part in field.split("."):
            value = value.get(part, value) if isinstance(value, dict) else value
        mend = f"{problem[:1].lower()}{problem[1:]}: see docs/captures.md"
        raise CaptureError(name, number, field, value, mend) from error


def _check(entry: Entry, before: list[Entry], name: str, number: int) -> None:
    """What types cannot say."""
    given = [key for key in ("message", "text", "base64", "close", "refused") if getattr(entry, key) is not UNSET]
    if len(given) != 1:
        raise CaptureError(name, number, "", given, "give exactly one of message, text, base64, close and refused")
    if not (math.isfinite(entry.at) and 0 <= entry.at <= _LONGEST_S):
        raise CaptureError(name, number, "at", entry.at, f"must be from 0 to {_LONGEST_S:g} s")
    last = before[-1] if before else None
    if last is not None and entry.at < last.at:
        raise CaptureError(name, number, "at", entry.at, f"must not be before the line above, at {last.at}")
    if last is not None and last.close is not UNSET:
        raise CaptureError(name, number, given[0], "...", "nothing follows the line that closes the connection")
    if last is not None and last.refused is not UNSET:
        raise CaptureError(name, number, given[0], "...", "nothing follows the line that refuses the connection")
    if isinstance(entry.refused, Refused) and (last is not None or entry.sender == "client"):
        raise CaptureError(name, number, "refused", entry.refused.status, "is the server's only line, after the first")
    if isinstance(entry.close, Closing) and entry.close.code in _NEVER_CLOSED_WITH:
        raise CaptureError(name, number, "close.code", entry.close.code, "no connection ends with this code")
    if isinstance(entry.base64, str):
        try:
            b64decode(entry.base64, validate=True)
        except ValueError as error:
            raise CaptureError(name, number, "base64", entry.base64, f"is not base64: {error}") from error
