"""What a whole conversation leaves on record, and what it knows of the provider's own memory."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.conversation.conversation import ConversationSettings
from bridge.conversation.entries import Line
from bridge.conversation.memory_settings import MemorySettings, MemoryWords
from bridge.conversation.recall import Recall
from bridge.conversation.seed import going_on, seed
from bridge.core.commands import SendText
from bridge.core.words import InterruptRequested, Participant, ParticipantJoined, TextReceived
from providers.contract import (
    Closed,
    InputTranscript,
    Interrupted,
    OutputTranscript,
    ReplyStarted,
    SessionReady,
    SpeechChunk,
    ToolCall,
    TurnComplete,
    UserSpeechStarted,
    UserSpeechStopped,
)
from tests.fakes.playbook import ANN, GEMINI, OPENAI, Playbook

SETTINGS = ConversationSettings(
    memory=MemorySettings(words=MemoryWords(go_on="on: {heard}", heard_in_part="heard: {heard}"))
)
REPAIRABLE = msgspec.structs.replace(GEMINI, repairable_memory=True)
TEN = "one two three four five six seven eight nine ten"
LOST = Closed(1, 1006, "gone")


def lines(call: Playbook) -> list[tuple[str, str]]:
    return [("model" if line.speaker is None else line.speaker, line.text.strip()) for line in call.call.ledger.lines]


def texts(call: Playbook) -> list[str]:
    return [item.text for item in seed(call.call.ledger, call.now, items=99, chars=9999)]


# --------------------------------------------------------------------------------------------------------- the record


def test_lines_know_when_they_were_spoken() -> None:
    call = Playbook(OPENAI).connected()
    begun = call.now
    call.happens(UserSpeechStarted(1))
    call.run(1000)
    call.happens(UserSpeechStopped(1))
    call.run(300)
    call.model_says("r", 2000, "Very well.")
    call.turn_ends("r")
    call.run(4000)
    call.user_said("t", "a table for four", final=True)
    reply, turn = call.call.ledger.lines
    assert (turn.at, turn.ended_at) == pytest.approx((begun - 0.3, begun + 1.0))
    assert (reply.at, reply.ended_at) == pytest.approx((begun + 1.3, begun + 3.3), abs=0.05)
    assert texts(call) == ["a table for four", "Very well."]


def test_words_that_trail_in_behind_the_reply_belong_before_it() -> None:
    call = Playbook(GEMINI).connected()
    call.model_says("r", 2000, "Very well.")
    call.run(400)
    call.user_said("t", "a table for four")
    call.turn_ends("r")
    call.run(20_000)
    assert texts(call) == ["a table for four", "Very well."]
    assert going_on(call.call.ledger, call.now) == ""


def test_what_the_room_heard_of_an_unfinished_reply_can_be_told_at_once() -> None:
    call = Playbook(OPENAI, SETTINGS).connected()
    call.model_says("r", 5000, TEN)
    call.run(2400)
    assert call.call.ledger.lines == ()
    assert texts(call) == ["one two three four five"]


def test_a_turn_that_is_still_being_spoken_can_be_told_at_once() -> None:
    call = Playbook(OPENAI).connected()
    call.happens(UserSpeechStarted(1))
    call.user_said("t", "I would like")
    assert texts(call) == ["I would like"]


def test_a_lost_reply_is_gone_on_with_from_what_was_heard() -> None:
    call = Playbook(OPENAI, SETTINGS).connected()
    call.happens(ReplyStarted(1, "r"), OutputTranscript(1, "r", TEN))
    call.happens(SpeechChunk(1, "r", bytes([1, 1]) * 24 * 650))
    call.run(300)
    call.happens(LOST)
    assert texts(call) == ["one"]
    assert going_on(call.call.ledger, call.now) == "on: one two"  # what is on its way to the ear is not said twice
    call.run(3000)
    (line,) = call.call.ledger.lines
    assert (line.text, line.lost, line.interrupted) == ("one two", True, False)
    assert going_on(call.call.ledger, call.now) == "on: one two"


def test_a_reply_that_was_complete_when_its_session_was_lost_is_not_gone_on_with() -> None:
    call = Playbook(OPENAI, SETTINGS).connected()
    call.model_says("r", 2000, TEN)
    call.happens(LOST)
    call.run(5000)
    assert lines(call) == [("model", TEN)]
    assert going_on(call.call.ledger, call.now) == ""


@pytest.mark.parametrize("final", [False, True])
def test_a_turn_that_the_next_session_hears_again_is_on_record_once_and_where_it_was_spoken(final: bool) -> None:
    call = Playbook(OPENAI).connected()
    begun = call.now
    call.happens(UserSpeechStarted(1))
    call.run(1000)
    call.happens(UserSpeechStopped(1))
    call.user_said("t", "a table for", final=final)
    call.happens(LOST)
    call.call.will_hear_again()
    call.happens(SessionReady(2, "s"))
    call.run(800)
    call.happens(UserSpeechStarted(2), UserSpeechStopped(2))
    assert texts(call) == ["a table for"]
    call.happens(InputTranscript(2, "t", "a table for four", True))
    assert texts(call) == ["a table for four"]
    (line,) = call.call.ledger.lines
    assert (line.at, line.ended_at) == pytest.approx((begun - 0.3, begun + 1.0))


def test_typed_turns_of_the_room_and_of_the_application_are_on_record() -> None:
    call = Playbook(OPENAI).connected()
    call.happens(TextReceived(ANN, "from the room"))
    call.call.noted("from the application", call.now)
    call.call.noted("  ", call.now)
    assert lines(call) == [("ann", "from the room"), ("ann", "from the application")]
    assert all(line.typed and line.at == line.ended_at for line in call.call.ledger.lines)


def test_people_are_called_by_their_names() -> None:
    call = Playbook(OPENAI).connected()
    call.happens(ParticipantJoined(Participant(ANN, name="Ann Smith")))
    call.user_said("t", "hello", final=True)
    assert call.call.ledger.transcript()[0].name == "Ann Smith"


WORDS = TEN.split()


@settings(max_examples=120, deadline=None)
@given(
    told_words=st.integers(1, 10),
    spoken_words=st.integers(0, 10),
    complete=st.booleans(),
    heard_ms=st.integers(0, 5000),
    end=st.sampled_from(["interrupted", "lost", "lost and interrupted", "still open"]),
)
def test_no_reply_is_told_further_than_it_was_heard(
    told_words: int, spoken_words: int, complete: bool, heard_ms: int, end: str
) -> None:
    """Ten words of 400 ms and 40 characters' time each; the text may run far ahead of the speech."""
    words = [word.ljust(7, "x") for word in WORDS]
    spoken_words = told_words if complete else min(spoken_words, told_words)
    call = Playbook(OPENAI).connected()
    call.happens(ReplyStarted(1, "r"), OutputTranscript(1, "r", " ".join(words[:told_words])))
    call.happens(SpeechChunk(1, "r", bytes([1, 1]) * 24 * 520 * spoken_words))  # as fast as a voice is believed to be
    if complete:
        call.happens(OutputTranscript(1, "r", "", final=True))
    call.run(heard_ms)
    heard = call.playout.heard_ms("r", call.now)
    if "lost" in end:
        call.happens(LOST)
    if "interrupted" in end:
        call.happens(Interrupted(1, "r"))
    if end == "lost":
        call.run(9000)
        heard = 520.0 * spoken_words
    told = [text for text in texts(call) if text]
    shown = call.shown("-r").split()
    said = told[0].split() if told else []
    assert said == words[: len(said)]
    assert (len(said) - 0.5) * 520 <= heard + 25
    assert len(shown) <= len(said)


# ------------------------------------------------------------------------------------------------ the provider's memory


def interrupted(call: Playbook) -> Playbook:
    """Half of a reply was heard when the user spoke; his answer has been heard too."""
    call.model_says("r1", 4000, TEN)
    call.run(1990)
    call.happens(Interrupted(1, "r1"), TurnComplete(1, "r1", "interrupted"))
    call.user_said("t", "wait")
    return call


def answered(call: Playbook) -> Playbook:
    call.model_says("r2", 1000, "As you wish.")
    call.turn_ends("r2")
    call.user_said("t", "wait", final=True)
    call.run(1100)
    return call


def dirty(call: Playbook) -> bool:
    return call.call.memory.is_wrong


def notes(call: Playbook) -> list[SendText]:
    return [command for command in call.of(SendText) if isinstance(command, SendText)]


def test_a_provider_that_cannot_forget_is_told_what_was_heard_once_and_without_an_answer() -> None:
    call = answered(interrupted(Playbook(REPAIRABLE, SETTINGS).connected()))
    assert dirty(call)
    call.run(3000)
    assert notes(call) == [SendText("heard: one two three four five", respond=False)]
    assert not dirty(call)
    assert lines(call)[-1] == ("model", "As you wish.")  # the note is nobody's turn


def test_while_anything_goes_on_the_provider_is_told_nothing() -> None:
    call = interrupted(Playbook(REPAIRABLE, SETTINGS).connected())
    call.run(5000)
    assert not notes(call)  # the user has not been answered
    call.model_says("r2", 1000, "As you wish.")
    call.turn_ends("r2")
    call.user_said("t", "wait", final=True)
    call.happens(ToolCall(1, "c", "dig", {}))
    call.run(8000)
    assert not notes(call)  # a tool runs
    call = answered(interrupted(Playbook(REPAIRABLE, SETTINGS).connected()))
    call.run(300)
    call.happens(UserSpeechStarted(1))
    call.run(5000)
    assert not notes(call)  # somebody speaks


def test_a_session_that_was_told_of_words_on_their_way_to_the_ear_is_distrusted_when_they_are_cut() -> None:
    call = Playbook(OPENAI, SETTINGS).connected()
    recall = Recall(call.call.ledger, call.call.memory, lambda: call.now)
    call.happens(ReplyStarted(1, "r"), OutputTranscript(1, "r", TEN))
    call.happens(SpeechChunk(1, "r", bytes([1, 1]) * 24 * 2000))
    call.run(300)
    call.happens(LOST, SessionReady(2, "s"))
    assert recall.going_on() == "on: one two three four five six"
    assert not dirty(call)
    call.happens(InterruptRequested())
    assert dirty(call)
    assert lines(call) == [("model", "one")]


def test_where_repair_is_not_allowed_the_memory_stays_wrong_until_the_next_seed() -> None:
    call = answered(interrupted(Playbook(GEMINI, SETTINGS).connected()))
    call.run(60_000)
    assert not notes(call) and dirty(call)
    call.happens(LOST, SessionReady(2, "s", resumed=True))
    assert dirty(call)
    call.happens(Closed(2, 1006, "gone"), SessionReady(3, "s"))
    assert not dirty(call)


def test_a_provider_that_forgets_by_itself_or_on_demand_is_not_distrusted() -> None:
    call = answered(interrupted(Playbook(OPENAI, SETTINGS).connected()))
    assert not dirty(call) and not notes(call)


def test_the_record_of_a_call_holds_all_that_was_heard_in_its_order() -> None:
    call = answered(interrupted(Playbook(GEMINI, SETTINGS).connected()))
    call.run(3000)
    entries = [entry for entry in call.call.ledger.recent(call.now) if isinstance(entry, Line)]
    assert [entry.text for entry in entries] == ["one two three four five", "wait", "As you wish."]
