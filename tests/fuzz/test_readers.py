"""Whatever a file or a variable holds is read whole, or refused with field, value and mend: nothing else is raised."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bridge.config import Config, load, read
from bridge.core.errors import ConfigError
from providers.errors import SettingRefused
from providers.scripted import scenario
from providers.scripted.scenario import Scenario
from tests.fuzz.odd import ODD_TEXTS, Odd, seeds

ROOT = Path(__file__).parents[2]
SECRET = "sk-proj-" + "q" * 24
SECRETS = {"LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "s", "GEMINI_API_KEY": "g", "OPENAI_API_KEY": "o"}


def whole_example() -> dict[str, Any]:
    """Every table and key of the example file, with those switched on that have no default."""
    lines = (ROOT / "roombridge.example.toml").read_text(encoding="utf-8").splitlines()
    table = tomllib.loads("\n".join(lines))
    path: list[str] = []
    for line in lines:
        if line.startswith("["):
            path = line.strip("[]").split(".")
        elif line.startswith("# ") and line.endswith(" ="):
            within = table
            for name in path:
                within = within.setdefault(name, {})
            within[line.removeprefix("# ").removesuffix(" =")] = "x"
    return table


CONFIG = whole_example()
SCENARIOS = [tomllib.loads(path.read_text()) for path in (ROOT / "providers/emulators/scenarios").glob("*.toml")] + [
    {
        "answer": {"kind": "text", "text": "It is {temperature}"},
        "turns": [{"turn": 2, "calls": [{"name": "weather", "arguments": {"city": "Oslo"}}], "thoughts": ["so"]}],
        "faults": [
            {"kind": "close", "code": 1011, "reply": 3, "speech_ms": 700},
            {"kind": "refuse", "connection": 1, "status": 503, "retry_after_s": 1},
            {"kind": "unknown", "at_s": 1.0, "message": {"type": "x"}},
        ],
        "session": {"go_away_s": 1.0, "limit_s": 2.0, "time_left_s": 5.0, "connect_delay_ms": 500},
        "vad": {"threshold_dbfs": -45.0},
        "usage": {"input_tokens": 3},
    }
]


def toml_only(value: Any) -> Any:
    """What TOML can hold: no null, and no table without end."""
    if isinstance(value, dict):
        return {key: toml_only(inner) for key, inner in value.items() if inner is not None}
    return [toml_only(inner) for inner in value if inner is not None] if isinstance(value, list) else value


def words_in(table: Any) -> list[str]:
    if isinstance(table, dict):
        return [*table, *(word for inner in table.values() for word in words_in(inner))]
    return [word for inner in table for word in words_in(inner)] if isinstance(table, list) else []


def paths_in(table: Mapping[str, Any]) -> list[tuple[str, ...]]:
    deeper = [(key, *path) for key, inner in table.items() if isinstance(inner, dict) for path in paths_in(inner)]
    return [*((key,) for key in table), *deeper]


def problems_of(error: ConfigError) -> None:
    """Each one names its field and says what to do."""
    for problem in (error, *error.others):
        assert problem.field and isinstance(problem.field, str)
        assert problem.mend and isinstance(problem.mend, str)
    assert str(error)


def refused_or_read(table: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    try:
        assert isinstance(read(table, environ), Config)
    except ConfigError as error:
        problems_of(error)
        return False
    return True


def test_a_configuration_is_read_or_refused_with_field_and_mend() -> None:
    words, were_read = words_in(CONFIG), 0
    for seed in seeds(50):
        with Odd("config", seed) as odd:
            table = odd.mutated(CONFIG, words, literals=False) if odd.chance(0.7) else odd.value(words, 5)
            were_read += refused_or_read(toml_only(table) if isinstance(table, dict) else {"call": table}, SECRETS)
            # Few at once, so that a file is also right but for one thing.
            part = {name: content for name, content in CONFIG.items() if odd.chance(0.2)}
            small = odd.mutated(tomllib.loads((ROOT / "roombridge.example.toml").read_text()), words, literals=False)
            were_read += refused_or_read(toml_only(small) if isinstance(small, dict) else part, SECRETS)
    assert were_read or os.environ.get("FUZZ_SEED"), "a reader that refuses everything proves nothing"


def test_each_key_by_itself_is_read_or_refused_whatever_it_holds() -> None:
    """All else is right, so that checks of several keys together are reached."""
    with Odd("each key", 0) as odd:
        for path in paths_in(CONFIG):
            for value in ("{x", 7, odd.atom()):
                table = value
                for name in reversed(path):
                    table = {name: table}
                refused_or_read(toml_only(table), SECRETS)


def test_a_secret_is_not_repeated_wherever_it_stands() -> None:
    holders = ({"api_key": "hush-hush"}, {"a": [{"password": "hush-hush"}]}, SECRET, [SECRET], {"a": SECRET})
    paths = paths_in(CONFIG)
    for seed in seeds(60):
        with Odd("secret", seed) as odd:
            table, environ = odd.holding(CONFIG, odd.rng.choice(holders)), dict(SECRETS)
            if odd.chance(0.3):
                table, path = {}, "__".join(odd.rng.choice(paths)).upper()
                environ[f"ROOMBRIDGE_{path}"] = odd.rng.choice((SECRET, f"['{SECRET}']", "{api_key = 'hush-hush'}"))
            try:
                read(toml_only(table), environ)
            except ConfigError as error:
                told = f"{error} {[(problem.field, problem.value, problem.mend) for problem in (error, *error.others)]}"
                assert SECRET not in told and "hush-hush" not in told


def test_the_environment_is_read_or_refused_with_field_and_mend() -> None:
    known = ["__".join(path).upper() for path in paths_in(CONFIG)]
    words = [word.upper() for word in words_in(CONFIG)]
    for text in ODD_TEXTS:
        for key in ("SPEECH__VOICE", "CALL__DRAIN_S", "CALL", "SPEECH__", "PROVIDER__X"):
            refused_or_read({}, {**SECRETS, f"ROOMBRIDGE_{key}": text})
    for seed in seeds(60):
        with Odd("environment", seed) as odd:
            environ = dict(SECRETS)
            for _ in range(odd.rng.choice((1, 1, 2, 6))):
                path = "__".join(odd.rng.choices(words, k=2)) if odd.chance(0.2) else odd.rng.choice(known)
                text = (
                    str(odd.atom()) if odd.chance(0.7) else odd.rng.choice(("[", "{a=1}", "[1,[2]]", "1\nx=2", "'''"))
                )
                environ[f"ROOMBRIDGE_{path}"] = text.replace("\x00", "")
            refused_or_read({}, environ)


def test_a_file_of_anything_is_read_or_refused_with_field_and_mend(tmp_path: Path) -> None:
    example = (ROOT / "roombridge.example.toml").read_bytes()
    file = tmp_path / "call.toml"
    for seed in seeds(60):
        with Odd("file", seed) as odd:
            content = bytearray(example)
            for _ in range(odd.rng.choice((1, 3, 10))):
                at = odd.rng.randrange(len(content))
                piece = odd.rng.choice(
                    (b"[", b"]", b'"', b"=", b"\n", b"\xff", b"\x00", b"[[", b"'''", b"9" * 5000, b".")
                )
                content[at : at + odd.rng.choice((0, 1, 20))] = piece
            file.write_bytes(bytes(content))
            try:
                assert isinstance(load(file, SECRETS), Config)
            except ConfigError as error:
                problems_of(error)


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "call.toml"
    for opening in ("x = " + "[" * 100_000, "x = " + "{a=" * 50_000, "[" + "a." * 5000 + "a]\n"):
        file.write_text(opening)
        with pytest.raises(ConfigError):
            load(file, SECRETS)
        with pytest.raises(SettingRefused):
            scenario.load_text(opening)


def toml(value: Any) -> str:
    """The value in TOML's words, tables inline."""
    match value:
        case dict():
            return "{" + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(toml(inner) for inner in value) + "]"
        case bool():
            return str(value).lower()
        case str():
            escaped = (character if character.isalnum() else f"\\U{ord(character):08x}" for character in value)
            return '"' + "".join(escaped) + '"'
        case _:
            return repr(value)


def test_a_scenario_is_read_or_refused_with_field_and_mend() -> None:
    words, were_read = words_in(SCENARIOS), 0
    for seed in seeds(250):
        with Odd("scenario", seed) as odd:
            table = odd.mutated(odd.rng.choice(SCENARIOS), words, literals=False)
            text = "\n".join(f"{toml(key)} = {toml(inner)}" for key, inner in _table(toml_only(table)).items())
            if odd.chance(0.1):
                text = text[: odd.rng.randrange(len(text) + 1)]
            try:
                assert isinstance(scenario.load_text(text), Scenario)
                were_read += 1
            except SettingRefused as refused:
                assert refused.field and refused.mend and str(refused)
    assert were_read or os.environ.get("FUZZ_SEED"), "a reader that refuses everything proves nothing"


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"name": value}
