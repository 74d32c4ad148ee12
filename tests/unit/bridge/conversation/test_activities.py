"""Those who watch are told how a tool call goes, and nothing of what is in it."""

from __future__ import annotations

from bridge.conversation.activities import Activities
from bridge.core.commands import ShowActivity
from bridge.core.words import Activity, ReplyAudible, ToolActivity, ToolAnswered, ToolState, TurnTimeline
from providers.contract import ReplyStarted, ToolCall, ToolCallCancelled, UserSpeechStopped


def shown(activities: Activities, now: float, *events: object) -> list[Activity]:
    commands = [command for event in events for command in activities.handle(event, now, ends_turns=False)]
    return [command.activity for command in commands if isinstance(command, ShowActivity)]


def test_a_call_is_shown_from_its_start_to_its_end() -> None:
    activities = Activities()
    call = ToolCall(1, "c1", "weather", {"where": "a secret"})
    assert shown(activities, 5.0, call) == [ToolActivity("c1", "weather", ToolState.STARTED)]
    answered = ToolAnswered("c1", "weather", "rain")
    assert shown(activities, 5.25, answered) == [ToolActivity("c1", "weather", ToolState.ANSWERED, 250)]


def test_an_error_and_a_result_that_nobody_took_are_failures() -> None:
    activities = Activities()
    shown(activities, 1.0, ToolCall(1, "a", "t", {}), ToolCall(1, "b", "t", {}))
    told = shown(activities, 2.0, ToolAnswered("a", "t", "no", error=True), ToolAnswered("b", "t", "yes", told=False))
    assert told == [ToolActivity("a", "t", ToolState.FAILED, 1000), ToolActivity("b", "t", ToolState.FAILED, 1000)]


def test_a_call_that_is_taken_back_is_cancelled_and_one_that_runs_at_the_end_too() -> None:
    activities = Activities()
    shown(activities, 1.0, ToolCall(1, "a", "t", {}), ToolCall(2, "b", "t", {}))
    assert shown(activities, 1.5, ToolCallCancelled(1, ("a", "unknown"))) == [
        ToolActivity("a", "t", ToolState.CANCELLED, 500)
    ]
    assert activities.end(2.0) == [ShowActivity(ToolActivity("b", "t", ToolState.CANCELLED, 1000))]
    assert activities.end(2.0) == []


def test_a_repetition_is_not_shown_again() -> None:
    activities = Activities()
    call = ToolCall(1, "a", "t", {})
    shown(activities, 1.0, call, call, ToolAnswered("a", "t", "x"))
    assert shown(activities, 2.0, call) == []


def test_calls_without_an_id_are_known_by_name() -> None:
    activities = Activities()
    for _ in range(2):
        assert len(shown(activities, 1.0, ToolCall(1, "", "t", {}), ToolAnswered("", "t", "x"))) == 2


def test_what_is_known_is_bounded() -> None:
    activities = Activities()
    for number in range(300):
        shown(activities, 1.0, ToolCall(1, str(number), "t", {}))
    assert len(activities.end(2.0)) == 256


def test_timelines_are_shown_too() -> None:
    activities = Activities(lambda: 9.5)
    events = UserSpeechStopped(1), ReplyStarted(1, "r"), ReplyAudible("r")
    assert shown(activities, 10.0, *events) == [TurnTimeline(1, 9.5, 500, 500, None, 500)]
