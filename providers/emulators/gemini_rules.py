"""What the real service refuses in a well-formed setup or message, with its close codes and reasons."""

from __future__ import annotations

from typing import Any

from providers.emulators.gemini_messages import INVALID_ARGUMENT
from providers.gemini.rules import UNKNOWN_MODEL, Backend, ModelRules, rules_for

__all__ = ["Refused", "check_content", "check_setup", "check_tool_response", "doomed"]


class Refused(Exception):
    """The session is closed with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


def check_setup(setup: dict[str, Any], backend: Backend, version: str) -> ModelRules:
    """The rules of the model that the setup names. Raises `Refused`."""
    model = setup.get("model", "")
    rules = rules_for(model)
    if rules is UNKNOWN_MODEL or rules.retired or backend not in rules.backends:
        raise _not_found(model, backend, version)
    if backend is Backend.DEVELOPER:
        if not model.startswith("models/"):
            raise Refused(1007, INVALID_ARGUMENT)
        if "proactivity" in setup and version != "v1alpha":
            raise Refused(
                1007, "Invalid JSON payload received. Unknown name \"proactivity\" at 'setup': Cannot find field."
            )
        if setup.get("explicitVadSignal") is not None or "avatarConfig" in setup:
            raise Refused(1007, INVALID_ARGUMENT)
        if "transparent" in setup.get("sessionResumption", {}):
            raise Refused(1007, INVALID_ARGUMENT)
    elif "/publishers/" not in f"/{model}":
        raise _not_found(model, backend, version)
    generation = setup.get("generationConfig", {})
    _check_modality(generation, rules, model)
    _check_thinking(generation.get("thinkingConfig", {}), rules)
    affective = generation.get("enableAffectiveDialog") is not None
    # 3.8 models accept the field and close at the first input; the others refuse it at once.
    if affective and not rules.affective and not _closes_late(rules):
        raise Refused(1007, INVALID_ARGUMENT)
    _check_tools(setup.get("tools", []), rules)
    return rules


def doomed(setup: dict[str, Any], rules: ModelRules) -> bool:
    """Does the session close at its first input?"""
    affective = setup.get("generationConfig", {}).get("enableAffectiveDialog") is not None
    return affective and not rules.affective and _closes_late(rules)


def _closes_late(rules: ModelRules) -> bool:
    return rules.pattern.startswith("gemini-3.8")


def _not_found(model: str, backend: Backend, version: str) -> Refused:
    if backend is Backend.VERTEX:
        return Refused(1008, f"Publisher Model `{model}` was not found or your project does not have access to it.")
    return Refused(
        1008,
        f"{model} is not found for API version {version}, or is not supported for bidiGenerateContent. Call ListModels",
    )


def _check_modality(generation: dict[str, Any], rules: ModelRules, model: str) -> None:
    modalities = generation.get("responseModalities", ["AUDIO"])
    if len(modalities) != 1:
        raise Refused(1007, INVALID_ARGUMENT)
    if modalities[0] == "TEXT" and "text" not in rules.modalities:
        if "2.5" in rules.pattern:
            raise Refused(1007, "Cannot extract voices from a non-audio request")
        raise Refused(
            1007,
            f"The requested combination of response modalities (TEXT) is not supported by the model. {model}",
        )


def _check_thinking(thinking: dict[str, Any], rules: ModelRules) -> None:
    level, budget = thinking.get("thinkingLevel"), thinking.get("thinkingBudget")
    if level is not None and budget is not None:
        raise Refused(1007, INVALID_ARGUMENT)
    if level is None and rules.thinking_required:
        raise Refused(1007, "Thinking level must be specified for this model.")
    if level is not None and level.lower() not in rules.thinking_levels:
        raise Refused(1007, "Thinking level is not supported for this model")
    if budget is not None and (
        rules.thinking_budgets == "none" or (rules.thinking_budgets == "zero" and int(budget) != 0)
    ):
        raise Refused(1007, INVALID_ARGUMENT)


def _check_tools(tools: list[dict[str, Any]], rules: ModelRules) -> None:
    functions = [function for tool in tools for function in tool.get("functionDeclarations", [])]
    if (tools and not rules.tools) or len(functions) > 512:
        raise Refused(1007, INVALID_ARGUMENT)
    for function in functions:
        if "parameters" in function and "parametersJsonSchema" in function:
            raise Refused(1007, INVALID_ARGUMENT)
        if function.get("behavior") == "BLOCKING" and not rules.blocking:
            raise Refused(1007, "BLOCKING function calls are not supported for this model")


def check_content(turns: list[dict[str, Any]], backend: Backend, rules: ModelRules) -> None:
    """Roles, parts and size of `clientContent` turns. Raises `Refused`."""
    characters = 0
    for turn in turns:
        parts = turn.get("parts", [])
        if not parts or any(part in ({}, {"text": ""}) for part in parts):
            raise Refused(1007, INVALID_ARGUMENT)
        characters += sum(len(part.get("text", "").encode()) for part in parts)
    # More than the context holds ends like any bad request. Four bytes of text are about one token.
    if characters // 4 > rules.context_tokens:
        raise Refused(1007, INVALID_ARGUMENT)
    for turn in turns:
        role = turn.get("role")
        if role == "system" and backend is Backend.VERTEX:
            continue
        if role is None and (backend is Backend.VERTEX or not rules.nudged):
            continue
        if role not in ("user", "model"):
            raise Refused(1007, INVALID_ARGUMENT)
    if turns and turns[-1].get("role") == "model" and not rules.history_config:
        raise Refused(1007, INVALID_ARGUMENT)  # older models need a user turn at the end


def check_tool_response(answer: dict[str, Any], backend: Backend, rules: ModelRules) -> None:
    """One function response. Raises `Refused`."""
    if backend is Backend.DEVELOPER and not answer.get("id"):
        raise Refused(1007, INVALID_ARGUMENT)
    if "scheduling" in answer and not rules.scheduling and rules.non_blocking:
        raise Refused(1007, "Function response scheduling is not supported for this model.")
