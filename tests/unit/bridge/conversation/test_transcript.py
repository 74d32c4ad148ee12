"""Captions: in step with the speech, at word ends, every segment closed once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.conversation.stats import ConversationStats
from bridge.conversation.transcript import AgentCaptions
from bridge.core.words import Caption


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
    captions.generated("slow")
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


def test_what_is_being_said_is_readable_as_far_as_it_was_heard() -> None:
    speech = Speech()
    captions = AgentCaptions(speech, ConversationStats())
    captions.add(1, "r", "aaaa bbbb cccc", final=True)
    assert captions.so_far(0.0) == []
    speech.generated, speech.heard = 1400.0, 800.0
    captions.generated("r")
    (reply,) = captions.so_far(10.8)
    assert (reply.text, reply.heard_ms, reply.began_at, reply.ended_at) == ("aaaa bbbb", 800.0, 10.0, None)


def test_a_reply_knows_when_it_began_and_ended_to_sound() -> None:
    speech = Speech()
    captions = AgentCaptions(speech, ConversationStats())
    captions.add(1, "r", "aaaa bbbb", final=False)
    speech.generated = 900.0
    speech.heard = 100.0
    captions.release(10.1)
    speech.heard = 900.0
    captions.heard("r", 10.9)
    captions.release(12.5)
    (closed,) = captions.closed
    assert (closed.began_at, closed.ended_at) == pytest.approx((10.0, 10.9))


def test_text_that_a_lost_reply_never_spoke_is_neither_shown_nor_on_record() -> None:
    speech = Speech()
    captions = AgentCaptions(speech, ConversationStats())
    captions.add(1, "r", "aaaa bbbb cccc dddd eeee ffff", final=False)
    speech.generated = 650.0
    captions.lost("r")
    shown = ""
    for ms in range(0, 651, 50):
        speech.heard = float(ms)
        shown += text(captions.release(ms / 1000))
    captions.heard("r", 0.65)
    shown += text(captions.release(0.7))
    assert shown == "aaaa bbbb"
    (closed,) = captions.closed
    assert (closed.text, closed.lost, closed.interrupted) == ("aaaa bbbb", True, False)


def test_a_lost_reply_that_never_sounded_leaves_nothing() -> None:
    captions = AgentCaptions(Speech(), ConversationStats())
    captions.add(1, "r", "aaaa bbbb", final=False)
    captions.lost("r")
    assert captions.so_far(9.0) == [] and captions.deadline(True) is None
    assert not [*captions.release(9.0), *captions.end(9.0)]
    assert captions.closed == []


def test_a_lost_written_answer_is_on_record_as_it_was_read() -> None:
    captions = AgentCaptions(Speech(), ConversationStats())
    captions.add(1, "r", "aaaa bb", final=False, written=True)
    captions.release(1.0)
    captions.lost("r")
    captions.release(2.0)
    (closed,) = captions.closed
    assert (closed.text, closed.lost) == ("aaaa bb", True)


def test_a_reply_that_was_heard_to_its_end_without_words_is_on_record_once() -> None:
    speech = Speech()
    captions = AgentCaptions(speech, ConversationStats())
    speech.generated = speech.heard = 900.0
    captions.heard("r", 10.9)
    captions.heard("r", 10.9)
    captions.release(13.0)
    assert captions.closed == [] and captions.deadline(False) == 13.9
    captions.release(13.9)
    (closed,) = captions.closed
    assert (closed.text, closed.heard_ms, closed.began_at, closed.ended_at) == ("", 900.0, 10.0, 10.9)
    assert captions.deadline(False) is None


def test_words_that_come_after_all_are_on_record_instead() -> None:
    speech = Speech()
    captions = AgentCaptions(speech, ConversationStats())
    speech.generated = speech.heard = 900.0
    captions.heard("r", 10.9)
    captions.add(1, "r", "aaaa", final=True)
    captions.release(11.5)
    captions.release(20.0)
    assert [closed.text for closed in captions.closed] == ["aaaa"]


def test_text_of_a_reply_that_ran_dry_in_its_midst_is_shown_as_far_as_it_was_spoken() -> None:
    speech = Speech()
    captions = AgentCaptions(speech, ConversationStats())
    captions.add(1, "r", "aaaa bbbb cccc dddd eeee ffff", final=True)
    speech.generated = speech.heard = 650.0
    captions.heard("r", 5.0)
    assert text([*captions.release(5.1), *captions.release(7.0)]) == "aaaa bbbb"
    assert captions.closed[0].text == "aaaa bbbb"


@pytest.mark.parametrize("written", [False, True])
def test_a_reply_that_never_ends_does_not_grow(written: bool) -> None:
    speech, stats = Speech(), ConversationStats()
    captions = AgentCaptions(speech, stats)
    shown: list[Caption] = []
    kept = 0
    for n in range(20_000):
        captions.add(1, "r", f" word{n}", final=False, written=written)
        speech.generated += 0 if written else 500.0
        speech.heard = speech.generated
        shown += captions.release(n / 2)
        kept = max(kept, sum(len(reply.text) for reply in captions.so_far(n / 2)))
    shown += captions.cut("r", speech.heard) if not written else captions.end(1e6)
    assert kept < 4000 and stats.dropped_text == 0
    said = " ".join(reply.text.strip() for reply in captions.closed)
    assert said.split() == [f"word{n}" for n in range(20_000)][: len(said.split())]
    assert len(said.split()) >= 19_900
    assert len(captions.closed) == stats.split_segments + 1
    assert sum(reply.heard_ms for reply in captions.closed) == pytest.approx(speech.heard)
    assert sum(caption.final for caption in shown) == len({caption.segment_id for caption in shown}) > 40


def test_text_that_runs_ahead_for_ever_is_refused_and_counted() -> None:
    stats = ConversationStats()
    captions = AgentCaptions(Speech(), stats)
    for _ in range(3000):
        captions.add(1, "r", "0123456789", final=False)
    assert stats.dropped_text == 1000


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
