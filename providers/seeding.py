"""An earlier conversation as a provider will take it: a seed must never be what a session fails for."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from providers.contract import Capabilities, HistoryItem

__all__ = ["Seed", "seed"]


class Seed(msgspec.Struct, frozen=True):
    """What is sent of a history, and what is not."""

    items: tuple[HistoryItem, ...] = ()
    dropped_items: int = 0
    """Lines left out because they were too many, the oldest."""
    cut_chars: int = 0
    """Characters left out: of those lines, and of the first that was kept in part."""

    @property
    def cut(self) -> str:
        """What to warn of; empty when all that was said is in it."""
        if not self.cut_chars:
            return ""
        return f"the history was too long: {self.dropped_items} lines left out, {self.cut_chars} characters in all"


def seed(history: Iterable[HistoryItem], able: Capabilities, *, alternate: bool = False) -> Seed:
    """The newest of `history` that `able.seed_items` and `able.seed_chars` allow, in order.

    Lines without a word are left out uncounted. With `alternate` neighbours of one role become one line, for providers
    that expect turns. The first line that does not fit whole keeps its end, which is what was said last.
    """
    lines = [item for item in history if item.text.strip()]
    if alternate:
        lines = _alternating(lines)
    kept: list[HistoryItem] = []
    left = able.seed_chars
    for item in reversed(lines):
        if len(kept) >= able.seed_items or left <= 0:
            break
        tail = item.text[-left:]
        if not tail.strip():
            break
        kept.append(item if len(tail) == len(item.text) else HistoryItem(role=item.role, text=tail))
        left -= len(tail)
    kept.reverse()
    said = sum(len(item.text) for item in lines)
    return Seed(tuple(kept), len(lines) - len(kept), said - sum(len(item.text) for item in kept))


def _alternating(lines: list[HistoryItem]) -> list[HistoryItem]:
    joined: list[HistoryItem] = []
    for item in lines:
        if joined and joined[-1].role == item.role:
            joined[-1] = HistoryItem(role=item.role, text=f"{joined[-1].text}\n{item.text}")
        else:
            joined.append(item)
    return joined
