"""What a scripted conversation is made of: one TOML format for the scripted model and both emulators.

A file says only what differs from the defaults; the default scenario repeats what it heard. Times in ms or s as the
names say; replies, turns, connections count from 1. A whole example, with every table:

    name = "weather"
    answer = { kind = "repeat" }              # or wav, tone, marker, text, silence
    prompted = { kind = "tone", duration_ms = 600 }
    [pace]                                    # how the speech arrives
    speed = 4.0
    [vad]
    silence_ms = 400
    [[turns]]                                 # what is special about one user turn
    turn = 2
    calls = [{ name = "get_weather", arguments = { city = "Oslo" } }]
    answer = { kind = "text", text = "It is {temperature} degrees." }
    [[faults]]
    kind = "close"
    code = 1011
    reply = 3
    speech_ms = 700
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from providers.errors import SettingRefused
from providers.scripted.faults import (
    Abort,
    Close,
    Drop,
    Duplicate,
    Empty,
    EndSession,
    ExpireHandles,
    Fault,
    GoAway,
    Malformed,
    NoSetup,
    Quota,
    Refuse,
    Stall,
    TimedFault,
    Unknown,
    UpgradeFault,
    refused_fault,
)
from providers.signal import wav

__all__ = [
    "Abort",
    "Answer",
    "Call",
    "Close",
    "Drop",
    "Duplicate",
    "Empty",
    "EndSession",
    "ExpireHandles",
    "Fault",
    "GoAway",
    "Malformed",
    "Marker",
    "NoSetup",
    "Pace",
    "Quota",
    "Refuse",
    "Repeat",
    "Scenario",
    "ServerVad",
    "Session",
    "Silence",
    "Stall",
    "Text",
    "TimedFault",
    "Tone",
    "Transcripts",
    "TurnScript",
    "Unknown",
    "UpgradeFault",
    "UsageNumbers",
    "Wav",
    "builtin_names",
    "load",
    "load_text",
]

_Ms = Annotated[int, Meta(ge=0, le=3_600_000)]
_Count = Annotated[int, Meta(ge=1)]
_Dbfs = Annotated[float, Meta(ge=-90.0, le=0.0)]
_Transcript = str | None


# -------------------------------------------------------------------------------------------------------- answers


class Repeat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="repeat"):
    """Says back what it heard, sample for sample (at 24 kHz). What was typed comes back as text."""

    transcript: _Transcript = None
    """What the answer's words are said to be. None: the input transcript; "": no words."""


class Wav(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="wav"):
    """Plays a file."""

    file: str
    """WAV of any kind; relative to the scenario file."""
    transcript: _Transcript = None
    """None: a generated sentence."""


class Tone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="tone"):
    """A sine, faded in and out over 5 ms."""

    duration_ms: Annotated[int, Meta(ge=1, le=600_000)] = 1000
    frequency_hz: Annotated[float, Meta(ge=20, le=11_000)] = 440.0
    level_dbfs: _Dbfs = -12.0
    transcript: _Transcript = None


class Marker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="marker"):
    """Seeded noise in the speech band, another one for every reply: to be found again by correlation."""

    duration_ms: Annotated[int, Meta(ge=1, le=600_000)] = 60
    seed: int = 1
    level_dbfs: _Dbfs = -12.0
    transcript: _Transcript = None


class Text(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="text"):
    """Words: written in a text session, otherwise voiced as one short hum for each syllable-sized group of letters.

    `{name}` stands for a field of the results of this turn's tool calls, `{heard}` for what the user said.
    """

    text: str
    ms_per_letter: Annotated[int, Meta(ge=5, le=1000)] = 60


class Silence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="silence"):
    """The turn is answered with nothing: an empty reply that is complete at once."""


Answer = Repeat | Wav | Tone | Marker | Text | Silence


# ------------------------------------------------------------------------------------------------------- settings


class Pace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How speech arrives at the client."""

    speed: Annotated[float, Meta(ge=0.05, le=1000)] = 4.0
    """Multiple of real time."""
    burst_s: Annotated[float, Meta(ge=0, le=60)] = 0.0
    """Speech comes in bursts of so many seconds at once, one per burst_s / speed. 0: evenly."""
    chunk_ms: Annotated[int, Meta(ge=5, le=10_000)] = 40
    """Speech in one message, ms."""
    jitter_ms: _Ms = 0
    """Each message is late by 0 to so much, evenly spread; order is kept."""
    seed: int = 1
    """Of the jitter."""
    latency_ms: _Ms = 200
    """From the end of the turn (or the request) to the first speech."""
    transcript_lead_ms: _Ms = 0
    """Words come so much earlier than the speech that says them."""


class Transcripts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The words of both sides."""

    input: str | None = None
    """What the user is said to have said. None: "I heard 1.8 s of speech."; "": no input transcript."""
    output: bool = True
    """The model's words come beside its speech."""
    pieces: bool = True
    """In pieces of one word, in step with the speech. False: all at once with the first speech."""


class ServerVad(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The server's own turn detection, unless the client configures it."""

    enabled: bool = True
    threshold_dbfs: _Dbfs = -45.0
    onset_ms: Annotated[int, Meta(ge=10, le=1000)] = 20
    prefix_padding_ms: Annotated[int, Meta(ge=0, le=5000)] = 300
    """Audio before the detected start that belongs to the turn."""
    silence_ms: Annotated[int, Meta(ge=10, le=10_000)] = 500


class UsageNumbers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tokens of one turn. None: counted from the audio, 10 a second in and 20 a second out."""

    input_tokens: Annotated[int, Meta(ge=0)] | None = None
    output_tokens: Annotated[int, Meta(ge=0)] | None = None
    cached_tokens: Annotated[int, Meta(ge=0)] = 0
    thought_tokens: Annotated[int, Meta(ge=0)] = 0


class Call(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One function call."""

    name: str
    arguments: dict[str, Any] = {}
    id: str = ""
    """Empty: made up."""


class TurnScript(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens after one user turn, spoken or typed."""

    turn: _Count
    answer: Answer | None = None
    """None: the scenario's own."""
    input_transcript: str | None = None
    """None: as `transcripts.input`."""
    thoughts: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    """Called together before the answer, which waits for all their results."""
    blocking: bool = True
    """False: the scenario's answer is spoken meanwhile, and `answer` once the results are there."""


class Session(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The life of a connection."""

    connect_delay_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0
    """Before the upgrade is answered. Real services take about 500."""
    setup_delay_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0
    """Before the setup is accepted. Real services take about 300."""
    setup_within_s: Annotated[float, Meta(gt=0, le=3600)] | None = 10.0
    """A connection that has not sent its setup by then is closed (Gemini). None: it may wait for ever."""
    go_away_s: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    """A go-away comes so long after the setup."""
    time_left_s: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    """What the go-away promises; the connection is then aborted."""
    limit_s: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    """The session ends so long after the setup, as the vendor ends it."""
    resumption: bool = True
    """Handles are issued to those who ask."""
    overlap: bool = False
    """May a session be resumed while its earlier connection is open?"""
    heard_limit_s: Annotated[float, Meta(ge=1, le=36_000)] = 600.0
    """How much of what it heard a connection keeps for tests; the oldest goes."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One scripted conversation."""

    name: str = "echo"
    mode: Literal["turns", "duplex"] = "turns"
    """duplex: speaks while it listens, and knows no turns."""
    answer: Answer = Repeat()
    prompted: Answer = Tone(duration_ms=600)
    """What it says when made to speak with nothing heard, and to a typed text where `answer` is repeat."""
    greeting: Answer | None = None
    """Said by itself as soon as the session is ready."""
    pace: Pace = Pace()
    transcripts: Transcripts = Transcripts()
    vad: ServerVad = ServerVad()
    barge_in: bool = True
    """Speech of the user cuts the reply, unless the client configures it."""
    late_chunks: Annotated[int, Meta(ge=0, le=100)] = 0
    """Speech messages of the dead reply that still come after it was cut."""
    turn_done: Literal["vendor", "playback", "generation"] = "vendor"
    """When a turn is declared over: at the estimated end of playback, or with the last speech."""
    thoughts: tuple[str, ...] = ()
    """Before every answer."""
    usage: UsageNumbers = UsageNumbers()
    turns: tuple[TurnScript, ...] = ()
    session: Session = Session()
    frames: Literal["vendor", "text", "binary"] = "vendor"
    """Kind of WebSocket frame that messages go out in."""
    faults: tuple[Fault, ...] = ()

    def with_session(self, **changes: Any) -> Scenario:
        """This scenario with other `[session]` settings: `with_session(connect_delay_ms=500, setup_delay_ms=300)` takes
        the time that real services take, `with_session(overlap=True)` lets a session be resumed while its earlier
        connection is open. Raises TypeError for a setting that there is not."""
        return msgspec.structs.replace(self, session=msgspec.structs.replace(self.session, **changes))

    def turn_script(self, turn: int) -> TurnScript | None:
        """What is special about this turn, if anything."""
        return next((script for script in self.turns if script.turn == turn), None)

    def answers(self) -> tuple[Answer, ...]:
        """Every answer that the scenario may give."""
        own = (self.answer, self.prompted, self.greeting, *(script.answer for script in self.turns))
        return tuple(answer for answer in own if answer is not None)


# -------------------------------------------------------------------------------------------------------- loading

_BUILTIN = Path(__file__).parent.parent / "emulators" / "scenarios"


def builtin_names() -> list[str]:
    """Names of the ready scenarios, which `load` takes in place of a path."""
    return sorted(path.stem for path in _BUILTIN.glob("*.toml"))


def load(source: str | Path) -> Scenario:
    """The scenario of a TOML file, or of a ready one's name. WAV paths come back absolute, and readable.

    Raises SettingRefused naming the file and field, the value, and what to do.
    """
    path = Path(source)
    if isinstance(source, str) and source in builtin_names():
        path = _BUILTIN / f"{source}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        ready = ", ".join(builtin_names())
        raise SettingRefused("scenario", str(source), f"give a TOML file or one of {ready} ({error})") from error
    return load_text(text, folder=path.parent, name=str(path))


def load_text(text: str, *, folder: str | Path = ".", name: str = "scenario") -> Scenario:
    """As `load`, from the file's content; relative WAV paths start at `folder`."""
    try:
        raw = tomllib.loads(text)
    except ValueError as error:  # of TOML, or of a number with thousands of digits
        raise SettingRefused(name, "...", f"is not TOML: {error}") from error
    except RecursionError as error:
        raise SettingRefused(name, "...", "is nested too deeply") from error
    try:
        scenario = msgspec.convert(raw, Scenario)
    except msgspec.ValidationError as error:
        raise _refused(name, raw, str(error)) from error
    return _checked(scenario, Path(folder), name)


def _refused(name: str, raw: dict[str, Any], message: str) -> SettingRefused:
    """msgspec's words with the value that they are about."""
    problem, _, path = message.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    value: Any = raw
    for part in path.replace("[", ".[").split("."):
        if part.startswith("[") and isinstance(value, list) and part[1:-1].isdigit():
            value = value[int(part[1:-1])]
        elif isinstance(value, dict):
            value = value.get(part, value)
    problem = problem[:1].lower() + problem[1:]
    return SettingRefused(f"{name}: {path}" if path else name, value, f"{problem}: see providers/scripted/scenario.py")


def _checked(scenario: Scenario, folder: Path, name: str) -> Scenario:
    """What types cannot say. Returns the scenario with absolute WAV paths."""
    seen: set[int] = set()
    for index, script in enumerate(scenario.turns):
        if script.turn in seen:
            raise SettingRefused(f"{name}: turns[{index}].turn", script.turn, "describe each turn once")
        seen.add(script.turn)
    for index, fault in enumerate(scenario.faults):
        problem = refused_fault(fault)
        if problem is not None:
            field, value, mend = problem
            raise SettingRefused(f"{name}: faults[{index}]{field}", value, mend)
    limit, go_away = scenario.session.limit_s, scenario.session.go_away_s
    if limit is not None and go_away is not None and go_away >= limit:
        raise SettingRefused(f"{name}: session.go_away_s", go_away, f"must come before limit_s = {limit}")

    def located(answer: Answer | None, field: str) -> Answer | None:
        if not isinstance(answer, Wav):
            return answer
        path = folder / answer.file
        try:
            wav.read(path, 24_000)
        except wav.WavError as error:
            raise SettingRefused(f"{name}: {field}.file", answer.file, str(error)) from error
        return msgspec.structs.replace(answer, file=str(path.resolve()))

    return msgspec.structs.replace(
        scenario,
        answer=located(scenario.answer, "answer"),
        prompted=located(scenario.prompted, "prompted"),
        greeting=located(scenario.greeting, "greeting"),
        turns=tuple(
            msgspec.structs.replace(script, answer=located(script.answer, f"turns[{index}].answer"))
            for index, script in enumerate(scenario.turns)
        ),
    )
