"""Words are matched with the turns in which they were spoken."""

from __future__ import annotations

from bridge.conversation.speakers import Speakers
from bridge.core.words import ParticipantId

ANN, BEN = ParticipantId("ann"), ParticipantId("ben")


def asked() -> tuple[Speakers, list[tuple[float, float]]]:
    windows: list[tuple[float, float]] = []

    def who_spoke(since: float, until: float) -> ParticipantId | None:
        windows.append((since, until))
        return None

    return Speakers(who_spoke), windows


def test_turns_are_matched_in_order() -> None:
    speakers, windows = asked()
    for start in (10.0, 20.0):
        speakers.turn_began(start)
        speakers.turn_ended(start + 2)
    speakers.of_words(22.5)
    speakers.of_words(22.6)
    assert windows == [(9.7, 12.0), (19.7, 22.0)]


def test_a_turn_that_was_not_transcribed_is_given_up() -> None:
    speakers, windows = asked()
    speakers.turn_began(10.0)
    speakers.turn_ended(12.0)
    speakers.turn_began(30.0)
    speakers.turn_ended(32.0)
    speakers.of_words(32.5)
    assert windows == [(29.7, 32.0)]


def test_words_may_come_while_their_turn_goes_on() -> None:
    speakers, windows = asked()
    speakers.turn_began(10.0)
    speakers.of_words(11.0)
    speakers.turn_ended(12.0)
    speakers.turn_began(14.0)
    speakers.of_words(15.0)
    assert windows == [(9.7, 11.0), (13.7, 15.0)]


def test_without_events_words_belong_to_the_last_seconds() -> None:
    speakers, windows = asked()
    speakers.of_words(10.0)
    assert windows == [(7.0, 10.0)]


def test_if_nobody_was_loud_it_was_one_who_is_there() -> None:
    speakers, _ = asked()
    speakers.joined(ANN)
    speakers.joined(BEN)
    speakers.left(ANN)
    assert speakers.of_words(1.0).speaker == BEN


def test_words_know_when_they_were_spoken() -> None:
    speakers, _ = asked()
    speakers.turn_began(10.0)
    speakers.turn_ended(12.0)
    late = speakers.of_words(15.0)
    assert (late.since, late.until) == (9.7, 12.0)
    speakers.turn_began(20.0)
    early = speakers.of_words(21.0)
    assert (early.since, early.until) == (19.7, None)
    speakers.turn_ended(22.0)
    unannounced = speakers.of_words(30.0)
    assert (unannounced.since, unannounced.until) == (30.0, None)
