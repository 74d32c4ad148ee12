"""How much of a call a new session is told, and in which words. `[conversation.memory]` in the configuration file.

The words are templates, so that they can be translated. They are checked when they are read: a template that names a
field which does not exist, or leaves out one that must be there, is refused with its setting's name.
"""

from __future__ import annotations

from string import Formatter
from typing import Annotated

import msgspec
from msgspec import Meta

from bridge.conversation.entries import Entry, Line, ToolUse
from bridge.core.errors import ConfigError

__all__ = ["MemorySettings", "MemoryWords"]

_SHOWN_ARGUMENTS = 300
_SHOWN_RESULT = 600
_FIELDS = {
    "assistant": (),
    "earlier": ("summary",),
    "tool": ("name", "arguments", "result"),
    "tool_failed": ("name", "arguments", "result"),
    "tool_unanswered": ("name", "arguments"),
    "unworded": ("seconds",),
    "exchange": ("lines",),
    "go_on": ("heard",),
    "answer": ("said",),
    "heard_in_part": ("heard",),
    "heard_not_at_all": (),
}
_MUST_HAVE = {"earlier": "summary", "exchange": "lines", "go_on": "heard", "heard_in_part": "heard"}


class MemoryWords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model is told about its own past, in the language of the call."""

    assistant: str = "Assistant"
    """What the model is called in the summary, where people are called by their names."""
    earlier: str = "(For your memory. Earlier in this conversation:\n{summary})"
    """Opens a seed whose oldest turns were folded into `{summary}`."""
    tool: str = "(For your memory. The tool {name} was called with {arguments}. It answered: {result})"
    """A tool that answered, as a fact."""
    tool_failed: str = "(For your memory. The tool {name} was called with {arguments}. It failed: {result})"
    """A tool that failed or was called off."""
    tool_unanswered: str = "(For your memory. The tool {name} was called with {arguments}. It has not answered yet.)"
    """A tool whose answer is not there."""
    unworded: str = "(For your memory. Here you spoke for {seconds} s. Your words were not written down.)"
    """A reply that was heard and of which there is no transcript."""
    exchange: str = "(For your memory; do not answer this. Said just before:\n{lines})"
    """What a resumed session missed: `{lines}` are the turns that its handle does not hold."""
    go_on: str = (
        'Your last answer broke off because of a technical fault. The caller heard this of it: "{heard}" '
        "Go on from there, in the same language. Do not repeat what was heard, do not begin anew, do not apologise."
    )
    """Asks a new session to go on with the reply of a lost one. `{heard}`: how far the room heard it."""
    answer: str = "Answer the caller's last words now, in the same language, as if there had been no delay: {said}"
    """Asks a new session for the answer that a lost one still owed. `{said}`: what the user said, where known."""
    heard_in_part: str = (
        "(For your memory; do not answer this. Your last answer was interrupted. The caller heard only this of it: "
        '"{heard}" What follows there was never heard.)'
    )
    """Repairs the memory of a model that cannot be told by itself how far it was heard."""
    heard_not_at_all: str = (
        "(For your memory; do not answer this. Your last answer was interrupted before it could be heard. The caller "
        "heard nothing of it.)"
    )
    """The same where nothing had been heard."""

    def __post_init__(self) -> None:
        for name, fields in _FIELDS.items():
            template: str = getattr(self, name)
            where = f"conversation.memory.words.{name}"
            may = " or ".join(f"{{{field}}}" for field in fields) or "no field in braces"
            try:
                found = list(Formatter().parse(template))
            except ValueError as error:
                raise ConfigError(where, template, f"is no template: {error}; write {{{{ for a brace") from error
            named = {field for _, field, _, _ in found if field is not None}
            plain = not any(form or conversion for _, _, form, conversion in found)
            if not named <= set(fields) or not plain:
                raise ConfigError(where, template, f"may hold {may}, and nothing else in braces")
            if name in _MUST_HAVE and _MUST_HAVE[name] not in named:
                raise ConfigError(where, template, f"must hold {{{_MUST_HAVE[name]}}}: the model would not know of it")
            if not template.strip():
                raise ConfigError(where, template, "may not be empty")

    def fact(self, use: ToolUse) -> str:
        """A tool call and what became of it, in one sentence."""
        arguments = _clip(msgspec.json.encode(use.arguments).decode(), _SHOWN_ARGUMENTS)
        if use.result is None and not use.cancelled:
            return self.tool_unanswered.format(name=use.name, arguments=arguments)
        result = _clip(use.result or "-", _SHOWN_RESULT)
        form = self.tool_failed if use.error or use.cancelled else self.tool
        return form.format(name=use.name, arguments=arguments, result=result)

    def told(self, entry: Entry, name: str) -> str:
        """One entry with its speaker, as a line of a report."""
        return f"{name}: {entry.text.strip()}" if isinstance(entry, Line) else self.fact(entry)


class MemorySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a new model session is told of the call. A provider that takes less is told less."""

    turns: Annotated[int, Meta(ge=1, le=200)] = 40
    """The last lines and tool calls, told word for word. Older ones are folded into the summary."""
    chars: Annotated[int, Meta(ge=200, le=1_000_000)] = 16_000
    """Characters of a whole seed, summary included."""
    summary_chars: Annotated[int, Meta(ge=0, le=100_000)] = 2000
    """Characters of the summary of what is older. 0: what is older is not told."""
    summarize_timeout_s: Annotated[float, Meta(gt=0, le=600)] = 20.0
    """The application's `summarize` may take this long, s. Then the digest takes its place."""
    repair_after_ms: Annotated[int, Meta(ge=0, le=60_000)] = 500
    """With a provider whose memory may be repaired: the quiet before it is told what was not heard, ms."""
    words: MemoryWords = MemoryWords()


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
