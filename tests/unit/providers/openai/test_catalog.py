from __future__ import annotations

import pytest

from providers.openai.catalog import DEFAULT_MODEL, DEFAULT_TRANSCRIPTION_MODEL, model_facts, transcription_facts


@pytest.mark.parametrize("model", ["gpt-realtime-2", "gpt-realtime-2.1", "gpt-realtime-2.1-mini"])
def test_the_second_generation_reasons(model: str) -> None:
    assert model_facts(model).reasoning is True


@pytest.mark.parametrize(
    "model", ["gpt-realtime", "gpt-realtime-1.5", "gpt-realtime-2025-08-28", "gpt-realtime-mini-2025-12-15"]
)
def test_the_first_generation_does_not_though_its_date_begins_with_a_two(model: str) -> None:
    facts = model_facts(model)
    assert facts.reasoning is False and not facts.not_conversational


@pytest.mark.parametrize(
    "model", ["gpt-realtime-whisper", "gpt-realtime-translate", "gpt-live-1", "gpt-4o-mini-realtime-preview"]
)
def test_what_cannot_converse_says_what_to_use_instead(model: str) -> None:
    assert "gpt-realtime-2.1" in model_facts(model).not_conversational


def test_nothing_is_refused_of_a_model_that_is_not_listed() -> None:
    assert model_facts("grok-voice-latest").reasoning is None
    facts = transcription_facts("somebody-elses")
    assert facts.keywords and facts.languages and facts.prompt and facts.delay


def test_the_defaults_are_listed() -> None:
    assert model_facts(DEFAULT_MODEL).listed
    assert transcription_facts(DEFAULT_TRANSCRIPTION_MODEL).listed
