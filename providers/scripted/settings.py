"""`[providers.scripted]`: what the offline model says, and how its settings become a scenario."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from providers.errors import SettingRefused
from providers.scripted import scenario
from providers.scripted.scenario import Repeat, Scenario, ServerVad, Wav
from providers.settings import SpeechSettings
from providers.signal import wav as wav_files

__all__ = ["ScriptedSettings", "plan"]

_EAGER_SILENCE_MS = {"low": 900, "medium": 500, "auto": 500, "high": 250}


class ScriptedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model that needs no key and no network. Thinking, temperature, language and voice have no effect on it."""

    scenario: str = "echo"
    """A scenario file (TOML), or the name of a ready one: echo, realtime, bursts, tools, rollover, duplex, faulty."""
    answer: Literal["scenario", "repeat", "wav"] = "scenario"
    """What it answers: as the scenario says, what it heard, or the sound of `wav`."""
    wav: str | None = None
    """WAV file of any rate and width, for `answer = "wav"`."""
    input_rate_hz: Literal[16_000, 24_000] = 24_000
    """Rate of the audio that it takes, Hz."""
    speed: Annotated[float, Meta(ge=0.05, le=1000)] | None = None
    """Its speech arrives at this multiple of real time. None: as the scenario says."""
    latency_ms: Annotated[int, Meta(ge=0, le=60_000)] | None = None
    """From the end of a turn to its first speech, ms. None: as the scenario says."""
    heard_limit_s: Annotated[float, Meta(ge=1, le=3600)] = 60.0
    """How much of what it heard it keeps, s; a longer turn is repeated without its beginning."""


def plan(own: ScriptedSettings, speech: SpeechSettings) -> Scenario:
    """The scenario that these settings come to. Raises SettingRefused before anything is opened."""
    if own.answer == "wav" and not own.wav:
        raise SettingRefused("providers.scripted.wav", own.wav, 'name the file to be spoken, or set answer = "repeat"')
    if own.wav and own.answer != "wav":
        raise SettingRefused("providers.scripted.wav", own.wav, 'is read with answer = "wav" only: set that, too')
    detection = speech.turn_detection
    if detection.idle_timeout_ms is not None:
        field = "speech.turn_detection.idle_timeout_ms"
        raise SettingRefused(field, detection.idle_timeout_ms, "the scripted model never speaks up: leave it out")
    try:
        planned = scenario.load(own.scenario)
    except SettingRefused as refused:
        field = "providers.scripted.scenario" if refused.field == "scenario" else refused.field
        raise SettingRefused(field, refused.value, refused.mend) from refused
    answer = planned.answer
    if own.answer == "repeat":
        answer = Repeat()
    elif own.wav:
        try:
            wav_files.read(own.wav, 24_000)
        except wav_files.WavError as error:
            raise SettingRefused("providers.scripted.wav", own.wav, str(error)) from error
        answer = Wav(file=own.wav)
    pace = msgspec.structs.replace(
        planned.pace,
        speed=planned.pace.speed if own.speed is None else own.speed,
        latency_ms=planned.pace.latency_ms if own.latency_ms is None else own.latency_ms,
    )
    transcripts = msgspec.structs.replace(
        planned.transcripts, output=planned.transcripts.output and speech.transcription.output
    )
    return msgspec.structs.replace(
        planned,
        answer=answer,
        pace=pace,
        transcripts=transcripts,
        vad=_vad(planned.vad, speech),
        barge_in=planned.barge_in and detection.interrupt_response,
        session=msgspec.structs.replace(planned.session, heard_limit_s=own.heard_limit_s),
    )


def _vad(planned: ServerVad, speech: SpeechSettings) -> ServerVad:
    """Energy stands in for every detector, a semantic one too: its eagerness becomes a pause."""
    asked = speech.turn_detection
    silence_ms = asked.silence_ms
    if silence_ms is None and asked.eagerness is not None:
        silence_ms = _EAGER_SILENCE_MS[asked.eagerness]
    return ServerVad(
        enabled=planned.enabled and asked.mode != "manual",
        # 0.5 is the scenario format's own default of -45 dBFS; each tenth is 4 dB.
        threshold_dbfs=planned.threshold_dbfs if asked.threshold is None else 40.0 * asked.threshold - 65.0,
        onset_ms=planned.onset_ms,
        prefix_padding_ms=planned.prefix_padding_ms if asked.prefix_padding_ms is None else asked.prefix_padding_ms,
        silence_ms=planned.silence_ms if silence_ms is None else max(10, silence_ms),
    )
