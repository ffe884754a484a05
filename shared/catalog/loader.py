"""Read the catalog from its TOML files, one for each domain, and refuse it whole if anything in it is wrong."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from shared.catalog import fields
from shared.catalog.check import Fault, faults_of
from shared.catalog.model import KNOWN_ROLES, Audience, Catalog, EventType, Kind
from shared.errors import CatalogError

FOLDER = Path(__file__).resolve().parent

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_TIME_TO_LIVE = re.compile(r"([1-9][0-9]{0,3})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
#: No inbox keeps more.
MAX_CAP = 10_000
_PRIORITIES = ("LOW", "NORMAL", "HIGH", "URGENT")
_FILE_KEYS = frozenset({"description", "roles", "type"})
_TYPE_TEXTS = frozenset({"name", "description", "category", "priority", "time_to_live"})
_TYPE_KEYS = _TYPE_TEXTS | {"cap", "metadata", "shown", "retired", "data", "example", "audience"}
_SELECTORS: tuple[Kind, ...] = ("recipient", "topic", "role", "everyone", "posted")
_AUDIENCE_KEYS = frozenset(_SELECTORS) | {"scope", "exclude_actor", "when", "title", "message", "action_url"}


def load_catalog(folder: Path = FOLDER) -> Catalog:
    """Return the catalog of every `*.toml` in `folder`, types in the order of file names and places in the file.

    Raises `CatalogError` that lists every fault, each in a line with file and type, so that one run shows them all.
    """
    reader = _Reader()
    for path in sorted(folder.glob("*.toml")):
        reader.read(path)
    if not reader.types and not reader.faults:
        reader.faults.append(Fault(str(folder), None, "there is no event type in this folder"))
    catalog = Catalog(MappingProxyType(reader.types), KNOWN_ROLES | reader.roles)
    faults = [*reader.faults, *(fault for kind in catalog for fault in faults_of(kind, reader.files, catalog.roles))]
    if faults:
        raise CatalogError("\n".join(str(fault) for fault in faults))
    return catalog


@lru_cache(maxsize=1)
def catalog() -> Catalog:
    """Return this process's catalog, loaded once. Raises `CatalogError`."""
    return load_catalog()


class _Wrong(Exception):
    """A type's table cannot be turned into an event type."""


class _Reader:
    """Collects types, declared roles and faults from file after file."""

    def __init__(self) -> None:
        self.types: dict[str, EventType] = {}
        self.files: dict[str, str] = {}
        self.roles: frozenset[str] = frozenset()
        self.faults: list[Fault] = []

    def read(self, path: Path) -> None:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
            self.faults.append(Fault(path.name, None, f"is not valid TOML: {problem}"))
            return
        try:
            _only(content, _FILE_KEYS)
            self.roles |= frozenset(_names(content, "roles"))
            tables = _tables(content, "type")
        except _Wrong as problem:
            self.faults.append(Fault(path.name, None, str(problem)))
            return
        for table in tables:
            self._add(path, table)

    def _add(self, path: Path, table: Mapping[str, Any]) -> None:
        name = str(table.get("name", "(a type without a name)"))
        try:
            if name in self.types:
                raise _Wrong(f"is declared already, in {self.files[name]}")
            made = _event_type(path.stem, table)
            twins = [kind.name for kind in self.types.values() if kind.notification_type == made.notification_type]
            if twins:
                raise _Wrong(f"would share its notification type with {twins[0]}")
        except _Wrong as problem:
            self.faults.append(Fault(path.name, name, str(problem)))
        else:
            self.types[name], self.files[name] = made, path.name


def _event_type(domain: str, table: Mapping[str, Any]) -> EventType:
    name = _valid_name(table)
    _only(table, _TYPE_KEYS)
    return EventType(
        name=name,
        notification_type=name.upper().replace(".", "_"),
        domain=domain,
        category=_text(table, "category"),
        priority=_one_of(table.get("priority", "NORMAL"), "priority", _PRIORITIES),
        time_to_live=_time_to_live(table.get("time_to_live")),
        cap=_cap(table.get("cap")),
        schema=_schema(table),
        metadata=tuple(_names(table, "metadata")),
        audiences=tuple(_audience(place, entry) for place, entry in enumerate(_tables(table, "audience"))),
        shown=_flag(table, "shown", True),
        description=_text(table, "description"),
        example=_table(table, "example"),
        retired=_flag(table, "retired", False),
    )


def _valid_name(table: Mapping[str, Any]) -> str:
    name = _text(table, "name")
    if not _NAME.fullmatch(name):
        raise _Wrong("needs a name like `certificate.issued`")
    return name


def _schema(table: Mapping[str, Any]) -> dict[str, Any]:
    try:
        schema = fields.schema_of(_table(table, "data"))
        fields.validator(schema)
    except KeyError as problem:
        raise _Wrong(f"has a data field of an unknown kind {problem}") from None
    except (ValueError, TypeError) as problem:
        raise _Wrong(f"has data that is no JSON Schema: {str(problem).splitlines()[0]}") from None
    return schema


def _audience(position: int, table: Mapping[str, Any]) -> Audience:
    _only(table, _AUDIENCE_KEYS)
    kinds = [kind for kind in _SELECTORS if kind in table]
    if len(kinds) != 1:
        raise _Wrong(f"audience {position} needs exactly one of {', '.join(_SELECTORS)}")
    return Audience(
        position=position,
        kind=kinds[0],
        field=_optional(table, "recipient"),
        topic=_optional(table, "topic"),
        role=_optional(table, "role"),
        scope=_one_of(table.get("scope", "own"), "scope", ("own", "all")),
        exclude_actor=_flag(table, "exclude_actor", False),
        when=_optional(table, "when"),
        title=_text(table, "title"),
        message=_text(table, "message"),
        action_url=_optional(table, "action_url"),
    )


def _only(table: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = sorted(table.keys() - known)
    if unknown:
        raise _Wrong(f"has an unknown key `{unknown[0]}`")


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip():
        raise _Wrong(f"needs a text `{key}`")
    return value


def _optional(table: Mapping[str, Any], key: str) -> str | None:
    return _text(table, key) if key in table else None


def _names(table: Mapping[str, Any], key: str) -> list[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _Wrong(f"needs a list of names `{key}`")
    return value


def _tables(table: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise _Wrong(f"needs tables [[{key}]]")
    return value


def _table(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise _Wrong(f"needs a table `{key}`")
    return value


def _flag(table: Mapping[str, Any], key: str, default: bool) -> bool:
    value = table.get(key, default)
    if not isinstance(value, bool):
        raise _Wrong(f"needs true or false as `{key}`")
    return value


def _one_of(value: Any, key: str, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise _Wrong(f"has the {key} `{value}`; it must be one of {', '.join(allowed)}")
    return value


def _cap(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_CAP):
        raise _Wrong(f"has the cap `{value}`; it must be a number from 1 to {MAX_CAP:,}")
    return value


def _time_to_live(value: Any) -> timedelta | None:
    if value is None:
        return None
    parts = _TIME_TO_LIVE.fullmatch(str(value))
    if parts is None:
        raise _Wrong(f"has the time to live `{value}`; write it like 30d, 12h or 15m")
    return timedelta(**{_UNITS[parts[2]]: int(parts[1])})
