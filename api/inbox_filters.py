"""The parameters that narrow a page, as they stand in a query: judged, named in the errors, made a `Filter`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import Depends, Query

from shared.catalog import catalog
from shared.cloudevent import parse_time
from shared.errors import FieldError, InvalidInput, MalformedBody
from shared.frames import PRIORITIES, dumps
from shared.inbox_filter import Filter
from shared.settings import settings
from shared.statements import Row
from shared.strict_json import loads

#: Values of one filter; the catalog has some 80 types.
MAX_VALUES = 100
#: Characters; metadata is a handful of ids.
MAX_METADATA = 4_096
MAX_TIME = 64
#: An `after` spells the ordinal of the last row told: pages stay right while notifications arrive.
AFTER_PREFIX = "o"
AFTER_FORM = r"^o(0|[1-9][0-9]{0,17})$"

Priority = Literal["LOW", "NORMAL", "HIGH", "URGENT"]
_SEVERAL = Query(min_length=1, max_length=MAX_VALUES)
_METADATA = Query(max_length=MAX_METADATA)
_TIME = Query(max_length=MAX_TIME, json_schema_extra={"format": "date-time"}, examples=["2026-03-01T00:00:00Z"])


def _wrong(field: str, message: str) -> InvalidInput:
    return InvalidInput(errors=(FieldError(field, message),))


def _within(field: str, error: FieldError) -> FieldError:
    return FieldError(f"{field}.{error.field}" if error.field else field, error.message)


def _known(field: str, values: Sequence[str], known: Collection[str]) -> None:
    for value in values:
        if value not in known:
            raise _wrong(field, f"is not a {field} of the catalog")


def types_of(types: Sequence[str] | None, categories: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the catalog names that both filters leave, or raise `InvalidInput` for an unknown value.

    A type may be told as the event type or as the notifications': `grade.posted`, `GRADE_POSTED`.
    """
    if types is None and categories is None:
        return None
    kinds = catalog().types.values()
    _known("type", types or (), {kind.name for kind in kinds} | {kind.notification_type for kind in kinds})
    _known("category", categories or (), {kind.category for kind in kinds})
    return tuple(
        kind.name
        for kind in kinds
        if (types is None or kind.name in types or kind.notification_type in types)
        and (categories is None or kind.category in categories)
    )


def _metadata(value: str | None) -> str | None:
    """Return the object to be contained, as JSON that PostgreSQL takes; raises `InvalidInput` for anything else."""
    if value is None:
        return None
    try:
        wanted = loads(value.encode())
    except MalformedBody:
        raise _wrong("metadata", "must be a JSON object") from None
    except InvalidInput as refused:
        raise InvalidInput(errors=tuple(_within("metadata", error) for error in refused.errors)) from None
    if not isinstance(wanted, dict):
        raise _wrong("metadata", "must be a JSON object")
    return dumps(wanted).decode()


def _time(field: str, value: str | None) -> datetime | None:
    moment = None if value is None else parse_time(value)
    if value is not None and moment is None:
        raise _wrong(field, "must be a time as RFC 3339 writes it: 2026-03-01T12:00:00Z")
    return moment


async def _wanted(
    *,
    unread: bool | None = None,
    type: Annotated[list[str] | None, _SEVERAL] = None,
    category: Annotated[list[str] | None, _SEVERAL] = None,
    priority: Annotated[list[Priority] | None, _SEVERAL] = None,
    archived: bool = False,
    metadata: Annotated[str | None, _METADATA] = None,
    createdFrom: Annotated[str | None, _TIME] = None,
    createdBefore: Annotated[str | None, _TIME] = None,
) -> Filter:
    """Return what the parameters let through; raises `InvalidInput` naming the first that says nothing sensible."""
    priorities = None if priority is None else tuple(PRIORITIES.index(each) for each in priority)
    return Filter(
        unread,
        archived,
        types_of(type, category),
        priorities,
        _metadata(metadata),
        _time("createdFrom", createdFrom),
        _time("createdBefore", createdBefore),
    )


#: The filters of a page: several values of one are alternatives, different ones are combined by "and".
PageFilter = Annotated[Filter, Depends(_wanted)]


def limit_of(first: int | None) -> int:
    """Return how many rows a page has: as asked for, else as is usual. Raises `InvalidInput` beyond the bounds."""
    if first is None:
        return settings().page_size
    if not 1 <= first <= settings().max_page_size:
        raise _wrong("first", f"must be from 1 to {settings().max_page_size}")
    return first


def before_of(after: str | None) -> int | None:
    """Return the ordinal below which a page begins, None for the newest; raises `InvalidInput` for no `endCursor`."""
    if after is None:
        return None
    number = after.removeprefix(AFTER_PREFIX)
    if not after.startswith(AFTER_PREFIX) or not number.isdecimal() or not number.isascii() or len(number) > 18:
        raise _wrong("after", "must be the endCursor of a page")
    return int(number)


def end_cursor(row: Row) -> str:
    """Return the `endCursor` of a page whose last row is `row`."""
    return f"{AFTER_PREFIX}{row['ordinal']}"
