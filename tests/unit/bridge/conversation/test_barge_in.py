"""Policies of replies, and the patience that local detection needs."""

from __future__ import annotations

from typing import Literal

import pytest

from bridge.conversation.barge_in import BargeIn, BargeInPolicy, BargeInSettings
from bridge.conversation.stats import ConversationStats


def barge_in(**settings: object) -> BargeIn:
    return BargeIn(BargeInSettings(**settings), ConversationStats())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "heard_ms", "wait_ms"),
    [
        (BargeInPolicy(), 0.0, 0.0),
        (BargeInPolicy(mode="never"), 9999.0, None),
        (BargeInPolicy(mode="after", after_ms=500), 200.0, 300.0),
        (BargeInPolicy(mode="after", after_ms=500), 500.0, 0.0),
    ],
)
def test_a_policy_says_how_long_a_reply_is_safe(policy: BargeInPolicy, heard_ms: float, wait_ms: float | None) -> None:
    assert barge_in(policy=policy).wait_ms("r", heard_ms) == wait_ms


@pytest.mark.parametrize("mode", ["allow", "never"])
def test_a_time_that_would_not_count_is_refused(mode: Literal["allow", "never"]) -> None:
    with pytest.raises(ValueError, match=r"after_ms = 500 counts with mode = 'after' only"):
        BargeInPolicy(mode=mode, after_ms=500)


def test_a_policy_for_the_next_reply_is_for_that_one_alone() -> None:
    made = barge_in()
    made.next_reply(BargeInPolicy(mode="never"), 0.0)
    made.reply_started("a", 1.0)
    made.reply_started("b", 2.0)
    assert made.wait_ms("a", 0.0) is None
    assert made.wait_ms("b", 0.0) == 0.0


def test_a_policy_for_a_reply_that_never_came_is_forgotten() -> None:
    made = barge_in()
    made.next_reply(BargeInPolicy(mode="never"), 0.0)
    made.reply_started("a", 60.0)
    assert made.wait_ms("a", 0.0) == 0.0


def test_local_speech_counts_once_when_it_lasted() -> None:
    made = barge_in(min_speech_ms=200)
    made.speech_started(1.0)
    assert not made.speech_counts(1.1)
    assert made.deadline() == pytest.approx(1.2)
    assert made.speech_counts(1.2)
    assert not made.speech_counts(1.3)


def test_only_the_first_reply_is_guarded_against_its_echo() -> None:
    made = barge_in(min_speech_ms=100, greeting_guard_ms=400)
    made.reply_audible(10.0)
    made.speech_started(10.1)
    assert made.deadline() == pytest.approx(10.5)
    made.speech_stopped(10.6)
    made.reply_audible(20.0)
    made.speech_started(20.1)
    assert made.deadline() == pytest.approx(20.2)


def test_one_who_speaks_when_a_reply_begins_is_heard_out_anew() -> None:
    made = barge_in(min_speech_ms=200, greeting_guard_ms=0)
    made.speech_started(1.0)
    assert made.speech_counts(1.5)
    made.reply_audible(2.0)
    assert made.deadline() == pytest.approx(2.2)
