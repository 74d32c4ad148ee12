"""A typed function that the model may call: its schema comes from the signature, its arguments arrive checked."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import msgspec

from providers.contract import ToolSpec

__all__ = ["Tool", "ToolError"]

_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")
"""What both Gemini (section 3.5 of its reference: 1 to 128 of these and more) and OpenAI (64) accept."""


class ToolError(Exception):
    """Raised by a tool to tell the model, in plain words, why it could not do what was asked.

    Any other exception reaches the model only as "the tool failed"; its text stays in the log.
    """


class Tool:
    """One function, sync or async, and how the model sees it.

    A sync function runs in a worker thread, so it may block. An async function runs in the event loop and must not.
    """

    def __init__(self, spec: ToolSpec, function: Callable[..., Any], *, timeout_s: float | None = None) -> None:
        if not _NAME.match(spec.name):
            raise ValueError(f"tool name {spec.name!r}: use 1 to 64 letters, digits and underscores, no digit first")
        if timeout_s is not None and timeout_s <= 0:
            raise ValueError(f"tool {spec.name}: timeout_s = {timeout_s}: must be above 0")
        self.spec = spec
        self.function = function
        self.timeout_s = timeout_s
        """None: the call's own `tool_timeout_s`."""
        self.is_async = inspect.iscoroutinefunction(function)
        self._arguments: type[msgspec.Struct] | None = None

    @classmethod
    def from_function(
        cls,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        timeout_s: float | None = None,
        blocking: bool | None = None,
    ) -> Tool:
        """Read name, description and parameters from the function itself.

        The description is the docstring's first paragraph. A parameter's own is `Annotated[str, Meta(description=...)]`
        with `msgspec.Meta`, whose limits (`ge`, `pattern`, ...) are checked too.
        Raises: TypeError for `*args`, `**kwargs`, positional-only or untyped parameters, and types without a schema.
        """
        name = name or function.__name__
        arguments = _arguments_of(function, name)
        text = description if description is not None else inspect.getdoc(function) or ""
        spec = ToolSpec(
            name=name,
            description=" ".join(text.split("\n\n")[0].split()),
            parameters=_schema(arguments, name),
            blocking=blocking,
        )
        tool = cls(spec, function, timeout_s=timeout_s)
        tool._arguments = arguments
        return tool

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the function's own types.

        Raises: ToolError that names the field, in words the model can act on.
        """
        if self._arguments is None:
            return dict(arguments)
        try:
            bound = msgspec.convert(arguments, self._arguments, strict=False)
        except msgspec.ValidationError as problem:
            raise ToolError(f"wrong arguments for {self.spec.name}: {problem}") from None
        return {field: getattr(bound, field) for field in bound.__struct_fields__}


def _arguments_of(function: Callable[..., Any], name: str) -> type[msgspec.Struct]:
    """A Struct with one field per parameter; the model may not send others."""
    hints = get_type_hints(function, include_extras=True)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"tool {name}: parameter {parameter} cannot be named by a model; give it a plain name")
        if parameter.name not in hints:
            raise TypeError(f"tool {name}: parameter {parameter.name} needs a type")
        if parameter.default is parameter.empty:
            fields.append((parameter.name, hints[parameter.name]))
        else:
            fields.append((parameter.name, hints[parameter.name], parameter.default))
    return msgspec.defstruct(f"{name}_arguments", fields, kw_only=True, forbid_unknown_fields=True)


def _schema(arguments: type[msgspec.Struct], name: str) -> dict[str, Any]:
    """JSON Schema without references: Gemini's schema subset has none."""
    schema = msgspec.json.schema(arguments)
    flat: dict[str, Any] = _inlined(schema, schema.get("$defs", {}), name, ())
    for key in ("title", "additionalProperties"):  # Gemini closes the session for keywords it does not know
        flat.pop(key, None)
    return flat


def _inlined(node: Any, definitions: Mapping[str, Any], name: str, inside: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_inlined(item, definitions, name, inside) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = node["$ref"].rsplit("/", 1)[-1]
        if target in inside:
            raise TypeError(f"tool {name}: type {target} contains itself; a model needs a finite schema")
        return _inlined(definitions[target], definitions, name, (*inside, target))
    return {key: _inlined(value, definitions, name, inside) for key, value in node.items() if key != "$defs"}
