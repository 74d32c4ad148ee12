"""Who may silence the model, and what follows from it."""

from __future__ import annotations

from bridge.audio.playout import Playout
from bridge.conversation.barge_in import BargeIn, BargeInPolicy, BargeInSettings
from bridge.conversation.interruption import Interruption
from bridge.conversation.replies import Replies
from bridge.conversation.stats import ConversationStats
from bridge.core.commands import Command, FinishSpeech, FlushPlayout, FlushReason, InterruptModel
from tests.fakes.sink import FakeSink


class Stage:
    """One reply of two seconds that has sounded for half a second, under a policy."""

    def __init__(self, policy: BargeInPolicy) -> None:
        sink = FakeSink()
        self.playout = Playout(sink)
        self.stats = ConversationStats()
        self.replies = Replies()
        barge_in = BargeIn(BargeInSettings(policy=policy), self.stats)
        self.interruption = Interruption(barge_in, self.playout, self.replies, self.stats)
        self.replies.started("r")
        self.playout.push("r", bytes(48 * 2000), 0.0)
        for n in range(26):
            sink.run(n * 0.02)
            self.playout.feed(n * 0.02)
        self.commands: list[Command] = []


def test_a_wish_of_ours_also_stops_the_model_and_fences_what_it_was_saying() -> None:
    stage = Stage(BargeInPolicy())
    stage.interruption.ask(FlushReason.LOCAL_SPEECH, 0.5, stage.commands)
    assert stage.commands == [FlushPlayout(FlushReason.LOCAL_SPEECH, ("r",)), InterruptModel()]


def test_a_protected_reply_only_ends_where_the_provider_cut_it() -> None:
    stage = Stage(BargeInPolicy(mode="never"))
    assert stage.interruption.provider_cut("r", 0.5, stage.commands) == ["r"]
    assert stage.commands == [FinishSpeech("r")]
    assert stage.interruption.deadline() is None


def test_a_wish_that_came_too_early_is_kept_until_it_is_allowed() -> None:
    stage = Stage(BargeInPolicy(mode="after", after_ms=800))
    stage.interruption.ask(FlushReason.PROVIDER, 0.5, stage.commands)
    assert not stage.commands
    deadline = stage.interruption.deadline()
    assert deadline is not None
    assert abs(deadline - 0.8) < 0.002
    stage.interruption.due(0.85, stage.commands, user_speaks=False)
    assert not stage.commands
    assert stage.interruption.deadline() is None


def test_the_application_needs_no_leave() -> None:
    stage = Stage(BargeInPolicy(mode="never"))
    stage.interruption.ask(FlushReason.APPLICATION, 0.5, stage.commands)
    assert FlushPlayout(FlushReason.APPLICATION, ("r",)) in stage.commands
