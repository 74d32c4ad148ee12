"""Each turn of the user has one timeline, from the end of his speech to the first sound of the answer."""

from __future__ import annotations

from bridge.conversation.timeline import Timelines
from bridge.core.words import (
    Heard,
    LocalSpeechStopped,
    ParticipantId,
    PlayoutFlushed,
    ReplyAudible,
    TextReceived,
    TurnTimeline,
)
from providers.contract import (
    Interrupted,
    ReplyStarted,
    ToolCall,
    TurnComplete,
    UserSpeechStarted,
    UserSpeechStopped,
)


class Call:
    """Events at their times; `spoke_until` is what our own ears say."""

    def __init__(self) -> None:
        self.spoke_until: float | None = None
        self.timelines = Timelines(lambda: self.spoke_until)
        self.shown: list[TurnTimeline] = []

    def at(self, now: float, *events: object, ends_turns: bool = False) -> Call:
        for event in events:
            timeline = self.timelines.handle(event, now, ends_turns=ends_turns)
            if timeline is not None:
                self.shown.append(timeline)
        return self

    def speech_at(self, now: float, reply_id: str) -> Call:
        assert self.timelines.awaits_speech
        self.timelines.speech_came(reply_id, now)
        return self


def test_a_turn_is_timed_from_the_end_of_the_speech_that_we_heard() -> None:
    call = Call()
    call.spoke_until = 9.5
    call.at(10.0, UserSpeechStopped(1)).at(10.2, ReplyStarted(1, "r"))
    call.speech_at(10.3, "r").at(10.34, ReplyAudible("r"))
    assert call.shown == [TurnTimeline(1, 9.5, 500, 700, 800, 840)]
    assert not call.timelines.awaits_speech
    assert call.timelines.stats.last_audible_ms_now == 840


def test_without_ears_of_our_own_it_counts_from_the_providers_word() -> None:
    call = Call()
    call.at(10.0, UserSpeechStopped(1)).at(10.2, ReplyStarted(1, "r")).at(10.3, ReplyAudible("r"))
    assert call.shown == [TurnTimeline(1, 10.0, 0, 200, None, 300)]


def test_a_provider_without_a_word_for_the_end_is_timed_by_our_ears() -> None:
    call = Call()
    call.spoke_until = 9.5
    call.at(10.2, ReplyStarted(1, "r")).at(10.3, ReplyAudible("r"))
    assert call.shown == [TurnTimeline(1, 9.5, None, 700, None, 800)]


def test_more_of_an_answer_and_a_greeting_are_no_turns() -> None:
    call = Call()
    call.at(1.0, ReplyStarted(1, "greeting"), ReplyAudible("greeting"))
    call.spoke_until = 9.5
    call.at(10.2, ReplyStarted(1, "r"), ReplyAudible("r"))
    call.at(14.0, ReplyStarted(1, "more"), ReplyAudible("more"))
    assert [turn.turn for turn in call.shown] == [1]


def test_our_own_detection_counts_only_where_it_ends_the_turns() -> None:
    call = Call()
    call.at(10.0, LocalSpeechStopped()).at(10.1, ReplyStarted(1, "r"), ReplyAudible("r"))
    assert call.shown == []
    call.at(20.0, LocalSpeechStopped(), ends_turns=True).at(20.1, ReplyStarted(1, "s"), ReplyAudible("s"))
    assert call.shown == [TurnTimeline(1, 20.0, 0, 100, None, 100)]


def test_a_pause_is_no_turn() -> None:
    call = Call().at(10.0, UserSpeechStopped(1)).at(10.5, UserSpeechStarted(1))
    call.at(12.0, UserSpeechStopped(1)).at(12.2, ReplyStarted(1, "r"), ReplyAudible("r"))
    assert call.shown == [TurnTimeline(1, 12.0, 0, 200, None, 200)]


def test_the_answer_after_a_tool_is_part_of_the_turn() -> None:
    call = Call().at(10.0, UserSpeechStopped(1))
    call.at(10.2, ReplyStarted(1, "calls"), ToolCall(1, "c", "weather", {}), TurnComplete(1, "calls"))
    call.at(11.0, ReplyStarted(1, "tells")).speech_at(11.1, "tells").at(11.2, ReplyAudible("tells"))
    assert call.shown == [TurnTimeline(1, 10.0, 0, 200, 1100, 1200)]


def test_a_turn_that_ends_without_a_sound_is_told_too() -> None:
    call = Call().at(10.0, UserSpeechStopped(1)).at(10.2, ReplyStarted(1, "r")).at(10.4, TurnComplete(1, "r"))
    call.at(20.0, UserSpeechStopped(1)).at(20.2, ReplyStarted(1, "s")).at(20.3, Interrupted(1, "s"))
    call.at(30.0, UserSpeechStopped(1)).at(30.2, ReplyStarted(1, "t")).speech_at(30.3, "t")
    call.at(30.4, TurnComplete(1, "t"))
    assert len(call.shown) == 2, "its speech is here, and will sound"
    call.at(30.5, PlayoutFlushed((Heard("t", 0.0, 500.0),)))
    assert [turn.audible_ms for turn in call.shown] == [None, None, None]
    assert call.timelines.stats.soundless_turns == call.timelines.stats.turns == 3


def test_an_answer_to_what_was_said_long_ago_is_none() -> None:
    call = Call().at(10.0, UserSpeechStopped(1)).at(100.0, ReplyStarted(1, "r"), ReplyAudible("r"))
    assert call.shown == []


def test_a_typed_turn_counts_from_its_arrival() -> None:
    call = Call().at(10.0, TextReceived(ParticipantId("ada"), "hello"))
    call.at(10.2, ReplyStarted(1, "r")).at(10.3, ReplyAudible("r"))
    assert call.shown == [TurnTimeline(1, 10.0, 0, 200, None, 300, typed=True)]


def test_speech_of_an_earlier_reply_is_not_the_answers() -> None:
    call = Call().at(5.0, ReplyStarted(1, "old")).at(10.0, UserSpeechStopped(1)).at(10.2, ReplyStarted(1, "r"))
    call.speech_at(10.25, "old").speech_at(10.3, "r").at(10.31, ReplyAudible("old")).at(10.35, ReplyAudible("r"))
    assert call.shown == [TurnTimeline(1, 10.0, 0, 200, 300, 350)]
