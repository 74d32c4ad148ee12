"""Whatever a call holds, its record stays in its bounds, in the order of the conversation, and loses nothing unseen."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.conversation.entries import Entry, Line, ToolUse
from bridge.conversation.ledger import Ledger
from bridge.conversation.memory_settings import MemorySettings
from bridge.conversation.stats import ConversationStats
from bridge.core.words import ParticipantId

LIMIT = 12
ADA = ParticipantId("ada")


class Record(RuleBasedStateMachine):
    """A ledger, and everything that was ever given to it."""

    def __init__(self) -> None:
        super().__init__()
        self.stats = ConversationStats()
        self.ledger = Ledger(LIMIT, self.stats, MemorySettings())
        self.now = 100.0
        self.given: list[str] = []
        self.taken_out: set[str] = set()
        self.calls = 0
        self.results: dict[str, tuple[str, bool]] = {}
        """What each call came to when it ended first."""
        self.folded_again = 0
        self.version = 0
        self.seen: list[tuple[int, float | None]] = []

    @initialize(turns=st.sampled_from([3, 40]))
    def a_call_begins(self, turns: int) -> None:
        self.ledger = Ledger(LIMIT, self.stats, MemorySettings(turns=turns))

    def _name(self) -> str:
        self.given.append(f"line {len(self.given)}")
        return self.given[-1]

    @rule(pause_s=st.floats(0, 30))
    def time_passes(self, pause_s: float) -> None:
        self.now += pause_s

    @rule(by_model=st.booleans(), late_s=st.floats(0, 20), words=st.integers(0, 300), typed=st.booleans())
    def something_is_said(self, by_model: bool, late_s: float, words: int, typed: bool) -> None:
        speaker = None if by_model else ADA
        text = self._name() + " word" * words
        line = Line(speaker=speaker, text=text, at=self.now - late_s, ended_at=self.now, typed=typed and not by_model)
        self.ledger.said(line)

    @rule()
    def a_tool_is_called(self) -> None:
        self.calls += 1
        self.ledger.tool_called(f"c{self.calls}", self._name(), {}, self.now)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), result=st.text(max_size=50) | st.just("long " * 1000), error=st.booleans())
    def a_tool_ends(self, data: st.DataObject, result: str, error: bool) -> None:
        call_id = f"c{data.draw(st.integers(1, self.calls))}"
        recent = self.ledger.recent(self.now)
        self.folded_again += any(
            isinstance(entry, ToolUse) and entry.call_id == call_id and entry.ended_at is None and entry not in recent
            for entry in self.ledger.entries
        )
        self.ledger.tool_ended(call_id, "", self.now, result=result, error=error)
        self.results.setdefault(call_id, (result, error))

    @rule()
    def the_next_session_hears_the_last_words_again(self) -> None:
        lines = self.ledger.lines
        answered = max((line.ended_at or 0.0 for line in lines if line.speaker is None), default=0.0)
        recent = {id(entry) for entry in self.ledger.recent(self.now)}
        unanswered = [line for line in lines if line.speaker == ADA and (line.ended_at or 0.0) > answered]
        self.ledger.will_be_heard_again()
        before = self.ledger.entries
        self.ledger.heard_again()
        after = {id(entry) for entry in self.ledger.entries}
        gone = [entry for entry in before if id(entry) not in after]
        assert gone == [line for line in unanswered if not line.typed and id(line) in recent]
        self.taken_out |= {first_words(entry) for entry in gone}

    @invariant()
    def it_keeps_its_bound_and_counts_what_goes(self) -> None:
        entries = self.ledger.entries
        assert len(entries) <= LIMIT
        assert len(entries) + self.stats.forgotten_entries + len(self.taken_out) == len(self.given)

    @invariant()
    def all_that_is_new_is_there_in_the_order_in_which_it_came(self) -> None:
        kept = [first_words(entry) for entry in self.ledger.entries]
        wanted = [name for name in self.given if name not in self.taken_out]
        assert kept == wanted[len(wanted) - len(kept) :]

    @invariant()
    def what_is_told_is_in_the_order_of_the_conversation(self) -> None:
        begun = [entry.at for entry in self.ledger.recent(self.now)]
        assert begun == sorted(begun)
        times = [line.began_s for line in self.ledger.transcript()]
        assert times == sorted(times) and len(times) == len(self.ledger.entries)

    @invariant()
    def a_change_of_the_record_shows_in_its_version(self) -> None:
        seen = [(id(entry), entry.ended_at) for entry in self.ledger.entries]
        assert self.ledger.version > self.version if seen != self.seen else self.ledger.version >= self.version
        self.version, self.seen = self.ledger.version, seen

    @invariant()
    def each_call_is_open_or_has_ended_once(self) -> None:
        uses = [entry for entry in self.ledger.entries if isinstance(entry, ToolUse)]
        assert len({use.call_id for use in uses}) == len(uses)
        for use in uses:
            result, error = self.results.get(use.call_id, (None, False))
            assert (use.result, use.error) == (result and result[:4000], error)
            assert (use.ended_at is None) == (use.call_id not in self.results)

    @invariant()
    def what_is_not_among_the_last_turns_was_folded_into_the_summary(self) -> None:
        recent = self.ledger.recent(self.now)
        assert len(recent) <= self.ledger.settings.turns
        assert len(recent) + len(self.taken_out) + self.stats.folded_entries == len(self.given) + self.folded_again


def first_words(entry: Entry) -> str:
    return " ".join((entry.text if isinstance(entry, Line) else entry.name).split()[:2])


TestRecord = Record.TestCase
TestRecord.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
