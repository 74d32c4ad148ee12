"""Captions: in step with the speech, at word ends, every segment closed once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.conversation.stats import ConversationStats
from bridge.conversation.transcript import AgentCaptions, UserCaptions
from bridge.core.words import Caption, ParticipantId

ANN = ParticipantId("ann")


class Speech:
    """One reply, wherever a test puts it."""

    def __init__(self) -> None:
        self.heard = 0.0
        self.generated = 0.0

    def heard_ms(self, reply_id: str, now: float) -> float:
        return self.heard

    def generated_ms(self, reply_id: str) -> float:
        return self.generated

    def sounding(self, now: float) -> str | None:
        return "r"

    def drained(self, now: float) -> bool:
        return False


def text(captions: list[Caption]) -> str:
    return "".join(caption.text for caption in captions)


def test_a_word_appears_when_half_of_it_has_been_spoken() -> None:
    speech = Speech()
    captions = AgentCaptions(speech, ConversationStats())
    captions.add(1, "r", "aaaa bbbb cccc", final=True)
    speech.generated = 1400.0
    captions.generated("r")
    shown = ""
    seen = {}
    for ms in range(0, 1401, 50):
        speech.heard = float(ms)
        piece = text(captions.release(ms / 1000))
        if piece:
            shown += piece
            seen[shown.strip()] = ms
    assert list(seen) == ["aaaa", "aaaa bbbb", "aaaa bbbb cccc"]
    assert seen["aaaa"] in range(150, 301)
    assert seen["aaaa bbbb"] in range(650, 801)


def test_scripts_without_spaces_are_cut_at_any_character() -> None:
    speech = Speech()
    captions = AgentCaptions(speech, ConversationStats())
    captions.add(1, "r", "今天天气很好", final=True)
    speech.generated = 1200.0
    captions.generated("r")
    speech.heard = 650.0
    assert text(captions.release(0.0)) == "今天天"


def test_a_word_that_may_still_grow_is_not_shown_yet() -> None:
    speech = Speech()
    captions = AgentCaptions(speech, ConversationStats())
    captions.add(1, "r", "one tw", final=False)
    speech.generated = speech.heard = 380.0
    assert text(captions.release(0.0)) == "one"
    captions.add(1, "r", "o three", final=False)
    speech.generated = speech.heard = 500.0
    assert text(captions.release(0.1)).strip() == "two"


def test_the_voice_of_the_call_is_learnt() -> None:
    speech = Speech()
    captions = AgentCaptions(speech, ConversationStats())
    captions.add(1, "slow", "0123456789", final=True)
    speech.generated = speech.heard = 2000.0
    captions.heard("slow", 1.0)
    captions.release(1.0)
    speech.heard = speech.generated = 0.0
    captions.add(1, "r", "aaaa bbbb cccc dddd", final=False)
    speech.heard = speech.generated = 1000.0
    assert text(captions.release(2.0)).strip() == "aaaa"  # 200 ms a character


def test_after_the_cut_nothing_of_the_reply_is_shown() -> None:
    speech = Speech()
    stats = ConversationStats()
    captions = AgentCaptions(speech, stats)
    captions.add(1, "r", "aaaa bbbb cccc", final=True)
    speech.generated = 1400.0
    captions.generated("r")
    (cut,) = captions.cut("r", 500.0)
    assert (cut.text, cut.final, cut.interrupted) == ("aaaa", True, True)
    captions.add(1, "r", " dddd", final=True)
    assert captions.release(5.0) == []
    assert stats.late_text == 1
    assert captions.deadline(True) is None


def test_a_reply_without_words_is_still_on_record() -> None:
    captions = AgentCaptions(Speech(), ConversationStats())
    assert captions.cut("r", 300.0) == []
    assert captions.closed[0].heard_ms == 300.0


def test_too_many_open_segments_are_closed() -> None:
    stats = ConversationStats()
    captions = AgentCaptions(Speech(), stats)
    for n in range(20):
        captions.add(1, f"r{n}", "words", final=False, written=True)
        captions.release(0.0)
    assert stats.abandoned_segments == 12


def test_empty_words_open_no_segment() -> None:
    captions = UserCaptions(ConversationStats())
    assert captions.update(1, "t", " ", final=False, speaker=ANN, now=0.0) == []
    assert captions.update(1, "t", "", final=True, speaker=ANN, now=0.0) == []


def test_turns_of_two_sessions_are_two_segments() -> None:
    captions = UserCaptions(ConversationStats())
    (first,) = captions.update(1, "t", "a", final=True, speaker=ANN, now=0.0)
    (second,) = captions.update(2, "t", "b", final=True, speaker=ANN, now=0.0)
    assert first.segment_id != second.segment_id


@pytest.mark.parametrize("interrupt", [False, True])
@settings(max_examples=150, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.text("ab \u5929", min_size=1, max_size=12), st.integers(0, 900)), max_size=12),
    steps=st.lists(st.integers(0, 900), max_size=12),
)
def test_what_is_shown_is_a_beginning_of_the_text_in_order(
    interrupt: bool, pieces: list[tuple[str, int]], steps: list[int]
) -> None:
    speech = Speech()
    captions = AgentCaptions(speech, ConversationStats())
    said, shown = "", []
    now = 0.0
    for n, (delta, more_ms) in enumerate(pieces):
        captions.add(1, "r", delta, final=False)
        said += delta
        speech.generated += more_ms
        speech.heard = min(speech.generated, speech.heard + (steps[n] if n < len(steps) else 0))
        now += 0.1
        shown += captions.release(now)
        assert said.startswith(text(shown))
    if interrupt:
        shown += captions.cut("r", speech.heard)
    else:
        speech.heard = speech.generated
        captions.heard("r", now)
        captions.turn_done("r", now)
        shown += captions.release(now + 2)
        assert text(shown) == said
    assert said.startswith(text(shown))
    assert sum(caption.final for caption in shown) == (1 if shown else 0)
    assert not shown or shown[-1].final
