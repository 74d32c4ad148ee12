"""What a scripted mind does: a closed union of frozen records, rendered by the scripted model and by both emulators.

Turns, replies and batches count from 1 and go on counting in a resumed session. Times are ms of input audio (`at_ms`)
or of the reply's own speech (`speech_ms`).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from providers.scripted.faults import TimedFault

__all__ = [
    "Act",
    "CallTools",
    "CancelCalls",
    "Cause",
    "Cut",
    "FaultDue",
    "GenerationDone",
    "GoingAway",
    "InputWords",
    "LimitReached",
    "PlannedCall",
    "ReplyBegan",
    "Resumable",
    "Say",
    "SpeechStarted",
    "SpeechStopped",
    "Think",
    "TurnDone",
    "TurnHeard",
    "TurnUsage",
    "Words",
    "Written",
]

Cause = Literal["speech", "text", "client", "activity"]


class SpeechStarted(msgspec.Struct, frozen=True, gc=False):
    """The server's VAD heard the user begin. `at_ms` includes the prefix padding."""

    turn: int
    at_ms: int


class SpeechStopped(msgspec.Struct, frozen=True, gc=False):
    """The server's VAD heard the user end. `at_ms` is where it noticed: the silence that ended the turn is included."""

    turn: int
    at_ms: int


class TurnHeard(msgspec.Struct, frozen=True, gc=False):
    """The user's turn is complete (committed), by VAD, by commit, or by the end of an activity."""

    turn: int
    audio_ms: int


class InputWords(msgspec.Struct, frozen=True, gc=False):
    """The transcript of a user turn."""

    turn: int
    text: str
    final: bool = True


class ReplyBegan(msgspec.Struct, frozen=True, gc=False):
    """A reply begins. `turn` is the user turn that it answers, 0 for a greeting."""

    reply: int
    turn: int


class Think(msgspec.Struct, frozen=True, gc=False):
    reply: int
    text: str


class Say(msgspec.Struct, frozen=True, gc=False):
    """Speech: int16 mono at 24 kHz. `speech_ms`: where in the reply it begins. `late`: the reply was already cut."""

    reply: int
    pcm: bytes
    speech_ms: int
    late: bool = False


class Words(msgspec.Struct, frozen=True, gc=False):
    """A piece of what the reply says aloud. The final one is empty."""

    reply: int
    delta: str
    final: bool = False


class Written(msgspec.Struct, frozen=True, gc=False):
    """A piece of a written reply. The final one is empty."""

    reply: int
    delta: str
    final: bool = False


class PlannedCall(msgspec.Struct, frozen=True):
    call_id: str
    name: str
    arguments: dict[str, Any]


class CallTools(msgspec.Struct, frozen=True):
    """These functions are to be run, in parallel. The answer waits for all results."""

    reply: int
    batch: int
    calls: tuple[PlannedCall, ...]
    blocking: bool = True


class CancelCalls(msgspec.Struct, frozen=True, gc=False):
    """Calls that nobody waits for any more, because the user spoke."""

    call_ids: tuple[str, ...]


class GenerationDone(msgspec.Struct, frozen=True, gc=False):
    """All of the reply was sent."""

    reply: int


class TurnUsage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one turn."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    thought_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens + self.thought_tokens


class TurnDone(msgspec.Struct, frozen=True, gc=False):
    """The turn is over: at the estimated end of playback, or with the generation, as `Manners.turn_done` says."""

    reply: int
    reason: Literal["completed", "interrupted"]
    usage: TurnUsage
    cause: Cause | None = None
    """Who interrupted it."""


class Cut(msgspec.Struct, frozen=True, gc=False):
    """The reply is dead. `late` speech of it may follow, then its `TurnDone`."""

    reply: int
    speech_ms: int
    """Speech that was sent of it."""
    cause: Cause
    generating: bool
    """False: all of it had been sent; only its playback is cut."""


class Resumable(msgspec.Struct, frozen=True, gc=False):
    """Whether a handle issued now would lose nothing."""

    resumable: bool


class GoingAway(msgspec.Struct, frozen=True, gc=False):
    """The connection will be aborted; `LimitReached` follows when the time is up."""

    time_left_s: float


class LimitReached(msgspec.Struct, frozen=True, gc=False):
    """The session's time is over: close as the vendor does. `after_go_away`: it had been announced."""

    after_go_away: bool


class FaultDue(msgspec.Struct, frozen=True):
    """A fault of the scenario strikes now, between the act before and the act after."""

    fault: TimedFault


Act = (
    SpeechStarted
    | SpeechStopped
    | TurnHeard
    | InputWords
    | ReplyBegan
    | Think
    | Say
    | Words
    | Written
    | CallTools
    | CancelCalls
    | GenerationDone
    | TurnDone
    | Cut
    | Resumable
    | GoingAway
    | LimitReached
    | FaultDue
)
