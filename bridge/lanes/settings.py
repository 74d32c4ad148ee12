"""What one call may do, and for how long. `[call]` in the configuration file."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from bridge.sessions.rollover import RolloverSettings
from providers.retry import RetryPolicy

__all__ = ["CallSettings"]


class CallSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits and habits of one call."""

    first_words_s: Annotated[float, Meta(ge=0, le=120)] = 30.0
    """Audio kept while no model session is ready, and after one has heard it until it is answered, so that another one
    could hear it again, s. Full: the oldest goes and is counted."""
    retry: RetryPolicy = RetryPolicy()
    """How long to keep trying to reach a model that is away before the call goes on with the next, or fails."""
    cool_down_s: Annotated[float, Meta(ge=0, le=86_400)] = 60.0
    """A model that was given up is not tried again by the call for this long, s, while another can stand in."""
    rollover: RolloverSettings = RolloverSettings()
    """How a session that is about to end is replaced."""
    idle_close_s: Annotated[float, Meta(ge=5, le=86_400)] | None = None
    """The model session is closed when nobody has spoken for this long, s; the next word, spoken or written, opens it
    again. None: it stays open."""
    drain_s: Annotated[float, Meta(ge=0, le=120)] = 10.0
    """At the end of a call, how long tools that run, and speech that has begun or answers them, may go on, s."""
    max_call_s: Annotated[float, Meta(gt=0, le=2_592_000)] | None = None
    """A call ends after this long, s. None: no limit."""
    tool_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    """A tool that takes longer is cancelled and answered with an error, s."""
    max_parallel_tools: Annotated[int, Meta(ge=1, le=256)] = 16
    """Tool calls that may run at once; further ones are answered with an error."""
    result_wait_s: Annotated[float, Meta(ge=0, le=3600)] = 60.0
    """A tool's result whose session is gone waits so long for the next one, s. Then it is dropped and counted."""
    tool_note: Annotated[str, Meta(pattern=r"\{result\}", max_length=4000)] = (
        "(Not said by the user.) Before the connection was renewed you called the function {name} with the arguments "
        "{arguments}. It has finished and returned: {result}\nDo not call it again for this. Use it to answer the user."
    )
    """What a session is told of the result of a call that an earlier one made: `{name}`, `{arguments}`, `{result}`."""
    resampler: Literal["fir", "soxr"] = "fir"
    """Between room and model rates: the short FIR (about 1 ms), or soxr (finer, holds back 20 ms and more)."""
