"""The scenario format: what a file may say, and what is said about a wrong one."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from providers.errors import SettingRefused
from providers.scripted.scenario import (
    Abort,
    Call,
    Close,
    Drop,
    Duplicate,
    Empty,
    EndSession,
    ExpireHandles,
    GoAway,
    Malformed,
    Marker,
    NoSetup,
    Pace,
    Quota,
    Refuse,
    Repeat,
    Scenario,
    ServerVad,
    Session,
    Silence,
    Stall,
    Text,
    Tone,
    Transcripts,
    TurnScript,
    Unknown,
    UsageNumbers,
    Wav,
    builtin_names,
    load,
    load_text,
)
from providers.signal import wav

EVERYTHING = """
name = "everything"
mode = "turns"
answer = { kind = "marker", duration_ms = 80, seed = 3 }
prompted = { kind = "text", text = "As told: {heard}" }
greeting = { kind = "tone", duration_ms = 200, frequency_hz = 330.0, level_dbfs = -20.0, transcript = "beep" }
barge_in = false
late_chunks = 4
turn_done = "playback"
thoughts = ["first"]
frames = "text"

[pace]
speed = 1.0
burst_s = 2.0
chunk_ms = 100
jitter_ms = 120
seed = 9
latency_ms = 350
transcript_lead_ms = 500

[transcripts]
input = "good day"
output = true
pieces = false

[vad]
enabled = true
threshold_dbfs = -50.0
onset_ms = 40
prefix_padding_ms = 100
silence_ms = 400

[usage]
input_tokens = 12
output_tokens = 34

[session]
connect_delay_ms = 500
setup_delay_ms = 300
go_away_s = 20
time_left_s = 10
limit_s = 60
resumption = true
overlap = true

[[turns]]
turn = 2
input_transcript = "what time is it"
calls = [{ name = "get_time", arguments = { zone = "UTC" }, id = "t1" }]
blocking = false
answer = { kind = "silence" }

[[faults]]
kind = "close"
code = 1008
reason = "policy"
reply = 3
speech_ms = 700

[[faults]]
kind = "stall"
duration_s = 2
turn = 4

[[faults]]
kind = "refuse"
status = 503
connection = 2
"""


def test_a_file_can_say_everything() -> None:
    scenario = load_text(EVERYTHING)
    assert scenario.answer == Marker(duration_ms=80, seed=3)
    assert scenario.prompted == Text(text="As told: {heard}")
    assert scenario.greeting == Tone(duration_ms=200, frequency_hz=330.0, level_dbfs=-20.0, transcript="beep")
    assert scenario.turn_script(1) is None
    script = scenario.turn_script(2)
    assert script is not None and script.calls == (Call(name="get_time", arguments={"zone": "UTC"}, id="t1"),)
    assert script.answer == Silence() and not script.blocking
    assert scenario.faults == (
        Close(code=1008, reason="policy", reply=3, speech_ms=700),
        Stall(duration_s=2, turn=4),
        Refuse(status=503, connection=2),
    )
    assert (scenario.pace.burst_s, scenario.vad.silence_ms, scenario.session.connect_delay_ms) == (2.0, 400, 500)


def test_an_empty_file_is_the_echo() -> None:
    assert load_text("") == Scenario() == load("echo")
    assert Scenario().answer == Repeat()


@pytest.mark.parametrize("kind", [Abort, Malformed, Empty, Unknown, Duplicate])
def test_every_fault_has_its_own_word(kind: type[msgspec.Struct]) -> None:
    (fault,) = load_text(f"[[faults]]\nkind = '{kind.__name__.lower()}'\nat_s = 1.5").faults
    assert isinstance(fault, kind)


def test_every_ready_scenario_loads_under_its_own_name() -> None:
    assert builtin_names() == ["bursts", "duplex", "echo", "faulty", "realtime", "rollover", "tools"]
    for name in builtin_names():
        assert load(name).name == name


@pytest.mark.parametrize(
    ("toml", "field", "value", "mend"),
    [
        ("speeed = 1", "", {"speeed": 1}, "unknown field `speeed`"),
        ("pace = { speeed = 1 }", "pace", {"speeed": 1}, "unknown field `speeed`"),
        ("pace = { speed = 'fast' }", "pace.speed", "fast", "expected `float`"),
        ("pace = { speed = 0.0 }", "pace.speed", 0.0, ">= 0.05"),
        ("mode = 'both'", "mode", "both", "invalid enum value 'both'"),
        ("answer = { kind = 'song' }", "answer.kind", "song", "invalid value 'song'"),
        ("answer = { kind = 'wav' }", "answer", {"kind": "wav"}, "missing required field `file`"),
        ("[[turns]]\nturn = 0", "turns[0].turn", 0, ">= 1"),
        ("[[turns]]\nturn = 1\n[[turns]]\nturn = 1", "turns[1].turn", 1, "once"),
        ("[[faults]]\nkind = 'close'", "faults[0]", [], "exactly one of at_s, turn and reply"),
        ("[[faults]]\nkind = 'abort'\nat_s = 1\nturn = 1", "faults[0]", ["at_s", "turn"], "exactly one"),
        ("[[faults]]\nkind = 'abort'\nturn = 1\nspeech_ms = 5", "faults[0].speech_ms", 5, "of which reply"),
        ("[[faults]]\nkind = 'close'\ncode = 1006\nturn = 1", "faults[0].code", 1006, "abort"),
        ("session = { limit_s = 5, go_away_s = 9 }", "session.go_away_s", 9.0, "before limit_s = 5"),
    ],
)
def test_a_mistake_is_named_with_field_value_and_mend(toml: str, field: str, value: object, mend: str) -> None:
    with pytest.raises(SettingRefused) as refused:
        load_text(toml, name="my.toml")
    assert refused.value.field == (f"my.toml: {field}" if field else "my.toml")
    assert refused.value.value == value
    assert mend in refused.value.mend


def test_a_file_that_is_no_toml_is_named_with_the_line() -> None:
    with pytest.raises(SettingRefused, match=r"my\.toml.*line 2"):
        load_text("name = 'x'\n= 3", name="my.toml")


def test_a_scenario_that_is_not_there_names_the_ready_ones() -> None:
    with pytest.raises(SettingRefused, match=r"'ecko'.*bursts, duplex, echo"):
        load("ecko")


def test_a_wav_lies_beside_its_scenario(tmp_path: Path) -> None:
    wav.write(tmp_path / "hi.wav", np.ones(240, dtype=np.int16), 24_000)
    (tmp_path / "own.toml").write_text("[[turns]]\nturn = 1\nanswer = { kind = 'wav', file = 'hi.wav' }")
    script = load(tmp_path / "own.toml").turn_script(1)
    assert script is not None and script.answer == Wav(file=str(tmp_path / "hi.wav"))


def test_a_wav_that_cannot_be_read_is_refused_before_anything_opens(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    with pytest.raises(SettingRefused, match=r"greeting\.file = 'bad\.wav'.*not a WAV file"):
        load_text("greeting = { kind = 'wav', file = 'bad.wav' }", folder=tmp_path)


def test_every_key_and_kind_is_documented() -> None:
    text = (Path(__file__).parents[4] / "docs" / "scenarios.md").read_text()
    tables: list[type[msgspec.Struct]] = [
        Scenario, Pace, Transcripts, ServerVad, UsageNumbers, TurnScript, Call, Session,
    ]  # fmt: skip
    tagged: list[type[msgspec.Struct]] = [
        Repeat, Wav, Tone, Marker, Text, Silence,
        Close, Abort, Stall, Malformed, Empty, Unknown, Duplicate, Refuse,
        GoAway, EndSession, Quota, ExpireHandles, Drop, NoSetup,
    ]  # fmt: skip
    keys = {field.name for struct in [*tables, *tagged] for field in msgspec.structs.fields(struct)}
    kinds = {str(struct.__struct_config__.tag) for struct in tagged}
    headings = {"pace", "transcripts", "vad", "usage", "turns", "session", "faults"}
    documented = set(re.findall(r"`\[*([a-z_]+)\]*`", text))
    assert (keys | kinds) - documented - {"faults"} == set()
    assert headings <= documented
    example = text.split("```toml\n")[1].split("```")[0]
    assert load_text(example).name == "weather"


def test_any_scenario_can_take_the_time_of_a_real_service() -> None:
    slow = load("faulty").with_session(connect_delay_ms=500, setup_delay_ms=300, overlap=True)
    assert slow.session == Session(connect_delay_ms=500, setup_delay_ms=300, overlap=True)
    assert slow.faults == load("faulty").faults
    with pytest.raises(TypeError):
        slow.with_session(coffee=True)
