"""Names in a path: an id may hold a slash, so the path is taken apart before it is decoded."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from fastapi import Request

from shared.cloudevent import is_name
from shared.errors import NotFound

#: What stands before the names: `/api/<what>/`.
_PREFIX_PARTS = 3


def names_of(request: Request, count: int) -> list[str]:
    """Return the path's parts after `/api/<what>/`, each percent-decoded.

    Raises `NotFound` where there are not `count` of them, or where one can be nobody's name.
    """
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    parts = raw.partition(b"?")[0].split(b"/")[_PREFIX_PARTS:]
    names = [unquote_to_bytes(part).decode(errors="replace") for part in parts]
    if len(names) != count or not all(map(is_name, names)):
        raise NotFound
    return names
