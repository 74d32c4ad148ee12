"""`roombridge emulate` serves until it is told to stop, and says how to use it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from bridge.cli import main


@contextmanager
def emulate(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    command = [sys.executable, "-m", "bridge.cli", "emulate", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or "roombridge join" not in lines[-1]:
            line = process.stdout.readline()
            if not line:
                break
            lines.append(line)
        yield process, lines
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize(("vendor", "variable"), [("gemini", "GOOGLE_GEMINI_BASE_URL"), ("openai", "OPENAI_BASE_URL")])
def test_it_says_how_to_use_it_and_ends_in_order(vendor: str, variable: str) -> None:
    with emulate(vendor) as (process, lines):
        told = re.search(rf"export {variable}=ws://127\.0\.0\.1:(\d+)", "".join(lines))
        assert told
        with socket.create_connection(("127.0.0.1", int(told[1])), timeout=5):
            pass
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 0, errors


def test_behind_tls_its_certificate_can_be_trusted(tmp_path: Path) -> None:
    saved = tmp_path / "cert.pem"
    with emulate("gemini", "--tls", "--save-certificate", str(saved)) as (_, lines):
        told = re.search(r"wss://127\.0\.0\.1:(\d+)", "".join(lines))
        assert told and f"export SSL_CERT_FILE={saved}" in "".join(lines)
        context = ssl.create_default_context(cafile=str(saved))
        with socket.create_connection(("127.0.0.1", int(told[1])), timeout=5) as plain:
            context.wrap_socket(plain, server_hostname="127.0.0.1").close()


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with emulate("openai", "--port", str(taken.getsockname()[1])) as (process, _):
            _, errors = process.communicate(timeout=10)
            assert process.returncode == 1
            assert "cannot listen on 127.0.0.1:" in errors and "choose another --port" in errors


def test_chaos_is_printed_with_its_seed_as_it_happens() -> None:
    with emulate("openai", "--chaos", "7", "--chaos-every", "0.1") as (process, _):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("chaos seed=7 fault=1 at_s=0.0 ") and line.endswith("(nobody was connected)\n")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 0, errors


def test_the_command_line_changes_the_session_of_any_scenario() -> None:
    from bridge.emulate import planned

    slow = planned("rollover", connect_ms=None, setup_ms=0, overlap=True).session
    assert (slow.connect_delay_ms, slow.setup_delay_ms, slow.overlap, slow.go_away_s) == (500, 0, True, 20)
    assert not planned("echo", connect_ms=1, setup_ms=None, overlap=False).session.overlap


async def hello(told: list[str], *said: str, path: str = "/v1/realtime?model=gpt-realtime") -> list[str]:
    """A client of the server that told so: says this, and returns the kinds of what it heard in half a second."""
    base = re.search(r"export OPENAI_BASE_URL=(ws://127\.0\.0\.1:\d+)", "".join(told))
    assert base
    heard: list[str] = []
    async with connect(base[1] + path, additional_headers={"Authorization": "Bearer a-key-of-mine"}) as client:
        for text in said:
            await client.send(text)
        try:
            async with asyncio.timeout(0.5):
                async for message in client:
                    heard.append(json.loads(message)["type"])  # noqa: PERF401 - those before the timeout count
        except (TimeoutError, ConnectionClosed):
            pass
    return heard


def stopped(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=10)
    return process.returncode, out, errors


CLEAR = '{"type": "input_audio_buffer.clear"}'


def test_what_was_recorded_is_played_and_a_departure_fails_the_command(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    with emulate("openai", "--record", str(calls)) as (process, told):
        first = asyncio.run(hello(told, CLEAR))
        assert first == ["session.created", "input_audio_buffer.cleared"]
        code, out, errors = stopped(process)
        assert code == 0 and "recorded " in out, errors
    (file,) = calls.iterdir()
    with emulate("openai", "--replay", str(file), "--speed", "2") as (process, told):
        assert "replaying 1 capture" in told[0]
        assert asyncio.run(hello(told, CLEAR)) == first
        assert stopped(process)[0] == 0
    with emulate("openai", "--replay", str(calls)) as (process, told):
        asyncio.run(hello(told, '{"type": "response.create"}'))
        code, out, errors = stopped(process)
        assert code == 1 and "departed: " in out
        assert f"{file}, line " in errors and "expected 'input_audio_buffer.clear', got 'response.create'" in errors


def test_a_proxy_records_what_passes_to_the_upstream(tmp_path: Path) -> None:
    with emulate("openai") as (_, behind):
        base = re.search(r"(ws://127\.0\.0\.1:\d+)", "".join(behind))
        assert base
        with emulate("openai", "--record", str(tmp_path), "--upstream", base[1]) as (process, told):
            assert "any-key" not in "".join(told), "a real service wants a real key"
            assert asyncio.run(hello(told, CLEAR)) == ["session.created", "input_audio_buffer.cleared"]
            assert stopped(process)[0] == 0
    (file,) = tmp_path.glob("*.jsonl")
    assert f'"source":"{base[1]}"' in file.read_text() and "a-key-of-mine" not in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--upstream", "wss://a.example"], "--record"),
        (["--upstream", "ws://a.example", "--record", "x"], "in the clear"),
        (["--upstream", "wss://a.example", "--record", "x", "--chaos", "1"], "--chaos"),
        (["--replay", "nowhere.jsonl"], "cannot be read"),
        (["--replay", "nowhere.jsonl", "--overlap"], "--overlap"),
        (["--replay", "nowhere.jsonl", "--record", "x"], "--record"),
        (["--speed", "2"], "--speed"),
        (["--record", "taken"], "--record"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file, no folder")
    done = CliRunner().invoke(main, ["emulate", "openai", *arguments])
    assert done.exit_code == 2 and named in done.stderr


def test_a_wrong_capture_is_refused_with_its_line_and_field(tmp_path: Path) -> None:
    file = tmp_path / "it.jsonl"
    file.write_text('{"roombridge_capture": 1, "vendor": "openai", "path": "/v1/realtime"}\n{"at": 0, "from": "me"}\n')
    done = CliRunner().invoke(main, ["emulate", "openai", "--replay", str(file)])
    assert done.exit_code == 2 and f"{file}, line 2, from = 'me'" in done.stderr
    file.write_text('{"roombridge_capture": 1, "vendor": "openai", "path": "/v1/realtime"}\n')
    done = CliRunner().invoke(main, ["emulate", "gemini", "--replay", str(file)])
    assert done.exit_code == 2 and "is of openai" in done.stderr
