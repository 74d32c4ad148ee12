"""From a TOML file, the environment and the command line to one frozen `Config`, or every problem at once.

What is more explicit wins: command line, `ROOMBRIDGE_...`, file, well-known variables, defaults.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as kinds

from bridge.config.environment import overrides, standard
from bridge.config.problems import did_you_mean, without_secrets
from bridge.config.reader import Reader
from bridge.config.settings import Config
from bridge.core.errors import ConfigError
from providers.catalog import PROVIDERS, Provider

__all__ = ["load", "read"]

_LIVEKIT_SECRETS = "LIVEKIT_API_KEY and LIVEKIT_API_SECRET"


def load(
    path: str | Path | None,
    environ: Mapping[str, str],
    command_line: Mapping[str, Any] | None = None,
    catalog: Mapping[str, Provider] = PROVIDERS,
) -> Config:
    """Read the file at `path` (none: defaults and environment only).

    Args: command_line holds tables of keys as the file has them. Raises: `ConfigError` with all problems.
    """
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError("the file", str(path), f"cannot be read: {error.strerror or error}") from error
        except ValueError as error:  # of TOML, of UTF-8, or of a number with thousands of digits
            raise ConfigError("the file", str(path), f"is not TOML: {error}") from error
        except RecursionError as error:
            raise ConfigError("the file", str(path), "is nested too deeply") from error
    return read(table, environ, command_line, catalog)


def read(
    table: Mapping[str, Any],
    environ: Mapping[str, str],
    command_line: Mapping[str, Any] | None = None,
    catalog: Mapping[str, Provider] = PROVIDERS,
) -> Config:
    """The configuration that `table` (a parsed file) gives in this environment. Raises: `ConfigError`."""
    set_by_environ, problems = overrides(environ, _sections())
    merged = _merged(_merged(_merged(standard(environ), table), set_by_environ), command_line or {})
    named = merged.get("provider")
    reader = Reader(
        {
            "livekit": _LIVEKIT_SECRETS,
            **{f"providers.{name}": " or ".join(item.secrets) for name, item in catalog.items()},
        }
    )
    tables = merged.pop("providers", {})
    providers = _read_providers(reader, tables, catalog)
    config = reader.struct(Config, merged)
    if isinstance(named, str) and named not in catalog:
        mend = did_you_mean(named, catalog, "provider")
        reader.problems.append(ConfigError("provider", without_secrets(named), mend))
    stand_ins = config.failover if isinstance(config, Config) else ()
    reader.problems += _stand_in_problems(stand_ins, named, catalog)
    problems += reader.problems
    if problems:
        raise ConfigError(problems[0].field, problems[0].value, problems[0].mend, problems[1:])
    assert isinstance(config, Config), "no problem was found"
    for name in (config.provider, *config.failover):
        if name not in providers:
            providers[name] = catalog[name].settings_type()()
    return msgspec.structs.replace(config, providers=providers)


def _stand_in_problems(names: Sequence[str], first: object, catalog: Mapping[str, Provider]) -> list[ConfigError]:
    found: list[ConfigError] = []
    for place, name in enumerate(names):
        field = f"failover[{place}]"
        if name not in catalog:
            found.append(ConfigError(field, without_secrets(name), did_you_mean(name, catalog, "provider")))
        elif name == first or name in names[:place]:
            found.append(ConfigError(field, name, "name each provider once, and not the one in use"))
    return found


def _read_providers(reader: Reader, tables: object, catalog: Mapping[str, Provider]) -> dict[str, Any]:
    """All of `[providers.*]`, those not in use too: a misspelt key is wrong before it is needed."""
    if not isinstance(tables, Mapping):
        mend = "is a table: write [providers.gemini] and its keys"
        reader.problems.append(ConfigError("providers", without_secrets(tables), mend))
        return {}
    read: dict[str, Any] = {}
    for name, content in tables.items():
        if name not in catalog:
            reader.problems.append(
                ConfigError(f"providers.{name}", "(a table)", did_you_mean(name, catalog, "provider"))
            )
            continue
        read[name] = reader.struct(catalog[name].settings_type(), content, f"providers.{name}")
    return read


def _sections() -> dict[str, bool]:
    return {
        field.encode_name: isinstance(kinds.type_info(field.type), kinds.StructType | kinds.DictType)
        for field in msgspec.structs.fields(Config)
    }


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged
