"""`roombridge demo` as a newcomer runs it: it works, or fails with a clear error, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.e2e.audio import likeness, read_wav, resampled

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

ROOT = Path(__file__).parents[2]
QUESTION = ROOT / "tests" / "data" / "question.wav"
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("LIVEKIT_", "ROOMBRIDGE_"))}
CLEAN |= {name: os.environ[name] for name in ("LIVEKIT_SERVER_BIN",) if name in os.environ}


@contextmanager
def demo(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bridge.cli", "demo", "--port", "0", "--page-port", "0", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=CLEAN, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def children(process: subprocess.Popen[str], name: str, wait_s: float = 20.0) -> list[psutil.Process]:
    """Descendants whose command line holds `name`, once there are any."""
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        found = [child for child in psutil.Process(process.pid).children(True) if name in " ".join(child.cmdline())]
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"no child like {name} in {wait_s:g} s")


def line_with(words: str, process: subprocess.Popen[str]) -> str:
    """The first line of its output that holds these words; fails at the end of the output."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(f"nothing said of {words!r}")


def test_a_wav_is_answered_and_saved(tmp_path: Path) -> None:
    answer = tmp_path / "answer.wav"
    with demo("--say", str(QUESTION), "--save", str(answer)) as process:
        out, errors = process.communicate(timeout=75)
    assert process.returncode == 0, errors
    assert re.search(r"saved as .*answer\.wav", out) and re.search(r"it began \d\.\d+ s after the end", out)
    said, said_hz = read_wav(QUESTION)
    heard, heard_hz = read_wav(answer)
    assert likeness(resampled(said, said_hz, 16_000), resampled(heard, heard_hz, 16_000), 16_000) >= 0.9
    assert list(tmp_path.iterdir()) == [answer]


def test_a_server_that_dies_ends_the_demo_with_a_clear_error() -> None:
    with demo() as process:
        assert line_with("is in room demo", process)
        started = psutil.Process(process.pid).children(True)
        (server,) = children(process, "livekit-server")
        server.kill()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "livekit-server ended in the middle of the demo (exit code -9)" in errors
    assert not any(child.is_running() for child in started)


def test_a_server_that_dies_while_a_wav_is_said_is_named_as_the_reason(tmp_path: Path) -> None:
    with demo("--say", str(QUESTION), "--save", str(tmp_path / "answer.wav")) as process:
        assert line_with("saying", process)
        (server,) = children(process, "livekit-server")
        started = psutil.Process(process.pid).children(True)
        server.kill()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "livekit-server ended in the middle of the demo" in errors
    assert not any(child.is_running() for child in started)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_in_order(number: signal.Signals) -> None:
    with demo() as process:
        assert line_with("talk to it from any LiveKit client", process)
        started = psutil.Process(process.pid).children(True)
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert not any(child.is_running() for child in started)


def test_without_a_server_the_page_calls_directly() -> None:
    with demo("--direct") as process:
        address = line_with("open http://127.0.0.1:", process).split()[1]
        assert "#token=" in address
        assert psutil.Process(process.pid).children(True) == []
        with urllib.request.urlopen(address.partition("#")[0], timeout=5) as page:
            assert b"<title>roombridge</title>" in page.read()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert address.partition("=")[2] not in errors
