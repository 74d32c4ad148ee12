"""The scripted mind under any scenario, told anything at any time: only acts come out, nothing hangs."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from providers.scripted.acts import Act, CallTools, Cut, ReplyBegan, TurnDone
from providers.scripted.brain import Brain, Manners
from providers.scripted.scenario import Scenario, Silence
from tests.fuzz.odd import Odd, seeds
from tests.fuzz.test_readers import SCENARIOS, words_in

ACTS: tuple[type, ...] = Act.__args__
RATE_HZ = 8000


def some_scenario(odd: Odd) -> Scenario:
    """A scenario that its reader takes, however odd; nothing in it lasts long."""
    words = words_in(SCENARIOS)
    for _ in range(20):
        table = odd.mutated(odd.rng.choice(SCENARIOS), words, literals=False)
        try:
            read = msgspec.convert(table, Scenario, strict=False)
        except (msgspec.ValidationError, UnicodeEncodeError):
            continue
        longest_ms = max((getattr(answer, "duration_ms", 0) for answer in read.answers()), default=0)
        too_long = (
            longest_ms > 5000 or len(str(table)) > 2000 or '"wav"' in msgspec.json.encode(read.answers()).decode()
        )
        if not too_long:
            return msgspec.structs.replace(
                read, pace=msgspec.structs.replace(read.pace, speed=max(1.0, read.pace.speed))
            )
    return Scenario(answer=Silence())


def test_whatever_a_mind_is_told_it_acts_and_comes_to_rest() -> None:
    for seed in seeds(60):
        with Odd("brain", seed) as odd:
            manners = Manners(
                turn_done=odd.rng.choice(("playback", "generation")),
                tools_end_turn=odd.chance(0.5),
                answers_results=odd.chance(0.5),
                cancels_calls=odd.chance(0.5),
            )
            modality = "text" if odd.chance(0.2) else "audio"
            scenario = some_scenario(odd)
            brain = Brain(scenario, input_rate_hz=RATE_HZ, manners=manners, modality=modality)  # type: ignore[arg-type]
            life = Life(brain, odd)
            life.look(brain.start(life.now))
            for _ in range(80):
                life.tell()
            life.rest()
            brain.end()


class Life:
    """One mind, told things at random."""

    def __init__(self, brain: Brain, odd: Odd) -> None:
        self.brain = brain
        self.now = 10.0
        self._odd = odd
        self._calls = [("", ""), ("nobody's", "weather")]
        self._began: set[int] = set()
        self._over: set[int] = set()

    def look(self, acts: list[Act]) -> None:
        """Every reply begins once and is over once."""
        for act in acts:
            assert isinstance(act, ACTS)
            match act:
                case ReplyBegan():
                    assert act.reply not in self._began
                    self._began.add(act.reply)
                case TurnDone():
                    assert act.reply in self._began and act.reply not in self._over
                    self._over.add(act.reply)
                case Cut():
                    assert act.reply in self._began
                case CallTools():
                    self._calls += [(call.call_id, call.name) for call in act.calls]
                case _:
                    pass

    def tell(self) -> None:
        """One thing that a client might do."""
        brain, odd, now = self.brain, self._odd, self.now
        call_id, name = odd.rng.choice(self._calls[-6:])
        text = str(odd.atom()) if odd.chance(0.3) else "hello {heard}"
        doing: Callable[[], list[Act]] = odd.rng.choice(
            (
                lambda: brain.hear(self._sound(), now),
                lambda: brain.hear(self._sound(), now),
                lambda: brain.input_ended(now),
                lambda: brain.start_activity(now),
                lambda: brain.end_activity(now),
                lambda: brain.commit(now, respond=odd.chance(0.5)),
                lambda: brain.clear_input(now),
                lambda: brain.read(text, now, respond=odd.chance(0.7)),
                lambda: brain.respond(now, odd.rng.choice((None, "", "say it {nothing"))),
                lambda: brain.interrupt(now),
                lambda: brain.tool_result(call_id, name, odd.rng.choice(("", {"a": 1}, [1], None)), now),
                lambda: brain.due(now),
            )
        )
        self.look(doing())
        if odd.chance(0.1):
            brain.truncate(odd.rng.choice((0, 1, brain.memory.replies)), odd.rng.choice((-1, 0, 300, 10**6)))
        self.now += odd.rng.choice((0.0, 0.02, 0.3, 2.0))

    def rest(self) -> None:
        """All calls are answered, then nothing happens any more."""
        for call_id, name in self._calls[2:]:
            self.look(self.brain.tool_result(call_id, name, "late", self.now))
        for _ in range(20_000):
            due = self.brain.deadline()
            if due is None:
                return
            self.now = max(self.now, due)
            self.look(self.brain.due(self.now))
        raise AssertionError("a mind that is told nothing any more never rests")

    def _sound(self) -> bytes:
        level, length = self._odd.rng.choice((0, 0, 8000, 32767)), self._odd.rng.choice((1, 160, 4000))
        return np.full(length, level, "<i2").tobytes() + (b"\x01" if self._odd.chance(0.1) else b"")
