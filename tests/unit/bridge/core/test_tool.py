"""A typed function becomes a tool: schema out, checked arguments in."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from bridge.core.tool import Tool, ToolError
from providers.contract import ToolSpec


class Place(msgspec.Struct):
    city: str
    country: str = "FR"


class Tree(msgspec.Struct):
    children: list[Tree] = []


def weather(place: Place, days: Annotated[int, Meta(ge=1, le=7, description="how far ahead")] = 1) -> str:
    """The forecast for a place.

    Not shown to the model.
    """
    return f"{place.city} {days}"


def test_the_schema_comes_from_the_signature_without_references() -> None:
    spec = Tool.from_function(weather).spec
    assert spec.name == "weather"
    assert spec.description == "The forecast for a place."
    assert "$ref" not in msgspec.json.encode(spec.parameters).decode()
    assert spec.parameters["required"] == ["place"]
    assert spec.parameters["properties"]["place"]["properties"]["city"] == {"type": "string"}
    assert spec.parameters["properties"]["days"]["description"] == "how far ahead"


def test_arguments_arrive_as_the_types_of_the_function() -> None:
    bound = Tool.from_function(weather).bind({"place": {"city": "Lyon"}, "days": "3"})
    assert bound == {"place": Place("Lyon", "FR"), "days": 3}


@pytest.mark.parametrize(
    "arguments",
    [{}, {"place": {"city": 7}}, {"place": {"city": "Lyon"}, "days": 9}, {"place": {"city": "Lyon"}, "day": 1}],
    ids=["missing", "wrong type", "out of range", "unknown"],
)
def test_wrong_arguments_are_explained_to_the_model(arguments: dict[str, Any]) -> None:
    with pytest.raises(ToolError, match="wrong arguments for weather"):
        Tool.from_function(weather).bind(arguments)


def test_a_signature_that_no_model_can_use_is_refused() -> None:
    def many(*names: str) -> None: ...
    def untyped(name) -> None: ...  # type: ignore[no-untyped-def]
    def endless(tree: Tree) -> None: ...

    with pytest.raises(TypeError, match="plain name"):
        Tool.from_function(many)
    with pytest.raises(TypeError, match="parameter name needs a type"):
        Tool.from_function(untyped)
    with pytest.raises(TypeError, match="contains itself"):
        Tool.from_function(endless)


def test_a_name_or_limit_that_no_provider_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="tool name 'two words'"):
        Tool(ToolSpec(name="two words"), lambda: None)
    with pytest.raises(ValueError, match="must be above 0"):
        Tool(ToolSpec(name="fine"), lambda: None, timeout_s=0)


def test_a_hand_written_schema_takes_arguments_as_they_are() -> None:
    assert Tool(ToolSpec(name="any"), lambda **_: None).bind({"x": 1}) == {"x": 1}
