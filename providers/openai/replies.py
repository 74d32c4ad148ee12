"""The replies of a session and their items: how much speech of each has come, and what to cut when less was heard.

The server's audio runs ahead of the ear. After a barge-in it must be told, item by item, where the ear was: the item
being played is truncated there, items nobody heard are deleted. Sources: OpenAI Realtime reference, truncate;
livekit/agents#6157 and #6249 (a truncation to 0, or before the audio began, is refused).
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from providers.signal.formats import AudioFormat

__all__ = ["Cut", "Replies", "Reply", "ReplyItem"]

_KEPT_REPLIES = 64
"""Enough for the longest queue of unheard speech; older replies can no longer be cut."""
_MOST_ITEMS = 256
"""Of one reply, which has a handful: only a server at fault makes more."""
_PLAYOUT_SLACK_S = 2.0
"""A reply counts as perhaps still sounding this long after its speech would have ended in real time."""


class Cut(msgspec.Struct, frozen=True, gc=False):
    """One order to the server. `audio_end_ms` None: delete the item."""

    item_id: str
    content_index: int
    audio_end_ms: int | None


class ReplyItem:
    """One output item of a reply."""

    __slots__ = (
        "audio_bytes",
        "audio_done",
        "call_id",
        "content_index",
        "cut_ms",
        "cut_short",
        "deleted",
        "exists",
        "id",
        "is_message",
        "name",
        "odd_byte",
        "output_index",
        "transcript",
        "unwanted",
        "written",
    )

    def __init__(self, item_id: str, output_index: int) -> None:
        self.id = item_id
        self.output_index = output_index
        self.is_message = True
        self.exists = False
        """`conversation.item.added` was seen: an earlier truncate or delete would be refused."""
        self.content_index = 0
        self.audio_bytes = 0
        self.audio_done = False
        self.cut_short = False
        """The server ended it in the middle: its words run on beyond its speech."""
        self.odd_byte = b""
        self.transcript = ""
        self.name = ""
        self.call_id = ""
        self.cut_ms: int | None = None
        self.unwanted = False
        """To be deleted as soon as it exists."""
        self.deleted = False
        self.written = False
        """A text answer, not a spoken one."""


class Reply:
    """One response."""

    __slots__ = (
        "active",
        "announced",
        "cancel_sent",
        "cut_at_ms",
        "default",
        "ended",
        "id",
        "interrupted",
        "items",
        "plays_until",
        "spoken",
        "text",
    )

    def __init__(self, reply_id: str) -> None:
        self.id = reply_id
        self.announced = False
        self.active = True
        """It is being generated, as far as we know."""
        self.ended = False
        """`response.done` came."""
        self.default = True
        """Part of the default conversation, which knows one active response at a time."""
        self.interrupted = False
        """`Interrupted` was reported."""
        self.cancel_sent = False
        self.items: dict[str, ReplyItem] = {}
        self.plays_until = 0.0
        """When its speech so far ends for a listener who began at once."""
        self.spoken = ""
        """The last character of the transcript so far."""
        self.text = False
        self.cut_at_ms: int | None = None

    def item(self, item_id: str, output_index: int) -> ReplyItem:
        """The item of this id, made when it is new."""
        item = self.items.get(item_id)
        if item is None:
            item = self.items[item_id] = ReplyItem(item_id, output_index)
        return item

    def may_sound(self, now: float) -> bool:
        """Is it being generated, or could a listener still be hearing it?"""
        return self.active or now < self.plays_until + (_PLAYOUT_SLACK_S if self.plays_until else 0.0)

    def in_order(self) -> list[ReplyItem]:
        """Messages in the order in which they are heard."""
        return sorted((item for item in self.items.values() if item.is_message), key=lambda item: item.output_index)


class Replies:
    """The latest replies of one session. Full: the oldest finished one is forgotten; of the items of one reply, the
    oldest."""

    def __init__(self, output_format: AudioFormat) -> None:
        self._format = output_format
        self._s_per_byte = 1 / (output_format.rate_hz * output_format.bytes_per_sample)
        self._replies: OrderedDict[str, Reply] = OrderedDict()
        self._by_item: dict[str, Reply] = {}
        self._early: OrderedDict[str, None] = OrderedDict()
        """Items that the server announced to the conversation before it named their response."""

    def get(self, reply_id: str) -> Reply | None:
        return self._replies.get(reply_id)

    def open(self, reply_id: str) -> Reply:
        """The reply of this id, made when it is new."""
        reply = self._replies.get(reply_id)
        if reply is None:
            reply = self._replies[reply_id] = Reply(reply_id)
            if len(self._replies) > _KEPT_REPLIES:
                self._forget_one()
        return reply

    def item(self, reply: Reply, item_id: str, output_index: int) -> ReplyItem:
        """The reply's item of this id; found again by `of_item`."""
        self._by_item[item_id] = reply
        item = reply.item(item_id, output_index)
        if len(reply.items) > _MOST_ITEMS:
            self._forget_item(reply, next(iter(reply.items)))
        if item_id in self._early:
            del self._early[item_id]
            item.exists = True
        return item

    def of_item(self, item_id: str) -> Reply | None:
        """The reply that this item belongs to."""
        return self._by_item.get(item_id)

    def begins(self, reply: Reply) -> None:
        """`response.created` in the default conversation, which has one response at a time: any other is over, even
        where its end was not told. Otherwise it would keep back every request from then on."""
        for other in self._replies.values():
            if other is not reply and other.default:
                other.active = False

    def active(self) -> Reply | None:
        """The response being generated in the default conversation."""
        for reply in reversed(self._replies.values()):
            if reply.active and reply.default:
                return reply
        return None

    def interrupted(self, now: float) -> Reply | None:
        """The user cut in: marks every reply of the default conversation that is being generated or may still be
        heard, and returns the newest of them. A reply is interrupted once."""
        newest: Reply | None = None
        for reply in self._replies.values():
            if reply.default and not reply.interrupted and reply.may_sound(now):
                reply.interrupted = True
                newest = reply
        return newest

    def audio_came(self, reply: Reply, item: ReplyItem, size: int, now: float) -> None:
        """Count `size` bytes of speech."""
        item.audio_bytes += size
        reply.plays_until = max(reply.plays_until, now) + size * self._s_per_byte

    # ----------------------------------------------------------------------------------------------------- truncation

    def cut(self, reply_id: str, heard_ms: int) -> list[Cut]:
        """The orders that leave `heard_ms` of this reply. What cannot be ordered yet is remembered: see `exists_now`.

        The position is clamped to the speech that came. An item heard to its end is left alone, unless the server was
        stopped in the middle of it: then it holds more words than anybody heard, and is cut where our audio ends.
        """
        reply = self._replies.get(reply_id)
        if reply is None or (reply.cut_at_ms is not None and heard_ms >= reply.cut_at_ms):
            return []
        reply.cut_at_ms = max(0, heard_ms)
        left_ms = float(reply.cut_at_ms)
        orders: list[Cut] = []
        for item in reply.in_order():
            received_ms = self._format.duration_ms(item.audio_bytes)
            heard_of_it_ms = int(min(left_ms, received_ms))
            left_ms -= received_ms
            if item.deleted:
                continue
            if item.written:
                continue  # text on a screen was seen whole
            if heard_of_it_ms <= 0:
                item.unwanted = True
                orders += self._delete(item)
            elif left_ms < 0 or item.cut_short or not item.audio_done:
                orders += self._truncate(item, heard_of_it_ms)
        return orders

    def exists_now(self, item_id: str) -> list[Cut]:
        """The server has this item: what had to wait for that may be ordered now."""
        reply = self._by_item.get(item_id)
        if reply is None:
            self._early[item_id] = None
            if len(self._early) > _KEPT_REPLIES:
                self._early.popitem(last=False)
            return []
        item = reply.items[item_id]
        item.exists = True
        if reply.cut_at_ms is not None and item.is_message and not (item.audio_bytes or item.written):
            item.unwanted = True  # it came after the cut: nobody heard anything of it
        return self._delete(item)

    def _delete(self, item: ReplyItem) -> list[Cut]:
        if not item.unwanted or not item.exists or item.deleted:
            return []
        item.deleted = True
        return [Cut(item.id, 0, None)]

    def _truncate(self, item: ReplyItem, heard_ms: int) -> list[Cut]:
        if item.cut_ms is not None and item.cut_ms <= heard_ms:
            return []
        item.cut_ms = heard_ms
        return [Cut(item.id, item.content_index, heard_ms)]

    def _forget_one(self) -> None:
        for reply_id, reply in self._replies.items():
            if not reply.active or len(self._replies) > 2 * _KEPT_REPLIES:
                del self._replies[reply_id]
                for item_id in tuple(reply.items):
                    self._forget_item(reply, item_id)
                return

    def _forget_item(self, reply: Reply, item_id: str) -> None:
        del reply.items[item_id]
        if self._by_item.get(item_id) is reply:
            del self._by_item[item_id]
