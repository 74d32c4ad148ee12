"""What the settings of the offline model come to."""

from __future__ import annotations

import pytest

from providers.errors import SettingRefused
from providers.scripted.scenario import Repeat, Scenario
from providers.scripted.settings import ScriptedSettings, plan
from providers.settings import SpeechSettings, TranscriptionSettings, TurnDetectionSettings


def planned(own: ScriptedSettings | None = None, **speech: object) -> Scenario:
    return plan(own or ScriptedSettings(), SpeechSettings(**speech))  # type: ignore[arg-type]


def test_the_neutral_settings_are_followed() -> None:
    detection = TurnDetectionSettings(
        mode="server_vad", threshold=0.75, prefix_padding_ms=100, silence_ms=200, interrupt_response=False
    )
    scenario = planned(turn_detection=detection)
    assert (scenario.vad.threshold_dbfs, scenario.vad.prefix_padding_ms, scenario.vad.silence_ms) == (-35.0, 100, 200)
    assert scenario.barge_in is False
    eager = planned(turn_detection=TurnDetectionSettings(mode="semantic_vad", eagerness="high"))
    assert eager.vad.silence_ms == 250


@pytest.mark.parametrize(
    ("own", "field"),
    [
        (ScriptedSettings(answer="wav"), "providers.scripted.wav"),
        (ScriptedSettings(wav="x.wav"), "providers.scripted.wav"),
        (ScriptedSettings(answer="wav", wav="/nowhere/x.wav"), "providers.scripted.wav"),
        (ScriptedSettings(scenario="nothing"), "providers.scripted.scenario"),
    ],
)
def test_settings_that_cannot_be_served_are_refused_by_name(own: ScriptedSettings, field: str) -> None:
    with pytest.raises(SettingRefused) as refused:
        planned(own)
    assert refused.value.field == field and refused.value.mend


def test_a_neutral_setting_that_it_cannot_keep_is_refused() -> None:
    with pytest.raises(SettingRefused, match="idle_timeout_ms"):
        planned(turn_detection=TurnDetectionSettings(idle_timeout_ms=5000))


def test_own_settings_outrank_the_scenario() -> None:
    own = ScriptedSettings(scenario="tools", answer="repeat", speed=1.5, latency_ms=7, heard_limit_s=9)
    scenario = planned(own)
    assert scenario.name == "tools" and scenario.turns and scenario.answer == Repeat()
    assert (scenario.pace.speed, scenario.pace.latency_ms, scenario.session.heard_limit_s) == (1.5, 7, 9)


def test_no_words_are_made_where_none_are_wanted() -> None:
    assert not planned(transcription=TranscriptionSettings(output=False)).transcripts.output
