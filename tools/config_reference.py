"""Writes the key tables of docs/configuration.md and roombridge.example.toml from the settings Structs.

`python -m tools.config_reference` writes both; `make docs` calls it. A test compares them with what it would write.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as kinds

from bridge.config.environment import STANDARD
from bridge.config.problems import describe
from bridge.config.settings import Config
from providers.catalog import PROVIDERS

__all__ = ["Key", "Section", "example", "sections", "with_tables"]

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- keys: begin -->", "<!-- keys: end -->"


class Key(msgspec.Struct, frozen=True):
    """One key of a section."""

    name: str
    default: str
    """As TOML; empty when the key is left out by default."""
    takes: str
    """Type, range and unit."""
    meaning: str
    required: bool = False


class Section(msgspec.Struct, frozen=True):
    """One table of the file."""

    path: str
    meaning: str
    keys: tuple[Key, ...]
    optional: bool = False
    """Not there by default."""
    repeated: bool = False


def sections() -> list[Section]:
    """Every table that the file may have, in reading order."""
    found = list(_walk(Config, Config(), "", skip={"providers"}))
    for name, provider in PROVIDERS.items():
        kind = provider.settings_type()
        found += _walk(kind, kind(), f"providers.{name}")
    return found


def _walk(
    kind: type[msgspec.Struct],
    defaults: msgspec.Struct | None,
    path: str,
    *,
    skip: frozenset[str] | set[str] = frozenset(),
    optional: bool = False,
    repeated: bool = False,
) -> Iterator[Section]:
    keys: list[Key] = []
    below: list[Section] = []
    meanings = _docstrings(kind)
    for field in msgspec.structs.fields(kind):
        if field.encode_name in skip:
            continue
        default = getattr(defaults, field.name) if defaults is not None else _default(field)
        at = f"{path}.{field.encode_name}" if path else field.encode_name
        info = kinds.type_info(field.type)
        inner, many = _struct_in(info)
        if inner is not None and inner is not kind:
            there = isinstance(default, msgspec.Struct)
            below += _walk(inner, default if there else None, at, optional=optional or not there, repeated=many)
        if isinstance(default, msgspec.Struct):
            continue  # a table of its own says it all
        keys.append(
            Key(
                name=field.encode_name,
                default=_toml(default),
                takes=describe(info, field.encode_name, None).removeprefix("takes "),
                meaning=meanings.get(field.name, ""),
                required=field.required,
            )
        )
    own = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    if keys or not path:
        yield Section(path=path, meaning=own, keys=tuple(keys), optional=optional, repeated=repeated)
    yield from below


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else None


def _struct_in(kind: kinds.Type) -> tuple[type[msgspec.Struct] | None, bool]:
    """The Struct that a key holds, and whether it holds many."""
    match kind:
        case kinds.StructType():
            return kind.cls, False
        case kinds.VarTupleType() | kinds.ListType():
            return _struct_in(kind.item_type)[0], True
        case kinds.UnionType():
            found = [_struct_in(part) for part in kind.types]
            return next((one for one in found if one[0] is not None), (None, False))
        case kinds.Metadata():
            return _struct_in(kind.type)
    return None, False


@cache
def _docstrings(kind: type[msgspec.Struct]) -> dict[str, str]:
    """The text below each field; a comment for the reader of the code is the doc of the operator too."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef), "a Struct is a class"
    found: dict[str, str] = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match following:
                case ast.Expr(value=ast.Constant(value=str() as text)):
                    # What code calls None is a key that is left out.
                    found[statement.target.id] = " ".join(text.split()).replace("None:", "Not set:")
    return found


def _toml(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case Enum():
            return _toml(value.value)
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        case int() | float():
            return str(value)
        case list() | tuple():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
        case dict():
            return "{" + ", ".join(f" {key} = {_toml(item)}" for key, item in value.items()) + (" }" if value else "}")
    raise AssertionError(f"no TOML for {type(value).__name__}")


def tables() -> str:
    """The key tables, as Markdown."""
    lines: list[str] = []
    for section in sections():
        title = f"[[{section.path}]]" if section.repeated else f"[{section.path}]"
        lines += ["", f"### `{title}`" if section.path else "### Top of the file", ""]
        lines += [section.meaning + (" Left out by default." if section.optional else ""), ""]
        if section.keys:
            lines += ["| key | default | takes | meaning |", "|---|---|---|---|"]
        for key in section.keys:
            default = "required" if key.required else f"`{key.default}`" if key.default else "not set"
            row = " | ".join(text.replace("|", "\\|") for text in (default, key.takes, key.meaning))
            lines.append(f"| `{key.name}` | {row} |")
    return "\n".join(lines).strip()


def with_tables(document: str) -> str:
    """docs/configuration.md with fresh tables between its markers."""
    head, _, rest = document.partition(BEGIN)
    _, _, tail = rest.partition(END)
    assert tail, f"docs/configuration.md has lost its markers {BEGIN} and {END}"
    return f"{head}{BEGIN}\n\n{tables()}\n\n{END}{tail}"


def example() -> str:
    """roombridge.example.toml: every key with its default. Keys without one are commented out, and so are those that
    a well-known variable sets: a copied file must not win over it."""
    by_variable = {".".join(path): name for name, path in STANDARD.items()}
    lines = [
        "# Every key of the configuration with its default. Keep what you change; docs/configuration.md says more.",
        "# Keys and secrets do not belong here: they come from the environment.",
    ]
    for section in sections():
        lines.append("")
        lines += textwrap.wrap(section.meaning, 116, initial_indent="# ", subsequent_indent="# ")
        off = "# " if section.optional or section.repeated else ""
        if section.path:
            lines.append(off + (f"[[{section.path}]]" if section.repeated else f"[{section.path}]"))
        for key in section.keys:
            about = f"{key.meaning} Takes {key.takes}."
            variable = by_variable.get(f"{section.path}.{key.name}" if section.path else key.name)
            if variable is not None:
                about += f" Set here it wins over {variable}."
            lines += textwrap.wrap(about.strip(), 116, initial_indent="# ", subsequent_indent="# ")
            mark = "# " if off or variable is not None or not key.default else ""
            lines.append(f"{mark}{key.name} = {key.default}".rstrip())
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both files."""
    document = ROOT / "docs" / "configuration.md"
    document.write_text(with_tables(document.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / "roombridge.example.toml").write_text(example(), encoding="utf-8")


if __name__ == "__main__":
    main()
