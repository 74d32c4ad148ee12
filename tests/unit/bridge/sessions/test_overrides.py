"""What was changed stays until it is changed again, and what a session lacks of it is known."""

from __future__ import annotations

from bridge.sessions.overrides import CallOverrides, Overrides
from providers.contract import ToolSpec

WEATHER = (ToolSpec(name="weather"),)


def test_a_later_change_leaves_the_others_as_they_were() -> None:
    earlier = Overrides(instructions="be brief", tools=WEATHER)
    assert Overrides(instructions="", voice="marin").over(earlier) == Overrides(
        instructions="", tools=WEATHER, voice="marin"
    )
    assert Overrides().over(earlier) == earlier


def test_no_tools_is_a_change_and_no_word_of_tools_is_none() -> None:
    assert Overrides(tools=()).given() == {"tools": ()}
    assert Overrides().given() == {}


def test_what_a_session_lacks_is_what_differs_either_way() -> None:
    knows = Overrides(instructions="be brief", voice="marin")
    assert knows.lacks(Overrides(instructions="be brief", tools=WEATHER)) == ["tools", "voice"]
    assert knows.lacks(knows) == []


def test_a_voice_is_of_one_provider_and_all_else_of_the_call() -> None:
    changed = CallOverrides()
    changed.add(Overrides(voice="marin", instructions="be brief"), "openai")
    changed.add(Overrides(tools=WEATHER), "gemini")
    assert changed.of("openai") == Overrides(instructions="be brief", tools=WEATHER, voice="marin")
    assert changed.of("gemini") == Overrides(instructions="be brief", tools=WEATHER)
    changed.add(Overrides(voice="Kore"), "gemini")
    changed.forget_voice("openai")
    assert [changed.of(provider).voice for provider in ("openai", "gemini")] == [None, "Kore"]
