"""What the user said, item by item, as far as the server's transcription has come.

Transcription runs beside the conversation: its events may come late, after the reply, and out of order across items.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["InputTranscripts", "missing_tail"]

_KEPT_ITEMS = 64


class InputTranscripts:
    """The whole text so far of each user item. Full: the oldest item is forgotten."""

    def __init__(self) -> None:
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._final: OrderedDict[str, None] = OrderedDict()

    def append(self, item_id: str, delta: str) -> str | None:
        """The whole text with this piece; None when there is nothing to tell (an empty piece, or after the end)."""
        if not delta or item_id in self._final:
            return None
        return self._keep(item_id, self._texts.get(item_id, "") + delta)

    def append_segment(self, item_id: str, segment: str) -> str | None:
        """As `append`, for the segments of a diarizing model, which come without the space between."""
        said = self._texts.get(item_id, "")
        gap = " " if said and not said[-1].isspace() and not segment[:1].isspace() else ""
        return self.append(item_id, gap + segment if segment else "")

    def replace(self, item_id: str, text: str) -> str | None:
        """The whole text, from servers that send it cumulatively; None when nothing changed."""
        if item_id in self._final or self._texts.get(item_id) == text:
            return None
        return self._keep(item_id, text)

    def complete(self, item_id: str) -> bool:
        """The final text is known: later pieces are void. False: it was final before."""
        self._texts.pop(item_id, None)
        if item_id in self._final:
            return False
        self._final[item_id] = None
        if len(self._final) > _KEPT_ITEMS:
            self._final.popitem(last=False)
        return True

    def _keep(self, item_id: str, text: str) -> str:
        self._texts[item_id] = text
        if len(self._texts) > _KEPT_ITEMS:
            self._texts.popitem(last=False)
        return text


def missing_tail(said: str, whole: str) -> str:
    """What `whole` has beyond the pieces told so far; nothing when they tell another story."""
    return whole[len(said) :] if whole.startswith(said) else ""
