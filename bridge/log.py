"""Log lines for people or machines on standard error, with every secret of the environment blotted out."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import IO, Literal

__all__ = ["JsonLines", "KeyValueLines", "OncePerMinute", "Redactor", "secrets_of", "start_logging"]

_SECRET_NAME = re.compile(r"(KEY|SECRET|TOKEN|PASSWORD|CREDENTIALS?)$")
_SHORTEST = 6
"""Shorter values ("secret", "dev") are words of the language: blotting them out would eat the log."""
_CHATTY = {
    "aioice": logging.WARNING,
    "aiortc": logging.WARNING,
    "asyncio": logging.INFO,
    "livekit": logging.WARNING,
    "websockets": logging.INFO,
}
"""Libraries and the least that is heard of them: below INFO they log whole messages, speech included, and aioice at
INFO a dozen lines a call, with the caller's addresses."""
_CHANGING = re.compile(r"[0-9]+|[A-Z]{2}_\w+")
_ALIKE, _QUIET_S, _KINDS = 80, 60.0, 256
_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+|((?:access_token|[?&]key)=)[^&\s\"']+|(Bearer|Token) [\w.~+/=-]{8,}")


def secrets_of(environ: Mapping[str, str], named: Collection[str] = ()) -> tuple[str, ...]:
    """The values that must never be shown, longest first.

    Args: named are variables that hold a secret though their name does not say so, as the configuration knows them.
    """
    found = {value.strip() for name, value in environ.items() if name in named or _SECRET_NAME.search(name)}
    return tuple(sorted((value for value in found if len(value) > _SHORTEST), key=len, reverse=True))


class Redactor:
    """Blots secrets out of text: those it was given, and whatever has the shape of a token."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = "|".join(re.escape(secret) for secret in secrets)
        self._known = re.compile(known) if known else None

    def __call__(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub("***", text)
        return _TOKEN.sub(lambda found: f"{found[1] or ''}{found[2] + ' ' if found[2] else ''}***", text)


class KeyValueLines(logging.Formatter):
    """`2026-11-22T10:00:00.000Z info bridge.lanes call ended call=demo reason=room_empty`."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_stamp(record)} {record.levelname.lower()} {record.name} {record.getMessage()}"
        # One record is one line, so that grep and log shippers see it whole.
        line = line.replace("\n", "\\n")
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return self._redact(line)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message and, where there was one, the error."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._redact(record.getMessage()),
        }
        if record.exc_info:
            entry["error"] = self._redact(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False)


class OncePerMinute(logging.Filter):
    """Lets a library's line through, and what is like it only a minute later, with the number of those between.

    The SDK, while it looks for its server, says the same eight lines at each attempt.
    """

    def __init__(self) -> None:
        super().__init__()
        self._since: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        like = _CHANGING.sub("#", record.getMessage())[:_ALIKE]
        began, hidden = self._since.get(like, (-_QUIET_S, 0))
        if record.created - began < _QUIET_S:
            self._since[like] = began, hidden + 1
            return False
        if len(self._since) > _KINDS:
            self._since.clear()
        self._since[like] = record.created, 0
        if hidden:
            record.msg, record.args = f"{record.getMessage()} ({hidden} more like this in between)", ()
        return True


def start_logging(
    level: str,
    form: Literal["text", "json"],
    environ: Mapping[str, str],
    stream: IO[str] | None = None,
    *,
    named: Collection[str] = (),
) -> None:
    """Send the log of this process to standard error (or `stream`); replaces what was set up before.

    Args: named as for `secrets_of`.
    """
    redact = Redactor(secrets_of(environ, named))
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(redact) if form == "json" else KeyValueLines(redact))
    root = logging.getLogger()
    for old in tuple(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    sdk = logging.getLogger("livekit")
    for former in [former for former in sdk.filters if isinstance(former, OncePerMinute)]:
        sdk.removeFilter(former)
    if level != "debug":
        sdk.addFilter(OncePerMinute())
    root.setLevel(level.upper())
    wanted = logging.getLevelName(level.upper())
    for chatty, least in _CHATTY.items():
        logging.getLogger(chatty).setLevel(max(least if wanted > logging.DEBUG else logging.INFO, wanted))


def _stamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
