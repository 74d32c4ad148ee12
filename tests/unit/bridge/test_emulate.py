"""`roombridge emulate` serves until it is told to stop, and says how to use it."""

from __future__ import annotations

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
