"""How a successor takes up the thread of a call: what it is told, what it hears again, and whether it speaks first.

No I/O, no clock. A turn that the lost session had heard but not answered is heard again, from its first sound; an
answer of which the room has heard a part is not begun anew but gone on with.
"""

from __future__ import annotations

import msgspec

__all__ = ["Loose", "Thread", "take_up"]


class Loose(msgspec.Struct, frozen=True, kw_only=True):
    """The loose ends of the session that led last. Places are numbers of frames on the tape."""

    unanswered_from: int | None = None
    """Where the speech begins that no answer was given to."""
    reply_broken_off: bool = False
    """A reply has begun to sound and will never be complete."""
    speech_after_reply_from: int | None = None
    """Where speech begins that came after that reply began: the user has gone on to something else."""
    orders: tuple[str, ...] = ()
    """Typed turns and prompts (as empty texts) that no model has begun to answer: the successor will be given them."""


class Thread(msgspec.Struct, frozen=True):
    """What to do for the successor."""

    rewind_to: int | None = None
    """It hears the tape from here; None: from where the one before it had stopped hearing."""
    without_last_turn: bool = False
    """The last user turn is left out of what it is told: it hears it."""
    go_on: bool = False
    """It is asked to go on with the broken reply at once."""
    note: bool = False
    """It is told of the last exchange, which its handle does not hold."""


def take_up(loose: Loose, *, by_handle: bool, covered: bool) -> Thread:
    """Args: by_handle says that the successor remembers by itself, up to the handle; covered, that the handle is newer
    than the last finished turn."""
    if loose.reply_broken_off:
        moved_on = loose.speech_after_reply_from is not None or bool(loose.orders)
        return Thread(loose.speech_after_reply_from, go_on=not moved_on, note=by_handle and moved_on)
    if loose.unanswered_from is not None:
        return Thread(loose.unanswered_from, without_last_turn=True, note=by_handle and not covered)
    return Thread(note=by_handle and not covered)
