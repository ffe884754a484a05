"""Names in a path and in its query. An id may hold a slash, so the path is taken apart before it is decoded."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import unquote_to_bytes

from fastapi import Request
from pydantic import AfterValidator, WithJsonSchema

from api.json_schemas import NAME, TENANT
from shared.cloudevent import MAX_ID, is_name
from shared.errors import NotFound

#: What stands before the names: `/api/<what>/`.
_PREFIX_PARTS = 3


def names_of(request: Request, count: int) -> list[str]:
    """Return the path's parts after `/api/<what>/`, each percent-decoded.

    Raises `NotFound` where there are not `count` of them, or where one can be nobody's name.
    """
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    parts = raw.partition(b"?")[0].split(b"/")[_PREFIX_PARTS:]
    try:
        names = [unquote_to_bytes(part).decode() for part in parts]
    except UnicodeDecodeError:
        raise NotFound from None
    if len(names) != count or not all(map(is_name, names)):
        raise NotFound
    return names


#: Between an event's id and a recipient's.
_RECIPIENTS = b"recipients"


def event_and_recipient(request: Request) -> tuple[str, str] | None:
    """Return the ids in `/api/events/{id}/recipients/{recipient}`, each percent-decoded; the first may have slashes.

    None where the path is one event's whose id only decodes to such a path. Raises `NotFound` for what can be nobody's
    name.
    """
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    parts = raw.partition(b"?")[0].split(b"/")[_PREFIX_PARTS:]
    if len(parts) < _PREFIX_PARTS or parts[-2] != _RECIPIENTS:
        return None
    try:
        event, recipient = (unquote_to_bytes(part).decode() for part in (b"/".join(parts[:-2]), parts[-1]))
    except UnicodeDecodeError:
        raise NotFound from None
    if not (is_name(event) and is_name(recipient)):
        raise NotFound
    return event, recipient


def _printable(value: str) -> str:
    """Refuse what no stored name can be, before PostgreSQL refuses its characters."""
    if not is_name(value):
        raise ValueError(f"must be a text of 1 to {MAX_ID} printable characters")
    return value


#: A parameter that names something.
Name = Annotated[str, AfterValidator(_printable), WithJsonSchema(NAME)]
#: A part of the path; `names_of` reads it.
PathName = Annotated[str, WithJsonSchema(NAME)]
TenantName = Annotated[str, WithJsonSchema(TENANT)]
