"""Plain tables (as TOML gives them) to frozen Structs, with every problem found and none of them raised."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect as kinds

from bridge.config.environment import Scalar
from bridge.config.problems import describe, did_you_mean, looks_secret, without_secrets
from bridge.core.errors import ConfigError
from providers.errors import SettingRefused

__all__ = ["Reader"]

_MISSING = object()


class Reader:
    """Reads tables into Structs and collects `problems` on the way.

    msgspec stops at the first thing that does not fit; an operator wants them all. So tables are walked here, and only
    single values are left to msgspec.
    """

    def __init__(self, secret_homes: Mapping[str, str]) -> None:
        self.problems: list[ConfigError] = []
        self._secret_homes = secret_homes
        """Path of a table to the environment variables that take its secrets."""

    def struct(
        self, kind: type[msgspec.Struct], table: object, path: str = "", base: msgspec.Struct | None = None
    ) -> Any:
        """The Struct, or None when a problem was found inside.

        Args: path is the table's own, such as `speech.turn_detection`; empty for the file itself. Keys that are left
        out are those of `base`, where the table has defaults of its own.
        """
        if not isinstance(table, Mapping):
            self._refuse(path, table, f"is a table: write [{path}] and its keys below")
            return None
        found_before = len(self.problems)
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        values: dict[str, Any] = {}
        for key, value in table.items():
            at = f"{path}.{key}" if path else key
            if self._refuse_secret(at, key, value, fields):
                continue
            field = fields.get(key)
            if field is None:
                self._refuse(at, value, did_you_mean(key, fields))
                continue
            default = field.default if isinstance(field.default, msgspec.Struct) else None
            read = self.value(kinds.type_info(field.type), field.type, value, at, default)
            if read is not _MISSING:
                values[field.name] = read
        for key, field in fields.items():
            if field.required and key not in table:
                self._refuse(f"{path}.{key}" if path else key, None, f"must be set: {_takes(field)}")
        if len(self.problems) > found_before:
            return None
        try:
            return kind(**values) if base is None else msgspec.structs.replace(base, **values)
        except SettingRefused as refused:
            self._refuse(refused.field, refused.value, refused.mend)
        except ConfigError as refused:
            self.problems.append(refused)
        except ValueError as refused:
            # A Struct's own check of several keys together.
            self._refuse(path, dict(table), str(refused))
        return None

    def value(
        self, kind: kinds.Type, annotation: Any, value: object, path: str, default: msgspec.Struct | None = None
    ) -> Any:
        """One value of any type; the marker `_MISSING` when it does not fit."""
        struct = _struct_in(kind)
        if struct is not None and (isinstance(value, Mapping) or not isinstance(kind, kinds.UnionType)):
            read = self.struct(struct, value, path, default if type(default) is struct else None)
            return _MISSING if read is None else read
        items = _struct_items(kind)
        if items is not None and isinstance(value, list | tuple):
            read_items = [self.struct(items, item, f"{path}[{index}]") for index, item in enumerate(value)]
            return _MISSING if None in read_items else tuple(read_items)
        if isinstance(value, Scalar):
            with contextlib.suppress(msgspec.ValidationError):
                return msgspec.convert(str(value), annotation)
            value = value.parsed
        try:
            return msgspec.convert(value, annotation)
        except msgspec.ValidationError:
            self._refuse(path, value, describe(kind, path.rpartition(".")[2], value))
            return _MISSING
        except UnicodeEncodeError:
            self._refuse(path, value, "holds bytes that are not UTF-8: write it anew")
            return _MISSING

    def _refuse_secret(self, path: str, key: str, value: object, fields: Mapping[str, Any]) -> bool:
        if not looks_secret(key, value) or (key in fields and not isinstance(value, str)):
            return False
        homes = self._secret_homes.get(path.partition(".")[0]) or self._secret_homes.get(path.rpartition(".")[0], "")
        where = f"set {homes} in the environment" if homes else "set it in the environment"
        self._refuse(path, "***", f"secrets do not belong in this file; remove the key and {where}")
        return True

    def _refuse(self, path: str, value: object, mend: str) -> None:
        self.problems.append(ConfigError(path or "the file", without_secrets(value), mend))


def _takes(field: msgspec.structs.FieldInfo) -> str:
    return describe(kinds.type_info(field.type), field.name, None)


def _struct_in(kind: kinds.Type) -> type[msgspec.Struct] | None:
    if isinstance(kind, kinds.UnionType):
        structs = [found for part in kind.types if (found := _struct_in(part)) is not None]
        return structs[0] if len(structs) == 1 else None
    return kind.cls if isinstance(kind, kinds.StructType) else None


def _struct_items(kind: kinds.Type) -> type[msgspec.Struct] | None:
    return _struct_in(kind.item_type) if isinstance(kind, kinds.VarTupleType | kinds.ListType) else None
