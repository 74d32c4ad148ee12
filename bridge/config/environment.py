"""What the environment says: `ROOMBRIDGE_...` overrides for every key, and the names that LiveKit's users know.

`ROOMBRIDGE_SPEECH__VOICE=marin` is `voice` in `[speech]`: two underscores go one table down. A value is read as TOML,
so numbers, true, lists and tables work; what is no TOML is a text. An empty variable is as good as none ("" in
quotes is an empty text): compose files set variables to nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from bridge.config.problems import did_you_mean
from bridge.core.errors import ConfigError

__all__ = ["NOT_KEYS", "PREFIX", "STANDARD", "Scalar", "overrides", "put", "standard"]

PREFIX = "ROOMBRIDGE_"
NOT_KEYS = frozenset({"ROOMBRIDGE_CONFIG", "ROOMBRIDGE_CALL_SECRET"})
"""Where the file is, and what signs call tokens: no keys of the file."""

STANDARD = {"LIVEKIT_URL": ("livekit", "url")}
"""Variables that fill a key which the file leaves out. Keys and secrets are read by those who use them."""


class Scalar(str):
    """A number or boolean of the environment, which a key that takes a text gets as it was written."""

    def __new__(cls, text: str, parsed: Any) -> Scalar:
        scalar = super().__new__(cls, text)
        scalar.parsed = parsed
        return scalar

    parsed: Any


def standard(environ: Mapping[str, str]) -> dict[str, Any]:
    """The keys that well-known variables set, as tables."""
    table: dict[str, Any] = {}
    for name, path in STANDARD.items():
        if environ.get(name, "").strip():
            put(table, path, environ[name].strip())
    return table


def overrides(environ: Mapping[str, str], sections: Mapping[str, bool]) -> tuple[dict[str, Any], list[ConfigError]]:
    """The keys that `ROOMBRIDGE_` variables set, as tables, and what is wrong with their names.

    Args: sections maps each key of the file's top level to whether it is a table.
    """
    table: dict[str, Any] = {}
    problems: list[ConfigError] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in NOT_KEYS or not environ[name].strip():
            continue
        path = tuple(part.lower() for part in name.removeprefix(PREFIX).split("__"))
        if path[0] not in sections:
            known = [PREFIX + key.upper() + ("__..." if is_table else "") for key, is_table in sections.items()]
            mend = did_you_mean(PREFIX + path[0].upper(), known, "setting")
            problems.append(ConfigError(name, "(hidden)", f"{mend} (two underscores go one table down)"))
        elif not all(path) or (len(path) == 1) is sections[path[0]]:
            example = f"{PREFIX}{path[0].upper()}" + ("__KEY" if sections[path[0]] else "")
            problems.append(ConfigError(name, "(hidden)", f"write it as {example}: two underscores go one table down"))
        elif not put(table, path, _parsed(environ[name])):
            problems.append(ConfigError(name, "(hidden)", "set both as a table and as a value: keep one of the two"))
    return table, problems


def put(table: dict[str, Any], path: tuple[str, ...], value: Any) -> bool:
    """Set one value deep in `table`. False when something that is no table stands in the way."""
    for key in path[:-1]:
        below = table.setdefault(key, {})
        if not isinstance(below, dict):
            return False
        table = below
    if isinstance(table.get(path[-1]), dict) and not isinstance(value, dict):
        return False
    table[path[-1]] = value
    return True


def _parsed(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # of TOML, or of a number with thousands of digits
        return text
    if parsed.keys() != {"value"}:
        return text
    value = parsed["value"]
    return value if isinstance(value, str | dict | list) else Scalar(text, value)
