"""Speech out: nothing lost, nothing twice, silence at once, and the truth about what was heard."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.audio.playout import Playout, PlayoutSettings
from bridge.core.words import Heard, PlayoutEvent, ReplyAudible, ReplyHeard, Underrun
from providers.signal.formats import PCM16_24K, PCMU_8K
from tests.fakes.sink import FakeSink

RNG = np.random.default_rng(7)


def speech(ms: float) -> bytes:
    return RNG.integers(-20_000, 20_000, int(24 * ms), dtype=np.int16).tobytes()


class Stage:
    """A playout on a fake room, fed every 20 ms. How the model's speech comes counts as known unless a test says."""

    def __init__(self, settings: PlayoutSettings | None = None) -> None:
        self.sink = FakeSink()
        self.playout = Playout(self.sink, PCM16_24K, settings or PlayoutSettings(first_cushion_ms=0))
        self.now = 100.0
        self.sink.now = self.now
        self.events: list[PlayoutEvent] = []

    def say(self, reply_id: str, audio: bytes) -> bool:
        taken = self.playout.push(reply_id, audio, self.now)
        self.events += self.playout.feed(self.now)
        return taken

    def finish(self, reply_id: str) -> None:
        self.playout.finish(reply_id, self.now)
        self.events += self.playout.feed(self.now)

    def run(self, ms: float) -> None:
        until = self.now + ms / 1000
        while self.now + 1e-9 < until:
            self.now = min(self.now + 0.02, until)
            self.sink.run(self.now)
            self.events += self.playout.feed(self.now)


def test_first_speech_goes_out_at_once() -> None:
    stage = Stage()
    stage.say("a", speech(40))
    assert len(stage.sink.plays) == 1
    assert stage.events == [ReplyAudible("a")]


def test_a_burst_is_handed_on_in_pieces_and_kept_a_lead_deep() -> None:
    stage = Stage()
    stage.say("a", speech(2000))
    assert 200 <= stage.sink.queued_ms(stage.now) <= 300
    for _ in range(80):
        stage.run(20)
        assert 180 <= stage.sink.queued_ms(stage.now) <= 300
    assert stage.playout.stats.pieces <= 20


def test_a_whole_reply_is_heard_unchanged() -> None:
    stage = Stage()
    said = speech(1234)
    stage.say("a", said)
    stage.finish("a")
    stage.run(1400)
    assert bytes(stage.sink.heard) == said
    assert stage.events == [ReplyAudible("a"), ReplyHeard("a", 1234.0)]
    assert stage.playout.drained(stage.now)
    assert stage.playout.sounding(stage.now) is None


def test_flush_means_silence_and_tells_what_was_heard() -> None:
    stage = Stage()
    stage.say("a", speech(3000))
    stage.say("b", speech(500))
    stage.run(700)
    assert stage.playout.flush(stage.now) == (Heard("a", 700.0, 3000.0), Heard("b", 0.0, 500.0))
    heard = len(stage.sink.heard)
    stage.run(2000)
    assert len(stage.sink.heard) == heard
    assert stage.playout.drained(stage.now)
    assert stage.playout.heard_ms("a", stage.now) == 700.0


def test_late_speech_of_a_dead_reply_stays_silent_and_is_counted() -> None:
    stage = Stage()
    stage.say("a", speech(500))
    stage.run(100)
    stage.playout.flush(stage.now)
    assert not stage.say("a", speech(100))
    assert stage.playout.stats.stale_chunks == 1
    assert stage.say("b", speech(100))
    assert stage.playout.sounding(stage.now) == "b"


def test_a_reply_named_dead_never_sounds_although_none_of_it_had_come() -> None:
    stage = Stage()
    stage.playout.flush(stage.now, dead=("a",))
    assert not stage.say("a", speech(100))


def test_a_model_with_one_endless_reply_may_speak_again_after_a_long_silence() -> None:
    stage = Stage()
    stage.say("endless", speech(500))
    stage.playout.flush(stage.now)
    stage.run(3000)
    assert not stage.say("endless", speech(20))
    stage.run(9000)
    assert not stage.say("endless", speech(20))
    stage.run(10_020)
    assert stage.say("endless", speech(20))


def test_several_replies_sound_one_after_the_other() -> None:
    stage = Stage()
    first, second = speech(300), speech(300)
    stage.say("preamble", first)
    stage.say("answer", second)
    stage.finish("preamble")
    stage.finish("answer")
    stage.run(700)
    assert bytes(stage.sink.heard) == first + second
    assert stage.events == [
        ReplyAudible("preamble"),
        ReplyAudible("answer"),  # before the end of the first, so that nobody takes the seam for silence
        ReplyHeard("preamble", 300.0),
        ReplyHeard("answer", 300.0),
    ]


def test_a_reply_that_nobody_finished_gives_way_to_the_next() -> None:
    stage = Stage()
    first, second = speech(100), speech(100)
    stage.say("a", first)
    stage.run(40)
    stage.say("b", second)
    stage.finish("b")
    stage.run(400)
    assert bytes(stage.sink.heard) == first + second
    assert stage.playout.stats.unfinished_replies == 1


def test_a_reply_that_nobody_finished_ends_by_itself() -> None:
    stage = Stage(PlayoutSettings(dry_end_ms=1000, first_cushion_ms=0))
    stage.say("a", speech(100))
    stage.run(1000)
    assert stage.playout.sounding(stage.now) == "a"
    stage.run(200)
    assert stage.events[-1] == ReplyHeard("a", 100.0)
    assert stage.playout.sounding(stage.now) is None


def test_speech_after_the_end_is_heard_rather_than_lost() -> None:
    stage = Stage()
    stage.say("a", speech(100))
    stage.finish("a")
    stage.run(200)
    stage.say("a", speech(100))
    stage.finish("a")
    stage.run(200)
    assert stage.playout.heard_ms("a", stage.now) == 200.0
    assert stage.playout.stats.revived_replies == 1
    assert stage.events[-1] == ReplyHeard("a", 200.0)


def test_running_dry_fades_out_and_in_and_is_counted_once() -> None:
    stage = Stage()
    loud = np.full(24 * 100, 10_000, np.int16).tobytes()
    stage.say("a", loud)
    stage.run(300)
    assert stage.events.count(Underrun("a")) == 1
    stage.say("a", loud)
    stage.finish("a")
    stage.run(300)
    heard = np.frombuffer(stage.sink.heard, np.int16)
    echo = heard[24 * 100 : 24 * 110]
    assert len(heard) == 24 * 210
    assert echo[-1] == 0
    assert heard[24 * 110] == 0
    assert int(np.abs(np.diff(heard.astype(int))).max()) < 200  # no click anywhere
    assert stage.playout.stats.underruns == 1
    assert stage.playout.stats.fades == 1


def test_the_echo_of_a_dry_reply_does_not_count_as_heard() -> None:
    stage = Stage()
    stage.say("a", speech(100))
    stage.run(105)
    assert len(stage.sink.heard) > 24 * 2 * 100
    assert stage.playout.heard_ms("a", stage.now) == 100.0
    assert stage.playout.flush(stage.now) == (Heard("a", 100.0, 100.0),)


def test_speech_at_exactly_real_time_finds_its_cushion_after_a_few_echoes() -> None:
    stage = Stage()
    said = b""
    for _ in range(100):
        chunk = speech(40)
        said += chunk
        stage.say("a", chunk)
        stage.run(40)
    stage.finish("a")
    stage.run(200)
    assert stage.sink.dry_ms < 200  # after the end only
    assert stage.playout.stats.underruns == 0
    assert stage.playout.stats.fades <= 3
    assert bytes(stage.sink.heard).endswith(said[24 * 2 * 400 :])


def test_a_stall_of_our_own_loop_is_told_from_an_underrun_of_the_model() -> None:
    stage = Stage()
    stage.say("a", speech(2000))
    stage.now += 0.8
    stage.sink.run(stage.now)
    stage.events += stage.playout.feed(stage.now)
    assert stage.playout.stats.stalls == 1
    assert stage.playout.stats.underruns == 0


def test_stalls_shorter_than_the_lead_make_no_gap() -> None:
    stage = Stage()
    said = speech(3000)
    stage.say("a", said)
    stage.finish("a")
    for _ in range(20):
        stage.now += 0.15
        stage.sink.run(stage.now)
        stage.playout.feed(stage.now)
    stage.run(300)
    assert bytes(stage.sink.heard) == said


def test_a_second_reply_does_not_stutter_as_the_first_did() -> None:
    stage = Stage()
    for reply_id in ("a", "b"):
        stage.sink.dry_ms = 0.0
        stage.sink.heard.clear()
        for n in range(25):  # 40 ms of speech each 40 ms, every fifth late by 100 ms
            late_ms = 100 if n % 5 == 4 else 0
            stage.run(max(0.0, n * 40 + late_ms - round((stage.now - 100.0) * 1000) % 10_000))
            stage.say(reply_id, speech(40))
        stage.finish(reply_id)
        dry_ms = stage.sink.dry_ms
        stage.run(10_000 - round((stage.now - 100.0) * 1000) % 10_000)
        if reply_id == "a":
            assert dry_ms > 40
        else:
            assert dry_ms == 0


def test_the_cushion_is_not_waited_for_once_the_reply_is_complete() -> None:
    stage = Stage(PlayoutSettings(cushion_ms=500, first_cushion_ms=0))
    stage.say("a", speech(60))
    assert not stage.sink.plays
    stage.finish("a")
    assert stage.sink.plays


@pytest.mark.parametrize("seed", range(20))
def test_the_first_reply_at_real_time_survives_jitter(seed: int) -> None:
    stage = Stage(PlayoutSettings())
    rng = np.random.default_rng(seed)
    arrivals = np.maximum.accumulate([100.0 + 0.04 * chunk + rng.uniform(0, 0.12) for chunk in range(50)])
    said = [speech(40) for _ in arrivals]
    for at, chunk in zip(arrivals, said, strict=True):
        stage.run((at - stage.now) * 1000)
        stage.say("a", chunk)
    stage.finish("a")
    stage.run(1000)
    assert bytes(stage.sink.heard) == b"".join(said)
    assert stage.playout.stats.underruns == stage.playout.stats.fades == 0


def test_the_first_reply_of_a_fast_model_waits_only_until_that_is_known() -> None:
    stage = Stage(PlayoutSettings())
    for _ in range(5):
        assert not stage.sink.plays
        stage.say("a", speech(40))
        stage.run(10)
    assert stage.sink.plays
    stage.finish("a")
    stage.run(400)
    stage.say("b", speech(40))
    assert bytes(stage.sink.heard) and stage.playout.sounding(stage.now) == "b"


def test_a_long_first_chunk_is_a_cushion_of_its_own() -> None:
    stage = Stage(PlayoutSettings())
    stage.say("a", speech(200))
    assert stage.sink.plays


def test_a_short_first_piece_sounds_when_the_cushion_has_been_waited_for() -> None:
    stage = Stage(PlayoutSettings(cushion_ms=100, first_cushion_ms=0))
    stage.say("a", speech(60))
    deadline = stage.playout.deadline(stage.now)
    assert deadline == pytest.approx(stage.now + 0.1)
    stage.run(120)
    assert stage.sink.plays


def test_too_much_waiting_speech_is_refused_and_counted() -> None:
    stage = Stage(PlayoutSettings(max_waiting_s=1))
    assert stage.say("a", speech(900))
    assert not stage.say("a", speech(900))
    assert stage.playout.stats.refused_chunks == 1
    assert stage.playout.generated_ms("a") == 900.0


def test_g711_passes_untouched() -> None:
    sink = FakeSink(PCMU_8K)
    playout = Playout(sink, PCMU_8K)
    said = bytes(range(256)) * 8
    playout.push("a", said, 0.0)
    playout.feed(0.0)
    for n in range(1, 40):
        sink.run(n * 0.02)
        playout.feed(n * 0.02)
    assert bytes(sink.heard) == said


def test_the_deadline_is_when_the_sink_would_run_dry() -> None:
    stage = Stage()
    assert stage.playout.deadline(stage.now) is None
    stage.say("a", speech(105))
    assert stage.playout.deadline(stage.now) == pytest.approx(stage.now + 0.085)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 3000), st.integers(0, 60)),  # samples pushed, ms until the next chunk
        min_size=1,
        max_size=40,
    )
)
def test_bytes_out_are_bytes_in_when_speech_never_runs_dry(chunks: list[tuple[int, int]]) -> None:
    stage = Stage()
    said = speech(3000)
    stage.say("a", said)
    for samples, pause_ms in chunks:
        chunk = speech(samples / 24)
        said += chunk
        stage.say("a", chunk)
        stage.run(pause_ms)
        if stage.playout.stats.fades:
            return
    stage.finish("a")
    stage.run(len(said) / 48 + 400)
    assert bytes(stage.sink.heard) == said
    assert stage.playout.heard_ms("a", stage.now) == stage.playout.generated_ms("a")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("say"), st.sampled_from("abc"), st.integers(1, 40_000)),
            st.tuples(st.just("finish"), st.sampled_from("abc"), st.just(0)),
            st.tuples(st.just("run"), st.just(""), st.integers(1, 700)),
            st.tuples(st.just("flush"), st.just(""), st.just(0)),
        ),
        max_size=40,
    )
)
def test_accounts_always_balance(steps: list[tuple[str, str, int]]) -> None:
    stage = Stage(PlayoutSettings(fade_ms=0))
    accepted = 0
    for what, reply_id, amount in steps:
        if what == "say":
            audio = bytes(amount)
            accepted += len(audio) if stage.say(reply_id, audio) else 0
        elif what == "finish":
            stage.finish(reply_id)
        elif what == "run":
            stage.run(amount)
        else:
            before = len(stage.sink.heard)
            for cut in stage.playout.flush(stage.now):
                assert 0 <= cut.heard_ms <= cut.generated_ms
            accepted = before
            stage.run(60)
            assert len(stage.sink.heard) == before
            assert stage.playout.drained(stage.now)
        assert len(stage.sink.heard) <= accepted
        assert stage.playout.waiting_ms >= 0
    for reply_id in "abc":
        stage.finish(reply_id)
    stage.run(accepted / 48 + 500)
    whole = accepted - len(stage.sink.heard)
    assert 0 <= whole <= 3 + 2 * len(steps)  # only halves of samples may be left
    assert stage.playout.sounding(stage.now) is None


def test_a_thousand_frames_leave_no_cyclic_garbage() -> None:
    stage = Stage()
    audio = speech(20)
    gc.collect()
    gc.disable()
    try:
        for n in range(1000):
            stage.say(str(n // 50), audio)
            stage.run(20)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_short_doubt_makes_no_gap_and_repeats_nothing() -> None:
    stage, said = Stage(), speech(3000)
    stage.say("a", said)
    stage.finish("a")
    stage.run(700)
    stage.playout.suspend(stage.now)
    believed_ms = stage.playout.heard_ms("a", stage.now)
    stage.run(600)
    assert stage.playout.heard_ms("a", stage.now) == believed_ms
    stage.playout.resume(stage.now, lost=False)
    assert stage.playout.heard_ms("a", stage.now) == pytest.approx(1300, abs=21)
    stage.run(3000)
    assert bytes(stage.sink.heard) == said
    assert stage.sink.dry_ms <= 1300  # only after the end
    assert stage.events[-1] == ReplyHeard("a", 3000)
    assert stage.playout.stats.repeated_ms == 0


@pytest.mark.parametrize(("lost", "away_ms"), [(True, 300), (True, 4000), (False, 4000)])
def test_what_a_lost_sink_had_is_said_again_from_where_the_loss_began(lost: bool, away_ms: int) -> None:
    stage, said = Stage(), speech(3000)
    stage.say("a", said)
    stage.finish("a")
    stage.run(707)
    stage.playout.suspend(stage.now)
    heard = len(stage.sink.heard)
    stage.run(away_ms)
    stage.sink.heard.clear()  # to nobody's ear
    stage.playout.resume(stage.now, lost=lost)
    stage.run(3500)
    fade = 480
    assert stage.sink.heard[fade:] == said[heard + fade :]
    assert [event for event in stage.events if isinstance(event, ReplyHeard)] == [ReplyHeard("a", 3000)]
    assert stage.playout.drained(stage.now)


def test_a_sink_that_proves_to_be_heard_is_fed_on_and_only_what_came_after_is_said_again() -> None:
    stage, said = Stage(), speech(9000)
    stage.say("a", said)
    stage.finish("a")
    stage.run(700)
    for _ in range(30):
        stage.playout.suspend(stage.now)
        stage.run(100)
    stage.playout.suspend(stage.now)
    assert stage.playout.heard_ms("a", stage.now) == pytest.approx(3700, abs=21)
    heard = len(stage.sink.heard)
    stage.run(500)
    stage.sink.heard.clear()
    stage.playout.resume(stage.now, lost=True)
    stage.run(7000)
    assert stage.sink.heard[480:] == said[heard + 480 :]


def test_speech_given_to_a_sink_in_doubt_is_bounded() -> None:
    stage = Stage()
    stage.say("a", speech(20_000))
    stage.playout.suspend(stage.now)
    stage.run(8000)
    assert stage.playout.generated_ms("a") - stage.playout.waiting_ms <= 1000 + 400
    assert stage.playout.heard_ms("a", stage.now) == 0


def test_a_flush_in_doubt_reports_what_was_heard_before_it() -> None:
    stage = Stage()
    stage.say("a", speech(5000))
    stage.run(1000)
    stage.playout.suspend(stage.now)
    before_ms = stage.playout.heard_ms("a", stage.now)
    stage.run(2000)
    (cut,) = stage.playout.flush(stage.now)
    assert (cut.heard_ms, cut.generated_ms) == (before_ms, 5000)
    stage.playout.resume(stage.now, lost=True)
    stage.run(1000)
    assert stage.playout.stats.repeated_ms == 0
    stage.say("b", speech(100))
    stage.finish("b")
    stage.run(400)
    assert stage.events[-1] == ReplyHeard("b", 100)


@given(
    first=st.integers(20, 900),
    doubts=st.lists(st.tuples(st.integers(1, 1500), st.booleans(), st.integers(1, 700)), max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_speech_is_credited_once_however_often_the_sink_is_lost(
    first: int, doubts: list[tuple[int, bool, int]]
) -> None:
    stage = Stage()
    stage.say("a", speech(2500))
    stage.say("b", speech(401))
    stage.finish("a")
    stage.finish("b")
    stage.run(first)
    for away_ms, lost, between_ms in doubts:
        stage.playout.suspend(stage.now)
        stage.run(away_ms)
        stage.playout.resume(stage.now, lost=lost)
        stage.run(between_ms)
    stage.run(4000)
    assert [event for event in stage.events if isinstance(event, ReplyHeard)] == [
        ReplyHeard("a", 2500),
        ReplyHeard("b", 401),
    ]
    assert stage.playout.drained(stage.now)
    assert stage.playout.waiting_ms == 0
