"""Writes wire sessions as captures, one file for each connection. Secrets never reach the disk; speech does."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from providers.emulators.blot import Blotter
from providers.emulators.capture import VERSION, Closing, Entry, Frame, Head, Refused, Side, entry_of, line_of
from providers.emulators.connection import Connection, Message
from providers.emulators.wire import Refusal, UpgradeRequest

__all__ = ["Recorder"]

_KEPT_HEADERS = frozenset({"retry-after", "content-type"})


class Recorder:
    """A `Watcher` of an emulator; a proxy calls `begin`, `message` and `end` itself.

    A file that cannot be written is given up and told; the connection goes on. Calls over WebRTC are not recorded:
    their sound is not in their messages, and a replay could not play it.
    """

    def __init__(
        self, folder: str | Path, vendor: Literal["gemini", "openai"], source: str, tell: Callable[[str], None]
    ) -> None:
        """Args: source as `Head.source`; tell gets one line for each file. Raises OSError if there can be no folder."""
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._vendor = vendor
        self._source = source
        self._tell = tell
        self._blotter = Blotter()
        self._files: dict[int, _File] = {}
        self._begun = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")

    # ------------------------------------------------------------------------------------------------------ by hand

    def begin(self, number: int, request: UpgradeRequest, at: float) -> None:
        """A connection begins. Args: at, as of all times here, of one monotonic clock."""
        self._blotter.learn(request.headers, request.query)
        head = Head(
            version=VERSION,
            vendor=self._vendor,
            path=self._blotter.text(request.path),
            query=self._blotter.query(request.query),
            source=self._blotter.text(self._source),
            recorded=datetime.now(UTC).isoformat(timespec="seconds"),
            connection=number,
        )
        try:
            self._files[number] = _File(self._folder, self._begun, number, at)
        except OSError as error:
            self._tell(f"connection {number} is not recorded: {error.strerror or error}")
        self._write(number, head)

    def message(self, number: int, sender: Side, frame: Frame, data: str | bytes, at: float) -> None:
        file = self._files.get(number)
        if file is None:
            return
        entry = entry_of(file.since(at), sender, frame, data.encode() if isinstance(data, str) else data)
        if isinstance(entry.message, dict):
            entry = msgspec.structs.replace(entry, message=self._blotter.message(entry.message))
        elif isinstance(entry.text, str):
            entry = msgspec.structs.replace(entry, text=self._blotter.text(entry.text))
        self._write(number, entry)

    def end(self, number: int, sender: Side, code: int, reason: str, at: float) -> None:
        """Args: sender is the side that ended it; code 1006 where there was no close frame."""
        file = self._files.get(number)
        if file is not None:
            closing = Closing(code=code, reason=self._blotter.text(reason))
            self._write(number, Entry(at=file.since(at), sender=sender, close=closing))
            self._finish(number)

    def turned_away(self, number: int, status: int, body: str, headers: dict[str, str], at: float) -> None:
        """The upgrade was refused. `begin` came before."""
        file = self._files.get(number)
        if file is not None:
            kept = {name: value for name, value in headers.items() if name.lower() in _KEPT_HEADERS}
            refused = Refused(status=status, body=self._blotter.text(body), headers=kept)
            self._write(number, Entry(at=file.since(at), sender="server", refused=refused))
            self._finish(number)

    def close(self) -> None:
        """Let go of every file."""
        for number in list(self._files):
            self._finish(number)

    # ------------------------------------------------------------------------------------------------------ watching

    def opened(self, connection: Connection) -> None:
        if connection.request.call is not None:
            self._tell(f"connection {connection.number} is not recorded: it is a call over WebRTC")
            return
        self.begin(connection.number, connection.request, connection.opened_at)

    def passed(self, message: Message) -> None:
        sender: Side = "server" if message.sent else "client"
        self.message(message.connection, sender, message.frame, message.data, message.at)

    def ended(self, connection: Connection) -> None:
        code = 1006 if connection.close_code is None else connection.close_code
        assert connection.closed_at is not None, "an ended connection knows when"
        sender: Side = "client" if connection.left_by_client else "server"
        self.end(connection.number, sender, code, connection.close_reason, connection.closed_at)

    def refused(self, number: int, request: UpgradeRequest, refusal: Refusal) -> None:
        if request.call is not None:
            return
        self.begin(number, request, 0.0)
        self.turned_away(number, refusal.status, refusal.body, dict(refusal.headers), 0.0)

    # ------------------------------------------------------------------------------------------------------- files

    def _write(self, number: int, item: Head | Entry) -> None:
        file = self._files.get(number)
        if file is None:
            return
        try:
            file.write(line_of(item))
        except OSError as error:
            self._tell(f"recording of connection {number} ends early: {file.path}: {error.strerror or error}")
            self._files.pop(number).close()

    def _finish(self, number: int) -> None:
        file = self._files.pop(number)
        file.close()
        self._tell(f"recorded {file.path}")


class _File:
    """Unbuffered: what was recorded before a crash is there."""

    def __init__(self, folder: Path, begun: str, number: int, at: float) -> None:
        self.path = folder / f"{begun}-{number:04}.jsonl"
        # For its owner alone: there is speech in it. Never over another recording.
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._begun_at = at
        self._newest = 0.0

    def since(self, at: float) -> float:
        """Seconds since the beginning. Both directions have tasks of their own: never before the line above."""
        self._newest = max(self._newest, round(at - self._begun_at, 6))
        return self._newest

    def write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._descriptor, line) :]

    def close(self) -> None:
        os.close(self._descriptor)
