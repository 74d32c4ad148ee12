"""A configuration is read whole, or refused with every problem: field, value, mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.config import Config, load, read
from bridge.core.errors import ConfigError
from providers.catalog import Provider

CATALOG = {
    name: Provider(
        name=name,
        title=name,
        settings="providers.settings:TranscriptionSettings",
        model="",
        secrets=(f"{name.upper()}_KEY",),
    )
    for name in ("scripted", "alpha", "beta")
}


def problems(table: dict[str, Any], environ: dict[str, str] | None = None) -> dict[str, tuple[object, str]]:
    with pytest.raises(ConfigError) as caught:
        read(table, environ or {}, catalog=CATALOG)
    found = (caught.value, *caught.value.others)
    return {problem.field: (problem.value, problem.mend) for problem in found}


def accepted(
    table: dict[str, Any], environ: dict[str, str] | None = None, command_line: dict[str, Any] | None = None
) -> Config:
    return read(table, environ or {}, command_line, CATALOG)


def test_an_empty_file_is_the_offline_model() -> None:
    assert accepted({}).provider == "scripted"


def test_the_provider_in_use_always_has_its_settings() -> None:
    assert accepted({"provider": "alpha"}).providers["alpha"].output is True


def test_every_problem_is_reported_at_once() -> None:
    table = {"speech": {"voise": "Puck", "temperature": 9.0}, "colour": 1, "providers": {"alpha": {"input": "yes"}}}
    assert problems(table).keys() == {"speech.voise", "speech.temperature", "colour", "providers.alpha.input"}


def test_the_text_of_the_error_holds_every_problem() -> None:
    with pytest.raises(ConfigError, match=r"(?s)speech\.voise.*colour"):
        read({"speech": {"voise": 1}, "colour": 1}, {}, catalog=CATALOG)


@pytest.mark.parametrize(
    ("table", "field", "mend"),
    [
        ({"speech": {"voise": "x"}}, "speech.voise", "did you mean voice?"),
        ({"health": {"failures_to_open": 0}}, "health.failures_to_open", "1"),
        (
            {"connection": {"connect_timeout_ms": 5000}},
            "connection.connect_timeout_ms",
            "connect_timeout_s, in seconds",
        ),
        ({"connection": {"connect_timeout": 5}}, "connection.connect_timeout", "did you mean connect_timeout_s?"),
        ({"connection": {"outbox_ms": "500ms"}}, "connection.outbox_ms", "without its unit"),
        ({"connection": {"outbox_ms": 1}}, "connection.outbox_ms", "from 200 to 60000, in milliseconds"),
        (
            {"connection": {"connect_timeout_s": 0}},
            "connection.connect_timeout_s",
            "above 0 and at most 120, in seconds",
        ),
        ({"speech": {"thinking": "hihg"}}, "speech.thinking", "did you mean high?"),
        ({"speech": {"modality": "video"}}, "speech.modality", "one of audio, text"),
        ({"speech": {"voice": 7}}, "speech.voice", "a text or a table of a text"),
        ({"speech": "loud"}, "speech", "write [speech]"),
        ({"speech": {"turn_detection": {"mode": "vad"}}}, "speech.turn_detection.mode", "server_vad"),
        ({"speech": {"transcription": {"input": 1}}}, "speech.transcription.input", "true or false"),
        ({"speech": {"tools": [{"description": "no name"}]}}, "speech.tools[0].name", "must be set"),
        ({"speech": {"tools": [{"name": "a", "params": {}}]}}, "speech.tools[0].params", "did you mean parameters?"),
        (
            {"conversation": {"barge_in": {"greeting": {"mode": "never", "after_ms": 500}}}},
            "conversation.barge_in.greeting",
            "counts with mode = 'after' only",
        ),
        ({"provider": "alhpa"}, "provider", "did you mean alpha?"),
        ({"providers": {"alpa": {}}}, "providers.alpa", "did you mean alpha?"),
        ({"providers": {"beta": {"inptu": True}}}, "providers.beta.inptu", "did you mean input?"),
        ({"providers": 3}, "providers", "is a table"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_its_mend(table: dict[str, Any], field: str, mend: str) -> None:
    found = problems(table)
    assert list(found) == [field]
    assert mend in found[field][1]


@pytest.mark.parametrize(
    ("table", "field", "variables"),
    [
        ({"livekit_api_secret": "hush"}, "livekit_api_secret", "in the environment"),
        ({"providers": {"alpha": {"api_key": "hush"}}}, "providers.alpha.api_key", "ALPHA_KEY"),
        ({"speech": {"instructions": "sk-proj-abcdefghijklmnop"}}, "speech.instructions", "in the environment"),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(table: dict[str, Any], field: str, variables: str) -> None:
    value, mend = problems(table)[field]
    assert value == "***"
    assert variables in mend


@pytest.mark.parametrize(
    "table",
    [
        {"provider": {"alpha": {"api_key": "hush"}}},
        {"providers": {"alpha": {"auth": [{"token": "hush"}]}}},
        {"provider": "sk-proj-abcdefghijklmnop"},
        {"failover": ["sk-proj-abcdefghijklmnop"]},
        {"providers": ["sk-proj-abcdefghijklmnop"]},
        {"speech": {"tools": ["sk-proj-abcdefghijklmnop"]}},
    ],
)
def test_a_secret_in_a_place_that_is_wrong_by_itself_is_not_repeated(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(table, {}, catalog=CATALOG)
    told = str(caught.value)
    assert "***" in told and "hush" not in told and "sk-proj" not in told


def test_what_is_more_explicit_wins() -> None:
    table = {"provider": "alpha", "speech": {"voice": "file", "language": "de"}}
    environ = {"ROOMBRIDGE_SPEECH__VOICE": "environment", "ROOMBRIDGE_PROVIDER": "beta"}
    config = accepted(table, environ, {"provider": "scripted"})
    assert (config.provider, config.speech.voice, config.speech.language) == ("scripted", "environment", "de")


def test_an_override_reaches_every_depth_and_type() -> None:
    config = accepted(
        {},
        {
            "ROOMBRIDGE_SPEECH__TURN_DETECTION__SILENCE_MS": "300",
            "ROOMBRIDGE_SPEECH__TRANSCRIPTION__VOCABULARY": '["Ada", "Bob"]',
            "ROOMBRIDGE_CONNECTION__CONNECT_TIMEOUT_S": "2.5",
            "ROOMBRIDGE_PROVIDERS__BETA__OUTPUT": "false",
        },
    )
    assert config.speech.turn_detection.silence_ms == 300
    assert config.speech.transcription.vocabulary == ("Ada", "Bob")
    assert config.connection.connect_timeout_s == 2.5
    assert config.providers["beta"].output is False


def test_a_text_that_looks_like_a_number_stays_a_text() -> None:
    assert accepted({}, {"ROOMBRIDGE_SPEECH__INSTRUCTIONS": "42"}).speech.instructions == "42"


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("ROOMBRIDGE_SPEACH__VOICE", "ROOMBRIDGE_SPEECH__..."),
        ("ROOMBRIDGE_SPEECH", "ROOMBRIDGE_SPEECH__KEY"),
        ("ROOMBRIDGE_PROVIDER__NAME", "write it as ROOMBRIDGE_PROVIDER:"),
    ],
)
def test_a_misspelt_override_is_refused(name: str, mend: str) -> None:
    value, text = problems({}, {name: "x"})[name]
    assert value == "(hidden)"
    assert mend in text


@pytest.mark.parametrize(
    "environ",
    [
        {"ROOMBRIDGE_SPEECH__VOICE": "a", "ROOMBRIDGE_SPEECH__VOICE__ALPHA": "b"},
        {"ROOMBRIDGE_SPEECH__VOICE__ALPHA": "b", "ROOMBRIDGE_speech__voice": "a"},
    ],
)
def test_a_key_that_is_set_as_a_table_and_as_a_value_is_refused(environ: dict[str, str]) -> None:
    ((value, mend),) = problems({}, environ).values()
    assert value == "(hidden)" and "keep one of the two" in mend


def test_a_variable_of_several_lines_is_no_number() -> None:
    assert list(problems({}, {"ROOMBRIDGE_CALL__DRAIN_S": "1\nother = 2"})) == ["call.drain_s"]


def test_other_programs_variables_are_left_alone() -> None:
    assert accepted({}, {"ROOMBRIDGE_CONFIG": "a.toml", "ROOM": "x"}) == accepted({})


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "no.toml", {}, catalog=CATALOG)


def test_a_file_that_is_no_toml_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("provider = \n")
    with pytest.raises(ConfigError, match=r"is not TOML: .*line 1"):
        load(tmp_path / "bad.toml", {}, catalog=CATALOG)


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text('provider = "beta"\n[speech.voice]\nbeta = "marin"\n')
    assert load(tmp_path / "good.toml", {}, catalog=CATALOG).speech.voice_for("beta") == "marin"


@pytest.mark.parametrize("content", [f"[call]\ndrain_s = {'9' * 5000}", f"a = {'[' * 3000}{']' * 3000}"])
def test_a_file_that_only_an_enemy_writes_is_refused_like_any_other(tmp_path: Path, content: str) -> None:
    file = tmp_path / "evil.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match="the file"):
        load(file, {})


def test_a_provider_without_a_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="provider = ''"):
        read({"provider": ""}, {})


def test_an_empty_variable_is_as_good_as_none() -> None:
    empty = {"ROOMBRIDGE_PROVIDER": "", "ROOMBRIDGE_CALL__DRAIN_S": " ", "ROOMBRIDGE_LIVEKIT__ROOM": '""'}
    config = read({"provider": "openai", "livekit": {"room": "a"}}, empty)
    assert (config.provider, config.call.drain_s, config.livekit.room) == ("openai", 10.0, "")


@pytest.mark.parametrize("text", ["9" * 5000, "0x" + "f" * 5000, "[" * 5000, "\udcff"])
def test_a_variable_too_odd_for_toml_is_refused_by_its_key(text: str) -> None:
    (field,) = problems({}, {"ROOMBRIDGE_CALL__DRAIN_S": text})
    assert field == "call.drain_s"


def test_a_value_however_deep_or_long_is_shown_in_short() -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    for value in (deep, "x" * 10_000, 16**5000, list(range(10_000))):
        assert len(str(ConfigError("call", value, "mend it"))) < 500


def test_who_stands_in_has_settings_of_his_own() -> None:
    config = accepted({"provider": "alpha", "failover": ["beta"]})
    assert config.failover == ("beta",)
    assert config.providers["beta"].output is True


def test_who_cannot_stand_in_is_named_with_his_place() -> None:
    found = problems({"provider": "alpha", "failover": ["beta", "gamma", "beta", "alpha"]})
    assert found.keys() == {"failover[1]", "failover[2]", "failover[3]"}
