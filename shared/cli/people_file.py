"""Reading a file of recipients, CSV or NDJSON, row by row from any place: each row knows where the next one begins.

Memory is bounded whatever the file holds: a line is cut at `MAX_LINE`, and a quote that is never closed takes one row
with it, not the rest of the file.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import orjson

from shared.cli.console import CommandFailed

#: Bytes. A row's attributes may have 16 KiB.
MAX_LINE = 1024 * 1024
#: CSV has no lists: roles stand in one field, apart by these.
ROLE_SEPARATOR = ";"
CSV_FIELDS = frozenset({"tenant", "id", "roles", "locale"})
_TOO_LONG = f"is longer than {MAX_LINE:,} bytes"


class Place(NamedTuple):
    """A place between two rows: bytes and lines before it."""

    offset: int = 0
    line: int = 0


class Row(NamedTuple):
    """One row: its first line's number (from 1), what it says or else what is wrong with which field, and its end."""

    line: int
    value: dict[str, Any] | None
    field: str
    fault: str | None
    end: Place


def read_rows(stream: BinaryIO, *, is_csv: bool, start: Place) -> Iterator[Row]:
    """Return the rows after `start`: a row's end, or the beginning. Raises `CommandFailed` for a wrong heading."""
    lines = _Lines(stream)
    if is_csv:
        names = _heading(lines)
        if start.offset:
            lines.go_to(start)
        return _csv(lines, names)
    if start.offset:
        lines.go_to(start)
    return _ndjson(lines)


class _Lines:
    """The stream's lines as text, counted; those that a reader took for one row can be given back to it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._again: deque[bytes] = deque()
        self.taken: list[bytes] = []
        self.place = Place()

    def go_to(self, place: Place) -> None:
        self._stream.seek(place.offset)
        self.place = place

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        raw = self._again.popleft() if self._again else self._stream.readline(MAX_LINE)
        if not raw:
            raise StopIteration
        self.taken.append(raw)
        self.place = Place(self.place.offset + len(raw), self.place.line + 1)
        return raw.decode("utf-8", "surrogateescape")

    @property
    def too_long(self) -> bool:
        """Whether the last line taken was cut."""
        return len(self.taken[-1]) == MAX_LINE and not self.taken[-1].endswith(b"\n")

    def skip_rest(self) -> None:
        """Leave out what a cut line has more."""
        size = 0
        while piece := self._stream.readline(MAX_LINE):
            size += len(piece)
            if piece.endswith(b"\n"):
                break
        self.place = Place(self.place.offset + size, self.place.line)

    def give_back_all_but_first(self) -> None:
        rest = self.taken[1:]
        self._again.extendleft(reversed(rest))
        self.place = Place(self.place.offset - sum(map(len, rest)), self.place.line - len(rest))


# --- NDJSON ---


def _ndjson(lines: _Lines) -> Iterator[Row]:
    for text in lines:
        fault, value = None, None
        if lines.too_long:
            lines.skip_rest()
            fault = _TOO_LONG
        elif text.strip():
            value, fault = _decoded(lines.taken[-1])
        lines.taken.clear()
        if value is not None or fault is not None:
            yield Row(lines.place.line, value, "", fault, lines.place)


def _decoded(line: bytes) -> tuple[dict[str, Any] | None, str | None]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as problem:
        return None, f"is not valid JSON ({problem})"
    return (value, None) if isinstance(value, dict) else (None, "is no JSON object")


# --- CSV ---


def _heading(lines: _Lines) -> list[str]:
    """Return the columns' names, from the first line."""
    try:
        names = [name.strip() for name in next(csv.reader([next(lines).removeprefix("\ufeff")], strict=True), [])]
    except (csv.Error, StopIteration):
        names = []
    lines.taken.clear()
    if "id" not in names:
        raise CommandFailed("The CSV file needs a heading with at least the column id.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CommandFailed(f"The CSV file's heading names the column {twice[0]} twice.")
    return names


def _csv(lines: _Lines, names: Sequence[str]) -> Iterator[Row]:
    reader = csv.reader(lines, strict=True)
    while True:
        lines.taken.clear()
        first = lines.place.line + 1
        fields: list[str] = []
        fault = None
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            # An open quote swallows lines up to the reader's limit: they are rows of their own.
            lines.give_back_all_but_first()
            fault = f"is not valid CSV ({problem})"
            reader = csv.reader(lines, strict=True)
        if lines.too_long:
            lines.skip_rest()
            fault = _TOO_LONG
            reader = csv.reader(lines, strict=True)
        if fault is not None:
            yield Row(first, None, "", fault, lines.place)
        elif fields:
            value, field, fault = _recipient(names, fields)
            yield Row(first, value, field, fault, lines.place)


def _recipient(names: Sequence[str], fields: Sequence[str]) -> tuple[dict[str, Any] | None, str, str | None]:
    """Return a row as a recipient: known columns by name, the others as attributes; empty fields are left out."""
    if len(fields) > len(names):
        return None, "", "has more fields than the heading"
    filled = {name: value.strip() for name, value in zip(names, fields, strict=False) if value.strip()}
    broken = [name for name, value in filled.items() if not value.isascii() and not _is_utf8(value)]
    if broken:
        return None, broken[0], "is not UTF-8"
    made: dict[str, Any] = {name: filled[name] for name in ("tenant", "id", "locale") if name in filled}
    if "roles" in filled:
        made["roles"] = [role.strip() for role in filled["roles"].split(ROLE_SEPARATOR) if role.strip()]
    attributes = {name: value for name, value in filled.items() if name not in CSV_FIELDS}
    return ({**made, "attributes": attributes} if attributes else made), "", None


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
