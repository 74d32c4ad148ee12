"""The conversation of an emulated connection: its items, what the server believes was heard, and its refusals."""

from __future__ import annotations

from typing import Any

import msgspec

from providers.emulators.openai_schema import Problem

__all__ = ["Conversation", "StoredItem"]


class StoredItem(msgspec.Struct, kw_only=True):
    """One conversation item. Deleted ones are kept for tests, out of the conversation."""

    body: dict[str, Any]
    reply: int | None = None
    """The reply that it is part of, on the mind's count."""
    reply_from_ms: int = 0
    """Where its speech begins in that reply."""
    speech_ms: int = 0
    """Speech that was sent of it."""
    heard_ms: int | None = None
    """Where a client truncated it; None: it never did."""
    deleted: bool = False

    @property
    def id(self) -> str:
        return str(self.body["id"])

    @property
    def believed_heard_ms(self) -> int:
        """How much of its speech the server believes was heard."""
        if self.deleted:
            return 0
        return self.speech_ms if self.heard_ms is None else self.heard_ms


class Conversation:
    """Items in order."""

    def __init__(self, mark: str) -> None:
        """Args: mark is part of every id."""
        self.id = f"conv_{mark}"
        self.items: list[StoredItem] = []
        self.deleted: list[StoredItem] = []
        self._mark = mark
        self._minted = 0

    def mint(self) -> str:
        """A fresh item id."""
        self._minted += 1
        return f"item_{self._mark}_{self._minted:05}"

    def find(self, item_id: str) -> StoredItem | None:
        return next((item for item in self.items if item.id == item_id), None)

    def last_id(self) -> str | None:
        return self.items[-1].id if self.items else None

    def add(self, item: StoredItem, after: str | None = None) -> str | None:
        """Put an item in; returns the id of the one before it. `after`: None for the end, `root` for the beginning."""
        position = len(self.items)
        if after == "root":
            position = 0
        elif after is not None:
            position = next(index for index, known in enumerate(self.items) if known.id == after) + 1
        self.items.insert(position, item)
        return self.items[position - 1].id if position else None

    def creation_refusal(self, item: dict[str, Any], after: str | None, context_tokens: int) -> Problem | None:
        """Args: context_tokens is the model's; a text that alone would fill it is refused."""
        for index, part in enumerate(item.get("content", [])):
            # Four bytes of text are about one token.
            if isinstance(part.get("text"), str) and len(part["text"].encode()) > 4 * context_tokens:
                said = f"Invalid 'item.content[{index}].text': string too long."
                return Problem("string_above_max_length", said, f"item.content[{index}].text")
        item_id = item.get("id")
        if item_id is not None and len(item_id) > 32:
            said = f"Invalid 'item.id': string too long. Expected at most 32 characters, got {len(item_id)}."
            return Problem("invalid_value", said, "item.id")
        if item_id is not None and self.find(item_id) is not None:
            said = f"Error creating item: an item with id '{item_id}' already exists."
            return Problem("item_create_duplicate_item_id", said, "item.id")
        if after not in (None, "root") and self.find(str(after)) is None:
            return Problem("invalid_value", f"The previous item '{after}' does not exist.", "previous_item_id")
        return None

    def truncation_refusal(self, item_id: str, audio_end_ms: int) -> Problem | None:
        item = self.find(item_id)
        if item is None:
            said = f"Error truncating item: the item with id '{item_id}' does not exist."
            return Problem("item_truncate_invalid_item_id", said, "item_id")
        if item.reply is None or not item.speech_ms:
            return Problem("invalid_value", "Only model output audio messages can be truncated.", "item_id")
        held_ms = item.speech_ms if item.heard_ms is None else item.heard_ms
        if audio_end_ms > held_ms:
            said = f"Audio content of {held_ms}ms is already shorter than {audio_end_ms}ms"
            return Problem("invalid_value", said, "audio_end_ms")
        return None

    def truncate(self, item_id: str, audio_end_ms: int) -> StoredItem:
        """Cut an item's speech and drop its transcript: what was not heard must not stay in the context."""
        item = self.find(item_id)
        assert item is not None, "refused before"
        item.heard_ms = audio_end_ms
        for part in item.body["content"]:
            part.pop("transcript", None)
        return item

    def delete(self, item_id: str) -> StoredItem | None:
        """None: no such item."""
        item = self.find(item_id)
        if item is not None:
            self.items.remove(item)
            item.deleted = True
            self.deleted.append(item)
        return item
