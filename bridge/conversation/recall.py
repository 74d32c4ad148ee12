"""What a call knows, asked by those who open its sessions: one object, with a clock."""

from __future__ import annotations

from collections.abc import Callable

from bridge.conversation.ledger import Ledger
from bridge.conversation.memory import ProviderMemory
from bridge.conversation.seed import going_on, last_exchange, seed
from providers.contract import Capabilities, HistoryItem

__all__ = ["Recall"]


class Recall:
    """The ledger and what is known of the provider's own memory, as they stand now."""

    def __init__(
        self,
        ledger: Ledger,
        memory: ProviderMemory,
        clock: Callable[[], float],
        undelivered: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        """`undelivered`: typed turns that wait for the next leader, who must not be told of them as well."""
        self._ledger = ledger
        self._memory = memory
        self._clock = clock
        self._undelivered = undelivered

    @property
    def version(self) -> int:
        """Grows with all that is said, called or answered."""
        return self._ledger.version

    @property
    def is_wrong(self) -> bool:
        """The provider remembers words that nobody heard."""
        return self._memory.is_wrong

    def seed(self, capabilities: Capabilities, *, without_last_turn: bool = False) -> tuple[HistoryItem, ...]:
        """What a fresh session of this model is told; see `bridge.conversation.seed.seed`."""
        return seed(
            self._ledger,
            self._clock(),
            items=capabilities.seed_items,
            chars=capabilities.seed_chars,
            without_last_turn=without_last_turn,
            undelivered=self._undelivered(),
        )

    def going_on(self) -> str:
        """What a new session, which leads by now, is asked to say at once; empty if nothing is owed."""
        asked = going_on(self._ledger, self._clock())
        self._memory.told_ahead = bool(asked)
        return asked

    def last_exchange(self) -> str:
        """A note of the last turn and the reply to it; empty if there is none."""
        return last_exchange(self._ledger, self._clock())
