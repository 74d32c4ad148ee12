"""What each Live model allows, as a table, so that a wrong setting is refused before anything is opened.

Source: Google's model pages and measured refusals, Nov 2026. A model that is not listed gets `UNKNOWN_MODEL`, which
refuses nothing: the service itself answers for it.
"""

from __future__ import annotations

import fnmatch
from enum import StrEnum

import msgspec

__all__ = ["DEFAULT_MODEL", "MODELS", "UNKNOWN_MODEL", "VOICES", "Backend", "ModelRules", "rules_for"]

DEFAULT_MODEL = "gemini-3.8-live"

VOICES = (
    *("Achernar", "Achird", "Algenib", "Algieba", "Alnilam", "Aoede", "Autonoe", "Callirrhoe", "Charon", "Despina"),
    *("Enceladus", "Erinome", "Fenrir", "Gacrux", "Iapetus", "Kore", "Laomedeia", "Leda", "Orus", "Puck"),
    *("Pulcherrima", "Rasalgethi", "Sadachbia", "Sadaltager", "Schedar", "Sulafat", "Umbriel", "Vindemiatrix"),
    *("Zephyr", "Zubenelgenubi"),
)


class Backend(StrEnum):
    """Which of Google's two services is spoken to."""

    DEVELOPER = "developer"
    VERTEX = "vertex"


_BOTH = frozenset(Backend)
_DEVELOPER = frozenset({Backend.DEVELOPER})
_VERTEX = frozenset({Backend.VERTEX})


class ModelRules(msgspec.Struct, frozen=True, kw_only=True):
    """What one model takes. The defaults are those of `gemini-3.8-live`."""

    pattern: str
    """Matches the bare model id, in the manner of file names."""
    backends: frozenset[Backend] = _BOTH
    retired: str = ""
    """When the model was switched off; empty while it is served."""
    modalities: frozenset[str] = frozenset({"audio"})
    language_code: bool = False
    """Takes `speechConfig.languageCode`; native-audio models pick the language themselves."""
    speech: bool = True
    """Conversational: speaks. Transcription models do not."""

    thinking_levels: tuple[str, ...] = ()
    """Accepted by `thinkingConfig.thinkingLevel`; empty: the field is refused."""
    thinking_required: bool = False
    thinking_budgets: str = "none"
    """`any`, `zero` (tolerated, means nothing) or `none` (refused)."""

    tools: bool = True
    blocking_by_default: bool = False
    """What a declaration without `behavior` means."""
    blocking: bool = True
    """`BLOCKING` may be written."""
    non_blocking: bool = True
    """`NON_BLOCKING` may be written."""
    explicit_behavior: bool = False
    """Always write `behavior`: what its absence means is not documented."""
    scheduling: bool = True
    """Reads `scheduling` in the answer of a non-blocking call."""
    code_tools: bool = False
    """Takes `codeExecution` and `urlContext`."""

    affective: bool = False
    """Takes `enableAffectiveDialog`, and `proactivity` as something that can be switched."""
    video: bool = True
    avatar: bool = False
    translation: bool = False
    nudged: bool = True
    """After `clientContent` with `turnComplete` it generates only when a `realtimeInput.text` follows."""
    history_config: bool = True
    """Takes `historyConfig`; the others need a seeded history that ends with a user turn."""
    context_tokens: int = 131_072
    """What it can keep in mind. 0: it holds no conversation that could be seeded."""
    context_update: frozenset[Backend] = frozenset()
    """Where `contextUpdate` is documented for it."""

    def blocks(self, wish: bool | None) -> bool:
        """Does the model wait for a tool that was declared with this `ToolSpec.blocking`?"""
        return self.blocking_by_default if wish is None else wish


MODELS: tuple[ModelRules, ...] = (
    ModelRules(
        pattern="gemini-3.8-live-extended-thinking*",
        backends=_DEVELOPER,
        thinking_levels=("low", "medium", "high"),
        thinking_required=True,
        blocking=False,
        explicit_behavior=True,
        scheduling=False,
    ),
    ModelRules(pattern="gemini-3.8-live*", thinking_budgets="zero", avatar=True, context_update=_VERTEX),
    ModelRules(
        pattern="gemini-3.1-flash-live*",
        backends=_DEVELOPER,
        thinking_levels=("minimal", "low", "medium", "high"),
        blocking_by_default=True,
        non_blocking=False,
        scheduling=False,
    ),
    ModelRules(
        pattern="gemini-3.5-live-translate*",
        thinking_budgets="none",
        tools=False,
        video=False,
        translation=True,
        context_tokens=0,
    ),
    ModelRules(
        pattern="gemini-3.5-transcribe-live*",
        modalities=frozenset({"audio", "text"}),
        speech=False,
        tools=False,
        video=False,
        context_tokens=0,
    ),
    ModelRules(
        pattern="gemini-2.5-flash-native-audio*",
        backends=_DEVELOPER,
        thinking_budgets="any",
        blocking_by_default=True,
        code_tools=True,
        affective=True,
        nudged=False,
        history_config=False,
    ),
    ModelRules(
        pattern="gemini-live-2.5-flash-native-audio*",
        backends=_VERTEX,
        thinking_budgets="any",
        blocking_by_default=True,
        code_tools=True,
        affective=True,
        nudged=False,
        history_config=False,
    ),
    ModelRules(pattern="gemini-live-2.5-flash-preview*", retired="2025-12-09"),
    ModelRules(pattern="gemini-2.0-flash*", retired="2025-12-09"),
    ModelRules(
        pattern="gemini-live-2.5-flash*",
        backends=_VERTEX,
        modalities=frozenset({"audio", "text"}),
        language_code=True,
        thinking_budgets="any",
        blocking_by_default=True,
        non_blocking=False,
        scheduling=False,
        code_tools=True,
        nudged=False,
        history_config=False,
        context_tokens=32_768,
    ),
)
"""First match wins, so the longer names come first."""

UNKNOWN_MODEL = ModelRules(
    pattern="*",
    modalities=frozenset({"audio", "text"}),
    language_code=True,
    thinking_levels=("minimal", "low", "medium", "high", "xhigh"),
    thinking_budgets="any",
    code_tools=True,
    affective=True,
    avatar=True,
    translation=True,
    context_tokens=32_768,
)


def rules_for(model: str) -> ModelRules:
    """The rules of a model, by its bare id or by any path that ends in it."""
    bare = model.rsplit("/", 1)[-1]
    return next((rules for rules in MODELS if fnmatch.fnmatchcase(bare, rules.pattern)), UNKNOWN_MODEL)
