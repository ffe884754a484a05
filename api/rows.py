"""Rows of a bulk import as they arrive: lines of NDJSON, or the elements of one JSON array, in bounded memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from shared import strict_json
from shared.errors import InvalidInput, MalformedBody

#: A recipient's attributes have 16 KiB at most; the rest of a row is short.
MAX_ROW_BYTES = 64 * 1024
_BLANK = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its line (in an array: its place), counted from 1, and its value, or why it cannot be read."""

    line: int
    value: Any = None
    fault: str | None = None


class Splitter(Protocol):
    """Cuts a body that arrives in pieces into rows."""

    def feed(self, piece: bytes) -> Iterator[Row]:
        """Yield the rows that are whole now. Raises `MalformedBody` where none can follow."""

    def close(self) -> Iterator[Row]:
        """Yield what is left at the end of the body. Raises `MalformedBody` where it broke off."""


class Lines:
    """NDJSON: each line is judged by itself; one that is no JSON, or too long, is a faulty row. Blank ones are none."""

    def __init__(self) -> None:
        self._rest = b""
        self._line = 1
        self._skipping = False

    def feed(self, piece: bytes) -> Iterator[Row]:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            yield from self._row(line)
            self._line += 1
        if len(self._rest) > MAX_ROW_BYTES:
            self._skipping, self._rest = True, b""

    def close(self) -> Iterator[Row]:
        yield from self._row(self._rest)

    def _row(self, line: bytes) -> Iterator[Row]:
        if self._skipping or len(line) > MAX_ROW_BYTES:
            self._skipping = False
            yield Row(self._line, fault=f"is longer than {MAX_ROW_BYTES} bytes")
        elif line.strip():
            yield self._parsed(line)

    def _parsed(self, line: bytes) -> Row:
        try:
            return Row(self._line, strict_json.parse(line))
        except MalformedBody as problem:
            return Row(self._line, fault=_lowered(problem.detail))
        except InvalidInput as problem:
            return Row(self._line, fault=problem.errors[0].message)


class Elements:
    """A JSON array: nothing of it can be trusted beyond a place that is not JSON, so that ends the import there."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._row = 0
        self._state = "before"

    def feed(self, piece: bytes) -> Iterator[Row]:
        yield from self._advance(self._decoded(piece, last=False))

    def close(self) -> Iterator[Row]:
        yield from self._advance(self._decoded(b"", last=True))
        if self._state != "after":
            raise self._broken("breaks off")

    def _decoded(self, piece: bytes, *, last: bool) -> str:
        try:
            return self._decoder.decode(piece, last)
        except UnicodeDecodeError:
            raise self._broken("is not UTF-8") from None

    def _broken(self, how: str) -> MalformedBody:
        return MalformedBody(f"The array {how} after row {self._row}; the rows before are stored.")

    def _advance(self, text: str) -> Iterator[Row]:
        """Yield the elements that are whole: what follows one (a comma or the end) tells that it is."""
        self._text += text
        at = self._blank(0)
        while at < len(self._text):
            if self._state in ("before", "between", "after"):
                at = self._punctuation(at)
                continue
            if self._state == "first" and self._text[at] == "]":
                self._state, at = "after", self._blank(at + 1)
                continue
            found = self._element(at)
            if found is None:
                break
            value, at = found
            yield Row(self._row, value)
        self._text = self._text[at:]

    def _blank(self, at: int) -> int:
        match = _BLANK.match(self._text, at)
        return match.end() if match else at

    def _punctuation(self, at: int) -> int:
        follows = {"before": {"[": "first"}, "between": {",": "next", "]": "after"}, "after": {}}
        state = follows[self._state].get(self._text[at])
        if state is None:
            raise self._broken("is not valid JSON")
        self._state = state
        return self._blank(at + 1)

    def _element(self, at: int) -> tuple[Any, int] | None:
        """Return the element at `at` and where what follows it begins; None where it is not there whole."""
        try:
            value, end = strict_json.parse_first(self._text, at)
        except json.JSONDecodeError:
            value, end = None, len(self._text)
        except InvalidInput:
            raise self._broken("has a row that is nested too deep") from None
        if end - at > MAX_ROW_BYTES:
            raise self._broken(f"has a row that is not valid JSON or longer than {MAX_ROW_BYTES} characters,")
        end = self._blank(end)
        if end == len(self._text):
            return None
        self._row += 1
        self._state = "between"
        return value, end


def _lowered(sentence: str) -> str:
    return sentence.removeprefix("The body ").rstrip(".")


async def batches(pieces: AsyncIterator[bytes], splitter: Splitter, size: int) -> AsyncIterator[list[Row]]:
    """Yield the body's rows, `size` at a time. Raises `MalformedBody` after the rows that came before."""
    batch: list[Row] = []
    problem: MalformedBody | None = None
    try:
        async for piece in pieces:
            for row in splitter.feed(piece):
                batch.append(row)
                if len(batch) == size:
                    yield batch
                    batch = []
        for row in splitter.close():
            batch.append(row)
    except MalformedBody as broken:
        problem = broken
    if batch:
        yield batch
    if problem is not None:
        raise problem
