"""The sans-IO half of an emulated vendor: order, timers, hang-up."""

from __future__ import annotations

from providers.emulators.wire import Hangup, Outgoing, Strike, UpgradeRequest, VendorWire
from providers.scripted.acts import Act, Say
from providers.scripted.brain import Brain
from providers.scripted.scenario import Stall, load_text


class Wire(VendorWire):
    def on_open(self) -> None:
        self.later(0.5, self.tick)

    def tick(self) -> None:
        self.send({"tick": self.now})

    def on_message(self, message: str | bytes) -> None:
        match message:
            case "start":
                self.brain = Brain(self.scenario, input_rate_hz=24_000)
                self.perform(self.brain.start(self.now))
            case "close":
                self.close(1008, "é" * 100)
                self.send({"after": 1})
            case str(text):
                assert self.brain is not None
                self.perform(self.brain.read(text, self.now))

    def render(self, act: Act) -> None:
        if isinstance(act, Say):
            self.send(b"say", "say")


def wire(toml: str = "") -> Wire:
    return Wire(load_text(toml), UpgradeRequest("/", {}, {}, False), 1)


def test_a_timer_comes_before_a_later_message() -> None:
    one = wire()
    one.opened(10.0)
    assert one.deadline() == 10.5
    assert one.received("close", 11.0) == [Outgoing(b'{"tick":11.0}'), Hangup(1008, "é" * 61)]


def test_nothing_happens_after_a_hang_up() -> None:
    one = wire()
    one.opened(0.0)
    one.received("close", 0.1)
    assert one.deadline() is None and one.handle_timeout(9.0) == [] and one.received("start", 9.0) == []


def test_the_minds_deadline_is_the_wires() -> None:
    one = wire("pace = { latency_ms = 100 }\nanswer = { kind = 'tone', duration_ms = 40 }")
    one.opened(0.0)
    one.handle_timeout(0.5)
    one.received("start", 1.0)
    assert one.received("hello", 1.0) == [] and one.deadline() == 1.1
    assert one.handle_timeout(1.1) == [Outgoing(b"say", "say")]


def test_faults_stand_between_messages() -> None:
    one = wire("answer = { kind = 'tone', duration_ms = 80 }\n[[faults]]\nkind = 'stall'\nreply = 1\nspeech_ms = 40")
    one.opened(0.0)
    one.handle_timeout(0.5)
    one.received("start", 1.0)
    one.received("hello", 1.0)
    say = Outgoing(b"say", "say")
    assert one.handle_timeout(9.0) == [say, Strike(Stall(reply=1, speech_ms=40)), say]


def test_the_end_stops_all_timers() -> None:
    one = wire("session = { go_away_s = 5 }")
    one.opened(0.0)
    one.received("start", 0.1)
    one.closed(1006, "", 0.2)
    assert one.deadline() is None and one.brain is not None and one.brain.deadline() is None
