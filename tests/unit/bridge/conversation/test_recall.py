"""What those who open sessions ask: within the bounds of the model that they open."""

from __future__ import annotations

import msgspec

from bridge.conversation.entries import Line
from bridge.conversation.ledger import Ledger
from bridge.conversation.memory import ProviderMemory
from bridge.conversation.memory_settings import MemorySettings
from bridge.conversation.recall import Recall
from bridge.conversation.stats import ConversationStats
from bridge.core.words import ParticipantId
from tests.fakes.playbook import OPENAI

ANN = ParticipantId("ann")


def test_a_seed_keeps_to_the_bounds_of_the_model_and_leaves_out_what_waits_for_it() -> None:
    stats = ConversationStats()
    ledger = Ledger(100, stats)
    memory = ProviderMemory(MemorySettings(), stats)
    waiting: list[str] = []
    recall = Recall(ledger, memory, lambda: 50.0, lambda: tuple(waiting))
    for n in range(20):
        ledger.said(Line(ANN, f"number {n}", float(n), float(n), typed=True))
    small = msgspec.structs.replace(OPENAI, seed_items=3, seed_chars=300)
    made = recall.seed(small)
    assert len(made) == 3 and made[-1].text == "number 19" and "number 17" in made[0].text
    waiting.append("number 19")
    assert recall.seed(small)[-1].text == "number 18"
    assert recall.seed(msgspec.structs.replace(OPENAI, seed_items=0)) == ()


def test_it_is_told_apart_whether_anything_was_said_since() -> None:
    stats = ConversationStats()
    ledger = Ledger(100, stats)
    memory = ProviderMemory(MemorySettings(), stats)
    recall = Recall(ledger, memory, lambda: 50.0)
    before = recall.version
    ledger.said(Line(None, "Once upon", 1.0, 2.0, lost=True))
    assert recall.version > before
    assert '"Once upon"' in recall.going_on() and "Once upon" in recall.last_exchange()
    memory.cut("r", "", 0.0, 5000.0, 1.0)
    assert recall.is_wrong
