"""The commands say what is wrong in one message, with an exit code that scripts can trust."""

from __future__ import annotations

import json
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.cli import main
from bridge.http_api.tokens import Tokens
from bridge.transports.livekit_room.token import read_claims, sign_participant

CLEAN = dict.fromkeys(
    (
        *("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "LIVEKIT_TOKEN", "OPENAI_API_KEY", "GOOGLE_API_KEY"),
        *("GEMINI_API_KEY", "OPENAI_BASE_URL", "GOOGLE_GEMINI_BASE_URL", "ROOMBRIDGE_CONFIG", "ROOMBRIDGE_CALL_SECRET"),
    )
)
ROOM = {"LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "a-secret-of-the-server"}


@pytest.fixture(autouse=True)
def quiet_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.log.start_logging", lambda *_, **__: None)


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, arguments, env={**CLEAN, **environ})


def test_every_command_explains_itself() -> None:
    for command in main.commands.values():
        assert run(command.name or "", "--help").exit_code == 0
        assert command.help


def test_connect_is_join() -> None:
    assert main.commands["connect"] is main.commands["join"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[speech]\nvoise = 'x'", "speech.voise = 'x': no such key; did you mean voice?"),
        ("provider = 'openai'", "OPENAI_API_KEY"),
        ("provider = 'openai'\n[speech]\nvoice = 'nobody'", "speech.voice = 'nobody': gpt-realtime-2.1 has alloy"),
        ("provider = 'gemini'\n[speech]\nvoice = 'nobody'", "speech.voice = 'nobody': Gemini has Achernar"),
        ("[livekit]\nroom = 'a'\nurl = '127.0.0.1'", "livekit.url = '127.0.0.1'"),
    ],
)
def test_join_refuses_a_wrong_configuration(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(content)
    done = run("join", "--room", "a", "--config", str(file), **ROOM)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.startswith("roombridge: ")


@pytest.mark.parametrize("command", ["join", "check"])
def test_a_room_named_twice_is_refused(command: str) -> None:
    done = run(command, "--room", "a", "--room", "a", **ROOM)
    assert done.exit_code == 2
    assert "name each room once" in done.stderr


def test_join_refuses_several_rooms_with_one_token() -> None:
    token = sign_participant("key", "a-secret-of-the-server", room="a", identity="i")
    done = run("join", "--room", "a", "--room", "b", LIVEKIT_TOKEN=token)
    assert done.exit_code == 2
    assert "LIVEKIT_TOKEN opens one room" in done.stderr


def test_join_calls_the_room_as_the_token_does() -> None:
    environ = {"LIVEKIT_URL": "ws://127.0.0.1:1", "ROOMBRIDGE_LIVEKIT__CONNECT_TIMEOUT_S": "3"}
    token = sign_participant("key", "a-secret-of-the-server", room="lobby", identity="i")
    done = run("join", LIVEKIT_TOKEN=token, **environ)
    assert done.exit_code == 1
    assert "room lobby: roombridge: " in done.stderr


def test_join_fails_clearly_when_no_server_answers() -> None:
    environ = {**ROOM, "LIVEKIT_URL": "ws://127.0.0.1:1", "ROOMBRIDGE_LIVEKIT__CONNECT_TIMEOUT_S": "3"}
    done = run("join", "--room", "a", **environ)
    assert done.exit_code == 1
    assert "room a: roombridge: " in done.stderr
    assert "ws://127.0.0.1:1" in done.stderr


def test_demo_refuses_a_file_that_is_no_sound(tmp_path: Path) -> None:
    (tmp_path / "song.mp3").write_bytes(b"ID3 and so on")
    done = run("demo", "--say", str(tmp_path / "song.mp3"))
    assert done.exit_code == 2
    assert "--say" in done.stderr and "is not a WAV file" in done.stderr


def test_demo_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    done = run("demo", "--save", str(tmp_path / "nowhere" / "answer.wav"))
    assert done.exit_code == 2
    assert "its folder does not exist" in done.stderr


def test_a_missing_server_is_named_with_its_mend() -> None:
    done = run("demo", LIVEKIT_SERVER_BIN="/nowhere/livekit-server")
    assert done.exit_code == 1
    assert "LIVEKIT_SERVER_BIN = '/nowhere/livekit-server'" in done.stderr


def test_a_token_opens_its_room_only() -> None:
    done = run("token", "--room", "lobby", "--identity", "ada", **ROOM)
    claims = read_claims(done.stdout.strip())
    assert (claims.sub, claims.kind, claims.video["room"]) == ("ada", "standard", "lobby")


def test_a_token_for_an_agent_is_of_that_kind() -> None:
    done = run("token", "--room", "lobby", "--identity", "bot", "--agent", **ROOM)
    assert read_claims(done.stdout.strip()).kind == "agent"


def test_a_token_needs_key_and_secret() -> None:
    done = run("token", "--room", "lobby", "--identity", "ada", LIVEKIT_API_KEY="key")
    assert done.exit_code == 2
    assert "LIVEKIT_API_SECRET" in done.stderr


def test_providers_tells_what_each_can_do_without_a_key() -> None:
    told = {one["provider"]: one for one in json.loads(run("providers", "--json").stdout)}
    assert told.keys() == {"scripted", "gemini", "openai"}
    assert told["openai"]["keys"] == ["OPENAI_API_KEY"] and not told["openai"]["key_present"]
    assert "Puck" in told["gemini"]["voices"]
    table = run("providers").stdout
    assert "gemini" in table and "set OPENAI_API_KEY" in table


@pytest.mark.parametrize("as_json", [False, True])
def test_check_accepts_a_sound_configuration(as_json: bool) -> None:
    done = run("check", "--offline", "--room", "a", *(["--json"] if as_json else []), **ROOM)
    assert done.exit_code == 0
    assert "LIVEKIT_API_KEY and LIVEKIT_API_SECRET set" in done.stdout


def test_check_shows_no_secret() -> None:
    key = "sk-proj-0123456789abcdef"
    done = run("check", "--offline", "--room", "a", "--provider", "openai", **ROOM, OPENAI_API_KEY=key)
    assert "OPENAI_API_KEY set" in done.stdout
    assert key not in done.output and ROOM["LIVEKIT_API_SECRET"] not in done.output


def test_check_tells_everything_that_is_wrong() -> None:
    done = run("check", "--offline", "--json", "--provider", "gemini", ROOMBRIDGE_SPEECH__VOICE="Nobody")
    told = json.loads(done.stdout)
    fields = " ".join(problem["field"] for problem in told["problems"])
    assert (done.exit_code, told["ok"]) == (2, False)
    assert "speech.voice" in fields and "GOOGLE_API_KEY" in fields and "livekit.room" in fields


def test_check_says_when_no_server_answers() -> None:
    done = run("check", "--room", "a", **ROOM, LIVEKIT_URL="ws://127.0.0.1:1")
    assert done.exit_code == 1
    assert "unreachable" in done.stdout and "ws://127.0.0.1:1" in done.stdout


def test_emulate_refuses_an_unknown_scenario() -> None:
    done = run("emulate", "gemini", "--scenario", "nothing-like-it")
    assert done.exit_code == 2
    assert "echo" in done.stderr


def test_a_bug_is_one_sentence_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(environ: object) -> None:
        raise KeyError("a-secret-of-the-server")

    monkeypatch.setattr("bridge.diagnosis.what_providers_do", broken)
    done = run("providers", **ROOM)
    assert done.exit_code == 1
    assert done.stderr.startswith("roombridge: internal error: KeyError")
    assert "Traceback" not in done.stderr
    assert "a-secret" not in done.stderr


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_check_shows_no_secret_wherever_it_was_put(arguments: tuple[str, ...]) -> None:
    environ = {**ROOM, "OPENAI_API_KEY": "my-key-of-keys", "LIVEKIT_URL": "my-key-of-keys"}
    done = run("check", "--offline", "--room", "a-secret-of-the-server", "--provider", "openai", *arguments, **environ)
    assert done.exit_code == 2
    assert "livekit.url" in done.output
    assert "my-key-of-keys" not in done.output
    assert "a-secret-of-the-server" not in done.output


def test_check_names_each_problem_once(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("[call]\ndrain_s = nan\nmax_call_s = inf\n")
    done = run("check", "--offline", "--config", str(file))
    assert done.exit_code == 2
    assert done.output.count("call.drain_s") == done.output.count("call.max_call_s") == 1


@pytest.mark.parametrize("url", ["http://[", "http://127.0.0.1:99999/v1", "garbage"])
def test_an_address_that_is_none_is_a_wrong_setting_not_a_crash(url: str) -> None:
    environ = {**ROOM, "OPENAI_API_KEY": "my-key-of-keys", "OPENAI_BASE_URL": url, "LIVEKIT_URL": "ws://[::1"}
    done = run("check", "--room", "a", "--provider", "openai", **environ)
    assert done.exit_code == 2
    assert "OPENAI_BASE_URL" in done.output
    assert "livekit.url" in done.output
    assert run("providers", **environ).exit_code == 0


def test_check_survives_a_server_that_speaks_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as client:
                client.recv(1000)
                client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        done = run("check", "--room", "a", **ROOM, LIVEKIT_URL=f"ws://127.0.0.1:{server.getsockname()[1]}")
        thread.join(5)
    assert done.exit_code == 1
    assert "unreachable" in done.output


@pytest.mark.parametrize("hours", ["nan", "inf", "1e300", "0"])
def test_token_refuses_a_lifetime_that_is_none(hours: str) -> None:
    assert run("token", "--room", "a", "--identity", "b", "--ttl-h", hours, **ROOM).exit_code == 2


def test_token_refuses_a_nameless_room_and_person() -> None:
    assert run("token", "--room", " ", "--identity", "b", **ROOM).exit_code == 2
    assert run("token", "--room", "a", "--identity", "", **ROOM).exit_code == 2


def test_emulate_listens_nowhere_it_was_not_told_to(tmp_path: Path) -> None:
    done = run("emulate", "openai", "--host", "")
    assert (done.exit_code, "--host" in done.stderr) == (2, True)
    missing = tmp_path / "none" / "it.pem"
    done = run("emulate", "openai", "--tls", "--save-certificate", str(missing))
    assert (done.exit_code, "cannot be written" in done.stderr) == (2, True)


def test_join_shows_no_key_of_a_variable_that_the_configuration_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the key was hush-hush-hush")

    monkeypatch.setattr("bridge.app.make_model", broken)
    file = tmp_path / "own.toml"
    file.write_text("provider = 'gemini'\n[providers.gemini]\napi_key_env = 'BAKERY'")
    done = run("join", "--room", "a", "--config", str(file), **ROOM, BAKERY="hush-hush-hush")
    assert done.exit_code == 1
    assert "hush" not in done.stderr and "the key was ***" in done.stderr


CALLS = {"ROOMBRIDGE_CALL_SECRET": "0123456789abcdef0123456789abcdef"}


def test_a_call_token_is_for_calls_of_the_same_secret() -> None:
    done = run("token", "--call", "--identity", "ada", "--name", "Ada", **CALLS)
    caller = Tokens(CALLS["ROOMBRIDGE_CALL_SECRET"]).check_call(done.stdout.strip(), datetime.now(UTC).timestamp())
    assert (caller.identity, caller.name) == ("ada", "Ada")


def test_the_page_has_an_address_with_its_token_in_the_fragment() -> None:
    done = run("token", "--page", ROOMBRIDGE_SERVE__PORT="8099", **CALLS)
    address, _, token = done.stdout.strip().partition("/#token=")
    assert address == "http://127.0.0.1:8099"
    Tokens(CALLS["ROOMBRIDGE_CALL_SECRET"]).check_page(token, datetime.now(UTC).timestamp())


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (["--call", "--identity", "ada"], {}, "ROOMBRIDGE_CALL_SECRET = '': not set"),
        (["--call", "--identity", "ada"], {"ROOMBRIDGE_CALL_SECRET": "hunter2hunter2"}, "32 bytes at least"),
        (["--call"], CALLS, "--identity = '': must not be empty"),
        (["--call", "--identity", "ada", "--ttl-h", "48"], CALLS, "a call token holds for a day at most"),
        (["--call", "--room", "a", "--identity", "ada"], CALLS, "give one of the three"),
        (["--page", "--agent"], CALLS, "means nothing with --call and --page"),
        (["--page", "--identity", "ada"], CALLS, "--identity = 'ada': means nothing with --page"),
        (["--page"], {**CALLS, "ROOMBRIDGE_SERVE__PORT": "0"}, "serve.port = 0: is any free one"),
        ([], CALLS, "give one of the three"),
    ],
)
def test_token_says_what_it_lacks(arguments: list[str], environ: dict[str, str], said: str) -> None:
    done = run("token", *arguments, **environ)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr and "hunter2" not in done.stderr


def test_serve_refuses_a_taken_port_a_short_secret_and_a_wrong_relay(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--port", str(port))
    assert done.exit_code == 2
    assert f"serve.port = {port}: is taken" in done.stderr
    done = run("serve", ROOMBRIDGE_CALL_SECRET="hunter2hunter2")
    assert (done.exit_code, "hunter2" in done.stderr) == (2, False)
    done = run("serve", "--port", "0", ROOMBRIDGE_SERVE__PAGE="false")
    assert done.exit_code == 2 and "ROOMBRIDGE_CALL_SECRET = '': not set" in done.stderr
    file = tmp_path / "relay.toml"
    file.write_text(
        '[[webrtc.ice_servers]]\nurls = ["turn:t.example.com"]\nusername = "u"\ncredential_env = "TURN_PW"\n'
    )
    done = run("serve", "--config", str(file))
    assert done.exit_code == 2
    assert "webrtc.ice_servers[0].credential_env = 'TURN_PW': set that variable" in done.stderr


def test_demo_needs_a_room_for_a_participant_that_talks() -> None:
    done = run("demo", "--direct", "--save", "answer.wav")
    assert done.exit_code == 2
    assert "--direct" in done.stderr


def test_check_says_what_serve_would_do() -> None:
    done = run("check", "--serve", ROOMBRIDGE_SERVE__PORT="0", **CALLS)
    assert done.exit_code == 0
    assert "ROOMBRIDGE_CALL_SECRET set" in done.stdout and CALLS["ROOMBRIDGE_CALL_SECRET"] not in done.stdout
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("check", "--serve", ROOMBRIDGE_SERVE__PORT=str(taken.getsockname()[1]))
    assert done.exit_code == 1
    assert "does roombridge serve run already?" in done.stdout
    done = run("check", "--serve", "--offline", ROOMBRIDGE_CALL_SECRET="hunter2hunter2")
    assert (done.exit_code, "32 bytes" in done.stdout, "hunter2" in done.stdout) == (2, True, False)
