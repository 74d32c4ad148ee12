"""`check` tells apart: not there, there but refusing the key, there and willing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bridge.diagnosis import diagnose

Serve = Callable[[int], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server that answers its root with 200 and the room service with a status; returns its address."""
    running: list[ThreadingHTTPServer] = []

    def start(status: int) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()

            def do_POST(self) -> None:
                assert self.headers["Authorization"].startswith("Bearer ey")
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing on standard error."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"ws://127.0.0.1:{server.server_port}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def environ(url: str, **more: str) -> dict[str, str]:
    return {"LIVEKIT_URL": url, "LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "a-secret-of-the-server", **more}


@pytest.mark.parametrize(
    ("status", "state", "says", "code"),
    [
        (200, "ok", "accepts the key", 0),
        (401, "wrong", "refuses the key", 2),
        (404, "wrong", "is it a LiveKit server?", 2),
    ],
)
def test_the_server_is_asked_whether_it_knows_the_key(
    serve: Serve, status: int, state: str, says: str, code: int
) -> None:
    diagnosis = diagnose(None, environ(serve(status)), room="a")
    found = diagnosis.findings[-1]
    assert (found.what, found.state, diagnosis.exit_code) == ("livekit server", state, code)
    assert says in found.detail


def test_a_provider_that_does_not_answer_is_named(serve: Serve) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        base_url = f"ws://127.0.0.1:{closed.getsockname()[1]}/v1"
    given = environ(serve(200), OPENAI_API_KEY="sk-0123456789", OPENAI_BASE_URL=base_url, NO_PROXY="127.0.0.1")
    diagnosis = diagnose(None, given, provider="openai", room="a")
    found = diagnosis.findings[-1]
    assert (found.what, found.state, diagnosis.exit_code) == ("openai endpoint", "unreachable", 1)
    assert base_url.removesuffix("/v1") in found.detail and "sk-0123456789" not in found.detail


def test_a_provider_that_answers_is_not_asked_for_more(serve: Serve) -> None:
    url = serve(200)
    given = environ(url, OPENAI_API_KEY="sk-0123456789", OPENAI_BASE_URL=url, NO_PROXY="127.0.0.1")
    found = diagnose(None, given, provider="openai", room="a").findings[-1]
    assert (found.state, "the key was not tried" in found.detail) == ("ok", True)


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ("[connection]\nca_file = '/nowhere/ca.pem'", "connection.ca_file"),
        ("[connection]\nproxy = 'nowhere:3128'", "connection.proxy"),
        ("[[speech.tools]]\nname = 'weather'", "speech.tools.weather"),
    ],
)
def test_check_finds_what_join_would_refuse(tmp_path: Path, content: str, field: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(f"provider = 'openai'\n{content}")
    diagnosis = diagnose(file, environ("ws://127.0.0.1:1", OPENAI_API_KEY="sk-0123456789"), room="a", offline=True)
    assert ([problem.field for problem in diagnosis.problems], diagnosis.exit_code) == ([field], 2)


def test_a_key_in_a_variable_of_its_own_is_found_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        "provider = 'gemini'\n[providers.gemini]\napi_key_env = 'BAKERY'\n[livekit]\nidentity = 'hush-hush-hush'"
    )
    given = environ("ws://127.0.0.1:1", BAKERY="hush-hush-hush")
    diagnosis = diagnose(file, given, room="a", offline=True)
    assert diagnosis.problems == []
    told = " ".join(finding.detail for finding in diagnosis.findings)
    assert "BAKERY set" in told and "GOOGLE_API_KEY" not in told
    assert "hush-hush-hush" not in told and "as ***" in told


def test_each_room_that_is_named_is_looked_at() -> None:
    found = diagnose(None, environ("ws://127.0.0.1:1"), rooms=("a", "b"), offline=True).findings
    assert [finding.detail.split()[0] for finding in found if finding.what == "room"] == ["a", "b"]
