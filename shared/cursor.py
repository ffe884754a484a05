"""The cursor: `<epoch>-<seq>`, the SSE id of an inbox's change; opaque to clients."""

from __future__ import annotations

import re
from typing import NamedTuple

from shared.errors import FieldError, InvalidInput

#: PostgreSQL's bigint; a longer number is no cursor of ours.
MAX_NUMBER = 2**63 - 1
_FORM = re.compile(r"(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})", re.ASCII)


class Cursor(NamedTuple):
    """A place in one inbox's numbering: `seq` is the last change that its holder has."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


def parse_cursor(value: str) -> Cursor | None:
    """Return the cursor that `value` spells, or None when it spells none (an id of somebody else's stream)."""
    match = _FORM.fullmatch(value)
    if match is None:
        return None
    epoch, seq = int(match[1]), int(match[2])
    return Cursor(epoch, seq) if max(epoch, seq) <= MAX_NUMBER else None


def require_cursor(value: str, field: str) -> Cursor:
    """Return the cursor, or raise `InvalidInput` naming `field`."""
    cursor = parse_cursor(value)
    if cursor is None:
        raise InvalidInput(errors=(FieldError(field, "must be a cursor of the form <epoch>-<seq>"),))
    return cursor
