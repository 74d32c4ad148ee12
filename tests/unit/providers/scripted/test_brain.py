"""The mind of the scripted model and both emulators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest

from providers.scripted.acts import (
    Act,
    CallTools,
    CancelCalls,
    Cut,
    FaultDue,
    GenerationDone,
    GoingAway,
    InputWords,
    LimitReached,
    ReplyBegan,
    Resumable,
    Say,
    SpeechStarted,
    SpeechStopped,
    Think,
    TurnDone,
    TurnHeard,
    Words,
    Written,
)
from providers.scripted.brain import Brain, Manners
from providers.scripted.scenario import Close, Scenario, ServerVad, load_text
from providers.scripted.voice import marker
from providers.signal.resample import Int16Array, resample_whole

FRAME_S = 0.02
T = TypeVar("T")


class Talk:
    """A conversation with one brain on a clock of its own."""

    def __init__(self, toml: str = "", *, rate_hz: int = 24_000, **other: object) -> None:
        self.now = 100.0
        self.rate_hz = rate_hz
        self.acts: list[tuple[float, Act]] = []
        scenario: Scenario = load_text(toml)
        self.brain = Brain(scenario, input_rate_hz=rate_hz, **other)  # type: ignore[arg-type]
        self.do(self.brain.start(self.now))

    def do(self, acts: list[Act]) -> None:
        self.acts += [(self.now, act) for act in acts]

    def hear(self, pcm: Int16Array) -> None:
        """Frame by frame in real time."""
        size = int(self.rate_hz * FRAME_S)
        for first in range(0, len(pcm), size):
            self.now += FRAME_S
            self.do(self.brain.hear(pcm[first : first + size].tobytes(), self.now))

    def quiet(self, seconds: float) -> None:
        self.hear(np.zeros(int(self.rate_hz * seconds), dtype=np.int16))

    def wait(self, seconds: float) -> None:
        """No input at all."""
        end = self.now + seconds
        while (due := self.brain.deadline()) is not None and due <= end:
            self.now = due
            self.do(self.brain.due(due))
        self.now = end

    def of(self, kind: type[T]) -> list[T]:
        return [act for _, act in self.acts if isinstance(act, kind)]

    def when(self, kind: type[Act]) -> list[float]:
        return [at for at, act in self.acts if isinstance(act, kind)]

    def speech(self, reply: int) -> Int16Array:
        said = b"".join(act.pcm for act in self.of(Say) if act.reply == reply and not act.late)
        return np.frombuffer(said, dtype="<i2")


def speech_like(duration_ms: int, seed: int = 7, rate_hz: int = 24_000) -> Int16Array:
    return resample_whole(marker(duration_ms, seed, -8.0), 24_000, rate_hz)


def best_correlation(found: Int16Array, wanted: Int16Array) -> tuple[float, int]:
    """Normalised cross-correlation at the best lag, and that lag in samples."""
    size = len(found) + len(wanted)
    spectrum = np.fft.rfft(found.astype(float), size) * np.conj(np.fft.rfft(wanted.astype(float), size))
    products = np.fft.irfft(spectrum, size)
    lag = int(np.argmax(products))
    lag = lag - size if lag > len(found) else lag
    part = found[max(0, lag) : lag + len(wanted)].astype(float)
    scale = np.sqrt((part**2).sum() * (wanted.astype(float) ** 2).sum())
    return float(products.max() / scale), lag


def kinds(talk: Talk, *without: type[Act]) -> list[str]:
    names = [type(act).__name__ for _, act in talk.acts if not isinstance(act, without)]
    return [name for index, name in enumerate(names) if index == 0 or name != names[index - 1]]


@pytest.mark.parametrize("rate_hz", [16_000, 24_000])
def test_repeats_what_it_heard_sample_for_sample(rate_hz: int) -> None:
    talk = Talk(rate_hz=rate_hz)
    talk.quiet(1.0)
    spoken = speech_like(1500)
    talk.hear(resample_whole(spoken, 24_000, rate_hz))
    talk.quiet(3.0)
    correlation, lag = best_correlation(talk.speech(1), spoken)
    assert correlation >= 0.99
    assert lag == pytest.approx(300 * 24, abs=11 * 24), "padding comes first"


def test_a_spoken_turn_has_its_acts_in_order() -> None:
    talk = Talk("thoughts = ['hm']")
    talk.quiet(0.5)
    talk.hear(speech_like(600))
    talk.quiet(3.0)
    assert kinds(talk) == [
        "Resumable", "SpeechStarted", "SpeechStopped", "TurnHeard", "InputWords", "Resumable", "ReplyBegan", "Think",
        "Words", "Say", *["Words", "Say"] * (len(talk.of(Words)) - 2), "Words",
        "GenerationDone", "TurnDone", "Resumable",
    ]  # fmt: skip
    assert [act.resumable for act in talk.of(Resumable)] == [True, False, True]


def test_edges_lie_on_the_input_clock() -> None:
    talk = Talk()
    talk.quiet(1.0)
    talk.hear(speech_like(600))
    talk.quiet(1.0)
    assert talk.of(SpeechStarted)[0].at_ms == pytest.approx(700, abs=20), "1000 ms less 300 ms of padding"
    assert talk.of(SpeechStopped)[0].at_ms == pytest.approx(2100, abs=20), "1600 ms and 500 ms of silence"


def test_speech_comes_at_the_given_speed() -> None:
    talk = Talk("answer = { kind = 'tone', duration_ms = 2000 }\npace = { speed = 4.0, latency_ms = 150 }")
    talk.do(talk.brain.read("hello", talk.now))
    begun = talk.now
    talk.wait(5)
    times = talk.when(Say)
    assert times[0] - begun == pytest.approx(0.150, abs=1e-6)
    assert times[-1] - times[0] == pytest.approx((2.0 - 0.04) / 4, abs=1e-3)


def test_speech_comes_in_bursts() -> None:
    talk = Talk("answer = { kind = 'tone', duration_ms = 5000 }\npace = { speed = 1.0, burst_s = 2.0, latency_ms = 0 }")
    begun = talk.now
    talk.do(talk.brain.read("hello", talk.now))
    talk.wait(8)
    assert sorted({round(at - begun, 3) for at in talk.when(Say)}) == [0.0, 2.0, 4.0]
    assert len(talk.speech(1)) == 5 * 24_000


def test_jitter_is_seeded_and_keeps_the_order() -> None:
    def times(seed: int) -> list[float]:
        pace = f"pace = {{ speed = 1.0, jitter_ms = 120, seed = {seed} }}"
        talk = Talk(f"answer = {{ kind = 'tone', duration_ms = 2000 }}\n{pace}")
        talk.do(talk.brain.read("hello", talk.now))
        talk.wait(5)
        assert [act.speech_ms for act in talk.of(Say)] == list(range(0, 2000, 40))
        return talk.when(Say)

    assert times(1) == times(1)
    assert times(1) != times(2)


def test_words_keep_step_with_speech_or_lead_it() -> None:
    def lead(ms: int) -> float:
        answer = "answer = { kind = 'tone', duration_ms = 4000, transcript = 'one two three four' }"
        talk = Talk(f"{answer}\npace = {{ speed = 1.0, latency_ms = 0, transcript_lead_ms = {ms} }}")
        begun = talk.now
        talk.do(talk.brain.read("hello", talk.now))
        talk.wait(5)
        assert "".join(act.delta for act in talk.of(Words)) == "one two three four"
        return talk.when(Words)[2] - begun

    assert lead(0) == pytest.approx(2.0)
    assert lead(700) == pytest.approx(1.3)


def test_speech_of_the_user_cuts_the_reply() -> None:
    talk = Talk("answer = { kind = 'tone', duration_ms = 5000 }\npace = { speed = 1.0 }")
    talk.do(talk.brain.read("hello", talk.now))
    talk.quiet(1.0)
    talk.hear(speech_like(400))
    cut = talk.of(Cut)[0]
    assert (cut.reply, cut.cause, cut.generating) == (1, "speech", True)
    assert cut.speech_ms == pytest.approx(820, abs=50)
    done = talk.of(TurnDone)[0]
    assert (done.reply, done.reason, done.cause) == (1, "interrupted", "speech")
    assert not talk.of(GenerationDone)
    order = kinds(talk)
    assert order.index("SpeechStarted") < order.index("Cut") < order.index("TurnDone")
    assert talk.when(Say)[-1] <= talk.when(Cut)[0]


def test_no_barge_in_leaves_the_reply_alone_and_answers_afterwards() -> None:
    talk = Talk("barge_in = false\nanswer = { kind = 'tone', duration_ms = 3000 }\npace = { speed = 1.0 }")
    talk.do(talk.brain.read("hello", talk.now))
    talk.quiet(0.5)
    talk.hear(speech_like(400))
    talk.quiet(8.0)
    assert not talk.of(Cut)
    assert [len(talk.speech(reply)) for reply in (1, 2)] == [72_000, 72_000]
    assert [act.reply for act in talk.of(TurnDone)] == [1, 2]


def test_late_speech_of_a_dead_reply_comes_after_the_cut_and_before_the_end_of_the_turn() -> None:
    talk = Talk("late_chunks = 3\nanswer = { kind = 'tone', duration_ms = 5000 }\npace = { speed = 1.0 }")
    talk.do(talk.brain.read("hello", talk.now))
    talk.quiet(1.0)
    talk.do(talk.brain.interrupt(talk.now))
    tail = [act for _, act in talk.acts][-6:]
    assert [type(act).__name__ for act in tail] == ["Cut", "Say", "Say", "Say", "TurnDone", "Resumable"]
    assert all(act.late for act in tail if isinstance(act, Say))


def test_the_turn_lasts_until_playback_ends_where_the_vendor_waits_for_it() -> None:
    talk = Talk("answer = { kind = 'tone', duration_ms = 4000 }", manners=Manners(turn_done="playback"))
    talk.do(talk.brain.read("hello", talk.now))
    talk.wait(3.0)
    assert talk.of(GenerationDone) and not talk.of(TurnDone)
    talk.hear(speech_like(400))
    assert talk.of(Cut)[0].generating is False
    assert talk.of(TurnDone)[0].reason == "interrupted"


TOOLS = """
pace = { latency_ms = 0 }
[[turns]]
turn = 1
calls = [{ name = "weather", arguments = { city = "Oslo" }, id = "a" }, { name = "time" }]
answer = { kind = "text", text = "It is {temperature} at {result}." }
"""


def test_parallel_calls_are_answered_once_with_all_results() -> None:
    talk = Talk(TOOLS)
    talk.do(talk.brain.read("hello", talk.now))
    talk.wait(1)
    (called,) = talk.of(CallTools)
    assert [(call.call_id, call.name) for call in called.calls] == [("a", "weather"), ("call_1_2", "time")]
    talk.do(talk.brain.tool_result("a", "weather", {"temperature": 21}, talk.now))
    talk.wait(5)
    assert not talk.of(Say) and talk.brain.expects_result("call_1_2") and not talk.brain.expects_result("a")
    talk.do(talk.brain.tool_result("", "time", "noon", talk.now))
    talk.wait(5)
    assert "".join(act.delta for act in talk.of(Words)) == "It is 21 at noon."
    assert [act.reply for act in talk.of(TurnDone)] == [1]


def test_where_calls_end_the_turn_the_answer_waits_for_a_request() -> None:
    talk = Talk(TOOLS, manners=Manners(tools_end_turn=True, answers_results=False, cancels_calls=False))
    talk.do(talk.brain.read("hello", talk.now))
    talk.wait(1)
    assert [act.reply for act in talk.of(TurnDone)] == [1]
    for call_id in ("a", "call_1_2"):
        talk.do(talk.brain.tool_result(call_id, "", {"temperature": 3, "result": 4}, talk.now, respond=False))
    talk.wait(5)
    assert not talk.of(Say)
    talk.do(talk.brain.respond(talk.now))
    talk.wait(5)
    assert "".join(act.delta for act in talk.of(Words)) == "It is 3 at 4."
    assert [act.reply for act in talk.of(TurnDone)] == [1, 2]


def test_speech_calls_off_waiting_tools() -> None:
    talk = Talk(TOOLS)
    talk.do(talk.brain.read("hello", talk.now))
    talk.quiet(0.3)
    talk.hear(speech_like(300))
    assert talk.of(CancelCalls) == [CancelCalls(("a", "call_1_2"))]
    assert not talk.brain.expects_result("a")


def test_speech_goes_on_while_a_non_blocking_tool_runs() -> None:
    talk = Talk(TOOLS + "blocking = false\n")
    talk.do(talk.brain.read("hello", talk.now))
    talk.wait(3)
    assert [act.reply for act in talk.of(TurnDone)] == [1] and talk.of(Say)
    for call_id in ("a", "call_1_2"):
        talk.do(talk.brain.tool_result(call_id, "", {"temperature": 3, "result": 4}, talk.now))
    talk.wait(5)
    assert "".join(act.delta for act in talk.of(Words) if act.reply == 2) == "It is 3 at 4."


def test_a_fault_strikes_in_mid_word() -> None:
    fault = "[[faults]]\nkind = 'close'\ncode = 1011\nreply = 1\nspeech_ms = 700"
    talk = Talk(f"answer = {{ kind = 'tone', duration_ms = 3000 }}\n{fault}")
    talk.do(talk.brain.read("hello", talk.now))
    talk.wait(5)
    acts = [act for _, act in talk.acts]
    index = next(i for i, act in enumerate(acts) if isinstance(act, FaultDue))
    before = acts[index - 1]
    assert isinstance(before, Say) and before.speech_ms == 680
    assert talk.of(FaultDue) == [FaultDue(Close(code=1011, reply=1, speech_ms=700))]


def test_faults_of_another_connection_do_not_strike() -> None:
    fault = "[[faults]]\nkind = 'abort'\nat_s = 1\nconnection = 2"
    first, second = Talk(fault, connection=1), Talk(fault, connection=2)
    first.wait(2)
    second.wait(2)
    assert not first.of(FaultDue)
    assert [at - 100 for at in second.when(FaultDue)] == [1.0]


def test_go_away_then_the_end() -> None:
    talk = Talk("session = { go_away_s = 5, time_left_s = 3 }")
    talk.wait(20)
    assert talk.of(GoingAway) == [GoingAway(3.0)] and talk.of(LimitReached) == [LimitReached(True)]
    assert (talk.when(GoingAway)[0], talk.when(LimitReached)[0]) == (105.0, 108.0)


def test_a_greeting_comes_by_itself_but_not_again_after_a_resume() -> None:
    toml = "greeting = { kind = 'text', text = 'Hello there' }"
    talk = Talk(toml)
    talk.wait(5)
    assert "".join(act.delta for act in talk.of(Words)) == "Hello there"
    resumed = Talk(toml, memory=talk.brain.memory.snapshot())
    resumed.wait(5)
    assert not resumed.of(ReplyBegan)


def test_a_resumed_mind_goes_on_counting_and_remembers() -> None:
    talk = Talk()
    talk.do(talk.brain.read("my name is Ada", talk.now))
    talk.wait(5)
    resumed = Talk(memory=talk.brain.memory.snapshot())
    resumed.do(resumed.brain.read("who am I", resumed.now))
    resumed.wait(5)
    assert resumed.of(ReplyBegan)[0].reply == 2
    assert [line.text for line in resumed.brain.memory.lines if line.role == "user"] == ["my name is Ada", "who am I"]
    assert len(talk.brain.memory.lines) == 2


def test_manual_activity_makes_a_turn() -> None:
    talk = Talk("vad = { enabled = false }")
    talk.quiet(0.5)
    talk.do(talk.brain.start_activity(talk.now))
    talk.hear(speech_like(700))
    talk.do(talk.brain.end_activity(talk.now))
    talk.wait(3)
    assert not talk.of(SpeechStarted)
    assert talk.of(TurnHeard) == [TurnHeard(1, 700)]
    assert len(talk.speech(1)) == 700 * 24


def test_commit_takes_what_was_not_cleared_and_waits_for_a_request() -> None:
    talk = Talk("vad = { enabled = false }")
    talk.hear(speech_like(300))
    talk.do(talk.brain.clear_input(talk.now))
    talk.hear(speech_like(200))
    talk.do(talk.brain.commit(talk.now))
    talk.wait(2)
    assert talk.of(TurnHeard) == [TurnHeard(1, 200)] and not talk.of(ReplyBegan)
    talk.do(talk.brain.respond(talk.now))
    talk.wait(2)
    assert len(talk.speech(1)) == 200 * 24


def test_turns_without_automatic_answers_wait_for_a_request() -> None:
    talk = Talk()
    talk.brain.configure(create_response=False, vad=ServerVad(silence_ms=200, prefix_padding_ms=0))
    talk.hear(speech_like(500))
    talk.quiet(1)
    assert talk.of(TurnHeard)
    assert not talk.of(ReplyBegan)
    talk.do(talk.brain.respond(talk.now))
    assert talk.of(ReplyBegan) == [ReplyBegan(1, 1)]


def test_a_microphone_that_goes_away_ends_the_turn() -> None:
    talk = Talk()
    talk.quiet(0.3)
    talk.hear(speech_like(500))
    talk.do(talk.brain.input_ended(talk.now))
    assert talk.of(TurnHeard)
    assert talk.of(ReplyBegan)


def test_a_text_session_writes() -> None:
    talk = Talk("answer = { kind = 'text', text = 'You said {heard}' }", modality="text")
    talk.do(talk.brain.read("hi", talk.now))
    talk.wait(3)
    assert "".join(act.delta for act in talk.of(Written)) == "You said hi"
    assert talk.of(Written)[-1].final and not talk.of(Say)


def test_respond_with_instructions_speaks_when_nothing_was_heard() -> None:
    talk = Talk("prompted = { kind = 'text', text = 'As told: {heard}' }")
    talk.do(talk.brain.respond(talk.now, "greet them"))
    talk.wait(5)
    assert "".join(act.delta for act in talk.of(Words)) == "As told: greet them"
    assert talk.of(ReplyBegan) == [ReplyBegan(1, 0)]


def test_input_words_can_be_given_or_left_out() -> None:
    def words(toml: str) -> list[InputWords]:
        talk = Talk(toml)
        talk.hear(speech_like(1000))
        talk.quiet(1)
        return talk.of(InputWords)

    assert words("") == [InputWords(1, "I heard 1.2 s of speech.")]
    assert words("transcripts = { input = 'good day' }") == [InputWords(1, "good day")]
    assert words("transcripts = { input = '' }") == []


def test_usage_counts_audio_or_says_what_is_given() -> None:
    talk = Talk("answer = { kind = 'tone', duration_ms = 2000 }")
    talk.hear(speech_like(1000))
    talk.quiet(3)
    usage = talk.of(TurnDone)[0].usage
    assert usage.output_audio_tokens == 40 and usage.input_audio_tokens > 10
    given = Talk("usage = { input_tokens = 5, output_tokens = 7, thought_tokens = 1 }")
    given.do(given.brain.read("x", given.now))
    given.wait(3)
    assert given.of(TurnDone)[0].usage.total_tokens == 13


def test_a_duplex_mind_speaks_while_it_listens_and_knows_no_turns() -> None:
    talk = Talk("mode = 'duplex'\npace = { latency_ms = 500 }", rate_hz=16_000)
    spoken = speech_like(3000)
    talk.quiet(0.5)
    begun = talk.now
    talk.hear(resample_whole(spoken, 24_000, 16_000))
    assert 0.45 < talk.when(Say)[0] - begun < 0.6
    talk.quiet(2)
    assert not any(isinstance(act, SpeechStarted | SpeechStopped | TurnHeard | TurnDone | Cut) for _, act in talk.acts)
    assert best_correlation(talk.speech(1), spoken)[0] >= 0.98
    assert [act.reply for act in talk.of(GenerationDone)] == [1]


def test_truncation_cuts_what_is_remembered() -> None:
    talk = Talk("answer = { kind = 'tone', duration_ms = 4000, transcript = 'one two three four' }")
    talk.do(talk.brain.read("count", talk.now))
    talk.wait(5)
    assert talk.brain.truncate(1, 2000) and not talk.brain.truncate(9, 10)
    line = talk.brain.memory.line("assistant", 1)
    assert line is not None and (line.text, line.heard_ms) == ("one two", 2000)


def test_everything_heard_is_kept_with_its_arrival_up_to_the_limit() -> None:
    talk = Talk("session = { heard_limit_s = 2 }")
    talk.quiet(1)
    recording = talk.brain.hearing.recording
    assert [round(a.at, 2) for a in recording.arrivals[:2]] == [100.02, 100.04] and len(recording.heard) == 48_000
    talk.quiet(4)
    assert len(recording.heard) <= 96_000 and recording.dropped_ms >= 3000 and recording.total_ms == 5000


def test_thoughts_come_before_the_answer() -> None:
    talk = Talk("thoughts = ['one', 'two']")
    talk.do(talk.brain.read("x", talk.now))
    talk.wait(2)
    assert [act.text for act in talk.of(Think)] == ["one", "two"]
    assert talk.when(Think)[-1] <= talk.when(Say)[0]


def test_the_same_script_and_input_give_the_same_acts() -> None:
    def run() -> list[tuple[float, Act]]:
        talk = Talk("pace = { jitter_ms = 50 }")
        talk.hear(speech_like(800))
        talk.quiet(3)
        return talk.acts

    check: Callable[[], list[tuple[float, Act]]] = run
    assert check() == check()
