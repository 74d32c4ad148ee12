"""A recording is whole, in order, over nobody else's, and gives up without harm when the disk does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from providers.emulators.blot import BLOTTED
from providers.emulators.capture import Closing, Entry, Refused, read_captures
from providers.emulators.recorder import Recorder
from providers.emulators.wire import UpgradeRequest

ASKED = UpgradeRequest("/v1/realtime", {"model": "m", "key": "secret-key-0001"}, {"authorization": "Bearer k"}, False)


def test_a_connection_is_written_line_by_line(tmp_path: Path) -> None:
    told: list[str] = []
    recorder = Recorder(tmp_path / "new" / "folder", "openai", "wss://a.example", told.append)
    recorder.begin(3, ASKED, 50.0)
    recorder.message(3, "server", "text", '{"type": "error", "message": "secret-key-0001"}', 50.5)
    recorder.message(3, "client", "binary", b"\xff", 50.4)
    recorder.end(3, "server", 1011, "because of secret-key-0001", 51.0)
    (capture,) = read_captures(tmp_path / "new" / "folder")
    assert (capture.head.query, capture.head.connection) == ({"model": "m", "key": BLOTTED}, 3)
    assert capture.entries == (
        Entry(at=0.5, sender="server", message={"type": "error", "message": BLOTTED}),
        Entry(at=0.5, sender="client", frame="binary", base64="/w=="),
        Entry(at=1.0, sender="server", close=Closing(code=1011, reason=f"because of {BLOTTED}")),
    )
    assert told == [f"recorded {capture.name}"]
    recorder.message(3, "server", "text", "after the end", 52.0)
    assert len(read_captures(tmp_path / "new" / "folder")[0].entries) == 3


def test_a_refusal_is_a_capture_too(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "openai", "", lambda line: None)
    recorder.begin(1, ASKED, 0.0)
    recorder.turned_away(1, 429, "slow down, secret-key-0001", {"Retry-After": "3", "Set-Cookie": "hush"}, 0.2)
    refused = read_captures(tmp_path)[0].entries[0].refused
    assert refused == Refused(status=429, body=f"slow down, {BLOTTED}", headers={"Retry-After": "3"})


def test_two_recordings_in_one_folder_leave_each_other_alone(tmp_path: Path) -> None:
    for _ in range(2):
        recorder = Recorder(tmp_path, "openai", "", lambda line: None)
        recorder.begin(1, ASKED, 0.0)
        recorder.close()
    assert len(read_captures(tmp_path)) == 2


def test_a_full_disk_ends_the_recording_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    recorder = Recorder(tmp_path, "openai", "", told.append)
    recorder.begin(1, ASKED, 0.0)
    recorder.begin(2, ASKED, 0.0)

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        recorder.message(1, "server", "text", "{}", 1.0)
    recorder.message(2, "server", "text", "{}", 1.0)
    recorder.end(1, "server", 1000, "", 2.0)
    recorder.close()
    assert len(told) == 2 and "ends early" in told[0] and "No space left" in told[0]
    assert [len(capture.entries) for capture in read_captures(tmp_path)] == [0, 1]
