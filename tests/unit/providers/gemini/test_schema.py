from __future__ import annotations

from typing import Any

import pytest

from providers.contract import ToolSpec
from providers.gemini.rules import rules_for
from providers.gemini.schema import SchemaError, function_declaration, to_gemini_schema

RULES = rules_for("gemini-3.8-live")


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "$schema": "x", "additionalProperties": False}, {"type": "STRING"}),
        ({"type": ["string", "null"]}, {"type": "STRING", "nullable": True}),
        ({"type": ["string", "integer"]}, {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]}),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, {"type": "INTEGER", "nullable": True}),
        ({"const": "a"}, {"type": "STRING", "enum": ["a"]}),
        (
            {"type": "integer", "enum": [1, 2], "description": "How many."},
            {"type": "INTEGER", "description": "How many. One of: 1, 2."},
        ),
        ({"type": "string", "format": "email"}, {"type": "STRING"}),
        ({"type": "string", "format": "date-time"}, {"type": "STRING", "format": "date-time"}),
        ({"type": "array"}, {"type": "ARRAY", "items": {"type": "STRING"}}),
        (
            {"properties": {"a": {"$ref": "#/$defs/A", "description": "d"}}, "$defs": {"A": {"type": "number"}}},
            {"type": "OBJECT", "properties": {"a": {"type": "NUMBER", "description": "d"}}},
        ),
        (
            {
                "allOf": [
                    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                    {"properties": {"b": {"type": "boolean"}}, "required": ["b"]},
                ]
            },
            {
                "type": "OBJECT",
                "properties": {"a": {"type": "STRING"}, "b": {"type": "BOOLEAN"}},
                "required": ["b", "a"],
            },
        ),
    ],
)
def test_json_schema_in_geminis_words(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    assert to_gemini_schema(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/Node", "$defs": {"Node": {"properties": {"next": {"$ref": "#/$defs/Node"}}}}},
        {"properties": {"a": {"$ref": "#/$defs/none"}}},
        {"type": "array", "prefixItems": [{"type": "string"}]},
    ],
)
def test_what_cannot_be_said_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        to_gemini_schema(schema)


def test_a_function_without_arguments_declares_no_parameters() -> None:
    assert function_declaration(ToolSpec(name="f"), RULES, "openapi") == {"name": "f"}


def test_behaviour_is_written_where_its_absence_is_not_documented() -> None:
    extended = rules_for("gemini-3.8-live-extended-thinking")
    assert function_declaration(ToolSpec(name="f"), extended, "openapi")["behavior"] == "NON_BLOCKING"
    assert function_declaration(ToolSpec(name="f", blocking=True), RULES, "openapi")["behavior"] == "BLOCKING"


def test_json_schema_can_go_unchanged() -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}}
    declared = function_declaration(ToolSpec(name="f", parameters=parameters), RULES, "json_schema")
    assert declared == {"name": "f", "parametersJsonSchema": parameters}
