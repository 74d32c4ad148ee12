"""JSON Schema to Gemini's own Schema, a subset of OpenAPI 3: an unknown keyword closes the session with 1007."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from providers.contract import ToolSpec
from providers.gemini.rules import ModelRules

__all__ = ["FUNCTION_NAME", "MAX_FUNCTIONS", "SchemaError", "function_declaration", "to_gemini_schema"]

FUNCTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
MAX_FUNCTIONS = 512

_COPIED = frozenset(
    {
        *("description", "title", "default", "example", "pattern", "nullable", "required", "propertyOrdering"),
        *("minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"),
    }
)
_FORMATS = {
    "STRING": {"enum", "date-time"},
    "NUMBER": {"float", "double"},
    "INTEGER": {"int32", "int64"},
}
_MAX_DEPTH = 32


class SchemaError(ValueError):
    """A schema that Gemini's subset cannot say."""


def function_declaration(tool: ToolSpec, rules: ModelRules, way: str) -> dict[str, Any]:
    """One `functionDeclarations` entry. Raises `SchemaError`."""
    declaration: dict[str, Any] = {"name": tool.name}
    if tool.description:
        declaration["description"] = tool.description
    # An OBJECT without properties is refused; a function without arguments has no `parameters` at all.
    if tool.parameters.get("properties"):
        if way == "json_schema":
            declaration["parametersJsonSchema"] = tool.parameters
        else:
            declaration["parameters"] = to_gemini_schema(tool.parameters)
    if tool.blocking is not None or rules.explicit_behavior:
        declaration["behavior"] = "BLOCKING" if rules.blocks(tool.blocking) else "NON_BLOCKING"
    return declaration


def to_gemini_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema in Gemini's words. What the subset lacks and a model can do without is dropped; a `$ref` is
    written out. Raises `SchemaError` for what cannot be said: recursion, tuples, a reference to nowhere."""
    definitions = {
        **{f"#/$defs/{name}": value for name, value in schema.get("$defs", {}).items()},
        **{f"#/definitions/{name}": value for name, value in schema.get("definitions", {}).items()},
    }
    return _convert(schema, definitions, 0)


def _convert(schema: Any, definitions: Mapping[str, Any], depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise SchemaError("a schema that refers to itself cannot be written out")
    if schema is True or schema == {}:
        return {"type": "STRING"}
    if not isinstance(schema, Mapping):
        raise SchemaError(f"{schema!r} is no schema")
    if "$ref" in schema:
        target = definitions.get(schema["$ref"])
        if target is None:
            raise SchemaError(f"$ref {schema['$ref']!r} leads nowhere")
        merged = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        return _convert(merged, definitions, depth + 1)
    if "allOf" in schema:
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            merged = _merge(merged, _resolve(part, definitions))
        return _convert(merged, definitions, depth + 1)

    out = {key: value for key, value in schema.items() if key in _COPIED}
    _convert_type(schema, out)
    _convert_values(schema, out)
    variants = schema.get("anyOf") or schema.get("oneOf")
    if variants:
        _convert_variants(variants, out, definitions, depth)
    if schema.get("properties"):
        out["properties"] = {
            name: _convert(value, definitions, depth + 1) for name, value in schema["properties"].items()
        }
        out.setdefault("type", "OBJECT")
    items = schema.get("items")
    if isinstance(items, list) or "prefixItems" in schema:
        raise SchemaError("an array of fixed positions cannot be said: use one `items` schema")
    if items is not None:
        out["items"] = _convert(items, definitions, depth + 1)
        out.setdefault("type", "ARRAY")
    elif out.get("type") == "ARRAY":
        out["items"] = {"type": "STRING"}  # an ARRAY without items is refused
    if schema.get("format") in _FORMATS.get(out.get("type", ""), ()):
        out["format"] = schema["format"]
    return out


def _resolve(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    target = definitions.get(schema["$ref"])
    if target is None:
        raise SchemaError(f"$ref {schema['$ref']!r} leads nowhere")
    resolved: Mapping[str, Any] = target
    return resolved


def _merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**other, **one}
    if "properties" in one and "properties" in other:
        merged["properties"] = {**other["properties"], **one["properties"]}
    if "required" in one and "required" in other:
        merged["required"] = list(dict.fromkeys([*other["required"], *one["required"]]))
    return merged


def _convert_type(schema: Mapping[str, Any], out: dict[str, Any]) -> None:
    kind = schema.get("type")
    if isinstance(kind, list):
        kinds = [name for name in kind if name != "null"]
        if "null" in kind:
            out["nullable"] = True
        if len(kinds) == 1:
            out["type"] = kinds[0].upper()
        elif kinds:
            out["anyOf"] = [{"type": name.upper()} for name in kinds]
    elif isinstance(kind, str):
        out["type"] = kind.upper()


def _convert_values(schema: Mapping[str, Any], out: dict[str, Any]) -> None:
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not values:
        return
    values = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in values):
        out["enum"] = list(values)
        out.setdefault("type", "STRING")
    else:  # the enum of this Schema holds strings only
        allowed = f"One of: {', '.join(str(value) for value in values)}."
        out["description"] = f"{out['description']} {allowed}" if out.get("description") else allowed


def _convert_variants(variants: list[Any], out: dict[str, Any], definitions: Mapping[str, Any], depth: int) -> None:
    kept = [variant for variant in variants if variant != {"type": "null"}]
    if len(kept) < len(variants):
        out["nullable"] = True
    converted = [_convert(variant, definitions, depth + 1) for variant in kept]
    if len(converted) == 1:
        for key, value in converted[0].items():
            out.setdefault(key, value)
    elif converted:
        out["anyOf"] = converted
