from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.contract import OutboxStats
from providers.outbox import AudioOutbox, OutboxFull


def test_order_of_audio_and_messages_is_kept() -> None:
    outbox = AudioOutbox(1000, OutboxStats())
    outbox.push_audio(b"a1", 20)
    outbox.push(b"m1")
    outbox.push_audio(b"a2", 20)
    outbox.push(b"m2")
    assert [outbox.pop() for _ in range(len(outbox))] == [b"a1", b"m1", b"a2", b"m2"]
    assert outbox.stats == OutboxStats(sent_messages=4, sent_audio_ms=40)


def test_full_of_audio_the_oldest_goes_and_messages_stay() -> None:
    outbox = AudioOutbox(60, OutboxStats())
    outbox.push(b"first")
    for number in range(5):
        outbox.push_audio(b"%d" % number, 20)
    assert [outbox.pop() for _ in range(len(outbox))] == [b"first", b"2", b"3", b"4"]
    assert (outbox.stats.dropped_audio_messages, outbox.stats.dropped_audio_ms) == (2, 40)


def test_newest_audio_stays_though_it_is_longer_than_the_bound() -> None:
    outbox = AudioOutbox(200, OutboxStats())
    outbox.push_audio(b"old", 20)
    outbox.push_audio(b"early speech", 5000)
    assert [outbox.pop()] == [b"early speech"]
    assert len(outbox) == 0 and outbox.waiting_ms == 0


@pytest.mark.parametrize(
    "outbox", [AudioOutbox(1, OutboxStats(), max_messages=2), AudioOutbox(1, OutboxStats(), max_bytes=9)]
)
def test_messages_beyond_their_bound_are_refused_aloud(outbox: AudioOutbox) -> None:
    outbox.push(b"1234")
    outbox.push(b"1234")
    with pytest.raises(OutboxFull, match="2 messages, 8 bytes"):
        outbox.push(b"1234")
    outbox.pop()
    outbox.push(b"1234")


def test_end_counts_what_was_never_sent() -> None:
    outbox = AudioOutbox(1000, OutboxStats())
    outbox.push(b"tool result")
    outbox.push_audio(b"a", 20)
    outbox.drop_all()
    assert len(outbox) == 0
    assert outbox.stats == OutboxStats(dropped_audio_messages=1, dropped_audio_ms=20, unsent_messages=1)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("audio"), st.sampled_from([10.0, 20.0, 33.3, 100.0, 700.0])),
        st.tuples(st.just("message"), st.just(0.0)),
        st.tuples(st.just("pop"), st.just(0.0)),
        st.tuples(st.just("pop"), st.just(0.0)),
        st.tuples(st.just("end"), st.just(0.0)),
    ),
    min_size=20,
    max_size=200,
)


@given(STEPS)
def test_nothing_is_reordered_lost_or_kept_beyond_the_bound(steps: list[tuple[str, float]]) -> None:
    limit_ms = 300.0
    stats = OutboxStats()
    outbox = AudioOutbox(limit_ms, stats, max_messages=4, max_bytes=10)
    sent: list[int] = []
    durations: dict[int, float] = {}
    messages: list[int] = []
    given_up: set[int] = set()
    for number, (step, duration_ms) in enumerate(steps):
        if step == "audio":
            durations[number] = duration_ms
            outbox.push_audio(b"%d" % number, duration_ms)
            assert outbox.waiting_ms <= max(limit_ms, duration_ms) + 1e-6
        elif step == "message":
            waiting = [one for one in messages if one not in sent and one not in given_up]
            if len(waiting) == 4 or sum(len(str(one)) for one in (*waiting, number)) > 10:
                with pytest.raises(OutboxFull):
                    outbox.push(b"%d" % number)
                continue
            messages.append(number)
            outbox.push(b"%d" % number)
        elif step == "end":
            given_up |= set(messages) - set(sent)
            outbox.drop_all()
            assert not outbox
        elif outbox:
            sent.append(int(outbox.pop()))
    while outbox:
        sent.append(int(outbox.pop()))
    assert sent == sorted(sent)
    assert set(messages) - set(sent) == given_up
    assert stats.unsent_messages == len(given_up)
    sent_ms = sum(durations.get(number, 0.0) for number in sent)
    assert stats.sent_messages == len(sent)
    assert stats.sent_audio_ms == pytest.approx(sent_ms)
    assert stats.dropped_audio_messages == len(durations.keys() - sent)
    assert stats.sent_audio_ms + stats.dropped_audio_ms == pytest.approx(sum(durations.values()))
    assert outbox.waiting_ms == 0
