"""The playback buffer of a call: what has been sent is its clock."""

from __future__ import annotations

import pytest

from providers.emulators.openai_items import StoredItem
from providers.emulators.playback import Cleared, Playback, Played, Started, Stopped


def pcm(ms: int) -> bytes:
    return bytes(48 * ms)


def item(name: str = "item_1") -> StoredItem:
    return StoredItem(body={"id": name, "content": []}, reply=1)


class Listener:
    """Lets everything be heard in real time."""

    def __init__(self, playback: Playback) -> None:
        self.playback = playback
        self.given_ms = 0.0
        self.sent_ms = 0.0
        self.steps: list[str] = []

    def ask(self) -> None:
        for step in self.playback.due(self.sent_ms):
            match step:
                case Played():
                    self.given_ms += len(step.pcm) / 48
                case Started() | Stopped():
                    self.steps.append(f"{type(step).__name__} {step.response_id} at {self.sent_ms:.0f}")

    def wait(self, ms: float) -> None:
        self.sent_ms = min(self.given_ms, self.sent_ms + ms)
        self.ask()

    def run(self) -> None:
        """As its user does: ask whenever it says."""
        self.ask()
        while (wait_s := self.playback.wait_s(self.sent_ms)) is not None:
            self.wait(wait_s * 1000)


def test_generation_far_ahead_of_time_is_given_in_real_time() -> None:
    playback, speech = Playback(), item()
    listener = Listener(playback)
    playback.add("r1", speech, pcm(5000))
    listener.ask()
    assert 160 <= listener.given_ms <= 200
    listener.wait(100)
    assert 260 <= listener.given_ms <= 300
    playback.end("r1")
    listener.run()
    assert listener.given_ms == 5000 and listener.steps == ["Started r1 at 0", "Stopped r1 at 5000"]
    assert not playback.busy


def test_a_response_starts_when_a_little_of_it_is_there_or_all() -> None:
    playback, speech = Playback(), item()
    listener = Listener(playback)
    playback.add("r1", speech, pcm(60))
    listener.ask()
    assert listener.steps == [] and playback.wait_s(0.0) is None
    playback.end("r1")
    listener.run()
    assert listener.given_ms == 60 and listener.steps == ["Started r1 at 0", "Stopped r1 at 60"]


def test_a_buffer_that_runs_empty_goes_on_without_having_stopped() -> None:
    playback, speech = Playback(), item()
    listener = Listener(playback)
    playback.add("r1", speech, pcm(100))
    listener.run()
    listener.wait(500)
    playback.add("r1", speech, pcm(110))
    playback.end("r1")
    listener.run()
    assert listener.given_ms == 210 and listener.steps == ["Started r1 at 0", "Stopped r1 at 210"]


def test_the_next_response_waits_for_the_end_of_the_one_before() -> None:
    playback = Playback()
    listener = Listener(playback)
    playback.add("r1", item("a"), pcm(300))
    playback.end("r1")
    playback.add("r2", item("b"), pcm(200))
    playback.end("r2")
    assert playback.holds("r1") and playback.holds("r2")
    listener.run()
    assert listener.steps == ["Started r1 at 0", "Stopped r1 at 300", "Started r2 at 300", "Stopped r2 at 500"]


def test_clearing_tells_what_was_heard_of_each_item() -> None:
    playback, first, second, third = Playback(), item("a"), item("b"), item("c")
    listener = Listener(playback)
    playback.add("r1", first, pcm(400))
    playback.add("r1", second, pcm(400))
    playback.end("r1")
    playback.add("r2", third, pcm(200))
    listener.ask()
    for _ in range(25):
        listener.wait(20)
    assert playback.clear(listener.sent_ms) == Cleared("r1", ((second, 100), (third, 0)))
    assert playback.clear(listener.sent_ms) is None and not playback.busy


def test_what_was_cleared_while_it_was_generated_is_never_heard() -> None:
    playback, speech = Playback(), item()
    playback.add("r1", speech, pcm(100))
    playback.due(0.0)
    assert playback.clear(40.0) == Cleared("r1", ((speech, 40),))
    playback.add("r1", speech, pcm(100))
    assert not playback.busy
    playback.end("r1")
    playback.add("r2", speech, pcm(100))
    assert playback.due(100.0)[0] == Started("r2")


def test_clearing_what_has_not_started_names_no_response() -> None:
    playback, speech = Playback(), item()
    playback.add("r1", speech, pcm(20))
    assert playback.clear(0.0) == Cleared(None, ((speech, 0),))


def test_after_a_clear_the_next_response_waits_until_the_carrier_is_silent() -> None:
    playback, speech = Playback(), item()
    playback.add("r1", speech, pcm(200))
    given_ms = sum(len(step.pcm) / 48 for step in playback.due(0.0) if isinstance(step, Played))
    playback.clear(0.0)
    playback.add("r2", speech, pcm(200))
    assert playback.due(0.0) == []
    assert playback.wait_s(0.0) == pytest.approx(given_ms / 1000)
    assert playback.due(given_ms)[0] == Started("r2")


def test_a_full_buffer_drops_and_counts_what_is_generated_next() -> None:
    playback, speech = Playback(), item()
    for _ in range(12):
        playback.add("r1", speech, pcm(60_000))
    assert playback.dropped_ms == 60_000
